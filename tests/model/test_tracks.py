"""Tracks: shapes, references, and edits that return new objects."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.model import REJECTION_REASONS, State, Tracks

TILTS = ("a", "b", "c")


def tracks() -> Tracks:
    """Three tracks: seen in all images, in none, in two."""
    positions = np.arange(10.0).reshape(5, 2)
    points = np.arange(9.0).reshape(3, 3)
    return Tracks.from_observations(TILTS, points, np.array([0, 0, 0, 2, 2]), np.array([0, 1, 2, 0, 2]), positions)


def test_fresh_tracks_are_measured_and_not_solved() -> None:
    fresh = tracks()
    assert (fresh.n_tracks, fresh.n_observations) == (3, 5)
    assert fresh.used.all()
    assert set(fresh.state) == {State.MEASURED}
    assert np.isnan(fresh.residual_yx_px).all()
    assert np.isnan(fresh.points_sd_angst).all()
    assert fresh.track_ids.tolist() == [0, 1, 2]


def test_rejected_observations_are_kept_and_not_used() -> None:
    state = np.array([State.MEASURED, State.REJECTED, State.FILLED, State.MANUAL, State.REJECTED])
    edited = tracks().replace(state=state, reason=[0, REJECTION_REASONS.index("outlier"), 0, 0, 6])
    assert edited.used.tolist() == [True, False, True, True, False]
    assert edited.n_observations == 5


def test_observations_are_taken_without_losing_tracks() -> None:
    some = tracks().take_observations(np.array([False, True, False, True, True]))
    assert some.n_tracks == 3
    assert some.track.tolist() == [0, 2, 2]
    assert some.position_yx_px.tolist() == [[2.0, 3.0], [6.0, 7.0], [8.0, 9.0]]
    assert tracks().take_observations(np.array([4, 0])).tilt.tolist() == [2, 0]


def test_remaining_tracks_keep_their_ids_points_and_observations() -> None:
    rest = tracks().replace(track_ids=[7, 5, 9]).take_tracks(np.array([False, True, True]))
    assert rest.track_ids.tolist() == [5, 9]
    assert rest.points_zyx_angst.tolist() == [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]
    assert rest.track.tolist() == [1, 1]
    assert rest.position_yx_px.tolist() == [[6.0, 7.0], [8.0, 9.0]]
    assert tracks().take_tracks(np.zeros(3, bool)).n_observations == 0


def test_arrays_are_copied_and_cannot_be_written() -> None:
    positions = np.zeros((1, 2))
    made = Tracks.from_observations(TILTS, np.zeros((1, 3)), np.array([0]), np.array([0]), positions)
    positions[:] = 9
    assert made.position_yx_px.tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match="read-only"):
        made.weight[0] = 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"position_yx_px": np.zeros((5, 3))}, r"position_yx_px has shape \(5, 3\), expected \(5, 2\)"),
        ({"weight": np.zeros(4)}, r"weight has shape \(4,\), expected \(5,\)"),
        ({"points_zyx_angst": np.zeros((2, 3))}, "points_zyx_angst has shape"),
        ({"track_ids": [1, 1, 2]}, "track_ids must be unique"),
        ({"track": [0, 0, 0, 2, 3]}, "a track that does not exist"),
        ({"track": [0, 0, 0, 2, -1]}, "a track that does not exist"),
        ({"tilt": [0, 1, 3, 0, 2]}, "an image that does not exist"),
        ({"tilt": [0, 1, -1, 0, 2]}, "an image that does not exist"),
        ({"tilt": [0, 1, 1, 0, 2]}, "two observations in one image"),
    ],
)
def test_impossible_tracks_are_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        tracks().replace(**changes)
