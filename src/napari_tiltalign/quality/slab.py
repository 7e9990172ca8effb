"""Where the specimen is in a reconstruction: the height, thickness and tilt of the slab, and how sure that is.

The evidence is what two reconstructions from different views have in common: their product averages to zero where
there is only noise, and stands out where there is a specimen (the idea of a Fourier shell correlation, in space).
It is summed over tiles of the field. The slab lies where the profiles of all tiles have most in common once they are
displaced by the slope: where the part of their variance that their common profile explains is largest (analysis of
variance, Fisher 1925). Nothing but noise explains as little whatever the slope. How sure that is, is told by leaving
out parts of the field (jackknife over groups, Quenouille 1956), and by what tiles explain of each other by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
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
_SMOOTHING_VOXELS = 1.5
_LEAST_COMMON = 0.25
"""Heights that a smaller part of the tiles shows are left out where edges are looked for."""
_LEAST_LAYER = 0.1
"""Layers that hold less than this part of the evidence of the strongest one are none."""
_GROUPS = 4
"""The field is divided into so many by so many parts, each of which is left out once."""
_CHANCES = 40
_LEAST_CONTRAST = 8.0
"""Noise reaches 6, because the slope of least noise is taken."""
_MOST_THICKNESS_SD = 0.25
"""A slab is known if thickness and height are known to this part of the thickness,"""
_MOST_TILT_SD_DEG = 8.0
"""and its tilts to this."""


@dataclass(frozen=True, slots=True)
class Slab:
    """A slab in the specimen's coordinates.

    Attributes
    ----------
    height_angst
        Height z of its midplane above the rotation centre, Angstrom.
    thickness_angst
        Thickness, Angstrom: between the outermost heights at which the evidence has fallen to half.
    tilt_about_y_deg, tilt_about_x_deg
        Rotations that make the slab level, degrees: first about x, then about the tilt axis y. The second is what an
        offset of all tilt angles does.
    contrast
        How far what tiles have in common stands out of what they have by chance, standard deviations.
    height_sd_angst, thickness_sd_angst, tilt_sd_deg
        Standard deviations; that of the tilts is the larger of the two. They come from how far parts of the field
        disagree, and from how sharp the reconstruction is.
    reach
        How far from the middle of what was searched the slab reaches in the corners of the field, parts of the way to
        its end. Beyond 1 part of it was not seen.
    """

    height_angst: float
    thickness_angst: float
    tilt_about_y_deg: float
    tilt_about_x_deg: float
    contrast: float
    height_sd_angst: float
    thickness_sd_angst: float
    tilt_sd_deg: float
    reach: float

    @property
    def is_certain(self) -> bool:
        """Whether the figures can be relied on."""
        return not self.doubt

    @property
    def doubt(self) -> str:
        """Why the figures are not to be relied on, for people; empty if they are."""
        tilted = max(abs(self.tilt_about_y_deg), abs(self.tilt_about_x_deg))
        if not self.contrast > _LEAST_CONTRAST:
            return "places of the specimen do not agree on its height more than they would by chance"
        if tilted >= STEEPEST_DEG - _SEARCH_STEP_DEG / 2.0:
            return f"it would be tilted by {tilted:.0f}°, as far as was looked for"
        if self.reach > 1.0:
            return "it would reach beyond the heights that were looked at"
        known = _MOST_THICKNESS_SD * self.thickness_angst
        if not (self.thickness_sd_angst <= known and self.height_sd_angst <= known):
            return f"places of the specimen disagree: it would be {self.thickness_in_words} thick"
        if not self.tilt_sd_deg <= _MOST_TILT_SD_DEG:
            return f"places of the specimen disagree on its level (by {self.tilt_sd_deg:.0f}°)"
        return ""

    @property
    def thickness_in_words(self) -> str:
        """The thickness and its standard deviation, nanometres."""
        return f"{self.thickness_angst / 10:.0f} ± {self.thickness_sd_angst / 10:.0f} nm"

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
        The one in which the tiles have most in common; see `Slab.is_certain`.
    """
    tiles = _Tiles.of(even, odd, grid)
    slope = _best_slope(tiles, _start(tiles))
    found = _measured(tiles, slope)
    sd = _standard_deviations(tiles, slope, found)
    height, thickness, about_y, about_x = (float(value) for value in found)
    middle = float(grid.centre_zyx_angst[0] - slope @ grid.centre_zyx_angst[1:])
    high = 0.5 * thickness * math.sqrt(1.0 + float(slope @ slope)) + abs(height)
    corner = float(np.abs(slope) @ np.abs(tiles.where_yx_angst).max(axis=0))
    return Slab(
        height_angst=height + middle,
        thickness_angst=thickness,
        tilt_about_y_deg=about_y,
        tilt_about_x_deg=about_x,
        contrast=_contrast(tiles, slope),
        height_sd_angst=float(sd[0]),
        thickness_sd_angst=float(sd[1]),
        tilt_sd_deg=float(sd[2:].max()),
        reach=(high + corner) / float(np.abs(tiles.z_angst).max()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Tiles:
    """Evidence in t tiles of the field at z heights.

    Attributes
    ----------
    profiles
        Shape (t, z).
    where_yx_angst, z_angst
        Middles (t, 2) of the tiles and heights (z,), from the middle of the reconstruction.
    weight
        Shape (t,): 0 for those that are left out.
    """

    profiles: FloatArray
    where_yx_angst: FloatArray
    z_angst: FloatArray
    weight: FloatArray

    @classmethod
    def of(cls, even: Volume, odd: Volume, grid: Grid) -> _Tiles:
        profiles, where_yx, filled = _profiles(even, odd)
        heights = (np.arange(grid.shape_zyx[0])[filled] - grid.shape_zyx[0] // 2) * grid.voxel_angst
        where = (where_yx - np.array(grid.shape_zyx[1:]) // 2) * grid.voxel_angst
        return cls(profiles, where, heights, np.ones(len(profiles)))

    def without(self, left_out: NDArray[np.bool_]) -> _Tiles:
        return _Tiles(self.profiles, self.where_yx_angst, self.z_angst, np.where(left_out, 0.0, self.weight))

    def along(self, slope_yx: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Profiles along a sloping slab, and how much of each height is known, both of shape (t, z)."""
        step = self.z_angst[1] - self.z_angst[0]
        place = (self.z_angst + (self.where_yx_angst @ slope_yx)[:, None] - self.z_angst[0]) / step
        last = len(self.z_angst) - 1
        below = np.clip(np.floor(place).astype(np.intp), 0, last - 1)
        part = place - below
        known = self.weight[:, None] * ((place >= 0) & (place <= last))
        value = np.take_along_axis(self.profiles, below, 1) * (1.0 - part)
        value += np.take_along_axis(self.profiles, below + 1, 1) * part
        return value, known


def _explained(value: FloatArray, known: FloatArray) -> float:
    """Part of the variance of profiles (t, z) that their common profile explains."""
    count = known.sum(axis=0)
    total = float(count.sum())
    sums = (known * value).sum(axis=0)
    mean = float(sums.sum()) / total
    common = np.divide(sums, count, out=np.full(count.shape, mean), where=count > 0)
    return float(count @ np.square(common - mean)) / max(float((known * np.square(value - mean)).sum()), 1e-30)


def _start(tiles: _Tiles) -> FloatArray:
    """The best slope (dz/dy, dz/dx) of a coarse grid."""
    steps = np.tan(np.deg2rad(np.arange(-STEEPEST_DEG, STEEPEST_DEG + 1, _SEARCH_STEP_DEG)))
    tried = np.stack(np.meshgrid(steps[::2], steps, indexing="ij"), axis=-1).reshape(-1, 2)
    explained = [_explained(*tiles.along(slope)) for slope in tried]
    best: FloatArray = tried[int(np.argmax(explained))]
    return best


def _best_slope(tiles: _Tiles, start: FloatArray) -> FloatArray:
    simplex = start + np.array([[-0.02, -0.02], [0.03, 0.0], [0.0, 0.03]])
    found = minimize(
        lambda slope: -_explained(*tiles.along(slope)), start, method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-7, "initial_simplex": simplex},
    )  # fmt: skip
    slope: FloatArray = np.asarray(found.x)
    return slope


def _measured(tiles: _Tiles, slope: FloatArray) -> FloatArray:
    """Height and thickness (Angstrom), tilts about y and about x (degrees) of the slab of a slope."""
    value, known = tiles.along(slope)
    count = known.sum(axis=0)
    told = np.flatnonzero(count > _LEAST_COMMON * count.max())
    common = (known * value).sum(axis=0)[told] / count[told]
    bottom, top = (float(np.interp(edge, np.arange(len(told)), tiles.z_angst[told])) for edge in _edges(common))
    slope_y, slope_x = (float(part) for part in slope)
    return np.array(
        [
            (bottom + top) / 2.0,
            (top - bottom) / math.sqrt(1.0 + slope_x**2 + slope_y**2),
            math.degrees(math.atan(slope_x / math.hypot(1.0, slope_y))),
            -math.degrees(math.atan(slope_y)),
        ]
    )


def _edges(common: FloatArray) -> tuple[float, float]:
    """Indices of the outermost places where a profile crosses half its height: gold may lie on both faces only.

    A layer counts if it holds enough of the evidence; less is noise, or dirt.
    """
    outside = float(np.quantile(common, 0.2))
    half = outside + 0.5 * (float(np.quantile(common, 0.95)) - outside)
    layers, count = ndimage.label(common > half)
    if not count:
        return 0.0, float(len(common) - 1)
    held = ndimage.sum_labels(common - outside, layers, np.arange(1, count + 1))
    above = np.flatnonzero(np.isin(layers, 1 + np.flatnonzero(held >= _LEAST_LAYER * held.max())))
    low, high = float(above[0]), float(above[-1])
    if above[0] > 0:
        inner, outer = common[above[0]], common[above[0] - 1]
        low -= float((inner - half) / max(inner - outer, 1e-12))
    if above[-1] + 1 < len(common):
        inner, outer = common[above[-1]], common[above[-1] + 1]
        high += float((inner - half) / max(inner - outer, 1e-12))
    return low, high


def _standard_deviations(tiles: _Tiles, slope: FloatArray, found: FloatArray) -> FloatArray:
    """Of what is measured, from leaving out parts of the field, and from how sharp an edge can be."""
    row, column = np.divmod(np.arange(TILES**2), TILES)
    part = (row * _GROUPS // TILES) * _GROUPS + column * _GROUPS // TILES
    less = [tiles.without(part == k) for k in range(_GROUPS**2)]
    again = np.array([_measured(some, _best_slope(some, slope)) for some in less])
    variance = (len(again) - 1) / len(again) * np.square(again - again.mean(axis=0)).sum(axis=0)
    blur = _SMOOTHING_VOXELS * float(tiles.z_angst[1] - tiles.z_angst[0])
    variance[:2] += np.array([0.5, 2.0]) * blur**2  # of the mean and of the difference of two edges
    sd: FloatArray = np.sqrt(variance)
    return sd


def _contrast(tiles: _Tiles, slope: FloatArray) -> float:
    """How far what tiles have in common stands out of what is left once each is displaced at random."""
    random = np.random.default_rng(0)
    t, z = tiles.profiles.shape
    chances = []
    for _ in range(_CHANCES):
        rolled = (np.arange(z) + random.integers(0, z, size=(t, 1))) % z
        chances.append(_explained(np.take_along_axis(tiles.profiles, rolled, 1), np.ones((t, z))))
    stands_out = _explained(*tiles.along(slope)) - float(np.mean(chances))
    return stands_out / max(float(np.std(chances)), 1e-12)


def _profiles(even: Volume, odd: Volume) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Evidence (tile, z), the middle (tile, 2) of every tile of the field, voxels, and which heights were filled."""
    # an empty plane at an end is the same in all tiles, which is no evidence
    shown = np.flatnonzero(even.any(axis=(1, 2)) & odd.any(axis=(1, 2)))
    filled = np.arange(shown.min(), shown.max() + 1) if shown.size else np.arange(len(even))
    both = [np.clip(v, -limit, limit)[filled] for v in (even, odd) for limit in [_CLIP_SIGMAS * _spread(v)]]
    product = both[0] * both[1]
    edges = [np.linspace(0, size, TILES + 1).astype(int) for size in even.shape[1:]]
    sums = np.add.reduceat(np.add.reduceat(product, edges[0][:-1], axis=1), edges[1][:-1], axis=2)
    area = np.outer(np.diff(edges[0]), np.diff(edges[1]))
    by_tile = (sums / area).reshape(len(filled), -1).T.astype(float)
    profiles = ndimage.gaussian_filter1d(by_tile, _SMOOTHING_VOXELS, axis=1)
    middle = [(e[:-1] + e[1:] - 1) / 2.0 for e in edges]
    # occupied or not: gold, dirt and dense organelles must not outvote the rest of the specimen
    empty = np.quantile(profiles, 0.2, axis=1)[:, None]
    full = max(float(np.median(np.quantile(profiles, 0.9, axis=1) - empty[:, 0])), 1e-12)
    profiles = np.clip((profiles - empty) / full, -1.0, 1.0)
    return profiles, np.stack(np.meshgrid(*middle, indexing="ij"), axis=-1).reshape(-1, 2), filled


def _spread(volume: Volume) -> float:
    return 1.4826 * float(np.median(np.abs(volume[:, ::3, ::3]))) + 1e-12
