"""Which links are unsure, and how beads mistaken for each other are put right."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.model import Provenance
from napari_tiltalign.ui import link_actions
from napari_tiltalign.ui.commands import AddAlignment
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.links import neighbour_in_specimen, neighbour_in_view, unsure_links
from napari_tiltalign.ui.session import Session


def small_beads(truth):
    """The exact alignment, told that beads are only 2 nm wide, so that few come close to each other."""
    return truth.replace(provenance=Provenance("fiducial", {"diameter_nm": 2.0}))


@pytest.fixture
def session(dataset, truth) -> Session:
    """An open session; editing keeps the geometry."""
    session = Session(lambda alignment, tracks: alignment.replace(tracks=tracks))
    session.open(dataset)
    session.do(AddAlignment("exact", small_beads(truth)))
    return session


def positions(session: Session, bead: int) -> dict[str, tuple[float, float]]:
    tracks = session.alignment.tracks
    rows = tracks.used & (tracks.track_ids[tracks.track] == bead)
    ids = [tracks.tilt_ids[tilt] for tilt in tracks.tilt[rows]]
    return dict(zip(ids, map(tuple, tracks.position_yx_px[rows].tolist()), strict=True))


def swapped(session: Session, one: int, other: int, tilt_ids: tuple[str, ...]) -> None:
    tracks = session.alignment.tracks
    here = np.isin(tracks.tilt, [tracks.tilt_ids.index(i) for i in tilt_ids])
    track = tracks.track.copy()
    track[here & (tracks.track == one)], track[here & (tracks.track == other)] = other, one
    session.do(AddAlignment("swapped", session.alignment.replace(tracks=tracks.replace(track=track))))


def test_swapped_links_are_the_most_doubtful(session):
    swapped(session, 2, 5, ("view_03",))
    table = unsure_links(session.alignment)
    assert {tuple(row) for row in table[["track_id", "tilt_id", "other_id"]][:2].to_numpy()} == {
        (2, "view_03", 5), (5, "view_03", 2),
    }  # fmt: skip
    assert (table["other_px"][:2] < 1e-6).all()


def test_unsure_links_are_visited_in_turn(session):
    swapped(session, 2, 5, ("view_03",))
    told = []
    session.told.connect(told.append)
    n = len(unsure_links(session.alignment))
    places = []
    for _ in range(n + 1):
        link_actions.next_unsure(session)
        places.append((session.bead, session.view))
    assert {place[0] for place in places[:2]} == {2, 5}
    assert len(set(places[:n])) == n
    assert places[n] == places[0]
    assert "that of bead" in told[0]


def test_a_swap_is_undone_from_here_outwards(session, series, truth):
    expected = positions(session, 2)
    order = [series.tilt_ids[i] for i in series.tilt_order()]
    swapped(session, 2, 5, tuple(order[9:]))
    assert positions(session, 2) != expected
    session.select_bead(2)
    session.select_view(order[9])
    assert link_actions.views_from_here(session) == tuple(order[9:])
    link_actions.swap_from_here(session)
    assert positions(session, 2) == expected
    session.undo()
    assert positions(session, 2) != expected


def test_views_from_here_end_at_the_lowest_tilt_on_the_other_side(session, series):
    order = [series.tilt_ids[i] for i in series.tilt_order()]
    session.select_view(order[2])
    assert link_actions.views_from_here(session) == tuple(order[:3])


def test_a_bead_is_split_and_merged_again(session, series):
    expected = positions(session, 4)
    order = [series.tilt_ids[i] for i in series.tilt_order()]
    session.select_bead(4)
    session.select_view(order[10])
    link_actions.split_from_here(session)
    assert set(positions(session, 4)) == set(order[:10])
    assert set(positions(session, 7)) == set(order[10:])
    assert neighbour_in_specimen(session.alignment, 4)[0] == 7
    link_actions.merge_nearest(session)
    assert positions(session, 4) == expected
    assert 7 not in session.alignment.tracks.track_ids


def test_beads_far_apart_are_merged_only_on_purpose(session):
    session.select_bead(4)
    other, apart = neighbour_in_specimen(session.alignment, 4)
    assert apart > 60.0
    with pytest.raises(EditRefused, match=f"nearest other bead, {other}, is .* nm away"):
        link_actions.merge_nearest(session)
    link_actions.merge_beads(session, 4, other)
    assert other not in session.alignment.tracks.track_ids


def test_neighbours_need_another_bead(session, truth):
    tracks = truth.tracks.take_tracks(np.arange(truth.tracks.n_tracks) == 3)
    alone = truth.replace(tracks=tracks)
    assert unsure_links(alone).empty
    for find in (lambda: neighbour_in_specimen(alone, 3), lambda: neighbour_in_view(alone, 3, "view_01")):
        with pytest.raises(EditRefused, match="no other bead"):
            find()


def test_without_doubt_there_is_nothing_to_visit(session, truth):
    tracks = truth.tracks.take_tracks(np.arange(truth.tracks.n_tracks) == 3)
    session.do(AddAlignment("alone", truth.replace(tracks=tracks)))
    with pytest.raises(EditRefused, match="no bead comes close"):
        link_actions.next_unsure(session)
