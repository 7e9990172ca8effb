"""Auto-centring: positions that the user points at are put onto the gold."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.centre import centre_bead
from napari_tiltalign.model import Alignment
from napari_tiltalign.ui.actions import aligned_tracks, place_bead, selected_bead
from napari_tiltalign.ui.bead_table import bead_diameter_px, follows_areas, predicted_yx_px, used_beads
from napari_tiltalign.ui.edits import EditRefused, find_observation, find_tilt, find_track
from napari_tiltalign.ui.layer_data import display_binning
from napari_tiltalign.ui.layers import Layers

_SAME_PLACE = 0.5
"""Beads closer to each other than this, in diameters, are one."""


def bead_at(alignment: Alignment, tilt_id: str, position_yx_px: FloatArray, but: int | None = None) -> int | None:
    """Id of the bead that is used at a place of an image, other than `but`; None if there is none."""
    table = used_beads(alignment)
    table = table[(table["tilt_id"] == tilt_id) & (table["track_id"] != but)]
    apart = np.linalg.norm(table[["y_px", "x_px"]].to_numpy() - position_yx_px, axis=1)
    if not apart.size or apart.min() > _SAME_PLACE * bead_diameter_px(alignment):
        return None
    return int(table["track_id"].iloc[apart.argmin()])


def centred(layers: Layers, tilt_id: str, position_yx_px: FloatArray, bead: int | None = None) -> FloatArray | None:
    """Find the gold near a raw position in the image as it is displayed.

    Parameters
    ----------
    layers
        Where the image is taken from.
    tilt_id, position_yx_px
        Image, and raw pixel index in it.
    bead
        Whose gold is looked for; gold on which another bead is used already is not taken.

    Returns
    -------
    FloatArray or None
        Raw pixel index (2,) of its centre; None if there is no free gold, or areas of the images are followed.
    """
    series, alignment = layers.session.series, layers.session.alignment
    if series is None or alignment is None or layers.frame is None:
        raise EditRefused("align a tilt series first")
    if follows_areas(alignment):
        return None
    binning = display_binning(series)
    view = int(layers.frame.rank[series.index_of(tilt_id)])
    centre = centre_bead(
        layers.raw_stack().image(view),
        (np.asarray(position_yx_px) + 0.5) / binning - 0.5,
        bead_diameter_px(alignment) / binning,
        bright=alignment.provenance.options.get("bead_contrast") == "bright",
    )
    if centre is None:
        return None
    raw: FloatArray = (centre + 0.5) * binning - 0.5
    return raw if bead_at(alignment, tilt_id, raw, but=bead) is None else None


def recentre(layers: Layers) -> None:
    """Put the selected bead onto the gold near where it is, or where it is predicted, in this view."""
    session = layers.session
    bead, alignment = selected_bead(session), aligned_tracks(session)
    tracks = alignment.tracks
    if tracks is None:
        raise EditRefused("there are no beads")
    row = find_observation(tracks, bead, session.view)
    used = row is not None and tracks.used[row]
    predicted = predicted_yx_px(alignment)[find_tilt(tracks, session.view), find_track(tracks, bead)]
    centre = centred(layers, session.view, tracks.position_yx_px[row] if used else predicted, bead)
    if centre is None:
        raise EditRefused(f"there is no free gold near bead {bead} in this view")
    place_bead(session, bead, session.view, (float(centre[0]), float(centre[1])))
