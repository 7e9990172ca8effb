"""Geometry of the views from the displacements of patches, with their full covariance over the views.

One Gauss-Newton step of maximum a posteriori estimation for rotation, tilt, magnification and shift of every view and
the height of every patch. The errors of one patch in different views go together in two ways. Pairs of views share
noise, which the graph of pairs knows (`patch_coherence`). And what a patch shows changes with the tilt, because the
slab is not filled evenly: its apparent place wanders slowly. How much is learned from the residuals, as the variance
of the slowest modes of the graph (expectation maximisation), and added to the covariance::

    Cov = s^2 F^+ + U diag(b) U'          U: slow modes      b: their extra variance      s^2: noise against theory
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.geometry import FloatArray, frozen_array
from napari_tiltalign.methods.patch_measure import Displacements
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, SHIFT_Y, linearise

_STRENGTHS = (0.05, 3.0)
_SLOW_SHARE = 0.35
_LEAST_FAST = 2
_ROUNDS = 12
_SHRINKAGE = 8.0
_HOLD, _HOLD_SHIFT = 1e-9, 1e-5
"""A whisper of a prior on the step, which fixes what the patches leave open: their common shift."""


@dataclass(frozen=True, slots=True, eq=False)
class PatchErrors:
    """How displacements of patches err, besides the noise that pairs of views share.

    Attributes
    ----------
    modes
        Shape (2 n, m): slow modes over the views (view, yx).
    variance
        Shape (m,): extra variance of every mode, square Angstrom.
    noise
        Variance against theory, common to all patches.
    patch_noise
        Shape (p,): the same for every patch, against the common one.
    """

    modes: FloatArray
    variance: FloatArray
    noise: float
    patch_noise: FloatArray

    def __post_init__(self) -> None:
        for name in ("modes", "variance", "patch_noise"):
            object.__setattr__(self, name, frozen_array(getattr(self, name)))

    def for_patches(self, count: int) -> PatchErrors:
        """Return the errors of other patches of the same views."""
        return dataclasses.replace(self, patch_noise=np.ones(count))


@dataclass(frozen=True, slots=True, eq=False)
class PatchProblem:
    """What one step solves, lengths in Angstrom.

    Attributes
    ----------
    views, x_tilt_deg
        Current parameters (n, 5), see `projection`, and fixed x tilts (n,).
    points_zyx
        Shape (p, 3): patches; their heights are solved, their other coordinates are free of meaning.
    displacements
        What was measured there.
    priors
        Of rotation, tilt and magnification of the n views.
    height_sd
        Spread of the heights around a plane.
    redundancy
        How many patches tell as much as one that overlaps with none.
    """

    views: FloatArray
    x_tilt_deg: FloatArray
    points_zyx: FloatArray
    displacements: Displacements
    priors: ViewPriors
    height_sd: float
    redundancy: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class PatchStep:
    """A step.

    Attributes
    ----------
    view_step, height_step
        Shapes (n, 5) and (p,): what to add.
    moved_by_views_yx
        Shape (p, n, 2): how far the step of the views moves every patch in the specimen plane, Angstrom.
    view_covariance
        Shape (5 n, 5 n): posterior covariance of the view parameters; shifts against their mean.
    misfit
        Shape (p,): chi square per degree of freedom of every patch after the step, noise against theory.
    tracks_yx
        Shape (p, n, 2): displacement of every patch in every view by itself, as its pairs say, in the specimen plane;
        0 where a view does not show it. What all views of a patch share is chosen closest to the step.
    observation_sd
        Shape (p, n): standard deviation of a coordinate of the tracks, Angstrom in the specimen plane.
    """

    view_step: FloatArray
    height_step: FloatArray
    moved_by_views_yx: FloatArray
    view_covariance: FloatArray
    misfit: FloatArray
    tracks_yx: FloatArray
    observation_sd: FloatArray


def _slow_modes(displacements: Displacements) -> tuple[FloatArray, FloatArray]:
    """The slowest modes of the graph of pairs, shape (2 n, m), without what all views share, and their information."""
    laplacian = _laplacian(displacements.pair_weight)
    information, modes = np.linalg.eigh(laplacian)
    count = max(1, round(_SLOW_SHARE * len(laplacian)))
    slowest = slice(2, 2 + count)
    return modes[:, slowest], np.maximum(information[slowest], 1e-9 * information[-1])


def _laplacian(pair_weight: FloatArray) -> FloatArray:
    n = len(pair_weight)
    own = np.arange(n)
    result = -pair_weight.transpose(0, 2, 1, 3)
    result[own, :, own, :] += pair_weight.sum(axis=1)
    result = result.reshape(2 * n, 2 * n)
    return 0.5 * (result + result.T)


def first_errors(displacements: Displacements) -> PatchErrors:
    """Errors before anything is learned: slow modes err by as much again as theory says."""
    modes, information = _slow_modes(displacements)
    return PatchErrors(modes, 1.0 / information, 1.0, np.ones(len(displacements.strength)))


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    """The problem linearised: pulls and information of every patch, and how every unknown displaces it."""

    pull: FloatArray
    information: FloatArray
    by_unknown: FloatArray
    prior: FloatArray
    prior_pull: FloatArray
    in_plane: FloatArray
    redundancy: float
    n: int

    @classmethod
    def of(cls, problem: PatchProblem) -> _Linear:
        n, p = len(problem.views), len(problem.points_zyx)
        _, by_view, by_point = linearise(problem.views, problem.points_zyx, problem.x_tilt_deg)
        to_plane = np.linalg.inv(by_point[:, :, 1:])
        slide = np.einsum("nab,nb->na", to_plane, by_point[:, :, 0])
        by_parameter = np.einsum("nab,ncpb->pnac", to_plane, by_view)
        size = n * N_VIEW_PARAMETERS
        jacobian = np.zeros((p, n, 2, size + 1))
        own = np.arange(n)
        jacobian.reshape(p, n, 2, size + 1)[:, :, :, :size].reshape(p, n, 2, n, N_VIEW_PARAMETERS)[:, own, :, own] = (
            by_parameter.transpose(1, 0, 2, 3)
        )
        jacobian[:, :, :, size] = slide
        measured = problem.displacements
        strength = np.clip(measured.strength, *_STRENGTHS)
        information = measured.information().reshape(p, 2 * n, 2 * n) * strength[:, None, None]
        prior, prior_pull = _priors(problem)
        return cls(
            measured.pull_yx.reshape(p, 2 * n), information, jacobian.reshape(p, 2 * n, size + 1), prior, prior_pull,
            by_parameter, problem.redundancy, n,
        )  # fmt: skip

    def weighted(self, errors: PatchErrors) -> tuple[FloatArray, FloatArray]:
        """Information (p, 2n, 2n) and pull (p, 2n) with all errors counted (Woodbury)."""
        noise = errors.noise * errors.patch_noise
        information = self.information / noise[:, None, None]
        pull = self.pull / noise[:, None]
        active = errors.variance > 0
        if not active.any():
            return information, pull
        modes = errors.modes[:, active]
        spread = information @ modes
        inner = modes.T @ spread + np.diag(1.0 / errors.variance[active])
        gain = np.linalg.solve(inner, spread.transpose(0, 2, 1))
        return information - spread @ gain, pull - (spread @ np.linalg.solve(inner, (pull @ modes)[..., None]))[..., 0]

    def solved(self, information: FloatArray, pull: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Step of all unknowns (5 n views, p heights) and their covariance."""
        p, _, columns = self.by_unknown.shape
        size = columns - 1
        information, pull = information / self.redundancy, pull / self.redundancy
        weighted = information @ self.by_unknown
        blocks = self.by_unknown.transpose(0, 2, 1) @ weighted
        system = self.prior.copy()
        right = self.prior_pull.copy()
        system[:size, :size] += blocks[:, :size, :size].sum(axis=0)
        heights = size + np.arange(p)
        system[heights, heights] += blocks[:, size, size]
        system[heights, :size] += blocks[:, size, :size]
        system[:size, heights] += blocks[:, :size, size].T
        gradient = np.einsum("pxa,px->pa", self.by_unknown, pull)
        right[:size] += gradient[:, :size].sum(axis=0)
        right[heights] += gradient[:, size]
        try:
            factor = cho_factor(system)
        except LinAlgError:
            raise MethodFailed(
                "the patches do not determine the views: too few of them, or too little in them; "
                "try larger patches (--patch-size-nm)"
            ) from None
        covariance = cho_solve(factor, np.eye(len(system)))
        step: FloatArray = covariance @ right
        return step, covariance

    def displaced(self, step: FloatArray) -> FloatArray:
        """Displacements (p, 2n) that a step makes."""
        size = self.by_unknown.shape[2] - 1
        moved: FloatArray = self.by_unknown[:, :, :size] @ step[:size]
        return moved + self.by_unknown[:, :, size] * step[size:, None]


