"""How alike the patches of different views are, per spatial frequency, and what that tells of displacements.

A patch is a window on the specimen plane. Where structure fills a slab of thickness T at random, the spectra
``y_i(k)`` of one patch in n views are jointly Gaussian with the coherence::

    K_ij(k) = r_i r_j C_ij(k)  (i != j),  K_ii = 1        r_i^2 = signal over signal and noise in view i
    C_ij(k) = (2 / T) int_0^{T/2} cos(2 pi k.(a_i - a_j) z) G(|a_i - a_j| z) dz

``a_i`` says how fast structure slides with its height z as view i sees it (tan of the tilt), and G is the
autocorrelation of the window, because what slides out of the window is lost. Neighbouring views measured against a
third share its noise; the inverse ``Q = K^-1`` knows that. The information about the displacements of all views is a
graph whose edges are the pairs, with the weights (matrices 2 x 2, Cramer-Rao bound of a Gaussian model)::

    W_ij = -8 pi^2 sum_k k k' Q_ij K_ij            F = its Laplacian

so pairs that say the same count once, and far pairs count as far as the thickness lets them agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from napari_tiltalign.geometry import FloatArray, frozen_array
from napari_tiltalign.images.arrays import as_index, map_parts, module_of, stack_some, to_host
from napari_tiltalign.methods.inverses import inverses

Result = TypeVar("Result")

MOST_COHERENT = 0.65
"""A model that trusts signal more than this is misled by what it does not know (uneven thickness, other heights)."""

_HEIGHTS = 24
_RINGS = 26
_LEAST_COHERENCE = 0.3
_NEIGHBOURS = (1, 2, 3)
_SWEEPS = 4
_CHUNK, _CHUNK_OF_GPU = 64, 4096
"""Frequencies worked on at a time by one thread, and by the GPU."""
_VIEW_FACTORS = (0.05, 1.6)
_FIRST_SIGNAL, _FIRST_FALL = 0.5, 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Spectra:
    """Spectra of p patches in n views at K spatial frequencies of the specimen plane, normalised to noise of power 1.

    Attributes
    ----------
    values
        Shape (K, n, p), complex64; 0 where a view does not show a patch. On the GPU if the images are.
    frequency_yx
        Shape (K, 2): cycles per Angstrom in the specimen plane, one of each pair k, -k.
    raw_frequency
        Shape (K, n): cycles per Angstrom in the views.
    slide_yx
        Shape (n, 2): how far structure slides in the specimen plane per height, as every view sees it.
    highest
        Highest raw frequency used, cycles per Angstrom.
    window_correlation
        Autocorrelation of the window along one axis at lags of whole samples, 1 at 0.
    step_angst
        Distance of samples.
    """

    values: Any
    frequency_yx: FloatArray
    raw_frequency: FloatArray
    slide_yx: FloatArray
    highest: float
    window_correlation: FloatArray
    step_angst: float


@dataclass(frozen=True, slots=True, eq=False)
class Coherence:
    """What is known of signal and noise.

    Attributes
    ----------
    thickness_angst
        Thickness of the slab.
    signal
        Shape (rings,): share of the power that is signal, over raw frequencies from 0 to the highest.
    view_factor
        Shape (n,): how much more or less signal a view has.
    """

    thickness_angst: float
    signal: FloatArray
    view_factor: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "signal", frozen_array(self.signal))
        object.__setattr__(self, "view_factor", frozen_array(self.view_factor))

    @classmethod
    def first_guess(cls, thickness_angst: float, n_views: int) -> Coherence:
        """Signal that falls off with frequency, alike in all views."""
        ring = np.linspace(0.0, 1.0, _RINGS)
        return cls(thickness_angst, _FIRST_SIGNAL * np.exp(-((ring / (2 * _FIRST_FALL)) ** 2)), np.ones(n_views))

    def replace(self, **changes: object) -> Coherence:
        """Return a copy with some fields replaced."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def amplitudes(self, spectra: Spectra) -> FloatArray:
        """``r_i(k)``, shape (K, n)."""
        ring = np.linspace(0.0, spectra.highest, len(self.signal))
        share = np.interp(spectra.raw_frequency, ring, self.signal) * self.view_factor
        return np.sqrt(np.clip(share, 0.0, MOST_COHERENT)) * (spectra.raw_frequency < spectra.highest)


