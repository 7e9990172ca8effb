"""One line about the image that is looked at, shown in the corner of the canvas."""

from __future__ import annotations

import math

from napari_tiltalign.ui.session import Session


def view_text(session: Session) -> str:
    """Number, tilt, dose and state of the image, its fit, and the selected bead; empty if no series is open."""
    series, alignment = session.series, session.alignment
    if series is None:
        return ""
    tilt = series[session.view]
    rank = list(series.tilt_order()).index(series.index_of(session.view))
    parts = [f"{series.name}  view {rank + 1}/{len(series)}", f"tilt {round(tilt.nominal_tilt_deg, 1) + 0.0:+.1f}°"]
    if math.isfinite(tilt.pre_exposure_e_per_A2):
        parts.append(f"dose {tilt.pre_exposure_e_per_A2:.0f} e/Å²")
    parts.append("aligned" if session.shows_aligned else "raw")
    if session.bead is not None:
        parts.append(f"bead {session.bead}")
    lines = ["   ".join(parts)]
    if not tilt.included:
        lines.append(f"EXCLUDED: {tilt.reason}")
    elif alignment is not None and not alignment.included[index := series.index_of(session.view)]:
        lines.append(f"not aligned: {alignment.reasons[index]}")
    return "\n".join(lines)
