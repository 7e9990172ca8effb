"""Correlation: matched filters with peaks to a fraction of a pixel, and the shift between two images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import cKDTree

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.arrays import module_of, to_host
from napari_tiltalign.images.prepare import Image


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Local maxima of a correlation map.

    Attributes
    ----------
    position_yx
        Shape (k, 2): pixel index, sub-pixel.
    height
        Shape (k,): value of the matched filter.
    similarity
        Shape (k,): normalised correlation coefficient, -1 to 1.
    """

    position_yx: FloatArray
    height: FloatArray
    similarity: FloatArray

    def __len__(self) -> int:
        return len(self.height)

    def take(self, keep: NDArray[np.generic]) -> Peaks:
        """Return some of the peaks (mask or indices)."""
        return Peaks(self.position_yx[keep], self.height[keep], self.similarity[keep])


def matched_filter(image: Image, template: Image, support: Image) -> tuple[Image, Image]:
    """Correlate an image with a template.

    Parameters
    ----------
    image
        Shape (y, x).
    template
        Odd square shape, zero mean over the support and unit norm.
    support
        The same shape: 1 where the template counts.

    Returns
    -------
    response, similarity
        Matched filter (least-squares amplitude of the template) and normalised correlation coefficient, shape (y, x).
    """
    shape = tuple(fft.next_fast_len(a + b, real=True) for a, b in zip(image.shape, template.shape, strict=True))
    half = template.shape[0] // 2
    window = (..., slice(half, half + image.shape[0]), slice(half, half + image.shape[1]))
    spectra = fft.rfft2(np.stack([image, image * image]), shape)
    template_spectrum, support_spectrum = (
        _spectrum(np.asarray(part, np.float32).tobytes(), part.shape, shape) for part in (template, support)
    )
    response = fft.irfft2(spectra[0] * template_spectrum, shape)[window]
    sums = fft.irfft2(spectra * support_spectrum, shape)[window]
    energy = np.maximum(sums[1] - sums[0] ** 2 / support.sum(), 1e-9)
    return response, response / np.sqrt(energy)


