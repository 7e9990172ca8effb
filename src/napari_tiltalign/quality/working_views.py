"""The views of a series made ready for judging: binned, cleaned, of even contrast, fading to zero at their edges.

They depend on the series alone, never on an alignment, so that every alignment of a series is judged on the same data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_tiltalign.errors import BadTiltSeries, TiltAlignError
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.finite import finite_pixels
from napari_tiltalign.images.prepare import Image, bin_image, remove_hot_pixels
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.model import TiltSeries

LEAST_VIEWS = 5
"""Fewer views than this predict nothing of each other."""

CLIP_SIGMAS = 6.0
"""Contrast beyond this many robust standard deviations of a view is cut off: gold must not decide alone."""

_BACKGROUND_PX = 30.0
_EDGE_PX = 12


@dataclass(frozen=True, slots=True, eq=False)
class WorkingViews:
    """Views ready for judging.

    Attributes
    ----------
    images
        Shape (n, y, x): contrast in robust standard deviations of each view, faded to zero at the edges; zero where
        a view takes no part.
    usable
        Shape (n,): the series includes the view, and it could be read and shows something.
    reasons
        n texts: why it is not usable; empty where it is.
    binning
        How much they are binned.
    pixel_angst
        Pixel size of these images, Angstrom.
    """

    images: NDArray[np.float32]
    usable: NDArray[np.bool_]
    reasons: tuple[str, ...]
    binning: int
    pixel_angst: float

    @property
    def shape_yx(self) -> tuple[int, int]:
        """(rows, columns) of the images."""
        return int(self.images.shape[1]), int(self.images.shape[2])


def working_views(series: TiltSeries, sizes_px: Sequence[int], *, progress: Progress = silent) -> list[WorkingViews]:
    """Read and prepare all views that the series includes, in several sizes; each is read once.

    Parameters
    ----------
    series
        The series.
    sizes_px
        About how long the longer side of the images is to be; they are binned by a whole number.
    progress
        Told from 0 to 1.

    Raises
    ------
    BadTiltSeries
        If fewer than `LEAST_VIEWS` views can be used.
    """
    binnings = [max(1, round(max(series.image_shape_yx) / size_px)) for size_px in sizes_px]
    wanted = [int(i) for i in np.flatnonzero(series.included)]

    def one(index: int) -> list[Image | str]:
        try:
            image, _ = finite_pixels(series.tilts[index].image.load()[0])
        except TiltAlignError as error:
            return [f"unreadable: {error}"] * len(binnings)
        cleaned = remove_hot_pixels(image)[0]
        return [_prepared(cleaned, binning) for binning in binnings]

    done = map_views(one, wanted, on_done=lambda n: progress(n / max(len(wanted), 1), "reading views"))
    by_size = zip(binnings, zip(*done, strict=True), strict=True)
    return [_collected(series, binning, dict(zip(wanted, of, strict=True))) for binning, of in by_size]


def _collected(series: TiltSeries, binning: int, prepared: Mapping[int, Image | str]) -> WorkingViews:
    shape = tuple(size // binning for size in series.image_shape_yx)
    images = np.zeros((len(series), *shape), np.float32)
    usable = np.zeros(len(series), bool)
    reasons = [tilt.reason or ("" if tilt.included else "excluded") for tilt in series.tilts]
    for index, result in prepared.items():
        if isinstance(result, str):
            reasons[index] = result
        else:
            images[index], usable[index] = result, True
    if usable.sum() < LEAST_VIEWS:
        why = next((reason for reason in reasons if reason), "too few are included")
        raise BadTiltSeries(series.name, f"only {usable.sum()} views can be judged, {LEAST_VIEWS} are needed; {why}")
    return WorkingViews(images, usable, tuple(reasons), binning, series.pixel_size_angst * binning)


def _prepared(image: Image, binning: int) -> Image | str:
    """Return the contrast of one clean view, or why it has none."""
    small = bin_image(image, binning)
    flat = small - ndimage.gaussian_filter(small, _BACKGROUND_PX / 2.0, mode="nearest")
    spread = 1.4826 * float(np.median(np.abs(flat - np.median(flat))))
    if not spread > 1e-6 * max(abs(float(small.mean())), 1e-6):
        return "no contrast"
    contrast: Image = np.clip(flat / spread, -CLIP_SIGMAS, CLIP_SIGMAS)
    return (contrast * _fading(small.shape)).astype(np.float32)


def _fading(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """1 inside, falling to 0 at the edges like a cosine."""
    ramps = []
    for size in shape:
        distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
        ramps.append(0.5 - 0.5 * np.cos(np.pi * np.clip(distance / _EDGE_PX, 0.0, 1.0)))
    faded: NDArray[np.float32] = np.outer(*ramps).astype(np.float32)
    return faded
