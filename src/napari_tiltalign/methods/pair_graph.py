"""First geometry without beads: shifts of all views by a robust graph of pairs, and the tilt axis and tilt offset.

Views are stretched into the specimen plane, ``x / cos(tilt)`` (Guckenberger 1982), and correlated with those one, two
and three steps of tilt away. Every correlation gives the difference of two shifts, ``s_j - s_i = d_ij``; all of them
together are solved by iteratively reweighted least squares with Cauchy weights, so that a wrong peak loses its say
instead of tearing the chain (Holland and Welsch 1977). A view whose place only rests on peaks that could be chance is
named, and its shift is not to be trusted.

In a specimen of thickness T, structure at spatial frequency k across the axis goes out of step between two tilts by
``sinc(T k (tan t_j - tan t_i))``, which weighs the cross spectra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.sparse.csgraph import connected_components

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.images.arrays import as_index, map_some, module_of, stack_some, to_host, transforms_of
from napari_tiltalign.images.correlate import highest_points, spread_of
from napari_tiltalign.methods.flat_series import FlatSeries, Level, level_of

SAMPLES = 128
"""Views are sampled with about so many pixels along their longer side."""

STEPS = (1, 2, 3)
"""How many steps of tilt apart the views of a pair are."""

CHANCE = 11.0
"""Views of different specimens reach a significance of 4 to 6, and of 7 to 10 where single things stand out."""

AGREEING = 6.0
"""Enough significance for a peak that others confirm."""

_WINDOW = 1.25
"""Size of the stretched views, parts of the longer side."""
_TAPER = 0.12
_HIGHPASS_CYCLES = 4.0
"""Features larger than a quarter of the field are left over from the illumination."""
_LOWPASS = 0.22
_CAUCHY_SAMPLES = 3.0
_SWEEPS = 25
_HOLD = 1e-4
_LEAST_RINGS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Shifts measured between k pairs of views, in the specimen plane.

    Attributes
    ----------
    first, second
        Shape (k,): views, in order of tilt.
    offset_yx_angst
        Shape (k, 2): how far the structure of `second` lies from that of `first`, Angstrom in the specimen plane.
    significance
        Shape (k,): height of the correlation peak over the rest, robust standard deviations.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    offset_yx_angst: FloatArray
    significance: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class FoundShifts:
    """Shifts of n views, and how sure they are.

    Attributes
    ----------
    geometry
        The geometry it started from with new shifts (Angstrom), views in order of tilt. The mean shift of the tied
        views in the specimen plane is kept. Shifts of views that are not tied mean nothing.
    tied
        Shape (n,): whether a chain of sure correlations leads to the largest group of views.
    significance
        Shape (n,): of the best correlation with another view that agrees with the solution; 0 if there is none.
    pairs
        What was measured in the last round.
    agrees
        Shape (k,): which of the pairs agree with the solution.
    """

    geometry: ViewGeometry
    tied: NDArray[np.bool_]
    significance: FloatArray
    pairs: Pairs
    agrees: NDArray[np.bool_]


def coarse_level(series: FlatSeries) -> Level:
    """Return the series at the resolution that first shifts need."""
    return level_of(series, coarse_pitch_angst(series.field_yx_angst))


def coarse_pitch_angst(field_yx_angst: FloatArray) -> float:
    """Distance of samples that first shifts need, Angstrom."""
    return float(np.max(field_yx_angst)) / SAMPLES


def find_shifts(
    level: Level, start: ViewGeometry, thickness_angst: float, *, rounds: int = 3, steps: Sequence[int] = STEPS
) -> FoundShifts:
    """Find the shifts of all views by correlating pairs of them.

    Parameters
    ----------
    level
        From `coarse_level`.
    start
        Geometry of the n views in order of tilt: angles are taken from it, shifts only need to be right to about a
        third of the field.
    thickness_angst
        Thickness of the specimen; a guess within a factor of two will do.
    rounds
        Views are cut out again at the shifts found and correlated again, so often at most.
    steps
        How far apart the views of a pair are, steps of tilt.

    Returns
    -------
    FoundShifts
        Look at `tied` before believing a shift.
    """
    geometry = start
    half_a_sample = 0.5 * float(level.grid.pitch_yx_angst.max())
    for _ in range(rounds):
        stretched = _Stretched.of(level, geometry, thickness_angst)
        pairs = stretched.correlated(steps)
        moved, agrees = _solved(pairs, len(geometry), 2.0 * half_a_sample)
        geometry = _shifted(geometry, moved)
        if np.abs(moved[level.series.usable]).max() < half_a_sample:
            break
    tied = _tied(pairs, agrees, len(geometry))
    geometry = _centred(geometry, start, tied)
    best = np.zeros(len(geometry))
    for end in (pairs.first, pairs.second):
        np.maximum.at(best, end[agrees], pairs.significance[agrees])
    return FoundShifts(geometry, tied, best, pairs, agrees)


def stretch_matrices(geometry: ViewGeometry) -> FloatArray:
    """Matrices, shape (n, 2, 2), that take steps (y, x) in the specimen plane to steps in the views."""
    rows = geometry.rotations()[:, :2, :2] * geometry.magnification[:, None, None]
    return rows[:, ::-1, ::-1]


@dataclass(frozen=True, slots=True, eq=False)
class _Stretched:
    """Fourier transforms of all views as seen from above, normalised to unit power in the band.

    Spectra have the shape (m, size, size // 2 + 1), on the CPU or the GPU, for the m views that take part.
    """

    spectra: Any
    views: NDArray[np.intp]
    tangent: FloatArray
    size: int
    step_angst: float
    thickness_angst: float

    @classmethod
    def of(cls, level: Level, geometry: ViewGeometry, thickness_angst: float) -> _Stretched:
        step = float(level.grid.pitch_yx_angst.max())
        field = float(level.series.field_yx_angst.max())
        size = int(fft.next_fast_len(round(_WINDOW * field / step), real=True))
        profile = np.clip((size / 2 - np.abs(np.arange(size) - (size - 1) / 2)) / (size * _TAPER), 0.0, 1.0)
        window = np.outer(*[np.sin(0.5 * np.pi * profile) ** 2] * 2).astype(np.float32)
        tiles, _ = level.tiles(geometry.shift_yx_angst[:, None], stretch_matrices(geometry), step, window)
        xp, transforms = module_of(tiles), transforms_of(tiles)
        radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
        lowest = _HIGHPASS_CYCLES * step / field
        band = np.exp(-0.5 * (radius / _LOWPASS) ** 2) * -np.expm1(-0.5 * (radius / lowest) ** 2)
        band = xp.asarray(band.astype(np.float32))
        views = np.array(level.views)
        spectra = xp.empty((len(views), *band.shape), np.complex64)

        def transform(part: Any) -> None:
            view = as_index(views[part], tiles)
            spectrum = transforms.rfft2(tiles[view, 0]) * band
            power = xp.sum(xp.square(xp.abs(spectrum)), axis=(-2, -1), dtype=np.float64)
            spectra[part] = spectrum / (xp.sqrt(power) + 1e-30).astype(np.float32)[..., None, None]

        map_some(transform, len(views), tiles, 24.0 * size**2)
        return cls(spectra, views, np.tan(np.deg2rad(geometry.y_tilt_deg)), size, step, thickness_angst)

    def pairs(self, steps: Sequence[int]) -> NDArray[np.intp]:
        """Pairs of views, shape (2, k), as numbers of the m that take part."""
        m = len(self.views)
        return np.array([(k, k + step) for step in steps for k in range(m - step)]).reshape(-1, 2).T

    def kept(self, pairs: NDArray[np.intp]) -> FloatArray:
        """What a slab of the given thickness keeps of the cross spectra, shape (k, size // 2 + 1)."""
        k = np.fft.rfftfreq(self.size) / self.step_angst
        first, second = self.tangent[self.views[pairs]]
        kept: FloatArray = np.maximum(np.sinc(self.thickness_angst * (second - first)[:, None] * k), 0.0)
        return kept

    def cross_spectra(self, pairs: NDArray[np.intp], kept: NDArray[np.float32]) -> Any:
        """Products of two transforms, weighted by what is kept; pairs of shape (2,), or (2, k) on the GPU."""
        xp = module_of(self.spectra)
        first, second = as_index(pairs, self.spectra)
        return xp.conj(self.spectra[first]) * self.spectra[second] * xp.asarray(kept)[..., None, :]

    def correlated(self, steps: Sequence[int]) -> Pairs:
        """Correlate all pairs; the modulus of the cross spectrum enters by its root, which sharpens the peak."""
        xp, transforms = module_of(self.spectra), transforms_of(self.spectra)
        pairs = self.pairs(steps)
        kept = self.kept(pairs).astype(np.float32)

        def some(part: Any) -> FloatArray:
            product = self.cross_spectra(pairs[:, part], kept[part])
            weight = xp.asarray(np.maximum(kept[part], np.float32(1e-6)))[..., None, :]
            modulus = xp.sqrt(xp.abs(product) / weight) + 1e-20
            return self._peaks(transforms.irfft2(product / modulus, (self.size, self.size)))

        found = stack_some(some, pairs.shape[1], self.spectra, 40.0 * self.size**2)
        first, second = self.views[pairs]
        return Pairs(first, second, found[:, :2], found[:, 2])

    def _peaks(self, surfaces: Any) -> FloatArray:
        """Places of the highest points of periodic surfaces, Angstrom, and their significance: shape (..., 3)."""
        surfaces = transforms_of(surfaces).fftshift(surfaces, axes=(-2, -1))
        place, height = highest_points(surfaces)
        middle, sd = spread_of(surfaces[..., ::2, ::2])
        significance = (height - middle) / (sd + 1e-30)
        return np.concatenate([(place - self.size // 2) * self.step_angst, significance[..., None]], axis=-1)

    def agreement(self, steps: Sequence[int]) -> float:
        """How well the views agree where they lie: sum over pairs of the correlation within two samples of zero."""
        xp = module_of(self.spectra)
        pairs = self.pairs(steps)
        kept = self.kept(pairs)
        as_float, power = kept.astype(np.float32), np.sqrt(np.mean(kept**2, axis=1))
        by_row, by_column = (xp.asarray(of) for of in _near_zero(self.size))

        def some(part: Any) -> FloatArray:
            near = (by_row @ self.cross_spectra(pairs[:, part], as_float[part]) @ by_column).real
            highest: FloatArray = to_host(near.max(axis=(-2, -1))) / power[part]
            return highest

        return float(np.sum(stack_some(some, pairs.shape[1], self.spectra, 24.0 * self.size**2)))


def _near_zero(size: int) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Matrices A (5, size) and B (size // 2 + 1, 5) for the surface near zero.

    The real part of A S B is what the inverse transform of S holds within two samples of zero, times the number of
    samples. All of a surface would be a hundred times the work.
    """
    near = np.arange(-2, 3)
    by_row = np.exp(2j * np.pi * np.outer(near, np.fft.fftfreq(size)))
    frequency = np.fft.rfftfreq(size)
    twice = np.where((frequency == 0) | (frequency == 0.5), 1.0, 2.0)[:, None]
    by_column = twice * np.exp(2j * np.pi * np.outer(frequency, near))
    return by_row.astype(np.complex64), by_column.astype(np.complex64)


def _solved(pairs: Pairs, n: int, sample_angst: float) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Displacements (n, 2) of the views in the specimen plane of mean 0, and which pairs agree with them."""
    k = np.arange(len(pairs.first))
    difference = np.zeros((len(k), n))
    difference[k, pairs.second], difference[k, pairs.first] = 1.0, -1.0
    given = np.clip((pairs.significance - 5.0) / 10.0, 0.02, 1.5) / (pairs.second - pairs.first)
    weight, scale = given, _CAUCHY_SAMPLES * sample_angst
    for _ in range(_SWEEPS):
        normal = difference.T @ (difference * weight[:, None]) + _HOLD * np.eye(n)
        moved = np.linalg.solve(normal, difference.T @ (weight[:, None] * pairs.offset_yx_angst))
        apart = np.linalg.norm(difference @ moved - pairs.offset_yx_angst, axis=1)
        weight = given / (1.0 + (apart / scale) ** 2)
    return moved, apart < scale


def _shifted(geometry: ViewGeometry, moved_yx_angst: FloatArray) -> ViewGeometry:
    step = np.einsum("nij,nj->ni", stretch_matrices(geometry), moved_yx_angst)
    return geometry.replace(shift_yx_angst=geometry.shift_yx_angst + step)


def _centred(geometry: ViewGeometry, start: ViewGeometry, tied: NDArray[np.bool_]) -> ViewGeometry:
    """Move all views alike so that the mean shift of the tied ones is what it was, wherever the others have gone."""
    if tied.all() or not tied.any():
        return geometry
    step = geometry.shift_yx_angst - start.shift_yx_angst
    in_plane = np.linalg.solve(stretch_matrices(geometry), step[..., None])[..., 0]
    return _shifted(geometry, np.broadcast_to(-in_plane[tied].mean(axis=0), step.shape))


def _tied(pairs: Pairs, agrees: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """Views that sure correlations tie to the largest group.

    A correlation is sure if chance cannot reach it, or if it closes two rings of three views that agree: two peaks that
    are chance hardly ever add up to a third.
    """
    candidate = np.zeros((n, n), dtype=bool)
    good = agrees & (pairs.significance > AGREEING)
    candidate[pairs.first[good], pairs.second[good]] = True
    candidate |= candidate.T
    in_rings = candidate & (candidate.astype(int) @ candidate.astype(int) >= _LEAST_RINGS)
    beyond_chance = np.zeros((n, n), dtype=bool)
    strong = agrees & (pairs.significance > CHANCE)
    beyond_chance[pairs.first[strong], pairs.second[strong]] = True
    labels = connected_components(in_rings | beyond_chance | beyond_chance.T, directed=False)[1]
    sizes = np.bincount(labels)
    tied: NDArray[np.bool_] = (labels == sizes.argmax()) & (sizes.max() > 1)
    return tied


def score_orientations(
    level: Level, geometry: ViewGeometry, thickness_angst: float, *, tilt_offsets_deg: FloatArray, turns_deg: FloatArray
) -> FloatArray:
    """Score tilt offsets and turns of the tilt axis by how well stretched views agree where they lie.

    Parameters
    ----------
    level
        From `coarse_level`.
    geometry
        With shifts that are about right, views in order of tilt.
    thickness_angst
        Thickness of the specimen.
    tilt_offsets_deg, turns_deg
        Shape (c,): what is added to all tilts, and to the axis, in each of c candidates.

    Returns
    -------
    FloatArray
        Shape (c,); higher is better. Only scores of one call can be compared.
    """
    scores = []
    for offset, turn in zip(tilt_offsets_deg, turns_deg, strict=True):
        tried = geometry.replace(y_tilt_deg=geometry.y_tilt_deg + offset, z_rot_deg=geometry.z_rot_deg + turn)
        scores.append(_Stretched.of(level, tried, thickness_angst).agreement((1, 2, 4)))
    return np.array(scores)


def best_on_grid(values: FloatArray, scores: FloatArray) -> float:
    """Vertex of the parabola through the highest of equally spaced scores and its neighbours; a value at the ends."""
    best = int(np.argmax(scores))
    if not 0 < best < len(values) - 1:
        return float(values[best])
    before, top, after = scores[best - 1 : best + 2]
    return float(values[best] + 0.5 * (before - after) / (before - 2 * top + after) * (values[1] - values[0]))
