"""The bundle adjustment finds the truth, resists outliers, and solves what it says it solves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bundle_problems import AXIS_DEG, NOISE_PX, make_problem

from napari_tiltalign.methods.bundle import Estimate, _cost, _step, normal_equations, residuals, robust_weights, solve
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import (
    LOG_MAGNIFICATION,
    N_VIEW_PARAMETERS,
    ROTATION,
    SHIFT_Y,
    TILT,
    linearise,
    project,
    view_matrices,
)


def predictions(bundle, estimate):
    """Where every view sees every point: what no gauge can change."""
    return project(estimate.views, estimate.points_zyx, bundle.x_tilt_deg)


def deviation(solution, truth, kind):
    """Deviation of one view parameter from the truth, without a common part."""
    apart = solution.estimate.views[:, kind] - truth.views[:, kind]
    return apart - apart.mean()


@pytest.mark.parametrize("x_tilt_deg", [0.0, 5.0])
def test_exact_observations_give_the_truth(x_tilt_deg):
    problem = make_problem(1, share_seen=0.7, x_tilt_deg=x_tilt_deg)
    sharp = replace(problem.start, noise_sd=np.full(len(problem.start.views), 0.01))
    solution = solve(problem.bundle, sharp, max_iterations=100, tolerance=1e-8)
    assert solution.converged
    assert np.abs(solution.residual_yx).max() < 1e-3
    # the priors pull a little, because they say what the data cannot: scale, and rotation about the axis
    assert np.abs(deviation(solution, problem.true, ROTATION)).max() < 5e-4
    assert np.abs(deviation(solution, problem.true, TILT)).max() < 2e-3
    assert np.abs(deviation(solution, problem.true, LOG_MAGNIFICATION)).max() < 1e-5
    assert solution.estimate.views[:, ROTATION].mean() == pytest.approx(
        problem.true.views[:, ROTATION].mean(), abs=1e-3
    )
    # unseen places hang on the same geometry
    np.testing.assert_allclose(
        predictions(problem.bundle, solution.estimate), predictions(problem.bundle, problem.true), atol=5e-3
    )


def moved_by(bundle, before, after, leaving_out):
    """Largest change of a predicted position, but for the observation that was disturbed."""
    apart = np.linalg.norm(predictions(bundle, after.estimate) - predictions(bundle, before.estimate), axis=2)
    apart[bundle.observations.view[leaving_out], bundle.observations.point[leaving_out]] = 0.0
    return apart.max()


def test_one_gross_outlier_barely_moves_the_solution():
    problem, rng = make_problem(2, n=21, p=10), np.random.default_rng(0)
    noisy = problem.with_noise(rng)
    wrong = 37
    position = noisy.observations.position_yx.copy()
    position[wrong] += [40.0, -30.0]
    disturbed = noisy.replace(observations=replace(noisy.observations, position_yx=position))
    without = noisy.replace(observations=noisy.observations.take(np.arange(len(position)) != wrong))
    left_out, after = solve(without, problem.start), solve(disturbed, problem.start)
    assert after.weight[wrong] < 1e-3
    assert moved_by(noisy, left_out, after, wrong) < 0.05 * NOISE_PX

    left_out, after = (solve(b.replace(student_t_degrees=np.inf), problem.start) for b in (without, disturbed))
    assert moved_by(noisy, left_out, after, wrong) > 20 * NOISE_PX, "without robust weights it must matter"


@pytest.mark.parametrize("free", [(True, True, False), (False, True, True), (True, False, True), (False, False, False)])
def test_what_is_not_free_stays_as_in_the_start(free):
    problem = make_problem(3, student_t_degrees=np.inf)
    start = replace(problem.start, views=problem.start.views + np.array([0.3, 0.2, 1e-3, 0, 0]))
    solution = solve(problem.bundle.replace(free=free), start)
    assert solution.converged
    for kind, is_free in enumerate(free):
        unchanged = np.array_equal(solution.estimate.views[:, kind], start.views[:, kind])
        assert unchanged is not is_free
    assert not np.array_equal(solution.estimate.views[:, SHIFT_Y:], start.views[:, SHIFT_Y:])


@pytest.mark.parametrize("translation_zyx", [(0, 30, -20), (25, 0, 0), (-40, 100, 60)], ids=str)
def test_result_does_not_depend_on_a_common_translation_of_the_start(translation_zyx):
    problem = make_problem(4, share_seen=0.8)
    bundle = problem.with_noise(np.random.default_rng(1))
    t = np.array(translation_zyx, dtype=float)
    views = problem.start.views.copy()
    views[:, SHIFT_Y:] -= view_matrices(views, bundle.x_tilt_deg) @ t
    moved = replace(problem.start, views=views, points_zyx=problem.start.points_zyx + t)
    np.testing.assert_allclose(predictions(bundle, moved), predictions(bundle, problem.start), atol=1e-9)

    one, other = (solve(bundle, start, max_iterations=100, tolerance=1e-12) for start in (problem.start, moved))
    assert other.cost == pytest.approx(one.cost, abs=1e-8)
    np.testing.assert_allclose(predictions(bundle, other.estimate), predictions(bundle, one.estimate), atol=1e-5)
    np.testing.assert_allclose(other.estimate.views[:, :SHIFT_Y], one.estimate.views[:, :SHIFT_Y], atol=1e-6)
    # heights have a prior, so they too are the same; in the plane the frame moves with the start
    np.testing.assert_allclose(other.estimate.points_zyx[:, 0], one.estimate.points_zyx[:, 0], atol=1e-4)


def dense_system(bundle, estimate):
    """Normal equations over all 5 n + 3 p parameters, and their right-hand side, built the plain way.

    A bivariate Student t observation has (nu + 2) / (nu + 4) of the information that its weight in the gradient says.
    """
    n, p = len(estimate.views), len(estimate.points_zyx)
    observations = bundle.observations
    predicted, by_view, by_point = linearise(estimate.views, estimate.points_zyx, bundle.x_tilt_deg)
    residual = observations.position_yx - predicted[observations.view, observations.point]
    variance = (estimate.noise_sd[observations.view] * observations.relative_sd) ** 2
    nu = bundle.student_t_degrees
    weight = (nu + 2) / (nu + (residual**2).sum(axis=1) / variance) / variance
    information = (nu + 2) / (nu + 4) * weight
    size = N_VIEW_PARAMETERS * n + 3 * p
    matrix, right = np.zeros((size, size)), np.zeros(size)
    for k, (view, point) in enumerate(zip(observations.view, observations.point, strict=True)):
        jacobian = np.zeros((2, size))
        jacobian[:, N_VIEW_PARAMETERS * view : N_VIEW_PARAMETERS * (view + 1)] = by_view[view, :, point].T
        at = N_VIEW_PARAMETERS * n + 3 * point
        jacobian[:, at : at + 3] = by_point[view]
        matrix += information[k] * jacobian.T @ jacobian
        right += weight[k] * jacobian.T @ residual[k]
    for kind, prior in enumerate(bundle.priors):
        own = np.arange(n) * N_VIEW_PARAMETERS + kind
        inverse = np.linalg.inv(prior.covariance())
        matrix[np.ix_(own, own)] += inverse
        right[own] -= inverse @ (estimate.views[:, kind] - prior.mean)
    heights = N_VIEW_PARAMETERS * n + 3 * np.arange(p)
    matrix[heights, heights] += bundle.height_sd**-2
    right[heights] -= (estimate.points_zyx[:, 0] - bundle.height_mean) / bundle.height_sd**2
    return matrix, right


def test_schur_step_equals_the_solution_of_the_full_normal_equations():
    problem = make_problem(5, n=9, p=6, share_seen=0.8)
    bundle = problem.with_noise(np.random.default_rng(2)).replace(height_mean=7.0)
    relative_sd = np.random.default_rng(3).uniform(0.7, 3.0, len(bundle.observations))
    bundle = bundle.replace(observations=replace(bundle.observations, relative_sd=relative_sd))
    matrix, right = dense_system(bundle, problem.start)
    n = len(problem.start.views)
    held = np.argmin(np.abs(problem.start.views[:, TILT])) * N_VIEW_PARAMETERS + np.array([3, 4])
    solved = np.setdiff1d(np.arange(len(matrix)), held)
    step = np.zeros(len(matrix))
    step[solved] = np.linalg.solve(matrix[np.ix_(solved, solved)], right[solved])

    stepped = _step(normal_equations(bundle, problem.start), problem.start, damping=0.0)
    views_step = step[: N_VIEW_PARAMETERS * n].reshape(n, -1)
    np.testing.assert_allclose(stepped.views - problem.start.views, views_step, rtol=1e-6, atol=1e-7)
    points_step = step[N_VIEW_PARAMETERS * n :].reshape(-1, 3)
    np.testing.assert_allclose(stepped.points_zyx - problem.start.points_zyx, points_step, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("student_t_degrees", [4.0, np.inf])
def test_gradient_is_that_of_the_cost(student_t_degrees):
    problem = make_problem(6, n=5, p=4, student_t_degrees=student_t_degrees)
    bundle, at = problem.bundle, problem.start
    precisions = [prior.precision() for prior in bundle.priors]
    system = normal_equations(bundle, at)

    def cost(views_change, points_change):
        return _cost(bundle, Estimate(at.views + views_change, at.points_zyx + points_change, at.noise_sd), precisions)

    for position, index in enumerate(system.active):
        step = 1e-5
        change = np.zeros(at.views.size)
        change[index] = step
        numeric = (cost(change.reshape(at.views.shape), 0) - cost(-change.reshape(at.views.shape), 0)) / (2 * step)
        assert -system.view_gradient[position] == pytest.approx(numeric, rel=1e-4, abs=0.05)
    for point in range(len(at.points_zyx)):
        for axis in range(3):
            change = np.zeros_like(at.points_zyx)
            change[point, axis] = 1e-4
            numeric = (cost(0, change) - cost(0, -change)) / 2e-4
            assert -system.point_gradient[point, axis] == pytest.approx(numeric, rel=1e-4, abs=1e-3)


def test_solution_is_a_minimum():
    problem, rng = make_problem(7, share_seen=0.7), np.random.default_rng(4)
    bundle = problem.with_noise(rng)
    precisions = [prior.precision() for prior in bundle.priors]
    solution = solve(bundle, problem.start, max_iterations=100, tolerance=1e-12)
    found = solution.estimate
    assert solution.cost == pytest.approx(_cost(bundle, found, precisions))
    for _ in range(50):
        away = rng.normal(0.0, (1e-2, 1e-2, 1e-5, 1e-2, 1e-2), found.views.shape)
        aside = rng.normal(0.0, 1e-2, found.points_zyx.shape)
        other = Estimate(found.views + away, found.points_zyx + aside, found.noise_sd)
        assert _cost(bundle, other, precisions) > solution.cost


def test_weights_and_residuals_belong_to_the_solution():
    problem = make_problem(8)
    bundle = problem.with_noise(np.random.default_rng(5))
    solution = solve(bundle, problem.start)
    observations = bundle.observations
    seen = predictions(bundle, solution.estimate)[observations.view, observations.point]
    np.testing.assert_allclose(solution.residual_yx, observations.position_yx - seen)
    distance2 = (solution.residual_yx**2).sum(axis=1) / problem.true.noise_sd[observations.view] ** 2
    np.testing.assert_allclose(solution.weight, 6.0 / (4.0 + distance2))
    gaussian = bundle.replace(student_t_degrees=np.inf)
    at = solution.estimate
    np.testing.assert_array_equal(robust_weights(gaussian, at, residuals(gaussian, at)), 1.0)


def test_a_vague_observation_counts_for_less():
    problem = make_problem(9, n=9, p=5, student_t_degrees=np.inf)
    position = problem.bundle.observations.position_yx.copy()
    position[0] += 5.0

    def residual(relative_sd):
        sd = np.ones(len(position))
        sd[0] = relative_sd
        observations = replace(problem.bundle.observations, position_yx=position, relative_sd=sd)
        return np.linalg.norm(solve(problem.bundle.replace(observations=observations), problem.start).residual_yx[0])

    assert residual(0.5) < residual(1.0) < residual(3.0)


def test_height_mean_moves_the_points_and_nothing_that_is_seen():
    problem = make_problem(10)
    level, raised = (
        solve(problem.bundle.replace(height_mean=mean), problem.start, max_iterations=60, tolerance=1e-10)
        for mean in (0.0, 50.0)
    )
    lift = (raised.estimate.points_zyx - level.estimate.points_zyx)[:, 0]
    np.testing.assert_allclose(lift, 50.0, atol=0.1)
    np.testing.assert_allclose(raised.residual_yx, level.residual_yx, atol=1e-3)


@pytest.mark.parametrize("order_seed", [0, 1])
def test_row_20_order_of_observations_views_and_points_does_not_matter(order_seed):
    problem, rng = make_problem(11, share_seen=0.8), np.random.default_rng(order_seed)
    bundle = problem.with_noise(np.random.default_rng(6))
    n, p, k = len(problem.start.views), len(problem.start.points_zyx), len(bundle.observations)
    views, points, mixed = rng.permutation(n), rng.permutation(p), rng.permutation(k)
    observations = bundle.observations.take(mixed)
    shuffled = bundle.replace(
        observations=replace(
            observations, view=np.argsort(views)[observations.view], point=np.argsort(points)[observations.point]
        ),
        priors=bundle.priors.take(views),
        x_tilt_deg=bundle.x_tilt_deg[views],
    )
    start = Estimate(problem.start.views[views], problem.start.points_zyx[points], problem.start.noise_sd[views])
    one = solve(bundle, problem.start, max_iterations=60, tolerance=1e-11)
    other = solve(shuffled, start, max_iterations=60, tolerance=1e-11)
    np.testing.assert_allclose(other.estimate.views, one.estimate.views[views], atol=1e-6)
    np.testing.assert_allclose(other.residual_yx, one.residual_yx[mixed], atol=1e-6)


def test_row_52_too_few_steps_are_not_called_converged():
    problem = make_problem(12)
    far = replace(problem.start, points_zyx=problem.start.points_zyx + 30.0)
    solution = solve(problem.bundle, far, max_iterations=1)
    assert not solution.converged
    assert solution.iterations == 1
    assert np.isfinite(solution.estimate.views).all()


def test_row_52_singular_equations_are_not_called_converged():
    """A view that sees nothing has no shift; nothing that can be solved is made up for it."""
    problem = make_problem(13)
    observations = problem.bundle.observations
    blind = problem.bundle.replace(observations=observations.take(observations.view != 3))
    solution = solve(blind, problem.start)
    assert not solution.converged
    np.testing.assert_array_equal(solution.estimate.views[3], problem.start.views[3])


def test_row_48_start_shifted_by_more_than_half_the_field_is_recovered():
    problem = make_problem(14)
    views = problem.start.views.copy()
    views[3, SHIFT_Y:] += 300.0
    solution = solve(problem.bundle, replace(problem.start, views=views), max_iterations=40)
    assert np.abs(solution.residual_yx).max() < 0.1


@pytest.mark.parametrize("axis_error_deg", [10.0, -10.0])
def test_row_25_axis_off_by_some_degrees_is_found_within_the_prior(axis_error_deg):
    problem = make_problem(15)
    n = len(problem.start.views)
    axis = AXIS_DEG + axis_error_deg
    bundle = problem.bundle.replace(priors=default_priors(np.linspace(-60, 60, n), axis, axis_sd_deg=8.0))
    views = problem.start.views.copy()
    views[:, ROTATION] = axis
    solution = solve(bundle, replace(problem.start, views=views), max_iterations=40)
    truth = problem.true.views[:, ROTATION]
    assert np.abs(solution.estimate.views[:, ROTATION] - truth).max() < 0.2
