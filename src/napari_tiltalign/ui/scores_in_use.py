"""How good the alignment in use is, as far as it was judged."""

from __future__ import annotations

from napari_tiltalign.quality.scores import Scores
from napari_tiltalign.ui.session import Session


def scores_in_use(session: Session) -> tuple[Scores | None, bool]:
    """Return the scores of the alignment in use, if it was judged, and whether that was before its last edit."""
    series = session.series
    if series is None:
        return None, False
    return session.judged.last_scores_of((series.name, session.work.current), session.alignment)
