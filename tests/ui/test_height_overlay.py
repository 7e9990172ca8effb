"""Heights of what is followed: where it is, how high, and in step with what is edited."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_tiltalign.model.alignment import FOLLOWED_AREA_KEY
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.bead_table import bead_diameter_px, follows_areas, predicted_yx_px
from napari_tiltalign.ui.commands import AddAlignment, EditTracks
from napari_tiltalign.ui.frame import Frame
from napari_tiltalign.ui.height_overlay import HEIGHTS, height_colours, heights_nm, heights_overlay
from napari_tiltalign.ui.overlays import roles_of
from napari_tiltalign.ui.work import Candidate


def test_every_track_has_its_height_in_every_view(series, truth):
    frame = Frame.raw(series)
    data, attributes, kind = heights_overlay(series, truth, frame)
    assert kind == "points"
    assert len(data) == len(series) * truth.tracks.n_tracks
    table = attributes["features"]
    z = truth.tracks.points_zyx_angst[:, 0]
    for track_id, height in zip(truth.tracks.track_ids, z, strict=True):
        rows = (table["track_id"] == track_id).to_numpy()
        np.testing.assert_allclose(table["height_nm"][rows], (height - np.median(z)) / 10.0, atol=0.05)
        order = frame.rank[np.arange(len(series))]
        np.testing.assert_allclose(data[rows][:, 1:], predicted_yx_px(truth)[:, track_id])
        np.testing.assert_array_equal(np.sort(data[rows][:, 0]), np.sort(order))


def test_colours_tell_above_from_below():
    low, middle, high = height_colours(np.array([-20.0, 0.0, 20.0]))
    assert low[2] > low[0], "below is blue"
    assert high[0] > high[2], "above is orange"
    np.testing.assert_allclose(middle[:3], middle[0], atol=0.02)
    nearly_flat = height_colours(np.array([-0.1, 0.0, 0.1]))
    assert np.ptp(nearly_flat[:, 0]) < 0.15, "a tenth of a nanometre is no height"


def test_one_far_out_does_not_take_the_colours_from_the_others():
    heights = np.append(np.linspace(-10.0, 10.0, 60), 500.0)
    assert np.ptp(height_colours(heights)[:60, 2]) > 0.5


def test_without_tracks_there_are_no_heights(truth):
    assert HEIGHTS in roles_of(Candidate(truth))
    assert HEIGHTS not in roles_of(Candidate(truth.replace(tracks=None)))
    with pytest.raises(ValueError, match="no tracks"):
        heights_nm(truth.replace(tracks=None))


def test_the_layer_follows_edits_with_its_text(dataset, truth):
    viewer = ViewerModel()
    layers = layers_of(viewer)
    layers.session.solving.background = lambda work, done, failed: done(work())
    layers.session.open(dataset)
    layers.session.do(AddAlignment("exact", truth))
    layer = layers.layer(HEIGHTS)
    assert not layer.visible
    layer.visible = True
    before = layer.text.values.tolist()
    for row in np.flatnonzero(truth.tracks.track == 2).tolist():
        tilt, (y, x) = int(truth.tracks.tilt[row]), truth.tracks.position_yx_px[row].tolist()
        apart = 4.0 * np.sign(truth.geometry.y_tilt_deg[tilt])  # to either side of where it was: higher or lower
        place = {"track_id": 2, "tilt_id": truth.tilt_ids[tilt], "position_yx_px": (y, x + apart)}
        layers.session.do(EditTracks("place", place))
    after = layers.layer(HEIGHTS).text.values.tolist()
    assert len(after) == len(before)
    expected = [f"{h:+.1f}" for h in layers.layer(HEIGHTS).features["height_nm"]]
    assert after == expected
    assert after != before, "the bead was moved to another height"


def test_areas_are_told_from_beads_whatever_the_method(series, truth):
    assert not follows_areas(truth)
    tiles = truth.replace(details={FOLLOWED_AREA_KEY: 200.0})
    assert follows_areas(tiles)
    assert bead_diameter_px(tiles) == 20.0, "a tenth of 200 nm at 10 A"
    _, attributes, _ = heights_overlay(series, tiles, Frame.raw(series))
    assert attributes["symbol"] == "square"
