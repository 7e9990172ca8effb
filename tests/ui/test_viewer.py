"""The plugin in a real viewer, with pixels on the screen."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.bead_table import place_of
from napari_tiltalign.ui.commands import AddAlignment

pytestmark = pytest.mark.gui

PLUGIN = "napari-tiltalign"


def test_a_real_series_is_seen_when_it_is_opened(make_napari_viewer, shared_data):
    viewer = make_napari_viewer(show=True)
    path = shared_data / "empiar-10499_TS_01" / "tilt_series.star"
    viewer.open(str(path), plugin=PLUGIN)
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].mean(axis=2)
    height, width = picture.shape
    middle = picture[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3]
    assert 60 < middle.mean() < 200
    assert middle.std() > 10
    viewer.dims.set_current_step(0, 0)
    assert not np.array_equal(viewer.screenshot(canvas_only=True, flash=False)[..., :3].mean(axis=2), picture)


def test_the_camera_goes_to_a_bead_that_is_out_of_sight(make_napari_viewer, dataset, truth, qtbot):
    viewer = make_napari_viewer(show=True)
    layers = layers_of(viewer)
    layers.session.open(dataset)
    layers.session.do(AddAlignment("exact", truth))
    qtbot.wait(100)  # the canvas is drawn, and so knows what it shows
    camera, pixel = viewer.scene.camera, dataset.series[0].pixel_size_angst
    camera.center, camera.zoom = (0.0, -5000.0, -5000.0), 5.0
    viewer.screenshot(flash=False)
    layers.session.select_bead(2)
    place = place_of(truth, 2, layers.session.series.index_of(layers.session.view))
    np.testing.assert_allclose(camera.center[-2:], place * pixel, atol=1.0)
    before = camera.center
    viewer.screenshot(flash=False)
    layers.session.select_bead(None)
    layers.session.select_bead(2)
    assert camera.center == before, "what is in sight stays where it is"


def test_series_change_while_everything_is_drawn(make_napari_viewer, dataset, truth, qtbot):
    viewer = make_napari_viewer(show=True)
    session = layers_of(viewer).session
    session.open(dataset)
    viewer.window.add_plugin_dock_widget(PLUGIN, "Inspect")
    session.do(AddAlignment("exact", truth))
    for name in ("TS_2", "TS_1", "TS_10", "TS_1"):
        qtbot.wait(100)  # it is drawn
        session.show(name)
        qtbot.wait(100)
        assert viewer.layers[0].name == name
        assert session.view == dataset[name].tilt_ids[0], "the middle one"
