"""Turn tracked patches into an `Alignment`: tracks in raw pixels, solved as such, with error bars and flags."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.geometry import RigidMotion, ViewGeometry, rotation_x, rotation_y
from napari_tiltalign.methods.base import MethodOptions
from napari_tiltalign.methods.certainty import Certainty
from napari_tiltalign.methods.drivers import decided_by
from napari_tiltalign.methods.flat_series import FlatSeries
from napari_tiltalign.methods.learned_model import DETAILS_KEY, LearnedModel
from napari_tiltalign.methods.pair_graph import stretch_matrices
from napari_tiltalign.methods.patch_outliers import without_contradictions, without_vague
from napari_tiltalign.methods.patch_rounds import PatchState, Tracked
from napari_tiltalign.methods.priors import ViewPriors, default_priors
from napari_tiltalign.methods.projection import geometry_from_views
from napari_tiltalign.methods.resolve import SolvedTracks, solve_tracks, suspect_tracks, track_statistics
from napari_tiltalign.methods.result_views import included_views, view_flags
from napari_tiltalign.methods.same_specimen import check_enough
from napari_tiltalign.model import (
    REJECTION_REASONS,
    Alignment,
    Flag,
    Provenance,
    State,
    TiltSeries,
    Tracks,
    Uncertainty,
)

_LEAST_VIEWS = 3
_MOST_SOLUTIONS = 4
"""Each solution leaves out what contradicts it; the first leaves out nearly all of that."""
_HEIGHT_SD = 0.12
"""Prior spread of the patches in z, parts of the larger side of the field: a specimen may be tilted in its holder."""


@dataclass(frozen=True, slots=True, eq=False)
class PatchRun:
    """Everything a run of the method produced.

    Attributes
    ----------
    series, options, method_name
        What was aligned, and how.
    flat
        Its images, views in order of tilt.
    tracked
        The last round.
    not_tied
        Views of the flat series that could not be tied to the others.
    start
        Geometry of all views that the priors are about, in order of tilt.
    """

    series: TiltSeries
    options: MethodOptions
    method_name: str
    flat: FlatSeries
    tracked: Tracked
    not_tied: NDArray[np.intp]
    start: ViewGeometry


def alignment_from(run: PatchRun) -> Alignment:
    """Build the result of a run: its tracks in raw pixels, solved once more as such.

    Raises
    ------
    MethodFailed
        If too few observations are left to tie enough views together.
    """
    series = run.series
    motion = back_to_nominal(run.tracked.measured_at)
    geometry = _geometry(run, motion)
    tracks = _tracks(run, motion)
    model = _model(run, tracks)
    solved = _solved(run, tracks, model, geometry)
    included, reasons = included_views(series, run.flat, solved.solved[run.flat.order])
    alignment = Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=solved.geometry,
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=included,
        reasons=reasons,
        unit_magnification_geometry=solved.unit_magnification_geometry,
        uncertainty=_uncertainty(run),
        tracks=solved.tracks,
        statistics={
            **track_statistics(solved.tracks),
            "views_aligned": float(solved.solved.sum()),
            "thickness_nm": run.tracked.state.coherence.thickness_angst / 10.0,
        },
        details={
            "hand": "undetermined: positions cannot tell it",
            "tilt_offset_found_deg": run.tracked.state.tilt_offset_deg,
            "x_tilt_found_deg": run.tracked.state.x_tilt_offset_deg,
            "suspect_tracks": suspect_tracks(solved.tracks),
            DETAILS_KEY: model.to_details(),
        },
        provenance=Provenance(
            method=run.method_name, options=run.options.model_dump(), version=version("napari-tiltalign")
        ),
    )
    return decided_by(alignment.replace(flags=_flags(run, alignment, solved)), "patches")


def _solved(run: PatchRun, tracks: Tracks, model: LearnedModel, start: ViewGeometry) -> SolvedTracks:
    """Solve the tracks, leave out what contradicts the geometry, and solve the rest."""
    wave_px = run.tracked.shortest_wave_angst / run.series.pixel_size_angst
    take_part, unit_start = _taking_part(run), None
    for _ in range(_MOST_SOLUTIONS):
        solved = solve_tracks(
            tracks, model, start, run.series.pixel_size_angst, run.series.image_shape_yx,
            take_part=take_part, unit_start=unit_start,
        )  # fmt: skip
        kept = without_contradictions(solved.tracks, wave_px)
        if kept.used.sum() == tracks.used.sum():
            break
        tracks, start, unit_start = kept, solved.geometry, solved.unit_magnification_geometry
    try:
        check_enough(solved.solved[run.flat.order], run.flat.usable, _LEAST_VIEWS)
    except MethodFailed as error:
        raise MethodFailed(f"{run.series.name}: {error}") from error
    return solved


def back_to_nominal(state: PatchState) -> RigidMotion:
    """The motion that takes new coordinates, in which the tilts are about nominal, to those of a level specimen."""
    given = float(np.mean(state.x_tilt_deg)) - state.x_tilt_offset_deg
    turn = rotation_x(-given - state.x_tilt_offset_deg) @ rotation_y(-state.tilt_offset_deg) @ rotation_x(given)
    return RigidMotion(turn, np.zeros(3))


def _geometry(run: PatchRun, motion: RigidMotion) -> ViewGeometry:
    """Geometry of all images in series order, after the last step; only the used views matter."""
    at = run.tracked.measured_at
    solved = geometry_from_views(at.views + run.tracked.step.view_step, at.x_tilt_deg, 1.0).compose(motion)
    index = run.flat.order[at.used]
    whole = run.start.take(np.argsort(run.flat.order))
    arrays = {}
    for name in ("x_tilt_deg", "y_tilt_deg", "z_rot_deg", "shift_yx_angst", "magnification"):
        values = np.array(getattr(whole, name))
        values[index] = getattr(solved, name)
        arrays[name] = values
    return whole.replace(**arrays)


def _tracks(run: PatchRun, motion: RigidMotion) -> Tracks:
    """Every place where a patch was looked for, in raw pixels and series order; not solved yet."""
    tracked, series = run.tracked, run.series
    at, points = tracked.measured_at, tracked.measured_points_zyx
    expected = at.geometry.project(points)
    seen_at = expected + np.einsum("nab,pnb->npa", stretch_matrices(at.geometry), tracked.step.tracks_yx)
    inside = (np.abs(expected) < run.flat.field_yx_angst / 2).all(axis=2)
    view, patch = np.nonzero(inside)
    measured = tracked.seen[patch, view]
    heights = points.copy()
    heights[:, 0] += tracked.step.height_step
    tracks = Tracks.from_observations(
        series.tilt_ids,
        motion.inverse().apply(heights),
        patch,
        run.flat.order[at.used[view]],
        seen_at[view, patch] / series.pixel_size_angst + np.array(series.image_shape_yx) // 2,
    )
    tracks = tracks.replace(
        sd_px=tracked.sd_angst[patch, view] / series.pixel_size_angst,
        state=np.where(measured, int(State.MEASURED), int(State.REJECTED)),
        reason=np.where(measured, 0, REJECTION_REASONS.index("outside")),
    )
    alone_sd_px = tracked.step.observation_sd[patch, view] / series.pixel_size_angst
    return without_vague(tracks, alone_sd_px, tracked.shortest_wave_angst / series.pixel_size_angst)


def _model(run: PatchRun, tracks: Tracks) -> LearnedModel:
    """Priors and noise for all images in series order, raw pixels."""
    start = run.start.take(np.argsort(run.flat.order))
    priors = default_priors(start.y_tilt_deg, float(run.tracked.state.priors.rotation_deg.mean[0]))
    learned = run.tracked.state.priors
    priors = ViewPriors(
        *(p.fixed(q.independent_sd, q.smooth_sd, q.length) for p, q in zip(priors, learned, strict=True))
    )
    used = tracks.used
    noise = np.full(len(start), float(np.median(tracks.sd_px[used])))
    for image in np.unique(tracks.tilt[used]):
        noise[image] = np.median(tracks.sd_px[used & (tracks.tilt == image)])
    return LearnedModel(priors, noise, 0.0, _HEIGHT_SD * max(run.series.image_shape_yx))


def _uncertainty(run: PatchRun) -> Uncertainty:
    """Error bars with all that is known of how errors go together, which the solution of the tracks is not told."""
    at, state = run.tracked.measured_at, run.tracked.state
    sure = Certainty(run.tracked.step.view_covariance, at.views, at.x_tilt_deg, run.flat.order[at.used])
    bars = sure.uncertainty(len(run.series))
    error = sure.expected_error(run.flat.field_yx_angst, state.coherence.thickness_angst)
    return dataclasses.replace(bars, expected_error=error)


def _taking_part(run: PatchRun) -> NDArray[np.bool_]:
    taking_part = np.zeros(len(run.series), dtype=bool)
    taking_part[run.flat.order[run.tracked.state.used]] = True
    return taking_part


def _flags(run: PatchRun, alignment: Alignment, solved: SolvedTracks) -> tuple[Flag, ...]:
    flags = list(view_flags(run.series, run.flat, alignment))
    if not solved.solution.converged:
        flags.append(Flag("not_converged"))
    if suspects := suspect_tracks(solved.tracks):
        flags.append(Flag("suspect_tracks", f"patches {', '.join(map(str, suspects))}"))
    return tuple(flags)
