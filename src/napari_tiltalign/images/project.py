"""Back-projection of views into a volume, and re-projection of a volume, through the package's one projection model.

Neither resamples a view first: every voxel is looked up where the geometry says that it is seen, whatever the turn of
the axis, the magnification or a tilt about x. The weights of a weighted back-projection are those of Harauz and van
Heel ("Exact filters for general geometry three dimensional reconstruction", Optik 73, 146-156, 1986) for a slab of
finite thickness; the iterative reconstruction is SIRT (Gilbert, J. Theor. Biol. 36, 105-117, 1972).

All work is shared between threads by rows, and every value is added up in one order, so that the result does not
depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from napari_tiltalign.geometry import FloatArray, ViewGeometry, frozen_array
from napari_tiltalign.images.arrays import map_some, module_of, transforms_of
from napari_tiltalign.images.compute import available_cpus, map_views
from napari_tiltalign.images.project_layers import EDGE_PX, back_project_together, re_project_together
from napari_tiltalign.images.transform import centre_index

Images = NDArray[np.float32]
Volume = NDArray[np.float32]

_LEAST_OVERLAP = 1e-3
"""A frequency in which a view overlaps with nothing else is divided by its own weight alone, never by less."""

_AT_ONCE = 64
"""Interpolated at once, so that places and parts stay in the nearest cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The voxels of a reconstruction.

    Attributes
    ----------
    shape_zyx
        Number of voxels along each axis.
    voxel_angst
        Edge of a voxel, Angstrom.
    centre_zyx_angst
        Specimen point in the middle of the voxel of index ``N // 2``, Angstrom.
    """

    shape_zyx: tuple[int, int, int]
    voxel_angst: float
    centre_zyx_angst: FloatArray = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        object.__setattr__(self, "centre_zyx_angst", frozen_array(self.centre_zyx_angst))
        if min(self.shape_zyx) < 1 or not self.voxel_angst > 0 or self.centre_zyx_angst.shape != (3,):
            raise ValueError(f"a grid of {self.shape_zyx} voxels of {self.voxel_angst} Angstrom makes no sense")

    @property
    def n_voxels(self) -> int:
        """Number of voxels; the volume takes 4 bytes for each."""
        return int(np.prod(self.shape_zyx))

    def points_of(self, index_zyx: FloatArray) -> FloatArray:
        """Specimen points, Angstrom, of voxel indices; shape (..., 3)."""
        return (np.asarray(index_zyx) - self._middle) * self.voxel_angst + self.centre_zyx_angst

    def index_of(self, points_zyx_angst: FloatArray) -> FloatArray:
        """Voxel indices, not rounded, of specimen points; shape (..., 3)."""
        return (np.asarray(points_zyx_angst) - self.centre_zyx_angst) / self.voxel_angst + self._middle

    @property
    def _middle(self) -> FloatArray:
        return np.array(self.shape_zyx) // 2


def pixel_maps(
    geometry: ViewGeometry,
    grid: Grid,
    *,
    pixel_size_angst: float,
    image_shape_yx: tuple[int, int],
    binning: int = 1,
) -> FloatArray:
    """Where every view sees every voxel.

    Parameters
    ----------
    geometry
        The n views.
    grid
        The voxels.
    pixel_size_angst, image_shape_yx
        Of the full raw images.
    binning
        How much the images are binned (`images.prepare.bin_image`).

    Returns
    -------
    FloatArray
        Shape (n, 2, 4): index ``(row, column) = map @ (z, y, x, 1)`` in the binned image.
    """
    pixel_angst = pixel_size_angst * binning
    corners = grid.points_of(np.vstack([np.zeros(3), np.eye(3)]))
    seen = geometry.project(corners) / pixel_angst + centre_index(image_shape_yx, binning)
    maps: FloatArray = np.empty((len(geometry), 2, 4))
    maps[:, :, 3] = seen[:, 0]
    maps[:, :, :3] = np.swapaxes(seen[:, 1:] - seen[:, :1], 1, 2)
    return maps


def back_project(images: Any, maps: FloatArray, shape_zyx: tuple[int, int, int], *, workers: int = 0) -> Any:
    """Sum over the views of what each shows where it sees a voxel (linear interpolation; nothing outside a view).

    Parameters
    ----------
    images
        Shape (n, y, x), on the CPU or the GPU.
    maps
        From `pixel_maps`, shape (n, 2, 4).
    shape_zyx
        Shape of the volume.
    workers
        Threads; 0 takes one per core.

    Returns
    -------
    Volume
        Shape (z, y, x), where the images are. Besides it nothing large is made.
    """
    if module_of(images) is not np:
        return back_project_together(images, maps, shape_zyx)
    volume = np.zeros(shape_zyx, np.float32)
    images = np.ascontiguousarray(images, np.float32)

    def part(rows: tuple[int, int]) -> None:
        _back_project(images, maps, rows[0], rows[1], volume)

    map_views(part, _parts(shape_zyx[1], workers), workers)
    return volume


def re_project(volume: Any, maps: FloatArray, image_shape_yx: tuple[int, int], *, workers: int = 0) -> Any:
    """Line integrals through a volume, as the views see it.

    Parameters
    ----------
    volume
        Shape (z, y, x), on the CPU or the GPU.
    maps
        From `pixel_maps`, shape (n, 2, 4).
    image_shape_yx
        Shape of the (binned) images.
    workers
        Threads; 0 takes one per core.

    Returns
    -------
    Images
        Shape (n, y, x), where the volume is: integrals in units of a voxel's edge; a ray that leaves the volume adds
        nothing there.

    Raises
    ------
    ValueError
        If a view looks along the slab, so that rays do not cross its layers.
    """
    if module_of(volume) is not np:
        return re_project_together(volume, _ray_maps(maps), image_shape_yx)
    images = np.zeros((len(maps), *image_shape_yx), np.float32)
    volume = np.ascontiguousarray(volume, np.float32)
    inverses = _ray_maps(maps)
    jobs = [(i, first, last) for i in range(len(maps)) for first, last in _parts(image_shape_yx[0], workers)]

    def part(job: tuple[int, int, int]) -> None:
        view, first, last = job
        _re_project(volume, inverses[view], first, last, images[view])

    map_views(part, jobs, workers)
    return images


def _ray_maps(maps: FloatArray) -> FloatArray:
    """Matrices (n, 3, 4): voxel (y, x) and path length from ``(row, column, z, 1)``; the last row is constant."""
    plane = maps[:, :, 1:3]
    if (np.abs(np.linalg.det(plane)) < 1e-6).any():
        raise ValueError("a view sees the slab edge-on")
    inverse = np.linalg.inv(plane)
    rays = np.zeros((len(maps), 3, 4))
    rays[:, :2, :2] = inverse
    rays[:, :2, 2:] = -inverse @ maps[:, :, [0, 3]]
    rays[:, 2, 3] = np.sqrt(1.0 + (rays[:, :2, 2] ** 2).sum(axis=1))
    return rays


def slab_weights(
    geometry: ViewGeometry, image_shape_yx: tuple[int, int], thickness_px: float
) -> tuple[Images, tuple[int, int]]:
    """Fourier weights that make a back-projection of a slab into a reconstruction.

    Views overlap in Fourier space within the width that the finite thickness T of the slab gives every central
    section; the weight of view i at the frequency k across the tilt axis is (Harauz and van Heel 1986, equation 11,
    with the main lobe only) ``cos(a_i) / sum_j cos(a_j) max(0, sinc(T k sin(a_i - a_j)))``: the part of the slab's
    spectrum that the view alone stands for.

    Parameters
    ----------
    geometry
        The n views.
    image_shape_yx
        Shape of the (binned) images.
    thickness_px
        Thickness of the slab in pixels of these images.

    Returns
    -------
    weights, padded_shape
        Shape (n, y, x // 2 + 1), for ``rfft2`` of images padded to `padded_shape`.
    """
    rows, columns = (fft.next_fast_len(size + size // 8, real=True) for size in image_shape_yx)
    frequency_y, frequency_x = fft.fftfreq(rows), fft.rfftfreq(columns)
    tilt = np.deg2rad(geometry.y_tilt_deg)
    turn = np.deg2rad(geometry.z_rot_deg)
    table_step = 0.5 / 256
    table_k = np.arange(int(np.hypot(0.5, 0.5) / table_step) + 3) * table_step
    overlap = np.sinc(thickness_px * table_k[:, None, None] * np.sin(tilt[:, None] - tilt))
    share = np.maximum((np.cos(tilt) * np.maximum(overlap, 0.0)).sum(axis=2), _LEAST_OVERLAP)
    table = np.cos(tilt) / share
    weights = np.empty((len(tilt), rows, len(frequency_x)), np.float32)
    for view in range(len(tilt)):
        across = np.abs(np.cos(turn[view]) * frequency_x + np.sin(turn[view]) * frequency_y[:, None])
        weights[view] = np.interp(across, table_k, table[:, view])
    return weights, (rows, columns)


def weighted_views(images: Any, geometry: ViewGeometry, thickness_px: float, *, workers: int = 0) -> Any:
    """Apply `slab_weights` to views; shape (n, y, x) in and out. The images should fade to zero at their edges."""
    xp, transforms = module_of(images), transforms_of(images)
    shape = images.shape[1:]
    weights, padded = slab_weights(geometry, shape, thickness_px)
    weighted = xp.empty_like(images, dtype=np.float32)

    def some(view: Any) -> None:
        spectrum = transforms.rfft2(images[view], padded) * xp.asarray(weights[view])
        weighted[view] = transforms.irfft2(spectrum, padded)[..., : shape[0], : shape[1]]

    map_some(some, len(images), images, 24.0 * padded[0] * padded[1], workers)
    return weighted


def sirt(
    images: Any, maps: FloatArray, shape_zyx: tuple[int, int, int], *, iterations: int = 10, workers: int = 0
) -> Any:
    """Simultaneous iterative reconstruction (Gilbert 1972): back-project what is left, again and again.

    Parameters
    ----------
    images
        Shape (n, y, x), zero mean; on the CPU or the GPU.
    maps
        From `pixel_maps`.
    shape_zyx
        Shape of the volume.
    iterations
        How often; more are sharper and noisier.
    workers
        Threads; 0 takes one per core.

    Returns
    -------
    Volume
        Shape (z, y, x), where the images are.
    """
    xp = module_of(images)
    shape_yx = (images.shape[1], images.shape[2])
    path = re_project(xp.ones(shape_zyx, np.float32), maps, shape_yx, workers=workers)
    by_path = xp.where(path > 1.0, 1.0 / xp.maximum(path, 1.0), 0.0).astype(np.float32)
    seen = back_project((by_path > 0).astype(np.float32), maps, shape_zyx, workers=workers)
    by_views = (1.0 / xp.maximum(seen, 1.0)).astype(np.float32)
    volume = xp.zeros(shape_zyx, np.float32)
    left = images * by_path
    for step in range(iterations):
        if step:
            left = (images - re_project(volume, maps, shape_yx, workers=workers)) * by_path
        volume += back_project(left, maps, shape_zyx, workers=workers) * by_views
    return volume


def _parts(n_rows: int, workers: int) -> Sequence[tuple[int, int]]:
    """Split rows into a few blocks for every thread."""
    n_parts = min(n_rows, 4 * (workers or available_cpus()))
    edges = np.linspace(0, n_rows, n_parts + 1).astype(int).tolist()
    return list(pairwise(edges))


@numba.njit(nogil=True, cache=True)
def _steps_inside(start, step, last, count):  # type: ignore[no-untyped-def]
    """First and one past the last of `count` steps for which ``0 <= start + step * i < last``."""
    if abs(step) < 1e-9:
        return 0, count if 0.0 <= start < last else 0
    ends = -start / step, (last - start) / step
    return max(0, int(np.ceil(min(ends) + 1e-4))), min(count, int(np.ceil(max(ends) - 1e-4)))


@numba.njit(nogil=True, cache=True)
def _few():  # type: ignore[no-untyped-def]
    """Memory for the places of a few pixels: index of the upper left neighbour, parts of the right and lower ones."""
    return np.empty(_AT_ONCE, np.uint32), np.empty(_AT_ONCE, np.float32), np.empty(_AT_ONCE, np.float32)


@numba.njit(nogil=True, cache=True)
def _add_line(line, first, last, image, columns, start, step, factor, few):  # type: ignore[no-untyped-def]
    """Add what a flat image of so many columns shows at ``start + step * i``, times a factor, for i from first to last.

    Places first and then pixels, a few at a time: the first loop becomes vector instructions, which loads from places
    that are not known would prevent. Indices are unsigned because those that may be negative cost a test each.
    `few` is memory for the places (`_few`).
    """
    here, right, down = few
    one, row_length = np.uint64(1), np.uint64(columns)
    for begin in range(first, last, _AT_ONCE):
        count = min(_AT_ONCE, last - begin)
        row_0, column_0 = start[0] + step[0] * begin, start[1] + step[1] * begin
        for k in range(count):
            row, column = np.float32(row_0 + step[0] * np.int32(k)), np.float32(column_0 + step[1] * np.int32(k))
            r, c = np.int32(row), np.int32(column)
            down[k], right[k] = row - np.float32(r), column - np.float32(c)
            here[k] = np.uint32(r * np.int32(columns) + c)
        for k in range(count):
            upper_left = np.uint64(here[k])
            lower_left = upper_left + row_length
            upper = image[upper_left] + right[k] * (image[upper_left + one] - image[upper_left])
            lower = image[lower_left] + right[k] * (image[lower_left + one] - image[lower_left])
            line[np.uint64(begin + k)] += factor * (upper + down[k] * (lower - upper))


@numba.njit(nogil=True, cache=True)
def _back_project(images, maps, first, last, volume):  # type: ignore[no-untyped-def]
    """Fill the rows first to last of a volume.

    Lines above each other are seen in the same strip of every view, which stays in the cache while they are filled.
    """
    n_views, rows, columns = images.shape
    flat, few = images.reshape(n_views, rows * columns), _few()
    for line in range(first, last):
        for layer in range(volume.shape[0]):
            voxels = volume[layer, line]
            for view in range(n_views):
                row_0 = maps[view, 0, 0] * layer + maps[view, 0, 1] * line + maps[view, 0, 3]
                column_0 = maps[view, 1, 0] * layer + maps[view, 1, 1] * line + maps[view, 1, 3]
                step = maps[view, 0, 2], maps[view, 1, 2]
                begin, end = _steps_inside(row_0, step[0], rows - EDGE_PX, voxels.size)
                begin_too, end_too = _steps_inside(column_0, step[1], columns - EDGE_PX, voxels.size)
                begin, end = max(begin, begin_too), min(end, end_too)
                _add_line(voxels, begin, end, flat[view], columns, (row_0, column_0), step, np.float32(1.0), few)


@numba.njit(nogil=True, cache=True)
def _re_project(volume, rays, first, last, image):  # type: ignore[no-untyped-def]
    """Fill the rows first to last of an image with integrals along its rays, layer by layer."""
    layers, rows, columns = volume.shape
    flat, few = volume.reshape(layers, rows * columns), _few()
    step = rays[0, 1], rays[1, 1]
    for r in range(first, last):
        integrals = image[r]
        for layer in range(layers):
            row_0 = rays[0, 0] * r + rays[0, 2] * layer + rays[0, 3]
            column_0 = rays[1, 0] * r + rays[1, 2] * layer + rays[1, 3]
            begin, end = _steps_inside(row_0, step[0], rows - EDGE_PX, integrals.size)
            begin_too, end_too = _steps_inside(column_0, step[1], columns - EDGE_PX, integrals.size)
            begin, end = max(begin, begin_too), min(end, end_too)
            _add_line(integrals, begin, end, flat[layer], columns, (row_0, column_0), step, np.float32(rays[2, 3]), few)
