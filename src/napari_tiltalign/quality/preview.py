"""A small tomogram in seconds, to look at and to measure the slab in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput
from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.images.arrays import filters_of, to_device, to_host
from napari_tiltalign.images.project import (
    Grid,
    Images,
    Volume,
    back_project,
    pixel_maps,
    re_project,
    sirt,
    weighted_views,
)
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.slab import Slab, find_slab
from napari_tiltalign.quality.working_views import WorkingViews, working_views

PREVIEW_SIZE_PX = 448
"""Voxels along the longer side of a preview, unless the images are smaller."""

Algorithm = Literal["wbp", "sirt"]

_SEARCH_SIZE_PX = 160
_SEARCH_VOXELS = 112
_SEARCH_HEIGHT = 0.8
"""Height searched for the slab, part of the shorter side of the field."""
_SMOOTHING_PX = 1.0
"""Views are smoothed by a Gaussian of this standard deviation, because a preview is for looking at."""
_MARGIN = 1.5
"""Height of a preview over the thickness of its slab."""
_UNKNOWN_THICKNESS = 0.3
"""Taken for the thickness, part of the shorter side of the field, where the slab is not seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What every view has brought into a back-projection.

    Attributes
    ----------
    images
        Shape (n, y, x): weighted and binned views; 0 for views that took no part.
    maps
        Shape (n, 2, 4): where they see the voxels (`images.project.pixel_maps`).
    binning
        How much they are binned.
    """

    images: Images
    maps: FloatArray
    binning: int


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """A small tomogram.

    Attributes
    ----------
    volume
        Shape (z, y, x), dense things dark as in the images; y runs along the tilt axis.
    grid
        Its voxels, in the coordinates of `geometry`.
    geometry
        The alignment's geometry, levelled if that was asked for.
    slab
        Where the specimen is, in the coordinates of the alignment (not levelled).
    levelled
        Whether the volume is in coordinates in which the slab is level and centred.
    algorithm
        How it was reconstructed.
    parts
        What it is the sum of; None where it is no sum (SIRT).
    """

    volume: Volume
    grid: Grid
    geometry: ViewGeometry
    slab: Slab
    levelled: bool
    algorithm: Algorithm
    parts: Parts | None = None

    def predicted(self, view: int) -> NDArray[np.float32]:
        """What the other views predict of a view, shape (y, x) of `Parts.images`.

        It is the re-projection of the tomogram without what the view itself has brought into it.

        Raises
        ------
        ValueError
            If the tomogram is no sum of views.
        """
        if self.parts is None:
            raise ValueError("a view cannot be taken out of a tomogram that was made by iterations")
        own, image = self.parts.maps[view][None], self.parts.images[view]
        volume = self.volume - back_project(image[None], own, self.grid.shape_zyx) if image.any() else self.volume
        predicted: NDArray[np.float32] = re_project(volume, own, (image.shape[0], image.shape[1]))[0]
        return predicted

    def slices(self) -> dict[str, NDArray[np.float32]]:
        """Central sections by name: ``xy`` (y, x), ``xz`` (z, x), ``yz`` (y, z), averaged over a few voxels."""
        z, y, x = (size // 2 for size in self.volume.shape)
        if not self.levelled:
            z = int(np.clip(self.grid.index_of(np.array([self.slab.height_angst, 0.0, 0.0]))[0], 0, 2 * z - 1))
        few = 2
        return {
            "xy": self.volume[max(z - few, 0) : z + few + 1].mean(axis=0),
            "xz": self.volume[:, max(y - few, 0) : y + few + 1].mean(axis=1),
            "yz": self.volume[:, :, max(x - few, 0) : x + few + 1].mean(axis=2).T,
        }

    def slab_edges_voxels(self) -> NDArray[np.float64]:
        """Voxel heights of the slab's edges where it crosses the ends of the central xz section.

        Returns
        -------
        numpy.ndarray
            Shape (2, 2): (bottom, top) at the first and at the last voxel along x, for drawing two lines.
        """
        n_x = self.volume.shape[2]
        half = self.slab.thickness_angst / 2.0
        x_angst = self.grid.points_of(np.array([[0, 0, 0], [0, 0, n_x - 1]], float))[:, 2]
        if self.levelled:
            middle = np.zeros(2)
        else:
            tan_y = np.tan(np.deg2rad(self.slab.tilt_about_y_deg)) / np.cos(np.deg2rad(self.slab.tilt_about_x_deg))
            middle = self.slab.height_angst + x_angst * tan_y
            half /= np.cos(np.deg2rad(self.slab.tilt_about_y_deg))
        edges = middle[:, None] + np.array([-half, half])
        heights = (edges - self.grid.centre_zyx_angst[0]) / self.grid.voxel_angst + self.volume.shape[0] // 2
        return np.asarray(heights, np.float64)


def locate_slab(views: WorkingViews, series: TiltSeries, geometry: ViewGeometry, used: NDArray[np.bool_]) -> Slab:
    """Find the slab in two coarse reconstructions, from every second view each.

    Parameters
    ----------
    views
        Of the series, about `_SEARCH_SIZE_PX` wide.
    series, geometry
        The series and the geometry of its n images.
    used
        Shape (n,): which images count.
    """
    field = field_yx_angst(series, geometry)
    height = _SEARCH_HEIGHT * float(field.min())
    voxel = float(field.max()) / _SEARCH_VOXELS
    grid = Grid((int(height / voxel), int(field[0] / voxel), int(field[1] / voxel)), voxel)
    maps = _maps(geometry, grid, series, views)
    order = [int(i) for i in np.argsort(geometry.y_tilt_deg, kind="stable") if used[i]]
    halves = []
    for chosen in (order[::2], order[1::2]):
        thickness_px = _UNKNOWN_THICKNESS * float(field.min()) / views.pixel_angst
        weighted = weighted_views(to_device(views.images[chosen]), geometry.take(chosen), thickness_px)
        halves.append(to_host(back_project(weighted, maps[chosen], grid.shape_zyx)))
    return find_slab(halves[0], halves[1], grid)


def preview(
    series: TiltSeries,
    alignment: Alignment,
    *,
    size_px: int = PREVIEW_SIZE_PX,
    thickness_nm: float = 0.0,
    algorithm: Algorithm = "wbp",
    level: bool = True,
    iterations: int = 8,
    progress: Progress = silent,
) -> Preview:
    """Reconstruct a small tomogram of an aligned series.

    Parameters
    ----------
    series, alignment
        The series and its alignment, with the same images in the same order.
    size_px
        Voxels along the longer side of the field; no more than the images have.
    thickness_nm
        Height of the tomogram, nanometres; 0 takes 1.5 times the thickness of the slab that is found.
    algorithm
        ``wbp``, weighted back-projection, or ``sirt``.
    level
        Whether to turn the specimen so that the slab is level and centred, if it is seen.
    iterations
        Of SIRT.
    progress
        Told how far it is; may raise `Cancelled`.

    Raises
    ------
    BadInput
        If the alignment is of other images.
    BadTiltSeries
        If too few views can be used.
    """
    check_same_images(series, alignment)
    size = min(size_px, max(series.image_shape_yx))
    binning = max(1, max(series.image_shape_yx) // size)
    small, views = working_views(
        series,
        (_SEARCH_SIZE_PX, max(series.image_shape_yx) // binning),
        progress=lambda f, text: progress(0.4 * f, text),
    )
    used = small.usable & alignment.included
    slab = locate_slab(small, series, alignment.geometry, used)
    levelled = level and slab.is_certain
    geometry = alignment.geometry.compose(slab.levelling()) if levelled else alignment.geometry
    field = field_yx_angst(series, geometry)
    grid = _preview_grid(field, size, slab, thickness_nm * 10.0, levelled=levelled)
    index = np.flatnonzero(used)
    maps = _maps(geometry, grid, series, views)
    progress(0.4, "reconstructing")
    images = to_device(views.images[index])
    images = filters_of(images).gaussian_filter(images, (0.0, _SMOOTHING_PX, _SMOOTHING_PX))
    parts = None
    if algorithm == "sirt":
        volume = sirt(images, maps[index], grid.shape_zyx, iterations=iterations)
    else:
        depth_px = grid.shape_zyx[0] * grid.voxel_angst / views.pixel_angst
        weighted = weighted_views(images, geometry.take(index), depth_px)
        volume = back_project(weighted, maps[index], grid.shape_zyx)
        parts = Parts(_among_all(to_host(weighted), index, len(series)), maps, views.binning)
    progress(1.0, "reconstructed")
    return Preview(to_host(volume), grid, geometry, slab, levelled, algorithm, parts)


def _among_all(images: Images, index: NDArray[np.intp], count: int) -> Images:
    """Put images of some views in their places among all, which are 0."""
    every: Images = np.zeros((count, *images.shape[1:]), np.float32)
    every[index] = images
    return every


def check_same_images(series: TiltSeries, alignment: Alignment) -> None:
    """Refuse an alignment of other images.

    Raises
    ------
    BadInput
        If the identities, their order or the pixel size differ.
    """
    if series.tilt_ids != alignment.tilt_ids:
        raise BadInput(
            f"{alignment.series_name}: the alignment does not list the images of the series in their order; read it "
            "together with the series (read_alignment(path, series))"
        )


def _preview_grid(field: NDArray[np.float64], size: int, slab: Slab, height: float, *, levelled: bool) -> Grid:
    """Choose the voxels: the field across, and a slab with some room above and below."""
    voxel = float(field.max()) / size
    thickness = slab.thickness_angst if slab.is_certain else _UNKNOWN_THICKNESS * float(field.min())
    if not height:
        height = _MARGIN * thickness
        if not levelled and slab.is_certain:
            slopes = np.tan(np.deg2rad([slab.tilt_about_x_deg, slab.tilt_about_y_deg]))
            height += float(np.abs(slopes) @ field)
    middle = 0.0 if levelled or not slab.is_certain else slab.height_angst
    rows, columns = (max(8, round(side / voxel)) for side in field)
    return Grid((max(8, round(height / voxel)), rows, columns), voxel, np.array([middle, 0.0, 0.0]))


def field_yx_angst(series: TiltSeries, geometry: ViewGeometry) -> NDArray[np.float64]:
    """Size of the field along and across the tilt axis, Angstrom."""
    field = np.array(series.image_shape_yx, float) * series.pixel_size_angst
    turned = abs(np.sin(np.deg2rad(float(np.median(geometry.z_rot_deg))))) > np.sqrt(0.5)
    return field[::-1] if turned else field


def _maps(geometry: ViewGeometry, grid: Grid, series: TiltSeries, views: WorkingViews) -> FloatArray:
    size, shape = series.pixel_size_angst, series.image_shape_yx
    return pixel_maps(geometry, grid, pixel_size_angst=size, image_shape_yx=shape, binning=views.binning)
