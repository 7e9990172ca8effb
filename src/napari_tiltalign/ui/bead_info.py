"""Numbers of the selected bead in the view that is looked at, and what it does to the alignment."""

from __future__ import annotations

import math

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel

from napari_tiltalign.model import Alignment
from napari_tiltalign.ui.bead_summary import Effect, bead_effect
from napari_tiltalign.ui.bead_table import gaps, used_beads
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.session import Session
from napari_tiltalign.ui.tasks import in_thread
from napari_tiltalign.ui.wrapped import let_wrap

_PAUSE_MS = 250
"""The effect is worked out once the user has stayed with a bead for this long."""


class BeadInfo(QLabel):
    """Three lines about the selected bead.

    Parameters
    ----------
    session
        What to show.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._effect_text = ""
        self._asked: tuple[Alignment, int] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE_MS)
        self._timer.timeout.connect(self._ask_for_effect)
        let_wrap(self)
        self.setMinimumHeight(3 * self.fontMetrics().lineSpacing() + 4)
        hear(session.bead_changed, self._on_bead)
        hear(session.alignment_changed, self._on_bead)
        hear(session.view_changed, self._write)
        self._on_bead()

    def _on_bead(self) -> None:
        self._effect_text = ""
        self._asked = None
        self._timer.start()
        self._write()

    def _write(self) -> None:
        alignment, bead = self._session.alignment, self._session.bead
        if alignment is None or alignment.tracks is None:
            self.setText("No beads yet: align with a method that follows them.")
        elif bead is None:
            self.setText("No bead selected: click on a row, or on a ring with the arrow tool.")
        else:
            self.setText("\n".join([bead_line(alignment, bead, self._session.view), self._effect_text]).strip())

    def _ask_for_effect(self) -> None:
        candidate, bead = self._session.candidate, self._session.bead
        if candidate is None or not candidate.solved or candidate.alignment.tracks is None or bead is None:
            return
        asked = self._asked = (candidate.alignment, bead)
        # a method of this widget, not a function of its own: Qt disconnects it when the widget is deleted
        in_thread(lambda: (asked, bead_effect(*asked)), self.take_effect, _raise)

    def take_effect(self, answer: tuple[tuple[Alignment, int], Effect | None]) -> None:
        """Show what was asked and its effect, unless another bead was selected meanwhile."""
        asked, effect = answer
        if self._asked is asked:
            self._effect_text = effect_line(asked[0], effect)
            self._write()


def bead_line(alignment: Alignment, track_id: int, tilt_id: str) -> str:
    """What is known of a bead in one view."""
    used = used_beads(alignment)
    here = used[(used["track_id"] == track_id) & (used["tilt_id"] == tilt_id)]
    if not here.empty:
        row = here.iloc[0]
        parts = [f"Bead {track_id} here: {row['state']}"]
        for name, value, unit in (
            ("residual", row["residual_px"], " px"), ("left out", row["leave_out_px"], " px"),
            ("weight", row["weight"], ""),
        ):  # fmt: skip
            if math.isfinite(value):
                parts.append(f"{name} {value:.2f}{unit}")
        return ", ".join(parts)
    missing = gaps(alignment)
    missing = missing[(missing["track_id"] == track_id) & (missing["tilt_id"] == tilt_id)]
    if missing.empty:
        return f"Bead {track_id} is outside this view, or the view is excluded"
    reason = missing["reason"].iloc[0]
    return f"Bead {track_id} here: gap" + (f" ({reason})" if reason else "")


def effect_line(alignment: Alignment, effect: Effect | None) -> str:
    """What a bead does to the alignment."""
    if effect is None:
        return "Without it the series cannot be aligned."
    view = alignment.tilt_ids.index(effect.worst_tilt_id)
    return (
        f"Without it the views would move by {effect.rms_px:.2f} px, the one at "
        f"{round(alignment.geometry.y_tilt_deg[view]) + 0:+d}° by {effect.worst_px:.2f} px."
    )


def _raise(error: Exception) -> None:
    raise error
