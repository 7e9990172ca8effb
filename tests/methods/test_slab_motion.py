"""Local motion by the slab likelihood, in a simulated specimen without beads whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.local_motion import estimate_local_motion
from napari_tiltalign.methods.slab import SLAB, Slab
from napari_tiltalign.model import Alignment
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

MOVING = Simulation(
    image_rows_px=240, image_columns_px=256, pixel_size_angst=20, tilt_step_deg=6, n_beads=0, texture="particles",
    thickness_nm=80, deformation_percent=2.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def moving() -> SimulatedSeries:
    return simulate(MOVING)


@pytest.fixture(scope="module")
def aligned(moving: SimulatedSeries) -> Alignment:
    return SLAB(moving.series, Slab())


def seen_px(alignment: Alignment, points_zyx_angst: FloatArray) -> FloatArray:
    """Where an alignment sees points, shape (n, p, 2), pixels."""
    seen = alignment.geometry.project(points_zyx_angst)
    if (motion := alignment.local_motion) is not None:
        seen += np.stack([motion.displacement_yx_angst(points_zyx_angst, i) for i in range(len(alignment))])
    return seen / alignment.pixel_size_angst


def blur_px(alignment: Alignment, sample: SimulatedSeries) -> float:
    """How far an alignment misses points that move, each of which may be anywhere at first, rms in pixels."""
    options, deformation = sample.options, sample.deformation
    assert deformation is not None
    rng = np.random.default_rng(3)
    height, size = options.thickness_angst, np.array(options.field_yx_angst)
    points = np.column_stack([rng.uniform(-height / 2, height / 2, 60), rng.uniform(-0.4, 0.4, (60, 2)) * size])
    truth = np.stack([
        sample.truth.geometry.take([i]).project(points + deformation.displacement_zyx_angst(points, dose))[0]
        for i, dose in enumerate(tilt.pre_exposure_e_per_A2 for tilt in sample.series.tilts)
    ]) / options.pixel_size_angst  # fmt: skip
    rows = (alignment.geometry.rotations()[:, :2] * alignment.geometry.magnification[:, None, None])[:, ::-1, ::-1]
    pull = np.linalg.pinv(rows.reshape(-1, 3))
    points = difference(alignment, sample.truth, thickness_angst=height).motion.apply(points)
    for _ in range(6):
        missed = (truth - seen_px(alignment, points)).transpose(1, 0, 2).reshape(len(points), -1)
        points = points + missed @ pull.T * alignment.pixel_size_angst
    return float(np.sqrt((np.linalg.norm(truth - seen_px(alignment, points), axis=2) ** 2).mean()))


def test_motion_is_found_and_right(moving, aligned):
    assert aligned.local_motion is not None
    assert "local_motion" in [flag.name for flag in aligned.flags]
    assert aligned.details["local_motion"].startswith("used: tiles move by up to")
    assert blur_px(aligned, moving) < 0.6 * blur_px(aligned.replace(local_motion=None), moving)


def test_nothing_has_moved_in_the_first_image(moving, aligned):
    motion = aligned.local_motion
    first = aligned.tilt_ids.index(motion.reference_tilt_id)
    doses = [tilt.pre_exposure_e_per_A2 for tilt in moving.series.tilts]
    assert first == int(np.argmin(doses))
    np.testing.assert_allclose(motion.displacement_yx_angst(motion.support_zyx_angst, first), 0.0, atol=1e-6)


def test_the_geometry_is_the_same_without_it(moving, aligned):
    rigid = SLAB(moving.series, Slab(local_motion="off"))
    assert rigid.local_motion is None
    assert "local_motion" not in rigid.details
    np.testing.assert_array_equal(rigid.geometry.shift_yx_angst, aligned.geometry.shift_yx_angst)


def test_other_tilts_of_the_same_slab_move_alike(moving, aligned):
    """The result is turned level; without that, images see the same."""
    turned = SLAB(moving.series, Slab(tilt_angle_offset="off"))
    assert blur_px(turned, moving) == pytest.approx(blur_px(aligned, moving), abs=0.05)


def test_edited_tiles_are_not_asked_what_they_cannot_tell(moving, aligned):
    again = estimate_local_motion(aligned, moving.series)
    assert again.local_motion is None
    assert "only the method itself" in again.details["local_motion"]
