"""The method `projection-matching` on simulated series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from deforming import blur_px

from fake_cupy import FakeCupy
from napari_tiltalign.errors import BadTiltSeries, Cancelled, MethodFailed
from napari_tiltalign.geometry import RigidMotion, rotation_y
from napari_tiltalign.images.compute import use_device
from napari_tiltalign.methods.fiducial import Fiducial
from napari_tiltalign.methods.projection_matching import PROJECTION_MATCHING, ProjectionMatching
from napari_tiltalign.model import ArrayImage, Tilt, TiltSeries
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import Simulation, simulate

BARE = Simulation(
    image_rows_px=240, image_columns_px=256, pixel_size_angst=20, tilt_step_deg=6, n_beads=0, texture="cytoplasm",
    thickness_nm=120, pretilt_deg=-7, axis_error_deg=4, n_dark_views=1,
)  # fmt: skip
SAME_PX = 0.01
"""How far alignments on a GPU and on the CPU may lie apart: a few per cent of the error of either."""


@pytest.fixture(scope="module")
def sample():
    return simulate(BARE)


@pytest.fixture(scope="module")
def aligned(sample):
    return PROJECTION_MATCHING(sample.series, ProjectionMatching(sample_thickness_nm=60))


def found(alignment, sample):
    return difference(alignment, sample.truth, thickness_angst=sample.options.thickness_angst)


def test_a_series_without_beads_is_aligned(sample, aligned):
    assert found(aligned, sample).rms_px < 0.4
    assert abs(found(aligned, sample).axis_difference_deg) < 0.5
    assert not found(aligned, sample).hand_flipped
    np.testing.assert_array_equal(aligned.included, sample.truth.included)
    assert [reason for reason in aligned.reasons if reason] == ["dark"]
    assert "dark_view" in [flag.name for flag in aligned.flags]


def test_the_gpu_gives_the_same(sample, aligned, gpu):
    with use_device("cuda"):
        again = PROJECTION_MATCHING(sample.series, ProjectionMatching(sample_thickness_nm=60))
    assert difference(again, aligned, thickness_angst=BARE.thickness_angst).rms_px < SAME_PX
    for name in ("sample_thickness_nm", "tilt_angle_offset_deg"):
        assert again.statistics[name] == pytest.approx(aligned.statistics[name], rel=0.01)
    if isinstance(gpu, FakeCupy):  # images go up once for every scale, and only what was measured comes back
        images = 4.0 * len(sample.series) * BARE.image_rows_px * BARE.image_columns_px
        assert 0 < gpu.uploaded_bytes < 20 * images
        assert 0 < gpu.downloaded_bytes < 3 * images


def test_motion_of_the_specimen_in_itself_is_found_where_there_is_some(aligned):
    assert aligned.local_motion is None
    assert "tiles" in aligned.details["local_motion"]
    moving = simulate(BARE.replace(texture="particles", thickness_nm=80, deformation_percent=4, axis_error_deg=0))
    alignment = PROJECTION_MATCHING(moving.series, ProjectionMatching())
    assert alignment.details["local_motion"].startswith("used: tiles move by up to")
    assert blur_px(alignment, moving) < blur_px(alignment.replace(local_motion=None), moving)


def test_thickness_and_offset_are_found_and_their_scores_kept(aligned):
    assert aligned.statistics["sample_thickness_nm"] == pytest.approx(BARE.thickness_nm, rel=0.25)
    assert aligned.statistics["tilt_angle_offset_deg"] == pytest.approx(BARE.pretilt_deg, abs=1.0)
    curves = aligned.details["score_curves"]
    assert set(curves) == {"sample_thickness_nm", "tilt_angle_offset_deg", "tilt_axis_deg"}
    for curve in curves.values():
        assert len(curve["values"]) == len(curve["scores"])
        assert max(curve["scores"]) == 0.0


def test_error_bars_of_tilts_hold_their_errors(sample, aligned):
    """Also that all are too steep or too flat; what they have in common is a turn of the specimen."""
    used = aligned.included
    error = (aligned.geometry.y_tilt_deg - sample.truth.geometry.y_tilt_deg)[used]
    ratio = (error - error.mean()) / aligned.uncertainty.y_tilt_deg[used]
    assert 0.3 < np.sqrt((ratio**2).mean()) < 2.0
    assert np.isnan(aligned.uncertainty.y_tilt_deg[~used]).all()
    expected = aligned.uncertainty.expected_error.overall_angst / aligned.pixel_size_angst
    assert 0.4 < found(aligned, sample).rms_px / expected < 1.8


def test_error_bars_hold_the_errors(sample, aligned):
    """Rotations have no common freedom, so they can be compared as they are."""
    used = aligned.included
    error = (aligned.geometry.z_rot_deg - sample.truth.geometry.z_rot_deg)[used]
    sd = aligned.uncertainty.z_rot_deg[used]
    assert np.isfinite(sd).all()
    assert (sd > 0).all()
    assert np.isnan(aligned.uncertainty.shift_yx_angst[~used]).all()
    assert np.sqrt(np.mean((error / sd) ** 2)) < 4.0


def test_what_decided_the_result_is_said(aligned):
    assert "Half of the evidence comes from" in aligned.details["decided_by"]
    assert aligned.statistics["places_deciding"] > 5.0
    assert "few_places" not in [flag.name for flag in aligned.flags]


def test_tiles_are_tracks_in_the_geometry(aligned):
    tracks = aligned.tracks
    centre = np.array(aligned.image_shape_yx) // 2
    seen = aligned.geometry.project(tracks.points_zyx_angst)[tracks.tilt, tracks.track] / aligned.pixel_size_angst
    np.testing.assert_allclose(tracks.position_yx_px - seen - centre, tracks.residual_yx_px, atol=1e-6)
    assert aligned.statistics["residual_rms_px"] < 0.6
    assert np.isfinite(tracks.sd_px).all()


def test_same_input_same_result(sample, aligned):
    again = PROJECTION_MATCHING(sample.series, ProjectionMatching(sample_thickness_nm=60))
    np.testing.assert_array_equal(again.geometry.shift_yx_angst, aligned.geometry.shift_yx_angst)


def test_gold_is_erased_where_there_is_some(aligned):
    golden = simulate(BARE.replace(n_beads=15, bead_diameter_nm=12, pixel_size_angst=12))
    erased = PROJECTION_MATCHING(golden.series, ProjectionMatching(gold_diameter_nm=12))
    assert erased.statistics["gold_per_view"] > 8
    assert aligned.statistics["gold_per_view"] == 0
    kept = PROJECTION_MATCHING(golden.series, ProjectionMatching(gold="keep"))
    assert kept.statistics["gold_per_view"] == 0
    assert found(erased, golden).rms_px < 0.8 < found(kept, golden).rms_px


def test_without_an_offset_the_tilts_stay_and_the_images_see_the_same(sample, aligned):
    left = PROJECTION_MATCHING(sample.series, ProjectionMatching(sample_thickness_nm=60, tilt_angle_offset="off"))
    off = (left.geometry.y_tilt_deg - sample.series.nominal_tilt_deg)[left.included]
    assert abs(off.mean()) < 0.5
    assert found(left, sample).rms_px == pytest.approx(found(aligned, sample).rms_px, abs=0.01)


def test_an_axis_that_is_not_refined_stays(sample):
    kept = PROJECTION_MATCHING(
        sample.series, ProjectionMatching(refine_tilt_axis=False, sample_thickness_nm=120, sample_thickness="given")
    )
    assert kept.axis_deg == pytest.approx(sample.series.nominal_axis_deg, abs=0.1)
    assert "tilt_axis_deg" not in kept.details["score_curves"]
    assert kept.statistics["sample_thickness_nm"] == 120.0


def test_an_alignment_to_start_from_is_used(sample):
    """The shifts of the start are far from those of the images as delivered, which nothing looks for then."""
    start = sample.truth.replace(tracks=None)
    rng = np.random.default_rng(3)
    shaken = start.geometry.replace(shift_yx_angst=start.geometry.shift_yx_angst + rng.normal(0, 15.0, (len(start), 2)))
    start = start.replace(geometry=shaken)
    options = ProjectionMatching(sample_thickness_nm=120)
    better = PROJECTION_MATCHING(sample.series, options, start=start)
    assert found(better, sample).rms_px < 0.4
    assert found(start, sample).rms_px > 0.6


def test_a_start_that_is_far_from_level_is_levelled(sample):
    """The images see the same; the heights of the tiles alone would need dozens of rounds to say so."""
    level = sample.truth.replace(tracks=None)
    leaning = level.replace(geometry=level.geometry.compose(RigidMotion(rotation_y(8.0), np.zeros(3))))
    options = ProjectionMatching(sample_thickness_nm=120, sample_thickness="given")
    better = PROJECTION_MATCHING(sample.series, options, start=leaning)
    assert better.statistics["tilt_angle_offset_deg"] == pytest.approx(BARE.pretilt_deg, abs=1.0)
    assert np.mean(better.geometry.y_tilt_deg - sample.series.nominal_tilt_deg) == pytest.approx(-7.0, abs=1.0)
    curve = better.details["score_curves"]["tilt_angle_offset_deg"]
    assert 0 < int(np.argmax(curve["scores"])) < len(curve["scores"]) - 1


def test_without_magnification_it_is_nearly_as_good(sample, aligned):
    unit = aligned.unit_magnification_geometry
    np.testing.assert_allclose(unit.magnification, 1.0)
    assert not np.allclose(aligned.geometry.magnification, 1.0, atol=1e-6)
    assert found(aligned.replace(geometry=unit), sample).rms_px < found(aligned, sample).rms_px + 0.15


def test_views_that_show_nothing_common_are_refused():
    rng = np.random.default_rng(0)
    tilts = tuple(
        Tilt(f"v{k}", ArrayImage(rng.normal(100, 5, (128, 128)).astype(np.float32)), tilt, 0.0)
        for k, tilt in enumerate(np.arange(-50.0, 51.0, 10.0).tolist())
    )
    with pytest.raises(MethodFailed, match=r"TS: only \d+ of 11 views look like each other"):
        PROJECTION_MATCHING(TiltSeries("TS", tilts, 20.0, (128, 128)), ProjectionMatching())


def test_too_few_images_are_refused(sample):
    few = sample.series.with_exclusions({tilt.tilt_id: "by hand" for tilt in sample.series.tilts[4:]})
    with pytest.raises(BadTiltSeries, match="4 images are included"):
        PROJECTION_MATCHING(few, ProjectionMatching())
    with pytest.raises(TypeError, match="ProjectionMatching options"):
        PROJECTION_MATCHING(sample.series, Fiducial())


def test_it_can_be_stopped_while_it_matches(sample):
    def stop(fraction, message):
        if fraction > 0.55:
            raise Cancelled

    with pytest.raises(Cancelled):
        PROJECTION_MATCHING(sample.series, ProjectionMatching(), progress=stop)


def test_memory_follows_the_working_scale_and_not_the_pixels(sample):
    small = PROJECTION_MATCHING.memory_bytes(sample.series, ProjectionMatching())
    large = PROJECTION_MATCHING.memory_bytes(sample.series.replace(image_shape_yx=(4096, 4096)), ProjectionMatching())
    assert 1e7 < small < 1e9
    assert small < large < 3e9
