"""Solve the views, the beads' positions and the motion of the specimen together, and judge it by beads left out.

Linearised at views and points, the residual of a bead's observations is ``V_b v + H_b c_b + M_b w + noise``: changes v
of the view parameters with their learned priors, a free displacement c_b of the bead (projected out), and amplitudes w
of the modes of the motion with prior variance 1.

The error of a bead that is left out needs no second solution: with the covariance C_b that the solution gives to the
bead's observations, ``e_b = (I - C_b P_b)^-1 (r_b - prediction)``, after which the bead's own position is refitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, cho_factor, cho_solve, solve_triangular

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.motion_evidence import (
    COMPONENTS,
    BeadGrid,
    mode_information,
    projected_precision,
    refit_positions,
)
from napari_tiltalign.methods.motion_kernel import MotionBasis
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS


@dataclass(frozen=True, slots=True, eq=False)
class ViewTerms:
    """How the views enter.

    Attributes
    ----------
    jacobian
        Shape (2, p, n, 5): what a change of a view's parameters does to a bead's residual, across and along the axis.
    prior_precision
        Shape (5 n, 5 n), view-major.
    prior_pull
        Shape (5 n,): minus the gradient of the prior where it was linearised.
    held
        Shape (5 n,): parameters that are not solved.
    """

    jacobian: FloatArray
    prior_precision: FloatArray
    prior_pull: FloatArray
    held: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class MotionSolution:
    """A joint solution.

    Attributes
    ----------
    view_change
        Shape (n, 5): change of the view parameters.
    amplitudes
        Amplitudes of the product modes of each component; empty for a rigid specimen.
    displacement_px
        Shape (p, 3): static displacement of the beads, (z, y, x) with z and x in the frame of the tilt axis.
    residual_px
        Shape (2, p, n): what is left; meaningless where nothing was seen.
    left_out_px
        Shape (2, p, n): the same for every bead left out; NaN for beads or images that were not judged.
    """

    view_change: FloatArray
    amplitudes: tuple[FloatArray, ...]
    displacement_px: FloatArray
    residual_px: FloatArray
    left_out_px: FloatArray


def solve_motion(
    grid: BeadGrid, views: ViewTerms, noise_px: float, basis: MotionBasis | None, judged: NDArray[np.intp]
) -> MotionSolution:
    """Solve the joint model.

    Parameters
    ----------
    grid
        Residuals of the beads.
    views
        How the views enter.
    noise_px
        Standard deviation of a typical coordinate.
    basis
        Modes of the motion; None for a rigid specimen.
    judged
        Beads to leave out, one after the other.
    """
    projected = np.stack([projected_precision(grid, c) for c in COMPONENTS]) / noise_px**2
    system = _System(grid, views, projected, basis)
    lower = cho_factor(system.matrix, lower=True, check_finite=False)
    change, amplitudes = system.split(cho_solve(lower, system.right, check_finite=False))
    explained = np.einsum("cpna,na->cpn", views.jacobian, change) + system.motion(amplitudes)
    unexplained = grid.residual_px - explained
    displacement, residual = refit_positions(grid, unexplained)
    left_out = np.full_like(residual, np.nan)
    for bead in judged.tolist():
        left_out[:, bead] = _left_out(system, lower[0], grid, projected, unexplained, bead)
    return MotionSolution(change, amplitudes, displacement, residual, left_out)


class _System:
    """Normal equations of views and modes, beads projected out; parameters are (views, modes across, modes along).

    Attributes
    ----------
    matrix, right
        Shapes (a, a) and (a,).
    """

    def __init__(self, grid: BeadGrid, views: ViewTerms, projected: FloatArray, basis: MotionBasis | None) -> None:
        self._jacobian, self._held = views.jacobian, views.held
        self._free = np.flatnonzero(~views.held)
        self._modes = [] if basis is None else [basis.modes(c) for c in COMPONENTS]
        pull = np.einsum("cpij,cpj->cpi", projected, grid.residual_px)
        blocks, rights = [self._view_block(projected, views)], [self._view_right(pull, views)]
        crossed: list[FloatArray] = []
        if basis is not None:
            for c, (in_space, in_time) in enumerate(self._modes):
                information = mode_information(basis, c, projected[c])
                information[np.diag_indices(len(information))] += 1.0
                blocks.append(information)
                rights.append(((pull[c] @ in_time) * in_space).sum(axis=0))
                crossed.append(self._cross(basis, c, projected[c]))
        self._stops = np.cumsum([len(block) for block in blocks]).tolist()
        self.right = np.concatenate(rights)
        self.matrix: FloatArray = np.asarray(block_diag(*blocks))
        n_views = self._stops[0]
        for cross, start, stop in zip(crossed, self._stops, self._stops[1:], strict=False):
            self.matrix[start:stop, :n_views] = cross
            self.matrix[:n_views, start:stop] = cross.T

    def _view_block(self, projected: FloatArray, views: ViewTerms) -> FloatArray:
        size = len(self._held)
        information = np.zeros((size, size))
        for precision, jacobian in zip(projected, self._jacobian, strict=True):
            information += np.einsum("pij,pia,pjb->iajb", precision, jacobian, jacobian).reshape(size, size)
        block: FloatArray = (information + views.prior_precision)[np.ix_(self._free, self._free)]
        return block

    def _view_right(self, pull: FloatArray, views: ViewTerms) -> FloatArray:
        right: FloatArray = np.einsum("cpna,cpn->na", self._jacobian, pull).ravel() + views.prior_pull
        return right[self._free]

    def _cross(self, basis: MotionBasis, component: int, projected: FloatArray) -> FloatArray:
        """Information that the modes of a component share with the views, shape (q, free view parameters)."""
        in_time = basis.time[component].values.T @ projected
        p, t, _ = in_time.shape
        seen = (in_time[:, :, :, None] * self._jacobian[component][:, None]).reshape(p, -1)
        full = (basis.space.values.T @ seen).reshape(-1, t, len(self._held))
        first, second = basis.pairs[component].T
        cross: FloatArray = basis.scales.amplitude_px * full[first, second][:, self._free]
        return cross

    def split(self, solution: FloatArray) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        """Changes of the view parameters (n, 5), and amplitudes of the modes of each component, if there are any."""
        change = np.zeros(len(self._held))
        change[self._free] = solution[: self._stops[0]]
        amplitudes = tuple(solution[a:b] for a, b in zip(self._stops, self._stops[1:], strict=False))
        return change.reshape(-1, N_VIEW_PARAMETERS), amplitudes

    def motion(self, amplitudes: tuple[FloatArray, ...]) -> FloatArray | float:
        """Motion of the beads as the images see it, shape (2, p, n); 0 for a rigid specimen."""
        if not amplitudes:
            return 0.0
        return np.stack([(s * a) @ t.T for (s, t), a in zip(self._modes, amplitudes, strict=True)])

    def rows(self, bead: int, images: NDArray[np.intp]) -> FloatArray:
        """What the parameters do to the residuals of a bead in k images, shape (2 k, a)."""
        k = len(images)
        by_view = np.zeros((2, k, len(self._held)))
        column = images[:, None] * N_VIEW_PARAMETERS + np.arange(N_VIEW_PARAMETERS)
        by_view[:, np.arange(k)[:, None], column] = self._jacobian[:, bead, images]
        rows = np.zeros((2, k, len(self.right)))
        rows[:, :, : self._stops[0]] = by_view[:, :, self._free]
        for c, (in_space, in_time) in enumerate(self._modes):
            rows[c, :, self._stops[c] : self._stops[c + 1]] = in_space[bead] * in_time[images]
        return rows.reshape(2 * k, -1)


def _left_out(
    system: _System, lower: FloatArray, grid: BeadGrid, projected: FloatArray, unexplained: FloatArray, bead: int
) -> FloatArray:
    """Residuals of a bead predicted without it, its position refitted, shape (2, n); NaN in images not showing it."""
    images = np.flatnonzero(grid.precision[bead] > 0)
    k = len(images)
    half = solve_triangular(lower, system.rows(bead, images).T, lower=True, check_finite=False)
    own = np.zeros((2 * k, 2 * k))
    for c in COMPONENTS:
        own[c * k : (c + 1) * k, c * k : (c + 1) * k] = projected[c, bead][np.ix_(images, images)]
    error = np.linalg.solve(np.eye(2 * k) - half.T @ half @ own, unexplained[:, bead, images].ravel())
    spread = np.zeros((2, 1, grid.precision.shape[1]))
    spread[:, 0, images] = error.reshape(2, k)
    refitted = refit_positions(grid.take(np.array([bead])), spread)[1][:, 0]
    refitted[:, grid.precision[bead] == 0] = np.nan
    return refitted
