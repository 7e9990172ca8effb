"""Brings a viewer and its session together; every widget starts here."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from napari.components import ViewerModel

from napari_tiltalign.ui.layers import Layers
from napari_tiltalign.ui.session import Session, session_for

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
        _LAYERS[real] = Layers(real, session_for(real, _new_session))
    return _LAYERS[real]


def _new_session() -> Session:
    return Session()
