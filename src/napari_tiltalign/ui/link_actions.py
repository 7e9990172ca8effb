"""What keys and buttons do about beads that were mistaken for each other; like `actions`, functions of the session."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.ui.actions import aligned_tracks, edit, go, selected_bead
from napari_tiltalign.ui.bead_table import bead_diameter_px
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.links import neighbour_in_specimen, neighbour_in_view, unsure_links
from napari_tiltalign.ui.session import Session

_SAME_BEAD = 3.0
"""Tracks of one bead lie closer than this many bead diameters in the specimen, however badly they are solved."""


def next_unsure(session: Session) -> None:
    """Go to the next observation that could as well belong to another bead, the most doubtful first."""
    table = unsure_links(aligned_tracks(session))
    if table.empty:
        raise EditRefused("no bead comes close to where another one is predicted")
    here = np.flatnonzero((table["track_id"] == session.bead) & (table["tilt_id"] == session.view))
    row = table.iloc[(int(here[0]) + 1) % len(table) if here.size else 0]
    go(session, row)
    session.told.emit(
        f"bead {row['track_id']} lies {row['own_px']:.1f} px from its own predicted place and {row['other_px']:.1f} px "
        f"from that of bead {row['other_id']}"
    )


def views_from_here(session: Session) -> tuple[str, ...]:
    """The view that is looked at and all of higher tilt beyond it: where a wrong link usually goes on."""
    series = session.series
    if series is None:
        raise EditRefused("open a tilt series first")
    order = series.tilt_order()
    here = int(np.flatnonzero(order == series.index_of(session.view))[0])
    untilted = int(np.argmin(np.abs(series.nominal_tilt_deg[order])))
    chosen = order[here:] if here >= untilted else order[: here + 1]
    return tuple(series.tilt_ids[index] for index in chosen)


def swap_from_here(session: Session) -> None:
    """Exchange the selected bead with its neighbour, in this view and all of higher tilt beyond it."""
    bead = selected_bead(session)
    other = neighbour_in_view(aligned_tracks(session), bead, session.view)
    edit(session, "swap", track_id=bead, other_id=other, tilt_ids=list(views_from_here(session)))


def split_from_here(session: Session) -> None:
    """Make a new bead of the selected one, in this view and all of higher tilt beyond it."""
    edit(session, "split", track_id=selected_bead(session), tilt_ids=list(views_from_here(session)))


def merge_nearest(session: Session) -> None:
    """Declare the selected bead and the nearest other one in the specimen to be one bead."""
    bead, alignment = selected_bead(session), aligned_tracks(session)
    other, apart_angst = neighbour_in_specimen(alignment, bead)
    if apart_angst > _SAME_BEAD * bead_diameter_px(alignment) * alignment.pixel_size_angst:
        raise EditRefused(
            f"the nearest other bead, {other}, is {apart_angst / 10.0:.0f} nm away, too far to be the same; "
            "to merge them all the same, select both in the list of beads"
        )
    merge_beads(session, bead, other)


def merge_beads(session: Session, track_id: int, other_id: int) -> None:
    """Declare two beads to be one; the first keeps its id and, where both are used, its position."""
    edit(session, "merge", track_id=track_id, other_id=other_id)
