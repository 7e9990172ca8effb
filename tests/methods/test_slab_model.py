"""The covariance of a random slab, its derivatives, and the levelling, against what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.methods.projection import project
from napari_tiltalign.methods.slab_fit import SlabPose, levelled
from napari_tiltalign.methods.slab_model import (
    SlabModel,
    energies,
    evidence,
    fit_signal,
    log_likelihood,
    precision,
    residuals,
    sight,
)
from napari_tiltalign.methods.slab_tiles import TileScale, TileSpectra, plane_matrices, tile_centres

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


def drawn(count, tiles, seed=0, thickness_angst=800.0):
    """Tiles of a random slab as the model has it, and the covariances they were drawn from."""
    frequency = frequencies(count, seed)
    empty = TileSpectra(frequency, np.zeros((count, len(TILTS_DEG), 0), np.complex64), SCALE)
    seen = sight(empty, views(), 0.0, thickness_angst)
    covariance = np.linalg.inv(precision(empty, seen, model(thickness_angst)).matrices.astype(float))
    rng = np.random.default_rng(seed + 1)
    white = rng.normal(size=(2, count, len(TILTS_DEG), tiles)) / np.sqrt(2)
    values = np.linalg.cholesky(covariance) @ (white[0] + 1j * white[1])
    return TileSpectra(frequency, values.astype(np.complex64), SCALE), seen, covariance


def test_coherence_is_that_of_points_at_random_heights():
    """Structure at height z is displaced by z tan(tilt) along x: average its phases over a uniform slab."""
    frequency = frequencies(5)
    spectra = TileSpectra(frequency, np.zeros((5, len(TILTS_DEG), 0), np.complex64), TileScale(1e6, 40.0, 100.0))
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
    found = precision(spectra, seen, model())
    told = evidence(spectra, found)
    view, step = 2, 0.05
    for axis in (0, 1):
        change = []
        for sign in (1.0, -1.0):
            values = spectra.values.copy()
            values[:, view] *= np.exp(2j * np.pi * spectra.frequency_yx[:, axis] * sign * step)[:, None]
            change.append(energies(TileSpectra(spectra.frequency_yx, values, SCALE), found))
        numeric = (change[0] - change[1]) / (2 * step)
        np.testing.assert_allclose(told.gradient_yx[:, view, axis], numeric, rtol=2e-2, atol=1e-4)


def test_fisher_information_is_the_mean_curvature():
    spectra, seen, _ = drawn(200, 400, seed=3)
    found = precision(spectra, seen, model())
    told = evidence(spectra, found)
    expected = np.einsum("iiaa->i", found.fisher)
    np.testing.assert_allclose(told.curvature.mean(axis=0), expected, rtol=0.03)
    scores = told.gradient_yx[:, 2]
    # half the log density of a complex Gaussian: the variance of its score is half the information
    np.testing.assert_allclose(scores.T @ scores / len(scores), found.fisher[2, 2] / 2, rtol=0.3, atol=1e-4)


def test_likelihood_prefers_the_true_thickness():
    spectra, _, _ = drawn(200, 60, seed=5)
    tried = [300.0, 500.0, 800.0, 1200.0]
    likelihood = [log_likelihood(spectra, sight(spectra, views(), 0.0, t), model(t)) for t in tried]
    assert tried[int(np.argmax(likelihood))] == 800.0


def test_signal_is_found_again():
    spectra, seen, _ = drawn(1500, 40, seed=7)
    fitted = fit_signal(spectra, seen, SlabModel.first_guess(800.0, len(TILTS_DEG)))
    found = np.interp(0.004, fitted.ring_per_angst, fitted.signal) * fitted.view_factor
    assert found / model().view_factor == pytest.approx(np.full(len(TILTS_DEG), 0.6), rel=0.2)
    assert np.median(fitted.tile_factor) == pytest.approx(1.0, abs=0.1)


def test_prediction_leaves_the_view_out():
    spectra, seen, covariance = drawn(50, 20, seed=9)
    told = residuals(spectra, precision(spectra, seen, model()))
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


def test_tiles_are_well_inside_of_most_views():
    field = np.array([6000.0, 8000.0])
    centres = tile_centres(views(), 0.0, field, 2000.0)
    seen = project(views(), centres, np.zeros(len(TILTS_DEG)))
    assert ((np.abs(seen) < field / 2 - 500.0).all(axis=2).mean(axis=0) >= 0.75).all()
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    assert gaps[gaps > 0].min() == pytest.approx(1000.0)
