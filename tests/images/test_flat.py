"""Flat images: white, without blocked parts, and with every sample where it should be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage

from napari_tiltalign.images.flat import Grid, cropped, flatten, spline_coefficients
from napari_tiltalign.images.tiles import hann_window, sample_tiles

PIXEL_ANGST = 10.0


def noisy(shape, seed=0, blur=1.5):
    """Coloured noise on a slope of brightness."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), blur)
    slope = np.linspace(80.0, 120.0, shape[1])
    return (slope * (1.0 + 0.3 * noise)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "pixel_angst", "pitch_angst"),
    [((512, 512), 10.0, 20.0), ((400, 611), 10.0, 20.0), ((997, 768), 3.1, 20.0), ((200, 200), 50.0, 20.0)],
    ids=str,
)
def test_grid_covers_the_image(shape, pixel_angst, pitch_angst):
    grid = Grid.of(shape, pixel_angst, pitch_angst)
    expected = np.array(shape) * pixel_angst
    covered = np.array(grid.shape_yx) * grid.pitch_yx_angst
    assert np.all(covered <= expected * 1.001)
    assert np.all(covered > expected - grid.binning * pixel_angst - 1e-6)
    assert all(size % 2 == 0 for size in grid.shape_yx)
    np.testing.assert_allclose(grid.pitch_yx_angst, max(pitch_angst, pixel_angst), rtol=0.02)


@pytest.mark.parametrize("clip", [3.0, 100.0])
def test_flat_images_have_power_one_at_every_frequency(clip):
    grid = Grid.of((512, 640), PIXEL_ANGST, 20.0)
    flat = flatten(noisy((512, 640)), grid, clip_sigmas=clip)
    pixels = fft.irfft2(flat.spectrum, grid.shape_yx)
    inner = pixels[40:-40, 40:-40]
    assert inner.var() == pytest.approx(1.0, abs=0.06)
    power = np.abs(flat.spectrum[:, 1:-1]) ** 2 / pixels.size
    radius = np.hypot(np.fft.fftfreq(grid.shape_yx[0])[:, None], np.fft.rfftfreq(grid.shape_yx[1])[None, 1:-1])
    for low in (0.05, 0.2, 0.4):
        band = (radius >= low) & (radius < low + 0.1)
        assert power[band].mean() == pytest.approx(0.9, abs=0.12)  # the faded edge takes its part


def test_blocked_part_is_masked_and_level_does_not_matter():
    image = noisy((256, 256), seed=3)
    image[:, :70] *= 0.05
    grid = Grid.of(image.shape, PIXEL_ANGST, 20.0)
    flat = flatten(image, grid)
    assert 0.6 < flat.clear < 0.75
    assert not flat.mask[:, :30].any()
    assert flat.mask[:, 60:].all()
    brighter = flatten(7.0 * image, grid)
    np.testing.assert_allclose(brighter.spectrum, flat.spectrum, atol=2e-2 * np.abs(flat.spectrum).max())


@pytest.mark.parametrize("shape", [(300, 340), (301, 341)], ids=str)
@pytest.mark.parametrize(("pixel_angst", "pitch_angst"), [(10.0, 20.0), (4.0, 20.0), (4.0, 37.0)])
def test_samples_lie_where_they_say(shape, pixel_angst, pitch_angst):
    """The grid, the Fourier crop and the spline agree on where the image centre is, to a fraction of a raw pixel."""
    image = (100 + 30 * ndimage.gaussian_filter(np.random.default_rng(1).normal(size=shape), 2.0)).astype(np.float32)
    grid = Grid.of(shape, pixel_angst, 20.0)
    flat = flatten(image, grid, clip_sigmas=1e6)
    level = grid.coarser(pitch_angst)
    half = 60
    window = hann_window(2 * half + 1)
    mid_y, mid_x = np.array(shape) // 2
    raw = image[mid_y - half : mid_y + half + 1, mid_x - half : mid_x + half + 1]
    coefficients = spline_coefficients(cropped(flat.spectrum, grid.shape_yx, level.shape_yx), level.shape_yx)
    tiles, coverage = sample_tiles(coefficients, flat.mask, level, np.zeros((1, 2)), np.eye(2), pixel_angst, window)
    assert coverage[0] == pytest.approx(1.0)
    shift = shift_by_phases(raw * window, tiles[0], highest=0.35 * pixel_angst / pitch_angst)
    np.testing.assert_allclose(shift, 0.0, atol=0.1)


def shift_by_phases(reference, moved, highest):
    """Shift (y, x) that explains the phases of the cross spectrum between two low frequencies."""
    f_y, f_x = np.meshgrid(*(np.fft.fftfreq(size) for size in reference.shape), indexing="ij")
    band = (np.hypot(f_y, f_x) > 0.03) & (np.hypot(f_y, f_x) < highest)
    product = (np.conj(fft.fft2(reference)) * fft.fft2(moved))[band]
    rows = np.column_stack([f_y[band], f_x[band]]) * np.abs(product)[:, None] ** 0.5
    return np.linalg.lstsq(rows, -np.angle(product) / (2 * np.pi) * np.abs(product) ** 0.5, rcond=None)[0]


def test_tiles_outside_are_empty_and_say_so():
    grid = Grid.of((200, 200), 10.0, 20.0)
    coefficients = np.ones(grid.shape_yx, np.float32)
    mask = np.ones(grid.shape_yx, bool)
    mask[:, :50] = False
    centres = np.array([[0.0, 500.0], [0.0, 5000.0], [0.0, 0.0], [0.0, -600.0]])
    tiles, coverage = sample_tiles(coefficients, mask, grid, centres, np.eye(2), 20.0, hann_window(16))
    np.testing.assert_allclose(coverage, [1.0, 0.0, 0.5, 0.0], atol=0.05)
    np.testing.assert_allclose(tiles[0], hann_window(16), rtol=1e-5)
    assert not tiles[1].any()


def test_stretched_sampling_follows_the_matrix():
    """A step in the specimen plane is shortened across the axis in the image."""
    grid = Grid.of((256, 256), 10.0, 10.0)
    x = np.mgrid[: grid.shape_yx[0], : grid.shape_yx[1]][1].astype(np.float32)
    ramp = (x - grid.origin_yx[1]) * grid.pitch_yx_angst[1]
    mask = np.ones(grid.shape_yx, bool)
    matrix = np.array([[1.0, 0.0], [0.0, 0.5]])
    # a straight ramp is its own spline
    tiles, _ = sample_tiles(ramp, mask, grid, np.array([[0.0, 30.0]]), matrix, 10.0, np.ones((9, 9), np.float32))
    expected = 30.0 + 0.5 * 10.0 * (np.arange(9) - 4)
    np.testing.assert_allclose(tiles[0], np.broadcast_to(expected, (9, 9)), atol=1e-2)
