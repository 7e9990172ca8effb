"""Steps of the slab fit: tiles that are displaced instead of cut anew, and what no image tells."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.methods.flat_series import flat_series, level_of
from napari_tiltalign.methods.projection import SHIFT_Y, views_from_geometry
from napari_tiltalign.methods.slab_fit import fit_slab
from napari_tiltalign.methods.slab_model import SlabModel
from napari_tiltalign.methods.slab_pose import SlabPose
from napari_tiltalign.methods.slab_start import first_priors
from napari_tiltalign.methods.slab_tiles import TileScale, tile_centres, tile_spectra
from napari_tiltalign.simulation import Simulation, simulate

SCALE = TileScale(1600.0, 40.0, 125.0)


@pytest.fixture(scope="module")
def sample():
    return simulate(
        Simulation(
            image_rows_px=240,
            image_columns_px=256,
            pixel_size_angst=20,
            tilt_step_deg=8,
            n_beads=0,
            thickness_nm=80,
            texture="cytoplasm",
            counting_noise=False,
        )
    )


@pytest.fixture(scope="module")
def level(sample):
    return level_of(flat_series(sample.series, SCALE.pitch_angst), SCALE.pitch_angst)


@pytest.fixture(scope="module")
def true_pose(sample):
    order = sample.series.tilt_order()
    geometry = sample.truth.geometry.take(order)
    nominal = sample.series.nominal_tilt_deg[order]
    return SlabPose(views_from_geometry(geometry, 1.0), float(geometry.x_tilt_deg[0]), 0.0, nominal)


@pytest.fixture(scope="module")
def centres(level, true_pose):
    return tile_centres(true_pose.views, true_pose.x_tilt_deg, level.series.field_yx_angst, SCALE.size_angst)


def cut(level, pose, centres):
    return tile_spectra(level, SCALE, pose.views, pose.x_tilt_deg, centres)


@pytest.mark.parametrize("axis", [0, 1])
def test_tiles_that_are_displaced_are_those_cut_there(level, true_pose, centres, axis):
    here = cut(level, true_pose, centres)
    moved = centres.copy()
    moved[:, 1 + axis] += 30.0
    there = cut(level, true_pose, moved)
    displacement = np.zeros((*here.shown.shape, 2))
    displacement[:, :, axis] = 30.0
    both = here.shown & there.shown

    def off(spectra):
        difference = (spectra.values - there.values)[:, both]
        return np.linalg.norm(difference) / np.linalg.norm(there.values[:, both])

    assert off(here.displaced(displacement)) < 0.15  # what enters and leaves the window
    assert off(here) > 0.5
    assert off(here.displaced(-displacement)) > 0.5


def test_a_step_does_not_displace_the_specimen_as_a_whole(level, true_pose):
    start = true_pose.views.copy()
    start[::2, SHIFT_Y] += 8.0
    pose = true_pose.replace(views=start)
    model = SlabModel.first_guess(800.0, len(start))
    fit = fit_slab(level, SCALE, pose, model, first_priors(pose), steps=8, level_the_slab=False)
    # along x a change of all heights shows as well
    assert abs((fit.pose.views - start)[:, SHIFT_Y].mean()) < 0.1
    off = (fit.pose.views - true_pose.views)[:, SHIFT_Y]
    assert off.std() < 2.0  # of 4 before
    assert fit.moved_angst < 0.01 * SCALE.finest_angst


def test_single_views_may_turn_less_than_neighbours_together(true_pose):
    priors = first_priors(true_pose)
    for prior in (priors.rotation_deg, priors.log_magnification):
        covariance = prior.covariance()
        assert prior.independent_sd < 0.2 * prior.smooth_sd
        assert covariance[0, 1] > covariance[0, len(covariance) // 2]
