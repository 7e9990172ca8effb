"""Search all views of a series for beads: read, clean, detect, leave out bad views, tell gold from the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_tiltalign.errors import BadTiltSeries, MethodFailed, TiltAlignError
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.finite import finite_pixels
from napari_tiltalign.images.prepare import Image, bin_image
from napari_tiltalign.methods.base import Progress
from napari_tiltalign.methods.beads import (
    BEADLIKE,
    BeadView,
    bad_views,
    find_beads,
    keep_the_gold,
)
from napari_tiltalign.model import TiltSeries

WORKING_DIAMETER_PX = 9.0
"""Images are binned by a whole number so that a bead stays at least this wide."""

LEAST_READABLE = 0.8
"""A series of which fewer images can be read is refused."""

_ESTIMATE_VIEWS = 5
_ESTIMATE_SMALLEST_PX, _ESTIMATE_SMALLEST_ANGST = 4.0, 30.0
"""Gold that is sold as a fiducial measures 5 nm at least; to look for less in large images would take minutes."""
_ESTIMATE_WORKING_PX = 10.0
_ESTIMATE_STEP = 1.25
"""Finer steps change nothing: the width is measured on beads that are found 30 % beside their size as well."""
_ESTIMATE_STRONGEST = 5
_LEAST_WIDTH = 0.5
"""What has the diameter of the sphere that it is matched with is 0.75 times as wide at half its depth."""


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What was found, views in order of tilt.

    Attributes
    ----------
    order
        Shape (n,): index in the series of every view.
    factor
        Binning of the working scale.
    diameters_px
        Diameters looked for, working pixels.
    views
        Searched views; None for those that take no part.
    bad
        View to the reason why it was left out.
    filled_pixels
        tilt_id to how many pixels were not finite and were filled.
    """

    order: NDArray[np.intp]
    factor: int
    diameters_px: tuple[float, ...]
    views: Sequence[BeadView | None]
    bad: Mapping[int, str]
    filled_pixels: Mapping[str, int]

    @property
    def clear(self) -> Mapping[int, float]:
        """View that takes part to the part of it that is not blocked, 0 to 1."""
        return {k: float(view.image.mask.mean()) for k, view in enumerate(self.views) if view is not None}


def search(series: TiltSeries, diameters_px: tuple[float, ...], *, bright: bool, progress: Progress) -> Search:
    """Search every included view for beads.

    Parameters
    ----------
    series
        The series.
    diameters_px
        Diameters of the beads there may be, raw pixels.
    bright
        Whether beads are brighter than their surroundings.
    progress
        Told from 0 to 0.5.

    Raises
    ------
    BadTiltSeries
        If fewer than 80 % of the included images can be read.
    MethodFailed
        If fewer than three views are fit for use, or nothing in them looks like gold.
    """
    factor = max(1, int(min(diameters_px) / WORKING_DIAMETER_PX))
    working = tuple(diameter / factor for diameter in diameters_px)
    order = series.tilt_order()
    included = [int(i) for i in order if series.tilts[int(i)].included]
    filled: dict[str, int] = {}

    def one(index: int) -> BeadView | TiltAlignError:
        tilt = series.tilts[index]
        try:
            image, count = _read(series, index)
        except TiltAlignError as error:
            return error
        if count:
            filled[tilt.tilt_id] = count
        return find_beads(bin_image(image, factor), working, bright=bright)

    found = dict(
        zip(
            included,
            map_views(one, included, on_done=lambda n: progress(0.5 * n / len(included), "finding beads")),
            strict=True,
        )
    )
    results = [found.get(int(i)) for i in order]
    unreadable = {k: "unreadable" for k, result in enumerate(results) if isinstance(result, TiltAlignError)}
    if len(unreadable) > (1.0 - LEAST_READABLE) * len(included):
        first = next(result for result in results if isinstance(result, TiltAlignError))
        raise BadTiltSeries(series.name, f"{len(unreadable)} of {len(included)} images cannot be read; first: {first}")
    views = [result if isinstance(result, BeadView) else None for result in results]
    bad = {**unreadable, **bad_views(views)}
    views = [None if k in bad else view for k, view in enumerate(views)]
    usable = sum(view is not None for view in views)
    if usable < 3:
        raise MethodFailed(f"{series.name}: only {usable} views are neither dark, blocked nor unreadable; 3 are needed")
    beads, gold = keep_the_gold(views)
    if not gold:
        raise _no_gold(series, views, diameters_px)
    return Search(order, factor, working, beads, bad, dict(sorted(filled.items())))


def _read(series: TiltSeries, index: int) -> tuple[Image, int]:
    image, filled = series.tilts[index].image.load()
    image, more = finite_pixels(image)
    return image, filled + more


