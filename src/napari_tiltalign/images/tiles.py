"""Sample tiles of the specimen plane out of images, by cubic B-splines."""

from __future__ import annotations

import numba
import numpy as np

from napari_tiltalign.geometry import FloatArray
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

    Returns
    -------
    tiles, coverage
        Shape (p, w, w), 0 where the image shows nothing; and (p,), the part of the window's energy that it shows.
    """
    size = window.shape[0]
    tiles = np.empty((len(centres_yx_angst), size, size), np.float32)
    coverage = np.empty(len(centres_yx_angst))
    start = centres_yx_angst / grid.pitch_yx_angst + grid.origin_yx
    step = matrix_yx * step_angst / grid.pitch_yx_angst[:, None]
    _sample(coefficients, mask, start, step, window, tiles, coverage)
    return tiles, coverage


@numba.njit(cache=True, nogil=True, fastmath=True)
def _weights(t):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    s = np.float32(1.0) - t
    first = s * s * s / np.float32(6.0)
    last = t * t * t / np.float32(6.0)
    second = (np.float32(4.0) - np.float32(6.0) * t * t + np.float32(3.0) * t * t * t) / np.float32(6.0)
    return first, second, np.float32(1.0) - first - second - last, last


@numba.njit(cache=True, nogil=True, fastmath=True)
def _sample(image, mask, start, step, window, tiles, coverage):  # type: ignore[no-untyped-def]  # pragma: no cover
    rows, columns = image.shape
    to_mask_y, to_mask_x = mask.shape[0] / rows, mask.shape[1] / columns
    size = window.shape[0]
    half = (size - 1) / 2.0
    energy = np.sum(window * window)
    for p in range(start.shape[0]):
        seen = 0.0
        for a in range(size):
            for b in range(size):
                dy, dx = a - half, b - half
                y = start[p, 0] + step[0, 0] * dy + step[0, 1] * dx
                x = start[p, 1] + step[1, 0] * dy + step[1, 1] * dx
                if y < 1 or x < 1 or y >= rows - 3 or x >= columns - 3:
                    tiles[p, a, b] = 0
                    continue
                weight = window[a, b]
                i, j = int(y), int(x)
                if not mask[int(y * to_mask_y), int(x * to_mask_x)]:
                    tiles[p, a, b] = 0
                    continue
                u0, u1, u2, u3 = _weights(np.float32(x - j))
                v0, v1, v2, v3 = _weights(np.float32(y - i))
                r = image[i - 1 : i + 3, j - 1 : j + 3]
                s0 = r[0, 0] * u0 + r[0, 1] * u1 + r[0, 2] * u2 + r[0, 3] * u3
                s1 = r[1, 0] * u0 + r[1, 1] * u1 + r[1, 2] * u2 + r[1, 3] * u3
                s2 = r[2, 0] * u0 + r[2, 1] * u1 + r[2, 2] * u2 + r[2, 3] * u3
                s3 = r[3, 0] * u0 + r[3, 1] * u1 + r[3, 2] * u2 + r[3, 3] * u3
                tiles[p, a, b] = weight * (s0 * v0 + s1 * v1 + s2 * v2 + s3 * v3)
                seen += weight * weight
        coverage[p] = seen / energy
