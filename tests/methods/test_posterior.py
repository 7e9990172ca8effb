"""Error bars hold what they promise, leave-out residuals are what leaving out gives, and what beads cannot tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bundle_problems import FIELD_PX, NOISE_PX, drawn_from_priors, make_problem

from napari_tiltalign.methods.bundle import Estimate, residuals, solve
from napari_tiltalign.methods.certainty import common_motion_basis
from napari_tiltalign.methods.learning import learn
from napari_tiltalign.methods.posterior import common_motions, determination, posterior
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import LOG_MAGNIFICATION, TILT, project, view_matrices

TRIALS = 40
GAUSSIAN = {"student_t_degrees": np.inf}


def student_t_noise(rng, k):
    """Errors (k, 2) of the bivariate Student t distribution with 4 degrees of freedom, unit scale."""
    return rng.normal(size=(k, 2)) / np.sqrt(rng.chisquare(4, (k, 1)) / 4)


def solved_trials(trials, *, student_t_degrees, heavy_tails=False, learned=False, **changes):
    """Solve many problems drawn from their own priors: deviations from the truth in units of the error bars.

    Returns those of the view parameters, of the predicted positions and of the points, each flat per kind.
    """
    by_view, by_prediction, by_point = [], [], []
    for trial in range(trials):
        n, p = (15, 10) if learned else (9, 6)
        problem = make_problem(1000 + trial, n=n, p=p, student_t_degrees=student_t_degrees, **changes)
        true, rng = problem.true, np.random.default_rng(trial)
        k = len(problem.bundle.observations)
        bundle = problem.with_noise(rng, student_t_noise(rng, k) if heavy_tails else None)
        if learned:
            bundle, solution, sure = learn(bundle, problem.start)
        else:
            solution = solve(bundle, problem.start, max_iterations=50)
            sure = posterior(bundle, solution)
        found, x_tilt = solution.estimate, bundle.x_tilt_deg
        apart = found.views - true.views
        common = common_motion_basis(view_matrices(true.views, x_tilt))
        apart -= (common @ (common.T @ apart.ravel())).reshape(apart.shape)
        by_view.append(apart / sure.view_sd())
        off = project(found.views, found.points_zyx, x_tilt) - project(true.views, true.points_zyx, x_tilt)
        observations = bundle.observations
        by_prediction.append(
            off[observations.view, observations.point] / np.sqrt(np.einsum("kii->ki", sure.prediction))
        )
        point_apart = found.points_zyx - true.points_zyx
        common = common_motions(found.points_zyx, x_tilt[0])
        point_apart = point_apart - common @ np.einsum("pxg,px->g", common, point_apart)
        by_point.append(point_apart / np.sqrt(np.einsum("pii->pi", sure.points_zyx)))
    return np.concatenate(by_view), np.concatenate(by_prediction), np.concatenate(by_point)


def share_within_one_sd(scaled):
    return (np.abs(scaled) < 1).mean(axis=0)


@pytest.mark.parametrize(
    "case",
    [
        {"student_t_degrees": np.inf},
        {"student_t_degrees": np.inf, "share_seen": 0.7},
        {"student_t_degrees": 4.0},
        {"student_t_degrees": 4.0, "heavy_tails": True},
        {"student_t_degrees": 4.0, "learned": True},
        {"student_t_degrees": 4.0, "heavy_tails": True, "learned": True},
    ],
    ids=["normal", "normal, gaps", "robust, normal errors", "robust, heavy tails", "learned, normal errors",
         "learned, heavy tails"],
)  # fmt: skip
def test_two_thirds_of_the_truth_lie_within_the_error_bars(case):
    """The truth of every problem was drawn from its prior; 68 % are expected, over all views within 2 %.

    Heavy tails make it a little less: the posterior is not quite a normal distribution then.
    """
    by_view, by_prediction, by_point = solved_trials(15 if case.get("learned") else 40, **case)
    assert share_within_one_sd(by_view.ravel()) == pytest.approx(0.683, abs=0.08)
    for scaled in (by_prediction.ravel(), by_point.ravel(), *by_view.T):
        assert 0.55 < share_within_one_sd(scaled) < 0.8


def test_covariance_is_that_of_many_solutions():
    """One geometry, 200 times new errors: the solutions scatter as the posterior says, less what the prior knows."""
    problem = make_problem(3, n=9, p=6, **GAUSSIAN)
    loose = replace(problem, bundle=problem.bundle.replace(priors=loosened(problem.bundle.priors)))
    rng = np.random.default_rng(0)
    centre = solve(loose.bundle, problem.start, max_iterations=50)
    expected = posterior(loose.bundle, centre)
    predictions = []
    for _ in range(200):
        found = solve(loose.with_noise(rng), centre.estimate, max_iterations=50).estimate
        seen = project(found.views, found.points_zyx, loose.bundle.x_tilt_deg)
        predictions.append(seen[loose.bundle.observations.view, loose.bundle.observations.point])
    scatter = np.var(np.array(predictions), axis=0)
    predicted = np.einsum("kii->ki", expected.prediction)
    assert scatter.sum() / predicted.sum() == pytest.approx(1.0, abs=0.05)
    assert np.abs(np.log(scatter / predicted)).max() < 0.5  # each with a sampling error of 10 %


def loosened(priors):
    """Priors so wide that the data decide."""
    return type(priors)(*(p.fixed(20 * p.independent_sd, 20 * p.smooth_sd, p.length) for p in priors))


def really_left_out(bundle, solution):
    """Residual (k, 2) of every observation when the problem is solved without it."""
    k = len(bundle.observations)
    without = []
    for one in range(k):
        rest = bundle.replace(observations=bundle.observations.take(np.arange(k) != one))
        again = solve(rest, solution.estimate, max_iterations=100, tolerance=1e-11)
        without.append(residuals(bundle, again.estimate)[one])
    return np.array(without)


@pytest.mark.parametrize(
    ("student_t_degrees", "typical_error", "largest_error"),
    [(np.inf, 0.005, 0.02), (4.0, 0.3, 0.8)],
    ids=["normal", "robust"],
)
def test_leave_out_residual_is_that_of_leaving_out(student_t_degrees, typical_error, largest_error):
    """To first order in what one observation does, which is exact but for curvature where errors are normal."""
    problem = make_problem(5, n=9, p=6, share_seen=0.8, student_t_degrees=student_t_degrees)
    bundle = problem.with_noise(np.random.default_rng(0))
    solution = solve(bundle, problem.start, max_iterations=100, tolerance=1e-12)
    expected = really_left_out(bundle, solution)
    found = posterior(bundle, solution).leave_out_yx
    error = np.linalg.norm(found - expected, axis=1) / NOISE_PX
    assert np.sqrt(np.mean(error**2)) < typical_error
    assert error.max() < largest_error
    length = np.linalg.norm(expected, axis=1)
    assert np.linalg.norm(found, axis=1).mean() == pytest.approx(length.mean(), rel=0.08)
    assert length.mean() > 1.5 * np.linalg.norm(solution.residual_yx, axis=1).mean(), "else this test tells nothing"


def points_in_a_plane(rng, p=10):
    return np.column_stack([np.zeros(p), rng.uniform(-FIELD_PX / 2, FIELD_PX / 2, (p, 2))])


def points_in_a_cluster(rng, p=10):
    return np.column_stack([rng.normal(0, 1.0, p), rng.normal(0, 1.5, (p, 2))])


def points_on_the_axis(rng, p=10):
    return np.column_stack([np.zeros(p), np.linspace(-200, 200, p), np.zeros(p)])


def points_on_a_line_across(rng, p=10):
    return np.column_stack([np.zeros(p), np.zeros(p), np.linspace(-200, 200, p)])


def two_points(rng, p=2):
    return np.array([[20.0, 100.0, -150.0], [-40.0, -120.0, 90.0]])


def what_is_weak(points_zyx, n=21):
    problem = make_problem(2, n=n, points_zyx=points_zyx)
    problem = replace(problem, true=replace(problem.true, noise_sd=np.full(n, NOISE_PX)))
    start = replace(problem.true, noise_sd=np.full(n, NOISE_PX))
    bundle = problem.with_noise(np.random.default_rng(1))
    solution = solve(bundle, start, max_iterations=50)
    typical = default_priors(np.linspace(-60, 60, n), -4.3)
    return determination(bundle, solution, typical)


def test_many_points_in_space_determine_everything():
    rng = np.random.default_rng(4)
    points = np.column_stack([rng.uniform(-80, 80, 15), rng.uniform(-250, 250, (15, 2))])
    found = what_is_weak(points)
    assert found.weak == {"rotation": 0, "tilt": 0, "magnification": 0}
    assert found.in_words() == []
    assert np.isfinite(found.condition)


@pytest.mark.parametrize(
    ("make_points", "weak_kinds"),
    [
        (points_on_the_axis, {"tilt"}),
        (points_on_a_line_across, {"rotation", "tilt"}),
        (points_in_a_cluster, {"rotation", "tilt", "magnification"}),
        (two_points, {"tilt"}),
    ],
    ids=["row_50_line_along_the_axis", "row_50_line_across_the_axis", "row_50_one_cluster", "row_50_two_beads"],
)
def test_what_points_cannot_determine_is_said_in_words(make_points, weak_kinds):
    found = what_is_weak(make_points(np.random.default_rng(5)))
    assert {kind for kind, count in found.weak.items() if count} >= weak_kinds
    words = " ".join(found.in_words())
    for kind in weak_kinds:
        assert f"{kind} is not determined by these points" in words


def test_row_50_one_plane_leaves_the_tilt_near_zero_to_the_prior():
    """A flat specimen changes only to second order with the tilt there."""
    flat = what_is_weak(points_in_a_plane(np.random.default_rng(5)))
    assert flat.weak["tilt"] > 0
    assert "tilt is not determined" in " ".join(flat.in_words())


@pytest.mark.parametrize("make_points", [points_on_the_axis, points_on_a_line_across, points_in_a_cluster, two_points])
def test_row_50_degenerate_beads_never_give_nan(make_points):
    problem = make_problem(6, n=11, points_zyx=make_points(np.random.default_rng(7)))
    _, solution, sure = learn(problem.with_noise(np.random.default_rng(8)), problem.start)
    for values in (solution.estimate.views, solution.estimate.points_zyx, sure.view_sd(), sure.leave_out_yx):
        assert np.isfinite(values).all()


@pytest.mark.parametrize("x_tilt_deg", [0.0, 10.0])
def test_common_motions_change_no_image(x_tilt_deg):
    """Tilts and magnifications that change by the same in all views, and shifts, undo a small common motion."""
    problem = make_problem(11, n=9, p=6, x_tilt_deg=x_tilt_deg)
    true, x_tilt = problem.true, problem.bundle.x_tilt_deg
    common = common_motions(true.points_zyx, x_tilt_deg)
    assert common.shape == (6, 3, 5)
    np.testing.assert_allclose(np.einsum("pxg,pxh->gh", common, common), np.eye(5), atol=1e-12)
    seen = project(true.views, true.points_zyx, x_tilt)
    columns = []
    for kind, step in ((TILT, 1e-4), (LOG_MAGNIFICATION, 1e-6)):
        views = true.views.copy()
        views[:, kind] += step
        columns.append((project(views, true.points_zyx, x_tilt) - seen).ravel() / step)
    for view, axis in np.ndindex(9, 2):
        shift = np.zeros_like(seen)
        shift[view, :, axis] = 1.0
        columns.append(shift.ravel())
    design = np.column_stack(columns)
    for motion in np.moveaxis(common, -1, 0):
        moved = (project(true.views, true.points_zyx + 1e-3 * motion, x_tilt) - seen).ravel()
        left = moved - design @ np.linalg.lstsq(design, moved, rcond=None)[0]
        assert np.abs(left).max() < 1e-4 * np.abs(moved).max()


def test_error_bars_do_not_count_what_no_image_can_tell():
    """Priors that leave the common tilt and size free change no error bar."""
    problem = make_problem(12, n=15, p=12)
    solution = solve(problem.with_noise(np.random.default_rng(12)), problem.start)
    narrow = problem.bundle.priors
    free = type(narrow)(
        narrow.rotation_deg, replace(narrow.tilt_deg, common_sd=1.0), replace(narrow.log_magnification, common_sd=1e-2)
    )
    sure, looser = (posterior(problem.bundle.replace(priors=priors), solution) for priors in (narrow, free))
    np.testing.assert_allclose(looser.view_sd(), sure.view_sd(), rtol=0.03)
    sd, looser_sd = (np.sqrt(np.einsum("pii->pi", one.points_zyx)) for one in (sure, looser))
    np.testing.assert_allclose(looser_sd, sd, rtol=0.03)
    assert looser.parameter(TILT)[0, 0] > 10 * sure.parameter(TILT)[0, 0], "else this test tells nothing"


def test_prior_alone_where_nothing_is_known():
    """A view parameter that no observation touches keeps the spread of its prior."""
    problem = make_problem(7, n=7, points_zyx=np.zeros((5, 3)) + 1e-6)
    start = replace(problem.true, points_zyx=np.zeros((5, 3)))
    solution = solve(problem.bundle, start, max_iterations=3)
    sure = posterior(problem.bundle, solution)
    for kind, prior in enumerate(problem.bundle.priors):
        np.testing.assert_allclose(sure.parameter(kind), prior.covariance(), rtol=0.05, atol=1e-9)


def test_drawn_views_follow_the_prior():
    """The draws that these tests rest on have the covariance they should."""
    priors = default_priors(np.linspace(-60, 60, 9), 0.0, 0.5)
    rng = np.random.default_rng(0)
    rotations = np.array([drawn_from_priors(priors, rng)[:, 0] for _ in range(2000)])
    np.testing.assert_allclose(np.cov(rotations.T), priors.rotation_deg.covariance(), atol=0.04)


@pytest.mark.parametrize("student_t_degrees", [np.inf, 4.0])
def test_noise_is_learned(student_t_degrees):
    """From a guess three times too large, with normal errors; the estimate of a view rests on few observations."""
    problem = make_problem(8, n=21, p=15, student_t_degrees=student_t_degrees)
    start = replace(problem.start, noise_sd=np.full(21, 3 * NOISE_PX))
    _, solution, _ = learn(problem.with_noise(np.random.default_rng(9)), start)
    ratio = solution.estimate.noise_sd / problem.true.noise_sd
    assert np.exp(np.mean(np.log(ratio))) == pytest.approx(1.0, abs=0.12)
    assert np.abs(np.log(ratio)).max() < 0.5


def test_a_noisy_view_is_recognised():
    problem = make_problem(9, n=15, p=15)
    true = replace(problem.true, noise_sd=np.where(np.arange(15) == 4, 5 * NOISE_PX, NOISE_PX))
    bundle = replace(problem, true=true).with_noise(np.random.default_rng(10))
    _, solution, _ = learn(bundle, Estimate(problem.start.views, problem.start.points_zyx, np.full(15, NOISE_PX)))
    noise = solution.estimate.noise_sd
    assert np.argmax(noise) == 4
    assert noise[4] > 2.5 * np.median(noise)


def test_a_fuzzy_track_counts_for_less():
    problem = make_problem(10, n=21, p=10, **GAUSSIAN)
    rng = np.random.default_rng(11)
    point = problem.bundle.observations.point
    noise = rng.normal(size=(len(point), 2)) * np.where(point == 2, 6.0, 1.0)[:, None]
    bundle, _, _ = learn(problem.with_noise(rng, noise), problem.start)
    relative = bundle.observations.relative_sd
    assert np.median(relative[point == 2]) > 3 * np.median(relative[point != 2])
