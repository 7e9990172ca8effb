"""The widget Check: it looks at the series that is shown and leads to what is odd."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_tiltalign.model import ArrayImage, Dataset
from napari_tiltalign.quality.axis_check import AxisCheck
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.check_widget import CheckWidget, _about_axis

pytestmark = pytest.mark.gui


@pytest.fixture
def widget(qtbot, series) -> CheckWidget:
    """The widget on a viewer without a window, with a series of which one image is there twice."""
    tilts = list(series.tilts)
    tilts[5] = replace(tilts[5], image=ArrayImage(tilts[2].image.read().copy()))
    viewer = ViewerModel()
    widget = CheckWidget(viewer)
    widget.viewer = viewer
    qtbot.addWidget(widget)
    assert "Open a dataset" in widget.summary.text()
    session_of(viewer).open(Dataset((series.replace(tilts=tuple(tilts)), series.replace(name="TS_2"))))
    qtbot.waitUntil(lambda: not widget.is_busy, timeout=60_000)
    return widget


def texts(widget: CheckWidget) -> list[str]:
    return [widget.list.topLevelItem(row).text(0) for row in range(widget.list.topLevelItemCount())]


def test_what_is_odd_is_listed_when_a_dataset_is_opened(widget):
    assert "TS_1: 1 problem" in widget.summary.text()
    assert texts(widget)[0].startswith("✖ the same image twice")
    assert "180° off" in widget.summary.toolTip()


def test_a_long_finding_is_shown_whole_in_a_narrow_widget(widget, qtbot):
    widget.setStyleSheet("QTreeView::item { padding: 1px; }")  # with any style sheet Qt makes rows one line high
    widget.resize(220, 500)
    widget.show()
    qtbot.waitExposed(widget)

    def lines(width: int) -> int:
        widget.resize(width, 500)
        qtbot.waitUntil(lambda: abs(widget.list.columnWidth(0) - width) < 40)
        widget.list.doItemsLayout()
        row = widget.list.visualItemRect(widget.list.topLevelItem(0))
        return row.height() // widget.list.fontMetrics().height()

    assert lines(1600) == 1
    assert lines(220) >= 2


def test_a_finding_leads_to_its_view_and_says_what_to_do(widget, series):
    widget.list.setCurrentItem(widget.list.topLevelItem(0))
    assert session_of(widget.viewer).view == series.tilt_ids[2]
    assert "exclude the other" in widget.to_do.text()


def test_every_series_is_checked_once(widget, qtbot):
    session = session_of(widget.viewer)
    session.show("TS_2")
    qtbot.waitUntil(lambda: not widget.is_busy, timeout=60_000)
    assert not any("same image" in text for text in texts(widget))
    session.show("TS_1")
    assert not widget.is_busy  # known already
    assert texts(widget)[0].startswith("✖ the same image twice")


def test_the_axis_by_the_images_is_told_only_where_it_contradicts():
    near = AxisCheck(np.array([-4.3]), np.array([0.5]), -0.2, -4.3, clear=True)
    assert _about_axis(near) == "tilt axis: -4.3°, and the images agree (to 12°)"
    far = AxisCheck(np.array([-4.3]), np.array([0.5]), 85.0, -4.3, clear=True)
    assert _about_axis(far) == "tilt axis: -4.3° given, 85° by the images"
