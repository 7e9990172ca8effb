"""What the keys do, on tracks that the real solver solves."""

from __future__ import annotations

import time

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_tiltalign.methods.fiducial import Fiducial
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import Alignment, Dataset, Provenance
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.ui import actions
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.bead_table import gaps, predicted_yx_px, used_beads
from napari_tiltalign.ui.commands import AddAlignment, EditTracks
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.keys import KEYS, bind_keys
from napari_tiltalign.ui.session import Session


def taken_as_solved(alignment: Alignment, tracks) -> Alignment:
    """Stands in for the solver where the geometry does not matter."""
    return alignment.replace(tracks=tracks)


@pytest.fixture
def session(dataset, truth) -> Session:
    """Three beads are far off, a little off and not used, each in one view."""
    tracks = truth.tracks
    residual = np.tile([0.1, 0.0], (tracks.n_observations, 1))

    def row(track: int, tilt: int) -> int:
        return int(np.flatnonzero((tracks.track == track) & (tracks.tilt == tilt))[0])

    residual[row(3, 5)] = [4.0, 3.0]
    residual[row(1, 8)] = [0.0, -2.0]
    session = Session(taken_as_solved)
    session.open(dataset)
    session.do(AddAlignment("exact", truth.replace(tracks=tracks.replace(residual_yx_px=residual))))
    session.do(EditTracks("remove", {"track_id": 2, "tilt_id": "view_04"}))
    session.do(EditTracks("remove", {"track_id": 2, "tilt_id": "view_06"}))
    session.do(EditTracks("remove", {"track_id": 5, "tilt_id": "view_00"}))
    return session


def here(session: Session) -> tuple[int | None, str]:
    return session.bead, session.view


def test_worst_beads_come_in_order_and_back(session):
    actions.next_worst(session)
    assert here(session) == (3, "view_05")
    actions.next_worst(session)
    assert here(session) == (1, "view_08")
    actions.previous_worst(session)
    assert here(session) == (3, "view_05")
    with pytest.raises(EditRefused, match="before this one"):
        actions.previous_worst(session)


def test_every_bead_is_examined_once_and_then_all_again(session):
    n = len(used_beads(session.alignment))
    places = []
    for _ in range(n + 1):
        actions.next_worst(session)
        places.append(here(session))
    assert len(set(places[:n])) == n
    assert places[n] == places[0]


def test_residuals_are_judged_against_the_noise_of_their_view(session, truth):
    tracks = truth.tracks
    in_bad_view = tracks.tilt == 12
    size = np.where(in_bad_view, 3.0, 0.1)
    size[(tracks.tilt == 2) & (tracks.track == 0)] = 0.5
    noise = np.where(in_bad_view, 2.0, 0.1)
    residual = np.column_stack([size, np.zeros_like(size)])
    for sd_px, expected in [(noise, (0, 2)), (np.full_like(noise, np.nan), (0, 12))]:
        worst = actions.worst_first(truth.replace(tracks=tracks.replace(residual_yx_px=residual, sd_px=sd_px)))
        assert (worst["track_id"][0], worst["tilt"][0]) == expected


def test_gaps_come_bead_by_bead_in_order_of_tilt_and_start_again(session, series):
    places = []
    for _ in range(4):
        actions.next_gap(session)
        places.append(here(session))
    angle = {tilt.tilt_id: tilt.nominal_tilt_deg for tilt in series.tilts}
    assert sorted(places[:2], key=lambda place: angle[place[1]]) == places[:2]
    assert {places[0], places[1]} == {(2, "view_04"), (2, "view_06")}
    assert places[2] == (5, "view_00")
    assert places[3] == places[0]


def test_a_gap_is_filled_where_the_bead_is_predicted(session):
    actions.next_gap(session)
    bead, view = here(session)
    expected = predicted_yx_px(session.alignment)[session.alignment.tilt_ids.index(view), bead]
    actions.accept_gap(session)
    table = used_beads(session.alignment)
    [filled] = table[(table["track_id"] == bead) & (table["tilt_id"] == view)].to_dict("records")
    np.testing.assert_allclose((filled["y_px"], filled["x_px"]), expected)
    assert filled["state"] == "filled"
    assert len(gaps(session.alignment)) == 2


def test_views_are_excluded_and_included_again(session):
    actions.toggle_view(session)
    assert session.series[session.view].reason == "by hand"
    actions.toggle_view(session)
    assert session.series[session.view].included


