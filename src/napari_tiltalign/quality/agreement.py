"""What the other views of a series predict of every view, and how well that agrees with what it shows.

A view is compared with the re-projection of a reconstruction from which it was left out. Neighbours share the errors
of an alignment (a drift, a wrong axis), so for judging, all views within `GAP_DEG` are left out with it; with the view
alone left out, the displacement of the best correlation tells how far it is shifted against its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.images.project import (
    Grid,
    Images,
    Volume,
    back_project,
    pixel_maps,
    re_project,
    weighted_views,
)
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.quality.sharpness import box_kurtosis
from napari_tiltalign.quality.tiles import TILE_PX, Likeness, band_passed, likeness, tile_corners
from napari_tiltalign.quality.working_views import WorkingViews

GAP_DEG = 10.0
"""All views whose tilt differs by less than this are left out together with the view that is judged."""

CLEAR = 20.0
"""Significance of a correlation above which its displacement is believed.

Below, the peak may be one of the side lobes that a thick slab seen in few directions has across the tilt axis.
"""

_MEDIAN_TO_RMS = 1.2011
"""Of a Rayleigh distribution, which the length of a Gaussian error in the plane has: sqrt(1 / ln 2)."""

_LEAST_OTHERS = 3
"""So many views must be left to predict one."""


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """What the other views say of each of n views; NaN for views that take no part.

    Attributes
    ----------
    gap_correlation
        Shape (n,): mean correlation of the tiles with the prediction by the views beyond the gap.
    offset_yx_px
        Shape (n, 2): displacement of the view against what its neighbours predict, raw pixels; NaN too where that is
        not clear.
    gain_percent
        Shape (n,): how much the sharpness of the reconstruction would grow without the view, percent.
    kurtosis
        Sharpness of the reconstruction from all views: mean over the boxes.
    n_boxes
        How many boxes.
    """

    gap_correlation: FloatArray
    offset_yx_px: FloatArray
    gain_percent: FloatArray
    kurtosis: float
    n_boxes: int

    @property
    def typical_offset_px(self) -> float:
        """Displacement of a view in the middle of all, scaled to a root mean square; a common one does not count.

        NaN if fewer than half of the views tell theirs clearly.
        """
        offset = self.offset_yx_px[np.isfinite(self.offset_yx_px).all(axis=1)]
        if len(offset) < max(1.0, 0.5 * np.isfinite(self.gain_percent).sum()):
            return float("nan")
        distance = np.linalg.norm(offset - np.median(offset, axis=0), axis=1)
        return float(np.median(distance) * _MEDIAN_TO_RMS)


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """Views in the order of their tilt, weighted for back-projection, and where they see the voxels."""

    weighted: Images
    shown: Images
    maps: FloatArray
    shape_zyx: tuple[int, int, int]
    corners: Sequence[NDArray[np.int64]]

    def back(self, chosen: Sequence[int]) -> Volume:
        """Back-project some of the views."""
        volume: Volume = back_project(self.weighted[chosen], self.maps[chosen], self.shape_zyx)
        return volume

    def compare(self, view: int, volume: Volume) -> Likeness:
        """Compare a view with what a volume predicts of it."""
        shape = self.weighted.shape[1:]
        predicted = re_project(volume, self.maps[view : view + 1], (shape[0], shape[1]))[0]
        return likeness(self.shown[view], band_passed(predicted), self.corners[view])


def agreement(
    views: WorkingViews,
    geometry: ViewGeometry,
    used: NDArray[np.bool_],
    *,
    pixel_size_angst: float,
    image_shape_yx: tuple[int, int],
    field_yx_angst: FloatArray,
    height_angst: float,
    progress: Progress = silent,
) -> Agreement:
    """Predict every view from the others.

    Parameters
    ----------
    views, geometry
        The n views and their geometry, in which the slab is level and centred.
    used
        Shape (n,): which views count.
    pixel_size_angst, image_shape_yx
        Of the raw images.
    field_yx_angst
        Size of the reconstruction, across the beam.
    height_angst
        Its size along the beam: it must have room for the slab, and be the same for alignments to be compared.
    progress
        Told from 0 to 1.
    """
    n = len(geometry)
    order = [int(i) for i in np.argsort(geometry.y_tilt_deg, kind="stable") if used[i]]
    tilt_deg = geometry.y_tilt_deg[order]
    voxel = views.pixel_angst
    depth, rows, columns = (max(8, int(side / voxel)) for side in (height_angst, *field_yx_angst))
    grid = Grid((depth, rows, columns), voxel)
    scene = _scene(views, geometry, order, grid, pixel_size_angst, image_shape_yx)
    whole = scene.back(range(len(order)))
    beyond = whole.copy()
    sharpness = box_kurtosis(whole)
    kurtosis = _mean(sharpness)
    correlation, gain, offset = np.full(n, np.nan), np.full(n, np.nan), np.full((n, 2), np.nan)
    first = last = 0
    for view, index in enumerate(order):
        progress(view / len(order), "predicting views")
        while last < len(order) and tilt_deg[last] <= tilt_deg[view] + GAP_DEG:
            beyond -= scene.back([last])
            last += 1
        while tilt_deg[first] < tilt_deg[view] - GAP_DEG:
            beyond += scene.back([first])
            first += 1
        if len(order) - (last - first) >= _LEAST_OTHERS:
            correlation[index] = scene.compare(view, beyond).mean
        others = whole - scene.back([view])
        near = scene.compare(view, others)
        if near.significance > CLEAR:
            offset[index] = near.offset_yx_px * views.binning
        gain[index] = 100.0 * (_mean(box_kurtosis(others)) / kurtosis - 1.0) if kurtosis > 0 else np.nan
    progress(1.0, "predicting views")
    return Agreement(correlation, offset, gain, kurtosis, sharpness.size)


def _scene(
    views: WorkingViews,
    geometry: ViewGeometry,
    order: Sequence[int],
    grid: Grid,
    pixel_size_angst: float,
    image_shape_yx: tuple[int, int],
) -> _Scene:
    chosen = geometry.take(order)
    maps = pixel_maps(
        chosen, grid, pixel_size_angst=pixel_size_angst, image_shape_yx=image_shape_yx, binning=views.binning
    )
    shown = np.stack([band_passed(views.images[i]) for i in order])
    weighted = weighted_views(shown, chosen, float(grid.shape_zyx[0]))
    every = tile_corners(views.shape_yx)
    return _Scene(weighted, shown, maps, grid.shape_zyx, [_in_field(every, matrix, grid.shape_zyx) for matrix in maps])


def _in_field(corners: NDArray[np.int64], matrix: FloatArray, shape_zyx: tuple[int, int, int]) -> NDArray[np.int64]:
    """Tiles whose middle shows a part of the slab's midplane that is in the reconstruction."""
    middle = corners + (TILE_PX - 1) / 2.0 - matrix[:, 3] - matrix[:, 0] * (shape_zyx[0] // 2)
    plane = matrix[:, 1:3]
    if abs(np.linalg.det(plane)) < 1e-3:
        return corners[:0]
    at = middle @ np.linalg.inv(plane).T
    margin = TILE_PX / 4.0
    inside: NDArray[np.bool_] = np.all((at >= margin) & (at < np.array(shape_zyx[1:]) - margin), axis=1)
    return corners[inside]


def _mean(kurtosis: FloatArray) -> float:
    known = kurtosis[np.isfinite(kurtosis)]
    return float(known.mean()) if known.size else 0.0