@dataclass(frozen=True, slots=True, eq=False)
class PairFilters:
    """The optimal weights of all pairs of views.

    Attributes
    ----------
    inverse
        Shape (K, n, n), float32: Q; where the spectra are.
    pair_weight
        Shape (n, n, 2, 2): W of the pairs, 1 / square Angstrom; 0 on the diagonal.
    log_determinant
        Sum over frequencies of ``log |K|``.
    """

    inverse: Any
    pair_weight: FloatArray
    log_determinant: float


def slab_coherence(spectra: Spectra, thickness_angst: float) -> Any:
    """``C_ij(k)`` of a slab, shape (K, n, n), float32; where the spectra are."""
    xp = module_of(spectra.values)
    height = (np.arange(_HEIGHTS) + 0.5) / (2 * _HEIGHTS) * thickness_angst
    apart = spectra.slide_yx[:, None] - spectra.slide_yx[None]
    n = len(apart)
    rows, columns = np.triu_indices(n, 1)
    lag = apart[rows, columns]
    distance = np.linalg.norm(lag, axis=1)
    steps = np.arange(len(spectra.window_correlation))
    kept = np.interp(distance[:, None] * height / spectra.step_angst, steps, spectra.window_correlation)
    kept = xp.asarray((kept / _HEIGHTS).astype(np.float32))
    turns = xp.asarray((2 * np.pi * spectra.frequency_yx @ lag.T).astype(np.float32))
    # cos((2 m + 1) x) by its recurrence, x half the step of height: no cosines but two
    half = turns * np.float32(height[0])
    twice = 2.0 * xp.cos(2.0 * half)
    before = now = xp.cos(half)
    total = now * kept[:, 0]
    for m in range(1, _HEIGHTS):
        before, now = now, twice * now - before
        total += now * kept[:, m]
    result = xp.empty((len(turns), n, n), np.float32)
    own, rows, columns = (xp.asarray(of) for of in (np.arange(n), rows, columns))
    result[:, own, own] = 1.0
    result[:, rows, columns] = total
    result[:, columns, rows] = total
    return result


def pair_filters(spectra: Spectra, coherence: Coherence, slab: Any = None) -> PairFilters:
    """Weights of all pairs from the coherence; `slab` from `slab_coherence` saves its computation."""
    shape = slab_coherence(spectra, coherence.thickness_angst) if slab is None else slab
    xp = module_of(shape)
    amplitude = xp.asarray(coherence.amplitudes(spectra).astype(np.float32))
    n = amplitude.shape[1]
    own = xp.arange(n)
    inverse = xp.empty_like(shape)
    square = xp.asarray((spectra.frequency_yx[:, :, None] * spectra.frequency_yx[:, None, :]).reshape(-1, 4))

    def some(rows: slice) -> tuple[FloatArray, float]:
        modelled = shape[rows] * (amplitude[rows, :, None] * amplitude[rows, None, :])
        modelled[:, own, own] = 1.0
        inverse[rows], log_determinants = inverses(modelled)
        product = (inverse[rows] * modelled).reshape(len(modelled), -1)
        weight = product.T.astype(np.float64) @ square[rows]
        return to_host(weight), float(log_determinants.sum())

    parts = _by_chunks(some, shape)
    weight: FloatArray = -8.0 * np.pi**2 * np.sum([w for w, _ in parts], axis=0).reshape(n, n, 2, 2)
    weight[np.arange(n), np.arange(n)] = 0.0
    return PairFilters(inverse, weight, float(np.sum([d for _, d in parts])))


