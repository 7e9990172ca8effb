"""Turn a fitted slab into an `Alignment`: series order, interpolated views, statistics, flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.methods.base import MethodOptions
from napari_tiltalign.methods.certainty import Certainty
from napari_tiltalign.methods.flat_series import FlatSeries
from napari_tiltalign.methods.learned_model import DETAILS_KEY, LearnedModel
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import (
    LOG_MAGNIFICATION,
    N_VIEW_PARAMETERS,
    TILT,
    geometry_from_views,
)
from napari_tiltalign.methods.resolve import track_statistics
from napari_tiltalign.methods.result_views import included_views, view_flags
from napari_tiltalign.methods.slab_fit import SlabFit
from napari_tiltalign.methods.slab_pose import HEIGHT_SD_ANGST
from napari_tiltalign.methods.slab_quality import prediction, view_covariance
from napari_tiltalign.methods.slab_start import Candidate
from napari_tiltalign.methods.slab_tracks import tile_tracks
from napari_tiltalign.model import Alignment, Flag, Provenance, TiltSeries, Tracks
from napari_tiltalign.model.alignment import FOLLOWED_AREA_KEY, Uncertainty
from napari_tiltalign.model.interpolation import interpolate_geometry

_TELLING = 0.15
"""A tile with a smaller part of the typical signal tells nothing."""
_LEAST_TELLING, _LEAST_TELLING_PART = 8, 0.6
_LARGEST_TILT_SD_DEG = 0.7
_NOT_SETTLED = 0.02
"""Movement in the last step above which a fit has not converged, parts of the finest structure."""


@dataclass(frozen=True, slots=True, eq=False)
class SlabRun:
    """Everything a run of the method produced.

    Attributes
    ----------
    series, options
        What was aligned, and how.
    flat
        The flat series, all views in order of tilt.
    views
        Which of them were fitted, in the order of the fit.
    candidates
        What was tried first.
    fit
        The last pass.
    gold_per_view
        Gold beads per view that were erased, median.
    """

    series: TiltSeries
    options: MethodOptions
    flat: FlatSeries
    views: NDArray[np.intp]
    candidates: Sequence[Candidate]
    fit: SlabFit
    gold_per_view: float

    @property
    def fitted(self) -> NDArray[np.intp]:
        """Index in the series of every fitted view."""
        return self.flat.order[self.views]


def alignment_from(run: SlabRun) -> Alignment:
    """Build the result of a run."""
    series, pose = run.series, run.fit.pose
    offset = {"off": 0.0, "estimate": pose.tilt_offset_deg, "given": run.options.model_dump()["tilt_angle_offset_deg"]}
    turn = offset[run.options.model_dump()["tilt_angle_offset"]] - pose.tilt_offset_deg
    views = pose.views.copy()
    views[:, TILT] += turn  # a turn of the specimen: every image sees the same
    included, reasons = _included(run)
    told = prediction(run.fit)
    geometry = _in_series(run, views)
    tracks = tile_tracks(run.fit, run.fitted, series, geometry, turn)
    alignment = Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=geometry,
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=included,
        reasons=reasons,
        unit_magnification_geometry=_in_series(run, without_magnification(run.fit, views)),
        uncertainty=_uncertainty(run),
        tracks=tracks,
        statistics={
            **track_statistics(tracks),
            "views_aligned": float(len(run.views)),
            "thickness_nm": run.fit.model.thickness_angst / 10.0,
            "tilt_offset_deg": pose.tilt_offset_deg,
            "x_tilt_deg": pose.x_tilt_deg,
            "prediction_median": float(np.median(told)),
            "tiles": float(len(run.fit.centres_zyx)),
        },
        details={**_details(run, told), DETAILS_KEY: _model(run, geometry, tracks).to_details()},
        provenance=Provenance(method="slab", options=run.options.model_dump(), version=version("napari-tiltalign")),
    )
    return alignment.replace(flags=_flags(run, alignment))


def _in_series(run: SlabRun, views: FloatArray) -> ViewGeometry:
    """Geometry of all images in series order from fitted views."""
    n = len(run.series.tilts)
    every = np.zeros((n, N_VIEW_PARAMETERS))
    every[run.fitted] = views
    known = np.zeros(n, dtype=bool)
    known[run.fitted] = True
    geometry = geometry_from_views(every, np.full(n, run.fit.pose.x_tilt_deg), 1.0)
    return interpolate_geometry(geometry, known, run.series.nominal_tilt_deg)


def _uncertainty(run: SlabRun) -> Uncertainty:
    pose = run.fit.pose
    sure = Certainty(view_covariance(run.fit), pose.views, pose.x_tilts_deg, run.fitted)
    error = sure.expected_error(run.flat.field_yx_angst, run.fit.model.thickness_angst)
    return dataclasses.replace(sure.uncertainty(len(run.series.tilts)), expected_error=error)


def without_magnification(fit: SlabFit, views: FloatArray) -> FloatArray:
    """Best view parameters with all magnifications at 1, by the quadratic form of the last step.

    The minimum of ``d' H d / 2`` with ``C d = -log m`` is ``d = -H^-1 C' (C H^-1 C')^-1 log m``.
    """
    n = len(views)
    magnification = np.arange(n) * N_VIEW_PARAMETERS + LOG_MAGNIFICATION
    covariance = fit.covariance()
    constrained = covariance[np.ix_(magnification, magnification)]
    step = -covariance[:, magnification] @ np.linalg.solve(constrained, views[:, LOG_MAGNIFICATION])
    changed: FloatArray = views + step[: n * N_VIEW_PARAMETERS].reshape(n, N_VIEW_PARAMETERS)
    changed[:, LOG_MAGNIFICATION] = 0.0
    return changed


def _details(run: SlabRun, told: FloatArray) -> dict[str, Any]:
    fit = run.fit
    per_image = np.full(len(run.series.tilts), np.nan)
    per_image[run.fitted] = told
    return {
        "hand": "undetermined: the likelihood is the same in the mirror",
        "prediction": [None if np.isnan(value) else round(float(value), 4) for value in per_image],
        "tiles_zyx_nm": np.round(fit.centres_zyx / 10.0, 2).tolist(),
        FOLLOWED_AREA_KEY: fit.spectra.scale.size_angst / 10.0,
        "finest_nm": fit.spectra.scale.finest_angst / 10.0,
        "candidates": [
            {
                "tilt_offset_deg": round(one.fit.pose.tilt_offset_deg, 3),
                "thickness_nm": round(one.fit.model.thickness_angst / 10.0, 2),
                "log_likelihood": round(one.likelihood, 3),
            }
            for one in run.candidates
        ],
        "gold_per_view": run.gold_per_view,
        "last_move_nm": round(fit.moved_angst / 10.0, 4),
    }


def _model(run: SlabRun, geometry: ViewGeometry, tracks: Tracks) -> LearnedModel:
    """What edited tiles are solved again with."""
    series, offset = run.series, float(np.mean(geometry.y_tilt_deg - run.series.nominal_tilt_deg))
    priors = default_priors(series.nominal_tilt_deg + offset, float(np.median(geometry.z_rot_deg)))
    noise = np.full(len(series.tilts), float(np.median(tracks.sd_px)))
    for image in np.unique(tracks.tilt):
        noise[image] = np.median(tracks.sd_px[tracks.tilt == image])
    return LearnedModel(priors, noise, 0.0, HEIGHT_SD_ANGST / series.pixel_size_angst)


def _included(run: SlabRun) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    # a view that shows too few tiles with the others is where the priors have it
    told = {view for one in run.fit.found for view in one.block.views.tolist()}
    used = np.zeros(len(run.flat), bool)
    used[run.views[sorted(told)]] = True
    return included_views(run.series, run.flat, used)


def why_no_slab(fit: SlabFit) -> str:
    """Return what speaks against the specimen being a slab; empty if nothing does."""
    telling = int((fit.model.tile_factor > _TELLING).sum())
    wander = float(np.std(fit.pose.views[:, TILT] - fit.pose.nominal_tilt_deg))
    if telling < max(_LEAST_TELLING, _LEAST_TELLING_PART * len(fit.model.tile_factor)):
        return f"only {telling} of {len(fit.model.tile_factor)} places in it go together in neighbouring views"
    if wander > _LARGEST_TILT_SD_DEG:
        return f"the tilts would be off by {wander:.1f} deg (standard deviation)"
    return ""


def _flags(run: SlabRun, alignment: Alignment) -> tuple[Flag, ...]:
    flags = list(view_flags(run.series, run.flat, alignment))
    if words := why_no_slab(run.fit):
        flags.append(Flag("no_slab", words))
    if run.fit.moved_angst > _NOT_SETTLED * run.fit.spectra.scale.finest_angst:
        flags.append(Flag("not_converged", f"views still moved by {run.fit.moved_angst / 10:.2f} nm in the last step"))
    return tuple(flags)
