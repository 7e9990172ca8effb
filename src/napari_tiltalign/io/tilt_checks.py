"""Whether the tilts of a series make sense: what is impossible is refused, what is odd is flagged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadTiltSeries
from napari_tiltalign.model import Flag, Tilt, TiltSeries

MIN_TILTS = 3
SAME_ANGLE_DEG = 0.1
"""Stages repeat an angle to better than this, and nobody tilts in smaller steps."""
GAP_DEG = 15.0
PRETILT_DEG = 7.5
"""Ranges are cut by a tilt or two at one end; a lamella is milled at 8 degrees or more."""


def checked_tilts(series: TiltSeries) -> TiltSeries:
    """Return a series with flags for what is odd about its included tilts, angles and doses.

    Raises
    ------
    BadTiltSeries
        If fewer than three images are left, or if they all have the same angle.
    """
    tilts = sorted((t for t in series.tilts if t.included), key=lambda t: t.nominal_tilt_deg)
    angles_deg = np.array([t.nominal_tilt_deg for t in tilts])
    if len(tilts) < MIN_TILTS:
        raise BadTiltSeries(series.name, f"{len(tilts)} of {len(series)} images can be used; at least {MIN_TILTS} "
                            "are needed")  # fmt: skip
    if np.ptp(angles_deg) < SAME_ANGLE_DEG:
        raise BadTiltSeries(series.name, f"no tilt information: all angles are {angles_deg[0]:g} degrees; "
                            "give the right ones in the table or a .rawtlt file")  # fmt: skip
    return series.with_flags(
        *_duplicate_angles(tilts, angles_deg),
        *_gaps(tilts, angles_deg),
        *_range_flags(angles_deg),
        *_dose_flags(tilts, angles_deg),
    )


def _duplicate_angles(tilts: list[Tilt], angles_deg: NDArray[np.float64]) -> list[Flag]:
    close = np.flatnonzero(np.diff(angles_deg) < SAME_ANGLE_DEG)
    if not close.size:
        return []
    pairs = ", ".join(f"{tilts[i].tilt_id} and {tilts[i + 1].tilt_id} at {angles_deg[i]:g}" for i in close)
    both = sorted({int(k) for i in close for k in (i, i + 1)})
    return [Flag("duplicate_angle", f"{pairs} degrees", tuple(tilts[k].tilt_id for k in both))]


def _gaps(tilts: list[Tilt], angles_deg: NDArray[np.float64]) -> list[Flag]:
    wide = np.flatnonzero(np.diff(angles_deg) > GAP_DEG)
    if not wide.size:
        return []
    gaps = ", ".join(f"{angles_deg[i]:g} to {angles_deg[i + 1]:g}" for i in wide)
    return [Flag("angle_gap", f"no images from {gaps} degrees", tuple(tilts[i].tilt_id for i in wide))]


def _range_flags(angles_deg: NDArray[np.float64]) -> list[Flag]:
    lowest, highest = float(angles_deg[0]), float(angles_deg[-1])
    span = f"tilts run from {lowest:g} to {highest:g} degrees"
    flags = []
    if lowest > 0 or highest < 0:
        flags.append(Flag("one_sided", span))
    centre = (lowest + highest) / 2.0
    if abs(centre) > PRETILT_DEG:
        flags.append(Flag("pretilt_suspected", f"{span}; if the range was chosen around it, the specimen lies flat "
                          f"near {centre:.1f} degrees"))  # fmt: skip
    return flags


def _dose_flags(tilts: list[Tilt], angles_deg: NDArray[np.float64]) -> list[Flag]:
    """Whether the dose tells the order of acquisition. Nothing is computed from it, and none is made up."""
    dose = np.array([t.pre_exposure_e_per_A2 for t in tilts])
    problem, concerned = "", np.zeros(len(dose), bool)
    if np.isnan(dose).any():
        problem, concerned = f"no dose for {np.isnan(dose).sum()} of {len(dose)} images", np.isnan(dose)
    elif (dose < 0).any():
        problem, concerned = "negative doses", dose < 0
    elif len(np.unique(dose)) < len(dose):
        values, counts = np.unique(dose, return_counts=True)
        problem, concerned = "several images have the same dose", np.isin(dose, values[counts > 1])
    elif (jumps := _jumps(angles_deg, dose)).any():
        problem, concerned = "in the order of dose, the stage would have jumped over angles it came to later", jumps
    if concerned.all():
        concerned[:] = False  # the series as a whole
    names = tuple(t.tilt_id for t, is_one in zip(tilts, concerned, strict=True) if is_one)
    return [Flag("dose_order_inconsistent", problem, names)] if problem else []


def _jumps(angles_deg: NDArray[np.float64], dose: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which images were taken away from the range of angles that had been covered before (angles ascending).

    Every scheme in use (one direction, two directions, dose-symmetric, in groups) widens one range step by step, so
    that the angles taken so far are always neighbours; an angle taken again within the range is no jump.
    """
    step = np.concatenate([[0], np.cumsum(np.diff(angles_deg) >= SAME_ANGLE_DEG)])
    order = np.argsort(dose)
    jumps = np.zeros(len(order), bool)
    lowest = highest = step[order[0]]
    for image in order[1:]:
        jumps[image] = step[image] < lowest - 1 or step[image] > highest + 1
        lowest, highest = min(lowest, step[image]), max(highest, step[image])
    return jumps
