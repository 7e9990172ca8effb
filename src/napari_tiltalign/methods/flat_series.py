"""Read a series once into flat images, views in order of tilt, and leave out those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import MethodFailed, TiltAlignError
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.flat import FlatImage, Grid, flatten, spline_coefficients
from napari_tiltalign.images.prepare import Image
from napari_tiltalign.images.tiles import sample_tiles
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.methods.read_views import read_views
from napari_tiltalign.model import TiltSeries

_LEAST_CLEAR = 0.6
_DARK_LEVEL = 0.15
_FLAT_CONTRAST = 0.02
_NEIGHBOURS = 5


@dataclass(frozen=True, slots=True, eq=False)
class FlatSeries:
    """Flat images of a series; the n views are in order of nominal tilt.

    Attributes
    ----------
    order
        Shape (n,): index in the series of every view.
    nominal_tilt_deg
        Shape (n,), ascending.
    images
        Flat images; None for a view that takes no part.
    grid
        What they are sampled on.
    field_yx_angst
        Shape (2,): size of the raw images.
    bad
        View to the reason why it was left out here: ``unreadable``, ``no_contrast``, ``dark``, ``blocked``. Views that
        were excluded before are not in it.
    filled_pixels
        tilt_id to how many pixels were not finite and were filled.
    """

    order: NDArray[np.intp]
    nominal_tilt_deg: FloatArray
    images: tuple[FlatImage | None, ...]
    grid: Grid
    field_yx_angst: FloatArray
    bad: Mapping[int, str]
    filled_pixels: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which views take part, shape (n,)."""
        return np.array([image is not None for image in self.images])


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """A series at one resolution: B-spline coefficients of every usable view.

    Attributes
    ----------
    grid
        Where the samples lie.
    coefficients
        View to its coefficients.
    series
        What they were made from.
    """

    grid: Grid
    coefficients: Mapping[int, Image]
    series: FlatSeries

    def tiles(
        self,
        centres_yx_angst: FloatArray,
        matrices_yx: FloatArray,
        step_angst: float,
        window: Image,
    ) -> tuple[Image, FloatArray]:
        """Cut tiles of the specimen plane out of all views.

        Parameters
        ----------
        centres_yx_angst
            Shape (n, p, 2): where every view sees the centres.
        matrices_yx
            Shape (n, 2, 2): steps in the specimen plane to steps in every view.
        step_angst, window
            See `images.tiles.sample_tiles`.

        Returns
        -------
        tiles, coverage
            Shapes (n, p, w, w) and (n, p); 0 for views that take no part.
        """
        tiles = np.zeros((*centres_yx_angst.shape[:2], *window.shape), np.float32)
        coverage = np.zeros(centres_yx_angst.shape[:2])

        def cut(view: int) -> None:
            image = self.series.images[view]
            if image is not None:
                tiles[view], coverage[view] = sample_tiles(
                    self.coefficients[view], image.mask, self.grid,
                    centres_yx_angst[view], matrices_yx[view], step_angst, window,
                )  # fmt: skip

        map_views(cut, self.coefficients)
        return tiles, coverage


def level_of(series: FlatSeries, pitch_angst: float) -> Level:
    """Return the series at about the pitch given, or as fine as it was read."""
    grid = series.grid.coarser(max(pitch_angst, float(series.grid.pitch_yx_angst.max())))
    views = np.flatnonzero(series.usable).tolist()

    def one(view: int) -> Image:
        image = series.images[view]
        if image is None:
            raise ValueError("a view that takes no part has no image")
        return spline_coefficients(image, series.grid, grid)

    return Level(grid, dict(zip(views, map_views(one, views), strict=True)), series)


def flat_series(
    series: TiltSeries,
    pitch_angst: float,
    *,
    clip_sigmas: float = 4.0,
    retouch: Callable[[int, Image], Image] | None = None,
    progress: Progress = silent,
) -> FlatSeries:
    """Read every included image of a series and make it flat.

    Parameters
    ----------
    series
        The series.
    pitch_angst
        Distance of samples wanted; the raw pixel is the least.
    clip_sigmas
        See `images.flat.flatten`.
    retouch
        Given the index of an image in the series and its pixels, returns them changed (gold erased, say).
    progress
        Told from 0 to 1.

    Raises
    ------
    BadTiltSeries
        If fewer than 80 % of the included images can be read.
    MethodFailed
        If fewer than three views are fit for use.
    """
    grid = Grid.of(series.image_shape_yx, series.pixel_size_angst, pitch_angst)

    def flat(index: int, image: Image) -> FlatImage:
        return flatten(image if retouch is None else retouch(index, image), grid, clip_sigmas=clip_sigmas)

    found = read_views(series, flat, progress=progress)
    results = found.made
    images = [r if isinstance(r, FlatImage) else None for r in results]
    bad = {k: "unreadable" for k, r in enumerate(results) if isinstance(r, TiltAlignError)} | _bad_views(images)
    images = [None if k in bad else image for k, image in enumerate(images)]
    if (usable := sum(image is not None for image in images)) < 3:
        raise MethodFailed(f"{series.name}: only {usable} views are neither dark, blocked nor unreadable; 3 are needed")
    field = np.array(series.image_shape_yx) * series.pixel_size_angst
    return FlatSeries(
        found.order, series.nominal_tilt_deg[found.order], tuple(images), grid, field, bad, found.filled_pixels
    )


def _bad_views(images: list[FlatImage | None]) -> dict[int, str]:
    """Views without contrast, much darker than their neighbours in tilt, or mostly blocked."""
    level = np.array([np.nan if image is None else image.level for image in images])
    spread = np.array([np.nan if image is None else image.spread for image in images])
    counts_electrons = np.nanmin(level) >= 0 if np.isfinite(level).any() else False
    found = {}
    for k, image in enumerate(images):
        if image is None:
            continue
        near = slice(max(0, k - _NEIGHBOURS), k + _NEIGHBOURS + 1)
        if image.spread <= _FLAT_CONTRAST * np.nanmedian(spread[near]):
            found[k] = "no_contrast"
        elif counts_electrons and image.level < _DARK_LEVEL * np.nanmedian(level[near]):
            found[k] = "dark"
        elif image.clear < _LEAST_CLEAR:
            found[k] = "blocked"
    return found
