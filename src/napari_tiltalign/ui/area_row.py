"""Draw a part of the field in the viewer, for methods with an option ``area``; the row of buttons for it.

The text of the option is that of shapes in percent of the image of the view with the lowest tilt: the corners
``x,y x,y ...`` of polygons, separated by semicolons.
"""

from __future__ import annotations

import math

import numpy as np
from magicgui.widgets import Container, PushButton, Widget
from napari.components import ViewerModel
from napari.layers import Shapes

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import TiltSeries
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.layer_data import AXIS_LABELS, UNITS
from napari_tiltalign.ui.layers import Layers
from napari_tiltalign.ui.options_form import OptionsForm

FIELD = "area"
"""Name of the option."""

AREA_KEY = "tiltalign_area"
"""Where a layer of shapes keeps the name of the series that it belongs to."""

_AROUND_ELLIPSE = 32
_EDGE = 0.004
"""Width of the lines, parts of the image."""


class AreaRow(Container[Widget]):
    """Two buttons: one to draw shapes, one that takes them over into a form.

    Parameters
    ----------
    napari_viewer
        Where to draw.
    form
        Whose field `FIELD` is set.
    """

    def __init__(self, napari_viewer: ViewerModel, form: OptionsForm) -> None:
        self._layers = layers_of(napari_viewer)
        self._form = form
        self.draw_button = PushButton(
            text="Draw area", tooltip="Draw rectangles or polygons over the raw image with the lowest tilt"
        )
        self.take_button = PushButton(
            text="Use drawn area",
            tooltip="Set the option to the shapes that are drawn; without any, to all of the field",
        )
        super().__init__(widgets=[self.draw_button, self.take_button], layout="horizontal", labels=False)
        self.margins = (0, 0, 0, 0)
        self.draw_button.changed.connect(self._draw)
        self.take_button.changed.connect(self._take)

    def _draw(self) -> None:
        if self._layers.session.series is None:
            self._layers.session.told.emit("open a tilt series first")
            return
        layer = area_layer(self._layers)
        layer.visible = True
        layer.mode = "add_rectangle"
        self._layers.viewer.layers.selection.active = layer

    def _take(self) -> None:
        series, layer = self._layers.session.series, known_layer(self._layers)
        self._form[FIELD].value = "" if series is None or layer is None else area_text(layer, series)


def known_layer(layers: Layers) -> Shapes | None:
    """The layer of shapes of the series that is shown; None if nothing was drawn."""
    series = layers.session.series
    for layer in layers.viewer.layers:
        if series is not None and isinstance(layer, Shapes) and layer.metadata.get(AREA_KEY) == series.name:
            return layer
    return None


def area_layer(layers: Layers) -> Shapes:
    """Return the layer of shapes of the series that is shown, made if need be; the view with the lowest tilt is shown.

    Raises
    ------
    ValueError
        If no series is open.
    """
    session, known = layers.session, known_layer(layers)
    series = session.series
    if series is None:
        raise ValueError("no series is open")
    session.show_aligned(False)
    session.select_view(series.tilt_ids[lowest_tilt(series)])
    if known is not None:
        return known
    pixel = series.pixel_size_angst
    return layers.viewer.add_layer(
        Shapes(
            name="area", ndim=2, scale=(pixel, pixel), units=UNITS[1:], axis_labels=AXIS_LABELS[1:],
            face_color=[0.2, 0.8, 0.4, 0.15], edge_color="#33cc66", edge_width=_EDGE * max(series.image_shape_yx),
            metadata={AREA_KEY: series.name},
        )
    )  # fmt: skip


def lowest_tilt(series: TiltSeries) -> int:
    """Index of the image with the lowest tilt."""
    return int(np.argmin(np.abs(series.nominal_tilt_deg)))


def area_text(layer: Shapes, series: TiltSeries) -> str:
    """Shapes of a layer in raw pixels as the text of the option, to a tenth of a percent; lines are left out."""
    closed = [
        _ellipse(corners) if kind == "ellipse" else corners
        for corners, kind in zip(layer.data, layer.shape_type, strict=True)
        if kind in ("rectangle", "polygon", "ellipse")
    ]
    side = np.array(series.image_shape_yx)
    shapes = [100.0 * (np.asarray(corners)[:, -2:] - side // 2) / side + 50.0 for corners in closed]
    return "; ".join(" ".join(f"{x:.1f},{y:.1f}" for y, x in shape.tolist()) for shape in shapes)


def _ellipse(corners: FloatArray) -> FloatArray:
    """Points around an ellipse, of which napari tells the corners of the box."""
    middle = np.mean(corners, axis=0)
    along, across = (corners[1] - corners[0]) / 2.0, (corners[3] - corners[0]) / 2.0
    turns = 2.0 * math.pi * np.arange(_AROUND_ELLIPSE) / _AROUND_ELLIPSE
    points: FloatArray = middle + np.cos(turns)[:, None] * along + np.sin(turns)[:, None] * across
    return points
