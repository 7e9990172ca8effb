"""Which observations may belong to another bead: pure functions of an alignment."""

from __future__ import annotations

import numpy as np
import pandas as pd

from napari_tiltalign.model import Alignment
from napari_tiltalign.ui.bead_table import bead_diameter_px, predicted_yx_px, used_beads
from napari_tiltalign.ui.edits import EditRefused, find_observation, find_tilt, find_track

_CLEARLY_FARTHER = 2.0
"""A link is sure if every other bead is predicted at least this many times farther away than its own."""


def unsure_links(alignment: Alignment) -> pd.DataFrame:
    """Used observations that could as well belong to another bead, the most doubtful first.

    A link is unsure where another bead is predicted less than a bead diameter away from the observation, or less than
    twice as far as its own bead.

    Returns
    -------
    pandas.DataFrame
        ``track_id``, ``tilt``, ``tilt_id``, ``other_id``, ``own_px`` and ``other_px`` (distances from the predicted
        places of the two beads), and ``doubt``, their ratio.
    """
    table = used_beads(alignment)[["track_id", "tilt", "tilt_id", "y_px", "x_px"]]
    tracks = alignment.tracks
    if tracks is None or tracks.n_tracks < 2 or table.empty:
        return table.iloc[:0].assign(other_id=[], own_px=[], other_px=[], doubt=[])
    apart = np.linalg.norm(
        predicted_yx_px(alignment)[table["tilt"]] - table[["y_px", "x_px"]].to_numpy()[:, None], axis=2
    )
    each = np.arange(len(table))
    own = tracks.track[tracks.used]
    own_px = apart[each, own]
    apart[each, own] = np.inf
    other = apart.argmin(axis=1)
    other_px = apart[each, other]
    table = table.assign(
        other_id=tracks.track_ids[other], own_px=own_px, other_px=other_px, doubt=own_px / np.maximum(other_px, 1e-6)
    )
    unsure = other_px < np.maximum(_CLEARLY_FARTHER * own_px, bead_diameter_px(alignment))
    ranked: pd.DataFrame = table[unsure].sort_values("doubt", ascending=False, kind="stable").reset_index(drop=True)
    return ranked


def neighbour_in_view(alignment: Alignment, track_id: int, tilt_id: str) -> int:
    """Id of the other bead that is predicted nearest to a bead in one image.

    Raises
    ------
    EditRefused
        If there is no other bead.
    """
    tracks = alignment.tracks
    if tracks is None or tracks.n_tracks < 2:
        raise EditRefused("there is no other bead")
    own, tilt = find_track(tracks, track_id), find_tilt(tracks, tilt_id)
    predicted = predicted_yx_px(alignment)[tilt]
    row = find_observation(tracks, track_id, tilt_id)
    here = predicted[own] if row is None else tracks.position_yx_px[row]
    apart = np.linalg.norm(predicted - here, axis=1)
    apart[own] = np.inf
    return int(tracks.track_ids[apart.argmin()])


def neighbour_in_specimen(alignment: Alignment, track_id: int) -> tuple[int, float]:
    """Id of the other bead that lies nearest in the specimen, and how far away it is, Angstrom.

    Raises
    ------
    EditRefused
        If there is no other bead.
    """
    tracks = alignment.tracks
    if tracks is None or tracks.n_tracks < 2:
        raise EditRefused("there is no other bead")
    own = find_track(tracks, track_id)
    apart = np.linalg.norm(tracks.points_zyx_angst - tracks.points_zyx_angst[own], axis=1)
    apart[own] = np.inf
    return int(tracks.track_ids[apart.argmin()]), float(apart.min())
