"""What to tell a person about an alignment, in a few lines."""

from __future__ import annotations

import math

from napari_tiltalign.model import Alignment, Flag
from napari_tiltalign.ui.bead_table import followed_noun
from napari_tiltalign.ui.expected_error_overlay import expected_error_text, known_error


def alignment_summary(alignment: Alignment) -> list[str]:
    """Lines about an alignment: what it rests on, how well it fits, how sure it is, and its warnings."""
    statistics, sd = alignment.statistics, alignment.uncertainty
    bar = "" if sd is None or not math.isfinite(sd.axis_deg) else f" ± {sd.axis_deg:.2g}°"
    parts = [f"{int(alignment.included.sum())} of {len(alignment)} views", f"tilt axis {alignment.axis_deg:.2f}°{bar}"]
    if alignment.tracks is not None:
        parts.insert(0, f"{(n := alignment.tracks.n_tracks)} {followed_noun(alignment, n)}")
    if "residual_rms_px" in statistics:
        parts.append(f"residual {statistics['residual_rms_px']:.2f} px rms")
    if "leave_out_rms_px" in statistics:
        parts.append(f"{statistics['leave_out_rms_px']:.2f} px when left out")
    return [", ".join(parts), *_expected_error(alignment), *(f"⚠ {flag_text(flag)}" for flag in alignment.flags)]


def _expected_error(alignment: Alignment) -> list[str]:
    return [] if known_error(alignment) is None else [expected_error_text(alignment)]


def flag_text(flag: Flag) -> str:
    """What a flag means, and what exactly was found."""
    return f"{flag.meaning.removesuffix('.')}: {flag.detail}" if flag.detail else flag.meaning
