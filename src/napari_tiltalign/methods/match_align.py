"""The course of projection matching: from first shifts to the final geometry, coarse to fine.

At every level views are stretched into the specimen plane, predicted from each other, matched tile by tile, and the
geometry is solved from the displacements; then everything is done again with the better geometry. Between rounds the
thickness, and the tilt axis, are set to where the score of the prediction is best.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, RigidMotion, ViewGeometry, rotation_y
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.methods.flat_series import FlatSeries, Level, level_of
from napari_tiltalign.methods.match_measure import Matched, Tiling, match
from napari_tiltalign.methods.match_peaks import climbed, vertex
from napari_tiltalign.methods.match_plane import SUPPORT, PlaneViews, plane_views
from napari_tiltalign.methods.match_predict import Predictor, measure_structure, predict, predictor, score
from napari_tiltalign.methods.match_solve import Step, solve_step
from napari_tiltalign.methods.pair_graph import best_on_grid, coarse_level, find_shifts, score_orientations
from napari_tiltalign.methods.priors import ViewPriors, default_priors
from napari_tiltalign.methods.projection import ROTATION, geometry_from_views, views_from_geometry
from napari_tiltalign.methods.same_specimen import check_enough, check_not_still

FINE_SAMPLES = 256
"""Samples along the longer side of the field at the finest level."""

LEAST_VIEWS = 5
"""Fewer views predict nothing of each other; a state with fewer comes back as it is."""

_BAND = (0.32, 0.25)
"""Upper end of the band at the coarse and at the fine level, cycles per sample."""
_FINE_SUPPORT = (0.7, 0.95)
"""At the fine level only places that most views see count (`match_plane.SUPPORT`). Where views end, predictions fade,
which looks as if the specimen shrank with the tilt: all tilts come out too steep. Asking for still more views (0.9)
would leave half of that, and too little of a lamella to hold its other parameters."""
_TILE = 0.19
"""Distance of the tiles, parts of the longer side of the field."""
_HEIGHT_SD = 0.06
_DATA_WEIGHT = 0.5
_DAMPING = 0.02
_SPREAD = 0.29
"""Structure lies so far from the middle of the slab, root mean square, parts of its thickness."""
_FIXED_AXIS_DEG = 1e-3
_REACH = 0.05
"""How far a whole view is looked for in the first rounds, parts of the longer side."""
_LEAST_SIGNIFICANCE = 8.0
"""Views that correlate less with their prediction are not aligned (standard deviations)."""
_SETTLED = 0.02
"""A level is done when a round moves the views by less than this, samples of the finest level (root mean square)."""

TILT_OFFSETS_DEG = np.arange(-20.0, 20.1, 5.0)
TURNS_DEG = np.arange(-10.0, 10.1, 2.5)
FINE_TURNS_DEG = np.arange(-2.0, 2.1, 1.0)
LAST_TURNS_DEG = np.array([-1.0, 0.0, 1.0])
LEVEL_STEP_DEG, LAST_LEVEL_STEP_DEG = 2.0, 1.0
_MOST_LAST_GRIDS = 3
_TRIAL_ROUNDS = 2
_SURE_OFFSET_DEG = 3.0
_TOO_SURE = 4.0
"""In simulated series the axis is so many times further off than the width of the score says."""
THICKNESS_FACTORS = np.exp(np.linspace(-1.2, 1.2, 9))
FINE_THICKNESS_FACTORS = np.exp(np.linspace(-0.4, 0.4, 5))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be found besides the shifts.

    Attributes
    ----------
    thickness_angst, find_thickness
        Thickness of the slab, and whether that is only where to begin.
    find_offset, find_axis
        Whether the tilt offset and the axis are looked for on grids.
    refine_axis
        Whether the axis may leave where it starts.
    """

    thickness_angst: float
    find_thickness: bool = True
    find_offset: bool = True
    find_axis: bool = True
    refine_axis: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """How far the work is; n views in order of tilt, p tiles.

    Attributes
    ----------
    geometry
        Geometry of the views, the slab level and centred.
    used
        Shape (n,): views that take part.
    offset_deg
        Mean of the tilts over the nominal ones that the priors expect.
    thickness_angst
        Thickness of the slab.
    curves
        Name to (values, scores) of everything that was looked for on a grid, the last time it was.
    matched, step, tiling, predictor
        Of the last round; None before the first.
    axis_sd_deg
        Standard deviation of the tilt axis, degrees; 0 if it was not looked for.
    moved
        Root mean square motion in the last round, Angstrom.
    """

    geometry: ViewGeometry
    used: NDArray[np.bool_]
    offset_deg: float
    thickness_angst: float
    curves: dict[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    matched: Matched | None = None
    step: Step | None = None
    tiling: Tiling | None = None
    predictor: Predictor | None = None
    axis_sd_deg: float = 0.0
    moved: float = np.inf

    def replace(self, **changes: object) -> State:
        """Return the state with some things changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def align_views(
    flat: FlatSeries,
    with_gold: FlatSeries,
    start: ViewGeometry,
    wanted: Wanted,
    *,
    from_start: bool,
    progress: Progress = silent,
) -> State:
    """Align the views of a series.

    Parameters
    ----------
    flat
        The series.
    with_gold
        The same with its gold, which is matched first: nothing else shows the way to about a pixel so well. The series
        itself if there is none.
    start
        Geometry of its n views in order of tilt to start from.
    wanted
        What is to be found.
    from_start
        Whether the start is an alignment already, so that nothing has to be looked for from afar.
    progress
        Told from 0 to 1.

    Raises
    ------
    MethodFailed
        If too few views look like each other, or what they show does not tilt.
    """
    state = State(start, flat.usable, float(np.mean(start.y_tilt_deg - flat.nominal_tilt_deg)), wanted.thickness_angst)
    if not from_start:
        state = first_geometry(with_gold, state, wanted, progress)
    check_enough(state.used, flat.usable, LEAST_VIEWS)
    check_not_still(coarse_level(with_gold), state.geometry, wanted.thickness_angst)
    pitch = float(flat.field_yx_angst.max()) / FINE_SAMPLES
    coarse = _Rounds(
        level_of(with_gold, 2.0 * pitch), with_gold, wanted, _BAND[0] / (2.0 * pitch), gold=with_gold is not flat
    )
    progress(0.3, "matching projections")
    starts = [state] if from_start else _with_other_offset(state, wanted)
    tried = []
    for start_state in starts:
        coarse.beyond = None
        tried.append(coarse.begun(start_state, reach=not from_start))
    state = max(tried, key=lambda found: found[1])[0]
    coarse.beyond = None
    if wanted.refine_axis:
        state = coarse.axis_settled(state)
    progress(0.5, "matching projections")
    state = coarse.repeated(coarse.level_found(state, LAST_LEVEL_STEP_DEG), 4)
    state = coarse.without_strangers(state)
    if with_gold is not flat:
        bare = _Rounds(level_of(flat, 2.0 * pitch), flat, wanted, _BAND[0] / (2.0 * pitch))
        state = bare.anew(state.replace(used=state.used & flat.usable))
    fine = _Rounds(level_of(flat, pitch), flat, wanted, _BAND[1] / pitch, _FINE_SUPPORT)
    for round_ in range(5):
        progress(0.6 + 0.08 * round_, "matching projections, fine")
        state = fine.once(state, reach_angst=0.0)
        if state.moved < _SETTLED * pitch:
            break
    return state


def state_axis(state: State) -> float:
    """Tilt axis of the views, degrees."""
    return float(np.median(state.geometry.z_rot_deg))


def _with_other_offset(state: State, wanted: Wanted) -> list[State]:
    """The state, and the same without the tilt offset that was found, where that is large.

    Stretched views of a specimen with dense things on its faces can agree best at an offset that is far off; what
    predictions say of the two settles it.
    """
    if not wanted.find_offset or abs(state.offset_deg) < _SURE_OFFSET_DEG:
        return [state]
    tilts = state.geometry.y_tilt_deg - state.offset_deg
    return [state, state.replace(geometry=state.geometry.replace(y_tilt_deg=tilts), offset_deg=0.0)]


def first_geometry(flat: FlatSeries, state: State, wanted: Wanted, progress: Progress) -> State:
    """Shifts by the graph of pairs, and tilt offset and axis on grids; views that nothing ties take no part."""
    level, thickness, curves = coarse_level(flat), wanted.thickness_angst, dict(state.curves)
    geometry = find_shifts(level, state.geometry, thickness).geometry
    offset = state.offset_deg
    progress(0.15, "looking for the tilt offset and the axis")
    if wanted.find_offset:
        none = np.zeros(len(TILT_OFFSETS_DEG))
        scores = score_orientations(level, geometry, thickness, tilt_offsets_deg=TILT_OFFSETS_DEG, turns_deg=none)
        curves["tilt_angle_offset_deg"] = (offset + TILT_OFFSETS_DEG, scores)
        found = best_on_grid(TILT_OFFSETS_DEG, scores)
        geometry, offset = geometry.replace(y_tilt_deg=geometry.y_tilt_deg + found), offset + found
    if wanted.find_axis:
        none = np.zeros(len(TURNS_DEG))
        scores = score_orientations(level, geometry, thickness, tilt_offsets_deg=none, turns_deg=TURNS_DEG)
        curves["tilt_axis_deg"] = (state_axis(state) + TURNS_DEG, scores)
        geometry = geometry.replace(z_rot_deg=geometry.z_rot_deg + best_on_grid(TURNS_DEG, scores))
    shifts = find_shifts(level, geometry, thickness)
    return state.replace(geometry=shifts.geometry, used=state.used & shifts.tied, offset_deg=offset, curves=curves)


@dataclass(slots=True, eq=False)
class _Rounds:
    """Rounds of matching at one level."""

    level: Level
    flat: FlatSeries
    wanted: Wanted
    highest: float
    support: tuple[float, float] = SUPPORT
    gold: bool = False
    """Gold on the faces is no slab: the score says nothing about how it is turned."""
    beyond: Any = None

    def repeated(self, state: State, times: int, *, reach: bool = False) -> State:
        """Do some rounds; views may be far off only in the first ones."""
        field = float(self.flat.field_yx_angst.max())
        for round_ in range(times):
            state = self.once(state, reach_angst=_REACH * field / 2.0**round_ if reach and round_ < 2 else 0.0)
            if state.moved < _SETTLED * field / FINE_SAMPLES:
                break
        return state

    def anew(self, state: State) -> State:
        """Settle from a state that was found with gold in the images, which also misleads about the thickness."""
        state = self.repeated(state, 3)
        if self.wanted.find_thickness:
            state = self.thickness_found(state, THICKNESS_FACTORS)
        state = self.repeated(self.level_found(state, LEVEL_STEP_DEG), 3)
        if self.wanted.find_thickness:
            state = self.thickness_found(state, FINE_THICKNESS_FACTORS)
        return self.level_found(state, LAST_LEVEL_STEP_DEG)

    def begun(self, state: State, *, reach: bool) -> tuple[State, float]:
        """First rounds and the thickness; returns the state and its score."""
        state = self.repeated(state, 3, reach=reach)
        if self.wanted.find_thickness:
            state = self.thickness_found(state, THICKNESS_FACTORS)
        state = self.repeated(self.level_found(state, LEVEL_STEP_DEG), 3)
        if self.wanted.find_thickness:
            state = self.thickness_found(state, FINE_THICKNESS_FACTORS)
        return state, score(self.views(state), state.thickness_angst)

    def once(self, state: State, *, reach_angst: float) -> State:
        """Predict, match and solve once."""
        views = self.views(state)
        by = predictor(views, measure_structure(views, state.thickness_angst), state.thickness_angst)
        predicted = predict(views, by)
        self.beyond = views.images(predicted.expectation)
        tiling = Tiling.over(views.size, views.step_angst, _TILE * float(self.flat.field_yx_angst.max()))
        matched = match(views, predicted, by, tiling, reach_angst)
        before = views_from_geometry(state.geometry, 1.0)
        step = solve_step(
            before, state.geometry.x_tilt_deg, tiling.points_zyx(), matched, by.information_yx, self.priors(state),
            height_sd=_HEIGHT_SD * float(self.flat.field_yx_angst.max()),
            height_spread=_SPREAD * state.thickness_angst, data_weight=_DATA_WEIGHT, damping=_DAMPING,
        )  # fmt: skip
        after = before + step.views
        after[:, ROTATION] += state_axis(state) - np.median(after[:, ROTATION])
        geometry = geometry_from_views(after, state.geometry.x_tilt_deg, 1.0)
        moved = _motion(state.geometry, geometry, tiling, state.used)
        motion, turn = _levelling(tiling, step)
        return state.replace(
            geometry=geometry.compose(motion), offset_deg=state.offset_deg + turn, matched=matched, step=step,
            tiling=tiling, predictor=by, moved=moved,
        )  # fmt: skip

    def views(self, state: State) -> PlaneViews:
        """The views in the plane."""
        return plane_views(self.level, state.geometry, state.used, self.highest, self.beyond, self.support)

    def priors(self, state: State) -> ViewPriors:
        """Priors of the views: tilts as far from the nominal ones as the slab is."""
        return default_priors(self.flat.nominal_tilt_deg + state.offset_deg, state_axis(state), _FIXED_AXIS_DEG)

    def thickness_found(self, state: State, factors: FloatArray) -> State:
        """Set the thickness to the one of best score, if that is not at the end of what is tried."""
        views, tried = self.views(state), state.thickness_angst * factors
        scores = np.array([score(views, float(thickness)) for thickness in tried])
        best = float(np.exp(best_on_grid(np.log(tried), scores)))
        return state.replace(thickness_angst=best, curves=_with(state, "sample_thickness_nm", tried / 10.0, scores))

    def level_found(self, state: State, step_deg: float) -> State:
        """Turn the slab about the axis to where the score is best: the views stay as they see it.

        The heights of the tiles say the same, but only part of it in every round: a view is matched to what neighbours
        predict, which see a tile that is too high displaced by nearly as much.
        """
        if self.gold:
            return state
        self.beyond = None

        def turned(turn_deg: float) -> ViewGeometry:
            return state.geometry.compose(RigidMotion(rotation_y(turn_deg), np.zeros(3)))

        def score_of(turn_deg: float) -> float:
            return score(self.views(state.replace(geometry=turned(turn_deg))), state.thickness_angst)

        turns, scores = climbed(score_of, step_deg)
        turn = best_on_grid(turns, scores)
        curves = _with(state, "tilt_angle_offset_deg", state.offset_deg + turns, scores)
        return state.replace(geometry=turned(turn), offset_deg=state.offset_deg + turn, curves=curves)

    def axis_settled(self, state: State) -> State:
        """Turn the axis until it moves little: the score is no parabola far from its top."""
        state = self.axis_found(state, FINE_TURNS_DEG)
        for _ in range(_MOST_LAST_GRIDS):
            before, state = state_axis(state), self.axis_found(state, LAST_TURNS_DEG)
            if abs(state_axis(state) - before) < 0.5 * float(LAST_TURNS_DEG[-1]):
                break
        return state

    def axis_found(self, state: State, turns_deg: FloatArray) -> State:
        """Turn the axis to where the score is best after everything else has been solved again.

        The axis is not left to the solver: turning it while everything else gives way changes the score so little, and
        with all else held so much, that its steps would be far too short or far too long.
        """
        beyond, reached, scores = self.beyond, [], []
        for turn in turns_deg:
            self.beyond = beyond
            z_rot = state.geometry.z_rot_deg + turn
            tried = self.repeated(state.replace(geometry=state.geometry.replace(z_rot_deg=z_rot)), _TRIAL_ROUNDS)
            reached.append(tried)
            scores.append(score(self.views(tried), tried.thickness_angst))
        found, sd = vertex(turns_deg, np.array(scores))
        nearest = int(np.argmin(np.abs(turns_deg - found)))
        best, self.beyond = reached[nearest], None
        z_rot = best.geometry.z_rot_deg + found - turns_deg[nearest]
        curves = _with(state, "tilt_axis_deg", state_axis(state) + turns_deg, np.array(scores))
        geometry = best.geometry.replace(z_rot_deg=z_rot)
        # without a top all that is known is that it is not far from the values tried
        spread = _TOO_SURE * sd if sd > 0 else float(np.ptp(turns_deg)) / np.sqrt(12.0)
        return best.replace(geometry=geometry, curves=curves, axis_sd_deg=spread)

    def without_strangers(self, state: State) -> State:
        """Leave out views that do not correlate with their prediction."""
        if state.matched is None:
            return state
        known = state.matched.significance >= _LEAST_SIGNIFICANCE
        return state.replace(used=state.used & known) if (state.used & known).sum() >= 3 else state


def _with(state: State, name: str, values: FloatArray, scores: FloatArray) -> dict[str, tuple[FloatArray, FloatArray]]:
    return {**state.curves, name: (np.asarray(values), scores)}


def _motion(before: ViewGeometry, after: ViewGeometry, tiling: Tiling, used: NDArray[np.bool_]) -> float:
    """How far the tiles have moved in the views, root mean square, but for what all share."""
    moved = (after.project(tiling.points_zyx()) - before.project(tiling.points_zyx()))[used]
    moved = moved - moved.mean(axis=(0, 1))
    return float(np.sqrt(np.mean(moved**2)))


def _levelling(tiling: Tiling, step: Step) -> tuple[RigidMotion, float]:
    """The motion that brings the tiles to height 0 and level across the axis, and by how much the tilts grow (deg)."""
    points, weight = tiling.points_zyx(), step.height_information
    design = np.column_stack([np.ones(len(points)), points[:, 2], points[:, 1]])
    normal = design.T @ (design * weight[:, None])
    normal[np.diag_indices(3)] *= 1.0 + 1e-9
    height, slope, _ = np.linalg.lstsq(normal, design.T @ (weight * step.heights_angst), rcond=None)[0]
    turn = -float(np.rad2deg(np.arctan(slope)))
    return RigidMotion(rotation_y(turn), np.array([height, 0.0, 0.0])), turn