def _priors(problem: PatchProblem) -> tuple[FloatArray, FloatArray]:
    """Precision of all unknowns by themselves, and its pull at the current values."""
    views, points = problem.views, problem.points_zyx
    n, p = len(views), len(points)
    size = n * N_VIEW_PARAMETERS
    precision, pull = np.zeros((size + p, size + p)), np.zeros(size + p)
    for kind, prior in enumerate(problem.priors):
        own = np.arange(n) * N_VIEW_PARAMETERS + kind
        inverse = prior.precision()
        precision[np.ix_(own, own)] += inverse
        pull[own] -= inverse @ (views[:, kind] - prior.mean)
    shifts = (np.arange(n)[:, None] * N_VIEW_PARAMETERS + np.arange(SHIFT_Y, N_VIEW_PARAMETERS)).ravel()
    precision[shifts, shifts] += _HOLD_SHIFT
    level = np.column_stack([np.ones(p), points[:, 1:] / max(np.abs(points[:, 1:]).max(initial=1.0), 1.0)])
    apart = np.eye(p) - level @ np.linalg.pinv(level)
    heights = size + np.arange(p)
    precision[np.ix_(heights, heights)] += apart / problem.height_sd**2 + _HOLD * np.eye(p)
    pull[heights] -= apart @ points[:, 0] / problem.height_sd**2
    return precision, pull


