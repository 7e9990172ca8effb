"""What keys and buttons do: short functions of the session.

An action that makes no sense now raises `EditRefused`, with a message for the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from napari_tiltalign.model import Alignment
from napari_tiltalign.ui.bead_table import gaps, used_beads
from napari_tiltalign.ui.commands import EditTracks, ExcludeViews, LockTracks
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.session import Session

BY_HAND = "by hand"
_MANY = 10**9
"""More steps than a series has views."""


def previous_series(session: Session) -> None:
    """Show the previous series."""
    session.show_neighbour(-1)


def next_series(session: Session) -> None:
    """Show the next series."""
    session.show_neighbour(1)


def undo(session: Session) -> None:
    """Undo the last step."""
    session.undo()


def redo(session: Session) -> None:
    """Repeat the step undone last."""
    session.redo()


def toggle_aligned(session: Session) -> None:
    """Look at aligned images, or at raw ones."""
    session.show_aligned(not session.shows_aligned)


def previous_view(session: Session) -> None:
    """Look at the view of the next lower tilt."""
    _step_view(session, -1)


def next_view(session: Session) -> None:
    """Look at the view of the next higher tilt."""
    _step_view(session, 1)


def first_view(session: Session) -> None:
    """Look at the view of the lowest tilt angle."""
    _step_view(session, -_MANY)


def last_view(session: Session) -> None:
    """Look at the view of the highest tilt angle."""
    _step_view(session, _MANY)


def _step_view(session: Session, step: int) -> None:
    series = session.series
    if series is None:
        raise EditRefused("open a tilt series first")
    order = series.tilt_order().tolist()
    at = order.index(series.index_of(session.view)) + step
    session.select_view(series.tilt_ids[order[min(max(at, 0), len(order) - 1)]])


def toggle_view(session: Session) -> None:
    """Exclude the view that is looked at, or include it again."""
    series = session.series
    if series is None:
        raise EditRefused("open a tilt series first")
    session.do(ExcludeViews((session.view,), BY_HAND if series[session.view].included else ""))


def next_worst(session: Session) -> None:
    """Go to the bead with the largest residual among those that were not examined yet."""
    table = worst_first(aligned_tracks(session))
    if table.empty:
        raise EditRefused("no bead has a residual yet")
    examined = set(session.examined)
    fresh = [key not in examined for key in zip(table["track_id"], table["tilt_id"], strict=True)]
    if not any(fresh):
        session.told.emit("all beads were examined; starting again with the worst")
        session.examined.clear()
    row = table[fresh].iloc[0] if any(fresh) else table.iloc[0]
    session.examined.append((int(row["track_id"]), str(row["tilt_id"])))
    go(session, row)


def previous_worst(session: Session) -> None:
    """Go back to the bead that was examined before this one."""
    if len(session.examined) < 2:
        raise EditRefused("no bead was examined before this one")
    session.examined.pop()
    track_id, tilt_id = session.examined[-1]
    go(session, {"track_id": track_id, "tilt_id": tilt_id})


def worst_first(alignment: Alignment) -> pd.DataFrame:
    """Table of used beads, the worst first.

    Residuals are counted in standard deviations of their observations, so that high tilts, where beads are hard to
    measure, do not always come first. Where no standard deviation is known, the median residual stands for it.
    """
    table = used_beads(alignment)
    table = table[np.isfinite(table["residual_px"])]
    expected = table["sd_px"].fillna(table["residual_px"].median())
    relative = table["residual_px"] / np.maximum(expected, 1e-3)
    ranked: pd.DataFrame = table.assign(relative=relative).sort_values("relative", ascending=False, kind="stable")
    return ranked.reset_index(drop=True)


def next_gap(session: Session) -> None:
    """Go to the next gap: of the selected bead in order of tilt, then of the next bead that has one."""
    alignment, series = aligned_tracks(session), session.series
    if series is None:
        raise EditRefused("open a tilt series first")
    rank = np.argsort(series.tilt_order())
    table = gaps(alignment)
    if table.empty:
        raise EditRefused("there are no gaps")
    table = table.assign(rank=rank[table["tilt"]]).sort_values(["track_id", "rank"], kind="stable")
    bead = -1 if session.bead is None else session.bead
    here = (bead, rank[series.index_of(session.view)])
    later = [row for row in table.to_dict("records") if (row["track_id"], row["rank"]) > here]
    go(session, later[0] if later else table.iloc[0])


def accept_gap(session: Session) -> None:
    """Put the selected bead where it is predicted in this view, and go to the next gap."""
    bead, table = selected_bead(session), gaps(aligned_tracks(session))
    here = table[(table["track_id"] == bead) & (table["tilt_id"] == session.view)]
    if here.empty:
        raise EditRefused(f"bead {bead} has no gap in this view")
    position = (float(here["y_px"].iloc[0]), float(here["x_px"].iloc[0]))
    edit(session, "accept", track_id=bead, tilt_id=session.view, position_yx_px=position)


def remove_bead(session: Session) -> None:
    """Do not use the selected bead in this view."""
    edit(session, "remove", track_id=selected_bead(session), tilt_id=session.view)


def delete_bead(session: Session) -> None:
    """Delete the selected bead from all views."""
    edit(session, "delete", track_id=selected_bead(session))


def toggle_lock(session: Session) -> None:
    """Lock the selected bead, or release it."""
    bead, candidate = selected_bead(session), session.candidate
    session.do(LockTracks((bead,), locked=candidate is None or bead not in candidate.locked))


def place_bead(session: Session, track_id: int, tilt_id: str, position_yx_px: tuple[float, float]) -> None:
    """Put a bead at a position of the raw image."""
    edit(session, "place", track_id=track_id, tilt_id=tilt_id, position_yx_px=position_yx_px)


def add_bead(session: Session, tilt_id: str, position_yx_px: tuple[float, float]) -> None:
    """Start a new bead at a position of the raw image, and select it; its height is unknown and taken as 0."""
    alignment = aligned_tracks(session)
    view = alignment.tilt_ids.index(tilt_id)
    centre = np.array(alignment.image_shape_yx) // 2
    seen_angst = (np.asarray(position_yx_px) - centre) * alignment.pixel_size_angst
    point = alignment.geometry.unproject(view, seen_angst[None])[0]
    edit(session, "add", tilt_id=tilt_id, position_yx_px=position_yx_px, point_zyx_angst=tuple(point.tolist()))
    tracks = session.alignment.tracks if session.alignment else None
    if tracks is not None:
        session.select_bead(int(tracks.track_ids[-1]))


def edit(session: Session, name: str, **arguments: Any) -> None:
    """Apply one of `commands.EDITS` to the tracks of the alignment in use."""
    session.do(EditTracks(name, arguments))


def selected_bead(session: Session) -> int:
    """The bead that is selected; `EditRefused` if there is none."""
    if session.bead is None:
        raise EditRefused("select a bead first")
    return session.bead


def aligned_tracks(session: Session) -> Alignment:
    """The alignment in use, which has tracks; `EditRefused` if there is none."""
    alignment = session.alignment
    if alignment is None or alignment.tracks is None:
        raise EditRefused("there are no beads; align with a method that follows them first")
    return alignment


def go(session: Session, row: pd.Series[Any] | Mapping[Any, Any]) -> None:
    """Look at the view and select the bead of a row of a table."""
    session.select_bead(int(row["track_id"]))
    session.select_view(str(row["tilt_id"]))