def test_views_are_gone_through_in_order_of_tilt(session, series):
    ids = [series.tilt_ids[i] for i in series.tilt_order()]
    session.select_view(ids[5])
    seen = []
    for step in (
        actions.next_view, actions.previous_view, actions.last_view, actions.next_view, actions.first_view,
        actions.previous_view,
    ):  # fmt: skip
        step(session)
        seen.append(ids.index(session.view))
    assert seen == [6, 5, 12, 12, 0, 0]


def test_a_new_bead_is_selected_and_lies_where_it_was_put(session):
    actions.add_bead(session, "view_03", (20.0, 30.0))
    assert session.bead == 7
    alignment = session.alignment
    np.testing.assert_allclose(predicted_yx_px(alignment)[3, 7], (20.0, 30.0), atol=1e-6)


def test_locking_and_releasing(session):
    session.select_bead(4)
    actions.toggle_lock(session)
    with pytest.raises(EditRefused, match="locked"):
        actions.delete_bead(session)
    actions.toggle_lock(session)
    actions.delete_bead(session)
    assert 4 not in session.alignment.tracks.track_ids


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (actions.accept_gap, "select a bead first"),
        (actions.remove_bead, "select a bead first"),
        (actions.delete_bead, "select a bead first"),
        (actions.toggle_lock, "select a bead first"),
    ],
)
def test_without_a_bead_there_is_nothing_to_do(session, action, message):
    with pytest.raises(EditRefused, match=message):
        action(session)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.what)
def test_keys_do_no_harm_when_nothing_is_open(key):
    viewer, session = ViewerModel(), Session(taken_as_solved)
    told = []
    session.told.connect(told.append)
    bind_keys(viewer, session)
    bound = [function for pressed, function in viewer.keymap.items() if function]
    assert len(bound) == len(KEYS)
    for function in bound:
        function(viewer)
    assert "open a tilt series first" in told


def test_keys_are_used_once():
    assert len({key.key for key in KEYS}) == len(KEYS)


def curated(truth: Alignment) -> Alignment:
    """The exact alignment as the method fiducial would give it, so that the solver takes it."""
    return truth.replace(provenance=Provenance("fiducial", Fiducial().model_dump()))


def error_px(alignment: Alignment, truth: Alignment) -> float:
    return difference(alignment, truth, thickness_angst=300.0).rms_px


def test_beads_pulled_wrong_are_found_and_put_right(dataset, truth):
    """Corrupt 10 % of the positions; the keys' own actions bring the error back to where it was."""
    session = Session()
    session.open(dataset)
    session.do(AddAlignment("exact", curated(truth)))
    rng = np.random.default_rng(5)
    tracks = truth.tracks
    wrong = rng.choice(tracks.n_observations, tracks.n_observations // 10, replace=False)
    right = {}
    for row in wrong:
        key = (int(tracks.track_ids[tracks.track[row]]), tracks.tilt_ids[tracks.tilt[row]])
        right[key] = tuple(tracks.position_yx_px[row].tolist())
        angle = rng.uniform(0, 2 * np.pi)
        moved = tracks.position_yx_px[row] + 12.0 * np.array([np.sin(angle), np.cos(angle)])
        actions.place_bead(session, *key, tuple(moved.tolist()))
    corrupted = error_px(session.alignment, truth)
    for _ in range(len(right)):
        actions.next_worst(session)
        assert here(session) in right, "the worst bead is one of those that were pulled"
        actions.place_bead(session, *here(session), right[here(session)])
    uncorrupted = error_px(resolve(curated(truth), truth.tracks), truth)
    assert error_px(session.alignment, truth) == pytest.approx(uncorrupted, abs=0.01)
    assert uncorrupted < corrupted < 2.0, "robust weights keep the rest in place"
    for _ in range(2 * len(right)):
        session.undo()
    assert error_px(session.alignment, truth) < 1e-6


def test_an_edit_is_seen_at_once(dataset, truth):
    """From the edit to the updated layers, with the solver in between, on a series of small size."""
    viewer = ViewerModel()
    layers = layers_of(viewer)
    session = layers.session
    session.solving.background = lambda work, done, failed: done(work())
    session.open(Dataset(dataset.series))
    session.do(AddAlignment("exact", curated(truth)))
    started = time.process_time()
    actions.place_bead(session, 2, "view_04", (30.0, 30.0))
    assert session.candidate.solved
    assert time.process_time() - started < 1.0
