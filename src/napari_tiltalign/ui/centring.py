"""Auto-centring: positions that the user points at are put onto the gold."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.centre import centre_bead
from napari_tiltalign.ui.actions import aligned_tracks, place_bead, selected_bead
from napari_tiltalign.ui.bead_table import bead_diameter_px, predicted_yx_px
from napari_tiltalign.ui.edits import EditRefused, find_observation, find_tilt, find_track
from napari_tiltalign.ui.layer_data import display_binning
from napari_tiltalign.ui.layers import Layers


def centred(layers: Layers, tilt_id: str, position_yx_px: FloatArray) -> FloatArray | None:
    """Centre of the bead near a raw position, shape (2,), from the image as it is displayed; None if there is none."""
    series, alignment = layers.session.series, layers.session.alignment
    if series is None or alignment is None or layers.frame is None:
        raise EditRefused("align a tilt series first")
    binning = display_binning(series)
    view = int(layers.frame.rank[series.index_of(tilt_id)])
    centre = centre_bead(
        layers.raw_stack().image(view),
        (np.asarray(position_yx_px) + 0.5) / binning - 0.5,
        bead_diameter_px(alignment) / binning,
        bright=alignment.provenance.options.get("bead_contrast") == "bright",
    )
    return None if centre is None else (centre + 0.5) * binning - 0.5


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
    centre = centred(layers, session.view, tracks.position_yx_px[row] if used else predicted)
    if centre is None:
        raise EditRefused(f"there is no gold near bead {bead} in this view")
    place_bead(session, bead, session.view, (float(centre[0]), float(centre[1])))
