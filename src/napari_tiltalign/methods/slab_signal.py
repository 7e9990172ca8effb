"""How much of the power of tiles is signal: estimated from how far views near each other agree."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.arrays import to_host
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.methods.slab_model import Sight, SlabModel
from napari_tiltalign.methods.slab_tiles import TileSpectra

_RINGS = 11
_NEIGHBOURS = 3
_LEAST_COHERENCE = 0.3
_ALTERNATIONS = 4
_FREQUENCIES_TO_FIT = 600
_LEAST_EVIDENCE = 3.0


def fit_signal(spectra: TileSpectra, seen: Sight, model: SlabModel) -> SlabModel:
    """Estimate how much of the power is signal, by frequency, view and tile.

    The products of views that are near in tilt, ``Re(y_i conj(y_j)) = C_ij s(f) sqrt(c_i c_j) e_p``, are fitted by
    least squares, in turns for s, c and e. Every so many of the frequencies are enough.
    """
    every = max(1, len(spectra.frequency_yx) // _FREQUENCIES_TO_FIT)
    pairs = _neighbour_pairs(spectra, seen, slice(None, None, every))
    highest = spectra.scale.highest
    ring = np.linspace(0.0, highest, _RINGS)
    factor = model.view_factor.copy()
    signal = np.full(_RINGS, 0.5)
    for _ in range(_ALTERNATIONS):
        signal = _signal_by_ring(pairs, ring, factor)
        factor = _view_factors(pairs, ring, signal, len(factor))
    expected = [
        c * np.interp(f, ring, signal) * np.sqrt(factor[i] * factor[j])
        for i, j, f, c, _, _ in pairs
    ]  # fmt: skip
    top = np.sum([e @ tiles for e, (*_, tiles) in zip(expected, pairs, strict=True)], axis=0)
    shown = spectra.shown.astype(np.float64)
    bottom = np.sum([float(e @ e) * shown[i] * shown[j] for e, (i, j, *_) in zip(expected, pairs, strict=True)], axis=0)
    tile_factor = np.clip(top / (bottom + 1e-9), 0.02, 2.0)
    return model.replace(ring_per_angst=ring, signal=signal, view_factor=factor, tile_factor=tile_factor)


_Pair = tuple[int, int, FloatArray, FloatArray, FloatArray, FloatArray]
"""Views i and j; at the frequencies used: raw frequency, coherence, mean product over tiles, products (k, p)."""


def _neighbour_pairs(spectra: TileSpectra, seen: Sight, frequencies: slice) -> list[_Pair]:
    n = spectra.values.shape[1]
    column, raw_per_angst = (of[frequencies] for of in (seen.column, seen.raw_per_angst))
    values = to_host(spectra.values[frequencies])

    def one(pair: tuple[int, int]) -> _Pair:
        i, j = pair
        raw = np.maximum(raw_per_angst[:, i], raw_per_angst[:, j])
        coherence = seen.coherence[column, i, j]
        used = (raw < spectra.scale.highest) & (coherence > _LEAST_COHERENCE)
        both = np.flatnonzero(spectra.shown[i] & spectra.shown[j])
        first, second = (values[:, view][np.ix_(used, both)] for view in (i, j))
        product = np.zeros((int(used.sum()), spectra.shown.shape[1]), np.float32)
        product[:, both] = first.real * second.real + first.imag * second.imag
        mean = product.sum(axis=1, dtype=np.float64) / max(len(both), 1)
        return i, j, raw[used], coherence[used].astype(np.float64), mean, product

    return map_views(one, [(i, i + step) for step in range(1, _NEIGHBOURS + 1) for i in range(n - step)])


def _signal_by_ring(pairs: list[_Pair], ring: FloatArray, factor: FloatArray) -> FloatArray:
    top, bottom = np.zeros(len(ring)), np.zeros(len(ring))
    for i, j, raw, coherence, mean, _ in pairs:
        index = np.minimum((raw / ring[1] + 0.5).astype(int), len(ring) - 1)
        weight = coherence * np.sqrt(factor[i] * factor[j])
        top += np.bincount(index, weight * mean, len(ring))
        bottom += np.bincount(index, weight * weight, len(ring))
    known = bottom > _LEAST_EVIDENCE
    if not known.any():
        return np.full(len(ring), 0.003)
    signal: FloatArray = np.clip(np.interp(ring, ring[known], top[known] / bottom[known]), 0.003, 0.95)
    return signal


def _view_factors(pairs: list[_Pair], ring: FloatArray, signal: FloatArray, n_views: int) -> FloatArray:
    top, bottom = np.zeros(n_views), np.zeros(n_views)
    for i, j, raw, coherence, mean, _ in pairs:
        expected = coherence * np.interp(raw, ring, signal)
        for view in (i, j):
            top[view] += float(expected @ mean)
            bottom[view] += float(expected @ expected)
    with_neighbours = np.maximum(top, 1e-6) / np.maximum(bottom, 1e-9)  # about the mean of sqrt(c_i c_j)
    new = np.clip(with_neighbours, 0.05, 1.6)
    scaled: FloatArray = new / np.median(new)
    return scaled
