"""Brings a viewer and its session together; every widget starts here."""

from __future__ import annotations

from weakref import WeakKeyDictionary, ref

from napari.components import ViewerModel
from napari.utils.notifications import show_warning

from napari_tiltalign.ui.keys import bind_keys
from napari_tiltalign.ui.layers import Layers
from napari_tiltalign.ui.session import Session, session_for
from napari_tiltalign.ui.tasks import in_thread

_LAYERS: WeakKeyDictionary[ViewerModel, Layers] = WeakKeyDictionary()


def layers_of(viewer: ViewerModel) -> Layers:
    """Return the layers of a viewer, which hold its session; both are made at the first call.

    Parameters
    ----------
    viewer
        The viewer, or the proxy of it that napari gives to plugins.
    """
    real = getattr(viewer, "__wrapped__", viewer)
    if real not in _LAYERS:
        session = session_for(real, _new_session)
        _report(real, session)
        _LAYERS[real] = Layers(real, session)
        bind_keys(real, session)
    return _LAYERS[real]


def session_of(viewer: ViewerModel) -> Session:
    """Return the session of a viewer, with its layers in step; see `layers_of`."""
    return layers_of(viewer).session


def _new_session() -> Session:
    return Session(background=in_thread)


def _report(viewer: ViewerModel, session: Session) -> None:
    """Show the session's messages: in the status bar, or as a notification."""
    watched = ref(viewer)

    def tell(message: str) -> None:
        shown = watched()
        if shown is not None:
            shown.status = message

    session.told.connect(tell)
    session.warned.connect(show_warning)
