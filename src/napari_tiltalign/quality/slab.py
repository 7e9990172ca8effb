"""Where the specimen is in a reconstruction: the height, thickness and tilt of the slab.

The evidence is what two reconstructions from different views have in common: their product averages to zero where
there is only noise, and stands out where there is a specimen (the idea of a Fourier shell correlation, in space).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize

from napari_tiltalign.geometry import FloatArray, RigidMotion, rotation_x, rotation_y
from napari_tiltalign.images.project import Grid, Volume

TILES = 8
"""The field is divided into so many by so many tiles."""

STEEPEST_DEG = 30.0
"""A slab is taken to be tilted by less than this."""

_SEARCH_STEP_DEG = 3.0
_CLIP_SIGMAS = 4.0
_LEAST_CONTRAST = 3.0


@dataclass(frozen=True, slots=True)
class Slab:
    """A slab in the specimen's coordinates.

    Attributes
    ----------
    height_angst
        Height z of its midplane above the rotation centre, Angstrom.
    thickness_angst
        Thickness, Angstrom: between the heights where the evidence has fallen to half.
    tilt_about_y_deg, tilt_about_x_deg
        Rotations that make the slab level, degrees: first about x, then about the tilt axis y. The second is what an
        offset of all tilt angles does.
    contrast
        Evidence inside over its scatter outside; below `_LEAST_CONTRAST` the figures mean nothing.
    """

    height_angst: float
    thickness_angst: float
    tilt_about_y_deg: float
    tilt_about_x_deg: float
    contrast: float

    @property
    def is_certain(self) -> bool:
        """Whether the slab stands out of what is around it, and is not tilted as far as was searched."""
        tilted = max(abs(self.tilt_about_y_deg), abs(self.tilt_about_x_deg))
        return self.contrast > _LEAST_CONTRAST and tilted < STEEPEST_DEG - _SEARCH_STEP_DEG / 2.0

    def levelling(self) -> RigidMotion:
        """Motion for `ViewGeometry.compose`, after which the slab is level and its midplane at height 0."""
        turn = rotation_x(-self.tilt_about_x_deg) @ rotation_y(-self.tilt_about_y_deg)
        return RigidMotion(turn, np.array([self.height_angst, 0.0, 0.0]))


def find_slab(even: Volume, odd: Volume, grid: Grid) -> Slab:
    """Find the slab in two reconstructions of the same specimen from different views.

    Parameters
    ----------
    even, odd
        Shape (z, y, x), with room above and below the specimen.
    grid
        Their voxels.

    Returns
    -------
    Slab
        The one in which the evidence is most concentrated; see `Slab.is_certain`.
    """
    profiles, where_yx = _profiles(even, odd)
    where_angst = (where_yx - np.array(grid.shape_zyx[1:]) // 2) * grid.voxel_angst
    z_angst = (np.arange(grid.shape_zyx[0]) - grid.shape_zyx[0] // 2) * grid.voxel_angst

    def sheared(slope_yx: FloatArray) -> FloatArray:
        heights = where_angst @ slope_yx
        moved = [
            np.interp(z_angst + height, z_angst, profile, left=np.nan, right=np.nan)
            for profile, height in zip(profiles, heights, strict=True)
        ]
        known = np.isfinite(moved)
        total: FloatArray = np.where(known, moved, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), len(moved) / 4)
        return total

    def spread(slope_yx: FloatArray) -> float:
        return -float((np.maximum(sheared(slope_yx), 0.0) ** 2).sum())

    slope = _best_slope(spread)
    total = sheared(slope)
    low, high, contrast = _edges(total)
    bottom, top = (float(np.interp(edge, np.arange(len(z_angst)), z_angst)) for edge in (low, high))
    slope_y, slope_x = (float(value) for value in slope)
    middle = grid.centre_zyx_angst[0] - float(slope @ grid.centre_zyx_angst[1:])
    return Slab(
        height_angst=float((bottom + top) / 2.0 + middle),
        thickness_angst=(top - bottom) / math.sqrt(1.0 + slope_x**2 + slope_y**2),
        tilt_about_y_deg=math.degrees(math.atan(slope_x / math.hypot(1.0, slope_y))),
        tilt_about_x_deg=-math.degrees(math.atan(slope_y)),
        contrast=contrast,
    )


def _profiles(even: Volume, odd: Volume) -> tuple[FloatArray, FloatArray]:
    """Evidence (tile, z) and the middle (tile, 2) of every tile of the field, voxels."""
    both = [np.clip(v, -limit, limit) for v in (even, odd) for limit in [_CLIP_SIGMAS * _spread(v)]]
    product = both[0] * both[1]
    edges = [np.linspace(0, size, TILES + 1).astype(int) for size in even.shape[1:]]
    sums = np.add.reduceat(np.add.reduceat(product, edges[0][:-1], axis=1), edges[1][:-1], axis=2)
    area = np.outer(np.diff(edges[0]), np.diff(edges[1]))
    profiles = ndimage.gaussian_filter1d((sums / area).reshape(len(even), -1).T.astype(float), 1.5, axis=1)
    middle = [(e[:-1] + e[1:] - 1) / 2.0 for e in edges]
    # occupied or not: gold, dirt and dense organelles must not outvote the rest of the specimen
    empty = np.quantile(profiles, 0.2, axis=1)[:, None]
    full = max(float(np.median(np.quantile(profiles, 0.9, axis=1) - empty[:, 0])), 1e-12)
    profiles = np.clip((profiles - empty) / full, -1.0, 1.0)
    return profiles, np.stack(np.meshgrid(*middle, indexing="ij"), axis=-1).reshape(-1, 2)


def _spread(volume: Volume) -> float:
    return 1.4826 * float(np.median(np.abs(volume[:, ::3, ::3]))) + 1e-12


def _best_slope(cost: Callable[[FloatArray], float]) -> FloatArray:
    """Slope (dz/dy, dz/dx) of least cost: the best of a coarse grid, refined."""
    steps = np.tan(np.deg2rad(np.arange(-STEEPEST_DEG, STEEPEST_DEG + 1, _SEARCH_STEP_DEG)))
    flat = np.array([cost(np.array([0.0, s])) for s in steps])
    start = np.array([0.0, steps[int(np.argmin(flat))]])
    simplex = start + np.array([[0.0, 0.0], [0.04, 0.0], [0.0, 0.04]])
    found = minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-4, "initial_simplex": simplex})
    slope: FloatArray = np.asarray(found.x)
    return slope


def _edges(total: FloatArray) -> tuple[float, float, float]:
    """Indices between which a profile is above half its height, and how clearly it stands out."""
    outside = float(np.quantile(total, 0.2))
    height = float(np.quantile(total, 0.95)) - outside
    half = outside + 0.5 * height
    above = np.flatnonzero(total > half)
    if not above.size:
        return 0.0, float(len(total) - 1), 0.0
    first = last = int(np.argmax(total))
    while first > 0 and total[first - 1] > half:
        first -= 1
    while last + 1 < len(total) and total[last + 1] > half:
        last += 1
    low = first - (total[first] - half) / max(total[first] - total[first - 1], 1e-12) if first else 0.0
    high = last + (total[last] - half) / max(total[last] - total[last + 1], 1e-12) if last + 1 < len(total) else last
    beyond = total[total < half]
    scatter = 1.4826 * float(np.median(np.abs(beyond - np.median(beyond)))) if beyond.size else np.inf
    return float(low), float(high), height / max(scatter, 1e-12)
