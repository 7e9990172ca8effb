"""Bead positions by least squares: unbiased, as exact as they say, and honest about neighbours and edges."""

from __future__ import annotations

import numpy as np
import pytest
from bead_images import bead_image, spread_positions

from napari_tiltalign.images.prepare import ContrastImage, contrast_image
from napari_tiltalign.methods.localise import localise

SHAPE_YX = (360, 400)
DIAMETER_PX = 10.0
N_BEADS = 22
N_VIEWS = 3


def make_views(seed, *, diameter_px=DIAMETER_PX, start_error_px=0.7, spacing=4.0, **changes):
    """Contrast images of several views, true positions, and where the fit starts."""
    rng = np.random.default_rng(seed)
    true = [spread_positions(N_BEADS, SHAPE_YX, spacing * diameter_px, 2.0 * diameter_px, rng) for _ in range(N_VIEWS)]
    images = [contrast_image(bead_image(p, SHAPE_YX, diameter_px, rng, **changes), diameter_px) for p in true]
    start = [p + rng.normal(0, start_error_px, p.shape) for p in true]
    return images, true, start


def errors(fits, true):
    return np.concatenate([fit.position_yx - p for fit, p in zip(fits, true, strict=True)])


@pytest.mark.parametrize(
    ("diameter_px", "noise"),
    [
        (7.0, {"noise": 0.05}),
        (10.0, {"noise": 0.05}),
        (10.0, {"noise": 0.15}),
        (10.0, {"noise": 0.05, "smooth_noise": 0.08}),
        (17.0, {"noise": 0.05}),
    ],
    ids=["small", "ordinary", "noisy", "coloured noise", "large"],
)
def test_positions_are_unbiased_and_as_exact_as_they_say(diameter_px, noise):
    # few large beads fit into an image with this spacing
    images, true, start = make_views(1, diameter_px=diameter_px, spacing=3.0 if diameter_px > 12 else 4.0, **noise)
    fits = localise(images, start, diameter_px)
    error = errors(fits, true)
    sd = np.concatenate([fit.sd_yx for fit in fits])
    assert all(fit.complete.all() for fit in fits)
    sampling = np.sqrt(np.mean(sd**2) / len(error))
    assert np.abs(error.mean(axis=0)).max() < 4 * sampling + 0.002
    scaled = error / sd
    assert 0.75 < np.sqrt(np.mean(scaled**2)) < 1.35
    assert 0.55 < np.mean(np.abs(scaled) < 1) < 0.82


def test_error_falls_with_the_noise():
    rms = []
    for noise in (0.2, 0.1, 0.02):
        images, true, start = make_views(2, noise=noise)
        rms.append(np.sqrt(np.mean(errors(localise(images, start, DIAMETER_PX), true) ** 2)))
    assert rms[0] > 1.5 * rms[1] > 3 * rms[2]
    assert rms[2] < 0.03


def test_error_does_not_depend_on_the_place_within_a_pixel():
    """No locking to the pixel grid."""
    images, true, start = make_views(3, noise=0.02)
    error = errors(localise(images, start, DIAMETER_PX), true)
    fraction = np.concatenate(true) % 1.0
    for phase in (np.sin, np.cos):
        assert np.abs(np.mean(error * phase(2 * np.pi * fraction), axis=0)).max() < 0.01


def test_amplitude_tells_faint_from_strong():
    rng = np.random.default_rng(4)
    true = spread_positions(N_BEADS, SHAPE_YX, 40.0, 20.0, rng)
    amplitudes = np.ones(N_BEADS)
    amplitudes[:4] = (0.3, 0.5, 1.5, 1.8)
    image = contrast_image(bead_image(true, SHAPE_YX, DIAMETER_PX, rng, amplitudes=amplitudes), DIAMETER_PX)
    (fit,) = localise([image], [true], DIAMETER_PX)
    np.testing.assert_allclose(fit.amplitude, amplitudes, atol=0.2)


