"""The linearised problem of patches: what views that do not show a patch, and patches without structure, do to it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods.patch_linear import LinearPatches, PatchProblem
from napari_tiltalign.methods.patch_measure import Displacements
from napari_tiltalign.methods.patch_solve import first_errors, solve_step
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import views_from_geometry

TILTS_DEG = np.linspace(-60.0, 60.0, 13)
SIDE_ANGST = 4000.0


def problem_of(seen, pull=None, *, negative: bool = False) -> PatchProblem:
    p, n = seen.shape
    rng = np.random.default_rng(0)
    points = np.column_stack([np.zeros(p), rng.uniform(-0.5, 0.5, (p, 2)) * SIDE_ANGST])
    apart = np.abs(np.arange(n)[:, None] - np.arange(n))
    weight = np.where(apart == 0, 0.0, np.exp(-apart / 2.0))
    if negative:
        weight[apart == 3] = -0.15
    pairs = weight[:, :, None, None] * np.eye(2)
    pull = np.zeros((p, n, 2)) if pull is None else pull
    views = views_from_geometry(ViewGeometry.nominal(TILTS_DEG, 5.0), 1.0)
    measured = Displacements(pull, pairs, np.ones(p), seen)
    return PatchProblem(views, np.zeros(n), points, measured, default_priors(TILTS_DEG, 5.0), 50.0)


def test_displacements_of_a_shifted_view_give_its_shift():
    seen = np.ones((12, 13), dtype=bool)
    still = problem_of(seen)
    moved = np.zeros((12, 13, 2))
    moved[:, 4] = [3.0, -2.0]
    information = still.displacements.information().reshape(12, 26, 26)
    pull = np.einsum("pxy,py->px", information, moved.reshape(12, 26)).reshape(12, 13, 2)
    problem = problem_of(seen, pull)
    step, _ = solve_step(problem, first_errors(problem.displacements), learn=False)
    apart = step.moved_by_views_yx[:, 4] - step.moved_by_views_yx[:, 9]
    np.testing.assert_allclose(apart, np.broadcast_to([3.0, -2.0], apart.shape), atol=0.3)


@pytest.mark.parametrize("learn", [False, True])
def test_information_stays_positive_where_views_are_missing(learn):
    seen = np.ones((10, 13), dtype=bool)
    seen[::2, ::3] = False
    seen[1] = False
    seen[3] = np.isin(np.arange(13), [0, 3])  # only a pair that pulls apart is left
    problem = problem_of(seen, negative=True)
    raw = problem.displacements.information().reshape(10, 26, 26)
    assert np.linalg.eigvalsh(raw).min() < -0.01  # the case this is about
    linear = LinearPatches.of(problem)
    assert np.linalg.eigvalsh(linear.information).min() > -1e-9
    step, _ = solve_step(problem, first_errors(problem.displacements), learn=learn)
    for values in (step.view_step, step.height_step, step.view_covariance, step.tracks_yx, step.observation_sd):
        assert np.isfinite(values).all()
