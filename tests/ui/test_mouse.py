"""Editing beads with the mouse: the layer follows the session, whatever was done to it."""

from __future__ import annotations

import numpy as np
import pytest
from app_model.types import KeyBinding
from napari.components import ViewerModel

from napari_tiltalign.model import Provenance
from napari_tiltalign.ui import actions, overlays
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.bead_table import used_beads
from napari_tiltalign.ui.centring import recentre
from napari_tiltalign.ui.commands import AddAlignment, EditTracks
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.keys import KEYS
from napari_tiltalign.ui.layers import Layers
from napari_tiltalign.ui.overlays import beads_overlay

DIAMETER_NM = 7.0


@pytest.fixture
def viewer() -> ViewerModel:
    """A viewer without a window."""
    return ViewerModel()


@pytest.fixture
def layers(viewer, dataset, truth) -> Layers:
    """Layers of the exact alignment; editing keeps the geometry."""
    layers = layers_of(viewer)
    layers.session.solving.resolve = lambda alignment, tracks: alignment.replace(tracks=tracks)
    layers.session.solving.background = lambda work, done, failed: done(work())
    layers.session.open(dataset)
    named = truth.replace(provenance=Provenance("fiducial", {"diameter_nm": DIAMETER_NM}))
    layers.session.do(AddAlignment("exact", named))
    return layers


def row_of(layers: Layers, bead: int, tilt_id: str, role: str = overlays.BEADS) -> int:
    features = layers.layer(role).features
    [row] = np.flatnonzero((features["track_id"] == bead) & (features["tilt_id"] == tilt_id))
    return int(row)


def place(layers: Layers, bead: int, tilt_id: str) -> np.ndarray:
    table = used_beads(layers.session.alignment)
    [row] = table[(table["track_id"] == bead) & (table["tilt_id"] == tilt_id)][["y_px", "x_px"]].to_numpy()
    return row


def is_used(layers: Layers, bead: int, tilt_id: str) -> bool:
    table = used_beads(layers.session.alignment)
    return bool(((table["track_id"] == bead) & (table["tilt_id"] == tilt_id)).any())


def drag(layer, row: int, to: np.ndarray) -> None:
    """What napari does when a point is dragged and released."""
    layer.selected_data = {row}
    layer._set_drag_start({row}, layer.data[row])
    layer._move({row}, to)


def check_in_step(layers: Layers) -> None:
    session = layers.session
    data, attributes, _ = beads_overlay(session.series, session.alignment, layers.frame, session.bead)
    np.testing.assert_allclose(layers.beads.data, data)
    assert layers.beads.features.equals(attributes["features"])
    assert len(layers.beads.border_color) == len(data)


@pytest.mark.parametrize("aligned", [False, True], ids=["raw", "aligned"])
def test_a_dragged_bead_snaps_onto_the_gold(layers, aligned):
    true = place(layers, 3, "view_00")
    layers.session.show_aligned(aligned)
    row = row_of(layers, 3, "view_00")
    drag(layers.beads, row, layers.beads.data[row] + [0.0, 2.0, -1.5])
    np.testing.assert_allclose(place(layers, 3, "view_00"), true, atol=0.3)
    assert not np.array_equal(place(layers, 3, "view_00"), true)
    assert layers.session.bead == 3
    assert layers.session.undo_label == "move bead 3"
    check_in_step(layers)
    layers.session.undo()
    np.testing.assert_array_equal(place(layers, 3, "view_00"), true)
    check_in_step(layers)


def test_a_dragged_bead_does_not_take_the_gold_of_another(layers):
    """Beads 2 and another one nearly touch in this view; the image alone would send it there."""
    told = []
    layers.session.told.connect(told.append)
    put = place(layers, 2, "view_00") + np.array([2.0, -1.5])
    row = row_of(layers, 2, "view_00")
    drag(layers.beads, row, np.array([6.0, *put]))
    np.testing.assert_allclose(place(layers, 2, "view_00"), put)
    assert "no free gold was found here" in told[0]


def test_away_from_gold_a_bead_stays_where_it_was_put(layers):
    told = []
    layers.session.told.connect(told.append)
    row = row_of(layers, 2, "view_00")
    drag(layers.beads, row, np.array([6.0, 3.0, 3.0]))
    np.testing.assert_allclose(place(layers, 2, "view_00"), (3.0, 3.0))
    assert "no free gold was found here" in told[0]
    check_in_step(layers)


def test_a_locked_bead_goes_back_to_its_place(layers):
    layers.session.select_bead(2)
    actions.toggle_lock(layers.session)
    before, told = place(layers, 2, "view_00"), []
    layers.session.told.connect(told.append)
    row = row_of(layers, 2, "view_00")
    drag(layers.beads, row, layers.beads.data[row] + [0.0, 8.0, 0.0])
    np.testing.assert_array_equal(place(layers, 2, "view_00"), before)
    assert any("locked" in message for message in told)
    check_in_step(layers)


