"""Edits of tracks: what they change, what they leave alone, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.model import REJECTION_REASONS, State, Tracks
from napari_tiltalign.ui.edits import (
    EditRefused,
    add_track,
    delete_track,
    find_observation,
    merge_tracks,
    place_bead,
    remove_bead,
    split_track,
    swap_tracks,
)

TILT_IDS = ("a", "b", "c", "d")


@pytest.fixture
def tracks() -> Tracks:
    """Beads 10, 11, 12 in images a..d; bead 12 is not seen in d, and rejected in c."""
    track, tilt = np.divmod(np.arange(12), 4)
    position = np.column_stack([10.0 * track, 5.0 * tilt])
    made = Tracks.from_observations(TILT_IDS, np.arange(9.0).reshape(3, 3), track, tilt, position)
    state = np.where(np.arange(12) == 10, int(State.REJECTED), int(State.MEASURED))
    made = made.replace(
        track_ids=[10, 11, 12], state=state, residual_yx_px=np.ones((12, 2)), sd_px=np.linspace(0.1, 0.2, 12)
    )
    return made.take_observations(np.arange(12) != 11)


def seen(tracks: Tracks) -> dict[tuple[int, str], tuple[tuple[float, float], int]]:
    """Every observation: (bead, image) to position and state."""
    return {
        (int(tracks.track_ids[t]), tracks.tilt_ids[i]): (tuple(p), int(s))
        for t, i, p, s in zip(tracks.track, tracks.tilt, tracks.position_yx_px.tolist(), tracks.state, strict=True)
    }


def differences(before: Tracks, after: Tracks) -> set[tuple[int, str]]:
    old, new = seen(before), seen(after)
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def test_moving_a_bead_changes_that_observation_only(tracks):
    moved = place_bead(tracks, 11, "c", (3.5, 4.5))
    assert differences(tracks, moved) == {(11, "c")}
    assert seen(moved)[11, "c"] == ((3.5, 4.5), State.MANUAL)
    row = find_observation(moved, 11, "c")
    assert np.isnan(moved.residual_yx_px[row]).all()
    assert np.isfinite(np.delete(moved.residual_yx_px, row, axis=0)).all()


def test_placing_a_bead_where_it_was_missed_adds_an_observation(tracks):
    placed = place_bead(tracks, 12, "d", (1.0, 2.0), State.FILLED)
    assert differences(tracks, placed) == {(12, "d")}
    assert seen(placed)[12, "d"] == ((1.0, 2.0), State.FILLED)
    row = find_observation(placed, 12, "d")
    same_image = tracks.sd_px[tracks.tilt == 3]
    assert placed.sd_px[row] == np.median(same_image)


def test_placing_a_rejected_bead_uses_it_again(tracks):
    placed = place_bead(tracks, 12, "c", (1.0, 2.0))
    row = find_observation(placed, 12, "c")
    assert placed.used[row]
    assert placed.reason[row] == 0
    assert placed.n_observations == tracks.n_observations


def test_removing_a_bead_from_an_image_keeps_it_as_rejected(tracks):
    removed = remove_bead(tracks, 10, "a")
    assert differences(tracks, removed) == {(10, "a")}
    row = find_observation(removed, 10, "a")
    assert not removed.used[row]
    assert REJECTION_REASONS[removed.reason[row]] == "deleted"


def test_deleting_a_track_leaves_the_ids_of_the_others(tracks):
    deleted = delete_track(tracks, 11)
    assert deleted.track_ids.tolist() == [10, 12]
    assert differences(tracks, deleted) == {(11, i) for i in TILT_IDS}


def test_a_new_track_gets_a_new_id(tracks):
    added = add_track(tracks, "b", (7.0, 8.0), (1.0, 2.0, 3.0))
    assert differences(tracks, added) == {(13, "b")}
    assert added.points_zyx_angst[-1].tolist() == [1.0, 2.0, 3.0]
    assert add_track(delete_track(added, 11), "b", (7.0, 9.0), (0, 0, 0)).track_ids.tolist() == [10, 12, 13, 14]


def test_the_first_track_of_all(tracks):
    empty = tracks.take_tracks(np.zeros(3, bool))
    added = add_track(empty, "a", (7.0, 8.0), (1.0, 2.0, 3.0))
    assert seen(added) == {(0, "a"): ((7.0, 8.0), State.MANUAL)}


def test_merging_prefers_used_observations_and_then_the_first_bead(tracks):
    merged = merge_tracks(tracks, 12, 11)
    assert merged.track_ids.tolist() == [10, 12]
    before = seen(tracks)
    expected = {(12, "a"): before[12, "a"], (12, "b"): before[12, "b"], (12, "c"): before[11, "c"],
                (12, "d"): before[11, "d"]}  # fmt: skip
    assert {key: value for key, value in seen(merged).items() if key[0] == 12} == expected
    assert {key: value for key, value in seen(merged).items() if key[0] == 10} == {
        key: value for key, value in before.items() if key[0] == 10
    }


def test_splitting_and_merging_gives_the_same_tracks(tracks):
    split = split_track(tracks, 10, ["c", "d"])
    assert split.track_ids.tolist() == [10, 11, 12, 13]
    assert {key for key in seen(split) if key[0] == 13} == {(13, "c"), (13, "d")}
    assert seen(merge_tracks(split, 10, 13)) == seen(tracks)


def test_swapping_twice_gives_the_same_tracks(tracks):
    swapped = swap_tracks(tracks, 11, 12, ["c", "d"])
    assert seen(swapped)[12, "d"] == seen(tracks)[11, "d"]
    assert seen(swapped)[11, "c"] == seen(tracks)[12, "c"]
    assert (11, "d") not in seen(swapped)
    assert seen(swap_tracks(swapped, 12, 11, ["c", "d"])) == seen(tracks)


@pytest.mark.parametrize(
    ("edit", "arguments", "message"),
    [
        (place_bead, (99, "a", (0, 0)), "no bead 99"),
        (place_bead, (10, "z", (0, 0)), "no image 'z'"),
        (place_bead, (10, "a", (np.nan, 0)), "no position"),
        (remove_bead, (12, "d"), "not used"),
        (remove_bead, (12, "c"), "not used"),
        (delete_track, (99,), "no bead 99"),
        (merge_tracks, (10, 10), "with itself"),
        (merge_tracks, (10, 99), "no bead 99"),
        (split_track, (10, []), "must be seen"),
        (split_track, (10, TILT_IDS), "must be seen"),
        (swap_tracks, (10, 10, ["a"]), "with itself"),
        (swap_tracks, (10, 11, []), "neither"),
    ],
)
def test_what_makes_no_sense_is_refused(tracks, edit, arguments, message):
    with pytest.raises(EditRefused, match=message):
        edit(tracks, *arguments)
