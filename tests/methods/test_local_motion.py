"""Local motion: found where a specimen moves, refused where it does not, and right about points without a bead."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from moving_tracks import NOISE_PX, PIXEL_SIZE_ANGST, SHAPE_YX, Scene, moving_beads

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.io.relion import read_relion
from napari_tiltalign.methods.fiducial import FIDUCIAL, Fiducial
from napari_tiltalign.methods.local_motion import estimate_local_motion, without_local_motion
from napari_tiltalign.methods.motion_problem import motion_problem
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import Alignment, State

RMS_RIGID, RMS_LOCAL = "leave_one_bead_out_rms_px_rigid", "leave_one_bead_out_rms_px_local"
AMPLITUDE_PX = 2.0
SEEDS = (0, 1, 2)


@cache
def scene(amplitude_px: float, seed: int) -> Scene:
    return moving_beads(amplitude_px, seed=seed)


@cache
def found(amplitude_px: float, seed: int = 0) -> Alignment:
    item = scene(amplitude_px, seed)
    return estimate_local_motion(item.alignment, item.series)


def seen_px(alignment: Alignment, points_zyx_angst: FloatArray) -> FloatArray:
    """Where an alignment sees points, with its local motion if it has one, shape (n, p, 2), pixels."""
    seen = alignment.geometry.project(points_zyx_angst)
    motion = alignment.local_motion
    if motion is not None:
        seen += np.stack([motion.displacement_yx_angst(points_zyx_angst, i) for i in range(len(alignment))])
    return seen / alignment.pixel_size_angst


def blur_px(item: Scene, alignment: Alignment) -> float:
    """How far an alignment misses points without a bead, each of which may be anywhere at first, rms in pixels."""
    size = np.array(SHAPE_YX) * PIXEL_SIZE_ANGST
    rng = np.random.default_rng(9)
    points = np.column_stack([rng.uniform(-600, 600, 80), rng.uniform(-0.4, 0.4, (80, 2)) * size])
    truth = item.seen_px(points)
    rows = (alignment.geometry.rotations()[:, :2] * alignment.geometry.magnification[:, None, None])[:, ::-1, ::-1]
    pull = np.linalg.pinv(rows.reshape(-1, 3))
    for _ in range(5):
        missed = (truth - seen_px(alignment, points)).transpose(1, 0, 2).reshape(len(points), -1)
        points = points + missed @ pull.T * PIXEL_SIZE_ANGST
    return float(np.sqrt((np.linalg.norm(truth - seen_px(alignment, points), axis=2) ** 2).mean()))


@pytest.mark.parametrize("seed", SEEDS)
def test_motion_predicts_beads_that_were_left_out(seed: int) -> None:
    alignment = found(AMPLITUDE_PX, seed)
    assert alignment.local_motion is not None
    assert alignment.statistics[RMS_LOCAL] < 0.6 * alignment.statistics[RMS_RIGID]
    assert alignment.local_motion.left_out_rms_px == alignment.statistics[RMS_LOCAL]
    (flag,) = (flag for flag in alignment.flags if flag.name == "local_motion")
    assert (
        f"{alignment.statistics[RMS_LOCAL]:.2f} px instead of {alignment.statistics[RMS_RIGID]:.2f} px" in flag.detail
    )
    assert alignment.details["local_motion"] == f"used: {flag.detail}"


@pytest.mark.parametrize("seed", SEEDS)
def test_motion_is_right_where_there_is_no_bead(seed: int) -> None:
    item = scene(AMPLITUDE_PX, seed)
    assert blur_px(item, found(AMPLITUDE_PX, seed)) < 0.5 * blur_px(item, item.alignment)


@pytest.mark.parametrize("seed", SEEDS)
def test_rigid_specimen_is_left_alone(seed: int) -> None:
    alignment = found(0.0, seed)
    assert alignment.local_motion is None
    assert not alignment.flags
    assert alignment.details["local_motion"].startswith("none found")
    assert RMS_LOCAL not in alignment.statistics
    assert alignment.statistics[RMS_RIGID] < 2 * NOISE_PX


def test_motion_fits_the_beads_and_is_zero_in_the_first_image() -> None:
    item, alignment = scene(AMPLITUDE_PX, 0), found(AMPLITUDE_PX)
    motion, tracks = alignment.local_motion, alignment.tracks
    assert motion is not None
    assert tracks is not None
    assert motion.reference_tilt_id == "image_00"
    anywhere = np.random.default_rng(0).normal(0, 1500, (50, 3))
    np.testing.assert_allclose(motion.displacement_yx_angst(anywhere, 0), 0.0, atol=1e-6)
    seen = seen_px(alignment, motion.support_zyx_angst)[tracks.tilt, tracks.track] + np.array(SHAPE_YX) // 2
    missed = np.linalg.norm(tracks.position_yx_px - seen, axis=1)
    assert np.sqrt((missed**2).mean()) < 1.5 * NOISE_PX * np.sqrt(2)
    rigid = np.linalg.norm(item.alignment.tracks.residual_yx_px, axis=1)  # type: ignore[union-attr]
    assert np.sqrt((missed**2).mean()) < 0.5 * np.sqrt((rigid**2).mean())


def test_the_geometry_stays_as_it_is() -> None:
    before, after = scene(AMPLITUDE_PX, 0).alignment, found(AMPLITUDE_PX)
    assert after.geometry is before.geometry
    assert after.unit_magnification_geometry is before.unit_magnification_geometry
    assert after.tracks is before.tracks
    plain = without_local_motion(after)
    assert plain.local_motion is None
    assert (dict(plain.statistics), dict(plain.details), plain.flags) == (
        dict(before.statistics), dict(before.details), before.flags
    )  # fmt: skip


def test_solving_again_drops_what_rests_on_other_tracks() -> None:
    alignment = found(AMPLITUDE_PX)
    assert alignment.tracks is not None
    again = resolve(alignment, alignment.tracks)
    assert again.local_motion is None
    assert "local_motion" not in again.details
    assert RMS_LOCAL not in again.statistics
    assert not again.flags


def test_same_input_gives_the_same_bytes() -> None:
    item, first = scene(AMPLITUDE_PX, 0), found(AMPLITUDE_PX).local_motion
    second = estimate_local_motion(item.alignment, item.series).local_motion
    assert first is not None
    assert second is not None
    assert first.coefficients_yx_angst.tobytes() == second.coefficients_yx_angst.tobytes()
    assert first.common_yx.tobytes() == second.common_yx.tobytes()


def test_image_that_took_no_part_is_neither_reference_nor_trusted() -> None:
    item = scene(AMPLITUDE_PX, 0)
    before = item.alignment
    assert before.tracks is not None
    included = np.ones(len(before), bool)
    included[[0, 7]] = False
    excluded = before.replace(included=included, reasons=("dark", *before.reasons[1:7], "dark", *before.reasons[8:]))
    far = before.tracks.position_yx_px + 300.0 * np.isin(before.tracks.tilt, (0, 7))[:, None]
    alignment = estimate_local_motion(excluded.replace(tracks=before.tracks.replace(position_yx_px=far)), item.series)
    motion = alignment.local_motion
    assert motion is not None
    assert motion.reference_tilt_id == "image_01"
    assert alignment.statistics[RMS_LOCAL] < 0.6 * alignment.statistics[RMS_RIGID]
    moved = [np.abs(motion.displacement_yx_angst(motion.support_zyx_angst, i)).max() for i in range(len(alignment))]
    assert max(moved) < 10 * AMPLITUDE_PX * PIXEL_SIZE_ANGST


def test_without_doses_time_runs_along_the_tilts() -> None:
    item = scene(AMPLITUDE_PX, 0)
    tilts = tuple(dataclasses.replace(tilt, pre_exposure_e_per_A2=np.nan) for tilt in item.series.tilts)
    known, unknown = (motion_problem(item.alignment, s) for s in (item.series, item.series.replace(tilts=tilts)))
    assert known is not None
    assert unknown is not None
    np.testing.assert_array_equal(known[0].time_steps, np.arange(21))
    assert known[0].reference == 0
    tilt_deg = item.alignment.geometry.y_tilt_deg
    np.testing.assert_array_equal(np.argsort(unknown[0].time_steps), np.argsort(tilt_deg))
    assert unknown[0].reference == np.argmin(np.abs(tilt_deg))


@pytest.mark.parametrize("n_beads", [0, 5])
def test_too_few_beads_are_said(n_beads: int) -> None:
    item = scene(AMPLITUDE_PX, 0)
    tracks = item.alignment.tracks
    assert tracks is not None
    state = np.where(tracks.track < n_beads, tracks.state, State.REJECTED)
    alignment = estimate_local_motion(item.alignment.replace(tracks=tracks.replace(state=state)), item.series)
    assert alignment.local_motion is None
    assert alignment.details["local_motion"] == f"not looked for: {n_beads} beads can be used, at least 6 are needed"
    nothing = estimate_local_motion(item.alignment.replace(tracks=None), item.series)
    assert nothing.details["local_motion"].startswith("not looked for")


def test_images_that_share_no_bead_with_the_others_do_no_harm() -> None:
    item = scene(AMPLITUDE_PX, 0)
    tracks = item.alignment.tracks
    assert tracks is not None
    apart = (tracks.tilt % 2) == (tracks.track % 2)
    split = item.alignment.replace(tracks=tracks.take_observations(apart))
    alignment = estimate_local_motion(split, item.series)
    motion = alignment.local_motion
    moved = 0.0 if motion is None else np.abs(seen_px(alignment, motion.support_zyx_angst)).max()
    assert moved < 2 * max(SHAPE_YX)
    assert np.isfinite(alignment.statistics[RMS_RIGID])


def test_perfect_tracks_need_no_motion() -> None:
    item = scene(0.0, 0)
    tracks = item.alignment.tracks
    assert tracks is not None
    perfect = tracks.replace(
        position_yx_px=tracks.position_yx_px - tracks.residual_yx_px,
        residual_yx_px=np.zeros((tracks.n_observations, 2)),
    )
    alignment = estimate_local_motion(item.alignment.replace(tracks=perfect), item.series)
    assert alignment.local_motion is None


@pytest.mark.slow
def test_real_specimen_moves_and_is_not_level(shared_data: Path) -> None:
    """Cells in thick ice with gold on both surfaces; the feasibility study lowered the error by 29 %."""
    (series,) = read_relion(shared_data / "empiar-10499_TS_01" / "tilt_series.star")
    alignment = FIDUCIAL(series, Fiducial(level="estimate"))
    assert alignment.local_motion is not None
    assert alignment.statistics[RMS_LOCAL] < 0.78 * alignment.statistics[RMS_RIGID]
    level = alignment.details["level"]
    assert level["surfaces"] == 2
    assert 150 < level["thickness_nm"] < 200
    assert level["applied_x_tilt_deg"] == pytest.approx(level["x_tilt_deg"])
    np.testing.assert_allclose(alignment.geometry.x_tilt_deg, level["x_tilt_deg"], atol=0.2)