def solve_step(problem: PatchProblem, errors: PatchErrors, *, learn: bool) -> tuple[PatchStep, PatchErrors]:
    """Solve one step, and learn how the patches err if asked to.

    Raises
    ------
    MethodFailed
        If the patches do not determine the views.
    """
    linear = _Linear.of(problem)
    for _ in range(_ROUNDS if learn else 0):
        information, pull = linear.weighted(errors)
        step, covariance = linear.solved(information, pull)
        before, errors = errors, _learned(linear, errors, step, covariance)
        if abs(np.log(errors.noise / before.noise)) < 0.01 and np.allclose(
            errors.variance, before.variance, rtol=0.05, atol=1e-3 * float(errors.variance.max(initial=1.0))
        ):
            break
    information, pull = linear.weighted(errors)
    step, covariance = linear.solved(information, pull)
    size = linear.n * N_VIEW_PARAMETERS
    view_step = step[:size].reshape(linear.n, N_VIEW_PARAMETERS)
    moved = linear.displaced(step)
    by_views = np.einsum("pnac,nc->pna", linear.in_plane, view_step)
    misfit = _misfit(linear, linear.pull - np.einsum("pxy,py->px", linear.information, moved))
    tracks, sd = _tracks(linear, errors, moved)
    shape = by_views.shape
    return (
        PatchStep(view_step, step[size:], by_views, covariance[:size, :size], misfit, tracks.reshape(shape), sd),
        errors,
    )


