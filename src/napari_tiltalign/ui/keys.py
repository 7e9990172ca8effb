"""All keys in one table; the documentation shows the same table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import ref

from napari.components import ViewerModel

from napari_tiltalign.ui import actions
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.session import Session


@dataclass(frozen=True, slots=True)
class Key:
    """A key and what it does.

    Attributes
    ----------
    key
        As napari names it.
    action
        Called with the session.
    what
        What it does, for people.
    """

    key: str
    action: Callable[[Session], None]
    what: str


KEYS = (
    Key("[", actions.previous_series, "previous series"),
    Key("]", actions.next_series, "next series"),
    Key("Control-Z", actions.undo, "undo"),
    Key("Control-Shift-Z", actions.redo, "redo"),
    Key("Shift-A", actions.toggle_aligned, "raw or aligned images"),
    Key("Enter", actions.toggle_view, "exclude the view, or include it again"),
    Key("W", actions.next_worst, "bead with the largest residual that was not examined yet"),
    Key("Shift-W", actions.previous_worst, "back to the bead examined before"),
    Key("G", actions.next_gap, "next gap of the selected bead, then of the others"),
    Key("Y", actions.accept_gap, "put the selected bead where it is predicted in this view"),
    Key("X", actions.remove_bead, "do not use the selected bead in this view"),
    Key("Shift-X", actions.delete_bead, "delete the selected bead from all views"),
    Key("K", actions.toggle_lock, "lock the selected bead, or release it"),
)


def bind_keys(viewer: ViewerModel, session: Session) -> None:
    """Make all keys work in a viewer."""
    for key in KEYS:
        viewer.bind_key(key.key, _bound(session, key.action), overwrite=True)


def _bound(session: Session, action: Callable[[Session], None]) -> Callable[[Any], None]:
    watched = ref(session)

    def act(viewer: Any) -> None:
        alive = watched()
        if alive is not None:
            try:
                action(alive)
            except EditRefused as refused:
                alive.told.emit(str(refused))

    return act
