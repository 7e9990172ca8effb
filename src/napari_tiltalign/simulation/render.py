"""Draw balls as projected thickness.

A ball shows ``2 sqrt(R^2 - r^2)`` of matter at distance r from its centre. Gold has sharp edges, so it is averaged over
the area of every pixel; then its centre of mass is its position to a few thousandths of a pixel. Other matter gets a
ball that is dense in the middle and thin at its edge, ``1 - (r/R)^2``, which needs no averaging.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray

SUBSAMPLES = 4
"""Samples along each axis of a pixel for sharp balls."""


def add_soft_balls(
    thickness: NDArray[np.float32], centre_yx_px: FloatArray, radius_px: FloatArray, density: FloatArray
) -> None:
    """Add balls with soft edges to a map of projected thickness.

    Parameters
    ----------
    thickness
        Shape (rows, columns), in pixels of matter; changed in place.
    centre_yx_px
        Shape (p, 2): pixel index of the centres.
    radius_px, density
        Shape (p,).
    """
    _add_soft(thickness, centre_yx_px, radius_px, density)


def add_sharp_balls(
    thickness: NDArray[np.float32], centre_yx_px: FloatArray, radius_px: FloatArray, density: FloatArray
) -> None:
    """Add balls with sharp edges, averaged over the area of every pixel; parameters as for `add_soft_balls`."""
    _add_sharp(thickness, centre_yx_px, radius_px, density, SUBSAMPLES)


def _soft_kernel(thickness: Any, centre: Any, radius: Any, density: Any) -> None:
    rows, columns = thickness.shape
    for p in range(len(radius)):
        y, x, r = centre[p, 0], centre[p, 1], radius[p]
        scale = density[p] * 4.0 / 3.0 * r
        for i in range(max(0, int(np.ceil(y - r))), min(rows, int(np.floor(y + r)) + 1)):
            for j in range(max(0, int(np.ceil(x - r))), min(columns, int(np.floor(x + r)) + 1)):
                inside = 1.0 - ((i - y) ** 2 + (j - x) ** 2) / (r * r)
                if inside > 0:
                    thickness[i, j] += scale * inside * np.sqrt(inside)


def _sharp_kernel(thickness: Any, centre: Any, radius: Any, density: Any, subsamples: int) -> None:
    rows, columns = thickness.shape
    for p in range(len(radius)):
        y, x, r = centre[p, 0], centre[p, 1], radius[p]
        scale = density[p] * 2.0 / subsamples**2
        for i in range(max(0, int(np.floor(y - r))), min(rows, int(np.ceil(y + r)) + 1)):
            for j in range(max(0, int(np.floor(x - r))), min(columns, int(np.ceil(x + r)) + 1)):
                total = 0.0
                for a in range(subsamples):
                    dy = i + (a + 0.5) / subsamples - 0.5 - y
                    for b in range(subsamples):
                        dx = j + (b + 0.5) / subsamples - 0.5 - x
                        total += np.sqrt(max(r * r - dy * dy - dx * dx, 0.0))
                thickness[i, j] += scale * total


_add_soft = numba.njit(_soft_kernel, nogil=True, cache=True)
_add_sharp = numba.njit(_sharp_kernel, nogil=True, cache=True)
