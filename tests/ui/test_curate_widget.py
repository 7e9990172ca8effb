"""The widget *Curate beads*: its list, its buttons, its numbers and the strip of views."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor

from napari_tiltalign.methods.fiducial import Fiducial
from napari_tiltalign.model import Provenance
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.bead_info import bead_line, effect_line
from napari_tiltalign.ui.bead_summary import bead_effect, bead_summary
from napari_tiltalign.ui.commands import AddAlignment, EditTracks, LockTracks
from napari_tiltalign.ui.curate_widget import CurateWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def alignment(truth):
    """The exact alignment with made-up residuals: bead 5 is worst, bead 0 best."""
    residual = np.column_stack([0.1 * (1 + truth.tracks.track % 6), np.zeros(truth.tracks.n_observations)])
    return truth.replace(
        tracks=truth.tracks.replace(residual_yx_px=residual), provenance=Provenance("fiducial", Fiducial().model_dump())
    )


@pytest.fixture
def widget(qtbot, dataset, alignment):
    """The widget on a viewer without a window; editing keeps the geometry."""
    viewer = ViewerModel()
    session = layers_of(viewer).session
    session.solving.resolve = lambda alignment, tracks: alignment.replace(tracks=tracks)
    session.solving.background = lambda work, done, failed: done(work())
    session.open(dataset)
    session.do(AddAlignment("exact", alignment))
    widget = CurateWidget(viewer)
    widget.viewer, widget.session = viewer, session  # nothing else keeps the viewer alive here
    qtbot.addWidget(widget)
    return widget


def rows(widget) -> list[list[str]]:
    items = [widget.list.topLevelItem(i) for i in range(widget.list.topLevelItemCount())]
    return [[item.text(column) for column in range(5)] for item in items]


def test_without_an_alignment_nothing_can_be_done(qtbot, dataset):
    viewer = ViewerModel()
    widget = CurateWidget(viewer)
    qtbot.addWidget(widget)
    assert "No beads yet" in widget.info.text()
    assert not any(button.isEnabled() for button in widget.buttons.values())
    layers_of(viewer).session.open(dataset)
    assert rows(widget) == []


def test_beads_are_listed_the_worst_first(widget):
    assert [row[0] for row in rows(widget)][:2] == ["5", "4"]
    assert rows(widget)[0][:3] == ["5", "13", "0.60"]
    widget.list.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    assert [row[0] for row in rows(widget)] == [str(bead) for bead in range(7)]


def test_the_list_follows_edits_and_keeps_the_order(widget):
    widget.session.do(EditTracks("remove", {"track_id": 5, "tilt_id": "view_01"}))
    widget.session.do(LockTracks((4,)))
    widget.session.do(EditTracks("delete", {"track_id": 3}))
    assert rows(widget)[0][1] == "12"
    assert rows(widget)[1][4].endswith("locked")
    assert "3" not in [row[0] for row in rows(widget)]
    widget.session.undo()
    assert len(rows(widget)) == 7


def test_list_and_session_select_the_same_bead(widget):
    widget.list.setCurrentItem(widget.list.topLevelItem(1))
    assert widget.session.bead == 4
    widget.session.select_bead(2)
    assert widget.list.chosen() == [2]
    widget.session.do(EditTracks("delete", {"track_id": 5}))
    assert widget.list.chosen() == [2]


def test_two_rows_are_merged(widget):
    for row in (0, 1):
        widget.list.topLevelItem(row).setSelected(True)
    [merge] = widget.list.menu().actions()
    assert merge.text() == "Merge beads 4 and 5"
    merge.trigger()
    assert 5 not in widget.session.alignment.tracks.track_ids
    assert widget.list.menu().isEmpty()


def test_every_button_says_its_key(widget):
    for text, button in widget.buttons.items():
        assert button.toolTip().endswith(")"), text
    assert widget.buttons["Worst ›"].toolTip().endswith("(W)")
    assert widget.buttons["Undo"].toolTip().endswith("(Ctrl-Z)")


def test_buttons_do_what_keys_do(widget):
    widget.buttons["Worst ›"].click()
    assert widget.session.bead == 5
    widget.buttons["Not here"].click()
    assert rows(widget)[0][1] == "12"
    assert widget.buttons["Undo"].toolTip().startswith("Undo remove from view bead 5")
    widget.buttons["Gap ›"].click()
    widget.buttons["Fill gap"].click()
    assert rows(widget)[0][1] == "13"
    widget.buttons["Undo"].click()
    widget.buttons["Undo"].click()
    assert widget.buttons["Redo"].isEnabled()
    widget.buttons["Lock"].click()
    assert widget.buttons["Lock"].text() == "Release"


def test_a_refused_action_says_why(widget):
    told = []
    widget.session.told.connect(told.append)
    widget.session.select_bead(2)
    widget.buttons["Fill gap"].click()
    assert told == ["bead 2 has no gap in this view"]


@pytest.mark.parametrize(("name", "mode"), [("add_button", "add"), ("move_button", "select")])
def test_the_mouse_is_given_to_the_beads(widget, name, mode):
    getattr(widget, name).click()
    layer = layers_of(widget.viewer).beads
    assert layer.mode == mode
    assert widget.viewer.layers.selection.active is layer


def test_numbers_of_the_bead_in_this_view(widget, alignment):
    widget.session.select_bead(5)
    widget.session.select_view("view_02")
    assert widget.info.text().startswith("Bead 5 here: measured, residual 0.60 px, weight 1.00")
    widget.session.do(EditTracks("remove", {"track_id": 5, "tilt_id": "view_02"}))
    assert bead_line(widget.session.alignment, 5, "view_02") == "Bead 5 here: gap (deleted)"


def test_the_effect_of_a_bead_is_worked_out(widget, qtbot):
    widget.session.select_bead(5)
    qtbot.waitUntil(lambda: "Without it the views would move by" in widget.info.text(), timeout=20_000)


def test_a_bead_pulled_wrong_has_more_effect_than_a_good_one(alignment):
    good = bead_effect(alignment, 3)
    tracks = alignment.tracks
    position = tracks.position_yx_px.copy()
    position[tracks.track == 3] += np.random.default_rng(1).normal(0.0, 2.0, (int((tracks.track == 3).sum()), 2))
    bad = bead_effect(alignment.replace(tracks=tracks.replace(position_yx_px=position)), 3)
    assert good.rms_px < 0.05
    assert bad.worst_px >= bad.rms_px
    few = alignment.replace(tracks=tracks.take_tracks(np.arange(7) < 2))
    assert bead_effect(few, 0) is None
    assert effect_line(alignment, None) == "Without it the series cannot be aligned."


def test_summary_marks_suspects(alignment):
    tracks = alignment.tracks
    noisy = alignment.replace(tracks=tracks.replace(sd_px=np.where(tracks.track == 4, 1.0, 0.1)))
    table = bead_summary(noisy, locked={1, 4}).set_index("track_id")
    assert table["state"].to_dict() == {0: "", 1: "locked", 2: "", 3: "", 4: "suspect, locked", 5: "", 6: ""}
    assert list(bead_summary(alignment)["residual_px"]) == sorted(table["residual_px"], reverse=True)


# --- the strip


def grab(strip):
    strip.resize(600, strip.minimumHeight())
    return strip.grab().toImage()


def test_the_strip_shows_the_bead_in_every_view(widget, qtbot):
    strip = widget.strip
    assert strip.places == []
    widget.session.select_bead(2)
    qtbot.waitUntil(lambda: strip.is_complete, timeout=20_000)
    assert len(strip.places) == 13
    image = grab(strip)
    rect = strip.tile_rect(6)
    tile = image.copy(rect)
    assert len({QColor(tile.pixel(x, y)).name() for x in range(0, 60, 3) for y in range(0, 60, 3)}) > 20
    dark = [strip._tiles[place.view].pixmap.toImage().pixelColor(32, 32).value() for place in strip.places]
    light = [strip._tiles[place.view].pixmap.toImage().pixelColor(4, 4).value() for place in strip.places]
    assert np.median(dark) < np.median(light) - 50


def test_a_click_goes_to_the_view(widget, qtbot):
    widget.session.select_bead(2)
    widget.strip.resize(600, 400)
    first = widget.strip.places[0]
    qtbot.mouseClick(widget.strip, Qt.MouseButton.LeftButton, pos=widget.strip.tile_rect(0).center())
    assert widget.session.view == first.tilt_id
    qtbot.mouseClick(widget.strip, Qt.MouseButton.LeftButton, pos=QPoint(590, 399))
    assert widget.session.view == first.tilt_id


def test_the_view_that_is_looked_at_is_in_sight_in_the_strip(widget, qtbot):
    widget.resize(300, 500)
    widget.show()
    area = widget.strip.parent().parent()
    for view in ("view_11", "view_12", "view_00"):  # both ends and the middle
        widget.session.select_bead(None)
        widget.session.select_view(view)
        widget.session.select_bead(2)
        at = [place.tilt_id for place in widget.strip.places].index(view)
        qtbot.waitUntil(lambda at=at: area.viewport().rect().contains(_seen_at(widget.strip, area, at)))


def _seen_at(strip, area, index: int) -> QPoint:
    return strip.mapTo(area.viewport(), strip.tile_rect(index).center())


def test_patches_are_read_again_only_when_the_bead_has_moved(widget, qtbot):
    strip = widget.strip
    widget.session.select_bead(2)
    qtbot.waitUntil(lambda: strip.is_complete, timeout=20_000)
    tiles = dict(strip._tiles)
    widget.session.do(EditTracks("remove", {"track_id": 2, "tilt_id": "view_05"}))
    assert strip._tiles == tiles
    assert [place.tilt_id for place in strip.places if place.measured_yx_px is None] == ["view_05"]
    widget.session.select_bead(3)
    assert not strip._tiles
    qtbot.waitUntil(lambda: strip.is_complete, timeout=20_000)
    widget.session.show("TS_2")
    assert strip.places == []


def test_the_widget_goes_away(qtbot, dataset, alignment):
    viewer = ViewerModel()
    session = layers_of(viewer).session
    session.open(dataset)
    session.do(AddAlignment("exact", alignment))
    widget = CurateWidget(viewer)
    gone = weakref.ref(widget)
    widget.deleteLater()
    del widget
    qtbot.waitUntil(lambda: gc.collect() >= 0 and gone() is None, timeout=10_000)
    session.select_bead(3)
    session.do(EditTracks("delete", {"track_id": 2}))
