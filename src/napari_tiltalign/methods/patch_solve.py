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
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.geometry import FloatArray, frozen_array
from napari_tiltalign.methods.patch_measure import Displacements
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, SHIFT_Y, linearise

_STRENGTHS = (0.05, 3.0)
_SLOW_SHARE = 0.35
_ROUNDS = 5
_SETTLED = 0.01
_SHRINKAGE = 8.0
_LEAST_NOISE = 0.05
_MATCHING_ROUNDS = 4
_KNOWN = 1e-6
"""Modes of a patch with less information than this part of the best known one count as open."""
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
        Shape (p, n): standard deviation of a coordinate of the tracks by theory, as far as errors are independent,
        Angstrom in the specimen plane. See `independent_sd`.
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
    """The problem linearised.

    Attributes
    ----------
    pull, information
        Shapes (p, 2 n) and (p, 2 n, 2 n): of every patch, by theory.
    values, modes
        Its eigenvalues (p, 2 n) and eigenvectors.
    by_view, slide
        Shapes (p, n, 2, 5) and (n, 2): displacements that the parameters of a view, and a height, make.
    prior, prior_pull
        Precision of all unknowns by themselves, and its pull.
    redundancy
        See `PatchProblem`.
    """

    pull: FloatArray
    information: FloatArray
    values: FloatArray
    modes: FloatArray
    by_view: FloatArray
    slide: FloatArray
    prior: FloatArray
    prior_pull: FloatArray
    redundancy: float

    @classmethod
    def of(cls, problem: PatchProblem) -> _Linear:
        n, p = len(problem.views), len(problem.points_zyx)
        _, by_view, by_point = linearise(problem.views, problem.points_zyx, problem.x_tilt_deg)
        to_plane = np.linalg.inv(by_point[:, :, 1:])
        slide = np.einsum("nab,nb->na", to_plane, by_point[:, :, 0])
        measured = problem.displacements
        strength = np.clip(measured.strength, *_STRENGTHS)
        information = measured.information().reshape(p, 2 * n, 2 * n) * strength[:, None, None]
        values, modes = np.linalg.eigh(information)
        prior, prior_pull = _priors(problem)
        return cls(
            measured.pull_yx.reshape(p, 2 * n), information, values, modes,
            np.einsum("nab,ncpb->pnac", to_plane, by_view), slide, prior, prior_pull, problem.redundancy,
        )  # fmt: skip

    @property
    def n_views(self) -> int:
        """How many views there are."""
        return len(self.slide)

    def weighted(self, errors: PatchErrors) -> tuple[FloatArray, FloatArray]:
        """Information (p, 2n, 2n) and pull (p, 2n) with all errors counted (Woodbury)."""
        noise = errors.noise * errors.patch_noise
        information = self.information / noise[:, None, None]
        pull = self.pull / noise[:, None]
        spread = information @ errors.modes
        inner = errors.modes.T @ spread + np.diag(1.0 / errors.variance)
        gain = np.linalg.solve(inner, spread.transpose(0, 2, 1))
        corrected = pull - (spread @ np.linalg.solve(inner, (pull @ errors.modes)[..., None]))[..., 0]
        return information - spread @ gain, corrected

    def solved(self, information: FloatArray, pull: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Step of all unknowns (5 n views, p heights) and their covariance."""
        p, n = len(pull), self.n_views
        size = n * N_VIEW_PARAMETERS
        spread = self.times_views(information)
        along = information @ self.slide.ravel()
        pull_yx = pull.reshape(p, n, 2)
        system, right = self.prior * self.redundancy, self.prior_pull * self.redundancy
        left = np.ascontiguousarray(self.by_view.transpose(1, 3, 0, 2)).reshape(n, N_VIEW_PARAMETERS, 2 * p)
        by_row = spread.reshape(p, n, 2, size).transpose(1, 0, 2, 3).reshape(n, 2 * p, size)
        system[:size, :size] += (left @ by_row).reshape(size, size)
        heights = size + np.arange(p)
        mixed = np.einsum("pnac,pna->pnc", self.by_view, along.reshape(p, n, 2)).reshape(p, size)
        system[heights, heights] += along @ self.slide.ravel()
        system[heights, :size] += mixed
        system[:size, heights] += mixed.T
        right[:size] += np.einsum("pnac,pna->nc", self.by_view, pull_yx).ravel()
        right[heights] += pull @ self.slide.ravel()
        try:
            factor = cho_factor(0.5 * (system + system.T))
        except LinAlgError:
            raise MethodFailed(
                "the patches do not determine the views: too few of them, or too little in them; "
                "try larger patches (--patch-size-nm)"
            ) from None
        covariance = cho_solve(factor, np.eye(len(system)))
        step: FloatArray = covariance @ right
        return step, covariance * self.redundancy

    def times_views(self, rows: FloatArray) -> FloatArray:
        """Rows (p, r, 2 n) times the displacements that view parameters make: (p, r, 5 n)."""
        p, r, _ = rows.shape
        n = self.n_views
        by_pair = rows.reshape(p, r, n, 2).transpose(0, 2, 1, 3) @ self.by_view
        product: FloatArray = by_pair.transpose(0, 2, 1, 3).reshape(p, r, n * N_VIEW_PARAMETERS)
        return product

    def displaced(self, step: FloatArray) -> FloatArray:
        """Displacements (p, 2n) that a step makes."""
        n = self.n_views
        views = step[: n * N_VIEW_PARAMETERS].reshape(n, N_VIEW_PARAMETERS)
        moved: FloatArray = np.einsum("pnac,nc->pna", self.by_view, views).reshape(len(self.pull), -1)
        return moved + step[n * N_VIEW_PARAMETERS :, None] * self.slide.ravel()

    def left(self, step: FloatArray) -> FloatArray:
        """Pull (p, 2n) that is left after a step, by theory."""
        remaining: FloatArray = self.pull - np.einsum("pxy,py->px", self.information, self.displaced(step))
        return remaining


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
    step, covariance = linear.solved(*linear.weighted(errors))
    for _ in range(_ROUNDS if learn else 0):
        before, errors = errors, _learned(linear, errors, step, covariance)
        step, covariance = linear.solved(*linear.weighted(errors))
        if _same(before, errors):
            break
    size = linear.n_views * N_VIEW_PARAMETERS
    view_step = step[:size].reshape(linear.n_views, N_VIEW_PARAMETERS)
    by_views = np.einsum("pnac,nc->pna", linear.by_view, view_step)
    tracks, sd = _tracks(linear, errors, step)
    return (
        PatchStep(
            view_step, step[size:], by_views, covariance[:size, :size], _misfit(linear, linear.left(step)),
            tracks.reshape(by_views.shape), sd,
        ),
        errors,
    )  # fmt: skip


def _same(before: PatchErrors, after: PatchErrors) -> bool:
    if abs(np.log(after.noise / before.noise)) > _SETTLED:
        return False
    most = float(after.variance.max())
    return bool(np.allclose(after.variance, before.variance, rtol=5.0 * _SETTLED, atol=1e-3 * most))


def _misfit(linear: _Linear, left: FloatArray) -> FloatArray:
    """Chi square per degree of freedom against theory, fast modes only."""
    slow = round(_SLOW_SHARE * linear.values.shape[1]) + 2
    known = linear.values > _KNOWN * linear.values[:, -1:]
    known[:, :slow] = False
    size = np.einsum("pxm,px->pm", linear.modes, left) ** 2 / np.where(known, linear.values, 1.0)
    misfit: FloatArray = np.where(known, size, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return misfit


def _wander(linear: _Linear, errors: PatchErrors, left: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Amplitude of the slow modes of every patch, given all else: mean (p, m), covariance, and modes times information.

    Best linear unbiased prediction (Henderson 1975).
    """
    noise = errors.noise * errors.patch_noise
    spread = (linear.information / noise[:, None, None]) @ errors.modes
    covariance = np.linalg.inv(errors.modes.T @ spread + np.diag(1.0 / errors.variance))
    mean = np.einsum("pmk,pk->pm", covariance, (left / noise[:, None]) @ errors.modes)
    return mean, covariance, spread.transpose(0, 2, 1)


def _learned(linear: _Linear, errors: PatchErrors, step: FloatArray, covariance: FloatArray) -> PatchErrors:
    """One round of expectation maximisation for the noise and the variance of the slow modes."""
    left = linear.left(step)
    misfit = _misfit(linear, left)
    common = max(float(np.median(misfit)), _LEAST_NOISE)
    fast = linear.values.shape[1] * (1.0 - _SLOW_SHARE)
    patch_noise = (misfit / common * fast + _SHRINKAGE) / (fast + _SHRINKAGE)
    now = dataclasses.replace(errors, noise=common, patch_noise=patch_noise)
    mean, own, spread = _wander(linear, now, left)
    size = linear.n_views * N_VIEW_PARAMETERS
    by_views = own @ linear.times_views(spread)
    by_height = (own @ (spread @ linear.slide.ravel())[..., None])[..., 0]
    heights = size + np.arange(len(misfit))
    uncertain = np.einsum("pmx,pmx->pm", by_views @ covariance[:size, :size], by_views)
    uncertain += 2.0 * np.einsum("pmx,px->pm", by_views, covariance[heights, :size]) * by_height
    uncertain += by_height**2 * covariance[heights, heights][:, None]
    learned = _trimmed_mean(mean**2 + np.einsum("pmm->pm", own) + uncertain)
    return dataclasses.replace(now, variance=np.maximum(learned, 1e-12 * learned.max()))


def _trimmed_mean(values: FloatArray) -> FloatArray:
    """Mean over patches without the largest tenth, which may not be the specimen at all."""
    kept = max(1, round(0.9 * len(values)))
    mean: FloatArray = np.sort(values, axis=0)[:kept].mean(axis=0)
    return mean


def _tracks(linear: _Linear, errors: PatchErrors, step: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Displacements of every patch, its slow wander taken out, and their standard deviation, (p, 2 n) and (p, n).

    What pairs leave open, the place of a patch by itself, is taken from the step.
    """
    left = linear.left(step)
    wander = _wander(linear, errors, left)[0] @ errors.modes.T
    left = left - np.einsum("pxy,py->px", linear.information, wander)
    sure = linear.values > _KNOWN * linear.values[:, -1:]
    inverse = np.where(sure, 1.0 / np.where(sure, linear.values, 1.0), 0.0)
    apart = np.einsum("pxm,pm->px", linear.modes, inverse * np.einsum("pxm,px->pm", linear.modes, left))
    # what neighbouring views tell of a place, not the whole chain: that is in the wander
    fast = 1.0 / np.einsum("pxx->px", linear.information).clip(min=1e-12)
    variance = fast * (errors.noise * errors.patch_noise)[:, None]
    return linear.displaced(step) + apart, np.sqrt(variance.reshape(len(left), -1, 2).mean(axis=2))


def independent_sd(problem: PatchProblem, errors: PatchErrors, step: PatchStep) -> FloatArray:
    """Standard deviations that tracks need where their errors are taken as independent.

    A bundle adjustment of independent observations does not know that errors of a patch go together over the views, nor
    that patches overlap, and would be too sure. With these its error bars of rotation, tilt and magnification are as
    large (median) as those with all covariances.

    Returns
    -------
    FloatArray
        Shape (p, n), Angstrom in the specimen plane.
    """
    linear = _Linear.of(problem)
    alone = dataclasses.replace(linear, redundancy=1.0)
    _, full = linear.solved(*linear.weighted(errors))
    wanted = _relative_sd(full, linear.n_views)
    sd = step.observation_sd.copy()
    for _ in range(_MATCHING_ROUNDS):
        information = _independent_information(sd, problem.displacements.seen)
        _, covariance = alone.solved(information, np.zeros_like(linear.pull))
        ratio = float(np.median(wanted / _relative_sd(covariance, linear.n_views)))
        sd *= np.clip(ratio, 0.3, 10.0) ** 1.5
    return sd


def _independent_information(sd: FloatArray, seen: NDArray[np.bool_]) -> FloatArray:
    """Information (p, 2n, 2n) of independent observations of points whose places in the plane are unknown."""
    weight = np.where(seen, sd**-2.0, 0.0)
    total = np.maximum(weight.sum(axis=1), 1e-30)
    p, n = weight.shape
    one = -weight[:, :, None] * weight[:, None, :] / total[:, None, None]
    one[:, np.arange(n), np.arange(n)] += weight
    information = np.zeros((p, n, 2, n, 2))
    for axis in range(2):
        information[:, :, axis, :, axis] = one
    return information.reshape(p, 2 * n, 2 * n)


def _relative_sd(covariance: FloatArray, n: int) -> FloatArray:
    """Standard deviations of rotation, tilt and log magnification against their means over the views, (3, n)."""
    size = n * N_VIEW_PARAMETERS
    by_kind = covariance[:size, :size].reshape(n, N_VIEW_PARAMETERS, n, N_VIEW_PARAMETERS)
    result = np.empty((SHIFT_Y, n))
    for kind in range(SHIFT_Y):
        own = by_kind[:, kind, :, kind]
        result[kind] = np.sqrt(np.maximum(np.diag(own) + own.mean() - 2.0 * own.mean(axis=1), 1e-30))
    return result
