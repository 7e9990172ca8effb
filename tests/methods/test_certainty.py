"""Error bars of views do not count what no image tells, and the expected error is the error that is found."""

from __future__ import annotations

import numpy as np
import pytest
from bundle_problems import drawn_from_priors

from napari_tiltalign.geometry import RigidMotion, rotation_x, rotation_y
from napari_tiltalign.methods.certainty import Certainty, common_motion_basis
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import (
    N_VIEW_PARAMETERS,
    ROTATION,
    SHIFT_Y,
    geometry_from_views,
    view_matrices,
    views_from_geometry,
)
from napari_tiltalign.model import Alignment
from napari_tiltalign.quality.difference import difference

TILTS_DEG = np.linspace(-60.0, 60.0, 15)
FIELD_ANGST = np.array([5000.0, 4000.0])
THICKNESS_ANGST = 1500.0
SIZE = len(TILTS_DEG) * N_VIEW_PARAMETERS


def some_views(seed=0):
    views = drawn_from_priors(default_priors(TILTS_DEG, 5.0), np.random.default_rng(seed))
    views[:, SHIFT_Y:] *= 5.0
    return views


def random_covariance(seed=0):
    """Errors of a tenth of a degree and some Angstrom, which go together over the views."""
    scale = np.tile([0.1, 0.1, 3e-4, 5.0, 5.0], len(TILTS_DEG))
    half = np.random.default_rng(seed).normal(size=(SIZE, SIZE)) / np.sqrt(SIZE) * scale[:, None]
    return half @ half.T


def certainty(covariance, views=None, x_tilt_deg=0.0):
    views = some_views() if views is None else views
    return Certainty(covariance, views, np.full(len(views), x_tilt_deg), np.arange(len(views)))


@pytest.mark.parametrize("x_tilt_deg", [0.0, 7.0])
@pytest.mark.parametrize(
    "motion",
    [
        RigidMotion(np.eye(3), np.array([3.0, 0.0, 0.0])),
        RigidMotion(np.eye(3), np.array([0.0, -5.0, 2.0])),
        RigidMotion(rotation_y(0.02), np.zeros(3)),
        RigidMotion(np.eye(3), np.zeros(3), 1.0001),
    ],
    ids=["up", "along", "about the axis", "size"],
)
def test_a_common_motion_is_no_error(motion, x_tilt_deg):
    """Views that see a specimen that was moved differ by a common motion, and by nothing else."""
    views = some_views()
    x_tilt = np.full(len(views), x_tilt_deg)
    # a turn about the tilt axis comes before the x tilt, which is that of the specimen in its holder
    holder = RigidMotion(rotation_x(x_tilt_deg), np.zeros(3))
    level = geometry_from_views(views, np.zeros(len(views)), 1.0)
    change = views_from_geometry(level.compose(motion), 1.0) - views
    assert np.abs(change).max() > 1e-5
    basis = common_motion_basis(view_matrices(views, np.zeros(len(views))))
    left = change.ravel() - basis @ (basis.T @ change.ravel())
    assert np.abs(left).max() < 1e-3 * np.abs(change).max()
    turned = common_motion_basis(view_matrices(views_from_geometry(level.compose(holder), 1.0), x_tilt))
    left = change.ravel() - turned @ (turned.T @ change.ravel())
    assert np.abs(left).max() < 1e-3 * np.abs(change).max()


def test_error_bars_do_not_count_common_motions():
    views, covariance = some_views(), random_covariance()
    basis = common_motion_basis(view_matrices(views, np.zeros(len(views))))
    moving = covariance + basis @ np.diag([1e4, 1e4, 1e4, 100.0, 1.0]) @ basis.T
    np.testing.assert_allclose(certainty(moving).view_sd(), certainty(covariance).view_sd(), rtol=1e-6)
    assert (certainty(covariance).view_sd()[:, ROTATION] > 0.02).all()