def _no_gold(series: TiltSeries, views: Sequence[BeadView | None], diameters_px: tuple[float, ...]) -> MethodFailed:
    similarity = np.concatenate([view.beads.similarity for view in views if view is not None])
    sizes = " or ".join(f"{d * series.pixel_size_angst / 10:g}" for d in diameters_px)
    return MethodFailed(
        f"{series.name}: no gold beads of {sizes} nm: of {len(similarity)} candidates in {len(views)} views only "
        f"{(similarity > BEADLIKE).sum()} look like a bead (similarity above {BEADLIKE}), and none stand out; check "
        "the diameter (--fiducial-diameter-nm, or --diameter estimate), or align without beads (slab, patch-tracking)"
    )


def estimate_diameter_px(series: TiltSeries, *, bright: bool) -> float:
    """Estimate the diameter of the beads from the views at the lowest tilts, to about 15 %.

    The projection of a sphere, of unit norm, is matched with the images at many diameters; by the inequality of Cauchy
    and Schwarz it responds most strongly where it has the diameter of the beads. Only candidates that look like gold
    count. Diameters from 3 nm, and from 4 raw pixels, to a sixteenth of the image are tried.

    Returns
    -------
    float
        Diameter in raw pixels.

    Raises
    ------
    MethodFailed
        If nothing looks like gold at any diameter, or the images are too small for any.
    """
    smallest = max(_ESTIMATE_SMALLEST_PX, _ESTIMATE_SMALLEST_ANGST / series.pixel_size_angst)
    largest = min(series.image_shape_yx) / 16.0
    if largest < smallest:
        raise MethodFailed(f"{series.name}: the diameter of the beads cannot be estimated: images of "
                           f"{min(series.image_shape_yx)} px are too small for that")  # fmt: skip
    included = np.flatnonzero(series.included)
    lowest = included[np.argsort(np.abs(series.nominal_tilt_deg[included]), kind="stable")][:_ESTIMATE_VIEWS]
    images = [_read(series, int(index))[0] for index in lowest]
    diameters = smallest * _ESTIMATE_STEP ** np.arange(int(np.log(largest / smallest) / np.log(_ESTIMATE_STEP)) + 1)

    def strength(diameter: float) -> float:
        factor = max(1, round(diameter / _ESTIMATE_WORKING_PX))
        beads = [find_beads(bin_image(i, factor), [diameter / factor], bright=bright).beads for i in images]
        strongest = [np.sort(b.height[b.similarity > BEADLIKE])[::-1][:_ESTIMATE_STRONGEST] * factor for b in beads]
        return float(np.median([s.mean() if len(s) else 0.0 for s in strongest]))

    scores = np.array(map_views(strength, diameters))
    # a group of beads responds to a large sphere, but is none: its middle is not dark
    for best in np.argsort(-scores, kind="stable"):
        width = _width_at_half_depth_px(images, float(diameters[best]), bright) if scores[best] > 0.0 else 0.0
        if width > _LEAST_WIDTH * diameters[best]:
            return width
    raise MethodFailed(
        f"{series.name}: the diameter of the beads cannot be estimated: in the median view nothing between "
        f"{diameters[0] * series.pixel_size_angst / 10:.0f} and {diameters[-1] * series.pixel_size_angst / 10:.0f} "
        "nm looks like gold"
    )


def _width_at_half_depth_px(images: Sequence[Image], diameter_px: float, bright: bool) -> float:
    """Width of the mean bead at half its depth, raw pixels.

    That is the diameter of a bead that is evenly dark, as gold at cryo contrast nearly is, and 0.87 of that of a
    transparent sphere. The matched filter alone finds a disc to be a larger sphere.
    """
    factor = max(1, round(diameter_px / _ESTIMATE_WORKING_PX))
    radius = np.arange(0.0, 1.2 * diameter_px / factor, 0.5)
    turn = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
    rings = radius[:, None, None] * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    profiles: list[FloatArray] = []
    for image in images:
        view = find_beads(bin_image(image, factor), [diameter_px / factor], bright=bright)
        for position in view.beads.position_yx[view.beads.similarity > BEADLIKE]:
            where = (position + rings).reshape(-1, 2).T
            values = ndimage.map_coordinates(view.image.contrast, where, order=1, mode="nearest")
            profiles.append(values.reshape(len(radius), -1).mean(axis=1))
    mean = np.median(profiles, axis=0)
    outside = float(np.median(mean[radius > 0.9 * diameter_px / factor]))
    depth = (mean - outside) / (mean[0] - outside)
    below = int(np.argmax(depth < 0.5))
    inner = radius[below - 1] + 0.5 * (depth[below - 1] - 0.5) / (depth[below - 1] - depth[below])
    return float(2.0 * inner * factor)
