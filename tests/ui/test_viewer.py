"""The plugin in a real viewer, with pixels on the screen."""

from __future__ import annotations

import numpy as np
import pytest

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
