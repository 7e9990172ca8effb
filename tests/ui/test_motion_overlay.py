"""Local motion over the images: vectors where it is known, none where it is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_tiltalign.model import LocalMotion, State
from napari_tiltalign.ui.bead_table import predicted_yx_px
from napari_tiltalign.ui.frame import Frame
from napari_tiltalign.ui.motion_overlay import motion_overlay, motion_rms_px
from napari_tiltalign.ui.overlays import roles_of
from napari_tiltalign.ui.work import Candidate

SHIFT_PX = (2.0, -1.0)
"""What image 5 sees of the motion, everywhere."""


@pytest.fixture
def moving(truth):
    """The exact alignment with a motion that one image sees as a shift."""
    common = np.zeros((len(truth), 2, 4))
    common[5, :, 0] = np.array(SHIFT_PX) * truth.pixel_size_angst
    motion = LocalMotion(
        reference_tilt_id=truth.tilt_ids[0],
        support_zyx_angst=truth.tracks.points_zyx_angst,
        coefficients_yx_angst=np.zeros((len(truth), truth.tracks.n_tracks, 2)),
        common_yx=common,
        length_angst=500.0,
        time_steps=5.0,
        amplitude_angst=10.0,
        left_out_rms_px=0.1,
        rigid_left_out_rms_px=0.5,
    )
    return truth.replace(local_motion=motion)


def test_vectors_show_what_moves(series, moving):
    frame = Frame.raw(series)
    data, attributes, kind = motion_overlay(series, moving, frame)
    assert kind == "vectors"
    here = data[:, 0, 0] == frame.rank[5]
    assert here.sum() > 10
    np.testing.assert_allclose(data[here, 1, 1:], np.broadcast_to(SHIFT_PX, (here.sum(), 2)), atol=1e-9)
    np.testing.assert_allclose(data[~here, 1], 0.0, atol=1e-9)
    np.testing.assert_allclose(attributes["features"]["motion_px"][here], np.hypot(*SHIFT_PX))
    inside = (data[:, 0, 1:] >= 0) & (data[:, 0, 1:] <= np.array(series.image_shape_yx) - 1)
    assert inside.all()


def test_its_size_is_told_for_every_view(moving, truth):
    expected = np.zeros(len(moving))
    expected[5] = np.hypot(*SHIFT_PX)
    np.testing.assert_allclose(motion_rms_px(moving), expected, atol=1e-9)
    assert np.isnan(motion_rms_px(truth)).all()


def test_beads_are_predicted_where_they_have_moved_to(moving):
    """Points of tracks are where beads are in the mean of all images, motion is told from the reference image on."""
    rng = np.random.default_rng(2)
    common = np.zeros((len(moving), 2, 4))
    common[1:] = rng.normal(0.0, [30.0, 1e-3, 1e-3, 1e-3], (len(moving) - 1, 2, 4))
    motion = dataclasses.replace(moving.local_motion, common_yx=common)
    tracks = moving.tracks
    at_first = tracks.points_zyx_angst
    moved = np.stack([motion.displacement_yx_angst(at_first, image) for image in range(len(moving))])
    seen = (moving.geometry.project(at_first) + moved) / moving.pixel_size_angst + np.array(moving.image_shape_yx) // 2
    seen_px = seen[tracks.tilt, tracks.track]
    lost = (tracks.track == 2) & np.isin(tracks.tilt, (3, 9))
    wrong = np.where(lost[:, None], 5.0, seen_px)
    in_the_mean = at_first + rng.normal(0.0, 20.0, at_first.shape)
    found = moving.replace(
        local_motion=motion,
        tracks=tracks.replace(
            position_yx_px=wrong,
            points_zyx_angst=in_the_mean,
            state=np.where(lost, State.REJECTED, tracks.state).astype(tracks.state.dtype),
        ),
    )
    np.testing.assert_allclose(predicted_yx_px(found)[tracks.tilt, tracks.track], seen_px, atol=0.03)


def test_the_layer_is_there_while_the_motion_is_or_is_looked_for(series, moving, truth):
    assert "local motion" in roles_of(Candidate(moving))
    assert "local motion" in roles_of(Candidate(truth, motion_due=True))
    assert "local motion" not in roles_of(Candidate(truth))
    assert "beads" not in roles_of(Candidate(truth.replace(tracks=None)))
    assert "tilt axis" in roles_of(Candidate(truth.replace(tracks=None)))
    data, _, _ = motion_overlay(series, truth, Frame.raw(series))
    assert len(data) == 0


@pytest.mark.parametrize(("motion_px", "length"), [(0.01, 100.0), (0.11, 50.0), (0.8, 5.0), (50.0, 1.0)])
def test_vectors_are_so_long_that_they_are_seen_and_do_not_reach_each_other(series, moving, motion_px, length):
    common = np.zeros_like(moving.local_motion.common_yx)
    common[:, 0, 0] = motion_px * moving.pixel_size_angst
    moved = moving.replace(local_motion=dataclasses.replace(moving.local_motion, common_yx=common))
    data, attributes, _ = motion_overlay(series, moved, Frame.raw(series))
    assert attributes["length"] == length
    places = data[data[:, 0, 0] == 6, 0, 1:]
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert motion_px * length <= max(1.0, np.min(apart[apart > 0]) / 0.9) or length == 1.0
