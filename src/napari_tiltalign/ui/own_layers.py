"""The layers of a viewer that belong to the session; their metadata say which part they play."""

from __future__ import annotations

from collections.abc import Callable

from napari.components import ViewerModel
from napari.layers import Layer

ROLE_KEY = "tiltalign_role"
"""Marks layers that belong to the session; their metadata say which they are."""


def layer_of_role(viewer: ViewerModel, role: str) -> Layer | None:
    """The layer that plays a role; None if it is not there."""
    return next((layer for layer in viewer.layers if layer.metadata.get(ROLE_KEY) == role), None)


def remove_own(viewer: ViewerModel, which: Callable[[Layer], bool]) -> None:
    """Remove those layers of the session for which `which` is true."""
    for layer in list(viewer.layers):
        if ROLE_KEY in layer.metadata and which(layer):
            viewer.layers.remove(layer)


def insert_quietly(viewer: ViewerModel, layer: Layer, at: int, instead_of: Layer | None = None) -> None:
    """Insert a layer; the active layer stays the active one, or is the new one if that takes its place."""
    active = viewer.layers.selection.active
    if instead_of is not None:
        viewer.layers.remove(instead_of)
    viewer.layers.insert(at, layer)
    viewer.layers.selection.active = layer if active is not None and active is instead_of else active