def _by_chunks(function: Callable[[slice], Result], array: Any) -> list[Result]:
    """Apply a function to chunks of the frequencies along the first axis of an array."""
    chunk = _CHUNK if module_of(array) is np else _CHUNK_OF_GPU
    return map_parts(function, [slice(start, start + chunk) for start in range(0, len(array), chunk)], array)


def filtered(spectra: Spectra, filters: PairFilters) -> Any:
    """``Q y``, shape (K, n, p), where the spectra are."""
    values = spectra.values
    result = module_of(values).empty_like(values)
    _, n, p = values.shape

    def some(rows: slice) -> None:
        block = values[rows]
        real = block.view(np.float32).reshape(len(block), n, 2 * p)
        result[rows] = (filters.inverse[rows] @ real).view(np.complex64).reshape(block.shape)

    _by_chunks(some, values)
    return result


def log_likelihood(spectra: Spectra, filters: PairFilters) -> float:
    """Log density of the spectra per patch."""
    explained = float(module_of(spectra.values).vdot(spectra.values, filtered(spectra, filters)).real)
    patches: int = spectra.values.shape[2]
    return -explained / patches - filters.log_determinant


def fitted(spectra: Spectra, coherence: Coherence, slab: Any) -> Coherence:
    """Fit signal and view factors to the products of neighbouring views.

    Parameters
    ----------
    spectra
        Of patches that are about aligned.
    coherence
        Its thickness is kept.
    slab
        From `slab_coherence` for this thickness.
    """
    xp = module_of(spectra.values)
    n_k, n, p = spectra.values.shape
    first, second = np.array([(i, i + step) for step in _NEIGHBOURS for i in range(n - step)]).T
    seen = to_host(xp.abs(spectra.values).max(axis=0) > 0)
    both = np.maximum((seen[first] & seen[second]).sum(axis=1), 1).astype(np.float32)

    def product(part: Any) -> Any:
        one, other = (spectra.values[:, as_index(of[part], spectra.values)] for of in (first, second))
        return (one.real * other.real + one.imag * other.imag).sum(axis=-1).T

    measured = stack_some(product, len(first), spectra.values, 32.0 * n_k * p) / both[:, None]
    known = np.ascontiguousarray(to_host(slab[:, xp.asarray(first), xp.asarray(second)]).T)
    frequency = np.maximum(spectra.raw_frequency[:, first], spectra.raw_frequency[:, second]).T.copy()
    good = (frequency < spectra.highest) & (known > _LEAST_COHERENCE)
    ring_of = frequency * ((_RINGS - 1) / spectra.highest)
    low = np.minimum(ring_of.astype(np.intp), _RINGS - 2)
    part = ring_of - low
    factor = coherence.view_factor.copy()
    signal = coherence.signal
    for _ in range(_SWEEPS):
        both = np.sqrt(factor[first] * factor[second])[:, None]
        scale = known * both
        top = np.zeros(_RINGS)
        bottom = np.full(_RINGS, 1e-9)
        for index, share in ((low, 1.0 - part), (low + 1, part)):
            index, weight = index[good], (share * scale)[good]
            top += np.bincount(index, weight * measured[good], _RINGS)
            bottom += np.bincount(index, weight * scale[good], _RINGS)
        signal = np.clip(top / bottom, 0.0, 1.0)
        signal = np.convolve(np.pad(signal, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
        expected = np.where(good, known * np.interp(frequency, np.linspace(0, spectra.highest, _RINGS), signal), 0.0)
        numerator, denominator = (expected * measured).sum(axis=1), (expected**2).sum(axis=1)
        above = np.bincount(first, numerator, n) + np.bincount(second, numerator, n)
        below = np.bincount(first, denominator, n) + np.bincount(second, denominator, n)
        ratio = np.maximum(above, 1e-6) / np.maximum(below, 1e-9)
        factor = np.clip(np.sqrt(factor) * ratio / np.sqrt(np.maximum(factor, 1e-3)), *_VIEW_FACTORS)
        factor = factor / np.median(factor)
    return coherence.replace(signal=signal, view_factor=factor)
