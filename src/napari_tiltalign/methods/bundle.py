"""Bundle adjustment: views and 3D points that explain observed positions best, given priors of the views.

One solver for beads and patches. It finds the maximum a posteriori estimate of rotation, tilt, magnification and shift
of every view and of the position of every point. Errors are bivariate Student t (Lange, Little and Taylor 1989), so a
wrong observation loses its weight instead of pulling the solution. Each step is Levenberg-Marquardt on the normal
equations with the points eliminated by their Schur complement (Triggs et al. 2000, section 6)::

    | A  B | |views |   | g |         (A - B V^-1 B') views = g - B V^-1 h
    | B' V | |points| = | h |                       points = V^-1 (h - B' views)

What the observations cannot tell is fixed exactly: the shift of the view nearest to zero tilt is held (a common
translation), the common tilt and magnification have narrow priors (a rotation about the axis, a scale), and heights
have a wide prior around zero.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, SHIFT_Y, TILT, linearise, project

STUDENT_T_DEGREES = 4.0
"""Degrees of freedom of the error distribution; 4 tolerates a few per cent of outliers at little cost."""

_MAX_DAMPING_TRIES = 6


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """k positions seen; a pair of view and point occurs at most once.

    Attributes
    ----------
    view, point
        Shape (k,), int.
    position_yx
        Shape (k, 2), pixels from the image centre.
    relative_sd
        Shape (k,): how much less certain than the view's typical observation; 1 is typical.
    """

    view: NDArray[np.int64]
    point: NDArray[np.int64]
    position_yx: FloatArray
    relative_sd: FloatArray

    def __len__(self) -> int:
        return len(self.view)

    def take(self, keep: NDArray[np.generic]) -> Observations:
        """Return some of the observations (mask or indices)."""
        return Observations(self.view[keep], self.point[keep], self.position_yx[keep], self.relative_sd[keep])


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """What is to be solved.

    Attributes
    ----------
    observations
        What was seen where.
    priors
        Priors of the n views' rotation, tilt and magnification.
    x_tilt_deg
        Shape (n,), degrees; given, not solved.
    height_sd, height_mean
        Standard deviation of the points' z around a mean, pixels; the mean says where the rotation centre lies.
    free
        Whether rotation, tilt and magnification are solved or kept as they are in the start.
    student_t_degrees
        Degrees of freedom of the errors; `inf` for Gaussian errors.
    """

    observations: Observations
    priors: ViewPriors
    x_tilt_deg: FloatArray
    height_sd: float
    height_mean: float = 0.0
    free: tuple[bool, bool, bool] = (True, True, True)
    student_t_degrees: float = STUDENT_T_DEGREES

    def replace(self, **changes: object) -> Bundle:
        """Return a copy with some fields replaced."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Values of everything that is solved.

    Attributes
    ----------
    views
        Shape (n, 5), see `projection`.
    points_zyx
        Shape (p, 3), pixels.
    noise_sd
        Shape (n,): standard deviation of a coordinate of a typical observation in every view, pixels.
    """

    views: FloatArray
    points_zyx: FloatArray
    noise_sd: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A solved bundle.

    Attributes
    ----------
    estimate
        The maximum a posteriori values.
    residual_yx
        Shape (k, 2): observed minus predicted, pixels.
    weight
        Shape (k,): robust weights, (nu + 2) / (nu + r^2 / sd^2).
    cost
        Negative log posterior, up to a constant.
    converged
        Whether the last step lowered the cost by less than the tolerance.
    iterations
        How many steps were taken.
    """

    estimate: Estimate
    residual_yx: FloatArray
    weight: FloatArray
    cost: float
    converged: bool
    iterations: int


