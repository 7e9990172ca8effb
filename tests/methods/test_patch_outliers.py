"""Observations of patches that are no measurement are left out, with a reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from napari_tiltalign import read
from napari_tiltalign.methods.patch_outliers import without_contradictions, without_vague
from napari_tiltalign.methods.patch_tracking import PATCH_TRACKING, PatchTracking
from napari_tiltalign.model import REJECTION_REASONS, ArrayImage, Tracks
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import Simulation, simulate

WAVE_PX = 6.0


def tracks_of(n_tracks: int, n_views: int) -> Tracks:
    track, tilt = (index.ravel() for index in np.meshgrid(np.arange(n_tracks), np.arange(n_views), indexing="ij"))
    tracks = Tracks.from_observations(
        tuple(f"{k}" for k in range(n_views)), np.zeros((n_tracks, 3)), track, tilt, np.zeros((len(track), 2))
    )
    return tracks.replace(residual_yx_px=np.full((len(track), 2), 0.1))


def reasons(tracks: Tracks) -> list[str]:
    return [REJECTION_REASONS[reason] for reason in tracks.reason]


def test_what_says_too_little_is_vague():
    tracks = tracks_of(1, 4)
    found = without_vague(tracks, np.array([0.5, 2.9, 3.1, 1e6]), WAVE_PX)
    assert reasons(found) == ["", "", "vague", "vague"]
    assert found.used.tolist() == [True, True, False, False]


def test_what_lies_beyond_half_a_wave_has_moved():
    tracks = tracks_of(2, 5)
    residual = tracks.residual_yx_px.copy()
    residual[7] = [0.0, -90.0]
    found = without_contradictions(tracks.replace(residual_yx_px=residual), WAVE_PX)
    assert np.flatnonzero(~found.used).tolist() == [7]
    assert reasons(found)[7] == "moved"


def test_a_patch_that_mostly_contradicts_is_left_out_whole():
    tracks = tracks_of(2, 5)
    residual = tracks.residual_yx_px.copy()
    residual[[5, 6, 7]] = [4.0, 4.0]
    found = without_contradictions(tracks.replace(residual_yx_px=residual), WAVE_PX)
    assert reasons(found) == [""] * 5 + ["moved"] * 3 + ["outlier"] * 2


def test_what_was_rejected_before_keeps_its_reason():
    tracks = tracks_of(1, 3)
    rejected = without_vague(tracks, np.array([9.0, 0.1, 0.1]), WAVE_PX)
    residual = np.full((3, 2), [50.0, 0.0])
    found = without_contradictions(rejected.replace(residual_yx_px=residual), WAVE_PX)
    assert reasons(found) == ["vague", "moved", "moved"]


def with_thing_far_above(simulated, height_angst: float, radius_px: float, contrast: float):
    """The series with a textured thing that floats high above a place of the specimen."""
    series, geometry = simulated.series, simulated.truth.geometry
    rng = np.random.default_rng(7)
    texture = ndimage.gaussian_filter(rng.normal(size=(96, 96)), 1.5)
    texture /= texture.std()
    place = np.array([[height_angst, 400.0, -500.0]])
    seen = geometry.project(place)[:, 0] / series.pixel_size_angst + np.array(series.image_shape_yx) // 2
    tilts = []
    for tilt, (y, x) in zip(series.tilts, seen, strict=True):
        image = tilt.image.read().astype(np.float64)
        rows, columns = np.indices(image.shape)
        inside = np.hypot(rows - y, columns - x) < radius_px
        drawn = ndimage.map_coordinates(texture, [rows - y + 48, columns - x + 48], order=1, mode="constant")
        image += np.where(inside, contrast * image.std() * drawn, 0.0)
        tilts.append(dataclasses.replace(tilt, image=ArrayImage(image.astype(np.float32))))
    return series.replace(tilts=tuple(tilts))


def test_a_thing_far_above_does_not_rule_the_residuals():
    simulated = simulate(
        Simulation(
            image_rows_px=256, image_columns_px=288, pixel_size_angst=16, tilt_step_deg=6, n_beads=0,
            texture="particles", thickness_nm=65,
        )
    )  # fmt: skip
    series = with_thing_far_above(simulated, 2500.0, 24.0, 1.0)
    found = PATCH_TRACKING(series, PatchTracking())
    tracks = found.tracks
    left_out = {REJECTION_REASONS[reason] for reason in tracks.reason[~tracks.used]}
    assert left_out & {"moved", "outlier"}
    assert np.linalg.norm(tracks.residual_yx_px[tracks.used], axis=1).max() < 2.0
    assert difference(found, simulated.truth, thickness_angst=650.0).rms_px < 0.5


@pytest.fixture(scope="module")
def real(shared_data):
    (series,) = read(shared_data / "empiar-10499_TS_01" / "tilt_series.star")
    return PATCH_TRACKING(series, PatchTracking())


def test_on_the_real_series_nothing_used_is_far_off(real, record_property):
    tracks = real.tracks
    for name, value in real.statistics.items():
        record_property(name, round(value, 4))
    assert real.statistics["residual_rms_px"] < 1.0
    residual = np.linalg.norm(tracks.residual_yx_px, axis=1)
    assert residual[tracks.used].max() < 5.0
    assert (residual[~tracks.used] > 50.0).any(), "patches at the edge of the carbon show two things"
    assert tracks.used.mean() > 0.8
