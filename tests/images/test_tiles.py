"""Tiles cut one view at a time, and many at once as on a GPU."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.images.arrays import to_device, to_host
from napari_tiltalign.images.compute import use_device
from napari_tiltalign.images.correlate import highest_points, parabola_offsets, spread_of
from napari_tiltalign.images.flat import Grid
from napari_tiltalign.images.tiles import hann_window, sample_tiles, sample_tiles_together


def test_many_views_at_once_give_the_same_tiles(gpu):
    rng = np.random.default_rng(0)
    grid = Grid.of((140, 180), 10.0, 20.0)
    images = rng.normal(size=(3, *grid.shape_yx)).astype(np.float32)
    masks = np.ones((3, 140, 180), bool)
    masks[1, :, :40] = False
    centres = rng.uniform(-700.0, 700.0, (3, 9, 2))  # some reach beyond the images
    matrices = np.eye(2) + rng.normal(0.0, 0.1, (3, 2, 2))
    window = hann_window(24)
    with use_device("cuda"):
        there = sample_tiles_together(
            to_device(images), to_device(masks), grid, centres, matrices, 18.0, window
        )  # fmt: skip
    tiles, coverage = (to_host(of) for of in there)
    assert tiles.dtype == np.float32
    assert 0.0 < coverage.min() < 0.5
    for view in range(3):
        one, covered = sample_tiles(images[view], masks[view], grid, centres[view], matrices[view], 18.0, window)
        np.testing.assert_allclose(tiles[view], one, atol=2e-5)
        np.testing.assert_allclose(coverage[view], covered, atol=1e-5)


def test_highest_points_and_spreads_of_many_surfaces(gpu):
    surfaces = np.random.default_rng(1).normal(size=(2, 3, 20, 30)).astype(np.float32)
    surfaces[0, 0, 0, 7] = 9.0  # at an edge
    surfaces[1, 2, 19, 29] = 9.0
    with use_device("cuda"):
        there = to_device(surfaces)
    place, height = highest_points(there)
    middle, sd = spread_of(there)
    for index in np.ndindex(2, 3):
        one = surfaces[index]
        top = np.unravel_index(np.argmax(one), one.shape)
        inside = np.clip(top, 1, (18, 28))
        assert height[index] == one.max()
        np.testing.assert_allclose(place[index], inside + parabola_offsets(one, inside[:1], inside[1:])[0], rtol=1e-6)
        np.testing.assert_allclose(middle[index], np.median(one), rtol=1e-5)
        np.testing.assert_allclose(sd[index], 1.4826 * np.median(np.abs(one - np.median(one))), rtol=1e-5)
        alone = highest_points(one)
        np.testing.assert_array_equal(alone[0], place[index])
        assert alone[0].shape == (2,)
