"""A part of the field is drawn in the viewer and becomes the option of a method."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pytest
from napari.components import ViewerModel
from pydantic import Field

from napari_tiltalign.methods.base import MethodOptions
from napari_tiltalign.ui.area_row import AreaRow, area_layer, area_text, known_layer
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
    layer = area_layer(layers)
    assert not layers.session.shows_aligned
    assert layers.session.view == "view_00"
    layer.add_rectangles(np.array([[24.0, 20.0], [72.0, 60.0]]))  # of 96 rows and 80 columns: the middle half
    layer.add_polygons(np.array([[0.0, 0.0], [48.0, 0.0], [0.0, 40.0]]))
    layer.add_lines(np.array([[1.0, 1.0], [5.0, 9.0]]))
    rectangle, polygon = area_text(layer, series).split("; ")
    assert sorted(rectangle.split()) == sorted(MIDDLE)
    assert polygon == "0.0,0.0 0.0,50.0 50.0,0.0"


def test_an_ellipse_is_a_polygon(layers, series):
    layer = area_layer(layers)
    layer.add_ellipses(np.array([[24.0, 20.0], [24.0, 60.0], [72.0, 60.0], [72.0, 20.0]]))
    corners = np.array([[float(n) for n in corner.split(",")] for corner in area_text(layer, series).split()])
    np.testing.assert_allclose(np.linalg.norm((corners - 50.0) / 25.0, axis=1), 1.0, atol=0.01)
    assert len(corners) > 20


def test_the_button_takes_what_is_drawn_over(layers):
    form = OptionsForm(WithArea())
    row = AreaRow(layers.viewer, form)
    row.draw_button.changed.emit(True)
    layer = known_layer(layers)
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
    area_layer(layers).add_rectangles(np.array([[24.0, 20.0], [72.0, 60.0]]))
    layers.session.show("TS_2")
    assert known_layer(layers) is None
    row.take_button.changed.emit(True)
    assert form.value.area == "", "nothing is drawn here"
    layers.session.show("TS_1")
    assert known_layer(layers) is not None
