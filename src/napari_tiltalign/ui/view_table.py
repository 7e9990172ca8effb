"""Every view of a series as one row of text: what it is, what it looks like, how it fits, whether it is used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from napari_tiltalign.model import Alignment, TiltSeries
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
    """
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
            _text(measures.brightness, 1),
            _text(100.0 * measures.contrast / max(measures.brightness, 1e-12), 2),
            _text(tilt.pre_exposure_e_per_A2, 0),
            _text(tilt.nominal_defocus_um, 2),
        )
        rows.append(ViewRow(tilt.tilt_id, state, cells))
    return rows


def _text(value: float, digits: int, sign: str = "") -> str:
    """A number as text, without a sign on zero; empty if it is not known or makes no sense."""
    known = math.isfinite(value) and abs(value) < 1e6
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}" if known else ""