def test_nothing_where_no_bead_is():
    """A place without a bead gets a small amplitude, so that it can be told."""
    rng = np.random.default_rng(5)
    true = spread_positions(N_BEADS, SHAPE_YX, 40.0, 20.0, rng)
    image = contrast_image(bead_image(true[2:], SHAPE_YX, DIAMETER_PX, rng), DIAMETER_PX)
    (fit,) = localise([image], [true], DIAMETER_PX)
    assert fit.amplitude[:2].max() < 0.25
    assert fit.amplitude[2:].min() > 0.7


@pytest.mark.parametrize("distance_px", [8.0, 12.0, 20.0])
def test_a_neighbour_does_not_pull(distance_px):
    """A pair of beads beside many single ones, from which the profile is learned."""
    pulls = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        single = spread_positions(N_BEADS, SHAPE_YX, 45.0, 25.0, rng)
        angle = rng.uniform(0, 2 * np.pi)
        away = distance_px * np.array([np.sin(angle), np.cos(angle)])
        true = np.vstack([single, single[:1] + away])
        image = contrast_image(bead_image(true, SHAPE_YX, DIAMETER_PX, rng, noise=0.03), DIAMETER_PX)
        (fit,) = localise([image], [true + rng.normal(0, 0.3, true.shape)], DIAMETER_PX)
        pulls.append((fit.position_yx - true)[[0, -1]] @ away / distance_px * [1, -1])
    limit = 0.15 if distance_px < DIAMETER_PX else 0.03
    assert abs(np.mean(pulls)) < limit


def test_patches_over_the_edge_and_the_mask_are_incomplete():
    rng = np.random.default_rng(6)
    true = np.vstack([spread_positions(N_BEADS, SHAPE_YX, 40.0, 25.0, rng), [[2.0, 200.0], [150.0, 398.0]]])
    prepared = contrast_image(bead_image(true, SHAPE_YX, DIAMETER_PX, rng), DIAMETER_PX)
    mask = prepared.mask.copy()
    y, x = np.round(true[0]).astype(int)
    mask[:, : x + 1] &= np.abs(np.arange(SHAPE_YX[0]) - y)[:, None] > 15
    (fit,) = localise([ContrastImage(prepared.contrast * mask, mask)], [true], DIAMETER_PX)
    assert not fit.complete[[0, -2, -1]].any()
    untouched = mask[tuple(np.round(true[:-2]).astype(int).T)]
    assert fit.complete[1:-2][untouched[1:]].mean() > 0.8


def test_a_fit_does_not_run_away():
    """Where the start is far off, the position stays within reach of it."""
    images, _, start = make_views(7, start_error_px=0.0)
    far = [p + np.array([9.0, 0.0]) for p in start]
    for fit, began in zip(localise(images, far, DIAMETER_PX), far, strict=True):
        assert np.linalg.norm(fit.position_yx - began, axis=1).max() <= 0.45 * DIAMETER_PX + 1e-6


def test_views_without_beads_are_possible():
    images, true, start = make_views(8)
    start[1] = np.zeros((0, 2))
    fits = localise(images, start, DIAMETER_PX)
    assert [len(fit.position_yx) for fit in fits] == [N_BEADS, 0, N_BEADS]
    assert np.sqrt(np.mean((fits[0].position_yx - true[0]) ** 2)) < 0.1


def test_no_bead_anywhere():
    images, _, _ = make_views(9)
    assert [len(fit.position_yx) for fit in localise(images, [np.zeros((0, 2))] * N_VIEWS, DIAMETER_PX)] == [
        0
    ] * N_VIEWS


def test_same_input_same_output():
    images, _, start = make_views(10)
    one, other = (localise(images, [p.copy() for p in start], DIAMETER_PX) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.position_yx, b.position_yx)
        np.testing.assert_array_equal(a.sd_yx, b.sd_yx)


def test_inputs_are_not_changed():
    images, _, start = make_views(11)
    before = [p.copy() for p in start]
    localise(images, start, DIAMETER_PX)
    for a, b in zip(start, before, strict=True):
        np.testing.assert_array_equal(a, b)
