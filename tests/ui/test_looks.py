"""Widgets in a real window of 1280 x 800: they fit and leave room for the images; what was saved looks the same."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from magicgui.widgets import CheckBox
from npe2 import PluginManifest
from qtpy.QtWidgets import QAbstractButton, QApplication, QScrollArea

from napari_tiltalign.io import read
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment, EditTracks, ExcludeViews
from napari_tiltalign.ui.height_overlay import HEIGHTS
from napari_tiltalign.ui.saving import save

pytestmark = pytest.mark.gui

PLUGIN = "napari-tiltalign"
SIZE = (1280, 800)
LEAST_CANVAS_PX = 450


def widget_names() -> list[str]:
    manifest = PluginManifest.from_distribution(PLUGIN)
    return [widget.display_name for widget in manifest.contributions.widgets]


def complaints(viewer, name: str, qtbot) -> list[str]:
    """What is wrong with a widget in a small window, once it has found its place."""
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    widget = getattr(widget, "native", widget)
    with suppress(qtbot.TimeoutError):
        qtbot.waitUntil(lambda: not faults(viewer, name, widget), timeout=5_000)
    found = faults(viewer, name, widget)
    viewer.window.remove_dock_widget(dock)
    return found


def faults(viewer, name: str, widget) -> list[str]:
    found = []
    rows, columns = viewer.window.screenshot(flash=False).shape[:2]
    if columns > SIZE[0] or rows > SIZE[1]:
        found.append(f"{name}: it makes the window {columns} x {rows}")
    canvas = viewer.screenshot(canvas_only=True, flash=False).shape[1]
    if canvas < LEAST_CANVAS_PX:
        found.append(f"{name}: {canvas} pixels are left for the images")
    for button in widget.findChildren(QAbstractButton):
        if button.isVisible() and not _scrolls(button, widget):
            if not widget.rect().contains(button.mapTo(widget, button.rect().bottomRight())):
                found.append(f"{name}: {button.text()!r} is cut off")
            if button.width() < min(button.sizeHint().width(), 60):
                found.append(f"{name}: {button.text()!r} is squeezed")
    return found


def test_widgets_fit_into_a_small_window(make_napari_viewer, dataset, truth, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(*SIZE)
    session = layers_of(viewer).session
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    assert [text for name in widget_names() for text in complaints(viewer, name, qtbot)] == []


@pytest.mark.parametrize("name", ["Align by gold beads", "Align by patches", "Align with AreTomo"])
def test_fields_of_a_form_begin_in_one_line(make_napari_viewer, name, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(*SIZE)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    fields = [field.native for field in widget.form if not isinstance(field, CheckBox)]
    assert len(fields) > 3

    def begin_in_one_line() -> bool:
        return len({field.mapTo(widget.form.native, field.rect().topLeft()).x() for field in fields}) == 1

    qtbot.waitUntil(begin_in_one_line, timeout=10_000)
    seen = next(parent for parent in parents(widget.form.native) if isinstance(parent, QScrollArea)).viewport()
    qtbot.waitUntil(lambda: widget.form.native.width() <= seen.width(), timeout=10_000)


@pytest.mark.parametrize("name", ["Align by projection matching", "Align by gold beads"])
def test_the_form_has_room_before_the_empty_log(make_napari_viewer, dataset, name, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1100, 700)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    scroll = next(parent for parent in parents(widget.form.native) if isinstance(parent, QScrollArea))
    log = widget.log.native

    def has_room() -> bool:
        return scroll.height() >= scroll.sizeHint().height() or log.height() <= log.minimumHeight()

    qtbot.waitUntil(has_room, timeout=10_000)
    taken = widget.start_box.native.mapTo(widget.native, widget.start_box.native.rect().topLeft()).y()
    below = widget.run_button.native.mapTo(widget.native, widget.run_button.native.rect().topLeft()).y()
    assert below - taken < 3 * widget.start_box.native.height(), "what is left over goes to the log alone"


def test_no_column_of_beads_is_cut_off(make_napari_viewer, dataset, truth, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1100, 700)
    session = layers_of(viewer).session
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Curate beads")
    header = widget.list.header()
    words = header.fontMetrics().horizontalAdvance("suspect, locked")
    qtbot.waitUntil(lambda: header.sectionSize(header.count() - 1) >= words, timeout=10_000)
    assert sum(header.sectionSize(column) for column in range(header.count())) <= widget.list.viewport().width()


def parents(widget):
    while (widget := widget.parentWidget()) is not None:
        yield widget


def _scrolls(child, top) -> bool:
    while child is not None and child is not top:
        if isinstance(child, QScrollArea):
            return True
        child = child.parentWidget()
    return False


def picture(viewer, *, aligned: bool) -> np.ndarray:
    """What the canvas shows at the first view that is shown, with everything that can be drawn."""
    layers = layers_of(viewer)
    layers.session.show_aligned(aligned)
    assert layers.wait_for_neighbours(20.0)
    for layer in viewer.layers:
        if layer.name in (HEIGHTS, "bead paths"):
            layer.visible = True
    QApplication.processEvents()
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0.0, 470.0, 390.0), 0.6
    return viewer.screenshot(size=(500, 600), canvas_only=True, flash=False)


def test_what_was_saved_looks_the_same_when_it_is_opened_again(make_napari_viewer, project, tmp_path):
    dataset, truth = project[0], project[1]["TS_1"]
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(*SIZE)
    session = layers_of(viewer).session
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    untouched = picture(viewer, aligned=False)
    session.solving.background = lambda work, done, failed: done(work())
    session.do(ExcludeViews((truth.tilt_ids[6],), "ice on it"))
    session.do(EditTracks("delete", {"track_id": 2}))
    y, x = truth.tracks.position_yx_px[(truth.tracks.track == 4) & (truth.tracks.tilt == 0)][0].tolist()
    moved = {"track_id": 4, "tilt_id": truth.tilt_ids[0], "position_yx_px": (y + 3.0, x)}
    session.do(EditTracks("place", moved))
    assert session.candidate.solved
    save(session, tmp_path / "project" / "Align" / "job")
    before = {aligned: picture(viewer, aligned=aligned) for aligned in (False, True)}
    assert not np.array_equal(before[False], untouched), "what was done is seen"

    again = make_napari_viewer(show=True)
    again.window.resize(*SIZE)
    layers_of(again).session.open(read(dataset.source))
    for aligned in (False, True):
        after = picture(again, aligned=aligned)
        assert after.shape == before[aligned].shape
        assert (after != before[aligned]).any(axis=2).mean() < 0.001, f"aligned: {aligned}"
