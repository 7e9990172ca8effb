"""Images made fit for measuring: hot pixels go, beads stay, positions are known after binning, backgrounds are flat."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_tiltalign.images.prepare import bin_image, contrast_image, noise_sd, remove_hot_pixels

SHAPE_YX = (150, 190)
BEAD_PX = 10.0


def with_beads(positions_yx, *, depth=0.4, level=300.0, noise=10.0, seed=0, shape_yx=SHAPE_YX):
    """Noisy image with dark balls of `BEAD_PX`, (y, x) as pixel index."""
    rows, columns = np.indices(shape_yx)
    part = np.ones(shape_yx)
    for y, x in positions_yx:
        radius = np.hypot(rows - y, columns - x)
        part -= depth * ndimage.gaussian_filter(np.sqrt(np.clip(1 - (2 * radius / BEAD_PX) ** 2, 0, None)), 0.8)
    image = level * part + np.random.default_rng(seed).normal(0, noise, shape_yx)
    return image.astype(np.float32)


BEADS = [(40.3, 50.7), (100.0, 20.5), (75.5, 150.2)]


def test_binning_averages_blocks_and_drops_the_rest():
    image = np.arange(7 * 9, dtype=np.float32).reshape(7, 9)
    binned = bin_image(image, 3)
    assert binned.shape == (2, 3)
    assert binned.dtype == np.float32
    assert binned[1, 2] == image[3:6, 6:9].mean()


def test_binning_by_one_changes_nothing():
    image = np.ones((3, 4), np.float32)
    assert bin_image(image, 1) is image


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_index_after_binning(factor):
    """Index q in the binned image is (q + 0.5) f - 0.5 in the image: that of the centre of mass of a block."""
    rows, columns = np.indices((60, 90), dtype=np.float32)
    centres = np.stack([bin_image(index, factor) for index in (rows, columns)])
    q = np.indices(centres.shape[1:])
    np.testing.assert_allclose(centres, (q + 0.5) * factor - 0.5, atol=1e-4)


def test_noise_is_measured_without_the_features():
    image = with_beads(BEADS, noise=10.0) + np.linspace(0, 100, SHAPE_YX[1], dtype=np.float32)
    assert noise_sd(image) == pytest.approx(10.0, rel=0.05)


def test_row_46_hot_pixels_go_and_beads_stay():
    clean = with_beads(BEADS)
    rng = np.random.default_rng(1)
    hot = tuple(rng.integers(0, size, 25) for size in SHAPE_YX)
    image = clean.copy()
    image[hot] += rng.choice([-1, 1], 25) * rng.uniform(150, 4000, 25).astype(np.float32)
    cleaned, count = remove_hot_pixels(image)
    assert count >= len(set(zip(*hot, strict=True)))
    assert np.abs(cleaned - clean)[hot].max() < 80  # as the neighbours, within noise and the slope of a bead
    touched = cleaned != image
    untouched = np.ones(SHAPE_YX, bool)
    untouched[hot] = False
    assert (touched & untouched).sum() < 5e-4 * touched.size
    np.testing.assert_array_equal(image[hot] == clean[hot], False)


def test_row_46_a_clean_image_is_left_as_it_is():
    """Gold, even small and dark, is no hot pixel."""
    image = with_beads(BEADS, depth=0.9, noise=3.0)
    cleaned, count = remove_hot_pixels(image)
    bead = np.zeros(SHAPE_YX, bool)
    for y, x in BEADS:
        bead |= np.hypot(*(np.indices(SHAPE_YX) - np.reshape([y, x], (2, 1, 1)))) < BEAD_PX
    np.testing.assert_array_equal(cleaned[bead], image[bead])
    assert count < 5e-4 * image.size


def test_row_46_hot_pixels_at_the_edge_and_beside_each_other():
    """Up to two neighbouring hot pixels look like a feature; a single one never does, not even in a corner."""
    image = np.full(SHAPE_YX, 100.0, np.float32) + np.random.default_rng(2).normal(0, 1, SHAPE_YX).astype(np.float32)
    for place in [(0, 0), (0, 77), (149, 189), (90, 189), (60, 60)]:
        image[place] = 5000
    cleaned, count = remove_hot_pixels(image)
    assert count >= 5
    assert cleaned.max() < 110


def test_row_45_a_constant_image_has_no_hot_pixels():
    image = np.full(SHAPE_YX, 7.0, np.float32)
    cleaned, count = remove_hot_pixels(image)
    assert count == 0
    assert cleaned is image


def median_at(contrast, positions):
    return np.median([contrast[round(y), round(x)] for y, x in positions])


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image + np.linspace(-100, 200, SHAPE_YX[1], dtype=np.float32),
        lambda image: 40 * image,
        lambda image: image * np.linspace(0.7, 1.3, SHAPE_YX[0], dtype=np.float32)[:, None],
    ],
    ids=["as it is", "sloping beam", "other units", "uneven beam"],
)
def test_contrast_is_relative_to_the_local_background(change):
    result = contrast_image(change(with_beads(BEADS, depth=0.4, noise=3.0)), BEAD_PX)
    assert result.mask.all()
    assert result.contrast.dtype == np.float32
    assert median_at(result.contrast, BEADS) == pytest.approx(-0.4, abs=0.08)
    far = np.ones(SHAPE_YX, bool)
    for y, x in BEADS:
        far &= np.hypot(*(np.indices(SHAPE_YX) - np.reshape([y, x], (2, 1, 1)))) > 1.5 * BEAD_PX
    assert abs(np.median(result.contrast[far])) < 0.01


def test_bright_beads_come_out_dark():
    inverted = 600.0 - with_beads(BEADS, noise=3.0)
    assert median_at(contrast_image(inverted, BEAD_PX, bright=True).contrast, BEADS) < -0.25
    assert median_at(contrast_image(inverted, BEAD_PX).contrast, BEADS) > 0.25


def test_row_47_images_normalised_to_zero_mean_show_the_same_beads():
    """Signed images have no positive level to divide by: beads still stand out by as many sigmas."""
    image = with_beads(BEADS)
    normalised = ((image - image.mean()) / image.std()).astype(np.float32)

    def strength(pixels):
        contrast = contrast_image(pixels, BEAD_PX).contrast
        return median_at(contrast, BEADS) / noise_sd(contrast)

    assert strength(normalised) == pytest.approx(strength(image), rel=0.15)
    assert strength(normalised) < -5


def test_a_blocked_area_is_masked_and_the_rest_keeps_its_contrast():
    image = with_beads(BEADS, noise=3.0)
    image[:, 165:] *= 0.02
    result = contrast_image(image, BEAD_PX)
    assert not result.mask[:, 168:].any()
    assert result.mask[:, :140].all()
    assert (result.contrast[~result.mask] == 0).all()
    assert median_at(result.contrast, BEADS[:2]) == pytest.approx(-0.4, abs=0.08)


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_row_45_a_constant_image_has_no_contrast_and_no_nan(value):
    result = contrast_image(np.full(SHAPE_YX, value, np.float32), BEAD_PX)
    assert np.isfinite(result.contrast).all()
    assert np.ptp(result.contrast) < 1e-3


@pytest.mark.parametrize("shape_yx", [(64, 64), (65, 67), (64, 200), (203, 61)])
@pytest.mark.parametrize("feature_px", [3.0, 10.0, 18.0])
def test_any_shape_works(shape_yx, feature_px):
    image = with_beads([(30.0, 30.0)], shape_yx=shape_yx)
    result = contrast_image(image, feature_px)
    assert result.contrast.shape == result.mask.shape == shape_yx
    assert np.isfinite(result.contrast).all()
