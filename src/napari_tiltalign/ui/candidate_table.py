"""The alignments of a series as rows of text, for choosing between them."""

from __future__ import annotations

from dataclasses import dataclass

from napari_tiltalign.model import Alignment
from napari_tiltalign.ui.judged import Judged
from napari_tiltalign.ui.summary import flag_text
from napari_tiltalign.ui.work import Work

COLUMNS: tuple[tuple[str, str], ...] = (
    ("Alignment", "Name; the one in use is bold; others that are ticked are drawn dashed in the plots"),
    (
        "Score",
        "How good it is by evidence that does not depend on the method, and its grade; higher is better. Press Judge",
    ),
    ("Flags", "Warnings; hold the mouse over them to read them"),
    ("Resid.", "Residual of the tracks, rms, pixels"),
    ("Left out", "Residual of observations that were predicted without themselves, rms, pixels"),
    ("Views", "Views it aligned"),
    ("Tracks", "Beads or patches it rests on"),
    ("Axis °", "Tilt axis, degrees: median over the views"),
)
"""Headings and what they mean."""


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One alignment: its name, whether it is in use, a text for each of `COLUMNS`, and its warnings in full."""

    name: str
    in_use: bool
    cells: tuple[str, ...]
    warnings: str


def candidate_rows(work: Work, judged: Judged) -> list[CandidateRow]:
    """Rows of all alignments, in the order they were made, with what was found out about them."""
    rows = []
    for name, candidate in work.candidates.items():
        alignment, in_use = candidate.alignment, name == work.current
        scores = judged.scores_of(alignment)
        warnings = [flag_text(flag) for flag in alignment.flags]
        if candidate.problem:
            warnings.insert(0, candidate.problem)
        cells = (
            name,
            "" if scores is None else f"{scores.score:.1f} {scores.grade}",
            str(len(warnings)) if warnings else "",
            _statistic(alignment, "residual_rms_px"),
            _statistic(alignment, "leave_out_rms_px"),
            f"{int(alignment.included.sum())}/{len(alignment)}",
            str(alignment.tracks.n_tracks) if alignment.tracks else "",
            f"{alignment.axis_deg:.2f}",
        )
        if scores is not None:
            warnings.insert(0, f"Judged {scores.grade}: {'; '.join(scores.reasons)}")
        rows.append(CandidateRow(name, in_use, cells, "\n".join(warnings)))
    return rows


def _statistic(alignment: Alignment, name: str) -> str:
    return f"{alignment.statistics[name]:.2f}" if name in alignment.statistics else ""
