"""Solve the geometry from tracks: the last step of every method that follows features, and every step of curation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.images.compute import single_threaded_algebra
from napari_tiltalign.methods.bundle import STUDENT_T_DEGREES, Bundle, Estimate, Observations, Solution, solve
from napari_tiltalign.methods.certainty import Certainty
from napari_tiltalign.methods.learned_model import LearnedModel, model_of
from napari_tiltalign.methods.local_motion import without_local_motion
from napari_tiltalign.methods.posterior import Posterior, posterior
from napari_tiltalign.methods.projection import (
    LOG_MAGNIFICATION,
    TILT,
    geometry_from_views,
    project,
    views_from_geometry,
)
from napari_tiltalign.methods.ties import tied_together
from napari_tiltalign.model import Alignment, Tracks, Uncertainty

SUSPECT_FACTOR = 2.5
"""A track with more than this many times the noise of a typical one is suspect."""

_MOST_ITERATIONS = 60
_TOLERANCE = 1e-4
"""Lowering of the negative log posterior at which solving stops: 0.014 standard deviations, for a quick answer."""

_LEAST_PER_VIEW = 2
"""With fewer observations a view's shift would rest on a single point."""


@dataclass(frozen=True, slots=True, eq=False)
class SolvedTracks:
    """A geometry and the tracks it rests on, images in the order of the tracks' tilt ids.

    Attributes
    ----------
    geometry, unit_magnification_geometry
        All n images; those that could not be solved are interpolated over the tilt.
    solved
        Shape (n,): which images were solved.
    uncertainty
        NaN for images that were not solved.
    tracks
        With points, residuals, leave-out residuals and weights of this solution.
    bundle, solution, posterior
        The problem behind it, over the solved images and the points that they see.
    """

    geometry: ViewGeometry
    unit_magnification_geometry: ViewGeometry
    solved: NDArray[np.bool_]
    uncertainty: Uncertainty
    tracks: Tracks
    bundle: Bundle
    solution: Solution
    posterior: Posterior


def resolve(alignment: Alignment, tracks: Tracks) -> Alignment:
    """Solve an alignment again from edited tracks, with the priors and the noise that were learned.

    Images that are excluded in `alignment` take no part and are interpolated; images that became impossible to solve
    are interpolated too. A model of local motion rested on the tracks as they were and is dropped.

    Parameters
    ----------
    alignment
        Where to start.
    tracks
        Its tracks after editing; rejected observations are ignored.

    Raises
    ------
    MethodFailed
        If too few observations are left to tie three images together.
    """
    model = model_of(alignment)
    with single_threaded_algebra():
        result = solve_tracks(
            tracks,
            model,
            alignment.geometry,
            alignment.pixel_size_angst,
            alignment.image_shape_yx,
            take_part=alignment.included,
            unit_start=alignment.unit_magnification_geometry,
        )
    alignment = without_local_motion(alignment)
    return alignment.replace(
        geometry=result.geometry,
        unit_magnification_geometry=result.unit_magnification_geometry,
        uncertainty=result.uncertainty,
        tracks=result.tracks,
        statistics={
            **alignment.statistics,
            **track_statistics(result.tracks),
            "views_aligned": float(result.solved.sum()),
        },
    )