def test_error_bars_are_the_spread_of_errors():
    covariance = random_covariance(1)
    errors = np.random.default_rng(2).multivariate_normal(np.zeros(SIZE), covariance, 4000)
    basis = common_motion_basis(view_matrices(some_views(), np.zeros(len(TILTS_DEG))))
    left = errors - (errors @ basis) @ basis.T
    np.testing.assert_allclose(left.std(axis=0), certainty(covariance).view_sd().ravel(), rtol=0.06)
    mean_rotation = errors.reshape(-1, len(TILTS_DEG), N_VIEW_PARAMETERS)[:, :, ROTATION].mean(axis=1)
    assert certainty(covariance).axis_sd_deg() == pytest.approx(mean_rotation.std(), rel=0.06)


def test_pixels_are_angstrom():
    views, covariance = some_views(), random_covariance()
    in_pixels, scale = views.copy(), np.ones(views.shape)
    in_pixels[:, SHIFT_Y:] /= 8.0
    scale[:, SHIFT_Y:] = 1 / 8.0
    small = covariance * scale.ravel()[:, None] * scale.ravel()
    back = Certainty.in_pixels(small, in_pixels, np.zeros(len(views)), np.arange(len(views)), 8.0)
    np.testing.assert_allclose(back.view_sd(), certainty(covariance).view_sd(), rtol=1e-9)
    np.testing.assert_allclose(back.views, views)


def alignment_of(views):
    geometry = geometry_from_views(views, np.zeros(len(views)), 1.0)
    ids = tuple(f"v{i}" for i in range(len(views)))
    shape = tuple(int(size / 10.0) for size in FIELD_ANGST)
    return Alignment("TS", ids, geometry, 10.0, shape, np.ones(len(views), bool))


def test_expected_error_is_what_is_found():
    """Errors drawn from the covariance: their measured size, squared and averaged, is the expected one."""
    views, covariance = some_views(), random_covariance(3)
    told = certainty(covariance).expected_error(FIELD_ANGST, THICKNESS_ANGST)
    truth = alignment_of(views)
    errors = np.random.default_rng(4).multivariate_normal(np.zeros(SIZE), covariance, 60)
    found = [
        10.0
        * difference(alignment_of(views + error.reshape(views.shape)), truth, thickness_angst=THICKNESS_ANGST).rms_nm
        for error in errors
    ]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(told.overall_angst, rel=0.06)


def test_expected_error_is_larger_far_from_the_middle():
    """Where rotations are not sure, the ends of the field are not."""
    covariance = np.diag(np.tile([0.1**2, 1e-12, 1e-16, 1e-6, 1e-6], len(TILTS_DEG)))
    views = some_views()
    views[:, SHIFT_Y:] = 0.0
    told = certainty(covariance, views).expected_error(FIELD_ANGST, THICKNESS_ANGST)
    assert told.rms_angst.shape == (len(told.y_angst), len(told.x_angst))
    assert told.rms_angst[0, 2] > 3 * told.rms_angst[2, 2]
    assert np.isfinite(told.rms_angst).all()
    # a rotation moves a point by its distance from the middle; what all rotations share is no turn of the specimen
    expected = np.deg2rad(0.1) * abs(told.y_angst[0])
    assert told.rms_angst[0, 2] == pytest.approx(expected, rel=0.15)


def test_a_turn_of_the_specimen_in_its_plane_is_no_expected_error():
    """To first order a common rotation is one where views are hardly tilted, so little is left of it there."""
    views = some_views()
    flat = views.copy()
    flat[:, 1] *= 0.02
    together = np.zeros((SIZE, SIZE))
    own = np.arange(len(views)) * N_VIEW_PARAMETERS + ROTATION
    together[np.ix_(own, own)] = 1.0
    hardly_tilted = certainty(together, flat).expected_error(FIELD_ANGST, THICKNESS_ANGST)
    tilted = certainty(together, views).expected_error(FIELD_ANGST, THICKNESS_ANGST)
    assert hardly_tilted.overall_angst < 0.05 * tilted.overall_angst


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="15 views have no covariance"):
        certainty(np.eye(3))
