"""Sample tiles of the specimen plane out of images, by cubic B-splines."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.arrays import as_index, map_some, module_of, transforms_of
from napari_tiltalign.images.flat import Grid
from napari_tiltalign.images.prepare import Image, Mask


def hann_window(size: int) -> Image:
    """Square Hann window of mean square 1, so that white noise of variance 1 keeps its power."""
    profile = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    window = np.outer(profile, profile)
    normalised: Image = (window / np.sqrt(np.mean(window**2))).astype(np.float32)
    return normalised


def sample_tiles(
    coefficients: Image,
    mask: Mask,
    grid: Grid,
    centres_yx_angst: FloatArray,
    matrix_yx: FloatArray,
    step_angst: float,
    window: Image,
    out: Image | None = None,
) -> tuple[Image, FloatArray]:
    """Cut square tiles of the specimen plane out of one image.

    Parameters
    ----------
    coefficients, mask, grid
        One image: B-spline coefficients (`images.flat.spline_coefficients`), where it is clear, and where its samples
        lie. The mask may be on a finer grid that covers the same area.
    centres_yx_angst
        Shape (p, 2): where the image sees the centres of the tiles, from the image centre.
    matrix_yx
        Shape (2, 2): takes a step (y, x) in the specimen plane to a step in the image.
    step_angst
        Distance of the samples of a tile, in the specimen plane.
    window
        Shape (w, w): what the samples are multiplied with.
    out
        Shape (p, w, w), float32: where to put the tiles, if memory for them is there.

    Returns
    -------
    tiles, coverage
        Shape (p, w, w), 0 where the image shows nothing; and (p,), the part of the window's energy that it shows.
    """
    size = window.shape[0]
    tiles = np.empty((len(centres_yx_angst), size, size), np.float32) if out is None else out
    coverage = np.empty(len(centres_yx_angst))
    start = centres_yx_angst / grid.pitch_yx_angst + grid.origin_yx
    step = matrix_yx * step_angst / grid.pitch_yx_angst[:, None]
    _sample(coefficients, mask, start, step, window, tiles, coverage)
    return tiles, coverage


BYTES_PER_SAMPLE = 120.0
"""Of memory that `sample_tiles_together` takes for intermediate results, for every sample of a tile."""


def sample_tiles_together(
    coefficients: Any,
    masks: Any,
    grid: Grid,
    centres_yx_angst: FloatArray,
    matrices_yx: FloatArray,
    step_angst: float,
    window: Image,
) -> tuple[Any, Any]:
    """Cut tiles out of m images at once: `sample_tiles` for the GPU, where one image would be too little work.

    Parameters
    ----------
    coefficients, masks
        Shape (m, rows, columns) each, on the GPU (or both on the CPU, where it gives the same slowly).
    centres_yx_angst, matrices_yx
        Shapes (m, p, 2) and (m, 2, 2).
    grid, step_angst, window
        See `sample_tiles`.

    Returns
    -------
    tiles, coverage
        Shapes (m, p, w, w) and (m, p), where the coefficients are.
    """
    xp = module_of(coefficients)
    views, rows, columns = coefficients.shape
    half = (window.shape[0] - 1) / 2.0
    place = xp.asarray(np.arange(window.shape[0]) - half)
    start = xp.asarray(centres_yx_angst / grid.pitch_yx_angst + grid.origin_yx)[:, :, None, None]
    step = xp.asarray(matrices_yx * step_angst / grid.pitch_yx_angst[:, None])[:, :, :, None, None, None]
    down, right = place[:, None], place[None]
    y = start[..., 0] + step[:, 0, 0] * down + step[:, 0, 1] * right
    x = start[..., 1] + step[:, 1, 0] * down + step[:, 1, 1] * right
    shown = (y >= 1) & (x >= 1) & (y < rows - 3) & (x < columns - 3)
    y, x = xp.where(shown, y, 1.0), xp.where(shown, x, 1.0)
    number = xp.arange(views)[:, None, None, None]
    mask_rows, mask_columns = masks.shape[1:]
    mask_y, mask_x = (y * (mask_rows / rows)).astype(np.int64), (x * (mask_columns / columns)).astype(np.int64)
    shown &= xp.take(masks.ravel(), (number * mask_rows + mask_y) * mask_columns + mask_x)
    i, j = y.astype(np.int64), x.astype(np.int64)
    here = (number * rows + i - 1) * columns + j - 1
    along_x, along_y = _weights_of((x - j).astype(np.float32)), _weights_of((y - i).astype(np.float32))
    flat = coefficients.ravel()
    tiles = xp.zeros(y.shape, np.float32)
    for k, down_weight in enumerate(along_y):
        line = xp.zeros(y.shape, np.float32)
        for m, right_weight in enumerate(along_x):
            line += xp.take(flat, here + (k * columns + m)) * right_weight
        tiles += line * down_weight
    weight = xp.asarray(window) * shown
    energy = float(np.sum(window * window))
    return tiles * weight, xp.square(weight).sum(axis=(2, 3), dtype=np.float64) / energy


def _weights_of(part: Any) -> tuple[Any, Any, Any, Any]:
    """Cubic B-spline weights of four neighbours, `part` of a sample beyond the second."""
    rest = np.float32(1.0) - part
    first = rest * rest * rest / np.float32(6.0)
    last = part * part * part / np.float32(6.0)
    second = (np.float32(4.0) - np.float32(6.0) * part * part + np.float32(3.0) * part * part * part) / np.float32(6.0)
    return first, second, np.float32(1.0) - first - second - last, last


def band_of_tiles(
    tiles: Any, views: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp], gain: FloatArray
) -> Any:
    """Fourier coefficients of tiles at some frequencies, on the CPU or the GPU.

    Parameters
    ----------
    tiles
        Shape (m, p, w, w).
    views
        Shape (n,): which of the m views are wanted.
    rows, columns
        Shape (k,): indices of the frequencies into ``rfft2`` of a tile.
    gain
        Shape (n, p): what the coefficients of a tile are multiplied with.

    Returns
    -------
    array
        Shape (k, n, p), complex64.
    """
    xp, transforms = module_of(tiles), transforms_of(tiles)
    n, (_, p, size, _) = len(views), tiles.shape
    values = xp.empty((len(rows), n, p), np.complex64)
    rows, columns, factor = (xp.asarray(of) for of in (rows, columns, gain.astype(np.float32)))

    def transform(part: Any) -> None:
        view = as_index(views[part], tiles)
        spectrum = transforms.rfft2(tiles[view])[..., rows, columns] * factor[part][..., None]
        values[:, part] = xp.moveaxis(spectrum, -1, 0)

    map_some(transform, n, tiles, 16.0 * p * size**2)
    return values


_weights = numba.njit(_weights_of, cache=True, nogil=True, fastmath=True)
"""The same for one sample, compiled."""


@numba.njit(cache=True, nogil=True, fastmath=True)
def _sample(image, mask, start, step, window, tiles, coverage):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill tiles row by row: first where its samples lie, which the compiler turns into vector code, then the sums."""
    size = window.shape[0]
    half = (size - 1) / 2.0
    energy = np.sum(window * window)
    corner, parts, weight = np.empty((2, size), np.uint64), np.empty((8, size), np.float32), np.empty(size, np.float32)
    for p in range(start.shape[0]):
        seen = 0.0
        for a in range(size):
            y = start[p, 0] + step[0, 0] * (a - half) - step[0, 1] * half
            x = start[p, 1] + step[1, 0] * (a - half) - step[1, 1] * half
            _places(image.shape, (y, x), step[:, 1], window[a], corner, parts, weight)
            seen += _sums(image, mask, corner, parts, weight, tiles[p, a])
        coverage[p] = seen / energy


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _places(shape, start, step, window, corner, parts, weight):  # type: ignore[no-untyped-def]  # pragma: no cover
    """First coefficients of a row of samples, weights of four along y and four along x; outside they weigh nothing.

    Inlined, because vector code is only made where the compiler sees that the arrays do not overlap.
    """
    for b in range(len(window)):
        y, x = start[0] + step[0] * b, start[1] + step[1] * b
        inside = (y >= 1) & (x >= 1) & (y < shape[0] - 3) & (x < shape[1] - 3)
        y, x = y if inside else 1.0, x if inside else 1.0
        i, j = np.int32(y), np.int32(x)
        parts[0, b], parts[1, b], parts[2, b], parts[3, b] = _weights(np.float32(y - i))
        parts[4, b], parts[5, b], parts[6, b], parts[7, b] = _weights(np.float32(x - j))
        corner[0, b], corner[1, b] = i - 1, j - 1
        weight[b] = window[b] if inside else 0


@numba.njit(cache=True, nogil=True, fastmath=True)
def _sums(image, mask, corner, parts, weight, row):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    """Weighted samples of a row, 0 where the mask says so; return the sum of the squared weights of the others."""
    to_mask_y, to_mask_x = mask.shape[0] / image.shape[0], mask.shape[1] / image.shape[1]
    seen = 0.0
    for b in range(len(row)):
        i, j = corner[0, b], corner[1, b]
        if not mask[np.uint64((i + 1) * to_mask_y), np.uint64((j + 1) * to_mask_x)]:
            row[b] = 0
            continue
        total = np.float32(0)
        for d in range(4):
            line = (
                image[i + d, j] * parts[4, b]
                + image[i + d, j + 1] * parts[5, b]
                + image[i + d, j + 2] * parts[6, b]
                + image[i + d, j + 3] * parts[7, b]
            )
            total += parts[d, b] * line
        row[b] = weight[b] * total
        seen += weight[b] * weight[b]
    return seen
