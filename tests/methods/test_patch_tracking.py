"""Alignment by patches from images to geometry, against simulated truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from deforming import blur_px

from fake_cupy import FakeCupy
from napari_tiltalign.errors import BadTiltSeries, Cancelled, MethodFailed
from napari_tiltalign.images.compute import use_device
from napari_tiltalign.methods.fiducial import Fiducial
from napari_tiltalign.methods.patch_tracking import PATCH_TRACKING, PatchTracking
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import REJECTION_REASONS, Alignment, ArrayImage, State
from napari_tiltalign.quality.difference import Difference, difference
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

SMALL = Simulation(
    image_rows_px=256, image_columns_px=288, pixel_size_angst=16, tilt_step_deg=6, n_beads=0, texture="particles",
    thickness_nm=65,
)  # fmt: skip
BOUND_PX = 0.4
SAME_PX = 0.01
"""How far alignments on a GPU and on the CPU may lie apart: a few per cent of the error of either."""


def error_of(alignment: Alignment, simulated: SimulatedSeries) -> Difference:
    return difference(alignment, simulated.truth, thickness_angst=simulated.options.thickness_angst)


def flag_names(alignment: Alignment) -> set[str]:
    return {flag.name for flag in alignment.flags}


def with_image(series, index, pixels):
    tilts = list(series.tilts)
    tilts[index] = dataclasses.replace(tilts[index], image=ArrayImage(pixels.astype(np.float32)))
    return series.replace(tilts=tuple(tilts))


@pytest.fixture(scope="module")
def without_gold() -> SimulatedSeries:
    return simulate(SMALL)


@pytest.fixture(scope="module")
def found(without_gold: SimulatedSeries) -> Alignment:
    return PATCH_TRACKING(without_gold.series, PatchTracking())


def test_motion_of_the_specimen_in_itself_is_found_where_there_is_some(found):
    moving = simulate(SMALL.replace(deformation_percent=4))
    alignment = PATCH_TRACKING(moving.series, PatchTracking())
    assert alignment.details["local_motion"].startswith("used: patches move by up to")
    assert blur_px(alignment, moving) < 0.9 * blur_px(alignment.replace(local_motion=None), moving)
    assert found.local_motion is None
    assert "patches" in found.details["local_motion"]


def test_the_truth_is_found(found, without_gold):
    error = error_of(found, without_gold)
    assert error.rms_px < BOUND_PX
    assert error.worst_view_rms_px < 3 * BOUND_PX
    assert abs(error.axis_difference_deg) < 0.3
    assert found.included.all()
    assert flag_names(found) <= {"suspect_tracks"}
    assert found.provenance.method == "patch-tracking"
    assert found.provenance.options["patch_size_nm"] == 100.0
    assert 40.0 < found.statistics["thickness_nm"] < 100.0


def test_the_gpu_gives_the_same(found, without_gold, gpu):
    with use_device("cuda"):
        again = PATCH_TRACKING(without_gold.series, PatchTracking())
    motion = difference(again, found, thickness_angst=SMALL.thickness_angst)
    assert motion.rms_px < SAME_PX
    assert again.statistics["thickness_nm"] == pytest.approx(found.statistics["thickness_nm"], rel=0.01)
    np.testing.assert_allclose(again.uncertainty.z_rot_deg, found.uncertainty.z_rot_deg, rtol=0.05)
    if isinstance(gpu, FakeCupy):  # images go up once for every scale, and only what was measured comes back
        images = 4.0 * len(without_gold.series) * SMALL.image_rows_px * SMALL.image_columns_px
        assert 0 < gpu.uploaded_bytes < 10 * images
        assert 0 < gpu.downloaded_bytes < 3 * images


def test_error_bars_are_of_the_size_of_the_errors(found, without_gold):
    true = without_gold.truth.geometry
    sd = found.uncertainty
    apart = (found.geometry.z_rot_deg - true.z_rot_deg) / sd.z_rot_deg
    assert np.sqrt(np.mean(apart**2)) < 3.0  # nearly one number: all views share the error of the axis
    tilt = found.geometry.y_tilt_deg - true.y_tilt_deg
    assert 0.4 < np.sqrt(np.mean(((tilt - tilt.mean()) / sd.y_tilt_deg) ** 2)) < 2.0
    assert abs(np.mean(found.geometry.z_rot_deg - true.z_rot_deg)) < 3.0 * sd.axis_deg
    expected_px = sd.expected_error.overall_angst / found.pixel_size_angst
    assert 0.4 < error_of(found, without_gold).rms_px / expected_px < 2.5


def test_tracks_are_carried_with_states_and_reasons(found):
    tracks = found.tracks
    assert tracks is not None
    assert tracks.n_tracks > 20
    used = tracks.used
    assert np.isfinite(tracks.residual_yx_px[used]).all()
    assert (tracks.sd_px[used] > 0).all()
    assert set(tracks.state.tolist()) <= {State.MEASURED, State.REJECTED}
    assert set(tracks.reason[~used].tolist()) <= {
        REJECTION_REASONS.index(name) for name in ("outside", "vague", "moved", "outlier")
    }
    inside = (tracks.position_yx_px > 0).all(axis=1) & (tracks.position_yx_px < found.image_shape_yx).all(axis=1)
    assert inside[used].all()


def test_what_decided_the_result_is_said(found):
    assert "patches. " in found.details["decided_by"]
    assert found.statistics["places_deciding"] > 5.0


def test_curated_tracks_can_be_solved_again(found, without_gold):
    tracks = found.tracks
    state, reason = tracks.state.copy(), tracks.reason.copy()
    gone = (tracks.track == 3) | (tracks.track == 11)
    state[gone], reason[gone] = State.REJECTED, REJECTION_REASONS.index("deleted")
    again = resolve(found, tracks.replace(state=state, reason=reason))
    assert error_of(again, without_gold).rms_px < BOUND_PX
    same = resolve(found, tracks)
    np.testing.assert_allclose(same.geometry.shift_yx_angst, found.geometry.shift_yx_angst, atol=0.5)


def test_the_same_bytes_every_time(found, without_gold):
    again = PATCH_TRACKING(without_gold.series, PatchTracking())
    for field in dataclasses.fields(found.geometry):
        np.testing.assert_array_equal(getattr(again.geometry, field.name), getattr(found.geometry, field.name))
    np.testing.assert_array_equal(again.tracks.position_yx_px, found.tracks.position_yx_px)


def test_bad_excluded_and_foreign_views(without_gold):
    series = without_gold.series
    order = series.tilt_order()
    dark, excluded, foreign = (int(order[k]) for k in (4, 9, 16))
    rng = np.random.default_rng(0)
    level = float(np.median(series.tilts[foreign].image.read()))
    series = with_image(series, dark, rng.poisson(0.1 * level, series.image_shape_yx))
    series = with_image(series, foreign, rng.poisson(level, series.image_shape_yx))
    series = series.with_exclusions({series.tilt_ids[excluded]: "by hand"})
    found = PATCH_TRACKING(series, PatchTracking())
    reasons = {k: reason for k, reason in enumerate(found.reasons) if reason}
    assert reasons == {dark: "dark", excluded: "by hand", foreign: "not_aligned"}
    assert {"dark_view", "view_not_aligned"} <= flag_names(found)
    assert error_of(found, without_gold).rms_px < 1.5 * BOUND_PX
    assert np.isfinite(found.geometry.shift_yx_angst).all()


def test_a_start_is_used(found, without_gold):
    series = without_gold.series
    excluded = found.tilt_ids[5]
    included = np.array([i != excluded for i in found.tilt_ids])
    reasons = tuple("by hand" if i == excluded else "" for i in found.tilt_ids)
    turned = found.geometry.replace(y_tilt_deg=found.geometry.y_tilt_deg + 4.0)
    start = found.replace(geometry=turned, included=included, reasons=reasons, tracks=None)
    again = PATCH_TRACKING(series, PatchTracking(), start=start)
    assert error_of(again, without_gold).rms_px < BOUND_PX
    assert not again.included[5]
    assert np.median(again.geometry.y_tilt_deg - found.geometry.y_tilt_deg) == pytest.approx(4.0, abs=0.3)


def test_a_wrong_axis_and_jumps(without_gold):
    hard = simulate(SMALL.replace(axis_error_deg=6, n_jumps=2, jump_percent=30, seed=202))
    found = PATCH_TRACKING(hard.series, PatchTracking())
    error = error_of(found, hard)
    assert error.rms_px < 1.5 * BOUND_PX
    assert abs(error.axis_difference_deg) < 0.3
    assert "axis_far_from_nominal" in flag_names(found)


def test_nothing_to_follow_is_a_reasoned_failure(without_gold):
    series, rng = without_gold.series, np.random.default_rng(1)
    for k in range(len(series)):
        series = with_image(series, k, rng.poisson(30, series.image_shape_yx))
    with pytest.raises(MethodFailed, match=r"SIM_01: only \d+ of 21 views look like each other"):
        PATCH_TRACKING(series, PatchTracking())


@pytest.mark.parametrize(("size_nm", "match"), [(5, "too few to follow"), (1000, "more than half of the field")])
def test_patches_of_impossible_size(without_gold, size_nm, match):
    with pytest.raises(BadTiltSeries, match=match):
        PATCH_TRACKING(without_gold.series, PatchTracking(patch_size_nm=size_nm))


def test_too_few_images_and_wrong_options(without_gold):
    series = without_gold.series
    few = series.with_exclusions(dict.fromkeys(series.tilt_ids[2:], "by hand"))
    with pytest.raises(BadTiltSeries, match="2 images are included"):
        PATCH_TRACKING(few, PatchTracking())
    with pytest.raises(TypeError, match="PatchTracking"):
        PATCH_TRACKING(series, Fiducial())


def test_it_can_be_stopped(without_gold):
    def stop(fraction: float, message: str) -> None:
        if fraction > 0.5:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        PATCH_TRACKING(without_gold.series, PatchTracking(), progress=stop)


def test_memory_grows_with_images_and_overlap(without_gold):
    series = without_gold.series
    plain = PATCH_TRACKING.memory_bytes(series, PatchTracking())
    few = series.with_exclusions(dict.fromkeys(series.tilt_ids[10:], "by hand"))
    assert PATCH_TRACKING.memory_bytes(few, PatchTracking()) < plain
    assert PATCH_TRACKING.memory_bytes(series, PatchTracking(patch_overlap_percent=75)) > plain


def test_patches_outside_of_an_area_are_not_used(without_gold):
    """Here one side of the field moves by itself."""
    series = without_gold.series
    for index in range(len(series)):
        pixels = series.tilts[index].image.read().copy()
        pixels[:, :130] = np.roll(pixels[:, :130], 3 * index - 60, axis=0)
        series = with_image(series, index, pixels)
    start = without_gold.truth.replace(tracks=None)
    inside = PATCH_TRACKING(series, PatchTracking(area="50,5,98,95"), start=start)
    assert error_of(inside, without_gold).rms_px < 2 * BOUND_PX
    lowest = int(np.argmin(np.abs(series.nominal_tilt_deg)))
    seen = inside.geometry.take([lowest]).project(inside.tracks.points_zyx_angst)[0] / inside.pixel_size_angst
    percent = 100.0 * (seen / np.array(series.image_shape_yx) + 0.5)
    assert percent[:, 1].min() > 48.0
    assert inside.tracks.n_tracks > 3
    everywhere = PATCH_TRACKING(series, PatchTracking(), start=start)
    assert everywhere.tracks.n_tracks > 1.5 * inside.tracks.n_tracks


def test_too_small_an_area_says_so(without_gold):
    with pytest.raises(MethodFailed, match="or a larger area"):
        PATCH_TRACKING(without_gold.series, PatchTracking(area="50,50,51,51"))
