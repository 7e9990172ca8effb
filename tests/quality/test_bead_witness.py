"""Beads as witnesses: in a crowd, where some are not found, the residual is still that of the alignment."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.quality.bead_witness import BeadDetections, bead_witness

PIXEL_ANGST = 10.0
SHAPE = (512, 512)
TILTS_DEG = np.arange(-60.0, 61.0, 6.0)
NOISE_PX = 0.15
REACH_PX = 0.025 * 512


def crowd(n_beads, share_found, seed=0):
    """Beads of a slab as every view shows them, in pixels; some are not found, and some found are none."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-600.0, -2500.0, -2500.0], [600.0, 2500.0, 2500.0], (n_beads, 3))
    geometry = ViewGeometry.nominal(TILTS_DEG, 5.0)
    positions = []
    for seen in geometry.project(points) / PIXEL_ANGST:
        inside = np.all(np.abs(seen) < 256, axis=1) & (rng.random(n_beads) < share_found)
        wrong = rng.uniform(-256, 256, (round((1 - share_found) * n_beads), 2))
        noisy = seen[inside] + rng.normal(0.0, NOISE_PX, (inside.sum(), 2))
        positions.append(np.concatenate([noisy, wrong]) + 256)
    return BeadDetections(positions, 9.0), geometry


def residual(detections, geometry):
    return bead_witness(
        detections, geometry, np.ones(len(geometry), bool), pixel_size_angst=PIXEL_ANGST, image_shape_yx=SHAPE
    )


@pytest.mark.parametrize(("n_beads", "share_found"), [(6, 1.0), (20, 0.9), (100, 0.85)])
def test_the_residual_of_the_truth_is_the_noise(n_beads, share_found):
    told = residual(*crowd(n_beads, share_found))
    assert told.n_beads > 0.7 * n_beads
    # distance, so of two coordinates; next to one in six beads of a crowd another one is taken for it now and then
    assert told.residual_px == pytest.approx(np.sqrt(2) * NOISE_PX, rel=0.25 if n_beads < 50 else 0.6)


@pytest.mark.parametrize(("n_beads", "share_found"), [(6, 1.0), (100, 0.85)])
@pytest.mark.parametrize("rms_px", [1.0, 2.0, 4.0])
def test_wrong_shifts_are_told_in_a_crowd_too(n_beads, share_found, rms_px):
    detections, geometry = crowd(n_beads, share_found)
    error = np.random.default_rng(1).normal(0.0, np.sqrt(0.5), (len(geometry), 2))
    error *= rms_px * PIXEL_ANGST / np.sqrt((error**2).sum(axis=1).mean())
    wrong = geometry.replace(shift_yx_angst=geometry.shift_yx_angst + error)
    assert residual(detections, wrong).residual_px == pytest.approx(rms_px, rel=0.25)
    assert residual(detections, wrong).residual_px < REACH_PX


def test_a_hidden_bead_is_not_replaced_by_its_neighbour():
    """Two beads next to each other, of which half of the views show one only."""
    geometry = ViewGeometry.nominal(TILTS_DEG, 5.0)
    rng = np.random.default_rng(3)
    places = [[0, y, x] for y in (-1500.0, 0.0, 1500.0) for x in (-1500.0, 0.0, 1500.0)]
    points = np.array([*places, [0.0, 40.0, 30.0]])  # the last one is 5 px from the middle one
    seen = geometry.project(points) / PIXEL_ANGST + rng.normal(0.0, NOISE_PX, (len(geometry), len(points), 2))
    shown = [one if i % 2 else one[:-1] for i, one in enumerate(seen + 256)]
    told = residual(BeadDetections(shown, 3.0), geometry)
    assert told.n_beads >= len(places)
    assert told.residual_px < 2.0 * NOISE_PX * np.sqrt(2)
