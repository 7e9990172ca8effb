"""Whether the geometry of an alignment makes sense by itself: axis, tilts, magnification and jumps of the shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_tiltalign.geometry import FloatArray, wrap_deg
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.views import expected_from_neighbours

FAR_AXIS_DEG = 5.0
"""A tilt axis further than this from the nominal one is unusual."""
UNSTEADY_AXIS_DEG = 1.0
"""So is one that turns from view to view by more than this,"""
WRONG_TILT_DEG = 3.0
"""a tilt that differs by more than this from what the stage says (a common offset apart),"""
MAGNIFIED_PERCENT = 2.0
"""and a magnification that differs by more than this from that of the other views."""


@dataclass(frozen=True, slots=True, eq=False)
class Consistency:
    """What is odd about the geometry of an alignment of n images.

    Attributes
    ----------
    axis_from_nominal_deg
        Tilt axis minus the nominal one, within 90 degrees; NaN if none is given.
    axis_scatter_deg
        Robust standard deviation of the axis from view to view, degrees.
    tilt_scatter_deg
        Robust standard deviation of the tilts against those of the stage, without a common offset.
    remarks
        About the series, for people.
    view_remarks
        For every view, for people; empty if there is nothing odd.
    jump_percent
        Shape (n,): how far every view is shifted against what its neighbours let expect, percent of the field; NaN
        where that is not known. No remark is made of it: stages do jump, and only the images know whether one did.
    """

    axis_from_nominal_deg: float
    axis_scatter_deg: float
    tilt_scatter_deg: float
    remarks: tuple[str, ...]
    view_remarks: tuple[tuple[str, ...], ...]
    jump_percent: FloatArray


def consistency(series: TiltSeries, alignment: Alignment) -> Consistency:
    """Look at the geometry of an alignment; the images have no say.

    Parameters
    ----------
    series, alignment
        The series and its alignment, with the same n images in the same order.
    """
    geometry, used = alignment.geometry, alignment.included
    given = np.isfinite([tilt.nominal_axis_deg for tilt in series.tilts]).any()
    off = float(wrap_deg(2.0 * (alignment.axis_deg - series.nominal_axis_deg)) / 2.0) if given else float("nan")
    turn = _unexpected(series, np.where(used, wrap_deg(geometry.z_rot_deg - alignment.axis_deg), np.nan))
    tilt = np.where(used, geometry.y_tilt_deg - series.nominal_tilt_deg, np.nan)
    mirrored = _spread(np.where(used, geometry.y_tilt_deg + series.nominal_tilt_deg, np.nan)) < _spread(tilt)
    if mirrored:
        tilt = np.where(used, geometry.y_tilt_deg + series.nominal_tilt_deg, np.nan)
    tilt = tilt - np.nanmedian(tilt) if used.any() else tilt
    size = np.where(used, 100.0 * (geometry.magnification / np.median(geometry.magnification) - 1.0), np.nan)
    shift = np.where(used[:, None], geometry.shift_yx_angst, np.nan)
    jump = np.linalg.norm([_unexpected(series, shift[:, axis]) for axis in (0, 1)], axis=0)
    jump = 100.0 * jump / (min(series.image_shape_yx) * series.pixel_size_angst)
    limits = (
        (np.abs(turn), UNSTEADY_AXIS_DEG, "its axis is turned by {:.1f}° against its neighbours'"),
        (np.abs(tilt), WRONG_TILT_DEG, "its tilt is {:.1f}° from that of the stage"),
        (np.abs(size), MAGNIFIED_PERCENT, "its magnification is {:.1f} % off"),
    )
    view_remarks = tuple(
        tuple(text.format(values[i]) for values, limit, text in limits if values[i] > limit) for i in range(len(series))
    )
    remarks = []
    if abs(off) > FAR_AXIS_DEG:
        remarks.append(f"the tilt axis is {off:+.1f}° from the nominal one; check both")
    if mirrored:
        remarks.append("the tilts have the opposite sign of the stage's: the specimen is mirrored against the input")
    return Consistency(off, _spread(turn), _spread(tilt), tuple(remarks), view_remarks, jump)


def _unexpected(series: TiltSeries, values: FloatArray) -> FloatArray:
    """What is left of values (n,) after what the neighbours of every view let expect."""
    left: FloatArray = values - expected_from_neighbours(series, values)
    return left


def _spread(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(known - np.median(known)))) if known.size else float("nan")