def solve_tracks(
    tracks: Tracks,
    model: LearnedModel,
    start: ViewGeometry,
    pixel_size_angst: float,
    image_shape_yx: tuple[int, int],
    *,
    take_part: NDArray[np.bool_] | None = None,
    unit_start: ViewGeometry | None = None,
) -> SolvedTracks:
    """Solve the geometry of n images from tracks in raw pixels.

    Parameters
    ----------
    tracks
        Observations; rejected ones are ignored.
    model
        Priors and noise.
    start
        Geometry to start from; its x tilts are kept.
    pixel_size_angst, image_shape_yx
        Of the images.
    take_part
        Shape (n,): images that may be solved; all by default.
    unit_start
        Where to start without magnifications; without it the solution with magnifications is the start.

    Raises
    ------
    MethodFailed
        If fewer than three images with two observations each are tied together.
    """
    used = _usable_observations(tracks, take_part)
    solved = np.unique(tracks.tilt[used])
    if len(solved) < 3:
        raise MethodFailed(
            f"only {len(solved)} images are tied together by features that others see too, with {_LEAST_PER_VIEW} or "
            "more each; at least 3 are needed: restore observations or follow more features"
        )
    seen = np.unique(tracks.track[used])
    bundle = _bundle(tracks, used, solved, seen, model, start, image_shape_yx)
    points = tracks.points_zyx_angst[seen] / pixel_size_angst
    first = Estimate(views_from_geometry(start, pixel_size_angst)[solved], points, model.noise_px[solved])
    solution = solve(bundle, first, tolerance=_TOLERANCE, max_iterations=_MOST_ITERATIONS)
    views = solution.estimate.views.copy()
    if unit_start is not None:
        views = views_from_geometry(unit_start, pixel_size_angst)[solved]
    views[:, LOG_MAGNIFICATION] = 0.0
    unit = solve(
        bundle.replace(free=(True, True, False)),
        Estimate(views, solution.estimate.points_zyx, first.noise_sd),
        tolerance=_TOLERANCE,
    )
    sure = posterior(bundle, solution)
    tilt = model.priors.tilt_deg.mean

    def everywhere(estimate: Estimate) -> ViewGeometry:
        filled = _interpolated(estimate.views, solved, tilt)
        return geometry_from_views(filled, start.x_tilt_deg, pixel_size_angst)

    mask = np.zeros(len(tracks.tilt_ids), dtype=bool)
    mask[solved] = True
    updated = _updated(tracks, used, solved, seen, bundle, solution, sure, pixel_size_angst, image_shape_yx)
    certainty = _certainty(sure, solution.estimate, bundle.x_tilt_deg, solved, pixel_size_angst)
    return SolvedTracks(
        everywhere(solution.estimate),
        everywhere(unit.estimate),
        mask,
        uncertainty_of(certainty, updated, pixel_size_angst, image_shape_yx),
        updated,
        bundle,
        solution,
        sure,
    )


def _usable_observations(tracks: Tracks, take_part: NDArray[np.bool_] | None) -> NDArray[np.intp]:
    """Indices of observations that are not rejected, in images that take part and that they tie together."""
    good = np.flatnonzero(tracks.used if take_part is None else tracks.used & take_part[tracks.tilt])
    tied = tied_together(tracks.tilt[good], tracks.track[good], least_per_view=_LEAST_PER_VIEW, least_per_point=1)
    return good[tied]


def _bundle(
    tracks: Tracks,
    used: NDArray[np.intp],
    solved: NDArray[np.int64],
    seen: NDArray[np.int64],
    model: LearnedModel,
    start: ViewGeometry,
    image_shape_yx: tuple[int, int],
) -> Bundle:
    number = np.full(len(tracks.tilt_ids), -1)
    number[solved] = np.arange(len(solved))
    tilt = tracks.tilt[used]
    relative_sd = tracks.sd_px[used] / model.noise_px[tilt]
    observations = Observations(
        number[tilt],
        np.searchsorted(seen, tracks.track[used]),
        tracks.position_yx_px[used] - np.array(image_shape_yx) // 2,
        np.where(np.isfinite(relative_sd), relative_sd, 1.0),
    )
    return Bundle(
        observations,
        model.priors.take(solved),
        start.x_tilt_deg[solved],
        model.height_sd_px,
        height_mean=model.height_mean_px,
    )


def _interpolated(solved_views: FloatArray, solved: NDArray[np.int64], tilt_deg: FloatArray) -> FloatArray:
    """Parameters of all images; for those not solved, interpolated over the nominal tilt (tilts as increments)."""
    order = solved[np.argsort(tilt_deg[solved], kind="stable")]
    views = np.zeros((len(tilt_deg), solved_views.shape[1]))
    views[solved] = solved_views
    views[solved, TILT] -= tilt_deg[solved]
    rest = np.setdiff1d(np.arange(len(tilt_deg)), solved)
    for column in range(views.shape[1]):
        views[rest, column] = np.interp(tilt_deg[rest], tilt_deg[order], views[order, column])
    views[:, TILT] += tilt_deg
    return views


def _certainty(
    sure: Posterior, estimate: Estimate, x_tilt_deg: FloatArray, solved: NDArray[np.int64], pixel_size_angst: float
) -> Certainty:
    return Certainty.in_pixels(sure.covariance, estimate.views, x_tilt_deg, solved, pixel_size_angst)


def uncertainty_of(
    certainty: Certainty, tracks: Tracks, pixel_size_angst: float, image_shape_yx: tuple[int, int]
) -> Uncertainty:
    """Error bars of all images, and the expected error over the field for a specimen as thick as points lie apart."""
    heights = tracks.points_zyx_angst[np.unique(tracks.track[tracks.used]), 0]
    thickness = np.sqrt(12.0) * float(np.std(heights))
    field = np.array(image_shape_yx) * pixel_size_angst
    bars = certainty.uncertainty(len(tracks.tilt_ids))
    return dataclasses.replace(bars, expected_error=certainty.expected_error(field, thickness))


