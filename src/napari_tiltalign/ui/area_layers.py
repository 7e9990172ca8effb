"""Layers in which a part of the field is drawn or painted, and the text that an option ``area`` takes.

The text is that of shapes in percent of the image of the view with the lowest tilt: the corners ``x,y x,y ...`` of
polygons, separated by semicolons.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Shapes

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import TiltSeries
from napari_tiltalign.ui.layer_data import display_binning, placement
from napari_tiltalign.ui.layers import Layers
from napari_tiltalign.ui.painted_area import outlines

AREA_KEY = "tiltalign_area"
"""Where a layer keeps the name of the series whose area it is."""

_AROUND_ELLIPSE = 32
_EDGE = 0.004
"""Width of the lines, parts of the image."""
_BRUSH = 0.05
"""Width of the brush, parts of the image."""


def drawn_layer(layers: Layers) -> Shapes:
    """Return the layer of shapes of the series that is shown, made if need be; the view with the lowest tilt is shown.

    Raises
    ------
    ValueError
        If no series is open.
    """
    series = _at_lowest_tilt(layers)
    known = next((layer for layer in area_layers(layers) if isinstance(layer, Shapes)), None)
    return known or layers.viewer.add_layer(
        Shapes(
            name="area", ndim=2, face_color=[0.2, 0.8, 0.4, 0.15], edge_color="#33cc66",
            edge_width=_EDGE * max(series.image_shape_yx), **_in_image(series, 1),
        )
    )  # fmt: skip


def painted_layer(layers: Layers) -> Labels:
    """Return the layer of labels of the series that is shown, as `drawn_layer` does."""
    series = _at_lowest_tilt(layers)
    known = next((layer for layer in area_layers(layers) if isinstance(layer, Labels)), None)
    if known is None:
        rows_columns = layers.raw_stack().shape[1:]
        attributes = _in_image(series, display_binning(series))
        known = Labels(np.zeros(rows_columns, np.uint8), name="painted area", opacity=0.35, **attributes)
        known.brush_size = max(1.0, _BRUSH * max(rows_columns))
        layers.viewer.add_layer(known)
    return known


def area_layers(layers: Layers) -> list[Shapes | Labels]:
    """Layers of the viewer with an area of the series that is shown."""
    series = layers.session.series
    return [
        layer
        for layer in layers.viewer.layers
        if series is not None and isinstance(layer, Shapes | Labels) and layer.metadata.get(AREA_KEY) == series.name
    ]


def show_areas_of_series(layers: Layers) -> None:
    """Hide areas of other series than the one that is shown."""
    own = area_layers(layers)
    for layer in layers.viewer.layers:
        if AREA_KEY in layer.metadata and layer not in own:
            layer.visible = False


def taken_layers(layers: Layers) -> list[Shapes | Labels]:
    """What an area is taken from: the series' own layers, and labels from elsewhere that are selected."""
    own, active = area_layers(layers), layers.viewer.layers.selection.active
    return [*own, active] if isinstance(active, Labels) and AREA_KEY not in active.metadata else own


def area_text(taken: Iterable[Layer], series: TiltSeries) -> str:
    """Areas of layers as the text of the option, to a tenth of a percent.

    Parameters
    ----------
    taken
        Layers of shapes, in raw pixels (lines are left out), and of labels anywhere in the world: every label but 0
        counts. Of labels for every view those of the lowest tilt are taken.
    series
        Whose area it is.
    """
    side = np.array(series.image_shape_yx)
    polygons_yx_px = [
        polygon
        for layer in taken
        for polygon in (_painted(layer, series) if isinstance(layer, Labels) else _drawn(layer))
    ]
    shapes = [100.0 * (corners - side // 2) / side + 50.0 for corners in polygons_yx_px]
    return "; ".join(" ".join(f"{x:.1f},{y:.1f}" for y, x in shape.tolist()) for shape in shapes)


def lowest_tilt(series: TiltSeries) -> int:
    """Index of the image with the lowest tilt."""
    return int(np.argmin(np.abs(series.nominal_tilt_deg)))


def _at_lowest_tilt(layers: Layers) -> TiltSeries:
    session = layers.session
    if session.series is None:
        raise ValueError("no series is open")
    session.show_aligned(False)
    session.select_view(session.series.tilt_ids[lowest_tilt(session.series)])
    return session.series


def _in_image(series: TiltSeries, binning: int) -> dict[str, Any]:
    """Attributes of a layer in two dimensions over the raw images of a series."""
    place = {name: value[1:] for name, value in placement(series, binning).items()}
    return {**place, "metadata": {AREA_KEY: series.name}}


def _drawn(layer: Shapes) -> list[FloatArray]:
    return [
        _ellipse(corners) if kind == "ellipse" else np.asarray(corners)[:, -2:]
        for corners, kind in zip(layer.data, layer.shape_type, strict=True)
        if kind in ("rectangle", "polygon", "ellipse")
    ]


def _painted(layer: Labels, series: TiltSeries) -> list[FloatArray]:
    labels = np.asarray(layer.data)
    if labels.ndim == 3:
        view = int(np.flatnonzero(series.tilt_order() == lowest_tilt(series))[0])
        at = round(float(layer.world_to_data((view, 0.0, 0.0))[0]))
        labels = labels[at] if 0 <= at < len(labels) else np.zeros(labels.shape[1:], labels.dtype)
    scale, offset = (np.asarray(values)[-2:] for values in (layer.scale, layer.translate))
    return [(corners * scale + offset) / series.pixel_size_angst for corners in outlines(labels != 0)]


def _ellipse(corners: FloatArray) -> FloatArray:
    """Points around an ellipse, of which napari tells the corners of the box."""
    corners = np.asarray(corners)[:, -2:]
    middle = np.mean(corners, axis=0)
    along, across = (corners[1] - corners[0]) / 2.0, (corners[3] - corners[0]) / 2.0
    turns = 2.0 * math.pi * np.arange(_AROUND_ELLIPSE) / _AROUND_ELLIPSE
    points: FloatArray = middle + np.cos(turns)[:, None] * along + np.sin(turns)[:, None] * across
    return points
