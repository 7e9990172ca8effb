"""The text over the pictures: in the corner of the canvas of its own viewer, and within it."""

from __future__ import annotations

import gc

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.canvas_text import CanvasLabel, CanvasText
from napari_tiltalign.ui.commands import ExcludeViews
from napari_tiltalign.ui.qt_window import canvas_of


def label_of(viewer) -> CanvasLabel:
    [label] = canvas_of(viewer).findChildren(CanvasLabel)
    return label


def test_a_viewer_without_a_window_knows_its_text():
    text = CanvasText(ViewerModel())
    text.show("view 3")
    text.note("green: other")
    assert text.shown == "view 3\ngreen: other"
    text.show("")
    assert text.shown == "green: other"


@pytest.mark.gui
def test_the_canvas_says_what_is_looked_at(make_napari_viewer, dataset, truth):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    session = layers_of(viewer).session
    session.open(dataset)
    label = label_of(viewer)
    assert label.isVisible()
    assert label.text() == "TS_1  view 7/13   tilt +0.0°   dose 0 e/Å²\nraw"
    viewer.dims.set_current_step(0, 3)
    assert label.text().startswith("TS_1  view 4/13")
    assert label.testAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    session.close()
    assert not label.isVisible()


@pytest.mark.gui
def test_long_text_stays_within_a_narrow_canvas(make_napari_viewer, dataset, truth, qtbot):
    viewer = make_napari_viewer(show=True)
    session = layers_of(viewer).session
    session.open(dataset)
    session.do(ExcludeViews(("view_00",), "a reason that takes many words, <b>some</b> of them in brackets, " * 4))
    canvas, label = canvas_of(viewer), label_of(viewer)
    viewer.window.resize(1400, 800)
    qtbot.waitUntil(lambda: label.height() >= label.heightForWidth(label.width()))
    wide = label.height()
    assert canvas.rect().contains(label.geometry())
    viewer.window.resize(800, 800)
    qtbot.waitUntil(lambda: label.height() > wide)
    assert canvas.rect().contains(label.geometry())
    assert "<b>" in label.text(), "reasons are no markup"


@pytest.mark.gui
def test_every_viewer_has_its_own_text_and_may_be_closed(make_napari_viewer, dataset):
    one, other = make_napari_viewer(), make_napari_viewer()
    session = layers_of(one).session
    session.open(dataset)
    layers_of(other).session.open(dataset)
    layers_of(other).session.select_view("view_12")
    assert label_of(one).text() != label_of(other).text()
    text = layers_of(other).text
    other.close()
    QApplication.processEvents()
    gc.collect()
    text.show("too late")
    assert "view 7/13" in label_of(one).text()
