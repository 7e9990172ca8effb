"""Read a series once into flat images, views in order of tilt, and leave out those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import MethodFailed, TiltAlignError
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.arrays import map_some, module_of, to_device, to_host
from napari_tiltalign.images.compute import gpu_is_demanded, map_views
from napari_tiltalign.images.flat import FlatImage, Grid, cropped, flatten, spline_coefficients
from napari_tiltalign.images.prepare import Image
from napari_tiltalign.images.tiles import BYTES_PER_SAMPLE, sample_tiles, sample_tiles_together
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

    @property
    def clear(self) -> Mapping[int, float]:
        """View that takes part to the part of it that is not blocked, 0 to 1."""
        return {view: image.clear for view, image in enumerate(self.images) if image is not None}


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """A series at one resolution: B-spline coefficients of the m views that take part.

    Attributes
    ----------
    grid
        Where the samples lie.
    views
        Which views of the series those are.
    coefficients
        Shape (m, rows, columns), float32; on the GPU if the level was made inside of `use_device` ("cuda").
    masks
        Where they are clear: m images, or one array on the GPU.
    series
        What they were made from.
    """

    grid: Grid
    views: tuple[int, ...]
    coefficients: Any
    masks: Any
    series: FlatSeries

    def tiles(
        self,
        centres_yx_angst: FloatArray,
        matrices_yx: FloatArray,
        step_angst: float,
        window: Image,
    ) -> tuple[Any, FloatArray]:
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
            Shapes (n, p, w, w) and (n, p); 0 for views that take no part. Tiles are where the coefficients are.
        """
        xp = module_of(self.coefficients)
        n, p = centres_yx_angst.shape[:2]
        tiles = xp.zeros((n, p, *window.shape), np.float32)
        coverage = np.zeros((n, p))
        views = np.array(self.views)

        def cut(k: int) -> None:
            view = self.views[k]
            _, coverage[view] = sample_tiles(
                self.coefficients[k], self.masks[k], self.grid,
                centres_yx_angst[view], matrices_yx[view], step_angst, window, out=tiles[view],
            )  # fmt: skip

        def cut_together(part: slice) -> None:
            of = views[part]
            found, covered = sample_tiles_together(
                self.coefficients[part], self.masks[part], self.grid,
                centres_yx_angst[of], matrices_yx[of], step_angst, window,
            )  # fmt: skip
            tiles[xp.asarray(of)], coverage[of] = found, to_host(covered)

        map_some(cut if xp is np else cut_together, len(views), tiles, BYTES_PER_SAMPLE * p * window.size)
        return tiles, coverage


def level_of(series: FlatSeries, pitch_angst: float) -> Level:
    """Return the series at about the pitch given, or as fine as it was read; on the device that is demanded."""
    grid = series.grid.coarser(max(pitch_angst, float(series.grid.pitch_yx_angst.max())))
    images = [image for image in series.images if image is not None]
    views = tuple(np.flatnonzero(series.usable).tolist())

    def crop(image: FlatImage) -> NDArray[np.complex64]:
        return cropped(image.spectrum, series.grid.shape_yx, grid.shape_yx)

    spectra = to_device(np.stack(map_views(crop, images)))
    coefficients = module_of(spectra).empty((len(images), *grid.shape_yx), np.float32)

    def one(part: Any) -> None:
        coefficients[part] = spline_coefficients(spectra[part], grid.shape_yx)

    map_some(one, len(images), spectra, 16.0 * np.prod(grid.shape_yx))
    masks = [image.mask for image in images]
    return Level(grid, views, coefficients, to_device(np.stack(masks)) if gpu_is_demanded() else masks, series)


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
