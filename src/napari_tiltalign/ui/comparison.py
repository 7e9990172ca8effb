"""What the images are compared with: another alignment of the series, or what the other views predict of each view."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.images.project import pixel_maps, re_project
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.quality.preview import Preview
from napari_tiltalign.ui.lazy_stack import LazyStack

REPROJECTION = "re-projection"
"""What to compare with, where it is not the name of an alignment."""

_SLAB_ANGST = 1500.0
"""Thickness over which two alignments are brought together; it hardly matters."""


class How(StrEnum):
    """How two images are shown."""

    OFF = "off"
    BLINK = "blink"
    OVERLAY = "overlay"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared.

    Attributes
    ----------
    what
        Name of an alignment, or `REPROJECTION`.
    how
        One after the other, or both in colours.
    """

    what: str = ""
    how: How = How.OFF


def in_common_frame(other: Alignment, reference: Alignment) -> ViewGeometry:
    """Geometry of an alignment after the motion of the whole specimen that brings it closest to another alignment.

    The motion is what no image can tell, and must not be taken for a difference.
    """
    try:
        motion = difference(other, reference, thickness_angst=_SLAB_ANGST).motion
    except TiltAlignError:  # they have no image in common
        return other.geometry
    return other.geometry.compose(motion)


def reprojected_stack(series: TiltSeries, tomogram: Preview) -> tuple[LazyStack, int]:
    """What the other views predict of every raw view, sorted by nominal tilt, and how much that is binned.

    Where a view cannot be taken out of the tomogram (SIRT) it is what the tomogram of all views shows.
    """
    order = series.tilt_order()
    if tomogram.parts is not None:
        rows, columns = tomogram.parts.images.shape[1:]
        stack = LazyStack(lambda view: tomogram.predicted(int(order[view])), len(series), (rows, columns))
        return stack, tomogram.parts.binning
    binning = max(1, round(tomogram.grid.voxel_angst / series.pixel_size_angst))
    rows, columns = (side // binning for side in series.image_shape_yx)
    maps = pixel_maps(
        tomogram.geometry,
        tomogram.grid,
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        binning=binning,
    )
    stack = LazyStack(
        lambda view: re_project(tomogram.volume, maps[order[view]][None], (rows, columns))[0],
        len(series),
        (rows, columns),
    )
    return stack, binning
