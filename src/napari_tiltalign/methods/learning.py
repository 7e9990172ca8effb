"""Empirical Bayes around the bundle adjustment: priors of the views and noise are learned from the series itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.bundle import Bundle, Estimate, Solution, solve
from napari_tiltalign.methods.posterior import Posterior, posterior
from napari_tiltalign.methods.priors import ViewPriors

SHRINKAGE_OBSERVATIONS = 8.0
"""Noise of a view, and of a track, is shrunk towards the common one as if it had this many coordinates more."""

_MIN_ROUNDS = 4
_NOISE_CHANGE = 0.02


def learn(
    bundle: Bundle, start: Estimate, *, rounds: int = 8, noise_floor: float = 0.01
) -> tuple[Bundle, Solution, Posterior]:
    """Solve a bundle while learning its priors (by the evidence) and noise (by expectation maximisation).

    The noise is a standard deviation per view times a factor per track: a fuzzy feature is followed less exactly in
    all views than a round bead.

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
        The bundle with the learned priors and relative noise, its solution, and the covariances there.
    """
    given_sd = bundle.observations.relative_sd
    solution = solve(bundle, start)
    for round_ in range(rounds):
        sure = posterior(bundle, solution)
        noise, factor = learned_noise(bundle, solution, sure, given_sd, noise_floor)
        observations = replace(bundle.observations, relative_sd=given_sd * factor[bundle.observations.point])
        bundle = bundle.replace(priors=learned_priors(bundle, solution.estimate, sure), observations=observations)
        before = solution.estimate
        solution = solve(bundle, Estimate(before.views, before.points_zyx, noise))
        if round_ + 1 >= _MIN_ROUNDS and np.abs(np.log(noise / before.noise_sd)).max() < _NOISE_CHANGE:
            break
    return bundle, solution, posterior(bundle, solution)


def learned_priors(bundle: Bundle, estimate: Estimate, sure: Posterior) -> ViewPriors:
    """Priors under which the observations are most likely; parameters that are not solved keep theirs."""
    return ViewPriors(
        *(
            prior.most_likely(estimate.views[:, kind], sure.parameter(kind)) if bundle.free[kind] else prior
            for kind, prior in enumerate(bundle.priors)
        )
    )


def learned_noise(
    bundle: Bundle, solution: Solution, sure: Posterior, given_sd: FloatArray, floor: float
) -> tuple[FloatArray, FloatArray]:
    """Noise from expected squared residuals, shrunk to what is common.

    Parameters
    ----------
    bundle, solution, sure
        The current solution.
    given_sd
        Shape (k,): relative standard deviations before anything was learned about tracks.
    floor
        Smallest noise of a view, pixels.

    Returns
    -------
    noise_sd, track_factor
        Shape (n,), pixels, and shape (p,), relative, with a geometric mean of 1.
    """
    observations, estimate = bundle.observations, solution.estimate
    n, p = len(estimate.views), len(estimate.points_zyx)
    view, point = observations.view, observations.point
    expected = (solution.residual_yx**2).sum(axis=1) + np.einsum("kii->k", sure.prediction)
    expected = solution.weight * expected / given_sd**2
    of_track = np.bincount(point, expected / estimate.noise_sd[view] ** 2, p)
    factor2 = (of_track + SHRINKAGE_OBSERVATIONS) / (2.0 * np.bincount(point, minlength=p) + SHRINKAGE_OBSERVATIONS)
    factor2 /= np.exp(np.average(np.log(factor2), weights=np.bincount(point, minlength=p)))
    expected = expected / factor2[point]
    common = expected.sum() / (2.0 * max(len(expected), 1))
    variance = (np.bincount(view, expected, n) + SHRINKAGE_OBSERVATIONS * common) / (
        2.0 * np.bincount(view, minlength=n) + SHRINKAGE_OBSERVATIONS
    )
    return np.maximum(np.sqrt(variance), floor), np.sqrt(factor2)
