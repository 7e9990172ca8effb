"""Correlation peaks: where they are to a fraction of a pixel, how high, and which of them count."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_tiltalign.images.correlate import Peaks, find_peaks, matched_filter, parabola_offsets, shift_between

SHAPE_YX = (90, 120)


def blob(center_yx, sigma=3.0, shape_yx=SHAPE_YX):
    rows, columns = np.indices(shape_yx)
    return np.exp(-((rows - center_yx[0]) ** 2 + (columns - center_yx[1]) ** 2) / (2 * sigma**2)).astype(np.float32)


def blob_template(half=9, sigma=3.0):
    template = blob((half, half), sigma, (2 * half + 1,) * 2)
    template -= template.mean()
    return template / np.linalg.norm(template), np.ones_like(template)


def peaks_of(image, **changes):
    settings = {
        "lowest_response": 0.5, "lowest_similarity": 0.5, "separation_px": 6.0, "edge_px": 5, "most": 100,
    } | changes  # fmt: skip
    return find_peaks(*matched_filter(image, *blob_template()), **settings)


def test_matched_filter_is_the_sum_of_products():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(40, 50)).astype(np.float32)
    template, support = blob_template(4)
    response, similarity = matched_filter(image, template, support)
    for y, x in [(10, 10), (20, 33), (35, 45)]:
        patch = image[y - 4 : y + 5, x - 4 : x + 5]
        assert response[y, x] == pytest.approx((patch * template).sum(), abs=1e-5)
        assert similarity[y, x] == pytest.approx(np.corrcoef(patch.ravel(), template.ravel())[0, 1], abs=1e-5)


def test_similarity_is_one_where_the_template_is():
    template, support = blob_template()
    image = np.zeros(SHAPE_YX, np.float32)
    image[30:49, 40:59] = 7 * template
    response, similarity = matched_filter(image, template, support)
    assert np.unravel_index(np.argmax(response), SHAPE_YX) == (39, 49)
    assert similarity[39, 49] == pytest.approx(1.0, abs=1e-4)
    assert response[39, 49] == pytest.approx(7.0, rel=1e-4)


@pytest.mark.parametrize("offset_yx", [(0.0, 0.0), (0.25, -0.4), (-0.5, 0.5), (0.1, 0.33)], ids=str)
def test_peaks_are_subpixel(offset_yx):
    true = np.array([40.0, 70.0]) + offset_yx
    peaks = peaks_of(blob(true))
    assert len(peaks) == 1
    np.testing.assert_allclose(peaks.position_yx[0], true, atol=0.03)


def test_peaks_come_highest_first_and_no_more_than_asked():
    centres = [(20, 20), (20, 60), (60, 30), (60, 90)]
    image = sum(height * blob(c) for height, c in zip((1.0, 3.0, 2.0, 4.0), centres, strict=True))
    peaks = peaks_of(image)
    np.testing.assert_allclose(peaks.position_yx.round(), [(60, 90), (20, 60), (60, 30), (20, 20)])
    assert (np.diff(peaks.height) < 0).all()
    np.testing.assert_array_equal(peaks_of(image, most=2).position_yx, peaks.position_yx[:2])


def test_of_two_close_peaks_the_higher_counts():
    image = blob((40, 40)) + 0.8 * blob((40, 50))
    assert len(peaks_of(image, separation_px=6.0)) == 2
    alone = peaks_of(image, separation_px=14.0)
    np.testing.assert_allclose(alone.position_yx, [[40, 40]], atol=0.3)


def test_nothing_is_taken_in_the_edge():
    image = blob((3, 60)) + blob((45, 60))
    assert len(peaks_of(image, edge_px=5, lowest_similarity=-1)) == 1
    assert len(peaks_of(image, edge_px=1, lowest_similarity=-1)) == 2


def test_what_does_not_exceed_the_limits_is_no_peak():
    assert len(peaks_of(blob((40, 40)), lowest_response=1e3)) == 0
    assert len(peaks_of(blob((40, 40)), lowest_similarity=1.1)) == 0
    flat = peaks_of(np.zeros(SHAPE_YX, np.float32))
    assert len(flat) == 0
    assert flat.position_yx.shape == (0, 2)


def test_taking_some_peaks():
    peaks = Peaks(np.arange(6.0).reshape(3, 2), np.arange(3.0), np.arange(3.0) / 3)
    assert peaks.take(np.array([True, False, True])).height.tolist() == [0.0, 2.0]


def test_parabola_is_exact_for_a_parabola_and_bounded_elsewhere():
    rows, columns = np.indices((9, 9))
    surface = -((rows - 4.3) ** 2) - 2 * (columns - 3.8) ** 2
    np.testing.assert_allclose(parabola_offsets(surface, np.array([4]), np.array([4])), [[0.3, -0.2]], atol=1e-6)
    np.testing.assert_array_equal(parabola_offsets(np.zeros((3, 3)), np.array([1]), np.array([1])), [[0.0, 0.0]])
    slope = columns.astype(float)
    assert np.abs(parabola_offsets(slope, np.array([4]), np.array([4]))).max() <= 0.7


@pytest.mark.parametrize("shift_yx", [(0, 0), (5, -9), (-30, 41), (3.5, 2.25)], ids=str)
@pytest.mark.parametrize("shape_yx", [(128, 128), (101, 150)], ids=str)
def test_shift_between_images(shape_yx, shift_yx):
    rng = np.random.default_rng(1)
    texture = ndimage.gaussian_filter(rng.normal(size=(300, 320)), 2.5)
    reference = texture[80 : 80 + shape_yx[0], 80 : 80 + shape_yx[1]]
    moved = ndimage.shift(texture, shift_yx)[80 : 80 + shape_yx[0], 80 : 80 + shape_yx[1]]
    window = np.sqrt(np.outer(*(np.hanning(size + 2)[1:-1] for size in shape_yx)))
    tapered = [((image - image.mean()) * window).astype(np.float32) for image in (reference, moved)]
    shift, significance = shift_between(*tapered)
    np.testing.assert_allclose(shift, shift_yx, atol=0.4)
    assert significance > 15


def test_shift_between_empty_images_is_zero():
    shift, significance = shift_between(np.zeros((32, 32), np.float32), np.zeros((32, 32), np.float32))
    assert np.isfinite(shift).all()
    assert significance == 0.0
