"""Nothing of the plugin outlives its viewer."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from npe2 import PluginManifest
from qtpy.compat import isalive

from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment, ExcludeViews

pytestmark = pytest.mark.gui

PLUGIN = "napari-tiltalign"


def widget_names() -> list[str]:
    manifest = PluginManifest.from_distribution(PLUGIN)
    return [widget.display_name for widget in manifest.contributions.widgets]


@pytest.mark.parametrize("name", widget_names())
def test_closing_a_viewer_ends_everything(name, make_napari_viewer, dataset, truth, qtbot):
    viewer = make_napari_viewer(show=True)
    layers = layers_of(viewer)
    session = layers.session
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    qtbot.wait(200)
    watched = [weakref.ref(item) for item in (session, layers, *viewer.layers)]
    destroyed: list[str] = []
    getattr(widget, "native", widget).destroyed.connect(lambda: destroyed.append(name))
    del widget, dock
    viewer.close()
    qtbot.waitUntil(lambda: destroyed == [name], timeout=10_000)
    del viewer, layers, session
    qtbot.waitUntil(lambda: not any("tiltalign" in t.name for t in threading.enumerate()), timeout=10_000)

    def all_gone() -> bool:
        gc.collect()
        return all(item() is None for item in watched)

    qtbot.waitUntil(all_gone, timeout=10_000)


@pytest.mark.parametrize("name", widget_names())
def test_a_deleted_widget_hears_nothing_of_the_session_any_more(name, make_napari_viewer, dataset, truth, qtbot):
    viewer = make_napari_viewer()
    session = layers_of(viewer).session
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)  # the Python object stays, as in a cycle of garbage
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    native = getattr(widget, "native", widget)
    native.setParent(None)
    native.deleteLater()
    qtbot.waitUntil(lambda: not isalive(native), timeout=10_000)
    session.select_view(truth.tilt_ids[0])
    session.select_bead(int(truth.tracks.track_ids[0]))
    session.do(ExcludeViews((truth.tilt_ids[1],), "test"))
    session.show_aligned(False)
    session.close()
    qtbot.wait(300)
