"""Observations of patches that are no measurement: vague ones, and those that contradict the geometry.

A displacement is measured by the phases of waves. Beyond half of the shortest wave the next crest is as near, and the
quadratic form that the displacement is taken from holds no longer. So an observation whose own standard deviation is
larger says nothing, and one that lies further from where the geometry predicts it is none of this patch: it shows
something else, at another height or moved (an edge of a hole, a bead on the other face).
"""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import REJECTION_REASONS, State, Tracks

AMBIGUOUS_WAVES = 0.5
"""A displacement by so much of the shortest wave is as well one in the other direction."""

_LEAST_SHARE = 0.5
"""A patch most of whose observations contradict the geometry is left out as a whole: the rest fits by chance."""


def without_vague(tracks: Tracks, alone_sd_px: FloatArray, shortest_wave_px: float) -> Tracks:
    """Reject observations that say too little about their place (reason ``vague``).

    Parameters
    ----------
    tracks
        With what was looked for and measured.
    alone_sd_px
        Shape (k,): standard deviation of a coordinate of each observation by itself.
    shortest_wave_px
        Length of the shortest wave that patches were compared by.
    """
    return _rejected(tracks, alone_sd_px > AMBIGUOUS_WAVES * shortest_wave_px, "vague")


def without_contradictions(tracks: Tracks, shortest_wave_px: float) -> Tracks:
    """Reject observations that lie too far from where the solved geometry predicts them (reason ``moved``).

    A patch that loses most of its observations to that is rejected as a whole (reason ``outlier``).

    Parameters
    ----------
    tracks
        Solved: with residuals.
    shortest_wave_px
        Length of the shortest wave that patches were compared by.
    """
    apart = np.linalg.norm(tracks.residual_yx_px, axis=1)
    kept = _rejected(tracks, apart > AMBIGUOUS_WAVES * shortest_wave_px, "moved")
    before = np.bincount(tracks.track[tracks.used], minlength=tracks.n_tracks)
    after = np.bincount(kept.track[kept.used], minlength=tracks.n_tracks)
    hopeless = after < _LEAST_SHARE * before
    return _rejected(kept, hopeless[kept.track], "outlier")


def _rejected(tracks: Tracks, which: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], reason: str) -> Tracks:
    changed = tracks.used & which
    return tracks.replace(
        state=np.where(changed, int(State.REJECTED), tracks.state),
        reason=np.where(changed, REJECTION_REASONS.index(reason), tracks.reason),
    )
