"""All keys in one table; the documentation shows the same table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import ref

from napari.components import ViewerModel
from napari.layers import Layer

from napari_tiltalign.ui import actions, link_actions
from napari_tiltalign.ui.centring import recentre
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.layers import Layers
from napari_tiltalign.ui.session import Session


@dataclass(frozen=True, slots=True)
class Key:
    """A key and what it does.

    Attributes
    ----------
    key
        As napari names it.
    action
        Called with the session, or with the layers where images are needed.
    what
        What it does, for people.
    """

    key: str
    action: Callable[[Any], None]
    what: str


KEYS = (
    Key("[", actions.previous_series, "previous series"),
    Key("]", actions.next_series, "next series"),
    Key("Up", actions.previous_view, "previous view"),
    Key("Down", actions.next_view, "next view"),
    Key("PageUp", actions.first_view, "first view"),
    Key("PageDown", actions.last_view, "last view"),
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
    Key("U", link_actions.next_unsure, "next link that is unsure: another bead is expected just as near"),
    Key("M", link_actions.merge_nearest, "merge the selected bead with the nearest other one in the specimen"),
    Key("Shift-S", link_actions.split_from_here, "make a new bead of it in this view and all of higher tilt"),
    Key("Shift-M", link_actions.swap_from_here, "swap it with its neighbour in this view and all of higher tilt"),
)

IMAGE_KEYS = (Key("C", recentre, "put the selected bead onto the centre of the gold in this view"),)
"""Keys whose action looks at the image."""


def key_of(action: Callable[[Any], None]) -> Key:
    """The key of an action; KeyError if it has none."""
    for key in KEYS + IMAGE_KEYS:
        if key.action is action:
            return key
    raise KeyError(f"{action.__name__} has no key")


def bind_keys(target: ViewerModel | Layer, session: Session, layers: Layers | None = None) -> None:
    """Make all keys work in a viewer, or while a layer is active; `IMAGE_KEYS` only if there are layers."""
    for key in KEYS:
        target.bind_key(key.key, _bound(session, key.action), overwrite=True)
    for key in IMAGE_KEYS if layers is not None else ():
        target.bind_key(key.key, _bound(layers, key.action), overwrite=True)


def attempt(subject: Session | Layers, action: Callable[[Any], None]) -> None:
    """Do something; if it makes no sense now, say why."""
    try:
        action(subject)
    except EditRefused as refused:
        (subject if isinstance(subject, Session) else subject.session).told.emit(str(refused))


def _bound(subject: Any, action: Callable[[Any], None]) -> Callable[[Any], None]:
    watched = ref(subject)

    def act(target: Any) -> None:
        alive = watched()
        if alive is not None:
            attempt(alive, action)

    return act
