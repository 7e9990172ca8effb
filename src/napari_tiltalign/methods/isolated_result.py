"""Turn the match of a specimen in vacuum into an `Alignment`: error bars, tracks of its segments, flags."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.base import MethodOptions
from napari_tiltalign.methods.certainty import Certainty
from napari_tiltalign.methods.isolated_align import IsolatedState
from napari_tiltalign.methods.isolated_views import MassSeries
from napari_tiltalign.methods.learned_model import DETAILS_KEY, LearnedModel
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import views_from_geometry
from napari_tiltalign.methods.resolve import track_statistics
from napari_tiltalign.methods.result_views import included_views, not_converged, view_flags
from napari_tiltalign.model import Alignment, Provenance, TiltSeries, Tracks, Uncertainty
from napari_tiltalign.model.interpolation import interpolate_geometry

_SEGMENTS = 10
_LEAST_INFORMED = 0.05
"""A segment is listed where it tells so much of its displacement, parts of the most that one tells."""
_SPREAD_SEEN = 0.06


@dataclass(frozen=True, slots=True, eq=False)
class IsolatedRun:
    """Everything a run produced; views of `masses` and `state` are in order of tilt.

    Attributes
    ----------
    series, options
        What was aligned, and how.
    masses, state
        See their classes.
    """

    series: TiltSeries
    options: MethodOptions
    masses: MassSeries
    state: IsolatedState


def isolated_alignment(run: IsolatedRun) -> Alignment:
    """Build the result of a run."""
    series, state = run.series, run.state
    back = np.argsort(run.masses.order)
    included, reasons = included_views(series, run.masses, state.used)
    geometry = interpolate_geometry(state.geometry.take(back), state.used[back], series.nominal_tilt_deg)
    tracks = _tracks(run)
    alignment = Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=geometry,
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=included,
        reasons=reasons,
        # the specimen lies about the rotation centre, so its shifts do not change without the magnification
        unit_magnification_geometry=geometry.replace(magnification=np.ones(len(geometry))),
        uncertainty=_uncertainty(run),
        tracks=tracks,
        statistics={
            **track_statistics(tracks),
            "views_aligned": float(state.used.sum()),
            "agreement_median": float(np.median(state.agreement)),
            "last_motion_px": state.moved / series.pixel_size_angst,
        },
        details=_details(run, back, tracks),
        provenance=Provenance(
            method="projection-matching", options=run.options.model_dump(), version=version("napari-tiltalign")
        ),
    )
    flags = (*view_flags(series, run.masses, alignment), *not_converged(series, state.moved))
    return alignment.replace(flags=flags)


def _uncertainty(run: IsolatedRun) -> Uncertainty:
    """Error bars; NaN for views that take no part. Those of the tilts are what is presumed of a stage."""
    state = run.state
    used = np.flatnonzero(state.used)
    views = views_from_geometry(state.geometry, 1.0)[used]
    covariance = np.linalg.inv(state.normal)
    sure = Certainty(covariance, views, state.geometry.x_tilt_deg[used], run.masses.order[used])
    width = 2.0 * float(state.u_angst[-1])
    field = np.array([float(np.ptp(state.v_angst)), width])
    return dataclasses.replace(sure.uncertainty(len(run.series)), expected_error=sure.expected_error(field, width))


def _tracks(run: IsolatedRun) -> Tracks:
    """Segments along the specimen as tracks: where every view sees them against what the others predict."""
    state, series = run.state, run.series
    points = _middles(state)
    found, sd, informed = _displacements(state, len(points))
    segment, view = np.nonzero(informed.T)
    used = np.flatnonzero(state.used)
    angle = np.deg2rad(state.geometry.z_rot_deg[used[view]])
    v, u = found[view, segment].T
    left = np.column_stack([np.sin(angle) * u + np.cos(angle) * v, np.cos(angle) * u - np.sin(angle) * v])
    seen = state.geometry.project(points)[used[view], segment] + left
    pixel = series.pixel_size_angst
    tracks = Tracks.from_observations(
        series.tilt_ids,
        points,
        segment,
        run.masses.order[used[view]],
        seen / pixel + np.array(series.image_shape_yx) // 2,
    )
    size = sd[view, segment]
    surprise = np.square(left / size[:, None]).sum(axis=1)
    weight = 1.0 / (1.0 + surprise / (16.0 * max(float(np.median(surprise)), 1e-12)))
    return tracks.replace(sd_px=size / pixel, weight=weight, residual_yx_px=left / pixel, leave_out_yx_px=left / pixel)


def _bounds(state: IsolatedState, segments: int) -> NDArray[np.intp]:
    return np.linspace(0, len(state.v_angst), segments + 1).round().astype(np.intp)


def _middles(state: IsolatedState) -> FloatArray:
    """Centres of mass of the segments, shape (p, 3)."""
    segments = min(_SEGMENTS, len(state.v_angst) // 3)
    tilt = np.deg2rad(state.geometry.y_tilt_deg[state.used])
    basis = np.column_stack([np.sin(tilt), np.cos(tilt)])
    points = []
    for begin, end in zip(*(_bounds(state, segments)[k:][:segments] for k in (0, 1)), strict=True):
        mass = np.maximum(state.predicted[:, begin:end].sum(axis=1), 0.0)
        centre = (mass @ state.u_angst) / np.maximum(mass.sum(axis=1), 1e-12)
        z, x = np.linalg.lstsq(basis, centre, rcond=None)[0]
        points.append([z, float(np.mean(state.v_angst[begin:end])), x])
    return np.array(points)


def _displacements(state: IsolatedState, segments: int) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Displacement (v, u) of every segment in every view against its prediction, its sd, and whether it is informed."""
    left = state.seen - state.predicted
    found, sd = np.zeros((len(left), segments, 2)), np.full((len(left), segments), np.nan)
    least = np.zeros((len(left), segments))
    bounds = _bounds(state, segments)
    for p in range(segments):
        rows = slice(bounds[p], bounds[p + 1])
        slope = state.slopes[:, :, rows].reshape(2, len(left), -1)
        normal = np.einsum("aki,bki->kab", slope, slope)
        right = -np.einsum("aki,ki->ka", slope, (left * state.shown[:, :, None])[:, rows].reshape(len(left), -1))
        least[:, p] = np.linalg.eigvalsh(normal)[:, 0]
        held = normal + 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(2) + 1e-30 * np.eye(2)
        found[:, p] = np.linalg.solve(held, right[..., None])[..., 0]
        variance = float(np.mean(left**2))
        sd[:, p] = np.sqrt(0.5 * variance * np.trace(np.linalg.inv(held), axis1=1, axis2=2))
    return found, sd, least > _LEAST_INFORMED * least.max()


def _details(run: IsolatedRun, back: NDArray[np.intp], tracks: Tracks) -> dict[str, Any]:
    state, series = run.state, run.series
    agreement = np.zeros(len(run.masses))
    agreement[state.used] = state.agreement
    noise = np.full(len(series), float(np.median(tracks.sd_px)))
    axis = float(np.median(state.geometry.z_rot_deg))
    model = LearnedModel(
        default_priors(series.nominal_tilt_deg, axis), noise, 0.0, _SPREAD_SEEN * max(series.image_shape_yx)
    )
    return {
        "hand": "undetermined: positions cannot tell it",
        "specimen": "isolated",
        "score_curves": {},
        "agreement_per_view": [round(float(a), 4) for a in agreement[back]],
        "width_nm": round(2.0 * float(state.u_angst[-1]) / 10.0, 2),
        DETAILS_KEY: model.to_details(),
    }
