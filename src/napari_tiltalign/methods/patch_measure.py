"""Measure how patches of the specimen plane are displaced against where a geometry expects them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.images.arrays import module_of, stack_some
from napari_tiltalign.images.tiles import band_of_tiles, hann_window
from napari_tiltalign.methods.flat_series import Level
from napari_tiltalign.methods.pair_graph import stretch_matrices
from napari_tiltalign.methods.patch_coherence import PairFilters, Spectra, filtered

LEAST_COVERAGE = 0.95
"""A view counts for a patch if it shows so much of the energy of its window.

Where the edge cuts a window, more of the specimen above than below the middle is lost, or less, which displaces what is
left."""

WINDOW_NOISE_BANDWIDTH = 2.25
"""Neighbouring frequencies of a Hann window are not independent: so many tell as much as one (1.5 per axis, Harris
1978)."""

_CYCLES = 1.5
"""Lowest frequency, cycles per patch."""


@dataclass(frozen=True, slots=True, eq=False)
class Displacements:
    """What the images say about the displacement of p patches in n views, as a quadratic form.

    Attributes
    ----------
    pull_yx
        Shape (p, n, 2): gradient of the log likelihood, 1 / Angstrom, in the specimen plane.
    pair_weight
        Shape (n, n, 2, 2): information of every pair of views in a typical patch, 1 / square Angstrom.
    strength
        Shape (p,): curvature found over curvature expected.
    seen
        Shape (p, n): whether a view shows a patch.
    """

    pull_yx: FloatArray
    pair_weight: FloatArray
    strength: FloatArray
    seen: NDArray[np.bool_]

    def information(self) -> FloatArray:
        """Laplacian of the pairs that a patch has, per patch, without its strength: shape (p, n, 2, n, 2)."""
        p, n = self.seen.shape
        both = self.seen[:, :, None] & self.seen[:, None, :]
        edges = np.where(both[..., None, None], self.pair_weight, 0.0)
        result = -edges.transpose(0, 1, 3, 2, 4)
        own = np.arange(n)
        result[:, own, :, own] += edges.sum(axis=2).transpose(1, 0, 2, 3)
        return np.ascontiguousarray(result).reshape(p, n, 2, n, 2)


def cut_spectra(
    level: Level, views: NDArray[np.intp], geometry: ViewGeometry, points_zyx_angst: FloatArray, patch_angst: float,
    highest: float,
) -> tuple[Spectra, NDArray[np.bool_]]:  # fmt: skip
    """Cut patches out of all views where a geometry expects them.

    Parameters
    ----------
    level
        The images.
    views
        Which of its views, shape (n,).
    geometry
        Of these n views.
    points_zyx_angst
        Shape (p, 3): middles of the patches.
    patch_angst
        Width of a patch, Angstrom.
    highest
        Highest raw frequency, cycles per Angstrom.

    Returns
    -------
    spectra, seen
        And whether a view shows a patch, shape (p, n).
    """
    step = float(level.grid.pitch_yx_angst.max())
    size = fft.next_fast_len(max(8, round(patch_angst / step)), real=True)
    window = hann_window(size)
    matrices = stretch_matrices(geometry)
    in_level = np.zeros((len(level.series), 2, 2))
    in_level[views] = matrices
    centres = np.zeros((len(level.series), len(points_zyx_angst), 2))
    centres[views] = geometry.project(points_zyx_angst)
    tiles, coverage = level.tiles(centres, in_level, step, window)
    seen = coverage[views].T >= LEAST_COVERAGE
    frequency_y = np.fft.fftfreq(size)[:, None] / step
    frequency_x = np.fft.rfftfreq(size)[None] / step
    radius = np.hypot(frequency_y, frequency_x)
    once = (frequency_x > 0) | (frequency_y > 0)
    not_nyquist = (frequency_x < 0.499 / step) & (np.abs(frequency_y) < 0.499 / step)
    rows, columns = np.nonzero((radius <= highest) & (radius >= _CYCLES / (size * step)) & once & not_nyquist)
    frequency = np.column_stack([frequency_y[rows, 0], frequency_x[0, columns]])
    scale = np.sqrt(np.abs(np.linalg.det(matrices))) / size
    values = band_of_tiles(tiles, views, rows, columns, scale[:, None] * seen.T)
    inverse = np.linalg.inv(matrices)
    raw = np.einsum("nab,ka->knb", inverse, frequency)
    rotation = geometry.rotations()[:, :2, 2][:, ::-1] * geometry.magnification[:, None]
    slide = np.einsum("nab,nb->na", inverse, rotation)
    profile = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    correlation = np.correlate(profile, profile, "full")[size - 1 :]
    correlation = np.append(correlation / correlation[0], 0.0)
    return Spectra(values, frequency, np.linalg.norm(raw, axis=2), slide, highest, correlation, step), seen


def displacements(spectra: Spectra, seen: NDArray[np.bool_], filters: PairFilters) -> Displacements:
    """Gradient and curvature of the log likelihood in the displacements of all patches.

    A displacement s of the structure in a view turns its spectrum by ``exp(-2 pi i k.s)``.
    """
    xp = module_of(spectra.values)
    explained = filtered(spectra, filters)
    own = xp.diagonal(filters.inverse, axis1=1, axis2=2)
    k_yx = xp.asarray(spectra.frequency_yx)
    n_k, n, p = spectra.values.shape

    def some(view: Any) -> Any:
        y, q = spectra.values[:, view], explained[:, view]
        # d/ds of -(conj(y) Q y) for spectra turned back by exp(+2 pi i k.s)
        product = y.real * q.imag - y.imag * q.real
        pull = -4.0 * np.pi * (k_yx.T @ product.reshape(n_k, -1)).reshape(2, *product.shape[1:])
        # the part of conj(y) Q y that pairs with other views make
        mixed = y.real * q.real + y.imag * q.imag - own[:, view][..., None] * (y.real**2 + y.imag**2)
        curvature = -8.0 * np.pi**2 * ((k_yx**2).sum(axis=1) @ mixed.reshape(n_k, -1)).reshape(mixed.shape[1:])
        return xp.moveaxis(xp.concatenate([pull, curvature[None]]), 0, -1)

    found = stack_some(some, n, spectra.values, 64.0 * n_k * p).transpose(1, 0, 2) / WINDOW_NOISE_BANDWIDTH
    pull, curvature = np.ascontiguousarray(found[..., :2]), found[..., 2]
    weight = filters.pair_weight / WINDOW_NOISE_BANDWIDTH
    trace = np.einsum("ijaa->ij", weight)
    expected = np.where(seen, seen.astype(float) @ trace, 0.0).sum(axis=1)
    strength = np.where(seen, curvature, 0.0).sum(axis=1) / np.maximum(expected, 1e-12)
    return Displacements(pull, weight, strength, seen)
