"""What to tell a person about an alignment, in a few lines."""

from __future__ import annotations

from napari_tiltalign.model import Alignment, Flag


def alignment_summary(alignment: Alignment) -> list[str]:
    """Lines about an alignment: what it rests on, how well it fits, and its warnings."""
    statistics = alignment.statistics
    parts = [f"{int(alignment.included.sum())} of {len(alignment)} views", f"tilt axis {alignment.axis_deg:.2f}°"]
    if alignment.tracks is not None:
        parts.insert(0, f"{alignment.tracks.n_tracks} beads or patches")
    if "residual_rms_px" in statistics:
        parts.append(f"residual {statistics['residual_rms_px']:.2f} px rms")
    if "leave_out_rms_px" in statistics:
        parts.append(f"{statistics['leave_out_rms_px']:.2f} px when left out")
    return [", ".join(parts), *(f"⚠ {flag_text(flag)}" for flag in alignment.flags)]


def flag_text(flag: Flag) -> str:
    """What a flag means, and what exactly was found."""
    return f"{flag.meaning.removesuffix('.')}: {flag.detail}" if flag.detail else flag.meaning
