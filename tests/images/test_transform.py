"""Aligned views: a bead lands where the geometry says, whatever the binning and the size."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.images.prepare import bin_image
from napari_tiltalign.images.transform import aligned_to_raw, aligned_view, map_positions

PIXEL_ANGST = 4.0
RAW_SHAPE = (120, 97)
GEOMETRY = ViewGeometry.nominal([25.0], 63.0).replace(shift_yx_angst=[[34.0, -21.0]], magnification=[1.04])
POINT_ZYX = np.array([[60.0, -30.0, 44.0]])


def blob(shape_yx: tuple[int, int], position_yx: np.ndarray, sigma: float) -> np.ndarray:
    rows, columns = np.indices(shape_yx)
    squared = (rows - position_yx[0]) ** 2 + (columns - position_yx[1]) ** 2
    return np.exp(-squared / (2 * sigma**2)).astype(np.float32)


def centroid(image: np.ndarray) -> np.ndarray:
    weight = np.nan_to_num(image).astype(float)
    return np.array([(weight * index).sum() / weight.sum() for index in np.indices(image.shape)])


@pytest.mark.parametrize("aligned_shape", [None, (120, 97), (151, 140)], ids=str)
@pytest.mark.parametrize("binning", [1, 2, 3])
def test_a_bead_lands_at_its_tilted_specimen_position(binning, aligned_shape):
    raw_px = GEOMETRY.project(POINT_ZYX)[0, 0] / PIXEL_ANGST + np.array(RAW_SHAPE) // 2
    image = bin_image(blob(RAW_SHAPE, raw_px, 5.0), binning)
    matrix = aligned_to_raw(GEOMETRY, 0, PIXEL_ANGST, RAW_SHAPE, aligned_shape, binning)
    shape = aligned_shape or RAW_SHAPE
    view = aligned_view(image, matrix, (shape[0] // binning, shape[1] // binning))

    upright = GEOMETRY.replace(z_rot_deg=[0.0], shift_yx_angst=[[0.0, 0.0]], magnification=[1.0])
    expected_full = upright.project(POINT_ZYX)[0, 0] / PIXEL_ANGST + np.array(shape) // 2
    expected = (expected_full + 0.5) / binning - 0.5
    np.testing.assert_allclose(centroid(view), expected, atol=0.03)


def test_positions_map_there_and_back():
    matrix = aligned_to_raw(GEOMETRY, 0, PIXEL_ANGST, RAW_SHAPE)
    positions = np.random.default_rng(0).uniform(0, 90, (4, 5, 2))
    there = map_positions(matrix, positions)
    np.testing.assert_allclose(map_positions(np.linalg.inv(matrix), there), positions, atol=1e-9)


def test_what_the_raw_image_does_not_show_is_nan():
    view = aligned_view(np.ones(RAW_SHAPE, np.float32), aligned_to_raw(GEOMETRY, 0, PIXEL_ANGST, RAW_SHAPE))
    assert np.isnan(view[0, 0])
    assert view[60, 48] == 1.0
    assert view.dtype == np.float32


def test_nothing_to_align_changes_nothing():
    image = np.random.default_rng(1).normal(size=RAW_SHAPE).astype(np.float32)
    image.flags.writeable = False
    matrix = aligned_to_raw(ViewGeometry.nominal([10.0], 0.0), 0, PIXEL_ANGST, RAW_SHAPE)
    np.testing.assert_allclose(aligned_view(image, matrix)[1:-1, 1:-1], image[1:-1, 1:-1], atol=1e-5)
