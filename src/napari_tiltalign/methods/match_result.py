"""Turn matched projections into an `Alignment`: units, series order, interpolated views, error bars, tracks, flags."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.geometry import RigidMotion, ViewGeometry, rotation_y
from napari_tiltalign.methods.base import MethodOptions
from napari_tiltalign.methods.certainty import Certainty
from napari_tiltalign.methods.drivers import decided_by
from napari_tiltalign.methods.flat_series import FlatSeries
from napari_tiltalign.methods.learned_model import DETAILS_KEY, LearnedModel
from napari_tiltalign.methods.match_align import State
from napari_tiltalign.methods.match_measure import Matched, Tiling
from napari_tiltalign.methods.match_solve import Step, with_kind_fixed
from napari_tiltalign.methods.pair_graph import stretch_matrices
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import (
    LOG_MAGNIFICATION,
    N_VIEW_PARAMETERS,
    ROTATION,
    TILT,
    geometry_from_views,
    views_from_geometry,
)
from napari_tiltalign.methods.resolve import track_statistics
from napari_tiltalign.methods.result_views import included_views, not_converged, view_flags
from napari_tiltalign.model import Alignment, Flag, Provenance, TiltSeries, Tracks, Uncertainty
from napari_tiltalign.model.alignment import FOLLOWED_AREA_KEY
from napari_tiltalign.model.interpolation import interpolate_geometry

_LEAST_SEEN = 0.25
"""Tiles are listed as tracks where so much of them is seen, relative to the most."""
_SPREAD_SEEN = 0.06
_STEEP_DEG = 0.22
"""All tilts are too steep, or too flat, by so many degrees for a radian of tilt (rms of simulated series): predictions
fade where views end, which every tile near there shares, so no covariance shows it (`match_align`)."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchRun:
    """Everything a run of the method produced; views of `flat` and `state` are in order of tilt.

    Attributes
    ----------
    series, options
        What was aligned, and how.
    flat, state
        See their classes.
    """

    series: TiltSeries
    options: MethodOptions
    flat: FlatSeries
    state: State

    @property
    def last(self) -> tuple[Matched, Step, Tiling]:
        """What was measured and solved in the last round."""
        state = self.state
        if state.matched is None or state.step is None or state.tiling is None:
            raise ValueError("no round of matching was done")
        return state.matched, state.step, state.tiling


def alignment_from(run: MatchRun, offset_deg: float) -> Alignment:
    """Build the result of a run.

    Parameters
    ----------
    run
        The run.
    offset_deg
        By how much the tilts of the result are to exceed the nominal ones, on average.

    Raises
    ------
    MethodFailed
        If nothing was matched.
    """
    series, state = run.series, run.state
    turned = state.geometry.compose(_turn(offset_deg - state.offset_deg))
    unit = _unit_magnification(run).compose(_turn(offset_deg - state.offset_deg))
    tracks = _tracks(run, turned, offset_deg - state.offset_deg)
    if not (tracks.weight > 0.0).any():
        raise MethodFailed(
            f"{series.name}: no place of the specimen is seen alike by three views; exclude bad views, check the tilt "
            "axis (--axis), or give an alignment to start from (--start)"
        )
    included, reasons = included_views(run.series, run.flat, run.state.used)
    used = _in_series_order(run, state.used)
    geometry, unit = (
        interpolate_geometry(g.take(np.argsort(run.flat.order)), used, series.nominal_tilt_deg) for g in (turned, unit)
    )
    alignment = Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=geometry,
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=included,
        reasons=reasons,
        unit_magnification_geometry=unit,
        uncertainty=_uncertainty(run),
        tracks=tracks,
        statistics=_statistics(run, tracks),
        details=_details(run, offset_deg),
        provenance=Provenance(
            method="projection-matching", options=run.options.model_dump(), version=version("napari-tiltalign")
        ),
    )
    return decided_by(alignment.replace(flags=_flags(run, alignment)), "tiles")


def _turn(by_deg: float) -> RigidMotion:
    return RigidMotion(rotation_y(by_deg), np.zeros(3))


def _in_series_order(run: MatchRun, values: NDArray[Any]) -> NDArray[Any]:
    placed = np.empty_like(values)
    placed[run.flat.order] = values
    return placed


def _unit_magnification(run: MatchRun) -> ViewGeometry:
    """The best geometry with all magnifications 1, to first order from the solution."""
    views = views_from_geometry(run.state.geometry, 1.0)
    change = with_kind_fixed(run.last[1], LOG_MAGNIFICATION, -views[:, LOG_MAGNIFICATION])
    return geometry_from_views(views + change, run.state.geometry.x_tilt_deg, 1.0)


