"""The covariance of a random slab, its derivatives, and the levelling, against what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.images.arrays import to_host
from napari_tiltalign.images.compute import use_device
from napari_tiltalign.methods.projection import SHIFT_Y, TILT, project
from napari_tiltalign.methods.slab_model import (
    SlabModel,
    evidence,
    log_likelihood,
    precisions,
    residuals,
    sight,
)
from napari_tiltalign.methods.slab_pose import SlabPose, levelled
from napari_tiltalign.methods.slab_signal import fit_signal
from napari_tiltalign.methods.slab_tiles import (
    LEAST_PART,
    LEAST_VIEWS,
    MOST_BLOCKS,
    Block,
    TileScale,
    TileSpectra,
    blocks_of,
    equally_strong,
    plane_matrices,
    tile_centres,
)

TILTS_DEG = np.array([-40.0, -20.0, -5.0, 10.0, 30.0, 50.0])
SCALE = TileScale(2000.0, 40.0, 100.0)


def views(axis_deg=7.0):
    pose = np.zeros((len(TILTS_DEG), 5))
    pose[:, 0], pose[:, 1] = axis_deg, TILTS_DEG
    return pose


def model(thickness_angst=800.0):
    rings = np.linspace(0, SCALE.highest, 6)
    return SlabModel(thickness_angst, rings, np.full(6, 0.6), np.linspace(0.7, 1.0, len(TILTS_DEG)), np.ones(1))


def frequencies(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-0.006, 0.006, count), rng.uniform(0.0005, 0.006, count)])


def spectra_of(frequency, values, scale=SCALE):
    return TileSpectra(frequency, values.astype(np.complex64), np.ones(values.shape[1:], dtype=bool), scale)


def block(tiles):
    return [Block(np.arange(len(TILTS_DEG)), np.arange(tiles))]


def drawn(count, tiles, seed=0, thickness_angst=800.0):
    """Tiles of a random slab as the model has it, and the covariances they were drawn from."""
    frequency = frequencies(count, seed)
    empty = spectra_of(frequency, np.zeros((count, len(TILTS_DEG), 0)))
    seen = sight(empty, views(), 0.0, thickness_angst)
    covariance = np.linalg.inv(precisions(empty, seen, model(thickness_angst), block(0))[0].matrices.astype(float))
    rng = np.random.default_rng(seed + 1)
    white = rng.normal(size=(2, count, len(TILTS_DEG), tiles)) / np.sqrt(2)
    values = np.linalg.cholesky(covariance) @ (white[0] + 1j * white[1])
    return spectra_of(frequency, values), seen, covariance


def test_coherence_is_that_of_points_at_random_heights():
    """Structure at height z is displaced by z tan(tilt) along x: average its phases over a uniform slab."""
    frequency = frequencies(5)
    spectra = spectra_of(frequency, np.zeros((5, len(TILTS_DEG), 0)), TileScale(1e6, 40.0, 100.0))
    seen = sight(spectra, views(), 0.0, 800.0)
    heights = (np.arange(4000) + 0.5) / 4000 * 800.0 - 400.0
    tangent = np.tan(np.deg2rad(TILTS_DEG))
    phase = np.exp(2j * np.pi * frequency[:, 1, None, None] * tangent[:, None] * heights)
    expected = (phase[:, :, None] * phase[:, None].conj()).mean(axis=3).real
    np.testing.assert_allclose(seen.coherence[seen.column], expected, atol=2e-3)


def test_slope_is_where_heights_show():
    inverse, slope = plane_matrices(views(), 0.0)
    np.testing.assert_allclose(slope[:, 1], np.tan(np.deg2rad(TILTS_DEG)), atol=1e-12)
    np.testing.assert_allclose(slope[:, 0], 0.0, atol=1e-12)
    assert np.linalg.det(inverse) == pytest.approx(1 / np.cos(np.deg2rad(TILTS_DEG)))


def test_gradient_is_that_of_the_energy():
    spectra, seen, _ = drawn(30, 3)
    found = precisions(spectra, seen, model(), block(spectra.values.shape[2]))
    told = evidence(spectra, found)
    view, step = 2, 0.05
    for axis in (0, 1):
        change = []
        for sign in (1.0, -1.0):
            values = spectra.values.copy()
            values[:, view] *= np.exp(2j * np.pi * spectra.frequency_yx[:, axis] * sign * step)[:, None]
            change.append(evidence(spectra_of(spectra.frequency_yx, values), found).energy)
        numeric = (change[0] - change[1]) / (2 * step)
        np.testing.assert_allclose(told.gradient_yx[:, view, axis], numeric, rtol=2e-2, atol=1e-4)


def test_fisher_information_is_the_mean_curvature():
    spectra, seen, _ = drawn(200, 400, seed=3)
    found = precisions(spectra, seen, model(), block(spectra.values.shape[2]))
    told = evidence(spectra, found)
    expected = np.einsum("iiaa->i", found[0].fisher)
    np.testing.assert_allclose(told.curvature.mean(axis=0), expected, rtol=0.03)
    scores = told.gradient_yx[:, 2]
    # half the log density of a complex Gaussian: the variance of its score is half the information
    np.testing.assert_allclose(scores.T @ scores / len(scores), found[0].fisher[2, 2] / 2, rtol=0.3, atol=1e-4)


def test_likelihood_prefers_the_true_thickness():
    spectra, _, _ = drawn(200, 60, seed=5)
    tried = [300.0, 500.0, 800.0, 1200.0]
    likelihood = [log_likelihood(spectra, sight(spectra, views(), 0.0, t), model(t), block(60)) for t in tried]
    assert tried[int(np.argmax(likelihood))] == 800.0


def test_signal_is_found_again():
    spectra, seen, _ = drawn(1500, 40, seed=7)
    fitted = fit_signal(spectra, seen, SlabModel.first_guess(800.0, len(TILTS_DEG)))
    found = np.interp(0.004, fitted.ring_per_angst, fitted.signal) * fitted.view_factor
    assert found / model().view_factor == pytest.approx(np.full(len(TILTS_DEG), 0.6), rel=0.2)
    assert np.median(fitted.tile_factor) == pytest.approx(1.0, abs=0.1)


def test_prediction_leaves_the_view_out():
    spectra, seen, covariance = drawn(50, 20, seed=9)
    told = residuals(spectra, precisions(spectra, seen, model(), block(spectra.values.shape[2])))
    others = np.arange(1, len(TILTS_DEG))
    weights = np.linalg.solve(covariance[:, 1:, 1:], covariance[:, 1:, :1])
    predicted = np.einsum("knp,kno->kp", spectra.values[:, others], weights)
    assert told.product[0] == pytest.approx((spectra.values[:, 0] * predicted.conj()).real.sum(), rel=1e-3)
    assert told.predicted_power[0] == pytest.approx(np.square(np.abs(predicted)).sum(), rel=1e-3)


def test_levelling_changes_nothing_that_images_see():
    pose = SlabPose(views(), 0.5, 1.0, TILTS_DEG - 1.0)
    centres = tile_centres(pose.views, 0.5, np.array([8000.0, 8000.0]), 2000.0)
    assert len(centres) >= 9
    slanted = centres.copy()
    slanted[:, 0] = 40.0 + 0.02 * centres[:, 1] - 0.03 * centres[:, 2]
    turned, level = levelled(pose, slanted)
    assert np.abs(level[:, 0]).max() < 1e-6
    before = project(pose.views, slanted, pose.x_tilts_deg)
    after = project(turned.views, level, turned.x_tilts_deg)
    assert np.abs(before - after).max() < 5.0  # second order: 0.03 rad x 0.02 rad x 4000 Angstrom
    assert turned.tilt_offset_deg == pytest.approx(1.0 + np.rad2deg(0.03), abs=0.02)
    assert turned.x_tilt_deg == pytest.approx(0.5 + np.rad2deg(0.02), abs=0.02)


def test_tiles_are_where_enough_views_see_them():
    field = np.array([6000.0, 8000.0])
    centres = tile_centres(views(), 0.0, field, 2000.0)
    seen = project(views(), centres, np.zeros(len(TILTS_DEG)))
    assert ((np.abs(seen) < field / 2 - 500.0).all(axis=2).sum(axis=0) >= LEAST_VIEWS).all()
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    assert gaps[gaps > 0].min() == pytest.approx(1000.0)


def test_blocks_hold_tiles_that_the_same_views_show():
    rng = np.random.default_rng(2)
    first, last = rng.integers(0, 12, 60), rng.integers(16, 30, 60)
    index = np.arange(30)[:, None]
    shown = (index >= first) & (index < last)
    shown[:, -1] = index[:, 0] < 2
    blocks = blocks_of(shown)
    assert len(blocks) <= MOST_BLOCKS
    tiles = np.concatenate([one.tiles for one in blocks])
    assert len(np.unique(tiles)) == len(tiles)
    assert 59 not in tiles
    for one in blocks:
        assert shown[np.ix_(one.views, one.tiles)].all()
    used = sum(one.views.size * one.tiles.size for one in blocks)
    assert used > 0.7 * shown.sum()


@pytest.mark.parametrize("seed", range(4))
def test_views_that_jumped_aside_keep_their_tiles(seed):
    """The stage jumps six times by a third of the field while tilts are taken from the middle outwards."""
    random = np.random.default_rng(seed)
    tilts = np.arange(-60.0, 61.0, 3.0)
    order = np.argsort(np.abs(tilts), kind="stable")
    pose, field = np.zeros((len(tilts), 5)), np.full(2, 6000.0)
    pose[:, TILT] = tilts
    for begun in random.choice(np.arange(1, len(tilts)), 6, replace=False):
        angle = random.uniform(0, 2 * np.pi)
        pose[order[begun:], SHIFT_Y:] += 2000.0 * np.array([np.sin(angle), np.cos(angle)])
    pose[:, SHIFT_Y:] -= np.median(pose[:, SHIFT_Y:], axis=0)
    centres = tile_centres(pose, 0.0, field, 2000.0)
    shown = (np.abs(project(pose, centres, np.zeros(len(tilts)))) < field / 2 - 600.0).all(axis=2)
    blocks = blocks_of(shown)
    assert len(blocks) <= MOST_BLOCKS
    part = np.zeros(shown.shape)
    for one in blocks:
        part[np.ix_(one.views, one.tiles)] = 1.0
    enough = shown[:, shown.sum(axis=0) >= max(LEAST_VIEWS, LEAST_PART * len(tilts))].sum(axis=1)
    assert (part.sum(axis=1) / np.maximum(enough, 1))[enough > 2].min() > 0.3


def test_a_view_that_a_block_leaves_out_has_no_part_in_it():
    spectra, seen, _ = drawn(40, 4)
    part = Block(np.array([0, 1, 3, 4]), np.array([1, 2]))
    told = evidence(spectra, precisions(spectra, seen, model(), [part]))
    assert not told.gradient_yx[:, [2, 5]].any()
    assert not told.energy[[0, 3]].any()
    assert told.energy[[1, 2]].all()


def test_strong_tiles_get_the_power_of_typical_ones():
    spectra, _, _ = drawn(400, 9, seed=4)
    factor = np.linspace(0.7, 2.0, 9)
    even = equally_strong(spectra.values * factor, spectra.shown, np.linalg.norm(spectra.frequency_yx, axis=1))
    power = np.square(np.abs(even)).mean(axis=(0, 1))
    assert power / np.median(power) == pytest.approx(np.ones(9), rel=0.1)


def test_a_line_that_puts_all_into_few_frequencies_counts_no_more_than_others():
    spectra, _, _ = drawn(400, 9, seed=6)
    values = spectra.values.copy()
    values[40:45, :, 3] *= 4.0
    even = equally_strong(values, spectra.shown, np.linalg.norm(spectra.frequency_yx, axis=1))
    power = np.square(np.abs(even)).mean(axis=1)
    assert power[40:45, 3] == pytest.approx(np.ones(5), rel=0.2)


def test_both_sides_compute_the_same(gpu):
    here, seen, _ = drawn(300, 5)
    with use_device("cuda"):
        there = here.on_device()
    assert there.values is not here.values
    told = []
    for spectra in (here, there):
        found = precisions(spectra, seen, model(), block(5))
        one = evidence(spectra, found)
        left = residuals(spectra, found)
        turned = spectra.displaced(np.full((len(TILTS_DEG), 5, 2), 7.0)).thinned(40)
        told.append([
            found[0].fisher, one.energy, one.gradient_yx, one.curvature, left.product,
            left.predicted_power, log_likelihood(spectra, seen, model(), block(5)), to_host(turned.values),
            fit_signal(spectra, seen, model()).signal,
        ])  # fmt: skip
    for cpu, gpu in zip(*told, strict=True):
        np.testing.assert_allclose(gpu, cpu, rtol=2e-4, atol=2e-4 * np.abs(cpu).max())
