"""Bring napari layers up to date at the least cost.

Every setter of a napari layer checks all values, tells everybody and redraws, which for some thousand beads takes
longer than solving the alignment. So what keeps its shape is written into the arrays the layer has, and drawn once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Layer, Points, Tracks, Vectors


def fits(layer: Layer, data: Any) -> bool:
    """Whether a layer can be given these data: vectors that are equal in all views have no axis for the views."""
    return not isinstance(layer, Vectors) or layer.ndim == data.shape[2]


def looks(layer: Vectors) -> dict[str, Any]:
    """What the user may have set about vectors that are all alike, as attributes of a layer in their place."""
    names = ("visible", "opacity", "blending", "edge_width", "length", "vector_style")
    return {name: getattr(layer, name) for name in names} | {"edge_color": layer.edge_color[0]}


def update_layer(layer: Layer, data: Any, attributes: dict[str, Any]) -> None:
    """Give a layer new data; what the user has set about its looks stays.

    Parameters
    ----------
    layer
        Points, vectors, tracks or an image.
    data, attributes
        As for a new layer of this kind.
    """
    if isinstance(layer, Points):
        _update_points(layer, data, attributes)
    elif isinstance(layer, Vectors):
        _update_vectors(layer, data, attributes)
    elif isinstance(layer, Tracks):
        _update_tracks(layer, data, attributes)
    elif isinstance(layer, Image):
        layer.data = data
        layer.contrast_limits = attributes["contrast_limits"]
    else:
        raise TypeError(f"overlays are no {type(layer).__name__} layers")


def _update_points(layer: Points, data: Any, attributes: dict[str, Any]) -> None:
    if len(layer.data) == len(data):
        _rewrite_points(layer, data, attributes)
        return
    mode = layer.mode
    layer.data = data
    layer.features = attributes["features"]
    layer.border_color = attributes["border_color"]
    layer.face_color = attributes["face_color"]
    layer.border_width = attributes["border_width"]
    layer.size = attributes["size"]
    layer.symbol = attributes["symbol"]
    layer.selected_data = set()
    if layer.mode != mode:
        layer.mode = mode


def _rewrite_points(layer: Points, data: Any, attributes: dict[str, Any]) -> None:
    """As many points as before."""
    if not len(data):
        return
    _rewrite_features(layer, attributes["features"])
    changed = [
        _write(layer.data, data),
        _write(layer.border_color, attributes["border_color"]),
        _write(layer.face_color, attributes["face_color"]),
        _write(layer.border_width, attributes["border_width"]),
        _write(layer.size, attributes["size"]),
    ]
    if any(changed):
        layer.refresh()


def _rewrite_features(layer: Points, features: pd.DataFrame) -> None:
    """Write new features into the table of a layer, which need not be checked: the columns are the same."""
    table = layer.features
    if list(table.columns) != list(features.columns):
        layer.features = features
        return
    for name in features.columns:
        table[name] = features[name].to_numpy()
    layer.events.features()
    if layer.text.visible:
        layer.refresh_text()


def _update_vectors(layer: Vectors, data: Any, attributes: dict[str, Any]) -> None:
    colours = attributes["edge_color"]
    if len(layer.data) == len(data) and not attributes.get("features"):
        same_colours = isinstance(colours, str)
        changed = [_write(layer.data, data), not same_colours and _write(layer.edge_color, colours)]
        if any(changed):
            layer.refresh()
        return
    layer.data = data
    if "features" in attributes:
        layer.features = attributes["features"]
    layer.edge_color = colours


def _write(array: Any, values: Any) -> bool:
    """Write values into an array of a layer; whether any was another one."""
    if np.allclose(array, values, rtol=0.0, atol=1e-6):
        return False
    array[:] = values
    return True


def _update_tracks(layer: Tracks, data: Any, attributes: dict[str, Any]) -> None:
    chosen = layer.color_by
    layer.color_by = "track_id"  # the only feature that survives new data
    layer.data = data
    layer.features = attributes["features"]
    layer.color_by = chosen
