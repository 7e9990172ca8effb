"""What may differ between two alignments without being an error, and what may not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_tiltalign.errors import BadInput
from napari_tiltalign.geometry import RigidMotion, ViewGeometry
from napari_tiltalign.model import Alignment
from napari_tiltalign.quality.difference import difference

PIXEL_SIZE_ANGST = 10.0
THICKNESS_ANGST = 1500.0
N = 41


def make_alignment(seed: int = 0, axis_deg: float = 85.0, shape_yx: tuple[int, int] = (512, 512)) -> Alignment:
    rng = np.random.default_rng(seed)
    geometry = ViewGeometry(
        x_tilt_deg=np.full(N, 1.5),
        y_tilt_deg=np.linspace(-60, 60, N) + rng.normal(0, 0.2, N),
        z_rot_deg=axis_deg + rng.normal(0, 0.2, N),
        shift_yx_angst=rng.normal(0, 150, (N, 2)),
        magnification=1 + rng.normal(0, 5e-4, N),
    )
    ids = tuple(f"TS_{i:03d}" for i in range(N))
    return Alignment("TS", ids, geometry, PIXEL_SIZE_ANGST, shape_yx, np.ones(N, bool))


def changed(alignment: Alignment, **offsets: object) -> Alignment:
    """The alignment with something added to columns of its geometry."""
    geometry = alignment.geometry
    return alignment.replace(
        geometry=geometry.replace(**{name: getattr(geometry, name) + offset for name, offset in offsets.items()})
    )


TRUTH = make_alignment()


def compare(alignment: Alignment, truth: Alignment = TRUTH):
    return difference(alignment, truth, thickness_angst=THICKNESS_ANGST)


vectors = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array)


@settings(deadline=None, max_examples=25)
@given(axis=vectors, angle_deg=st.floats(0, 170), displacement=vectors, log_scale=st.floats(-0.3, 0.3))
def test_any_motion_of_the_specimen_is_free(axis, angle_deg, displacement, log_scale):
    turn = Rotation.from_rotvec(np.deg2rad(angle_deg) * axis / max(np.linalg.norm(axis), 1e-3))
    motion = RigidMotion(turn.as_matrix(), 3000 * displacement, np.exp(log_scale))
    moved = TRUTH.replace(geometry=TRUTH.geometry.compose(motion))

    found = compare(moved)

    assert found.rms_px < 1e-6
    assert found.per_view_rms_px.max() < 1e-6
    assert abs(found.axis_difference_deg) < 1e-6
    assert not found.hand_flipped
    # the motion reported is the one that undoes the move
    np.testing.assert_allclose(found.motion.rotation, motion.inverse().rotation, atol=1e-6)
    np.testing.assert_allclose(found.motion.translation_zyx_angst, motion.inverse().translation_zyx_angst, atol=1e-3)
    assert found.scale == pytest.approx(np.exp(-log_scale), rel=1e-6)


@pytest.mark.parametrize(
    "offsets",
    [{"x_tilt_deg": 7.0}, {"y_tilt_deg": -11.0}, {"x_tilt_deg": -25.0, "y_tilt_deg": 40.0}],
    ids=["x_tilt", "y_tilt", "both"],
)
def test_a_common_tilt_is_a_turn_of_the_specimen(offsets):
    level = TRUTH.replace(geometry=TRUTH.geometry.replace(x_tilt_deg=np.zeros(N)))
    assert compare(changed(level, **offsets), level).rms_px < 1e-6


def test_a_common_magnification_is_free_when_the_shifts_follow():
    geometry = TRUTH.geometry
    larger = TRUTH.replace(geometry=geometry.replace(magnification=geometry.magnification * 1.05))
    found = compare(larger)
    assert found.rms_px < 1e-6
    assert found.scale == pytest.approx(1 / 1.05)


@pytest.mark.parametrize("axis_error_deg", [0.5, -2.0, 20.0])
def test_a_turn_of_all_images_is_an_error_not_a_motion(axis_error_deg):
    found = compare(changed(TRUTH, z_rot_deg=axis_error_deg))
    # about 1.1 px a degree over this slab; a part of it, but never most, can be hidden by turning the specimen
    assert 0.8 * abs(axis_error_deg) < found.rms_px < 1.5 * abs(axis_error_deg)
    assert found.axis_difference_deg == pytest.approx(axis_error_deg, abs=1e-6)


def test_the_axis_difference_does_not_depend_on_how_the_specimen_is_turned():
    turn = RigidMotion(Rotation.from_euler("xyz", [8, -12, 20], degrees=True).as_matrix(), np.zeros(3))
    wrong = changed(TRUTH, z_rot_deg=1.5)
    found = compare(wrong.replace(geometry=wrong.geometry.compose(turn)))
    assert found.axis_difference_deg == pytest.approx(1.5, abs=1e-6)


def test_the_axis_is_unknown_without_tilt():
    flat = TRUTH.replace(geometry=TRUTH.geometry.replace(y_tilt_deg=np.zeros(N)))
    assert np.isnan(compare(flat, flat).axis_difference_deg)


@pytest.mark.parametrize("sd_px", [0.05, 0.5, 3.0])
def test_noise_of_the_shifts_is_measured(sd_px):
    per_axis_px = sd_px / np.sqrt(2)  # so that sd_px is the length of the error
    measured = [
        compare(changed(TRUTH, shift_yx_angst=np.random.default_rng(seed).normal(0, per_axis_px, (N, 2)) * 10)).rms_px
        for seed in range(4)
    ]
    # 6 of 82 numbers are free, so a little less than sd_px is left
    assert np.sqrt(np.mean(np.square(measured))) == pytest.approx(sd_px * np.sqrt(76 / 82), rel=0.12)


def test_one_bad_view_is_named():
    shifts = np.zeros((N, 2))
    shifts[30] = [0.0, 80.0]
    found = compare(changed(TRUTH, shift_yx_angst=shifts))
    assert found.worst_tilt_id == "TS_030"
    assert found.worst_view_rms_px == pytest.approx(8.0, rel=0.1)
    assert np.median(found.per_view_rms_px) < 0.6
    assert found.rms_nm == pytest.approx(found.rms_px)  # a pixel of 10 Angstrom is a nanometre


def test_the_other_hand_is_reported_and_not_taken_out():
    found = compare(TRUTH.replace(geometry=TRUTH.geometry.mirrored()))
    assert found.hand_flipped
    assert found.mirrored_rms_px < 1e-6
    assert found.rms_px > 30
    assert not compare(TRUTH).hand_flipped
    assert compare(TRUTH).mirrored_rms_px > 30


def test_only_images_included_in_both_count_and_order_does_not_matter():
    shifts = np.zeros((N, 2))
    shifts[[3, 7]] = 500.0
    included = np.ones(N, bool)
    included[3] = False
    wrong = changed(TRUTH, shift_yx_angst=shifts).replace(included=included)
    truth_included = np.ones(N, bool)
    truth_included[7] = False

    backwards = wrong.take(wrong.tilt_ids[::-1])
    found = compare(backwards, TRUTH.replace(included=truth_included))

    assert found.rms_px < 1e-6
    assert found.n_views == N - 2
    assert not {"TS_003", "TS_007"} & set(found.tilt_ids)
    assert found.tilt_ids == tuple(i for i in TRUTH.tilt_ids if i not in {"TS_003", "TS_007"})


def test_an_alignment_of_some_images_is_compared_over_those():
    some = TRUTH.take(TRUTH.tilt_ids[5:20])
    assert compare(some).n_views == 15
    assert compare(some).rms_px < 1e-6


def test_pixels_are_those_of_the_truth():
    binned = changed(TRUTH, shift_yx_angst=np.random.default_rng(1).normal(0, 10, (N, 2)))
    found = compare(binned.replace(pixel_size_angst=20.0, image_shape_yx=(256, 256)))
    assert found.rms_px == pytest.approx(compare(binned).rms_px)
    assert compare(TRUTH, TRUTH.replace(pixel_size_angst=5.0, image_shape_yx=(1024, 1024))).rms_px < 1e-6


def test_points_out_of_view_do_not_count():
    # a magnification error shows most at the edge, and a narrow image has its edge nearer
    magnification = np.where(np.arange(N) % 2, 1e-3, -1e-3)
    wide = compare(changed(TRUTH, magnification=magnification))
    narrow = TRUTH.replace(image_shape_yx=(512, 128))
    assert compare(changed(narrow, magnification=magnification), narrow).rms_px < 0.9 * wide.rms_px


def test_what_cannot_be_compared_says_so():
    other = TRUTH.replace(tilt_ids=tuple(f"other_{i}" for i in range(N)))
    with pytest.raises(BadInput, match="no included image in common"):
        compare(other)
    with pytest.raises(BadInput, match="thickness"):
        difference(TRUTH, TRUTH, thickness_angst=0.0)
    away = changed(TRUTH, shift_yx_angst=1e6)
    with pytest.raises(BadInput, match="no image sees the specimen"):
        compare(TRUTH, away)


def test_an_image_that_looks_elsewhere_does_not_spoil_the_others():
    shifts = np.zeros((N, 2))
    shifts[4] = 1e5
    truth = changed(TRUTH, shift_yx_angst=shifts)
    found = compare(changed(truth, z_rot_deg=0.5), truth)
    assert np.isnan(found.per_view_rms_px[4])
    assert np.isfinite(found.rms_px)
    assert found.worst_view_rms_px < 2
