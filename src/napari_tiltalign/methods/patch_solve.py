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

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.patch_linear import LinearPatches, PatchErrors, PatchProblem
from napari_tiltalign.methods.patch_measure import Displacements
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, SHIFT_Y

_SLOW_SHARE = 0.35
_ROUNDS = 5
_SETTLED = 0.01
_SHRINKAGE = 8.0
_LEAST_NOISE = 0.05
_MATCHING_ROUNDS = 4
_KNOWN = 1e-6
"""Modes of a patch with less information than this part of the best known one count as open."""
_TRACKED = 1e-3
"""The same for tracks: below, a link between two parts of a patch's views is too weak to say how they lie."""


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


def solve_step(problem: PatchProblem, errors: PatchErrors, *, learn: bool) -> tuple[PatchStep, PatchErrors]:
    """Solve one step, and learn how the patches err if asked to.

    Raises
    ------
    MethodFailed
        If the patches do not determine the views.
    """
    linear = LinearPatches.of(problem)
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


def _misfit(linear: LinearPatches, left: FloatArray) -> FloatArray:
    """Chi square per degree of freedom against theory, fast modes only."""
    slow = round(_SLOW_SHARE * linear.values.shape[1]) + 2
    known = linear.values > _KNOWN * linear.values[:, -1:]
    known[:, :slow] = False
    size = np.einsum("pxm,px->pm", linear.modes, left) ** 2 / np.where(known, linear.values, 1.0)
    misfit: FloatArray = np.where(known, size, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return misfit


def _wander(linear: LinearPatches, errors: PatchErrors, left: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Amplitude of the slow modes of every patch, given all else: mean (p, m), covariance, and modes times information.

    Best linear unbiased prediction (Henderson 1975).
    """
    noise = errors.noise * errors.patch_noise
    spread = (linear.information / noise[:, None, None]) @ errors.modes
    covariance = np.linalg.inv(errors.modes.T @ spread + np.diag(1.0 / errors.variance))
    mean = np.einsum("pmk,pk->pm", covariance, (left / noise[:, None]) @ errors.modes)
    return mean, covariance, spread.transpose(0, 2, 1)


def _learned(linear: LinearPatches, errors: PatchErrors, step: FloatArray, covariance: FloatArray) -> PatchErrors:
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


def _tracks(linear: LinearPatches, errors: PatchErrors, step: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Displacements of every patch, its slow wander taken out, and their standard deviation, (p, 2 n) and (p, n).

    What pairs leave open, the place of a patch by itself, is taken from the step.
    """
    left = linear.left(step)
    wander = _wander(linear, errors, left)[0] @ errors.modes.T
    left = left - np.einsum("pxy,py->px", linear.information, wander)
    sure = linear.values > _TRACKED * linear.values[:, -1:]
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
    linear = LinearPatches.of(problem)
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
