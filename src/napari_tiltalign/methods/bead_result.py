"""Turn a solved bead alignment into an `Alignment`: units, series order, interpolated views, error bars, flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry, wrap_deg
from napari_tiltalign.methods.base import MethodOptions
from napari_tiltalign.methods.bead_refinement import Refined, Scene
from napari_tiltalign.methods.beads import MOST_BEADS_PER_VIEW, BeadView
from napari_tiltalign.methods.bundle import STUDENT_T_DEGREES, Estimate, solve
from napari_tiltalign.methods.constellation import Constellation
from napari_tiltalign.methods.posterior import determination
from napari_tiltalign.methods.priors import GaussianProcessPrior, default_priors
from napari_tiltalign.methods.projection import (
    LOG_MAGNIFICATION,
    SHIFT_Y,
    TILT,
    geometry_from_views,
    project,
    view_matrices,
)
from napari_tiltalign.model import Alignment, Flag, Provenance, State, TiltSeries, Tracks, Uncertainty

_FAR_FROM_NOMINAL_DEG = 5.0
_HAND_IN_DOUBT_DEG = 20.0
_HIGH_RESIDUAL = 0.1
"""Residual (rms) above which a fit is called poor, bead diameters."""


@dataclass(frozen=True, slots=True, eq=False)
class BeadRun:
    """Everything a run of the method produced, views in order of tilt, at the working scale.

    Attributes
    ----------
    series, options
        What was aligned, and how.
    order
        Shape (n,): index in the series of every view.
    factor
        Binning of the working scale.
    scene, linked, refined
        See their classes.
    bad
        View to the reason why it was left out.
    views
        What detection saw; None for views that took no part.
    """

    series: TiltSeries
    options: MethodOptions
    order: NDArray[np.intp]
    factor: int
    scene: Scene
    linked: Constellation
    refined: Refined
    bad: Mapping[int, str]
    views: Sequence[BeadView | None]


def alignment_from(run: BeadRun, *, axis_turned: bool) -> Alignment:
    """Build the result of a run.

    Parameters
    ----------
    run
        The run.
    axis_turned
        Whether another axis than the nominal one had to be tried, which leaves the hand in doubt.
    """
    refined, series = run.refined, run.series
    estimate = refined.solution.estimate
    height = _middle(estimate.points_zyx[:, 0])
    geometry = _series_geometry(run, estimate.views, height)
    unit = _unit_magnification(run)
    included, reasons = _included(run)
    tracks = _tracks(run, height)
    statistics = _statistics(run, tracks)
    alignment = Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=geometry,
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=included,
        reasons=reasons,
        unit_magnification_geometry=_series_geometry(run, unit.views, height),
        uncertainty=_uncertainty(run),
        tracks=tracks,
        statistics=statistics,
        details=_details(run),
        provenance=Provenance(method="fiducial", options=run.options.model_dump(), version=version("napari-tiltalign")),
    )
    return alignment.replace(flags=_flags(run, alignment, axis_turned))


def _middle(heights: FloatArray) -> float:
    """Middle between the lower and the upper beads: the rotation centre goes there."""
    low, high = np.percentile(heights, [5.0, 95.0])
    return float(low + high) / 2.0


def _unit_magnification(run: BeadRun) -> Estimate:
    """The best estimate with every magnification at 1, from the same observations and learned priors."""
    refined = run.refined
    start = refined.solution.estimate
    views = start.views.copy()
    views[:, LOG_MAGNIFICATION] = 0.0
    bundle = refined.bundle.replace(free=(True, True, False))
    return solve(bundle, Estimate(views, start.points_zyx, start.noise_sd)).estimate


def _series_geometry(run: BeadRun, solved: FloatArray, height: float) -> ViewGeometry:
    """Geometry of all images in series order; images that were not solved are interpolated over the tilt."""
    joined, tilt = run.refined.joined, run.scene.nominal_tilt_deg
    shifted = solved.copy()
    shifted[:, SHIFT_Y:] += view_matrices(solved, np.zeros(len(solved)))[:, :, 0] * height
    shifted[:, TILT] -= tilt[joined]
    views = np.column_stack(
        [np.interp(tilt, tilt[joined], column) if len(joined) > 1 else column for column in shifted.T]
    )
    views[joined] = shifted
    views[:, TILT] += tilt
    in_series = np.empty_like(views)
    in_series[run.order] = views
    return geometry_from_views(in_series, np.zeros(len(views)), run.series.pixel_size_angst * run.factor)


def _included(run: BeadRun) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    reasons = [tilt.reason for tilt in run.series.tilts]
    included = run.series.included.copy()
    joined = set(run.refined.joined.tolist())
    for view, index in enumerate(run.order.tolist()):
        if not run.series.tilts[index].included:
            continue
        if view in run.bad:
            included[index], reasons[index] = False, run.bad[view]
        elif view not in joined:
            included[index], reasons[index] = False, "not_aligned"
    return included, tuple(reasons)


def _uncertainty(run: BeadRun) -> Uncertainty:
    n = len(run.order)
    sd = np.full((n, 5), np.nan)
    sd[run.order[run.refined.joined]] = run.refined.posterior.view_sd()
    return Uncertainty(
        y_tilt_deg=sd[:, 1],
        z_rot_deg=sd[:, 0],
        shift_yx_angst=sd[:, SHIFT_Y:] * run.factor * run.series.pixel_size_angst,
        magnification=sd[:, LOG_MAGNIFICATION],
    )


def _tracks(run: BeadRun, height: float) -> Tracks:
    refined, found, factor = run.refined, run.refined.measurements, run.factor
    estimate, used = refined.solution.estimate, found.used()
    number = np.full(len(run.order), -1)
    number[refined.joined] = np.arange(len(refined.joined))
    k = len(found.view)
    predicted = project(estimate.views, estimate.points_zyx, refined.bundle.x_tilt_deg)
    residual = found.position_yx - predicted[number[found.view], found.point]
    leave_out = np.full((k, 2), np.nan)
    leave_out[used] = refined.posterior.leave_out_yx
    weight = np.zeros(k)
    weight[used] = refined.solution.weight * STUDENT_T_DEGREES / (STUDENT_T_DEGREES + 2.0)
    sd = np.full(k, np.nan)
    observations = refined.bundle.observations
    sd[used] = estimate.noise_sd[observations.view] * observations.relative_sd
    state = np.where(found.detected, int(State.MEASURED), int(State.FILLED))
    state[found.reason > 0] = int(State.REJECTED)
    scale = factor * run.series.pixel_size_angst
    centre = np.array(run.series.image_shape_yx) // 2
    points = (estimate.points_zyx - np.array([height, 0.0, 0.0])) * scale
    point_sd = np.sqrt(np.einsum("pii->pi", refined.posterior.points_zyx)) * scale
    return Tracks(
        run.series.tilt_ids,
        np.arange(len(points)),
        points,
        point_sd,
        found.point,
        run.order[found.view],
        found.position_yx * factor + centre,
        sd * factor,
        weight,
        state,
        found.reason,
        residual * factor,
        leave_out * factor,
    )


def _statistics(run: BeadRun, tracks: Tracks) -> dict[str, float]:
    used = tracks.used
    residual = np.linalg.norm(tracks.residual_yx_px[used], axis=1)
    leave_out = np.linalg.norm(tracks.leave_out_yx_px[used], axis=1)
    weight = tracks.weight[used]
    views_per_bead = np.bincount(tracks.track[used], minlength=tracks.n_tracks)
    return {
        "beads": float(tracks.n_tracks),
        "observations": float(used.sum()),
        "views_aligned": float(len(run.refined.joined)),
        "views_per_bead_median": float(np.median(views_per_bead)),
        "residual_rms_px": float(np.sqrt(np.mean(residual**2))),
        "residual_median_px": float(np.median(residual)),
        "residual_weighted_rms_px": float(np.sqrt(np.average(residual**2, weights=weight))),
        "leave_out_median_px": float(np.median(leave_out)),
        "leave_out_rms_px": float(np.sqrt(np.mean(leave_out**2))),
        "outlier_share": float(np.mean(weight < 0.25)),
        "axis_deg": float(np.median(run.refined.solution.estimate.views[:, 0])),
    }


def _details(run: BeadRun) -> dict[str, Any]:
    priors = run.refined.bundle.priors

    def learned(prior: GaussianProcessPrior) -> dict[str, float]:
        return {
            "independent_sd": prior.independent_sd,
            "smooth_sd": prior.smooth_sd,
            "length_tilt_steps": prior.length,
        }

    noise = run.refined.solution.estimate.noise_sd * run.factor
    return {
        "hand": "undetermined: positions cannot tell it",
        "working_binning": run.factor,
        "candidates_per_view": [0 if view is None else len(view.beads) for view in run.views],
        "learned_priors": {
            "rotation_deg": learned(priors.rotation_deg),
            "tilt_deg": learned(priors.tilt_deg),
            "log_magnification": learned(priors.log_magnification),
        },
        "noise_px": {
            run.series.tilt_ids[run.order[v]]: float(s) for v, s in zip(run.refined.joined, noise, strict=True)
        },
        "height_sd_px": run.scene.height_sd * run.factor,
    }


def _flags(run: BeadRun, alignment: Alignment, axis_turned: bool) -> tuple[Flag, ...]:
    flags: list[Flag] = []
    series, statistics = run.series, alignment.statistics
    reasons = {
        "dark": "dark_view",
        "no_contrast": "no_contrast",
        "blocked": "blocked_view",
        "not_aligned": "view_not_aligned",
    }
    for reason, name in reasons.items():
        ids = tuple(i for i, r in zip(alignment.tilt_ids, alignment.reasons, strict=True) if r == reason)
        if ids:
            flags.append(Flag(name, f"{len(ids)} of {len(series)} images", ids))
    if statistics["beads"] < 3:
        flags.append(Flag("few_beads", f"{statistics['beads']:.0f} beads"))
    turn = float(wrap_deg(alignment.axis_deg - series.nominal_axis_deg))
    if abs(turn) > _FAR_FROM_NOMINAL_DEG:
        flags.append(
            Flag("axis_far_from_nominal", f"{alignment.axis_deg:.1f} deg, nominal {series.nominal_axis_deg:.1f} deg")
        )
    if axis_turned or abs(turn) > _HAND_IN_DOUBT_DEG:
        flags.append(Flag("hand_undetermined", "the axis was searched for; check the hand against a known series"))
    if max((len(v.beads) for v in run.views if v is not None), default=0) >= MOST_BEADS_PER_VIEW:
        flags.append(Flag("too_many_candidates", f"{MOST_BEADS_PER_VIEW} in a view; check the bead diameter"))
    if not run.refined.solution.converged:
        flags.append(Flag("not_converged"))
    shift = np.abs(alignment.geometry.shift_yx_angst) / series.pixel_size_angst / np.array(series.image_shape_yx)
    far = tuple(np.array(alignment.tilt_ids)[(shift > 0.5).any(axis=1)].tolist())
    if far:
        flags.append(Flag("outlier_shift", "", far))
    diameter_px = run.scene.diameter_px * run.factor
    if statistics["residual_rms_px"] > _HIGH_RESIDUAL * diameter_px:
        flags.append(Flag("high_residual", f"{statistics['residual_rms_px']:.2f} px"))
    typical = default_priors(run.scene.nominal_tilt_deg[run.refined.joined], run.linked.axis_deg)
    words = determination(run.refined.bundle, run.refined.solution, typical).in_words()
    if words:
        flags.append(Flag("rank_deficient", "; ".join(words)))
    return tuple(flags)
