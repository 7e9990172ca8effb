"""What methods compute on a GPU is what they compute on the CPU."""

from __future__ import annotations

import numpy as np
from test_pair_graph import AXIS_DEG, PIXEL_ANGST, THICKNESS_ANGST, geometry_with_shifts, seen, series_of, slab_points

from napari_tiltalign.images.arrays import module_of, to_host
from napari_tiltalign.images.compute import use_device
from napari_tiltalign.methods.flat_series import flat_series, level_of
from napari_tiltalign.methods.pair_graph import coarse_level, find_shifts, score_orientations

SHAPE = (200, 240)


def flat_of_some():
    images = seen(geometry_with_shifts(3), slab_points(4), SHAPE, 5)
    images[2][:] = 0.0  # takes no part
    return flat_series(series_of(images), PIXEL_ANGST)


def test_tiles_of_a_level_and_its_coefficients(gpu):
    flat = flat_of_some()
    here = level_of(flat, 35.0)
    with use_device("cuda"):
        there = level_of(flat, 35.0)
    assert module_of(there.coefficients) is not np
    assert there.views == here.views
    assert 2 not in there.views
    np.testing.assert_allclose(to_host(there.coefficients), here.coefficients, atol=1e-4)
    n = len(flat)
    centres = np.random.default_rng(0).uniform(-1800.0, 1800.0, (n, 4, 2))
    matrices, window = np.broadcast_to(np.eye(2), (n, 2, 2)), np.ones((20, 20), np.float32)
    cut = [level.tiles(centres, matrices, 33.0, window) for level in (here, there)]
    np.testing.assert_allclose(to_host(cut[1][0]), cut[0][0], atol=1e-4)
    np.testing.assert_allclose(cut[1][1], cut[0][1], atol=1e-6)
    assert not to_host(cut[1][0])[2].any()


def test_first_shifts_and_orientations(gpu):
    flat = flat_of_some()
    start = geometry_with_shifts(3).replace(shift_yx_angst=np.zeros((len(flat), 2)))
    told = []
    for device in ("cpu", "cuda"):
        with use_device(device):
            level = coarse_level(flat)
            found = find_shifts(level, start, THICKNESS_ANGST)
            turns = np.array([-3.0, 0.0, 3.0])
            scores = score_orientations(
                level, found.geometry, THICKNESS_ANGST, tilt_offsets_deg=0.0 * turns, turns_deg=turns
            )
        told.append((found, scores))
    (here, scores_here), (there, scores_there) = told
    np.testing.assert_array_equal(there.tied, here.tied)
    assert here.tied.sum() > 15
    apart = (there.geometry.shift_yx_angst - here.geometry.shift_yx_angst)[here.tied]
    assert np.abs(apart).max() < 0.02 * PIXEL_ANGST
    np.testing.assert_allclose(there.significance, here.significance, rtol=0.02)
    np.testing.assert_allclose(scores_there, scores_here, rtol=1e-3)
    assert here.geometry.z_rot_deg[0] == AXIS_DEG
