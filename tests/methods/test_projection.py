"""The projection model of the solver is that of the package, and its derivatives are right."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.methods.projection import (
    N_VIEW_PARAMETERS,
    geometry_from_views,
    linearise,
    project,
    view_matrices,
    views_from_geometry,
)

PIXEL_SIZE_ANGST = 7.3
N, P = 6, 5


def random_setup(seed: int, x_tilt_deg: float):
    """Views (n, 5), points (p, 3) and x tilts (n,) of no symmetry."""
    rng = np.random.default_rng(seed)
    views = np.column_stack(
        [
            rng.uniform(-180, 180, N),
            rng.uniform(-70, 70, N),
            rng.normal(0, 0.02, N),
            rng.normal(0, 100, (N, 2)),
        ]
    )
    return views, rng.normal(0, 200, (P, 3)), x_tilt_deg + rng.normal(0, 1.0, N) * bool(x_tilt_deg)


@pytest.mark.parametrize("x_tilt_deg", [0.0, 3.0, -40.0])
def test_projection_is_that_of_the_geometry(x_tilt_deg):
    views, points, x_tilt = random_setup(1, x_tilt_deg)
    geometry = geometry_from_views(views, x_tilt, PIXEL_SIZE_ANGST)
    expected_px = geometry.project(points * PIXEL_SIZE_ANGST) / PIXEL_SIZE_ANGST
    np.testing.assert_allclose(project(views, points, x_tilt), expected_px, atol=1e-10)


def test_views_survive_the_way_through_a_geometry():
    views, _, x_tilt = random_setup(2, 3.0)
    back = views_from_geometry(geometry_from_views(views, x_tilt, PIXEL_SIZE_ANGST), PIXEL_SIZE_ANGST)
    np.testing.assert_allclose(back, views, atol=1e-12)


@pytest.mark.parametrize("x_tilt_deg", [0.0, 3.0, -40.0])
def test_linearise_predicts_what_project_does(x_tilt_deg):
    views, points, x_tilt = random_setup(3, x_tilt_deg)
    predicted, _, by_point = linearise(views, points, x_tilt)
    np.testing.assert_allclose(predicted, project(views, points, x_tilt), atol=1e-10)
    np.testing.assert_allclose(by_point, view_matrices(views, x_tilt))


@pytest.mark.parametrize("x_tilt_deg", [0.0, 3.0, -40.0])
@pytest.mark.parametrize("parameter", range(N_VIEW_PARAMETERS))
def test_view_derivatives_equal_finite_differences(parameter, x_tilt_deg):
    views, points, x_tilt = random_setup(4, x_tilt_deg)
    _, by_view, _ = linearise(views, points, x_tilt)
    step = 1e-4
    change = np.zeros(N_VIEW_PARAMETERS)
    change[parameter] = step
    numeric = (project(views + change, points, x_tilt) - project(views - change, points, x_tilt)) / (2 * step)
    np.testing.assert_allclose(by_view[:, parameter], numeric, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("axis", range(3))
def test_point_derivatives_equal_finite_differences(axis):
    views, points, x_tilt = random_setup(5, 3.0)
    _, _, by_point = linearise(views, points, x_tilt)
    change = np.eye(3)[axis]  # the model is linear in the points, so the step may be large
    numeric = (project(views, points + change, x_tilt) - project(views, points - change, x_tilt)) / 2
    np.testing.assert_allclose(np.broadcast_to(by_point[:, None, :, axis], numeric.shape), numeric, atol=1e-9)
