"""How sure a bundle adjustment is: covariances, leave-out residuals, and what the data cannot tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.bundle import (
    Bundle,
    NormalEquations,
    Solution,
    expected_information,
    normal_equations,
)
from napari_tiltalign.methods.certainty import relative_sd
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS

KINDS = ("rotation", "tilt", "magnification")
_WEAK = 0.25
"""Information, in units of the typical prior's, below which a combination counts as not determined."""


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Covariances at a solution, by the Gaussian (Laplace) approximation.

    Attributes
    ----------
    views
        Shape (n, 5, n, 5): covariance of the view parameters against the view whose shift is held.
    matrices
        Shape (n, 2, 3): what takes points to images, pixels.
    points_zyx
        Shape (p, 3, 3), free of what all points can do together without any image telling: a displacement, a turn
        about the tilt axis, a change of size.
    prediction
        Shape (k, 2, 2): covariance of the predicted position of every observation.
    leave_out_yx
        Shape (k, 2): residual of every observation if it is left out, pixels.
    """

    views: FloatArray
    matrices: FloatArray
    points_zyx: FloatArray
    prediction: FloatArray
    leave_out_yx: FloatArray

    def view_sd(self) -> FloatArray:
        """Standard deviation of every view parameter, shape (n, 5), common motions of the specimen taken out."""
        return relative_sd(self.covariance, self.matrices)

    @property
    def covariance(self) -> FloatArray:
        """Covariance of the view parameters as a matrix, shape (5 n, 5 n)."""
        size = len(self.matrices) * N_VIEW_PARAMETERS
        return self.views.reshape(size, size)

    def parameter(self, kind: int) -> FloatArray:
        """Covariance (n, n) of one parameter over the views: 0 rotation, 1 tilt, 2 log magnification."""
        covariance: FloatArray = self.views[:, kind, :, kind]
        return covariance


def posterior(bundle: Bundle, solution: Solution) -> Posterior:
    """Covariances and leave-out residuals at a solution."""
    estimate, observations = solution.estimate, bundle.observations
    n, p = len(estimate.views), len(estimate.points_zyx)
    system = normal_equations(bundle, estimate)
    v_inverse = np.linalg.inv(system.v_matrix)
    bv, schur = system.schur(v_inverse)
    solved = cho_solve(cho_factor(schur), np.eye(len(schur)))

    size = n * N_VIEW_PARAMETERS
    views = np.zeros((size, size))
    views[np.ix_(system.active, system.active)] = solved
    coupling = np.zeros((size, p, 3))
    cross = (-solved @ bv).reshape(-1, p, 3)
    coupling[system.active] = cross
    spread = bv.reshape(-1, p, 3)
    points = v_inverse - np.einsum("apx,apy->pxy", spread, cross)

    views4 = views.reshape(n, N_VIEW_PARAMETERS, n, N_VIEW_PARAMETERS)
    of_views = views4[np.arange(n), :, np.arange(n), :]
    prediction = _prediction(system, of_views, coupling.reshape(n, -1, 3), points)[
        observations.view, observations.point
    ]
    leave_out = _leave_out(solution.residual_yx, prediction, system.information, bundle.student_t_degrees)
    common = common_motions(estimate.points_zyx, float(np.mean(bundle.x_tilt_deg)))
    relative_points = _without(points, common, v_inverse, spread, solved)
    return Posterior(views4, system.by_point, relative_points, prediction, leave_out)


def _prediction(system: NormalEquations, of_views: FloatArray, coupling: FloatArray, points: FloatArray) -> FloatArray:
    """Covariances (n, p, 2, 2) of where every view sees every point.

    Parameters
    ----------
    system
        With the Jacobians J by view and M by point: J C J' + J X M' + M X' J' + M P M'.
    of_views, coupling, points
        Covariances C (n, 5, 5) of every view, X (n, 5 p, 3) of views with points, P (p, 3, 3) of points.
    """
    n, _, p, _ = shape = system.by_view.shape
    by_view, by_point = system.by_view, system.by_point
    spread = (of_views @ by_view.reshape(n, N_VIEW_PARAMETERS, -1)).reshape(shape)
    mixed = (coupling @ by_point.transpose(0, 2, 1)).reshape(shape)
    # half of J C J' here and the other half with the transpose
    half = np.einsum("napr,naps->nprs", by_view, 0.5 * spread + mixed)
    moved = (by_point.reshape(-1, 3) @ points.transpose(1, 0, 2).reshape(3, -1)).reshape(n, 2, p, 3)
    own = moved.reshape(n, -1, 3) @ by_point.transpose(0, 2, 1)
    prediction: FloatArray = half + half.transpose(0, 1, 3, 2) + own.reshape(n, 2, p, 2).transpose(0, 2, 1, 3)
    return prediction


def _leave_out(residual: FloatArray, prediction: FloatArray, information: FloatArray, nu: float) -> FloatArray:
    """Residuals after one Newton step without the observation, r + C (I - H C)^-1 W r.

    H is the information of the observation that goes, W its weight in the gradient; without heavy tails they are equal
    and this is (I - C W)^-1 r.
    """
    remaining = np.eye(2) - prediction * information[:, None, None]
    pull = residual * (information / expected_information(nu))[:, None]
    moved = prediction @ np.linalg.solve(remaining, pull[:, :, None])
    left_out: FloatArray = residual + moved[:, :, 0]
    return left_out


def common_motions(points_zyx: FloatArray, x_tilt_deg: float) -> FloatArray:
    """Orthonormal motions of all points together that no image can tell apart from a change of all views.

    Parameters
    ----------
    points_zyx
        Shape (p, 3).
    x_tilt_deg
        X tilt of the views, degrees.

    Returns
    -------
    FloatArray
        Shape (p, 3, g), g = 5 for points in space: displacements, a turn about the tilt axis, and a change of size.
    """
    apart = points_zyx - points_zyx.mean(axis=0)
    xi = np.deg2rad(x_tilt_deg)
    axis_zyx = np.array([-np.sin(xi), np.cos(xi), 0.0])
    motions = [np.broadcast_to(direction, apart.shape) for direction in np.eye(3)]
    motions += [np.cross(axis_zyx, apart), apart]
    u, size, _ = np.linalg.svd(np.stack(motions, axis=-1).reshape(-1, 5), full_matrices=False)
    independent: FloatArray = u[:, size > 1e-9 * size[0]].reshape(*apart.shape, -1)
    return independent


def _without(
    points: FloatArray, common: FloatArray, v_inverse: FloatArray, spread: FloatArray, solved: FloatArray
) -> FloatArray:
    """Covariances (p, 3, 3) of the points without their common motions Q: blocks of P C P with P = I - Q Q'."""
    pulled = solved @ np.einsum("apx,pxg->ag", spread, common)
    with_common = v_inverse @ common + np.einsum("apx,ag->pxg", spread, pulled)
    mixed = with_common @ common.transpose(0, 2, 1)
    own = common @ np.einsum("pxg,pxh->gh", common, with_common) @ common.transpose(0, 2, 1)
    relative: FloatArray = points - mixed - mixed.transpose(0, 2, 1) + own
    return relative


