"""The dataset widget: open, find, browse, choose between alignments."""

from __future__ import annotations

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox

from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment, ExcludeViews
from napari_tiltalign.ui.dataset_widget import DatasetWidget
from napari_tiltalign.ui.keys import IMAGE_KEYS, KEYS

pytestmark = pytest.mark.gui


@pytest.fixture
def widget(qtbot):
    """The widget on a viewer without a window."""
    viewer = ViewerModel()
    widget = DatasetWidget(viewer)
    widget.viewer = viewer  # nothing else keeps it alive here
    widget.session = layers_of(viewer).session
    qtbot.addWidget(widget)
    return widget


def rows(widget: DatasetWidget) -> list[list[str]]:
    items = [widget.list.topLevelItem(i) for i in range(widget.list.topLevelItemCount())]
    return [[item.text(column) for column in range(3)] for item in items if not item.isHidden()]


def test_says_that_nothing_is_open(widget):
    assert widget.source.text() == "nothing is open"
    assert rows(widget) == []
    assert not widget.candidates.isEnabled()


def test_opens_a_project(widget, shared_data):
    widget.open(shared_data / "empiar-10499_TS_01" / "tilt_series.star")
    assert rows(widget) == [["TS_01", "41/41", ""]]
    assert widget.source.text() == "tilt_series.star"
    assert widget.summary.text() == "not aligned yet"


def test_a_file_that_cannot_be_opened_changes_nothing(widget, dataset, tmp_path):
    widget.session.open(dataset)
    told = []
    widget.session.warned.connect(told.append)
    widget.open(tmp_path / "missing.star")
    assert "missing.star" in told[0]
    assert widget.session.dataset is dataset


def test_lists_series_with_their_state(widget, dataset, truth):
    widget.session.open(dataset)
    assert [row[0] for row in rows(widget)] == ["TS_1", "TS_2", "TS_10"]
    widget.session.do(ExcludeViews(("view_01",)))
    widget.session.do(AddAlignment("exact", truth.replace(statistics={"residual_rms_px": 0.25})))
    assert rows(widget)[0] == ["TS_1 *", "12/13", "0.25"]
    assert rows(widget)[1] == ["TS_2", "13/13", ""]


def test_search_hides_the_others_and_keeps_hiding_them(widget, dataset):
    widget.session.open(dataset)
    widget.search.setText("ts_1")
    assert [row[0] for row in rows(widget)] == ["TS_1", "TS_10"]
    widget.session.open(dataset)
    assert [row[0] for row in rows(widget)] == ["TS_1", "TS_10"]


def test_list_and_session_show_the_same_series(widget, dataset):
    widget.session.open(dataset)
    widget.list.setCurrentItem(widget.list.topLevelItem(2))
    assert widget.session.series.name == "TS_10"
    widget.session.show_neighbour(-1)
    assert widget.list.currentItem().data(0, Qt.ItemDataRole.UserRole) == "TS_2"


def test_alignments_are_chosen_and_removed(widget, dataset, truth, qtbot):
    widget.session.open(dataset)
    widget.session.do(AddAlignment("one", truth))
    widget.session.do(AddAlignment("two", truth))
    assert widget.candidates.currentText() == "two"
    widget.candidates.setCurrentText("one")
    widget.candidates.activated.emit(0)
    assert widget.session.work.current == "one"
    widget.remove_button.click()
    assert list(widget.session.work.candidates) == ["two"]
    assert widget.candidates.currentText() == "two"
    widget.session.undo()
    assert widget.candidates.currentText() == "one"


def test_all_keys_are_shown_on_demand(widget):
    widget.keys_button.click()
    [box] = widget.findChildren(QMessageBox)
    assert not box.isModal()
    for key in (*KEYS, *IMAGE_KEYS):
        assert key.what in box.text()
    assert "Ctrl+Shift+Z" in box.text()
    box.close()
