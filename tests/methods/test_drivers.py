"""Which views and places decided a result is said in words, and a warning is given if few places did."""

from __future__ import annotations

import numpy as np
import pytest
from track_alignments import aligned_tracks

from napari_tiltalign.methods.drivers import DETAILS_KEY, decided_by, drivers
from napari_tiltalign.model import Alignment, State


@pytest.fixture
def alignment() -> Alignment:
    return aligned_tracks(n=21, p=12)


def with_sd(alignment: Alignment, change) -> Alignment:
    tracks = alignment.tracks
    return alignment.replace(tracks=tracks.replace(sd_px=tracks.sd_px * change(tracks)))


def test_shares_add_up_and_equal_places_count_alike(alignment):
    found = drivers(alignment)
    for shares in (found.by_view, found.by_place, found.by_quarter):
        assert shares.sum() == pytest.approx(1.0)
    assert 10.0 < found.places <= 12.0


def test_what_is_measured_ten_times_better_counts_a_hundred_times_more(alignment):
    sharp = with_sd(alignment, lambda tracks: np.where(tracks.track == 4, 0.1, 1.0))
    assert np.argmax(drivers(sharp).by_place) == 4
    assert drivers(sharp).by_place[4] == pytest.approx(100.0 / 111.0, abs=0.02)


def test_views_that_hardly_count_are_named(alignment):
    weak = decided_by(with_sd(alignment, lambda tracks: np.where(tracks.tilt == 20, 9.0, 1.0)), "beads")
    words = weak.details[DETAILS_KEY]
    assert words.startswith("Half of the evidence comes from 10 of 21 views") or "11 of 21 views" in words
    assert "of 12 beads" in words
    assert "fair share comes from each of image_20 (" in words
    assert words.count("image_") == 1


def test_a_single_sharp_place_is_warned_about(alignment):
    sharp = decided_by(with_sd(alignment, lambda tracks: np.where(tracks.track == 4, 0.1, 1.0)), "beads")
    (flag,) = [flag for flag in sharp.flags if flag.name == "few_places"]
    assert flag.detail == f"as many as {sharp.statistics['places_deciding']:.1f} beads of equal weight"
    assert not [flag for flag in decided_by(alignment, "beads").flags if flag.name == "few_places"]


def test_the_quarter_is_that_of_the_places(alignment):
    seen = alignment.geometry.take([int(np.argmin(np.abs(alignment.geometry.y_tilt_deg)))])
    yx = seen.project(alignment.tracks.points_zyx_angst)[0]
    there = (yx[:, 0] >= 0) & (yx[:, 1] < 0)
    assert there.any()
    sharp = with_sd(alignment, lambda tracks: np.where(there[tracks.track], 0.1, 1.0))
    assert "The lower left quarter of the field tells most: 9" in decided_by(sharp, "beads").details[DETAILS_KEY]


def test_without_anything_that_counts_nothing_is_said(alignment):
    tracks = alignment.tracks
    rejected = tracks.replace(state=np.full(tracks.n_observations, int(State.REJECTED)))
    for empty in (alignment.replace(tracks=None), alignment.replace(tracks=rejected)):
        assert drivers(empty) is None
        assert decided_by(empty, "beads") is empty