@dataclass(frozen=True, slots=True)
class Determination:
    """What the observations determine of the views, without the help of priors.

    Attributes
    ----------
    weak
        For rotation, tilt and magnification: how many independent combinations over the views the observations
        determine less than half as well as the typical prior does (the one free combination of tilt and of
        magnification is not counted).
    condition
        Condition number of the information about all view parameters, in units of the typical prior.
    """

    weak: dict[str, int]
    condition: float

    def in_words(self) -> list[str]:
        """What cannot be solved, as sentences for people."""
        return [
            f"{kind} is not determined by these points in {count} of its combinations over the views; the prior decides"
            for kind, count in self.weak.items()
            if count > 0
        ]


def determination(bundle: Bundle, solution: Solution, typical: ViewPriors) -> Determination:
    """Compare the information of the observations with that of typical priors.

    Parameters
    ----------
    bundle, solution
        What was solved, with all parameters free.
    typical
        Priors before learning, which say what size of deviation matters.
    """
    n = len(solution.estimate.views)
    system = normal_equations(bundle, solution.estimate, [np.zeros((n, n))] * 3)
    # a whisper of a prior on the points, so that V stays invertible where a point is seen once
    v_inverse = np.linalg.inv(system.v_matrix + 1e-9 * np.eye(3))
    _, information = system.schur(v_inverse)
    kinds = system.active % N_VIEW_PARAMETERS
    scale = np.ones(len(kinds))
    for kind, prior in enumerate(typical):
        scale[kinds == kind] = np.hypot(prior.independent_sd, prior.smooth_sd)
    information = information * scale[:, None] * scale[None]
    weak: dict[str, int] = {}
    for kind, name in enumerate(KINDS):
        own = kinds == kind
        if not own.any():
            continue
        block, rest = information[np.ix_(own, own)], information[np.ix_(~own, ~own)]
        mixed = information[np.ix_(own, ~own)]
        conditional = block - mixed @ np.linalg.solve(rest + 1e-9 * np.trace(rest) * np.eye(len(rest)), mixed.T)
        free_by_nature = 0 if name == "rotation" else 1
        weak[name] = max(0, int((np.linalg.eigvalsh(conditional) < _WEAK).sum()) - free_by_nature)
    values = eigh(information, eigvals_only=True)
    condition = float(values[-1] / values[2]) if values[2] > 0 else float("inf")
    return Determination(weak, condition)
