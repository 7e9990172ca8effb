"""One row for every bead: how often it is seen, how well it fits, what it does to the solution."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.methods.resolve import resolve, suspect_tracks
from napari_tiltalign.model import Alignment
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.ui.bead_table import gaps, used_beads
from napari_tiltalign.ui.edits import delete_track

_SLAB_ANGST = 2000.0
"""Thickness of the specimen over which effects are measured; the figure hardly depends on it."""


def bead_summary(alignment: Alignment, locked: Collection[int] = ()) -> pd.DataFrame:
    """Table of the beads, the largest residual first.

    Parameters
    ----------
    alignment
        With tracks.
    locked
        Ids of locked beads.

    Returns
    -------
    pandas.DataFrame
        ``track_id``, ``views`` (where it is used), ``gaps``, ``residual_px`` and ``leave_out_px`` (root mean square
        distances), ``weight`` (mean robust weight), and ``state``: "suspect", "locked", both or neither.
    """
    tracks = alignment.tracks
    if tracks is None:
        raise ValueError(f"the alignment of {alignment.series_name} has no tracks")
    table = pd.DataFrame({"track_id": tracks.track_ids}).set_index("track_id")
    used = used_beads(alignment)
    groups = used.groupby("track_id")
    suspect = set(suspect_tracks(tracks))
    table["views"] = groups.size()
    table["gaps"] = gaps(alignment).groupby("track_id").size()
    for name in ("residual_px", "leave_out_px"):
        table[name] = np.sqrt((used[name] ** 2).groupby(used["track_id"]).mean())
    table["weight"] = groups["weight"].mean()
    table[["views", "gaps"]] = table[["views", "gaps"]].fillna(0).astype(int)
    table["state"] = [
        ", ".join(word for word, holds in (("suspect", bead in suspect), ("locked", bead in locked)) if holds)
        for bead in table.index
    ]
    ranked: pd.DataFrame = table.sort_values("residual_px", ascending=False, kind="stable").reset_index()
    return ranked


@dataclass(frozen=True, slots=True)
class Effect:
    """What one bead does to the alignment.

    Attributes
    ----------
    rms_px
        How far images move, root mean square over the specimen, if the bead is left out.
    worst_px, worst_tilt_id
        The same of the image that moves most.
    """

    rms_px: float
    worst_px: float
    worst_tilt_id: str


def bead_effect(alignment: Alignment, track_id: int) -> Effect | None:
    """Solve without a bead and compare; None if nothing can be solved without it."""
    if alignment.tracks is None:
        raise ValueError(f"the alignment of {alignment.series_name} has no tracks")
    try:
        without = resolve(alignment, delete_track(alignment.tracks, track_id))
    except MethodFailed:
        return None
    moved = difference(without, alignment, thickness_angst=_SLAB_ANGST)
    return Effect(moved.rms_px, moved.worst_view_rms_px, moved.worst_tilt_id)
