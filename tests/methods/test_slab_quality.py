"""Error bars of the slab: what single tiles tell adds up to the whole, and leaving one out moves what it decided."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_tiltalign.methods.certainty import relative_sd
from napari_tiltalign.methods.flat_series import flat_series, level_of
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, ROTATION, SHIFT_Y, view_matrices, views_from_geometry
from napari_tiltalign.methods.slab_fit import fit_slab
from napari_tiltalign.methods.slab_model import SlabModel
from napari_tiltalign.methods.slab_pose import SlabPose, prior_terms
from napari_tiltalign.methods.slab_quality import moves_without_tiles, tile_hessians, view_covariance
from napari_tiltalign.methods.slab_start import first_priors
from napari_tiltalign.methods.slab_tiles import TileScale
from napari_tiltalign.simulation import Simulation, simulate

SCALE = TileScale(1600.0, 40.0, 125.0)


@pytest.fixture(scope="module")
def fit():
    sample = simulate(
        Simulation(
            image_rows_px=240, image_columns_px=256, pixel_size_angst=20, tilt_step_deg=8, n_beads=0, thickness_nm=80,
            texture="cytoplasm", counting_noise=False,
        )
    )  # fmt: skip
    level = level_of(flat_series(sample.series, SCALE.pitch_angst), SCALE.pitch_angst)
    order = sample.series.tilt_order()
    geometry, nominal = sample.truth.geometry.take(order), sample.series.nominal_tilt_deg[order]
    pose = SlabPose(views_from_geometry(geometry, 1.0), float(geometry.x_tilt_deg[0]), 0.0, nominal)
    priors = first_priors(pose)
    return fit_slab(level, SCALE, pose, SlabModel.first_guess(800.0, len(nominal)), priors, steps=5)


def everything(fit):
    return np.flatnonzero(np.abs(fit.scores).sum(axis=1) > 0)


def test_what_tiles_tell_adds_up(fit):
    size, tiles = fit.pose.views.size, everything(fit)
    total, _ = prior_terms(fit.pose, fit.centres_zyx, fit.priors)
    for tile, own in zip(tiles, tile_hessians(fit, tiles), strict=True):
        told = np.append(np.arange(size), size + tile)
        total[np.ix_(told, told)] += own
    scale = 1.0 / np.sqrt(np.diag(fit.hessian))
    np.testing.assert_allclose(total * np.outer(scale, scale), fit.hessian * np.outer(scale, scale), atol=0.05)


def test_a_tile_that_decides_moves_more_than_its_score_tells(fit):
    """Its score is small because the solution follows it; leaving it out shows how far."""
    tiles = everything(fit)
    size = fit.pose.views.size
    covariance = fit.covariance()
    first_order = fit.scores[tiles] @ covariance[:size] + fit.height_scores[tiles, None] * covariance[size + tiles]
    moves = moves_without_tiles(fit, tiles)
    axis = np.zeros(len(covariance))
    axis[np.arange(size // N_VIEW_PARAMETERS) * N_VIEW_PARAMETERS + ROTATION] = 1.0
    along = covariance @ axis
    share = []
    for tile, own in zip(tiles, tile_hessians(fit, tiles), strict=True):
        told = np.append(along[:size], along[size + tile])
        share.append(told @ own @ told / (axis @ along))
    assert 0.5 < np.sum(share) <= 1.01, "all tiles together decide the axis, but for the prior"
    assert np.max(share) > 2.0 * np.median(share), "some decide more than others"
    growth = np.linalg.norm(moves, axis=1) / np.linalg.norm(first_order, axis=1)
    assert np.median(growth) > 1.0


def test_error_bars_are_as_wide_as_tiles_disagree(fit):
    twice = dataclasses.replace(fit, scores=2.0 * fit.scores, height_scores=2.0 * fit.height_scores)
    matrices = view_matrices(fit.pose.views, fit.pose.x_tilts_deg)
    covariances = view_covariance(fit), view_covariance(twice)
    one, two = (relative_sd(covariance, matrices)[:, SHIFT_Y] for covariance in covariances)
    assert (two <= (2.0 + 1e-6) * one).all()
    assert np.median(two / one) > 1.5
    assert np.linalg.eigvalsh(covariances[0]).min() > -1e-9 * np.linalg.eigvalsh(covariances[0]).max()
