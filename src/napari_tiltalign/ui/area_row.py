"""The row of buttons with which a part of the field is drawn or painted, for methods with an option ``area``."""

from __future__ import annotations

from magicgui.widgets import Container, PushButton, Widget
from napari.components import ViewerModel
from napari.layers import Layer

from napari_tiltalign.ui.area_layers import area_text, drawn_layer, painted_layer, show_areas_of_series, taken_layers
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.options_form import OptionsForm

FIELD = "area"
"""Name of the option."""


class AreaRow(Container[Widget]):
    """Three buttons: one to draw shapes, one to paint, one that takes both over into a form.

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
            text="Draw area", tooltip="Draw rectangles, polygons or ellipses over the raw image with the lowest tilt"
        )
        self.paint_button = PushButton(
            text="Paint area",
            tooltip="Paint over the raw image with the lowest tilt; every label but 0 counts, holes are left out",
        )
        self.take_button = PushButton(
            text="Use area",
            tooltip="Set the option to what is drawn and painted, and to a mask (a layer of labels) that is selected; "
            "without any, to all of the field",
        )
        buttons = [self.draw_button, self.paint_button, self.take_button]
        super().__init__(widgets=buttons, layout="horizontal", labels=False)
        self.margins = (0, 0, 0, 0)
        self.draw_button.changed.connect(self._draw)
        self.paint_button.changed.connect(self._paint)
        self.take_button.changed.connect(self._take)
        hear(self._layers.session.series_changed, self._on_series, self.native)

    def _draw(self) -> None:
        if self._is_open():
            layer = drawn_layer(self._layers)
            self._choose(layer)
            layer.mode = "add_rectangle"

    def _paint(self) -> None:
        if self._is_open():
            layer = painted_layer(self._layers)
            self._choose(layer)
            layer.mode = "paint"

    def _is_open(self) -> bool:
        if self._layers.session.series is None:
            self._layers.session.told.emit("open a tilt series first")
            return False
        return True

    def _choose(self, layer: Layer) -> None:
        layer.visible = True
        self._layers.viewer.layers.selection.active = layer

    def _take(self) -> None:
        series = self._layers.session.series
        text = area_text(taken_layers(self._layers), series) if series is not None else ""
        self._form[FIELD].value = text
        parts = text.count(";") + 1
        told = f"the area has {parts} part{'s'[: parts > 1]}" if text else "no area is drawn: all of the field is used"
        self._layers.session.told.emit(told)

    def _on_series(self) -> None:
        show_areas_of_series(self._layers)
