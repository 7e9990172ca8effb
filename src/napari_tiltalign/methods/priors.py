"""Priors of per-view parameters as Gaussian processes along the series, learned by empirical Bayes.

A parameter of the views (axis angle, tilt, log magnification) is a common offset, a smooth drift, and independent
noise per view::

    K = common^2 1 1' + smooth^2 exp(-d^2 / 2 length^2) + independent^2 I        d = distance in tilt steps

How much of each there is differs between microscopes and specimens, so it is learned from the series itself: by the
evidence (MacKay 1992), or by expectation maximisation (Dempster, Laird and Rubin 1977), in which the hyper-parameters
maximise the expected log density of the parameters under their posterior. A weak log-normal hyper-prior keeps short
series sane.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from napari_tiltalign.geometry import FloatArray, frozen_array

_JITTER = 1e-12
_SAME_TILT_DEG = 0.1
_HYPER_SD = np.array([1.5, 1.5, 0.7])
"""Standard deviations of the log-normal hyper-prior: independent, smooth, length."""


@dataclass(frozen=True, slots=True, eq=False)
class GaussianProcessPrior:
    """Prior of one parameter over n views.

    Attributes
    ----------
    mean
        Shape (n,), in the unit of the parameter.
    position
        Shape (n,): place of every view along the series, in tilt steps.
    common_sd, independent_sd, smooth_sd
        Standard deviations of the common offset, of the noise per view and of the smooth drift, unit of the parameter.
    length
        Correlation length of the drift, tilt steps.
    lower, upper
        Limits of (independent_sd, smooth_sd, length) while learning.
    typical
        Centre of the hyper-prior of (independent_sd, smooth_sd, length).
    """

    mean: FloatArray
    position: FloatArray
    common_sd: float
    independent_sd: float
    smooth_sd: float
    length: float
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    typical: tuple[float, float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", frozen_array(self.mean))
        object.__setattr__(self, "position", frozen_array(self.position))

    def covariance(self) -> FloatArray:
        """Return the prior covariance, shape (n, n)."""
        return self._covariance(self.independent_sd, self.smooth_sd, self.length)

    def precision(self) -> FloatArray:
        """Return the inverse of the prior covariance, shape (n, n)."""
        inverse: FloatArray = np.linalg.inv(self.covariance())
        return inverse

    def take(self, index: np.ndarray) -> GaussianProcessPrior:
        """Return the prior of some of the views."""
        return dataclasses.replace(self, mean=self.mean[index], position=self.position[index])

    def fixed(self, independent_sd: float, smooth_sd: float, length: float) -> GaussianProcessPrior:
        """Return the prior with given hyper-parameters."""
        return dataclasses.replace(self, independent_sd=independent_sd, smooth_sd=smooth_sd, length=length)

    def learned(self, values: FloatArray, covariance: FloatArray) -> GaussianProcessPrior:
        """Return the prior with the hyper-parameters that suit a posterior best (the M step).

        Parameters
        ----------
        values, covariance
            Posterior mean (n,) and covariance (n, n) of the parameter.
        """
        deviation = values - self.mean
        moment = np.outer(deviation, deviation) + covariance
        start = np.log([self.independent_sd, self.smooth_sd, self.length])
        bounds = list(zip(np.log(self.lower), np.log(self.upper), strict=True))
        found = minimize(
            self._expected_cost, start, args=(moment,), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 15, "ftol": 1e-5},
        )  # fmt: skip
        return self.fixed(*(float(value) for value in np.exp(found.x)))

    def most_likely(self, values: FloatArray, covariance: FloatArray) -> GaussianProcessPrior:
        """Return the prior under which the data are most likely, all values integrated out (evidence, MacKay 1992).

        Expectation maximisation climbs to the same place, but where single views hardly vary it takes hundreds of
        rounds, and until then the prior is too wide. What the data tell of the parameter is what the posterior knows
        beyond this prior, ``L = C^-1 - K^-1`` with mean ``L^-1 b``, ``b = C^-1 (values - mean)``. For another prior K::

            log p(data) = b' (K^-1 + L)^-1 b / 2 - log|1 + K L| / 2

        Parameters
        ----------
        values, covariance
            Posterior mean (n,) and covariance C (n, n) of the parameter under this prior.
        """
        known = np.linalg.inv(covariance)
        pull = known @ (values - self.mean)
        size, directions = np.linalg.eigh(known - self.precision())
        told = (directions * np.maximum(size, 0.0)) @ directions.T
        start = np.log([self.independent_sd, self.smooth_sd, self.length])
        bounds = list(zip(np.log(self.lower), np.log(self.upper), strict=True))
        found = minimize(
            self._evidence_cost, start, args=(told, pull), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 15, "ftol": 1e-5},
        )  # fmt: skip
        return self.fixed(*(float(value) for value in np.exp(found.x)))

    def _evidence_cost(self, logs: FloatArray, told: FloatArray, pull: FloatArray) -> tuple[float, FloatArray]:
        """Negative log evidence and its gradient in the logarithms of the hyper-parameters."""
        try:
            half = cholesky(self._covariance(*np.exp(logs)), lower=True)
            factor = cholesky(np.eye(len(pull)) + half.T @ told @ half, lower=True)
        except LinAlgError:
            return 1e12, np.zeros(3)
        root = solve_triangular(factor, half.T, lower=True)  # root' root = (K^-1 + L)^-1
        mean = root.T @ (root @ pull)
        both, left = root @ told, pull - told @ mean
        gradient = self._by_logs(logs, told - both.T @ both - np.outer(left, left))
        hyper = (logs - np.log(self.typical)) / _HYPER_SD
        cost = np.log(np.diag(factor)).sum() - 0.5 * float(pull @ mean) + 0.5 * float(hyper @ hyper)
        return float(cost), gradient + hyper / _HYPER_SD

    def _covariance(self, independent_sd: float, smooth_sd: float, length: float) -> FloatArray:
        steps = self.position[:, None] - self.position[None]
        covariance = self.common_sd**2 + smooth_sd**2 * np.exp(-0.5 * (steps / length) ** 2)
        covariance[np.diag_indices(len(steps))] += independent_sd**2 + _JITTER
        return covariance

    def _expected_cost(self, logs: FloatArray, moment: FloatArray) -> tuple[float, FloatArray]:
        """Negative expected log density and its gradient in the logarithms of the hyper-parameters."""
        independent_sd, smooth_sd, length = np.exp(logs)
        covariance = self._covariance(independent_sd, smooth_sd, length)
        try:
            lower = cholesky(covariance, lower=True)
        except LinAlgError:
            return 1e12, np.zeros(3)
        inverse = cho_solve((lower, True), np.eye(len(covariance)))
        explained = inverse @ moment
        pull = (logs - np.log(self.typical)) / _HYPER_SD
        cost = np.log(np.diag(lower)).sum() + 0.5 * np.trace(explained) + 0.5 * pull @ pull
        gradient = self._by_logs(logs, inverse - explained @ inverse)
        return float(cost), gradient + pull / _HYPER_SD

    def _by_logs(self, logs: FloatArray, sensitivity: FloatArray) -> FloatArray:
        """Half the trace of a sensitivity (n, n) times the derivatives of the covariance by the logarithms."""
        independent_sd, smooth_sd, length = np.exp(logs)
        steps2 = (self.position[:, None] - self.position[None]) ** 2
        smooth = sensitivity * (smooth_sd**2 * np.exp(-0.5 * steps2 / length**2))
        by_independent = 2 * independent_sd**2 * np.trace(sensitivity)
        return 0.5 * np.array([by_independent, 2 * smooth.sum(), np.sum(smooth * steps2) / length**2])


@dataclass(frozen=True, slots=True, eq=False)
class ViewPriors:
    """Priors of everything a view has besides its shift.

    Attributes
    ----------
    rotation_deg
        Of the in-plane angle of the tilt axis, degrees.
    tilt_deg
        Of the tilt, degrees; its small common part fixes the free rotation about the axis.
    log_magnification
        Of the natural logarithm of the magnification; its small common part fixes the free scale.
    """

    rotation_deg: GaussianProcessPrior
    tilt_deg: GaussianProcessPrior
    log_magnification: GaussianProcessPrior

    def __iter__(self):  # type: ignore[no-untyped-def]
        """Iterate in the order of the view parameters: rotation, tilt, log magnification."""
        return iter((self.rotation_deg, self.tilt_deg, self.log_magnification))

    def take(self, index: np.ndarray) -> ViewPriors:
        """Return the priors of some of the views."""
        return ViewPriors(*(prior.take(index) for prior in self))


def default_priors(nominal_tilt_deg: FloatArray, axis_deg: float, axis_sd_deg: float = 8.0) -> ViewPriors:
    """Priors before anything is learned, wide enough for any microscope.

    Parameters
    ----------
    nominal_tilt_deg
        Shape (n,), degrees, in any order.
    axis_deg
        Nominal tilt axis, degrees.
    axis_sd_deg
        How far off the nominal axis may be, degrees (standard deviation).

    Returns
    -------
    ViewPriors
        Typical values: rotation 0.1 (independent) and 0.2 (smooth) deg, tilt 0.2 and 0.1 deg, magnification 3e-4 and
        6e-4, drift over 5 tilt steps.
    """
    tilt = np.asarray(nominal_tilt_deg, dtype=np.float64)
    position = tilt / tilt_step_deg(tilt)

    def prior(mean: FloatArray, common: float, typical: tuple[float, float, float],
              lower: float, upper: float) -> GaussianProcessPrior:  # fmt: skip
        return GaussianProcessPrior(
            mean, position, common, *typical, (lower, lower, 2.0), (upper, upper, 12.0), typical
        )  # fmt: skip

    return ViewPriors(
        prior(np.full(tilt.size, axis_deg), axis_sd_deg, (0.1, 0.2, 5.0), 0.005, 3.0),
        prior(tilt, 0.02, (0.2, 0.1, 5.0), 0.005, 3.0),
        prior(np.zeros(tilt.size), 1e-5, (3e-4, 6e-4, 5.0), 2e-5, 0.02),
    )


def tilt_step_deg(nominal_tilt_deg: FloatArray) -> float:
    """Median distance between neighbouring tilts, degrees; images at the same tilt (within 0.1 deg) count as one."""
    gaps = np.diff(np.sort(nominal_tilt_deg))
    gaps = gaps[gaps > _SAME_TILT_DEG]
    return float(np.median(gaps)) if gaps.size else 1.0
