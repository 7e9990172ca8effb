"""What the images are compared with: another alignment of the series, or what the other views predict of each view."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.images.prepare import bin_image
from napari_tiltalign.images.project import pixel_maps, re_project
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.quality.preview import Preview
from napari_tiltalign.ui.lazy_stack import LazyStack

REPROJECTION = "re-projection"
"""What to compare with, where it is not the name of an alignment."""

_SLAB_ANGST = 1500.0
"""Thickness over which two alignments are brought together; it hardly matters."""
_BACKGROUND_PX = 15.0
"""Structures larger than about this (standard deviation of a Gaussian) are background, which predictions lack."""


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


def in_grey_values(predicted: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring a prediction, which has no background, to the background and the contrast of the view it is of.

    Both shapes (y, x). The contrast is the amount of it that the view holds, which least squares tell.
    """
    known = np.where(np.isfinite(seen), seen, np.nanmedian(seen) if np.isfinite(seen).any() else 0.0)
    background = ndimage.gaussian_filter(known, _BACKGROUND_PX, mode="nearest")
    power = float(np.square(predicted, dtype=np.float64).sum())
    amount = float(np.multiply(predicted, known - background, dtype=np.float64).sum()) / max(power, 1e-30)
    grey: NDArray[np.float32] = (background + amount * predicted).astype(np.float32)
    return grey


def reprojected_stack(series: TiltSeries, tomogram: Preview) -> tuple[LazyStack, int]:
    """What the other views predict of every raw view, sorted by nominal tilt, and how much that is binned.

    Where a view cannot be taken out of the tomogram (SIRT) it is what the tomogram of all views shows.
    """
    order = series.tilt_order()
    if tomogram.parts is not None:
        rows, columns = tomogram.parts.images.shape[1:]
        binning = tomogram.parts.binning

        def predicted(view: int) -> NDArray[np.float32]:
            index = int(order[view])
            seen = bin_image(series.tilts[index].image.read(), binning)
            return in_grey_values(tomogram.predicted(index), seen)

        return LazyStack(predicted, len(series), (rows, columns)), binning
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
