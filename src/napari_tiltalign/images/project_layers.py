"""Back-projection and re-projection by whole layers at once, for arrays on the GPU (`images.project`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.arrays import map_some, module_of

_BYTES_PER_VOXEL = 80.0
"""Of memory that a GPU needs for intermediate results, for every voxel of a layer."""

EDGE_PX = 1.001
"""Interpolation needs the next pixel; the thousandth keeps rounding from asking for one beyond it."""


def back_project_together(images: Any, maps: FloatArray, shape_zyx: tuple[int, int, int]) -> Any:
    """`project.back_project` by whole layers, for the GPU.

    Parameters
    ----------
    images, maps, shape_zyx
        As there, the images on the GPU.
    """
    xp = module_of(images)
    volume = xp.zeros(shape_zyx, np.float32)
    layers, lines, voxels = shape_zyx
    y, x = xp.arange(lines)[:, None], xp.arange(voxels)

    def some(part: slice) -> None:
        z = xp.arange(part.start, part.stop)[:, None, None]
        for view, (row, column) in enumerate(maps.tolist()):
            places = (_sum32(of[3] + of[0] * z + of[1] * y, of[2] * x) for of in (row, column))
            volume[part] += _interpolated(images[view], 0, images.shape[1:], *places)

    map_some(some, layers, volume, _BYTES_PER_VOXEL * lines * voxels)
    return volume


def re_project_together(volume: Any, rays: FloatArray, image_shape_yx: tuple[int, int]) -> Any:
    """`project.re_project` by whole layers, for the GPU.

    Parameters
    ----------
    volume
        As there, on the GPU.
    rays
        Shape (n, 3, 4): voxel (y, x) and path length from ``(row, column, z, 1)``; the last row is constant.
    image_shape_yx
        As there.
    """
    xp = module_of(volume)
    rows, columns = image_shape_yx
    images = xp.zeros((len(rays), rows, columns), np.float32)
    r, c = xp.arange(rows)[:, None], xp.arange(columns)
    layers, lines, voxels = volume.shape

    def some(part: slice) -> None:
        z = xp.arange(part.start, part.stop)[:, None, None]
        for view, (line, voxel, path) in enumerate(rays.tolist()):
            places = (_sum32(of[3] + of[2] * z + of[0] * r, of[1] * c) for of in (line, voxel))
            seen = _interpolated(volume, z * (lines * voxels), (lines, voxels), *places)
            images[view] += path[3] * seen.sum(axis=0)

    map_some(some, layers, volume, _BYTES_PER_VOXEL * rows * columns)
    return images


def _sum32(one: Any, other: Any) -> Any:
    """Sum in single precision of two arrays that are much smaller than it: places to a ten thousandth of a pixel."""
    return one.astype(np.float32) + other.astype(np.float32)


def _interpolated(images: Any, first: Any, shape_yx: tuple[int, int], row: Any, column: Any) -> Any:
    """What images show at places in them (linear interpolation), 0 outside.

    Parameters
    ----------
    images
        One or many of shape `shape_yx`.
    first
        Number of values before the first one of the image of a place.
    row, column
        Places, float32.
    """
    xp = module_of(images)
    rows, columns = shape_yx
    inside = (row >= 0) & (row < rows - EDGE_PX) & (column >= 0) & (column < columns - EDGE_PX)
    row, column = xp.where(inside, row, 0), xp.where(inside, column, 0)
    r, c = row.astype(np.int64), column.astype(np.int64)
    down, right = (row - r).astype(np.float32), (column - c).astype(np.float32)
    flat, here = images.ravel(), first + r * columns + c
    upper, lower = (
        (1 - right) * xp.take(flat, here + below) + right * xp.take(flat, here + (below + 1)) for below in (0, columns)
    )
    return (upper + down * (lower - upper)) * inside
