"""Every view of a series as one row of text: what it is, what it looks like, how it fits, whether it is used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.scores import Scores
from napari_tiltalign.quality.views import Suggestion, view_residual_px
from napari_tiltalign.ui.view_survey import NOT_SEEN, SeenView

USED, EXCLUDED, NOT_ALIGNED, SUSPECT = "used", "excluded", "not aligned", "suspect"
"""States of a view."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: its heading and what it means, with units."""

    heading: str
    meaning: str


COLUMNS = (
    Column("Tilt", "Nominal stage tilt, degrees; ticked views are used"),
    Column("State", "used; excluded, with the reason; not aligned by the method; or suspect (see the suggestions)"),
    Column("Resid.", "Residual of the alignment in use: rms distance between measured and predicted beads, pixels"),
    Column(
        "Score",
        "After Judge in Inspect: 100 times the correlation with what views beyond 10° predict of it; in brackets\n"
        "if the alignment was edited since. It falls with the tilt, so look for views below their neighbours",
    ),
    Column("Bright.", "Brightness: mean grey value, in the units of the image"),
    Column("Contr.", "Contrast: standard deviation of the structures, percent of the brightness"),
    Column("Dose", "Dose before this image, electrons per square Angstrom"),
    Column("Defocus", "Nominal defocus, micrometres; negative for underfocus"),
)


@dataclass(frozen=True, slots=True)
class ViewRow:
    """One view.

    Attributes
    ----------
    tilt_id
        Which view.
    state
        `USED`, `EXCLUDED`, `NOT_ALIGNED` or `SUSPECT`.
    cells
        Texts, one for each of `COLUMNS`.
    """

    tilt_id: str
    state: str
    cells: tuple[str, ...]


def view_rows(
    series: TiltSeries,
    alignment: Alignment | None,
    seen: Mapping[str, SeenView],
    suggestions: Iterable[Suggestion],
    scores: tuple[Scores | None, bool] = (None, False),
) -> list[ViewRow]:
    """Rows of all views, sorted by tilt.

    Parameters
    ----------
    series
        With the user's exclusions.
    alignment
        The one in use, if there is one.
    seen
        What was seen of the images so far, by tilt_id.
    suggestions
        Views that are suspect.
    scores
        How good the alignment is, if that is known, and whether it was edited since.
    """
    judged, are_old = scores
    score_of = {} if judged is None else {view.tilt_id: _text(view.score, 0) for view in judged.views}
    suspects = {suggestion.tilt_id: suggestion.reason for suggestion in suggestions}
    residual_px = view_residual_px(alignment) if alignment else None
    rows = []
    for index in series.tilt_order().tolist():
        tilt = series.tilts[index]
        state, reason = USED, ""
        if not tilt.included:
            state, reason = EXCLUDED, tilt.reason
        elif alignment is not None and not alignment.included[index]:
            state, reason = NOT_ALIGNED, alignment.reasons[index]
        elif tilt.tilt_id in suspects:
            state, reason = SUSPECT, suspects[tilt.tilt_id]
        measures = seen.get(tilt.tilt_id, NOT_SEEN).measures
        cells = (
            _text(tilt.nominal_tilt_deg, 1, "+"),
            f"{state}: {reason}" if reason else state,
            "" if residual_px is None else _text(residual_px[index], 2),
            _bracketed(score_of.get(tilt.tilt_id, ""), are_old),
            _text(measures.brightness, 1),
            _text(100.0 * measures.contrast / max(measures.brightness, 1e-12), 2),
            _text(tilt.pre_exposure_e_per_A2, 0),
            _text(tilt.nominal_defocus_um, 2),
        )
        rows.append(ViewRow(tilt.tilt_id, state, cells))
    return rows


def with_judged(suggestions: Iterable[Suggestion], series: TiltSeries, scores: Scores | None) -> list[Suggestion]:
    """Return the suggestions, and the views that judging found to stand out and to be no gain, unless they are out."""
    found = list(suggestions)
    known = {suggestion.tilt_id for suggestion in found}
    for view in () if scores is None else scores.views:
        if view.suggest_exclusion and view.tilt_id not in known and series[view.tilt_id].included:
            gain = f"the reconstruction would be {view.gain_percent:.1f} % sharper without it"
            told = [reason for reason in view.reasons if "sharper" not in reason]
            found.append(Suggestion(view.tilt_id, "low score", "; ".join([*told, gain])))
    return found


def _bracketed(text: str, are_old: bool) -> str:
    return f"({text})" if text and are_old else text


def _text(value: float, digits: int, sign: str = "") -> str:
    """A number as text, without a sign on zero; empty if it is not known or makes no sense."""
    known = math.isfinite(value) and abs(value) < 1e6
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}" if known else ""
