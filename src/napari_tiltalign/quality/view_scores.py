"""The score of every view, with reasons where it stands out, and what would be gained without it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.agreement import Agreement
from napari_tiltalign.quality.bead_witness import BeadWitness
from napari_tiltalign.quality.consistency import Consistency
from napari_tiltalign.quality.views import JUMP_PERCENT, RESIDUAL_FACTOR, expected_from_neighbours
from napari_tiltalign.quality.working_views import WorkingViews

LOW_AGREEMENT = 0.5
"""A view that agrees less than this part of what its neighbours let expect stands out."""
LARGE_OFFSET = 0.01
"""So does one that is displaced by more than this part of the field against what its neighbours predict,"""
LARGE_RESIDUAL = 0.003
"""and one whose beads are further than this part of the field from where they are predicted."""
_PREDICTED = 0.05
"""Correlations below this are not compared: the views predict next to nothing of each other."""
_SIGMAS = 5.0
"""It must also stand out this far of the scatter of all views."""
_LEAST_GAIN_PERCENT = 0.5
_CONFIRMED = 0.8
"""A view that agrees with the others by this part of what its neighbours let expect is where it should be."""


@dataclass(frozen=True, slots=True)
class ViewScore:
    """What is known of one view in an alignment.

    Attributes
    ----------
    tilt_id, tilt_deg
        Which view; its nominal tilt.
    used
        Whether it took part in the alignment and could be judged.
    score
        100 times the correlation with what the views beyond the gap predict; NaN if it was not used. It falls with
        the tilt, so compare it with that of neighbours.
    offset_yx_px
        Displacement against what its neighbours predict, raw pixels; NaN where that is not clear.
    bead_residual_px
        Of the beads it shows, raw pixels; NaN without beads.
    gain_percent
        How much sharper the reconstruction would be without it, percent; usually negative.
    reasons
        What stands out, for people; empty if nothing does.
    suggest_exclusion
        Whether it stands out and the reconstruction would gain. Nothing is excluded without you.
    """

    tilt_id: str
    tilt_deg: float
    used: bool
    score: float
    offset_yx_px: tuple[float, float]
    bead_residual_px: float
    gain_percent: float
    reasons: tuple[str, ...]
    suggest_exclusion: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        y, x = plain.pop("offset_yx_px")
        return {**plain, "offset_y_px": y, "offset_x_px": x, "reasons": list(self.reasons)}


def view_scores(
    series: TiltSeries,
    alignment: Alignment,
    views: WorkingViews,
    agreed: Agreement,
    beads: BeadWitness | None,
    geometry: Consistency,
) -> tuple[ViewScore, ...]:
    """Score every view of a series; all arguments are of the same n views in the same order."""
    residual = np.full(len(series), np.nan) if beads is None else beads.per_view_px
    reasons = _reasons(series, agreed, residual, geometry)
    gain_limit = max(_LEAST_GAIN_PERCENT, _outlier_limit(agreed.gain_percent))
    result = []
    for i, tilt in enumerate(series.tilts):
        used = bool(np.isfinite(agreed.gain_percent[i]))
        gain = float(agreed.gain_percent[i])
        found = reasons[i] if used else [views.reasons[i] or alignment.reasons[i] or "left out by the alignment"]
        if used and gain > gain_limit:
            found.append(f"without it the reconstruction is {gain:.1f} % sharper")
        result.append(
            ViewScore(
                tilt.tilt_id,
                tilt.nominal_tilt_deg,
                used,
                100.0 * float(agreed.gap_correlation[i]),
                (float(agreed.offset_yx_px[i, 0]), float(agreed.offset_yx_px[i, 1])),
                float(residual[i]),
                gain,
                tuple(found),
                used and bool(found) and gain > 0,
            )
        )
    return tuple(result)


def _reasons(series: TiltSeries, agreed: Agreement, residual: FloatArray, geometry: Consistency) -> list[list[str]]:
    """What stands out about every view."""
    reasons: list[list[str]] = [list(remarks) for remarks in geometry.view_remarks]
    correlation = agreed.gap_correlation
    expected = expected_from_neighbours(series, correlation)
    part = np.where(expected > _PREDICTED, correlation / np.maximum(expected, _PREDICTED), np.nan)
    for i in np.flatnonzero((part < LOW_AGREEMENT) & (-part > _outlier_limit(-part))):
        reasons[i].append(
            f"it agrees with the other views only {max(100 * part[i], 0):.0f} % as well as its neighbours do"
        )
    clear = agreed.offset_yx_px[np.isfinite(agreed.offset_yx_px).all(axis=1)]
    middle = np.median(clear, axis=0) if len(clear) else np.zeros(2)
    offset = np.linalg.norm(agreed.offset_yx_px - middle, axis=1)
    limit = max(LARGE_OFFSET * min(series.image_shape_yx), _outlier_limit(offset))
    for i in np.flatnonzero(offset > limit):
        reasons[i].append(f"it is {offset[i]:.1f} px from where its neighbours predict it")
    confirmed = part >= _CONFIRMED
    if np.isfinite(residual).any():
        floor = LARGE_RESIDUAL * min(series.image_shape_yx)
        limit = max(floor, RESIDUAL_FACTOR * float(np.nanmedian(residual)), _outlier_limit(residual))
        for i in np.flatnonzero(residual > limit):
            reasons[i].append(f"its beads are {residual[i]:.1f} px from where they are predicted")
        confirmed |= residual <= limit
    # a stage may jump; that is a fault of the alignment only where the images do not bear it out
    jump = geometry.jump_percent
    for i in np.flatnonzero((jump > max(JUMP_PERCENT, _outlier_limit(jump))) & ~confirmed):
        reasons[i].append(f"it jumps by {jump[i]:.0f} % of the field against its neighbours")
    return reasons


def _outlier_limit(values: FloatArray) -> float:
    """Beyond this, a value stands out of the scatter of all."""
    known = values[np.isfinite(values)]
    if not known.size:
        return math.inf
    middle = float(np.median(known))
    return middle + _SIGMAS * 1.4826 * float(np.median(np.abs(known - middle)))
