"""Points of tracks for a geometry that is given."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods.locate import located_tracks, residual_statistics
from napari_tiltalign.model import State, Tracks

SHAPE, PIXEL = (101, 150), 2.0


def scene(noise_px: float = 0.0) -> tuple[Tracks, ViewGeometry, np.ndarray]:
    random = np.random.default_rng(3)
    tilts = np.linspace(-60, 60, 11)
    axes, shifts, sizes = random.normal(85, 1, 11), random.normal(0, 20, (11, 2)), random.normal(1, 0.01, 11)
    geometry = ViewGeometry(random.normal(0, 2, 11), tilts, axes, shifts, sizes)
    points = random.uniform(-1, 1, (6, 3)) * [80, 90, 140]
    seen = geometry.project(points) / PIXEL + [50, 75]
    track, tilt = (index.ravel() for index in np.meshgrid(np.arange(6), np.arange(11), indexing="ij"))
    position = seen[tilt, track] + random.normal(0, noise_px, (66, 2)) if noise_px else seen[tilt, track]
    ids = tuple(str(k) for k in range(11))
    return Tracks.from_observations(ids, np.full((6, 3), np.nan), track, tilt, position), geometry, points


def test_points_and_residuals() -> None:
    tracks, geometry, points = scene()
    found = located_tracks(tracks, geometry, PIXEL, SHAPE)
    assert found.points_zyx_angst == pytest.approx(points, abs=1e-6)
    assert found.residual_yx_px == pytest.approx(np.zeros((66, 2)), abs=1e-7)


def test_residuals_are_measured_minus_predicted() -> None:
    tracks, geometry, _ = scene(noise_px=0.3)
    found = located_tracks(tracks, geometry, PIXEL, SHAPE)
    seen = geometry.project(found.points_zyx_angst) / PIXEL + [50, 75]
    assert found.residual_yx_px == pytest.approx(tracks.position_yx_px - seen[tracks.tilt, tracks.track], abs=1e-9)
    # 132 coordinates, 18 of the points: what is left of the noise
    assert residual_statistics(found)["residual_rms_px"] == pytest.approx(0.3 * np.sqrt(2 * 114 / 132), rel=0.1)


def test_rejected_observations_do_not_count() -> None:
    tracks, geometry, points = scene()
    position, state = tracks.position_yx_px.copy(), tracks.state.copy()
    position[5] += 40
    state[5] = State.REJECTED
    found = located_tracks(tracks.replace(position_yx_px=position, state=state), geometry, PIXEL, SHAPE)
    assert found.points_zyx_angst == pytest.approx(points, abs=1e-6)
    assert found.residual_yx_px[5] == pytest.approx([40, 40], abs=1e-6)


def test_a_track_seen_once_has_no_depth() -> None:
    tracks, geometry, _ = scene()
    found = located_tracks(tracks.take_observations((tracks.track != 2) | (tracks.tilt == 4)), geometry, PIXEL, SHAPE)
    assert np.isnan(found.points_zyx_angst[2]).all()
    assert np.isfinite(np.delete(found.points_zyx_angst, 2, axis=0)).all()
    assert np.isfinite(residual_statistics(found)["residual_rms_px"])
    assert residual_statistics(found.take_observations(found.track == 2)) == {}
