"""A part of the field is drawn in the viewer and becomes the option of a method."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pytest
from napari.components import ViewerModel
from pydantic import Field

from napari_tiltalign.methods.area import Area
from napari_tiltalign.methods.base import MethodOptions
from napari_tiltalign.ui.area_layers import area_layers, area_text, drawn_layer, painted_layer
from napari_tiltalign.ui.area_row import AreaRow
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment
from napari_tiltalign.ui.options_form import OptionsForm

pytestmark = pytest.mark.gui


MIDDLE = ["25.0,25.0", "75.0,25.0", "75.0,75.0", "25.0,75.0"]


class WithArea(MethodOptions):
    """Options of a method that can be told where to look."""

    area: Annotated[str, Field(description="Where to look")] = ""


@pytest.fixture
def layers(dataset, truth):
    viewer = ViewerModel()
    layers = layers_of(viewer)
    layers.session.open(dataset)
    layers.session.do(AddAlignment("exact", truth))
    yield layers
    del viewer  # nothing else has kept it alive


def test_shapes_are_told_in_percent_of_the_image_with_the_lowest_tilt(layers, series):
    layers.session.show_aligned(True)
    layers.session.select_view("view_05")
    layer = drawn_layer(layers)
    assert not layers.session.shows_aligned
    assert layers.session.view == "view_00"
    layer.add_rectangles(np.array([[24.0, 20.0], [72.0, 60.0]]))  # of 96 rows and 80 columns: the middle half
    layer.add_polygons(np.array([[0.0, 0.0], [48.0, 0.0], [0.0, 40.0]]))
    layer.add_lines(np.array([[1.0, 1.0], [5.0, 9.0]]))
    rectangle, polygon = area_text([layer], series).split("; ")
    assert sorted(rectangle.split()) == sorted(MIDDLE)
    assert polygon == "0.0,0.0 0.0,50.0 50.0,0.0"


def test_an_ellipse_is_a_polygon(layers, series):
    layer = drawn_layer(layers)
    layer.add_ellipses(np.array([[24.0, 20.0], [24.0, 60.0], [72.0, 60.0], [72.0, 20.0]]))
    corners = np.array([[float(n) for n in corner.split(",")] for corner in area_text([layer], series).split()])
    np.testing.assert_allclose(np.linalg.norm((corners - 50.0) / 25.0, axis=1), 1.0, atol=0.01)
    assert len(corners) > 20


def held(text: str) -> np.ndarray:
    """Which pixels of an image an area holds."""
    rows, columns = np.indices((96, 80))
    places = np.stack([columns / 80.0, rows / 96.0], -1).reshape(-1, 2) * 100.0
    return Area.of_text(text).holds(places).reshape(96, 80)


def test_what_is_painted_is_an_area_too(layers, series):
    layer = painted_layer(layers)
    layer.data[24:72, 20:60] = 1
    layer.data[40:56, 30:50] = 0
    layer.data[45:50, 38:42] = 3
    layer.data[0, 0] = 1  # a slip of the brush
    text = area_text([layer], series)
    assert text.count(";") == 1, "what is around the hole, and what is in it"
    expected = np.asarray(layer.data) != 0
    expected[0, 0] = False
    np.testing.assert_array_equal(held(text), expected)


def test_a_mask_from_elsewhere_is_taken_while_it_is_selected(layers, series):
    form = OptionsForm(WithArea())
    row = AreaRow(layers.viewer, form)
    mask = np.zeros((13, 48, 40), np.int32)
    mask[6, 12:36, 10:30] = 5  # the seventh view has the lowest tilt
    mask[2] = 1
    layer = layers.viewer.add_labels(mask, scale=(1.0, 20.0, 20.0), translate=(0.0, 5.0, 5.0))
    row.take_button.changed.emit(True)
    others = held(form.value.area)
    assert others[24:72, 20:60].sum() >= 48 * 40 - 4, "all but the corners"
    assert others.sum() <= 48 * 40
    layers.viewer.layers.selection.active = layers.raw_layer()
    row.take_button.changed.emit(True)
    assert form.value.area == ""
    layers.viewer.layers.remove(layer)


def test_shapes_and_paint_are_used_together(layers):
    form = OptionsForm(WithArea())
    row, told = AreaRow(layers.viewer, form), []
    layers.session.told.connect(told.append)
    row.paint_button.changed.emit(True)
    [painted] = area_layers(layers)
    assert layers.viewer.layers.selection.active is painted
    assert painted.mode == "paint"
    painted.paint((50, 40), 1)
    row.draw_button.changed.emit(True)
    drawn_layer(layers).add_rectangles(np.array([[24.0, 20.0], [72.0, 60.0]]))
    row.take_button.changed.emit(True)
    assert form.value.area.count(";") == 1
    assert told == ["the area has 2 parts"]


def test_the_button_takes_what_is_drawn_over(layers):
    form = OptionsForm(WithArea())
    row = AreaRow(layers.viewer, form)
    row.draw_button.changed.emit(True)
    [layer] = area_layers(layers)
    assert layers.viewer.layers.selection.active is layer
    assert layer.mode == "add_rectangle"
    layer.add_rectangles(np.array([[24.0, 20.0], [72.0, 60.0]]))
    row.take_button.changed.emit(True)
    assert sorted(form.value.area.split()) == sorted(MIDDLE)
    row.draw_button.changed.emit(True)
    assert [shapes.name for shapes in layers.viewer.layers].count("area") == 1, "the same layer is drawn in again"


def test_every_series_has_an_area_of_its_own(layers):
    form = OptionsForm(WithArea(area="1.0,1.0 2.0,1.0 2.0,2.0"))
    row = AreaRow(layers.viewer, form)
    drawn_layer(layers).add_rectangles(np.array([[24.0, 20.0], [72.0, 60.0]]))
    layers.session.show("TS_2")
    assert not layers.viewer.layers["area"].visible
    assert area_layers(layers) == []
    row.take_button.changed.emit(True)
    assert form.value.area == "", "nothing is drawn here"
    layers.session.show("TS_1")
    assert len(area_layers(layers)) == 1