@dataclass(frozen=True, slots=True, eq=False)
class NormalEquations:
    """The system of one Gauss-Newton step; a = number of view parameters that are solved.

    Attributes
    ----------
    active
        Indices of these parameters among the 5 n, shape (a,).
    a_matrix, b_matrix, v_matrix
        Shapes (a, a), (a, p, 3) and (p, 3, 3).
    view_gradient, point_gradient
        Shapes (a,) and (p, 3): negative gradients.
    by_view, by_point
        Jacobians of every point in every view, shapes (n, 5, p, 2) and (n, 2, 3).
    information
        Shape (k,): what every observation tells about its position, 1 / square pixels.
    """

    active: NDArray[np.intp]
    a_matrix: FloatArray
    b_matrix: FloatArray
    v_matrix: FloatArray
    view_gradient: FloatArray
    point_gradient: FloatArray
    by_view: FloatArray
    by_point: FloatArray
    information: FloatArray

    def schur(self, v_inverse: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return B V^-1 as (a, 3 p) and the Schur complement A - B V^-1 B' as (a, a)."""
        a = len(self.active)
        b = self.b_matrix
        # written out, because a product of many (1, 3) with many (3, 3) matrices is slow
        parts = [b[:, :, axis, None] * v_inverse[:, axis] for axis in range(3)]
        bv: FloatArray = (parts[0] + parts[1] + parts[2]).reshape(a, -1)
        return bv, self.a_matrix - bv @ b.reshape(a, -1).T


def solve(bundle: Bundle, start: Estimate, *, max_iterations: int = 20, tolerance: float = 1e-4) -> Solution:
    """Find the maximum a posteriori estimate.

    Parameters
    ----------
    bundle
        Observations and priors.
    start
        Where to start; `noise_sd` is used as it is.
    max_iterations
        Steps at most.
    tolerance
        Stop when a step lowers the negative log posterior by less than this.
    """
    precisions = [prior.precision() for prior in bundle.priors]
    current, damping, converged, steps = start, 1e-6, False, 0
    current_cost = _cost(bundle, current, precisions)
    while steps < max_iterations and not converged:
        steps += 1
        system = normal_equations(bundle, current, precisions)
        for _ in range(_MAX_DAMPING_TRIES):
            candidate = _step(system, current, damping)
            cost = np.inf if candidate is None else _cost(bundle, candidate, precisions)
            if candidate is not None and cost < current_cost + 1e-9:
                break
            damping = max(damping * 10, 1e-4)
        else:
            # if steps exist but none helps any more, this is the minimum to machine precision
            converged = candidate is not None and bool(np.isfinite(current_cost))
            break
        gain, current, current_cost, damping = current_cost - cost, candidate, cost, max(damping / 5, 1e-9)
        converged = gain < tolerance
    residual = residuals(bundle, current)
    return Solution(current, residual, robust_weights(bundle, current, residual), float(current_cost), converged, steps)


def residuals(bundle: Bundle, estimate: Estimate) -> FloatArray:
    """Observed minus predicted positions, shape (k, 2), pixels."""
    seen = project(estimate.views, estimate.points_zyx, bundle.x_tilt_deg)
    observations = bundle.observations
    difference: FloatArray = observations.position_yx - seen[observations.view, observations.point]
    return difference


def observation_variance(bundle: Bundle, estimate: Estimate) -> FloatArray:
    """Variance of a coordinate of every observation, shape (k,), square pixels."""
    observations = bundle.observations
    variance: FloatArray = (estimate.noise_sd[observations.view] * observations.relative_sd) ** 2
    return variance


def robust_weights(bundle: Bundle, estimate: Estimate, residual_yx: FloatArray) -> FloatArray:
    """Weights of the bivariate Student t distribution, shape (k,)."""
    nu = bundle.student_t_degrees
    if not np.isfinite(nu):
        return np.ones(len(residual_yx))
    distance2 = (residual_yx**2).sum(axis=1) / observation_variance(bundle, estimate)
    weights: FloatArray = (nu + 2.0) / (nu + distance2)
    return weights


def expected_information(student_t_degrees: float) -> float:
    """Fisher information of a bivariate Student t observation, relative to a normal one of the same sd parameter."""
    if not np.isfinite(student_t_degrees):
        return 1.0
    return (student_t_degrees + 2.0) / (student_t_degrees + 4.0)


def reference_view(estimate: Estimate) -> int:
    """The view nearest to zero tilt, whose shift is held."""
    return int(np.argmin(np.abs(estimate.views[:, TILT])))


def normal_equations(
    bundle: Bundle, estimate: Estimate, prior_precisions: list[FloatArray] | None = None
) -> NormalEquations:
    """Linearise at an estimate (see the module's docstring).

    The gradients are exact. The matrices weigh an observation by the information it is expected to hold, which with
    heavy tails is less than its robust weight says (Lange, Little and Taylor 1989): steps of this length converge
    fastest, and the inverse is an honest covariance.
    """
    if prior_precisions is None:
        prior_precisions = [prior.precision() for prior in bundle.priors]
    n, p = len(estimate.views), len(estimate.points_zyx)
    observations = bundle.observations
    seen = observations.view, observations.point
    predicted, by_view, by_point = linearise(estimate.views, estimate.points_zyx, bundle.x_tilt_deg)
    residual = observations.position_yx - predicted[seen]
    weight = robust_weights(bundle, estimate, residual) / observation_variance(bundle, estimate)
    information = expected_information(bundle.student_t_degrees) * weight

    # on the grid of views and points, with nothing where a view does not see a point: few large products
    pull, on_grid = np.zeros((n, p, 2)), np.zeros((n, p))
    pull[seen] = weight[:, None] * residual
    on_grid[seen] = information
    informed = by_view * on_grid[:, None, :, None]
    flat = by_view.reshape(n, N_VIEW_PARAMETERS, -1)
    blocks = informed.reshape(flat.shape) @ flat.transpose(0, 2, 1)
    view_gradient = (flat @ pull.reshape(n, -1, 1))[:, :, 0]
    by_points = (by_point.transpose(0, 2, 1) @ by_point).reshape(n, 9)
    v_matrix = (on_grid.T @ by_points).reshape(p, 3, 3)
    point_gradient = pull.transpose(1, 0, 2).reshape(p, -1) @ by_point.reshape(-1, 3)
    coupling = informed.reshape(n, -1, 2) @ by_point

    a_matrix = np.zeros((n, N_VIEW_PARAMETERS, n, N_VIEW_PARAMETERS))
    a_matrix[np.arange(n), :, np.arange(n), :] = blocks
    for kind, (prior, inverse) in enumerate(zip(bundle.priors, prior_precisions, strict=True)):
        a_matrix[:, kind, :, kind] += inverse
        view_gradient[:, kind] -= inverse @ (estimate.views[:, kind] - prior.mean)
    v_matrix[:, 0, 0] += bundle.height_sd**-2
    point_gradient[:, 0] -= (estimate.points_zyx[:, 0] - bundle.height_mean) / bundle.height_sd**2

    active = _active_parameters(bundle, estimate)
    size = n * N_VIEW_PARAMETERS
    return NormalEquations(
        active,
        a_matrix.reshape(size, size)[np.ix_(active, active)],
        coupling.reshape(size, p, 3)[active],
        v_matrix,
        view_gradient.ravel()[active],
        point_gradient,
        by_view,
        by_point,
        information,
    )


def _active_parameters(bundle: Bundle, estimate: Estimate) -> NDArray[np.intp]:
    """Indices among the 5 n view parameters that are solved."""
    solved = np.ones(estimate.views.shape, dtype=bool)
    solved[:, : len(bundle.free)] = bundle.free
    solved[reference_view(estimate), SHIFT_Y:] = False
    return np.flatnonzero(solved)


def _cost(bundle: Bundle, estimate: Estimate, prior_precisions: list[FloatArray]) -> float:
    distance2 = (residuals(bundle, estimate) ** 2).sum(axis=1) / observation_variance(bundle, estimate)
    nu = bundle.student_t_degrees
    misfit = 0.5 * (nu + 2.0) * np.log1p(distance2 / nu).sum() if np.isfinite(nu) else 0.5 * distance2.sum()
    for kind, (prior, inverse) in enumerate(zip(bundle.priors, prior_precisions, strict=True)):
        deviation = estimate.views[:, kind] - prior.mean
        misfit += 0.5 * deviation @ inverse @ deviation
    return float(misfit + 0.5 * (((estimate.points_zyx[:, 0] - bundle.height_mean) / bundle.height_sd) ** 2).sum())


def _step(system: NormalEquations, current: Estimate, damping: float) -> Estimate | None:
    """One damped Gauss-Newton step, or None if the system is singular."""
    diagonal = np.einsum("pii->pi", system.v_matrix)
    try:
        v_inverse = np.linalg.inv(system.v_matrix + damping * diagonal[:, :, None] * np.eye(3))
        bv, schur = system.schur(v_inverse)
        schur[np.diag_indices(len(schur))] += damping * np.diag(system.a_matrix)
        right = system.view_gradient - bv @ system.point_gradient.ravel()
        view_step = cho_solve(cho_factor(schur, check_finite=False), right, check_finite=False)
    except (LinAlgError, np.linalg.LinAlgError):
        return None
    back = system.point_gradient - np.tensordot(view_step, system.b_matrix, 1)
    views = current.views.copy()
    views.ravel()[system.active] += view_step
    return Estimate(views, current.points_zyx + np.einsum("pxy,py->px", v_inverse, back), current.noise_sd)
