"""The patches' displacements linearised in what is solved: parameters of the views, heights of the patches."""

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
class LinearPatches:
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
    def of(cls, problem: PatchProblem) -> LinearPatches:
        """Linearise a problem where it stands."""
        n, p = len(problem.views), len(problem.points_zyx)
        _, by_view, by_point = linearise(problem.views, problem.points_zyx, problem.x_tilt_deg)
        to_plane = np.linalg.inv(by_point[:, :, 1:])
        slide = np.einsum("nab,nb->na", to_plane, by_point[:, :, 0])
        measured = problem.displacements
        strength = np.clip(measured.strength, *_STRENGTHS)
        information = measured.information().reshape(p, 2 * n, 2 * n) * strength[:, None, None]
        # without the views that do not show a patch the weights of the others are not quite right, and may cancel
        values, modes = np.linalg.eigh(information)
        values = np.maximum(values, 0.0)
        information = (modes * values[:, None, :]) @ modes.transpose(0, 2, 1)
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
