"""Priors of the views: their covariance, and learning how smooth and how noisy a series is."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.methods.priors import GaussianProcessPrior, default_priors, tilt_step_deg

N = 41
WIDE = ((1e-3, 1e-3, 2.0), (10.0, 10.0, 12.0))


def make_prior(independent_sd=0.15, smooth_sd=0.4, length=6.0, common_sd=1.0, n=N) -> GaussianProcessPrior:
    return GaussianProcessPrior(
        np.linspace(-1.0, 1.0, n), np.arange(n), common_sd, independent_sd, smooth_sd, length, *WIDE, (0.2, 0.2, 5.0)
    )


def drawn(prior: GaussianProcessPrior, rng: np.random.Generator) -> np.ndarray:
    return rng.multivariate_normal(prior.mean, prior.covariance())


def test_covariance_is_common_plus_smooth_plus_independent():
    prior = make_prior(n=7)
    covariance = prior.covariance()
    for i in range(7):
        for j in range(7):
            expected = 1.0**2 + 0.4**2 * np.exp(-((i - j) ** 2) / (2 * 6.0**2)) + 0.15**2 * (i == j)
            assert covariance[i, j] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    "prior",
    [
        make_prior(),
        make_prior(independent_sd=0.005, smooth_sd=3.0, length=12.0, common_sd=8.0),
        make_prior(common_sd=1e-5, independent_sd=2e-5, smooth_sd=6e-4),
    ],
    ids=["ordinary", "smooth and nearly noise-free", "magnification"],
)
def test_precision_is_the_inverse(prior):
    np.testing.assert_allclose(prior.precision() @ prior.covariance(), np.eye(N), atol=1e-4)


@pytest.mark.parametrize("index", [np.array([5, 1, 8]), np.arange(N) % 3 == 0], ids=["indices", "mask"])
def test_prior_of_some_views_is_the_marginal(index):
    prior = make_prior()
    chosen = np.arange(N)[index]
    np.testing.assert_allclose(prior.take(index).covariance(), prior.covariance()[np.ix_(chosen, chosen)])
    np.testing.assert_array_equal(prior.take(index).mean, prior.mean[chosen])


@pytest.mark.parametrize("hyper", [(0.1, 0.3, 5.0), (0.02, 1.5, 2.5), (2.0, 0.05, 11.0)], ids=str)
def test_gradient_of_the_expected_cost_equals_finite_differences(hyper):
    prior, rng = make_prior(n=13), np.random.default_rng(3)
    deviation = rng.normal(0.0, 0.5, 13)
    spread = rng.normal(0.0, 0.1, (13, 13))
    moment = np.outer(deviation, deviation) + spread @ spread.T
    logs, step = np.log(hyper), 1e-5
    _, gradient = prior._expected_cost(logs, moment)
    numeric = [
        (prior._expected_cost(logs + change, moment)[0] - prior._expected_cost(logs - change, moment)[0]) / (2 * step)
        for change in step * np.eye(3)
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("independent_sd", "smooth_sd", "length"),
    [(0.02, 0.4, 6.0), (0.3, 0.05, 5.0), (0.15, 0.4, 4.0)],
    ids=["smooth", "noisy", "both"],
)
def test_learning_recovers_what_samples_were_drawn_with(independent_sd, smooth_sd, length):
    true = make_prior(independent_sd, smooth_sd, length)
    rng = np.random.default_rng(1)
    learned = [make_prior(0.1, 0.1, 5.0).learned(drawn(true, rng), np.zeros((N, N))) for _ in range(20)]
    ratios = np.log([[p.independent_sd / independent_sd, p.smooth_sd / smooth_sd] for p in learned])
    typical = np.exp(np.median(ratios, axis=0))
    larger = int(smooth_sd > independent_sd)
    assert typical[larger] == pytest.approx(1.0, abs=0.25)
    # the smaller part is known less well: the hyper-prior has a say
    assert 0.4 < typical[1 - larger] < 2.5
    total = np.exp(np.median([np.log(np.hypot(p.independent_sd, p.smooth_sd)) for p in learned]))
    assert total == pytest.approx(np.hypot(independent_sd, smooth_sd), rel=0.25)


def test_uncertainty_counts_as_spread():
    """Values known only with an error of 0.5 are consistent with a spread of 0.5, even if they all are zero."""
    prior = make_prior(0.1, 0.1, 5.0)
    learned = prior.learned(prior.mean, 0.5**2 * np.eye(N))
    assert learned.independent_sd == pytest.approx(0.5, rel=0.1)
    assert learned.independent_sd > 3 * prior.learned(prior.mean, 0.1**2 * np.eye(N)).independent_sd


def test_learning_stays_within_its_limits():
    prior = make_prior()
    for values in (prior.mean, prior.mean + 1e4 * (np.arange(N) % 2)):
        learned = prior.learned(values, np.zeros((N, N)))
        found = (learned.independent_sd, learned.smooth_sd, learned.length)
        assert all(
            low * 0.999 <= value <= high * 1.001
            for low, value, high in zip(prior.lower, found, prior.upper, strict=True)
        )


@pytest.mark.parametrize(
    ("tilts", "step"),
    [
        ([0, 3, -3, -6, 6], 3.0),
        ([0.0], 1.0),
        ([], 1.0),
        ([0, 2, 4, 4, 6], 2.0),
        ([0, 0, 3, 3, 6, 6], 3.0),
        ([-60.01, -60.0, -57.01, -57.0, -54.01, -54.0], 3.0),
        ([5, 5, 5], 1.0),
        ([0, 1, 2, 30, 31, 32], 1.0),
    ],
    ids=["any order", "one", "none", "row_21_angle_twice", "row_21_every_angle_twice", "nearly twice", "all equal",
         "row_28_gap"],
)  # fmt: skip
def test_tilt_step(tilts, step):
    assert tilt_step_deg(np.array(tilts, dtype=float)) == pytest.approx(step, abs=0.02)


def test_default_priors_depend_on_the_tilts_not_on_their_order():
    tilts = np.array([0.0, 3.0, -3.0, -6.0, 6.0, 9.0])
    order = np.argsort(tilts)
    for prior, sorted_prior in zip(default_priors(tilts, 5.0), default_priors(tilts[order], 5.0), strict=True):
        np.testing.assert_allclose(prior.covariance()[np.ix_(order, order)], sorted_prior.covariance())
        np.testing.assert_allclose(prior.mean[order], sorted_prior.mean)


def test_row_21_equal_angles_leave_the_prior_invertible():
    for prior in default_priors(np.repeat(np.arange(-9.0, 10.0, 3.0), 2), 0.0):
        np.testing.assert_allclose(prior.precision() @ prior.covariance(), np.eye(14), atol=1e-6)


def test_the_evidence_is_where_expectation_maximisation_ends():
    """Values seen with an error of their own: hundreds of rounds of one are one round of the other."""
    true, error_sd = make_prior(0.01, 0.2, 5.0), 0.05
    rng = np.random.default_rng(3)
    seen = drawn(true, rng) + error_sd * rng.normal(size=N)

    def posterior(prior):
        gain = prior.covariance() @ np.linalg.inv(prior.covariance() + error_sd**2 * np.eye(N))
        return prior.mean + gain @ (seen - prior.mean), prior.covariance() - gain @ prior.covariance()

    by_steps = make_prior(0.1, 0.1, 5.0)
    for _ in range(400):
        by_steps = by_steps.learned(*posterior(by_steps))
    at_once = make_prior(0.1, 0.1, 5.0)
    for _ in range(2):
        at_once = at_once.most_likely(*posterior(at_once))
    for name in ("independent_sd", "smooth_sd", "length"):
        assert getattr(at_once, name) == pytest.approx(getattr(by_steps, name), rel=0.08), name
    few = make_prior(0.1, 0.1, 5.0)
    for _ in range(8):
        few = few.learned(*posterior(few))
    assert few.independent_sd > 1.1 * by_steps.independent_sd, "a case in which it matters"


def test_the_gradient_of_the_evidence_is_its_slope():
    rng = np.random.default_rng(4)
    half = rng.normal(size=(N, N))
    told = 40.0 * half @ half.T
    pull, logs, prior = told @ rng.normal(size=N) * 0.2, np.log([0.05, 0.2, 5.0]), make_prior()
    _, slope = prior._evidence_cost(logs, told, pull)
    steps = 1e-5 * np.eye(3)
    by_hand = [
        (prior._evidence_cost(logs + step, told, pull)[0] - prior._evidence_cost(logs - step, told, pull)[0]) / 2e-5
        for step in steps
    ]
    np.testing.assert_allclose(slope, by_hand, rtol=1e-4)
