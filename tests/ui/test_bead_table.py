"""The table of beads and gaps behind the layers and lists, and where they are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.model import State
from napari_tiltalign.ui.bead_table import bead_diameter_px, gaps, predicted_yx_px, used_beads
from napari_tiltalign.ui.edits import place_bead, remove_bead
from napari_tiltalign.ui.frame import Frame


def test_exact_beads_are_where_they_are_predicted(truth):
    beads = used_beads(truth)
    tracks = truth.tracks
    assert len(beads) == tracks.n_observations
    rows = np.searchsorted(tracks.track_ids, beads["track_id"])
    np.testing.assert_allclose(predicted_yx_px(truth)[beads["tilt"], rows], beads[["y_px", "x_px"]], atol=1e-9)
    assert set(beads["state"]) == {"measured"}
    assert len(gaps(truth)) == 0


def test_a_removed_bead_becomes_a_gap_and_a_placed_one_is_manual(truth):
    tracks = remove_bead(truth.tracks, 3, "view_06")
    edited = truth.replace(tracks=place_bead(tracks, 2, "view_01", (4.0, 5.0), State.MANUAL))
    [gap] = gaps(edited).to_dict("records")
    assert (gap["track_id"], gap["tilt_id"], gap["reason"]) == (3, "view_06", "deleted")
    np.testing.assert_allclose((gap["y_px"], gap["x_px"]), predicted_yx_px(truth)[6, 3])
    beads = used_beads(edited)
    assert len(beads) == truth.tracks.n_observations - 1
    [placed] = beads[beads["state"] == "manual"].to_dict("records")
    assert (placed["track_id"], placed["tilt"], placed["y_px"], placed["x_px"]) == (2, 1, 4.0, 5.0)
    assert np.isnan(placed["residual_px"])


def test_no_gaps_in_excluded_views_or_outside_the_image(truth):
    nothing_used = truth.replace(tracks=truth.tracks.replace(state=np.full(truth.tracks.n_observations, 3)))
    everywhere = gaps(nothing_used)
    included = truth.included.copy()
    included[4] = False
    some = gaps(nothing_used.replace(included=included))
    assert set(everywhere["tilt"]) - set(some["tilt"]) == {4}
    moved = truth.geometry.replace(shift_yx_angst=truth.geometry.shift_yx_angst + np.array([1e5, 0.0]))
    assert len(gaps(nothing_used.replace(geometry=moved))) == 0


def test_the_diameter_is_that_of_the_method(truth):
    assert bead_diameter_px(truth) == 10.0
    told = type(truth.provenance)(method="fiducial", options={"diameter_nm": 15.0})
    assert bead_diameter_px(truth.replace(provenance=told)) == 15.0


@pytest.mark.parametrize("kind", ["raw", "aligned"])
def test_frames_lead_there_and_back(series, truth, kind):
    frame = Frame.raw(series) if kind == "raw" else Frame.aligned(series, truth)
    tilt = truth.tracks.tilt
    shown = frame.shown(tilt, truth.tracks.position_yx_px)
    angles = series.nominal_tilt_deg
    np.testing.assert_array_equal(np.sort(angles)[shown[:, 0].astype(int)], angles[tilt])
    for (view, *position), expected in zip(shown, truth.tracks.position_yx_px, strict=True):
        np.testing.assert_allclose(frame.raw_position(int(view), position), expected, atol=1e-9)


def test_beads_move_along_rows_only_in_the_aligned_frame(series, truth):
    """With the tilt axis upright, a bead keeps its y in all views."""
    shown = Frame.aligned(series, truth).shown(truth.tracks.tilt, truth.tracks.position_yx_px)
    for track in range(truth.tracks.n_tracks):
        assert np.ptp(shown[truth.tracks.track == track, 1]) < 1e-6


def test_vectors_turn_with_the_frame(series, truth):
    frame = Frame.aligned(series, truth)
    tilt = np.arange(len(series))
    start, vector = np.full((len(series), 2), 30.0), np.tile([3.0, -4.0], (len(series), 1))
    expected = frame.shown(tilt, start + vector) - frame.shown(tilt, start)
    np.testing.assert_allclose(frame.shown_vectors(tilt, vector), expected, atol=1e-9)
