"""Solve the geometry from displacements that are only known against predictions, with priors of the views.

A view is matched to a prediction from the other views, so if all of them are displaced alike nothing is seen, and a
drift that they share is seen faintly. The displacements are therefore not taken as positions: with the information F_ij
about the displacements of views i and j (`match_predict.Predictor`), whose rows add up to 0 like those of a chain of
springs, one step solves for all views and for a height of every tile::

    (sum_p J_p' F_p J_p + prior) step = sum_p J_p' slope_p - prior (views - mean)

which is Fisher scoring of the likelihood of which the slopes are the gradient. Correlated errors of neighbouring views,
which share most of their prediction, are in F. The priors are those of the bundle adjustment (`priors`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.match_measure import Matched
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, SHIFT_X, SHIFT_Y, linearise

_CAUCHY = 4.0
_HOLD = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of the solution.

    Attributes
    ----------
    views
        Shape (n, 5): change of the view parameters (`projection`, shifts in Angstrom).
    heights_angst, height_information
        Shape (p,): heights of the tiles, and how well each is known, 1 / square Angstrom.
    normal
        Shape (5 n, 5 n): the normal matrix of the views, priors included, heights eliminated.
    weight
        Shape (n, p): robust weights; 0 where nothing was matched.
    displacement_yx, displacement_sd
        Shapes (n, p, 2): where each match alone sees a tile displaced against its prediction, Angstrom in the plane,
        and its standard deviation; NaN where nothing was matched.
    """

    views: FloatArray
    heights_angst: FloatArray
    height_information: FloatArray
    normal: FloatArray
    weight: FloatArray
    displacement_yx: FloatArray
    displacement_sd: FloatArray

    def covariance(self) -> FloatArray:
        """Covariance of the view parameters, shape (5 n, 5 n)."""
        covariance: FloatArray = cho_solve(cho_factor(self.normal), np.eye(len(self.normal)))
        return covariance


def solve_step(
    views: FloatArray,
    x_tilt_deg: FloatArray,
    points_zyx: FloatArray,
    matched: Matched,
    information_yx: FloatArray,
    priors: ViewPriors,
    *,
    height_sd: float,
    height_spread: float,
    data_weight: float,
    damping: float,
) -> Step:
    """Solve for one step.

    Parameters
    ----------
    views, x_tilt_deg, points_zyx
        View parameters (n, 5) and fixed x tilts (n,); middles of the tiles (p, 3), Angstrom.
    matched
        What was measured.
    information_yx
        Shape (2, n, n), see `match_predict.Predictor`.
    priors
        Of the n views.
    height_sd
        Prior of the heights, Angstrom.
    height_spread
        How far structure lies from the middle height of its tile, root mean square, Angstrom: it holds tilt and
        rotation of a view even where the tiles do not.
    data_weight
        What all information is multiplied with, 0 to 1: the model is not exact.
    damping
        Part of the diagonal that is added to it.
    """
    n, p = matched.samples.shape
    own = np.stack([np.diagonal(information_yx[axis]) for axis in (0, 1)], axis=1)
    expected = matched.samples[:, :, None] * own[:, None] * matched.quality[:, None]
    slope = matched.slope_yx * matched.quality[:, None]
    weight = _robust(slope, expected)
    share = np.sqrt(matched.samples * matched.quality * weight * data_weight)
    system = _System.at(views, x_tilt_deg, points_zyx)
    for height in (-height_spread, height_spread):
        layer = _System.at(views, x_tilt_deg, points_zyx + np.array([height, 0.0, 0.0]))
        layer.add_springs(information_yx, share * np.sqrt(0.5))
        system.of_views += layer.of_views
        system.mixed += layer.mixed
        system.of_heights += layer.of_heights
    system.add_slopes(slope * (weight * data_weight)[:, :, None])
    system.add_priors(views, priors)
    information = np.diag(system.of_heights).copy()
    system.of_heights[np.diag_indices(p)] += height_sd**-2
    normal, right, back = system.reduced()
    damped = normal.copy()
    damped[np.diag_indices(len(normal))] *= 1.0 + damping
    found = cho_solve(cho_factor(damped), right)
    heights = (system.right_heights - back @ found) / np.diag(system.of_heights)
    with np.errstate(divide="ignore", invalid="ignore"):
        displacement = np.where(expected > 0, slope / expected, np.nan)
        sd = np.where(expected > 0, 1.0 / np.sqrt(expected * data_weight), np.nan)
    return Step(found.reshape(n, N_VIEW_PARAMETERS), heights, information, normal, weight, displacement, sd)