def _uncertainty(run: MatchRun) -> Uncertainty:
    """Error bars; NaN for views that take no part.

    The axis was set by itself, so its error comes with what the other parameters do where it is turned. Likewise what
    no covariance knows: how far the tilts are too steep, or too flat, as a whole.
    """
    state, step = run.state, run.last[1]
    tilt = np.deg2rad(state.geometry.y_tilt_deg)
    turned = with_kind_fixed(step, ROTATION, state.axis_sd_deg * np.ones(len(tilt))).ravel()
    steep = with_kind_fixed(step, TILT, _STEEP_DEG * (tilt - tilt[state.used].mean())).ravel()
    used = np.flatnonzero(state.used)
    own = (used[:, None] * N_VIEW_PARAMETERS + np.arange(N_VIEW_PARAMETERS)).ravel()
    covariance = (step.covariance() + np.outer(turned, turned) + np.outer(steep, steep))[np.ix_(own, own)]
    views = views_from_geometry(state.geometry, 1.0)[used]
    sure = Certainty(covariance, views, state.geometry.x_tilt_deg[used], run.flat.order[used])
    error = sure.expected_error(run.flat.field_yx_angst, state.thickness_angst)
    return dataclasses.replace(sure.uncertainty(len(run.series)), expected_error=error)


def _tracks(run: MatchRun, geometry: ViewGeometry, turned_deg: float) -> Tracks:
    """The tiles as tracks: where every view sees them, which is the prediction plus what the match has left."""
    matched, step, tiling = run.last
    series = run.series
    enough = (matched.samples > _LEAST_SEEN * matched.samples.max()) & run.state.used[:, None]
    kept = enough.sum(axis=0) >= 3
    points = tiling.points_zyx()[kept]
    new_points = _turn(turned_deg).inverse().apply(points)
    tile, view = np.nonzero(enough[:, kept].T)
    left = np.einsum("kab,kb->ka", stretch_matrices(geometry)[view], step.displacement_yx[:, kept][view, tile])
    seen = geometry.project(new_points)[view, tile] + left
    pixel = series.pixel_size_angst
    tracks = Tracks.from_observations(
        series.tilt_ids, new_points, tile, run.flat.order[view], seen / pixel + np.array(series.image_shape_yx) // 2
    )
    sd = np.sqrt(np.nanmean(step.displacement_sd[:, kept][view, tile] ** 2, axis=1)) / pixel
    # the prediction of a view is made without it, so what is left is a leave-out residual
    return tracks.replace(
        sd_px=sd, weight=step.weight[:, kept][view, tile], residual_yx_px=left / pixel, leave_out_yx_px=left / pixel
    )


def _statistics(run: MatchRun, tracks: Tracks) -> dict[str, float]:
    matched, state = run.last[0], run.state
    return {
        **track_statistics(tracks),
        "views_aligned": float(state.used.sum()),
        "sample_thickness_nm": state.thickness_angst / 10.0,
        "tilt_angle_offset_deg": state.offset_deg,
        "agreement_median": float(np.median(matched.agreement[state.used])),
        "last_motion_px": state.moved / run.series.pixel_size_angst,
    }


def _details(run: MatchRun, offset_deg: float) -> dict[str, Any]:
    """What was found on the way; plain JSON values."""
    matched, step, tiling = run.last
    state, series = run.state, run.series
    agreement = _in_series_order(run, np.where(state.used, matched.agreement, 0.0))
    noise = float(np.nanmedian(step.displacement_sd)) / series.pixel_size_angst
    model = LearnedModel(
        default_priors(series.nominal_tilt_deg + offset_deg, float(np.median(state.geometry.z_rot_deg))),
        np.full(len(series), noise), 0.0, _SPREAD_SEEN * max(series.image_shape_yx),
    )  # fmt: skip
    return {
        "hand": "undetermined: positions cannot tell it",
        "score_curves": {
            name: {"values": values.tolist(), "scores": (scores - scores.max()).tolist()}
            for name, (values, scores) in sorted(state.curves.items())
        },
        "agreement_per_view": [round(float(a), 4) for a in agreement],
        "tile_spacing_nm": float(np.diff(tiling.centres_angst[:2])[0]) / 10.0,
        FOLLOWED_AREA_KEY: 2.0 * float(np.diff(tiling.centres_angst[:2])[0]) / 10.0,
        "tile_quality": [round(float(q), 3) for q in matched.quality],
        "tile_height_nm": [round(float(h) / 10.0, 2) for h in step.heights_angst],
        DETAILS_KEY: model.to_details(),
    }


def _flags(run: MatchRun, alignment: Alignment) -> tuple[Flag, ...]:
    flags = list(view_flags(run.series, run.flat, alignment))
    series, state = run.series, run.state
    for name, (values, scores) in sorted(state.curves.items()):
        if np.argmax(scores) in (0, len(scores) - 1):
            best = float(values[int(np.argmax(scores))])
            flags.append(Flag("score_without_peak", f"{name}: the best value tried, {best:.4g}, is the last one"))
    return (*flags, *not_converged(series, state.moved))