def _misfit(linear: _Linear, left: FloatArray) -> FloatArray:
    """Chi square per degree of freedom against theory, fast modes only."""
    values, modes = np.linalg.eigh(linear.information)
    slow = round(_SLOW_SHARE * values.shape[1]) + 2
    known = values > 1e-6 * values[:, -1:]
    known[:, :slow] = False
    size = np.where(known, np.einsum("pxm,px->pm", modes, left) ** 2 / np.maximum(values, 1e-30), 0.0)
    misfit: FloatArray = size.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return misfit


def _learned(linear: _Linear, errors: PatchErrors, step: FloatArray, covariance: FloatArray) -> PatchErrors:
    """One round of expectation maximisation for the noise and the variance of the slow modes."""
    moved = linear.displaced(step)
    left = linear.pull - np.einsum("pxy,py->px", linear.information, moved)
    misfit = _misfit(linear, left)
    p = len(misfit)
    fast = linear.information.shape[1] * (1.0 - _SLOW_SHARE)
    common = max(float(np.median(misfit)), 0.05)
    patch_noise = (misfit / common * fast + _SHRINKAGE) / (fast + _SHRINKAGE)
    noise = common * patch_noise
    information = linear.information / noise[:, None, None]
    modes, variance = errors.modes, errors.variance
    spread = information @ modes
    inner = modes.T @ spread
    # what the slow wandering of every patch is, given the rest: mean and variance of every mode
    size = linear.by_unknown.shape[2] - 1
    prior = 1.0 / np.maximum(variance, 1e-6 * _largest(inner))
    of_modes = np.linalg.inv(inner + np.eye(len(prior)) * prior)
    mean = np.einsum("pmk,pxk,px->pm", of_modes, np.broadcast_to(modes, spread.shape), left / noise[:, None])
    by_unknown = of_modes @ spread.transpose(0, 2, 1) @ linear.by_unknown
    views = by_unknown[:, :, :size]
    heights = by_unknown[:, :, size]
    own = size + np.arange(p)
    moved_variance = np.einsum("pmx,xy,pmy->pm", views, covariance[:size, :size], views, optimize=True)
    moved_variance += 2.0 * np.einsum("pmx,px,pm->pm", views, covariance[own, :size], heights, optimize=True)
    moved_variance += heights**2 * covariance[own, own][:, None]
    expected = mean**2 + np.einsum("pmm->pm", of_modes) + moved_variance
    return PatchErrors(modes, _trimmed_mean(expected), common, patch_noise)


def _largest(inner: FloatArray) -> float:
    return 1.0 / float(np.median(np.einsum("pmm->pm", inner)) + 1e-30)


def _trimmed_mean(values: FloatArray) -> FloatArray:
    """Mean over patches without the largest tenth, which may not be the specimen at all."""
    kept = max(1, round(0.9 * len(values)))
    mean: FloatArray = np.sort(values, axis=0)[:kept].mean(axis=0)
    return mean


def _tracks(linear: _Linear, errors: PatchErrors, moved: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Displacements of every patch by its own pairs, and their standard deviation, (p, 2 n) and (p, n).

    What pairs leave open, the place of a patch by itself, is taken from the step.
    """
    left = linear.pull - np.einsum("pxy,py->px", linear.information, moved)
    values, modes = np.linalg.eigh(linear.information)
    sure = values > 1e-6 * values[:, -1:]
    inverse = np.where(sure, 1.0 / np.maximum(values, 1e-30), 0.0)
    apart = np.einsum("pxm,pm->px", modes, inverse * np.einsum("pxm,px->pm", modes, left))
    variance = np.einsum("pxm,pm->px", modes**2, inverse) * (errors.noise * errors.patch_noise)[:, None]
    variance = variance + errors.modes**2 @ errors.variance
    return moved + apart, np.sqrt(variance.reshape(len(moved), -1, 2).mean(axis=2))
