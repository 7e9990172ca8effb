"""The first geometry of patch tracking: shifts, tilt axis and tilt offset from whole views, or a given alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.methods.flat_series import FlatSeries, Level, level_of
from napari_tiltalign.methods.pair_graph import FoundShifts, best_on_grid, coarse_level, find_shifts, score_orientations
from napari_tiltalign.methods.patch_coherence import Coherence
from napari_tiltalign.methods.patch_rounds import PatchState
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import views_from_geometry
from napari_tiltalign.methods.same_specimen import check_enough, check_not_still

_ORIENTATION_SAMPLES = 64
_STEEPEST_DEG = 80.0
_OFFSETS_DEG = np.arange(-20.0, 20.1, 5.0)
_TURNS_DEG = np.arange(-10.0, 10.1, 2.5)
_DOUBTFUL_OFFSET_DEG = 3.0
_AGREES_SAMPLES = 1.5
_LEAST_VIEWS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Where to start.

    Attributes
    ----------
    states
        Candidates, the likeliest first: the specimen may be tilted in its holder, or not.
    not_tied
        Views of the flat series that no correlation ties to the others.
    """

    states: tuple[PatchState, ...]
    not_tied: NDArray[np.intp]


def first_states(flat: FlatSeries, axis_deg: float, thickness_angst: float) -> Start:
    """Find the first geometry from nothing but nominal tilts and a nominal axis.

    Parameters
    ----------
    flat
        The images.
    axis_deg
        Nominal tilt axis.
    thickness_angst
        Guess of the thickness.

    Raises
    ------
    MethodFailed
        If too few views look like each other, or what they show does not tilt.
    """
    level = coarse_level(flat)
    nominal = ViewGeometry.nominal(flat.nominal_tilt_deg, axis_deg)
    found = find_shifts(level, nominal, thickness_angst)
    small = level_of(flat, float(flat.field_yx_angst.max()) / _ORIENTATION_SAMPLES)
    geometry, offset = found.geometry, 0.0
    for finer in (1.0, 2.0):
        offsets = _OFFSETS_DEG / finer
        offsets = offsets[[bool(np.abs(geometry.y_tilt_deg + o).max() < _STEEPEST_DEG) for o in offsets]]
        more = _best(small, geometry, thickness_angst, offsets, turning=False) if len(offsets) else 0.0
        geometry, offset = geometry.replace(y_tilt_deg=geometry.y_tilt_deg + more), offset + more
        turn = _best(small, geometry, thickness_angst, _TURNS_DEG / finer, turning=True)
        geometry = geometry.replace(z_rot_deg=geometry.z_rot_deg + turn)
        found = find_shifts(level, geometry, thickness_angst, rounds=1)
        geometry = found.geometry
    check_enough(found.tied, flat.usable, _LEAST_VIEWS)
    check_not_still(level, geometry, thickness_angst)
    states = [_state(flat, found, offset, thickness_angst)]
    if abs(offset) > _DOUBTFUL_OFFSET_DEG:
        level_geometry = geometry.replace(y_tilt_deg=geometry.y_tilt_deg - offset)
        other = find_shifts(level, level_geometry, thickness_angst, rounds=1)
        if (other.tied & flat.usable).sum() >= _LEAST_VIEWS:
            states.append(_state(flat, other, 0.0, thickness_angst))
    return Start(tuple(states), np.flatnonzero(flat.usable & ~found.tied))


def given_state(flat: FlatSeries, geometry: ViewGeometry, known: NDArray[np.bool_], thickness_angst: float) -> Start:
    """Start from a given geometry.

    Parameters
    ----------
    flat
        The images.
    geometry, known
        Of all its views, and for which of them it is more than a guess.
    thickness_angst
        Guess of the thickness.

    Raises
    ------
    MethodFailed
        If too few views look like each other, or what they show does not tilt.

    Notes
    -----
    Shifts are kept where correlation of whole views agrees with them, because they may be better than that; a view that
    is off by more than that gets the shift that correlation finds.
    """
    level = coarse_level(flat)
    found = find_shifts(level, geometry, thickness_angst, rounds=1)
    apart = np.linalg.norm(found.geometry.shift_yx_angst - geometry.shift_yx_angst, axis=1)
    keep = known & (apart < _AGREES_SAMPLES * float(level.grid.pitch_yx_angst.max()))
    shift = np.where(keep[:, None], geometry.shift_yx_angst, found.geometry.shift_yx_angst)
    tied = found.tied | (known & keep)
    check_enough(tied, flat.usable, _LEAST_VIEWS)
    check_not_still(level, geometry.replace(shift_yx_angst=shift), thickness_angst)
    found = FoundShifts(geometry.replace(shift_yx_angst=shift), tied, found.significance, found.pairs, found.agrees)
    state = _state(flat, found, 0.0, thickness_angst)
    return Start((state,), np.flatnonzero(flat.usable & ~tied))


def _best(
    level: Level, geometry: ViewGeometry, thickness_angst: float, values: FloatArray, *, turning: bool
) -> float:  # fmt: skip
    nothing = np.zeros(len(values))
    offsets, turns = (nothing, values) if turning else (values, nothing)
    scores = score_orientations(level, geometry, thickness_angst, tilt_offsets_deg=offsets, turns_deg=turns)
    return best_on_grid(values, scores)


def _state(flat: FlatSeries, found: FoundShifts, offset_deg: float, thickness_angst: float) -> PatchState:
    used = np.flatnonzero(flat.usable & found.tied)
    geometry = found.geometry.take(used)
    priors = default_priors(geometry.y_tilt_deg - offset_deg, float(np.median(geometry.z_rot_deg)))
    coherence = Coherence.first_guess(thickness_angst, len(used))
    return PatchState(
        used, views_from_geometry(geometry, 1.0), geometry.x_tilt_deg.copy(), offset_deg, 0.0, priors, coherence
    )
