"""The hand by the defocus gradient: right where it is told, and never told the wrong way round."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_tiltalign.images.prepare import contrast_image, remove_hot_pixels
from napari_tiltalign.methods.hand import Hand, tell_hand
from napari_tiltalign.model import State
from napari_tiltalign.simulation import SCENARIOS, simulate

DIAMETER_PX = 10.0


@pytest.fixture(scope="module")
def sample():
    """A simulated series, whose defocus gradient has the hand -1, and local contrast of its images."""
    options = SCENARIOS["easy"].replace(
        image_rows_px=384, image_columns_px=512, tilt_step_deg=4, n_beads=45, seed=3, max_shift_percent=2
    )
    simulated = simulate(options)
    images = [
        contrast_image(remove_hot_pixels(tilt.image.read())[0], DIAMETER_PX).contrast for tilt in simulated.series.tilts
    ]
    return simulated.series, simulated.truth, images


def mirrored(alignment):
    """The alignment that positions cannot tell from this one."""
    tracks = alignment.tracks
    return alignment.replace(
        geometry=alignment.geometry.mirrored(),
        tracks=tracks.replace(points_zyx_angst=tracks.points_zyx_angst * [-1.0, 1.0, 1.0]),
    )


def told(sample, *, turn=lambda alignment: alignment, **changes):
    series, truth, images = sample
    return tell_hand(turn(truth), series.replace(**changes), images, 1, DIAMETER_PX)


def slope(alignment):
    return alignment.statistics["hand_slope"], alignment.statistics["hand_slope_sd"]


def test_the_hand_is_that_of_the_simulator(sample):
    found = told(sample, hand=-1)
    assert found.details["hand"].startswith("-1 (rlnTomoHand)")
    assert not any(flag.name == "hand_contradicted" for flag in found.flags)
    value, sd = slope(found)
    assert -1.3 < value < -4 * sd


def test_the_mirror_image_has_the_other_hand_and_contradicts_the_input(sample):
    found = told(sample, turn=mirrored, hand=-1)
    assert found.details["hand"].startswith("+1 (rlnTomoHand)")
    (flag,) = [flag for flag in found.flags if flag.name == "hand_contradicted"]
    assert "the input says -1" in flag.detail
    np.testing.assert_allclose(slope(found)[0], -slope(told(sample))[0], rtol=0.01)


def test_without_a_word_in_the_input_nothing_is_contradicted(sample):
    assert not any(flag.name == "hand_contradicted" for flag in told(sample, turn=mirrored).flags)


@pytest.mark.parametrize("defocus_um", [-2.0, -2.5, -3.0, -4.0, -4.5])
def test_a_wrong_defocus_does_not_turn_the_hand(sample, defocus_um):
    series = sample[0]
    wrong = tuple(dataclasses.replace(tilt, defocus_um=defocus_um) for tilt in series.tilts)
    assert not told(sample, tilts=wrong).details["hand"].startswith("+1")


def test_measured_defocus_wins_over_the_nominal_one(sample):
    series = sample[0]
    measured = tuple(dataclasses.replace(tilt, nominal_defocus_um=-9.0, defocus_um=-3.5) for tilt in series.tilts)
    assert slope(told(sample, tilts=measured)) == slope(told(sample))


def test_without_defocus_nothing_is_said(sample):
    series, truth, _ = sample
    unknown = tuple(dataclasses.replace(tilt, nominal_defocus_um=np.nan) for tilt in series.tilts)
    assert told(sample, tilts=unknown) is truth


def test_few_beads_are_said_to_be_few(sample):
    series, truth, images = sample
    tracks = truth.tracks
    few = truth.replace(tracks=tracks.replace(state=np.where(tracks.track < 3, tracks.state, State.REJECTED)))
    found = tell_hand(few, series, images, 1, DIAMETER_PX)
    assert "are too few" in found.details["hand"]


@pytest.mark.parametrize(
    ("hand", "sign"),
    [
        (Hand(-0.5, 0.1, -0.7, 20), -1),
        (Hand(0.5, 0.1, 0.7, 20), 1),
        (Hand(-0.5, 0.2, -0.7, 20), 0),
        (Hand(-0.5, 0.1, -0.2, 20), 0),
        (Hand(-0.5, 0.1, 0.7, 20), 0),
        (Hand(-5.0, 0.1, -0.7, 20), 0),
        (Hand(np.nan, np.nan, 0.0, 2), 0),
    ],
    ids=["down", "up", "not significant", "not like a defocus", "contradictory", "absurd", "nothing"],
)
def test_a_hand_is_told_only_where_everything_agrees(hand, sign):
    assert hand.sign == sign
