"""Local motion by the slab likelihood, in a simulated specimen without beads whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest
from deforming import blur_px

from napari_tiltalign.methods.local_motion import estimate_local_motion
from napari_tiltalign.methods.slab import SLAB, Slab
from napari_tiltalign.model import Alignment
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