def _updated(
    tracks: Tracks, used: NDArray[np.intp], solved: NDArray[np.int64], seen: NDArray[np.int64], bundle: Bundle,
    solution: Solution, sure: Posterior, pixel_size_angst: float, image_shape_yx: tuple[int, int],
) -> Tracks:  # fmt: skip
    """Tracks with what the solution says of every observation, rejected ones included.

    A track without any used observation keeps its point, whose error is not known; one of a single observation has no
    prediction without that.
    """
    estimate = solution.estimate
    points, points_sd = tracks.points_zyx_angst.copy(), np.full((tracks.n_tracks, 3), np.nan)
    points[seen] = estimate.points_zyx * pixel_size_angst
    points_sd[seen] = np.sqrt(np.maximum(np.einsum("pii->pi", sure.points_zyx), 0.0)) * pixel_size_angst
    predicted = np.full((len(tracks.tilt_ids), tracks.n_tracks, 2), np.nan)
    predicted[solved] = project(estimate.views, points / pixel_size_angst, bundle.x_tilt_deg)
    position = tracks.position_yx_px - np.array(image_shape_yx) // 2
    residual = position - predicted[tracks.tilt, tracks.track]
    leave_out = np.full(residual.shape, np.nan)
    leave_out[used] = sure.leave_out_yx
    alone = np.bincount(tracks.track[used], minlength=tracks.n_tracks) == 1
    leave_out[alone[tracks.track]] = np.nan
    weight = np.zeros(len(residual))
    weight[used] = solution.weight * STUDENT_T_DEGREES / (STUDENT_T_DEGREES + 2.0)
    sd = tracks.sd_px.copy()
    observations = bundle.observations
    sd[used] = estimate.noise_sd[observations.view] * observations.relative_sd
    return tracks.replace(
        points_zyx_angst=points,
        points_sd_angst=points_sd,
        residual_yx_px=residual,
        leave_out_yx_px=leave_out,
        weight=weight,
        sd_px=sd,
    )


def suspect_tracks(tracks: Tracks) -> list[int]:
    """Ids of tracks that are followed much less exactly than the others, worst first.

    The learned noise of a track tells a bead from what only seemed one: a link between touching beads, dirt, a
    protein. Good tracks lie within a factor of 1.6 of the typical one; beyond `SUSPECT_FACTOR` a track is suspect.
    """
    used = tracks.used & np.isfinite(tracks.sd_px)
    relative = np.zeros(tracks.n_tracks)
    scaled = np.full(tracks.n_observations, np.nan)
    for view in np.unique(tracks.tilt[used]):
        own = used & (tracks.tilt == view)
        scaled[own] = tracks.sd_px[own] / np.median(tracks.sd_px[own])
    for track in np.unique(tracks.track[used]):
        relative[track] = np.median(scaled[used & (tracks.track == track)])
    worst_first = np.argsort(-relative, kind="stable")
    return [int(tracks.track_ids[t]) for t in worst_first if relative[t] > SUSPECT_FACTOR]


def track_statistics(tracks: Tracks) -> dict[str, float]:
    """Numbers about a fit to tracks; residuals are distances in raw pixels.

    ``leave_out`` figures predict every observation without itself and so do not shrink with more free parameters.
    """
    used = tracks.used & np.isfinite(tracks.residual_yx_px).all(axis=1)
    residual = np.linalg.norm(tracks.residual_yx_px[used], axis=1)
    leave_out = np.linalg.norm(tracks.leave_out_yx_px[used], axis=1)
    leave_out = leave_out[np.isfinite(leave_out)]
    weight = tracks.weight[used]
    views = np.bincount(tracks.track[used], minlength=tracks.n_tracks)
    return {
        "tracks": float(tracks.n_tracks),
        "observations": float(used.sum()),
        "views_per_track_median": float(np.median(views)),
        "residual_rms_px": float(np.sqrt(np.mean(residual**2))),
        "residual_median_px": float(np.median(residual)),
        "residual_weighted_rms_px": float(np.sqrt(np.average(residual**2, weights=weight))),
        "leave_out_median_px": float(np.median(leave_out)),
        "leave_out_rms_px": float(np.sqrt(np.mean(leave_out**2))),
        "outlier_share": float(np.mean(weight < 0.25)),
    }
