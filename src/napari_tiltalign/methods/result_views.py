"""Which views a result rests on, and what every method warns about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import wrap_deg
from napari_tiltalign.model import Alignment, Flag, TiltSeries

_FAR_FROM_NOMINAL_DEG, _HAND_IN_DOUBT_DEG = 5.0, 20.0
_WHOLE = 0.95
"""A view of which less is clear is reported as blocked in part."""
_STILL_MOVING_PX = 0.3
_FLAG_OF_REASON = {
    "dark": "dark_view",
    "no_contrast": "no_contrast",
    "blocked": "blocked_view",
    "not_aligned": "view_not_aligned",
    "unreadable": "images_missing",
}


class ReadSeries(Protocol):
    """What reading a series told: views in order of tilt, those left out with a reason, pixels filled."""

    @property
    def order(self) -> NDArray[np.intp]:
        """Index in the series of every view."""
        ...

    @property
    def bad(self) -> Mapping[int, str]:
        """View to the reason why it was left out."""
        ...

    @property
    def filled_pixels(self) -> Mapping[str, int]:
        """tilt_id to how many pixels were not finite."""
        ...

    @property
    def clear(self) -> Mapping[int, float]:
        """View to the part of it that is not blocked, 0 to 1."""
        ...


def included_views(
    series: TiltSeries, read: ReadSeries, used: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Which images the result includes, and why not the others, in the order of the series.

    Parameters
    ----------
    series, read
        The series, and what reading it told.
    used
        Shape (n,): which views, in order of tilt, the result rests on.
    """
    included = series.included.copy()
    reasons = [tilt.reason for tilt in series.tilts]
    for view, index in enumerate(read.order.tolist()):
        if included[index] and not used[view]:
            included[index], reasons[index] = False, read.bad.get(view, "not_aligned")
    return included, tuple(reasons)


def view_flags(
    series: TiltSeries, read: ReadSeries, alignment: Alignment, *, axis_searched: bool = False
) -> tuple[Flag, ...]:
    """Warnings about views, the axis and shifts.

    Parameters
    ----------
    series, read, alignment
        The series, what reading it told, and the result.
    axis_searched
        Whether the axis was searched for far from the nominal one.
    """
    flags: list[Flag] = []
    for reason, name in _FLAG_OF_REASON.items():
        ids = tuple(i for i, r in zip(alignment.tilt_ids, alignment.reasons, strict=True) if r == reason)
        if ids:
            flags.append(Flag(name, f"{len(ids)} of {len(series)} images", ids))
    partly = {series.tilt_ids[read.order[view]]: part for view, part in read.clear.items() if part < _WHOLE}
    if partly:
        flags.append(Flag("blocked_view", f"used as far as it is clear ({min(partly.values()):.0%})", tuple(partly)))
    if read.filled_pixels:
        total = sum(read.filled_pixels.values())
        flags.append(Flag("nan_pixels_filled", f"{total} pixels", tuple(read.filled_pixels)))
    turn = float(wrap_deg(alignment.axis_deg - series.nominal_axis_deg))
    if abs(turn) > _FAR_FROM_NOMINAL_DEG:
        flags.append(
            Flag("axis_far_from_nominal", f"{alignment.axis_deg:.1f} deg, nominal {series.nominal_axis_deg:.1f} deg")
        )
    if axis_searched:
        flags.append(Flag("hand_undetermined", "the axis was searched for; check the hand against a known series"))
    elif abs(turn) > _HAND_IN_DOUBT_DEG:
        flags.append(Flag("hand_undetermined", "the axis is far from the nominal one; check the hand"))
    shift = np.abs(alignment.geometry.shift_yx_angst) / series.pixel_size_angst / np.array(series.image_shape_yx)
    far = tuple(np.array(alignment.tilt_ids)[(shift > 0.5).any(axis=1)].tolist())
    if far:
        flags.append(Flag("outlier_shift", "", far))
    return tuple(flags)


def not_converged(series: TiltSeries, moved_angst: float) -> tuple[Flag, ...]:
    """A warning if the last round still moved the views."""
    if moved_angst <= _STILL_MOVING_PX * series.pixel_size_angst * max(series.image_shape_yx) / 512:
        return ()
    return (Flag("not_converged", f"the last round moved views by {moved_angst / series.pixel_size_angst:.2f} px"),)
