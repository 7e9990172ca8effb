"""Layers follow the session, and the session follows the slider (in the viewer's model, without a window)."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points, Tracks, Vectors
from qtpy.QtWidgets import QApplication

from napari_tiltalign.images.transform import aligned_view
from napari_tiltalign.model import Alignment, Dataset, LocalMotion, Provenance
from napari_tiltalign.ui import aligned_stack, closing, lazy_stack, overlays
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.bead_table import gaps, used_beads
from napari_tiltalign.ui.commands import AddAlignment, EditTracks, ExcludeViews, RemoveAlignment, UseAlignment
from napari_tiltalign.ui.layers import ALIGNED, Layers
from napari_tiltalign.ui.readers import dataset_layers


@pytest.fixture
def viewer() -> ViewerModel:
    """A viewer without a window."""
    return ViewerModel()


@pytest.fixture
def layers(viewer, dataset) -> Layers:
    """The layers of an open dataset without an alignment."""
    layers = layers_of(viewer)
    layers.session.open(dataset)
    return layers


@pytest.fixture
def aligned(layers, truth) -> Layers:
    """The same with the exact alignment."""
    layers.session.do(AddAlignment("exact", truth))
    return layers


def names(viewer: ViewerModel) -> list[str]:
    return [layer.name for layer in viewer.layers]


def test_opening_shows_the_raw_images_of_the_first_series(viewer, layers):
    assert names(viewer) == ["TS_1"]
    assert viewer.dims.current_step[0] == 6
    assert layers.text.shown == "TS_1  view 7/13   tilt +0.0°   dose 0 e/Å²\nraw"


def test_another_series_replaces_the_layer(viewer, layers):
    layers.session.show_neighbour(1)
    assert names(viewer) == ["TS_2"]
    layers.session.close()
    assert names(viewer) == []
    assert layers.text.shown == ""


def test_layers_of_a_reader_are_taken_over(viewer, dataset):
    for data, attributes, kind in dataset_layers(dataset):
        viewer.add_layer(Layer.create(data, attributes, kind))
    layers = layers_of(viewer)
    assert layers.session.dataset is dataset
    assert layers.session.series.name == "TS_1"
    layers.session.show_neighbour(1)
    assert names(viewer) == ["TS_1", "TS_2", "TS_10"]
    assert [layer.visible for layer in viewer.layers] == [False, True, False]


def test_layers_of_a_reader_are_taken_over_when_they_come_later(viewer, dataset):
    layers = layers_of(viewer)
    for data, attributes, kind in dataset_layers(dataset):
        viewer.add_layer(Layer.create(data, attributes, kind))
    assert layers.session.dataset is dataset
    assert names(viewer) == ["TS_1", "TS_2", "TS_10"]


@pytest.mark.gui
def test_a_dataset_that_is_dropped_onto_another_takes_its_place(viewer, aligned, series, monkeypatch, qtbot):
    other = Dataset((series.replace(name="X_1"), series.replace(name="X_2")), source="other.star")
    answers = [closing.Answer.CANCEL, closing.Answer.DISCARD]
    asked = []
    monkeypatch.setattr(closing, "ask_unsaved", lambda parent, names: asked.append(names) or answers.pop(0))

    def drop(dataset):
        for data, attributes, kind in dataset_layers(dataset):
            viewer.add_layer(Layer.create(data, attributes, kind))

    drop(other)
    qtbot.waitUntil(lambda: asked == [("TS_1",)], timeout=10_000)
    QApplication.processEvents()
    assert aligned.session.series.name == "TS_1", "the user has cancelled"
    again = dataclasses.replace(other)
    drop(again)
    qtbot.waitUntil(lambda: aligned.session.dataset is again, timeout=10_000)
    assert len(asked) == 2
    assert aligned.session.series.name == "X_1"
    assert [layer.name for layer in viewer.layers if layer.visible] == ["X_1 [1]"]


def test_raw_images_that_the_user_deleted_come_back_with_the_next_change(viewer, aligned):
    aligned.session.show_aligned(True)
    viewer.layers.remove(aligned.raw_layer())
    aligned.session.show_aligned(False)
    assert aligned.raw_layer().visible
    viewer.layers.clear()
    aligned.session.undo()
    assert names(viewer) == ["TS_1"]
    aligned.session.redo()
    assert "beads" in names(viewer)


def test_the_slider_and_the_session_look_at_the_same_view(viewer, layers, series):
    viewer.dims.set_current_step(0, 2)
    assert series.nominal_tilt_deg[series.index_of(layers.session.view)] == -40.0
    layers.session.select_view("view_00")
    assert viewer.dims.current_step[0] == 6


def test_an_alignment_brings_its_layers(viewer, aligned, truth):
    kinds = {layer.name: type(layer) for layer in viewer.layers}
    assert kinds == {
        "TS_1": Image, ALIGNED: Image, overlays.AXIS: Vectors, overlays.PATHS: Tracks, overlays.RESIDUALS: Vectors,
        overlays.GAPS: Points, overlays.BEADS: Points, overlays.HEIGHTS: Points,
    }  # fmt: skip
    beads = aligned.beads
    assert len(beads.data) == truth.tracks.n_observations
    assert list(beads.features.columns) == list(used_beads(truth).columns)
    assert beads.scale.tolist() == [1.0, 10.0, 10.0]


def test_rings_lie_on_beads(viewer, aligned, series):
    """The raw image is dark where a ring is drawn."""
    raw, beads = aligned.raw_layer(), aligned.beads
    inside = [(int(v), round(y), round(x)) for v, y, x in beads.data if 1 < y < 94 and 1 < x < 78]
    assert np.mean([raw.data[v][y, x] for v, y, x in inside]) < 85.0  # beads are at 80, the ice at 100


def test_rings_lie_on_beads_of_the_aligned_images_too(viewer, aligned):
    aligned.session.show_aligned(True)
    layer = aligned.layer(ALIGNED)
    assert layer.visible
    assert not aligned.raw_layer().visible
    values = [layer.data[int(v)][round(y), round(x)] for v, y, x in aligned.beads.data if 1 < y < 94 and 1 < x < 78]
    assert np.nanmean(values) < 86.0
    aligned.session.show_aligned(False)
    assert aligned.raw_layer().visible
    assert not layer.visible


def test_the_tilt_axis_is_upright_in_the_aligned_frame(viewer, aligned):
    vectors = aligned.layer(overlays.AXIS)
    assert np.abs(vectors.data[:, 1, 2]).max() > 5.0
    vectors.opacity = 0.3
    aligned.session.show_aligned(True)
    upright = aligned.layer(overlays.AXIS)
    np.testing.assert_allclose(upright.data, [[[0.0, 40.0], [96.0, 0.0]]], atol=1e-4)
    assert upright.scale.tolist() == [10.0, 10.0]
    assert upright.opacity == 0.3, "what the user has set stays"
    order = names(viewer)
    aligned.session.show_aligned(False)
    np.testing.assert_allclose(aligned.layer(overlays.AXIS).data, vectors.data)
    assert names(viewer) == order


def test_a_tilt_axis_that_is_not_the_same_in_all_views_is_drawn_for_each(aligned, truth):
    leaning = truth.replace(geometry=truth.geometry.replace(x_tilt_deg=np.full(len(truth.geometry), 2.0)))
    aligned.session.do(AddAlignment("leaning", leaning))
    aligned.session.show_aligned(True)
    vectors = aligned.layer(overlays.AXIS)
    assert vectors.data.shape == (13, 2, 3)
    assert np.ptp(vectors.data[:, 1, 2]) > 1.0


def test_a_layer_in_place_of_another_is_the_active_one(viewer, aligned):
    viewer.layers.selection.active = aligned.layer(overlays.AXIS)
    aligned.session.show_aligned(True)
    assert viewer.layers.selection.active is aligned.layer(overlays.AXIS)


def test_an_edit_moves_its_ring_and_leaves_the_others(aligned, monkeypatch):
    monkeypatch.setattr(aligned.session.solving, "resolve", lambda alignment, tracks: alignment.replace(tracks=tracks))
    before = aligned.beads.data.copy()
    arguments = {"track_id": 2, "tilt_id": "view_04", "position_yx_px": (11.0, 12.0)}
    aligned.session.do(EditTracks("place", arguments))
    moved = np.flatnonzero((aligned.beads.data != before).any(axis=1))
    assert len(moved) == 1
    assert aligned.beads.data[moved[0], 1:].tolist() == [11.0, 12.0]
    assert aligned.beads.features["state"][moved[0]] == "manual"
    aligned.session.undo()
    np.testing.assert_array_equal(aligned.beads.data, before)


def test_a_gap_is_drawn_where_the_bead_is_predicted(aligned, monkeypatch):
    monkeypatch.setattr(aligned.session.solving, "resolve", lambda alignment, tracks: alignment.replace(tracks=tracks))
    assert len(aligned.layer(overlays.GAPS).data) == 0
    before = len(aligned.beads.data)
    aligned.session.do(EditTracks("remove", {"track_id": 2, "tilt_id": "view_04"}))
    assert len(aligned.beads.data) == before - 1
    [gap] = aligned.layer(overlays.GAPS).data
    expected = gaps(aligned.session.alignment)
    np.testing.assert_allclose(gap[1:], expected[["y_px", "x_px"]].to_numpy()[0])


def test_the_aligned_images_follow_the_alignment(aligned, truth):
    stack = aligned.layer(ALIGNED).data
    before = stack[6].copy()
    shifted = truth.geometry.replace(shift_yx_angst=truth.geometry.shift_yx_angst + np.array([50.0, 0.0]))
    aligned.session.do(AddAlignment("shifted", truth.replace(geometry=shifted)))
    after = stack[6]
    angle = np.deg2rad(truth.geometry.z_rot_deg[0])
    dy, dx = 5.0 * np.cos(angle), -5.0 * np.sin(angle)
    assert abs(dx) < 1.0
    np.testing.assert_allclose(
        np.nanmean(after[20:60, 20:60]), np.nanmean(before[20 + round(dy) : 60 + round(dy), 20:60]), atol=0.5
    )


def test_the_viewer_waits_for_the_view_that_is_shown_only(viewer, aligned, monkeypatch):
    aligned.session.show_aligned(True)
    assert aligned.wait_for_neighbours(20.0)
    resampled_by = []

    def counted(image, matrix):
        resampled_by.append(threading.current_thread() is threading.main_thread())
        return aligned_view(image, matrix)

    monkeypatch.setattr(aligned_stack, "aligned_view", counted)
    aligned.layer(ALIGNED).data.clear()
    for rank in (3, 4, 5, 4):
        viewer.dims.set_current_step(0, rank)
    assert aligned.wait_for_neighbours(20.0)
    assert sum(resampled_by) <= 3
    assert len(resampled_by) <= 13, "no view is resampled twice"


def test_the_selected_bead_is_white(aligned):
    aligned.session.select_bead(4)
    beads = aligned.beads
    white = (beads.border_color == 1.0).all(axis=1)
    np.testing.assert_array_equal(white, beads.features["track_id"] == 4)


def test_the_text_says_when_nothing_is_aligned_any_more(aligned):
    aligned.session.show_aligned(True)
    assert aligned.text.shown.endswith("aligned")
    aligned.session.do(RemoveAlignment("exact"))
    assert aligned.text.shown.endswith("raw")


def test_excluded_views_say_so(viewer, layers):
    layers.session.do(ExcludeViews(("view_00",), "ice"))
    assert "EXCLUDED: ice" in layers.text.shown


def test_aligned_views_near_the_one_that_is_shown_are_made_ahead(aligned, viewer):
    session, stack = aligned.session, aligned.layer(ALIGNED).data
    assert stack.cached() == (), "none is made while raw images are looked at"
    session.show_aligned(True)
    assert aligned.wait_for_neighbours(20.0)
    assert set(stack.cached()) == set(range(1, 12)), "the sixth, and five to either side"
    viewer.dims.set_current_step(0, 10)
    assert aligned.wait_for_neighbours(20.0)
    assert 12 in stack.cached()
    stack.clear()
    session.show_aligned(False)
    viewer.dims.set_current_step(0, 4)
    assert aligned.wait_for_neighbours(20.0)
    assert stack.cached() == ()


def test_3d_display_makes_no_large_stack_and_hides_the_images(viewer, aligned, monkeypatch):
    monkeypatch.setattr(lazy_stack, "LARGEST_REQUEST_BYTES", 1000)
    aligned.session.show_aligned(True)
    assert aligned.wait_for_neighbours(20.0)
    stack = aligned.layer(ALIGNED).data
    stack.clear()
    told = []
    aligned.session.warned.connect(told.append)
    viewer.dims.ndisplay = 3
    assert stack.cached() == ()
    assert "not shown in 3D" in told[0]
    assert not aligned.layer(ALIGNED).visible
    viewer.dims.ndisplay = 2
    assert aligned.layer(ALIGNED).visible
    assert not aligned.raw_layer().visible


def test_an_edit_in_3d_display_shows_no_images(viewer, aligned, truth):
    aligned.session.show_aligned(True)
    viewer.dims.ndisplay = 3
    aligned.session.do(AddAlignment("again", truth))
    assert not any(layer.visible for layer in (aligned.layer(ALIGNED), aligned.raw_layer()))
    aligned.session.show_aligned(False)
    assert not any(layer.visible for layer in (aligned.layer(ALIGNED), aligned.raw_layer()))
    viewer.dims.ndisplay = 2
    assert aligned.raw_layer().visible
    assert not aligned.layer(ALIGNED).visible


def test_what_the_user_changed_about_a_layer_stays(aligned, truth):
    aligned.layer(overlays.RESIDUALS).length = 25.0
    aligned.layer(overlays.PATHS).visible = True
    aligned.session.do(AddAlignment("again", truth))
    assert aligned.layer(overlays.RESIDUALS).length == 25.0
    assert aligned.layer(overlays.PATHS).visible


def test_a_wild_residual_is_not_all_that_is_seen(aligned, truth):
    residual = np.full((truth.tracks.n_observations, 2), [0.3, -0.4])
    residual[5] = [40.0, -60.0]
    aligned.session.do(AddAlignment("wild", truth.replace(tracks=truth.tracks.replace(residual_yx_px=residual))))
    layer = aligned.layer(overlays.RESIDUALS)
    drawn_px = np.linalg.norm(layer.data[:, 1], axis=1) * layer.length
    assert drawn_px.max() == pytest.approx(0.1 * 96)
    np.testing.assert_allclose(np.sort(drawn_px)[:-1], 0.5 * overlays.RESIDUAL_LENGTH)
    towards = layer.data[5, 1, 1:] / np.linalg.norm(layer.data[5, 1, 1:])
    np.testing.assert_allclose(towards, [-40.0, 60.0] / np.hypot(40.0, 60.0))


def test_a_layer_that_the_user_deleted_comes_back_with_the_next_change(viewer, aligned, truth):
    viewer.layers.remove(aligned.beads)
    aligned.session.do(AddAlignment("again", truth))
    assert aligned.beads is not None


def test_the_viewer_is_never_empty_while_series_and_datasets_change(viewer, aligned, dataset):
    """A welcome of napari would be shown for a moment, with which drawing has crashed, and the slider would jump."""
    left, session = [], aligned.session
    viewer.layers.events.removed.connect(lambda event: left.append(len(viewer.layers)))
    views = []
    session.view_changed.connect(lambda: views.append(session.view))
    session.show("TS_2")
    session.show("TS_1")
    assert names(viewer)[0] == "TS_1"
    assert set(views) == {dataset["TS_1"].tilt_ids[0]}, "always the middle view"
    session.open(Dataset(dataset.series, source="the same again"))
    assert names(viewer) == ["TS_1"]
    assert min(left) > 0
    session.close()
    assert names(viewer) == []


@pytest.fixture
def moving(truth) -> Alignment:
    """An alignment with local motion, which is the same everywhere."""
    n, common = len(truth), np.zeros((len(truth), 2, 4))
    common[1:, 0, 0] = 0.5 * truth.pixel_size_angst
    support = truth.tracks.points_zyx_angst
    nothing = np.zeros((n, len(support), 2))
    return truth.replace(
        local_motion=LocalMotion(truth.tilt_ids[0], support, nothing, common, 500.0, 5.0, 10.0, 0.1, 0.5)
    )


def test_layers_lie_in_the_same_order_whenever_they_come(viewer, aligned, moving):
    aligned.session.do(AddAlignment("moving", moving))
    own = [name for name in names(viewer) if name in overlays.ALL]
    assert own == [role for role in overlays.ALL if role in own]
    assert "local motion" in own


def test_vectors_are_as_long_as_is_right_until_the_user_says_otherwise(aligned, moving):
    aligned.session.do(AddAlignment("moving", moving))
    layer = aligned.layer("local motion")
    layer.visible = True
    first = layer.length
    less = dataclasses.replace(moving.local_motion, common_yx=0.1 * moving.local_motion.common_yx)
    aligned.session.do(AddAlignment("less", moving.replace(local_motion=less)))
    assert layer.length == 10 * first
    layer.length = 7.0
    aligned.session.do(UseAlignment("moving"))
    assert aligned.layer("local motion").length == 7.0


def test_what_is_selected_is_called_by_its_name(aligned, truth):
    told = truth.replace(provenance=Provenance(method="patch-tracking", options={"patch_size_nm": 100.0}))
    aligned.session.select_bead(3)
    assert aligned.text.shown.endswith("raw   bead 3")
    aligned.session.do(AddAlignment("patches", told))
    assert aligned.text.shown.endswith("raw")
    aligned.session.select_bead(3)
    assert aligned.text.shown.endswith("raw   patch 3")


def test_nothing_keeps_a_closed_viewer_alive(dataset, truth):
    viewer = ViewerModel()
    layers = layers_of(viewer)
    layers.session.open(dataset)
    layers.session.do(AddAlignment("exact", truth))
    gone = [weakref.ref(viewer), weakref.ref(layers), weakref.ref(layers.session)]
    viewer.layers.clear()
    del viewer, layers
    gc.collect()
    assert [reference() for reference in gone] == [None, None, None]
