"""Bring napari layers up to date at the least cost: only what has changed is set, because every setter redraws."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Layer, Points, Tracks, Vectors


def update_layer(layer: Layer, data: Any, attributes: dict[str, Any]) -> None:
    """Give a layer new data; what the user has set about its looks stays.

    Parameters
    ----------
    layer
        Points, vectors or tracks.
    data, attributes
        As for a new layer of this kind.
    """
    if isinstance(layer, Points):
        _update_points(layer, data, attributes)
    elif isinstance(layer, Vectors):
        _update_vectors(layer, data, attributes)
    elif isinstance(layer, Tracks):
        _update_tracks(layer, data, attributes)
    else:
        raise TypeError(f"overlays are no {type(layer).__name__} layers")


def _update_points(layer: Points, data: Any, attributes: dict[str, Any]) -> None:
    mode, chosen = layer.mode, set(layer.selected_data)
    same_number = len(layer.data) == len(data)
    if not (same_number and np.array_equal(layer.data, data)):
        layer.data = data
    if not layer.features.equals(attributes["features"]):
        layer.features = attributes["features"]
    layer.border_color = attributes["border_color"]
    layer.face_color = attributes["face_color"]
    for name in ("border_width", "size"):
        if not np.array_equal(getattr(layer, name), np.broadcast_to(attributes[name], len(data))):
            setattr(layer, name, attributes[name])
    if not same_number:
        layer.symbol = attributes["symbol"]
        layer.selected_data = set()
    elif set(layer.selected_data) != chosen:
        layer.selected_data = chosen
    if layer.mode != mode:
        layer.mode = mode


def _update_vectors(layer: Vectors, data: Any, attributes: dict[str, Any]) -> None:
    if not np.array_equal(layer.data, data):
        layer.data = data
    layer.edge_color = attributes["edge_color"]


def _update_tracks(layer: Tracks, data: Any, attributes: dict[str, Any]) -> None:
    chosen = layer.color_by
    layer.color_by = "track_id"  # the only feature that survives new data
    layer.data = data
    layer.features = attributes["features"]
    layer.color_by = chosen
