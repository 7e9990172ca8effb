"""The widget Exclude views, in a real viewer: list and slider, Enter, select all, suggestions, undo."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from judged_views import judged
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QTableWidgetSelectionRange

from napari_tiltalign.io import read
from napari_tiltalign.methods.fiducial import Fiducial
from napari_tiltalign.model import ArrayImage, Dataset, Provenance
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.commands import AddAlignment, ExcludeViews
from napari_tiltalign.ui.exclude_widget import ExcludeWidget
from napari_tiltalign.ui.saving import restored_work, save
from napari_tiltalign.ui.session import Session
from napari_tiltalign.ui.view_table import COLUMNS

pytestmark = pytest.mark.gui


@pytest.fixture
def dark_dataset(series) -> Dataset:
    """A series of which two views are dark."""
    tilts = [
        tilt if tilt.tilt_id not in ("view_04", "view_09") else _with_pixels(tilt, 0.1 * tilt.image.read())
        for tilt in series.tilts
    ]
    return Dataset((series.replace(tilts=tuple(tilts)),))


def _with_pixels(tilt, pixels):
    return dataclasses.replace(tilt, image=ArrayImage(pixels))


@pytest.fixture
def widget(qtbot, dark_dataset) -> ExcludeWidget:
    """The widget on a viewer without a window, when all images were looked at."""
    viewer = ViewerModel()
    widget = ExcludeWidget(viewer)
    widget.viewer = viewer  # nothing else keeps it alive here
    qtbot.addWidget(widget)
    widget.show()
    widget.session = session_of(viewer)
    widget.session.open(dark_dataset)
    qtbot.waitUntil(lambda: widget.survey.complete and not widget.survey.is_busy, timeout=20_000)
    return widget


def column(widget: ExcludeWidget, number: int) -> list[str]:
    return [widget.table.item(row, number).text() for row in range(widget.table.rowCount())]


def row_of(widget: ExcludeWidget, tilt_id: str) -> int:
    return widget._tilt_ids().index(tilt_id)


def suggested(widget: ExcludeWidget) -> list[tuple[str, str]]:
    items = [widget.suggestions.topLevelItem(i) for i in range(widget.suggestions.topLevelItemCount())]
    return [(item.data(0, Qt.ItemDataRole.UserRole), item.text(1)) for item in items]


def test_views_are_listed_in_order_of_tilt_with_a_picture(widget):
    tilts = [float(text) for text in column(widget, 0)]
    assert tilts == sorted(tilts)
    assert len(tilts) == 13
    assert not any(widget.table.item(row, 0).icon().isNull() for row in range(13))
    assert widget.summary.text() == "13 of 13 views are used"
    assert column(widget, 1).count("suspect: dark") == 2


def test_list_and_slider_show_the_same_view(widget):
    widget.table.selectRow(2)
    assert widget.viewer.dims.current_step[0] == 2
    widget.viewer.dims.set_current_step(0, 9)
    assert widget.table.currentRow() == 9
    assert widget.session.view == widget._tilt_ids()[9]


@pytest.mark.parametrize(("key", "row"), [(Qt.Key.Key_PageUp, 0), (Qt.Key.Key_PageDown, 12), (Qt.Key.Key_Up, 5)])
def test_keys_of_the_list_go_through_the_views(widget, qtbot, key, row):
    widget.table.setFocus()
    assert widget.viewer.dims.current_step[0] == 6
    qtbot.keyClick(widget.table, key)
    assert widget.viewer.dims.current_step[0] == row


def test_enter_takes_a_view_out_and_back_in(widget, qtbot):
    widget.table.setFocus()
    widget.table.selectRow(3)
    view = widget.session.view
    qtbot.keyClick(widget.table, Qt.Key.Key_Return)
    assert widget.session.series[view].reason == "by hand"
    assert widget.table.item(3, 1).text() == "excluded: by hand"
    assert widget.table.item(3, 0).checkState() == Qt.CheckState.Unchecked
    assert widget.table.item(3, 0).font().strikeOut()
    assert widget.summary.text() == "12 of 13 views are used"
    qtbot.keyClick(widget.table, Qt.Key.Key_Return)
    assert widget.session.series[view].included
    assert widget.table.item(3, 0).checkState() == Qt.CheckState.Checked


def test_a_tick_takes_one_view_out(widget):
    widget.table.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    assert widget.session.work.exclusions == {widget._tilt_ids()[0]: "by hand"}
    widget.table.item(0, 0).setCheckState(Qt.CheckState.Checked)
    assert widget.session.work.exclusions == {}


def test_several_views_are_taken_out_in_one_step(widget):
    widget.table.selectRow(1)
    widget.table.setRangeSelected(_rows(1, 3), True)
    widget.toggle_button.click()
    assert set(widget.session.work.exclusions) == set(widget._tilt_ids()[1:4])
    widget.session.undo()
    assert widget.session.work.exclusions == {}


def _rows(first: int, last: int):
    return QTableWidgetSelectionRange(first, 0, last, 6)


def test_all_out_and_all_in(widget):
    widget.session.do(ExcludeViews(("view_02",), "crack"))
    widget.exclude_all_button.click()
    assert len(widget.session.work.exclusions) == 13
    assert widget.session.work.exclusions["view_02"] == "crack", "a reason given before stays"
    widget.include_all_button.click()
    assert widget.session.work.exclusions == {}
    widget.include_all_button.click()
    assert widget.session.undo_label == "include 13 views", "there was nothing more to do"


def test_nothing_is_excluded_before_the_suggestions_are_applied(widget, qtbot):
    assert sorted(suggested(widget)) == [("view_04", "dark"), ("view_09", "dark")]
    assert "2 views look suspect" in widget.advice.text()
    assert widget.session.work.exclusions == {}
    widget.apply_button.click()
    assert widget.session.work.exclusions == {"view_04": "dark", "view_09": "dark"}
    qtbot.waitUntil(lambda: suggested(widget) == [], timeout=20_000)
    assert widget.advice.text() == "no view looks suspect"
    widget.session.undo()
    assert widget.session.work.exclusions == {}
    qtbot.waitUntil(lambda: len(suggested(widget)) == 2, timeout=20_000)


def test_only_ticked_suggestions_are_applied(widget):
    for number in range(2):
        item = widget.suggestions.topLevelItem(number)
        if item.data(0, Qt.ItemDataRole.UserRole) == "view_04":
            item.setCheckState(0, Qt.CheckState.Unchecked)
    widget.apply_button.click()
    assert widget.session.work.exclusions == {"view_09": "dark"}


def test_a_suggestion_shows_its_view(widget):
    item = widget.suggestions.topLevelItem(1)
    widget.suggestions.setCurrentItem(item)
    assert widget.session.view == item.data(0, Qt.ItemDataRole.UserRole)
    assert "what its neighbours let expect" in item.text(2)


def test_the_alignment_is_solved_again_without_the_view(widget, qtbot, truth):
    solvable = truth.replace(provenance=Provenance("fiducial", Fiducial().model_dump()))
    widget.session.do(AddAlignment("fiducial", solvable))
    row = row_of(widget, "view_03")
    assert widget.table.item(row, 2).text() == "0.00"
    widget.table.item(row, 0).setCheckState(Qt.CheckState.Unchecked)
    qtbot.waitUntil(lambda: widget.session.candidate.solved, timeout=20_000)
    alignment = widget.session.alignment
    assert not alignment.included[3]
    assert alignment.included.sum() == 12
    assert widget.session.candidate.problem == ""


def test_exclusions_of_the_input_are_shown_and_can_be_taken_back(widget, dark_dataset):
    [series] = dark_dataset
    widget.session.open(Dataset((series.with_exclusions({"view_01": "lost frames"}),)))
    row = row_of(widget, "view_01")
    assert widget.table.item(row, 1).text() == "excluded: lost frames"
    widget.table.item(row, 0).setCheckState(Qt.CheckState.Checked)
    assert widget.session.series["view_01"].included


def test_napari_finds_it_and_its_thread_stops_when_the_viewer_closes(make_napari_viewer, dark_dataset):
    viewer = make_napari_viewer()
    session_of(viewer).open(dark_dataset)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tiltalign", "Exclude views")
    assert isinstance(widget, ExcludeWidget)
    assert widget.table.rowCount() == 13


def test_nothing_is_open(widget):
    widget.session.close()
    assert widget.table.rowCount() == 0
    assert widget.summary.text() == "no series is open"
    assert not widget.toggle_button.isEnabled()
    assert np.all([not button.isVisible() for button in (widget.apply_button, widget.suggestions)])


def test_what_judging_finds_is_shown_and_suggested(widget, qtbot, truth):
    session, alignment = widget.session, truth.replace(tracks=None)
    session.do(AddAlignment("exact", alignment))
    score = [c.heading for c in COLUMNS].index("Score")
    assert set(column(widget, score)) == {""}
    bad = {"score": 2.0, "gain_percent": 3.4, "suggest_exclusion": True, "reasons": ("it is 9 px off",)}
    session.judged.keep_scores(alignment, judged(session.series, view_06=bad))
    assert column(widget, score)[row_of(widget, "view_06")] == "2"
    assert ("view_06", "low score") in suggested(widget)
    widget.apply_button.click()
    assert session.work.exclusions["view_06"] == "low score"
    assert column(widget, score)[row_of(widget, "view_06")] == "(2)", "the alignment has changed since"
    qtbot.waitUntil(lambda: ("view_06", "low score") not in suggested(widget), timeout=20_000)


def test_the_selection_holds_what_was_excluded_now_and_earlier(qtbot, project, tmp_path, monkeypatch):
    dataset, _ = project
    earlier = Session(restore=restored_work)
    earlier.open(dataset, show="TS_2")
    earlier.do(ExcludeViews(("TS_2_view_03",), "blocked"))
    save(earlier, tmp_path / "project" / "tiltalign")

    viewer = ViewerModel()
    widget = ExcludeWidget(viewer)
    qtbot.addWidget(widget)
    assert not widget.write_button.isEnabled()
    session, told = session_of(viewer), []
    session.told.connect(told.append)
    session.open(dataset)
    session.do(ExcludeViews(("TS_1_view_05",), "dark"))
    folder = tmp_path / "project" / "Exclude"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(folder), ""))
    widget.write_button.click()
    written = read(folder / "selected_tilt_series.star")
    left_out = {name: set(dataset[name].tilt_ids) - set(written[name].tilt_ids) for name in ("TS_1", "TS_2", "TS_10")}
    assert left_out == {"TS_1": {"TS_1_view_05"}, "TS_2": {"TS_2_view_03"}, "TS_10": set()}
    assert told == [f"written: {folder / 'selected_tilt_series.star'}"]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(tmp_path / "project"), ""))
    warned = []
    session.warned.connect(warned.append)
    widget.write_button.click()
    assert "place of the input" in warned[0]
