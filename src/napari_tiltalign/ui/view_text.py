"""Two lines about the image that is looked at, shown in the corner of the canvas; a narrow one has room for them."""

from __future__ import annotations

import math

from napari_tiltalign.ui.bead_table import followed_noun
from napari_tiltalign.ui.session import Session


def view_text(session: Session) -> str:
    """Name, number, tilt and dose of the image, and below its state and the selected bead; empty if nothing is open."""
    series, alignment = session.series, session.alignment
    if series is None:
        return ""
    tilt = series[session.view]
    rank = list(series.tilt_order()).index(series.index_of(session.view))
    parts = [f"{series.name}  view {rank + 1}/{len(series)}", f"tilt {round(tilt.nominal_tilt_deg, 1) + 0.0:+.1f}°"]
    if math.isfinite(tilt.pre_exposure_e_per_A2):
        parts.append(f"dose {tilt.pre_exposure_e_per_A2:.0f} e/Å²")
    state = ["aligned" if session.shows_aligned else "raw"]
    if session.bead is not None and alignment is not None:
        state.append(f"{followed_noun(alignment)} {session.bead}")
    if not tilt.included:
        state.append(f"EXCLUDED: {tilt.reason}")
    elif alignment is not None and not alignment.included[index := series.index_of(session.view)]:
        state.append(f"not aligned: {alignment.reasons[index]}")
    return "   ".join(parts) + "\n" + "   ".join(state)
