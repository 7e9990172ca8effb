"""What to tell a person about an alignment, in a few lines."""

from __future__ import annotations

import math

import numpy as np

from napari_tiltalign.model import Alignment, Flag


def alignment_summary(alignment: Alignment) -> list[str]:
    """Lines about an alignment: what it rests on, how well it fits, how sure it is, and its warnings."""
    statistics, sd = alignment.statistics, alignment.uncertainty
    bar = "" if sd is None or not math.isfinite(sd.axis_deg) else f" ± {sd.axis_deg:.2g}°"
    parts = [f"{int(alignment.included.sum())} of {len(alignment)} views", f"tilt axis {alignment.axis_deg:.2f}°{bar}"]
    if alignment.tracks is not None:
        parts.insert(0, f"{alignment.tracks.n_tracks} beads or patches")
    if "residual_rms_px" in statistics:
        parts.append(f"residual {statistics['residual_rms_px']:.2f} px rms")
    if "leave_out_rms_px" in statistics:
        parts.append(f"{statistics['leave_out_rms_px']:.2f} px when left out")
    return [", ".join(parts), *_expected_error(alignment), *(f"⚠ {flag_text(flag)}" for flag in alignment.flags)]


def _expected_error(alignment: Alignment) -> list[str]:
    error = None if alignment.uncertainty is None else alignment.uncertainty.expected_error
    if error is None or not np.isfinite(error.rms_angst).any():
        return []
    low, high = np.nanmin(error.rms_angst), np.nanmax(error.rms_angst)
    pixel = alignment.pixel_size_angst
    return [
        f"expected error {error.overall_angst / pixel:.2g} px, {low / pixel:.2g} to {high / pixel:.2g} over the field"
    ]


def flag_text(flag: Flag) -> str:
    """What a flag means, and what exactly was found."""
    return f"{flag.meaning.removesuffix('.')}: {flag.detail}" if flag.detail else flag.meaning