@dataclass(slots=True, eq=False)
class _System:
    """Normal equations of n views and p heights while they are put together."""

    jacobian: FloatArray
    """Shape (2, p, n, 5): displacement (y, x) of tile p in view n, in the plane, per view parameter."""
    by_height: FloatArray
    """Shape (2, n): the same per height of the tile."""
    of_views: FloatArray
    mixed: FloatArray
    of_heights: FloatArray
    right_views: FloatArray
    right_heights: FloatArray

    @classmethod
    def at(cls, views: FloatArray, x_tilt_deg: FloatArray, points_zyx: FloatArray) -> _System:
        n, p = len(views), len(points_zyx)
        _, by_view, by_point = linearise(views, points_zyx, x_tilt_deg)
        into_plane = np.linalg.inv(by_point[:, :, 1:])
        size = n * N_VIEW_PARAMETERS
        return cls(
            np.einsum("nab,nkpb->apnk", into_plane, by_view),
            np.einsum("nab,nb->an", into_plane, by_point[:, :, 0]),
            np.zeros((size, size)), np.zeros((p, size)), np.zeros((p, p)), np.zeros(size), np.zeros(p),
        )  # fmt: skip

    def add_springs(self, information_yx: FloatArray, share: FloatArray) -> None:
        """Add what the displacements tell about each other; `share` (n, p) is the root of the samples of each."""
        p = share.shape[1]
        for axis in (0, 1):
            # only what draws views together, and each view held as if all others saw the tile too: the sum is positive
            # definite, and a view does not run away where it is matched to what was filled in for the others
            drawn = np.minimum(information_yx[axis], 0.0)
            np.fill_diagonal(drawn, 0.0)
            np.fill_diagonal(drawn, -drawn.sum(axis=1))
            springs = drawn * (share.T[:, :, None] * share.T[:, None, :])
            lever = self.jacobian[axis]
            self.of_views += np.einsum("pia,pij,pjb->iajb", lever, springs, lever, optimize=True).reshape(
                self.of_views.shape
            )
            pulled = springs @ self.by_height[axis]
            self.mixed += np.einsum("pia,pi->pia", lever, pulled).reshape(p, -1)
            self.of_heights[np.diag_indices(p)] += pulled @ self.by_height[axis]

    def add_slopes(self, slope_yx: FloatArray) -> None:
        """Add the gradient, shape (n, p, 2)."""
        for axis in (0, 1):
            self.right_views += np.einsum("pia,ip->ia", self.jacobian[axis], slope_yx[:, :, axis]).ravel()
            self.right_heights += self.by_height[axis] @ slope_yx[:, :, axis]

    def add_priors(self, views: FloatArray, priors: ViewPriors) -> None:
        """Add the priors of rotation, tilt and magnification, and hold what nothing else holds."""
        index = np.arange(len(views)) * N_VIEW_PARAMETERS
        for kind, prior in enumerate(priors):
            precision = prior.precision()
            self.of_views[np.ix_(index + kind, index + kind)] += precision
            self.right_views[index + kind] -= precision @ (views[:, kind] - prior.mean)
        diagonal = np.diag(self.of_views).copy()
        for kind in (SHIFT_Y, SHIFT_X):
            of_kind = diagonal[index + kind]
            # of views that take part: most may take none, and a common shift held by nothing runs away
            typical = float(np.median(of_kind[of_kind > 0])) if (of_kind > 0).any() else 1.0
            held = np.where(of_kind > 0, _HOLD, 1.0) * typical
            self.of_views[index + kind, index + kind] += held

    def reduced(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Matrix and right side of the views with the heights eliminated, and the mixed part (p, 5 n)."""
        inverse = 1.0 / np.diag(self.of_heights)
        normal = self.of_views - self.mixed.T @ (self.mixed * inverse[:, None])
        return normal, self.right_views - self.mixed.T @ (inverse * self.right_heights), self.mixed


def with_kind_fixed(step: Step, kind: int, change: FloatArray) -> FloatArray:
    """Best change of all view parameters, shape (n, 5), if one kind of them must change by given amounts (n,).

    To first order, from a solution: what the other parameters take up of it.
    """
    n = len(change)
    fixed = np.arange(n * N_VIEW_PARAMETERS) % N_VIEW_PARAMETERS == kind
    found = np.zeros(n * N_VIEW_PARAMETERS)
    found[fixed] = change
    free = step.normal[np.ix_(~fixed, ~fixed)]
    found[~fixed] = -cho_solve(cho_factor(free), step.normal[np.ix_(~fixed, fixed)] @ change)
    return found.reshape(n, N_VIEW_PARAMETERS)


def _robust(slope: FloatArray, expected: FloatArray) -> FloatArray:
    """Cauchy weights of the slopes against what chance gives, in units of the typical one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = np.where(expected > 0, slope**2 / expected, np.nan).sum(axis=2)
    typical = float(np.nanmedian(surprise)) if np.isfinite(surprise).any() else 1.0
    weight = 1.0 / (1.0 + surprise / (_CAUCHY**2 * max(typical, 1e-30)))
    robust: FloatArray = np.where(np.isfinite(weight), weight, 0.0)
    return robust