@lru_cache(maxsize=4)
def _spectrum(pixels: bytes, kernel_shape: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Spectrum of a float32 kernel turned by 180 degrees; the same one serves all views of a series."""
    kernel = np.frombuffer(pixels, np.float32).reshape(kernel_shape)
    spectrum: NDArray[np.complex64] = fft.rfft2(kernel[::-1, ::-1], shape)
    return spectrum


def find_peaks(
    response: Image, similarity: Image, *, lowest_response: float, lowest_similarity: float, separation_px: float,
    edge_px: int, most: int,
) -> Peaks:  # fmt: skip
    """Local maxima of a matched filter that stand out, highest first.

    Parameters
    ----------
    response, similarity
        From `matched_filter`.
    lowest_response, lowest_similarity
        What a maximum must exceed.
    separation_px
        Of two maxima nearer than this only the higher counts.
    edge_px
        Width of the edge in which none is taken.
    most
        How many to return at most.
    """
    edge = max(edge_px, 1)
    inner = response[edge:-edge, edge:-edge]
    good = (inner > lowest_response) & (similarity[edge:-edge, edge:-edge] > lowest_similarity)
    rows, columns = (index + edge for index in np.nonzero(good))
    value = response[rows, columns]
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    top = np.ones(len(value), dtype=bool)
    for dy, dx in steps:
        top &= value >= response[rows + dy, columns + dx]
    rows, columns, value = rows[top], columns[top], value[top]
    order = np.argsort(-value, kind="stable")
    rows, columns, value = rows[order], columns[order], value[order]
    keep = _not_beside_a_higher_one(np.column_stack([rows, columns]), separation_px)[:most]
    rows, columns, value = rows[keep], columns[keep], value[keep]
    position = np.column_stack([rows, columns]) + parabola_offsets(response, rows, columns)
    return Peaks(position, value.astype(np.float64), similarity[rows, columns].astype(np.float64))


def _not_beside_a_higher_one(position_yx: NDArray[np.int64], separation_px: float) -> NDArray[np.intp]:
    """Indices of those that have no earlier (higher) one within the separation."""
    keep = np.ones(len(position_yx), dtype=bool)
    if len(position_yx) > 1:
        pairs = cKDTree(position_yx).query_pairs(separation_px, output_type="ndarray")
        keep[pairs.max(axis=1)] = False
    return np.flatnonzero(keep)


def parabola_offsets(surface: Image, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> FloatArray:
    """Offset (y, x) of the vertex of parabolas through each maximum and its neighbours, within +-0.7 pixel."""

    def vertex(before: FloatArray, after: FloatArray, peak: FloatArray) -> FloatArray:
        curvature = before + after - 2.0 * peak
        return np.clip((before - after) / (2.0 * np.where(curvature < 0, curvature, -np.inf)), -0.7, 0.7)

    peak = surface[rows, columns].astype(np.float64)
    return np.column_stack(
        [
            vertex(surface[rows - 1, columns].astype(float), surface[rows + 1, columns].astype(float), peak),
            vertex(surface[rows, columns - 1].astype(float), surface[rows, columns + 1].astype(float), peak),
        ]
    )


def highest_points(surfaces: Any) -> tuple[FloatArray, FloatArray]:
    """Where surfaces are highest, to a fraction of a sample, on the CPU or the GPU.

    Parameters
    ----------
    surfaces
        Shape (..., rows, columns).

    Returns
    -------
    place_yx, height
        Shapes (..., 2) and (...), on the CPU: index, and the highest sample. The vertex of a maximum at an edge is
        looked for one sample further inside.
    """
    xp = module_of(surfaces)
    *leading, rows, columns = surfaces.shape
    flat = surfaces.reshape(-1, rows * columns)
    top = xp.argmax(flat, axis=1)
    number = xp.arange(len(flat))
    height = to_host(flat[number, top])
    row, column = np.divmod(to_host(top), columns)
    row, column = np.clip(row, 1, rows - 2), np.clip(column, 1, columns - 2)
    steps = np.arange(-1, 2)
    around = (row[:, None] + steps)[:, :, None] * columns + (column[:, None] + steps)[:, None]
    near = to_host(flat[number[:, None], xp.asarray(around.reshape(-1, 9))]).reshape(-1, 3)
    middle = 3 * np.arange(len(flat)) + 1
    offset = parabola_offsets(near, middle, np.ones(len(flat), np.int64))
    place = np.column_stack([row, column]) + offset
    return place.reshape(*leading, 2), height.reshape(leading)


def spread_of(surfaces: Any) -> tuple[FloatArray, FloatArray]:
    """Median and robust standard deviation of surfaces (..., rows, columns), each of shape (...), on the CPU."""
    xp = module_of(surfaces)
    flat = surfaces.reshape(*surfaces.shape[:-2], -1)
    middle = xp.median(flat, axis=-1)
    apart = xp.median(xp.abs(flat - middle[..., None]), axis=-1)
    return to_host(middle).astype(np.float64), 1.4826 * to_host(apart).astype(np.float64)


def shift_between(reference: Image, moved: Image) -> tuple[FloatArray, float]:
    """Shift of one image against another, by cross-correlation.

    Parameters
    ----------
    reference, moved
        Same shape, zero mean, tapered to zero at the edges.

    Returns
    -------
    shift_yx, significance
        ``moved(p) ~ reference(p - shift)``, pixels, up to half the image; and the height of the peak over the rest of
        the correlation in standard deviations.
    """
    shape = [fft.next_fast_len(2 * size, real=True) for size in reference.shape]
    product = fft.rfft2(moved, shape) * np.conj(fft.rfft2(reference, shape))
    surface = fft.fftshift(fft.irfft2(product, shape))
    top = np.unravel_index(np.argmax(surface), surface.shape)
    row, column = (int(np.clip(index, 1, size - 2)) for index, size in zip(top, surface.shape, strict=True))
    offset = parabola_offsets(surface, np.array([row]), np.array([column]))[0]
    centre = np.array([size // 2 for size in shape])
    significance = (surface[row, column] - surface.mean()) / max(float(surface.std()), 1e-12)
    return np.array([row, column]) + offset - centre, float(significance)