def test_a_click_fills_the_gap_of_the_selected_bead(layers):
    true = place(layers, 3, "view_00")
    layers.session.do(EditTracks("remove", {"track_id": 3, "tilt_id": "view_00"}))
    layers.session.select_bead(3)
    layers.beads.add([6.0, *(true + np.array([1.0, -1.0]))])
    np.testing.assert_allclose(place(layers, 3, "view_00"), true, atol=0.3)
    assert layers.session.alignment.tracks.n_tracks == 7
    check_in_step(layers)


def test_a_click_starts_a_new_bead(layers):
    true = place(layers, 3, "view_00")
    layers.session.do(EditTracks("delete", {"track_id": 3}))
    layers.beads.add([6.0, *(true + np.array([1.0, -1.0]))])
    assert layers.session.bead == 7
    np.testing.assert_allclose(place(layers, 7, "view_00"), true, atol=0.3)
    check_in_step(layers)
    layers.session.undo()
    assert 7 not in layers.session.alignment.tracks.track_ids
    check_in_step(layers)


def test_no_bead_is_added_twice(layers):
    told = []
    layers.session.told.connect(told.append)
    before = layers.session.work
    layers.beads.add([6.0, *(place(layers, 3, "view_00") + np.array([1.0, 1.0]))])
    assert layers.session.work is before
    assert "bead 3 is here already" in told
    check_in_step(layers)


def test_deleted_points_are_removed_from_their_view(layers):
    layers.beads.selected_data = {row_of(layers, 1, "view_00"), row_of(layers, 4, "view_00")}
    layers.beads.remove_selected()
    assert not is_used(layers, 1, "view_00")
    assert not is_used(layers, 4, "view_00")
    assert is_used(layers, 1, "view_01")
    check_in_step(layers)
    layers.session.undo()
    layers.session.undo()
    assert is_used(layers, 1, "view_00")
    check_in_step(layers)


def test_a_gap_is_dragged_onto_the_gold(layers):
    true = place(layers, 5, "view_00")
    layers.session.do(EditTracks("remove", {"track_id": 5, "tilt_id": "view_00"}))
    gaps = layers.layer(overlays.GAPS)
    row = row_of(layers, 5, "view_00", overlays.GAPS)
    drag(gaps, row, gaps.data[row] + [0.0, 1.5, 1.5])
    np.testing.assert_allclose(place(layers, 5, "view_00"), true, atol=0.3)
    assert not len(gaps.data)


def test_gaps_are_neither_added_nor_deleted(layers):
    layers.session.do(EditTracks("remove", {"track_id": 5, "tilt_id": "view_00"}))
    before, gaps = layers.session.work, layers.layer(overlays.GAPS)
    gaps.add([6.0, 10.0, 10.0])
    assert len(gaps.data) == 1
    gaps.selected_data = {0}
    gaps.remove_selected()
    assert len(gaps.data) == 1
    assert layers.session.work is before


def test_choosing_a_point_selects_its_bead(layers):
    layers.beads.selected_data = {row_of(layers, 6, "view_03")}
    assert layers.session.bead == 6
    assert layers.beads.selected_data == {row_of(layers, 6, "view_03")}


def test_a_bead_is_centred_in_its_view(layers):
    true = place(layers, 3, "view_00")
    actions.place_bead(layers.session, 3, "view_00", tuple((true + np.array([2.0, 2.0])).tolist()))
    layers.session.select_bead(3)
    layers.session.select_view("view_00")
    recentre(layers)
    np.testing.assert_allclose(place(layers, 3, "view_00"), true, atol=0.3)
    actions.place_bead(layers.session, 3, "view_00", (3.0, 3.0))
    with pytest.raises(EditRefused, match="no free gold near bead 3"):
        recentre(layers)


def test_keys_mean_the_same_whatever_layer_is_active(layers, viewer):
    """Napari has meanings of its own for X, Y and C while an image is active."""
    layers.session.show_aligned(True)
    wanted = {str(KeyBinding.from_str(key.key.replace("Control", "Ctrl").replace("-", "+"))) for key in KEYS}
    for layer in viewer.layers:
        assert wanted <= {str(key) for key in layer.keymap}, layer.name
    layers.session.select_bead(2)
    bound = {str(key): function for key, function in layers.raw_layer().keymap.items()}
    bound["X"](layers.raw_layer())
    assert layers.session.undo_label == "remove from view bead 2"


def test_keys_work_while_the_beads_are_active(layers, viewer):
    layers.session.select_bead(2)
    bound = {str(key): function for key, function in layers.beads.keymap.items()}
    bound["Shift+A"](layers.beads)  # napari's own meaning of it, to select all points, must not come first
    assert layers.session.shows_aligned
    bound["Shift+X"](layers.beads)
    assert 2 not in layers.session.alignment.tracks.track_ids


def test_the_mouse_adds_nothing_to_another_alignment(layers, truth):
    layers.beads.mode = "add"
    layers.session.do(EditTracks("remove", {"track_id": 1, "tilt_id": "view_00"}))
    assert layers.beads.mode == "add", "an edit leaves the tool in the hand"
    layers.session.do(AddAlignment("other", truth))
    assert layers.beads.mode == "pan_zoom"
    layers.layer(overlays.GAPS).mode = "select"
    layers.session.undo()
    assert layers.layer(overlays.GAPS).mode == "pan_zoom"
