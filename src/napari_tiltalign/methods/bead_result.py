"""Turn a solved bead alignment into an `Alignment`: units, series order, interpolated views, error bars, flags."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.methods.base import MethodOptions
from napari_tiltalign.methods.bead_refinement import Refined, Scene
from napari_tiltalign.methods.bead_search import Search
from napari_tiltalign.methods.beads import MOST_BEADS_PER_VIEW
from napari_tiltalign.methods.constellation import Constellation
from napari_tiltalign.methods.learned_model import DETAILS_KEY, LearnedModel
from napari_tiltalign.methods.posterior import determination
from napari_tiltalign.methods.priors import ViewPriors, default_priors
from napari_tiltalign.methods.projection import SHIFT_Y, geometry_from_views, view_matrices
from napari_tiltalign.methods.resolve import SolvedTracks, solve_tracks, suspect_tracks, track_statistics
from napari_tiltalign.methods.result_views import included_views, view_flags
from napari_tiltalign.model import Alignment, Flag, Provenance, State, TiltSeries, Tracks

_HIGH_RESIDUAL = 0.1
"""Residual (rms) above which a fit is called poor, bead diameters."""


@dataclass(frozen=True, slots=True, eq=False)
class BeadRun:
    """Everything a run of the method produced, views in order of tilt, at the working scale.

    Attributes
    ----------
    series, options
        What was aligned, and how.
    found, scene, linked, refined
        See their classes.
    """

    series: TiltSeries
    options: MethodOptions
    found: Search
    scene: Scene
    linked: Constellation
    refined: Refined

    @property
    def order(self) -> NDArray[np.intp]:
        """Index in the series of every view, shape (n,)."""
        return self.found.order

    @property
    def factor(self) -> int:
        """Binning of the working scale."""
        return self.found.factor


def alignment_from(run: BeadRun, *, axis_turned: bool) -> Alignment:
    """Build the result of a run: its tracks and learned priors in raw pixels, solved once more as such.

    Parameters
    ----------
    run
        The run.
    axis_turned
        Whether another axis than the nominal one had to be tried, which leaves the hand in doubt.
    """
    series = run.series
    height = _middle(run.refined.solution.estimate.points_zyx[:, 0])
    model = _learned_model(run, height)
    tracks = _tracks(run, height)
    solved = solve_tracks(
        tracks, model, _start(run, height), series.pixel_size_angst, series.image_shape_yx
    )  # fmt: skip
    included, reasons = included_views(series, run.found, solved.solved[run.order])
    alignment = Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=solved.geometry,
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=included,
        reasons=reasons,
        unit_magnification_geometry=solved.unit_magnification_geometry,
        uncertainty=solved.uncertainty,
        tracks=solved.tracks,
        statistics={**track_statistics(solved.tracks), "views_aligned": float(solved.solved.sum())},
        details={
            "hand": "undetermined: positions cannot tell it",
            "working_binning": run.factor,
            "diameters_nm": [d * run.factor * series.pixel_size_angst / 10.0 for d in run.found.diameters_px],
            "candidates_per_view": _candidates(run),
            "suspect_tracks": suspect_tracks(solved.tracks),
            DETAILS_KEY: model.to_details(),
        },
        provenance=Provenance(method="fiducial", options=run.options.model_dump(), version=version("napari-tiltalign")),
    )
    return alignment.replace(flags=_flags(run, alignment, solved, axis_turned))


def _middle(heights: FloatArray) -> float:
    """Middle between the lower and the upper beads: the rotation centre goes there."""
    low, high = np.percentile(heights, [5.0, 95.0])
    return float(low + high) / 2.0


def _start(run: BeadRun, height: float) -> ViewGeometry:
    """Geometry in series order with the rotation centre at `height`; only the joined views matter."""
    views = run.linked.views.copy()
    views[run.refined.joined] = run.refined.solution.estimate.views
    views[:, SHIFT_Y:] += view_matrices(views, np.zeros(len(views)))[:, :, 0] * height
    in_series = np.empty_like(views)
    in_series[run.order] = views
    return geometry_from_views(in_series, np.zeros(len(views)), run.series.pixel_size_angst * run.factor)


def _learned_model(run: BeadRun, height: float) -> LearnedModel:
    """Learned priors and noise for all images in series order, raw pixels."""
    refined, series = run.refined, run.series
    start = default_priors(series.nominal_tilt_deg, run.linked.axis_deg)
    priors = ViewPriors(
        *(p.fixed(q.independent_sd, q.smooth_sd, q.length) for p, q in zip(start, refined.bundle.priors, strict=True))
    )
    solved = refined.solution.estimate.noise_sd
    noise = np.full(len(run.order), float(np.median(solved)))
    noise[run.order[refined.joined]] = solved
    return LearnedModel(priors, noise * run.factor, -height * run.factor, refined.bundle.height_sd * run.factor)


def _tracks(run: BeadRun, height: float) -> Tracks:
    """Every place where a bead was looked for, in raw pixels and series order; not solved yet."""
    refined, found, factor = run.refined, run.refined.measurements, run.factor
    used = found.used()
    k = len(found.view)
    state = np.where(found.detected, int(State.MEASURED), int(State.FILLED))
    state[found.reason > 0] = int(State.REJECTED)
    observations = refined.bundle.observations
    sd = np.full(k, np.nan)
    sd[used] = refined.solution.estimate.noise_sd[observations.view] * observations.relative_sd * factor
    points = refined.solution.estimate.points_zyx - np.array([height, 0.0, 0.0])
    tracks = Tracks.from_observations(
        run.series.tilt_ids,
        points * factor * run.series.pixel_size_angst,
        found.point,
        run.order[found.view],
        found.position_yx * factor + np.array(run.series.image_shape_yx) // 2,
    )
    return tracks.replace(sd_px=sd, state=state, reason=found.reason)


def _candidates(run: BeadRun) -> list[int]:
    counts = np.zeros(len(run.order), dtype=int)
    counts[run.order] = [0 if view is None else len(view.beads) for view in run.found.views]
    return [int(count) for count in counts]


def _flags(run: BeadRun, alignment: Alignment, solved: SolvedTracks, axis_turned: bool) -> tuple[Flag, ...]:
    series, statistics = run.series, alignment.statistics
    flags = list(view_flags(series, run.found, alignment, axis_searched=axis_turned))
    if statistics["tracks"] < 3:
        flags.append(Flag("few_beads", f"{statistics['tracks']:.0f} beads"))
    if max((len(v.beads) for v in run.found.views if v is not None), default=0) >= MOST_BEADS_PER_VIEW:
        flags.append(Flag("too_many_candidates", f"{MOST_BEADS_PER_VIEW} in a view; check the bead diameter"))
    if suspects := suspect_tracks(solved.tracks):
        flags.append(Flag("suspect_tracks", f"tracks {', '.join(map(str, suspects))}"))
    if not solved.solution.converged:
        flags.append(Flag("not_converged"))
    diameter_px = run.scene.diameter_px * run.factor
    if statistics["residual_rms_px"] > _HIGH_RESIDUAL * diameter_px:
        flags.append(Flag("high_residual", f"{statistics['residual_rms_px']:.2f} px"))
    typical = default_priors(series.nominal_tilt_deg[solved.solved], run.linked.axis_deg)
    words = determination(solved.bundle, solved.solution, typical).in_words()
    if words:
        flags.append(Flag("rank_deficient", "; ".join(words)))
    return tuple(flags)
