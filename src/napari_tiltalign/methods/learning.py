"""Empirical Bayes around the bundle adjustment: priors of the views and noise are learned from the series itself."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.bundle import Bundle, Estimate, Solution, solve
from napari_tiltalign.methods.posterior import Posterior, posterior
from napari_tiltalign.methods.priors import ViewPriors

SHRINKAGE_OBSERVATIONS = 8.0
"""Noise of a view is shrunk towards the common one as if it had this many observations more."""

_MIN_ROUNDS = 4
_NOISE_CHANGE = 0.02


def learn(
    bundle: Bundle, start: Estimate, *, rounds: int = 8, noise_floor: float = 0.01
) -> tuple[Bundle, Solution, Posterior]:
    """Solve a bundle while learning its priors and noise by expectation maximisation.

    Parameters
    ----------
    bundle
        What to solve; its priors are where learning starts.
    start
        Start values, with a guess of the noise.
    rounds
        Rounds of learning at most.
    noise_floor
        Smallest noise of a view, pixels.

    Returns
    -------
    Bundle, Solution, Posterior
        The bundle with the learned priors, its solution, and the covariances there.
    """
    solution = solve(bundle, start)
    for round_ in range(rounds):
        sure = posterior(bundle, solution)
        noise = learned_noise(bundle, solution, sure, noise_floor)
        bundle = bundle.replace(priors=learned_priors(bundle, solution.estimate, sure))
        before = solution.estimate
        solution = solve(bundle, Estimate(before.views, before.points_zyx, noise))
        if round_ + 1 >= _MIN_ROUNDS and np.abs(np.log(noise / before.noise_sd)).max() < _NOISE_CHANGE:
            break
    return bundle, solution, posterior(bundle, solution)


def learned_priors(bundle: Bundle, estimate: Estimate, sure: Posterior) -> ViewPriors:
    """The M step of the priors; parameters that are not solved keep theirs."""
    return ViewPriors(
        *(
            prior.learned(estimate.views[:, kind], sure.parameter(kind)) if bundle.free[kind] else prior
            for kind, prior in enumerate(bundle.priors)
        )
    )


def learned_noise(bundle: Bundle, solution: Solution, sure: Posterior, floor: float) -> FloatArray:
    """Noise of every view from its expected squared residuals, shrunk to the common one, shape (n,), pixels."""
    observations = bundle.observations
    expected = (solution.residual_yx**2).sum(axis=1) + np.einsum("kii->k", sure.prediction)
    expected = solution.weight * expected / observations.relative_sd**2
    n = len(solution.estimate.views)
    total = np.bincount(observations.view, expected, n)
    count = np.bincount(observations.view, minlength=n)
    common = expected.sum() / (2.0 * max(len(expected), 1))
    variance = (total + SHRINKAGE_OBSERVATIONS * common) / (2.0 * count + SHRINKAGE_OBSERVATIONS)
    noise: FloatArray = np.maximum(np.sqrt(variance), floor)
    return noise
