"""Levelling: by the right turn, only where it is certain, and in a way that lasts when tracks are solved again."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from moving_tracks import moving_beads

from napari_tiltalign.methods.level import find_level, level_specimen
from napari_tiltalign.methods.local_motion import estimate_local_motion
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import Alignment, State, Tracks


@cache
def level_alignment(seed: int = 0) -> Alignment:
    """Solved tracks of a rigid specimen that lies level, beads on two surfaces 120 nm apart."""
    return moving_beads(0.0, seed=seed).alignment


@cache
def slanted(tilt_offset_deg: float, x_tilt_deg: float, seed: int = 0) -> Alignment:
    """The same specimen, but it takes this tilt offset and x tilt to level it."""
    return moving_beads(0.0, seed=seed, pretilt_deg=tilt_offset_deg, x_tilt_deg=x_tilt_deg).alignment


def points_of(alignment: Alignment) -> Tracks:
    assert alignment.tracks is not None
    return alignment.tracks


def with_heights(alignment: Alignment, heights_angst: np.ndarray) -> Alignment:
    points = points_of(alignment).points_zyx_angst.copy()
    points[:, 0] = heights_angst
    return alignment.replace(tracks=points_of(alignment).replace(points_zyx_angst=points))


ANGLES = [(10.0, 0.0), (-10.0, 0.0), (0.0, 7.0), (-6.0, 5.0)]


@pytest.mark.parametrize(("tilt_offset_deg", "x_tilt_deg"), ANGLES)
def test_turn_that_levels_is_found(tilt_offset_deg: float, x_tilt_deg: float) -> None:
    level = find_level(points_of(slanted(tilt_offset_deg, x_tilt_deg)))
    assert level is not None
    assert abs(level.tilt_offset_deg - tilt_offset_deg) < 3 * level.tilt_offset_sd_deg < 0.3
    assert abs(level.x_tilt_deg - x_tilt_deg) < 3 * level.x_tilt_sd_deg < 0.3


@pytest.mark.parametrize(("tilt_offset_deg", "x_tilt_deg"), ANGLES)
def test_levelled_specimen_is_level_and_the_images_see_the_same(tilt_offset_deg: float, x_tilt_deg: float) -> None:
    before = slanted(tilt_offset_deg, x_tilt_deg)
    after = level_specimen(before, apply=True)
    points = points_of(after).points_zyx_angst
    upper = points[:, 0] > 0
    plane = np.column_stack([np.ones(len(points)), points[:, 1:], upper])
    slope_y, slope_x = np.linalg.lstsq(plane, points[:, 0], rcond=None)[0][1:3]
    assert np.abs(np.rad2deg([slope_x, slope_y])).max() < 0.15
    assert abs(points[upper, 0].mean() + points[~upper, 0].mean()) < 20
    for name in ("geometry", "unit_magnification_geometry"):
        moved = getattr(after, name).project(points)
        still = getattr(before, name).project(points_of(before).points_zyx_angst)
        np.testing.assert_allclose(moved, still, atol=1e-6)
    applied = after.details["level"]
    assert applied["applied"]
    truth = moving_beads(0.0, pretilt_deg=tilt_offset_deg, x_tilt_deg=x_tilt_deg).geometry
    assert abs(np.mean(after.geometry.y_tilt_deg - truth.y_tilt_deg)) < 0.15
    assert abs(np.mean(after.geometry.x_tilt_deg) - x_tilt_deg) < 0.15
    assert "applied: tilt offset" in applied["words"]


@pytest.mark.parametrize("seed", range(4))
def test_level_specimen_stays_exactly_as_it_is(seed: int) -> None:
    before = level_alignment(seed)
    after = level_specimen(before, apply=True)
    level = after.details["level"]
    for angle, sd in (("tilt_offset_deg", "tilt_offset_sd_deg"), ("x_tilt_deg", "x_tilt_sd_deg")):
        if abs(level[angle]) <= 3 * level[sd]:
            assert level[f"applied_{angle}"] == 0.0
    if not level["applied"]:
        assert after.geometry is before.geometry
        assert after.tracks is before.tracks
    assert np.abs(after.geometry.y_tilt_deg - before.geometry.y_tilt_deg).max() < 0.2
    assert np.abs(after.geometry.x_tilt_deg).max() < 0.2


def test_what_is_not_asked_for_is_told_and_not_done() -> None:
    before = slanted(10.0, 0.0)
    after = level_specimen(before, apply=False)
    assert after.geometry is before.geometry
    assert after.tracks is before.tracks
    level = after.details["level"]
    assert level["tilt_offset_deg"] == pytest.approx(10.0, abs=0.2)
    assert not level["applied"]
    assert level["words"].endswith("not applied, because not asked for")
    assert "beads on two surfaces 120 nm apart" in level["words"]


def test_only_the_certain_angle_is_applied() -> None:
    after = level_specimen(slanted(8.0, 0.0), apply=True)
    assert after.details["level"]["applied_tilt_offset_deg"] == pytest.approx(8.0, abs=0.2)
    assert after.details["level"]["applied_x_tilt_deg"] == 0.0


@pytest.mark.parametrize("seed", range(10))
def test_beads_throughout_the_ice_never_turn_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alignment = level_alignment()
    before = with_heights(alignment, rng.uniform(-600, 600, points_of(alignment).n_tracks))
    after = level_specimen(before, apply=True)
    assert after.geometry is before.geometry
    assert after.details["level"]["words"].endswith("nothing applied, because nothing is certain")


@pytest.mark.parametrize("n_beads", [0, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_few_beads_never_turn_it(n_beads: int, seed: int) -> None:
    before = slanted(10.0, 0.0, seed)
    tracks = points_of(before)
    few = np.where(tracks.track < n_beads, tracks.state, State.REJECTED)
    before = before.replace(tracks=tracks.replace(state=few))
    after = level_specimen(before, apply=True)
    assert after.geometry is before.geometry
    assert not after.details["level"]["applied"]
    if n_beads < 3:
        assert after.details["level"]["words"] == "not known: fewer than 3 beads"


def test_solving_again_stays_level() -> None:
    levelled = level_specimen(slanted(10.0, 6.0), apply=True)
    again = resolve(levelled, points_of(levelled))
    np.testing.assert_allclose(again.geometry.y_tilt_deg, levelled.geometry.y_tilt_deg, atol=2e-3)
    np.testing.assert_allclose(again.geometry.x_tilt_deg, levelled.geometry.x_tilt_deg, atol=2e-3)
    np.testing.assert_allclose(points_of(again).points_zyx_angst, points_of(levelled).points_zyx_angst, atol=1.0)
    level = find_level(points_of(again))
    assert level is not None
    assert level.certain_deg == (0.0, 0.0)


def test_local_motion_comes_after_levelling() -> None:
    scene = moving_beads(2.0)
    moving = estimate_local_motion(scene.alignment, scene.series)
    assert moving.local_motion is not None
    slant = slanted(10.0, 0.0).replace(local_motion=moving.local_motion)
    with pytest.raises(ValueError, match="level the specimen before"):
        level_specimen(slant, apply=True)
