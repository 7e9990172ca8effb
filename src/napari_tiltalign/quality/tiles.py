"""How alike two images of the same thing are, tile by tile, and how far one is displaced against the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.prepare import Image

TILE_PX = 48
"""Edge of a tile, working pixels."""

_BAND_PER_PX = (0.03, 0.25)
"""Spatial frequencies compared, per working pixel: coarser ones are background, finer ones noise and interpolation."""
_EDGE_PER_PX = 0.008
_RINGS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """How alike two images are.

    Attributes
    ----------
    correlation
        Shape (k,): normalised correlation of every tile that was compared, without displacement.
    offset_yx_px
        Shape (2,): displacement of the first image against the second at which the tiles together correlate best.
    significance
        How far that correlation stands out of those at other displacements, robust standard deviations.
    """

    correlation: FloatArray
    offset_yx_px: FloatArray
    significance: float

    @property
    def mean(self) -> float:
        """Mean correlation of the tiles; NaN without tiles."""
        return float(self.correlation.mean()) if self.correlation.size else float("nan")


_NO_TILES = Likeness(np.zeros(0), np.full(2, np.nan), 0.0)


def band_passed(image: Image) -> Image:
    """Return what an image shows in the band compared, every spatial frequency with equal power."""
    shape = image.shape
    spectrum = fft.rfft2(image)
    k = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1]))
    ring = np.minimum((k * 2 * _RINGS).astype(int), _RINGS)
    total = np.bincount(ring.ravel(), (np.abs(spectrum) ** 2).ravel(), _RINGS + 1)
    power: FloatArray = total / np.maximum(np.bincount(ring.ravel(), minlength=_RINGS + 1), 1)
    amplitude = np.sqrt(np.maximum(power, 1e-6 * power.max() + 1e-30))[ring]
    band = _step(k - _BAND_PER_PX[0]) * _step(_BAND_PER_PX[1] - k)
    passed: Image = fft.irfft2(spectrum * (band / amplitude), shape)
    return passed.astype(np.float32, copy=False) * np.float32(np.sqrt(passed.size))


def _step(distance: FloatArray) -> FloatArray:
    """From 0 to 1 where the distance passes 0."""
    smooth: FloatArray = 1.0 / (1.0 + np.exp(-np.clip(distance / (_EDGE_PER_PX / 4.0), -40.0, 40.0)))
    return smooth


def tile_corners(shape_yx: tuple[int, int], tile: int = TILE_PX) -> NDArray[np.int64]:
    """First row and column of tiles that cover an image evenly, half overlapping; shape (k, 2)."""
    starts = []
    for size in shape_yx:
        free = max(size - tile, 0)
        count = max(1, int(np.ceil(free / (tile / 2.0))) + 1)
        starts.append(np.round(np.linspace(0, free, count)).astype(np.int64))
    return np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 2)


def likeness(one: Image, other: Image, corners: NDArray[np.int64], tile: int = TILE_PX) -> Likeness:
    """Compare two images tile by tile.

    Parameters
    ----------
    one, other
        Shape (y, x), both through `band_passed`.
    corners
        Shape (k, 2): first row and column of the tiles to compare.
    tile
        Edge of a tile, pixels; an image that is smaller is one tile along that axis.
    """
    if not len(corners):
        return _NO_TILES
    edge = tuple(min(tile, size) for size in one.shape)
    window = np.outer(*(np.sin(np.pi * (np.arange(size) + 0.5) / size) for size in edge)).astype(np.float32)
    pair = [np.stack([image[y : y + edge[0], x : x + edge[1]] * window for y, x in corners]) for image in (one, other)]
    norms = np.sqrt((pair[0] ** 2).sum(axis=(1, 2)) * (pair[1] ** 2).sum(axis=(1, 2)))
    seen = norms > 1e-6 * max(float(norms.max()), 1e-30)
    if not seen.any():
        return _NO_TILES
    first, second, norms = pair[0][seen], pair[1][seen], norms[seen]
    correlation = (first * second).sum(axis=(1, 2)) / norms
    spectra = fft.rfft2(first) * np.conj(fft.rfft2(second)) / norms[:, None, None]
    surface = fft.irfft2(spectra.sum(axis=0), edge)
    spread = 1.4826 * float(np.median(np.abs(surface - np.median(surface))))
    significance = float(surface.max()) / max(spread, 1e-30)
    return Likeness(correlation.astype(np.float64), _peak(surface), significance)


def _peak(surface: FloatArray) -> FloatArray:
    """Displacement of the highest value of a correlation of two tiles, by a parabola through its neighbours."""
    rows, columns = surface.shape
    r, c = np.unravel_index(int(np.argmax(surface)), surface.shape)
    offset = []
    for at, size, line in ((int(r), rows, surface[:, c]), (int(c), columns, surface[r])):
        before, top, after = line[at - 1], line[at], line[(at + 1) % size]
        curvature = before + after - 2.0 * top
        fine = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
        offset.append((at + size // 2) % size - size // 2 + fine)
    return np.array(offset)
