"""Widgets of the plugin become tabs, and the window keeps its size."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QWidget

from napari_tiltalign.ui.qt_window import window_of

pytestmark = pytest.mark.gui

PLUGIN = "napari-tiltalign"


@pytest.fixture
def viewer(make_napari_viewer):
    """A viewer in a small window."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    return viewer


def dock(viewer, name):
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[0]


def is_on_top(one) -> bool:
    return one.isVisible() and not one.visibleRegion().isEmpty()


def test_widgets_are_tabs_and_the_last_is_on_top(viewer, qtbot):
    names = ("Dataset", "Align by gold beads", "Curate beads", "Exclude views", "Inspect", "Check")
    docks = []
    for name in names:
        docks.append(dock(viewer, name))
        qtbot.waitUntil(lambda: is_on_top(docks[-1]), timeout=10_000)
        qtbot.waitUntil(lambda: window_of(viewer).height() == 800, timeout=10_000)
    assert set(window_of(viewer).tabifiedDockWidgets(docks[0])) == set(docks[1:])
    assert sum(map(is_on_top, docks)) == 1
    assert [one.windowTitle() for one in docks] == list(names), "tabs have room for no more"


def test_what_others_have_docked_stays_where_it_is(viewer, qtbot):
    other = viewer.window.add_dock_widget(QWidget(), name="of somebody else", area="right")
    ours = dock(viewer, "Dataset")
    qtbot.waitUntil(lambda: is_on_top(ours), timeout=10_000)
    assert window_of(viewer).tabifiedDockWidgets(ours) == []
    assert is_on_top(other)


def test_where_the_user_has_put_widgets_they_stay(viewer, qtbot):
    moved, floating, hidden = (dock(viewer, name) for name in ("Dataset", "Check", "Inspect"))
    window = window_of(viewer)
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, moved)
    floating.setFloating(True)
    hidden.hide()
    new = dock(viewer, "Curate beads")
    qtbot.waitUntil(lambda: is_on_top(new), timeout=10_000)
    assert window.tabifiedDockWidgets(new) == []
    new.hide()
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, hidden)
    hidden.show()
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, new)
    new.show()
    qtbot.waitUntil(lambda: is_on_top(new), timeout=10_000)
    assert window.tabifiedDockWidgets(new) == [], "only the first time"
    assert window.dockWidgetArea(moved) == Qt.DockWidgetArea.LeftDockWidgetArea
