"""What is plotted of an alignment: values of every view, and the residuals of every bead in every view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.scores import Scores
from napari_tiltalign.quality.views import view_residual_px
from napari_tiltalign.ui.motion_overlay import motion_rms_px
from napari_tiltalign.ui.plots import Curve, Panel

PANELS = (
    Panel("shift (Å)", "Shift of every view in Angstrom, with one standard deviation", ("y", "x")),
    Panel("rotation (°)", "Direction of the tilt axis of every view, degrees, with one standard deviation"),
    Panel("Δ tilt (°)", "Tilt found minus nominal stage tilt of every view, degrees, with one standard deviation"),
    Panel(
        "residual (px)",
        "Distance between measured and predicted beads of every view, rms, pixels: as fitted, and when left out",
        ("fit", "left out"),
    ),
    Panel("motion (px)", "Local motion: how far the beads move against a rigid specimen in every view, rms, pixels"),
    Panel(
        "score",
        "After Judge: how well every view agrees with what the views beyond 10° predict of it, 100 times the "
        "correlation. It falls with the tilt, so look for views below their neighbours",
    ),
)
"""The plots, from the top; one in which nothing is known is left out."""


def view_curves(series: TiltSeries, alignment: Alignment, scores: Scores | None = None) -> list[list[Curve]]:
    """Curves of the n views for each of `PANELS`, in the order of the series; scores if the alignment was judged."""
    geometry, sd = alignment.geometry, alignment.uncertainty
    unknown = np.full(len(alignment), np.nan)
    shift_sd = np.column_stack([unknown, unknown]) if sd is None else sd.shift_yx_angst
    return [
        [Curve(geometry.shift_yx_angst[:, axis], shift_sd[:, axis]) for axis in (0, 1)],
        [Curve(_near_median_deg(geometry.z_rot_deg), unknown if sd is None else sd.z_rot_deg)],
        [Curve(geometry.y_tilt_deg - series.nominal_tilt_deg, unknown if sd is None else sd.y_tilt_deg)],
        [Curve(view_residual_px(alignment), unknown), Curve(view_residual_px(alignment, left_out=True), unknown)],
        [Curve(motion_rms_px(alignment), unknown)],
        [Curve(_score_of_views(series, scores), unknown)],
    ]


def _score_of_views(series: TiltSeries, scores: Scores | None) -> FloatArray:
    known = {} if scores is None else {view.tilt_id: view.score for view in scores.views}
    return np.array([known.get(tilt_id, np.nan) for tilt_id in series.tilt_ids])


def _near_median_deg(angle_deg: FloatArray) -> FloatArray:
    """Angles without the jump from 180 to -180 degrees."""
    middle = float(np.median(angle_deg))
    return middle + (angle_deg - middle + 180.0) % 360.0 - 180.0


@dataclass(frozen=True, slots=True, eq=False)
class ResidualGrid:
    """Residuals as a table.

    Attributes
    ----------
    track_ids
        Shape (p,): bead of every row, the worst (largest rms residual) first.
    tilt
        Shape (n,): index in the series of every column, sorted by nominal tilt.
    residual_px
        Shape (p, n): distance between measured and predicted position; NaN where the bead is not used.
    """

    track_ids: NDArray[np.int64]
    tilt: NDArray[np.intp]
    residual_px: FloatArray


def residual_grid(series: TiltSeries, alignment: Alignment) -> ResidualGrid | None:
    """Residuals of every bead in every view; None if the alignment has no tracks."""
    tracks = alignment.tracks
    if tracks is None:
        return None
    grid = np.full((tracks.n_tracks, len(series)), np.nan)
    used = tracks.used
    grid[tracks.track[used], tracks.tilt[used]] = np.linalg.norm(tracks.residual_yx_px[used], axis=1)
    known = np.isfinite(grid)
    rms = np.sqrt(np.nansum(grid**2, axis=1) / np.maximum(known.sum(axis=1), 1))
    rows, columns = np.argsort(-rms, kind="stable"), series.tilt_order()
    return ResidualGrid(tracks.track_ids[rows], columns, grid[np.ix_(rows, columns)])
