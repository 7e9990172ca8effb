"""The slant of the specimen from beads on its surfaces: one plane, or two parallel ones, with an honest error bar.

Heights are ``z = height + slope_x x + slope_y y (+ thickness on the upper surface) + scatter``. Which surface a bead is
on is not known; taking two surfaces for one finds slants that are not there. So every sensible assignment of the beads
to surfaces is weighed by its evidence (Bayesian linear regression, the scatter integrated out; MacKay 1992), and the
slant is the mean over all of them. Where several assignments explain the beads as well, its error bar is as large as
they disagree; where beads are few or spread through the ice, it is large because the scatter is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from napari_tiltalign.geometry import FloatArray

LOWER, UPPER, OUTLIER = 0, 1, 2
"""Where a bead is; on a single surface all are `LOWER`."""

_LEAST_BEADS = 3
_SLANT_SD_DEG = 10.0
"""Prior of the slant about each axis."""
_THICKNESS_SD_ANGST = 2000.0
_SCATTER_ANGST, _SCATTER_LOG_SD = 60.0, 1.0
"""Prior of the scatter about a surface: log-normal."""
_SCATTERS_ANGST = np.geomspace(4.0, 1500.0, 25)
_SEPARATE = 6.0
"""Two surfaces are told apart only if they are this many times the scatter apart."""
_OUTLIER_SHARE = 0.05
_OUTLIER_RANGE_ANGST = 5000.0
"""An outlier may be at any height within this range."""
_MOST_OUTLIERS = 0.25
_OUTLIER_ROUNDS = 3
_FAR = 4.0
"""A bead further than this many times the scatter from its surface is tried as an outlier."""
_START_SLANTS_DEG = np.linspace(-30.0, 30.0, 15)
_MOST_ASSIGNMENTS, _MOST_FLIPPED = 100, 8


@dataclass(frozen=True, slots=True)
class Slant:
    """How the surfaces of a specimen lie.

    Attributes
    ----------
    angle_x_deg, angle_y_deg
        Angles whose tangents are the slopes dz/dx and dz/dy.
    sd_x_deg, sd_y_deg
        Their standard deviations.
    two_surfaces
        Probability that the beads are on two surfaces and not on one, or spread through the volume.
    thickness_angst, thickness_sd_angst
        Distance between the surfaces, across them; NaN if there is one.
    scatter_angst
        Standard deviation of the beads' heights about their surface.
    middle_angst
        Height at x = y = 0 of the middle between the surfaces, or of the one.
    outliers
        Beads that belong to no surface, in the most likely assignment.
    """

    angle_x_deg: float
    angle_y_deg: float
    sd_x_deg: float
    sd_y_deg: float
    two_surfaces: float
    thickness_angst: float
    thickness_sd_angst: float
    scatter_angst: float
    middle_angst: float
    outliers: int


def find_slant(points_zyx_angst: FloatArray, height_sd_angst: FloatArray) -> Slant | None:
    """Find how the surfaces of a specimen lie.

    Parameters
    ----------
    points_zyx_angst
        Shape (p, 3): beads.
    height_sd_angst
        Shape (p,): standard deviations of their heights.

    Returns
    -------
    Slant | None
        None if there are fewer than 3 beads.
    """
    if len(points_zyx_angst) < _LEAST_BEADS:
        return None
    plane = np.column_stack([np.ones(len(points_zyx_angst)), points_zyx_angst[:, 2], points_zyx_angst[:, 1]])
    heights = points_zyx_angst[:, 0]
    labels = _assignments(plane, heights)
    labels = np.vstack([labels, _with_outliers(labels, plane, heights)])
    fits = _fits(labels, plane, heights, height_sd_angst)
    return _averaged(fits, labels)


def _assignments(plane: FloatArray, heights: FloatArray) -> NDArray[np.int64]:
    """Assignments of the beads to surfaces worth a look, shape (a, p); the first has all of them on one.

    For every slant on a grid the heights above it are split where two levels explain them best, planes are fitted to
    the two parts, and every bead goes to the nearer one.
    """
    slopes = np.tan(np.deg2rad(_START_SLANTS_DEG))
    grid = np.stack(np.meshgrid(slopes, slopes, indexing="ij"), axis=-1).reshape(-1, 2)
    above = heights - grid @ plane[:, 1:].T
    labels = np.unique(_best_split(above), axis=0)
    for _ in range(3):
        labels = np.unique(_nearer_plane(labels, plane, heights), axis=0)
    labels = _best(labels, plane, heights)
    flips = np.abs(labels[:_MOST_FLIPPED, None] - np.eye(len(heights), dtype=np.int64)).reshape(-1, len(heights))
    labels = _best(np.unique(np.vstack([labels, flips]), axis=0), plane, heights)
    return np.vstack([np.zeros((1, len(heights)), dtype=np.int64), labels])


def _best(labels: NDArray[np.int64], plane: FloatArray, heights: FloatArray) -> NDArray[np.int64]:
    """The assignments to two surfaces that fit best, best first."""
    labels = labels[(labels.min(axis=1) == LOWER) & (labels.max(axis=1) == UPPER)]
    best: NDArray[np.int64] = labels[np.argsort(_misfit(labels, plane, heights), kind="stable")[:_MOST_ASSIGNMENTS]]
    return best


def _best_split(above: FloatArray) -> NDArray[np.int64]:
    """Split every row into a lower and an upper part with the least squares about their means, shape (g, p)."""
    order = np.argsort(above, axis=1, kind="stable")
    ordered = np.take_along_axis(above, order, axis=1)
    p = ordered.shape[1]
    total, count = np.cumsum(ordered, axis=1), np.arange(1, p)
    lower, upper = total[:, :-1] / count, (total[:, -1:] - total[:, :-1]) / (p - count)
    between = count * lower**2 + (p - count) * upper**2
    rank = np.argsort(order, axis=1, kind="stable")
    labels: NDArray[np.int64] = np.where(rank > np.argmax(between, axis=1)[:, None], UPPER, LOWER)
    return labels


def _design(labels: NDArray[np.int64], plane: FloatArray) -> FloatArray:
    """Rows (1, x, y, 1 on the upper surface), shape (a, p, 4); zero for outliers."""
    design: FloatArray = _on_surfaces(labels, plane) * (labels != OUTLIER)[:, :, None]
    return design


def _on_surfaces(labels: NDArray[np.int64], plane: FloatArray) -> FloatArray:
    """The same, with outliers on the lower surface."""
    upper = (labels == UPPER).astype(np.float64)
    return np.concatenate([np.broadcast_to(plane, (*labels.shape, 3)), upper[:, :, None]], axis=2)


def _heights(labels: NDArray[np.int64], plane: FloatArray, planes: FloatArray) -> FloatArray:
    """Heights of the surfaces at the beads, shape (a, p)."""
    heights: FloatArray = (_on_surfaces(labels, plane) @ planes[:, :, None])[:, :, 0]
    return heights


def _planes(labels: NDArray[np.int64], plane: FloatArray, heights: FloatArray) -> FloatArray:
    """Least squares (height, slope x, slope y, thickness) of every assignment, slopes held by their prior, (a, 4)."""
    design = _design(labels, plane)
    normal = design.transpose(0, 2, 1) @ design + np.diag(_SCATTER_ANGST**2 / _prior_variance())
    right = np.einsum("apk,p->ak", design, heights)
    solved: FloatArray = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    return solved


def _nearer_plane(labels: NDArray[np.int64], plane: FloatArray, heights: FloatArray) -> NDArray[np.int64]:
    fitted = _planes(labels, plane, heights)
    above = heights - fitted[:, :3] @ plane.T
    nearer: NDArray[np.int64] = np.where(above > fitted[:, 3:] / 2, UPPER, LOWER)
    return nearer


def _misfit(labels: NDArray[np.int64], plane: FloatArray, heights: FloatArray) -> FloatArray:
    """Sum of squares about the planes without the tenth that fits worst, shape (a,)."""
    fitted = _heights(labels, plane, _planes(labels, plane, heights))
    kept = len(heights) - len(heights) // 10
    misfit: FloatArray = np.sort((heights - fitted) ** 2, axis=1)[:, :kept].sum(axis=1)
    return misfit


def _prior_variance() -> FloatArray:
    slope = np.tan(np.deg2rad(_SLANT_SD_DEG))
    return np.array([1e4, slope, slope, _THICKNESS_SD_ANGST]) ** 2


@dataclass(frozen=True, slots=True, eq=False)
class _Fits:
    """Fits of a assignments, each averaged over the scatter.

    Attributes
    ----------
    log_evidence
        Shape (a,), prior of the assignment included.
    mean, covariance
        Shapes (a, 4) and (a, 4, 4): height, slope x, slope y, thickness.
    scatter_angst
        Shape (a,).
    """

    log_evidence: FloatArray
    mean: FloatArray
    covariance: FloatArray
    scatter_angst: FloatArray


def _fits(labels: NDArray[np.int64], plane: FloatArray, heights: FloatArray, height_sd: FloatArray) -> _Fits:
    """Bayesian linear regression of every assignment for every scatter, and the mean over the scatter."""
    design = _design(labels, plane)
    on_surface = labels != OUTLIER
    variance = _SCATTERS_ANGST[:, None] ** 2 + height_sd**2
    outer = (design[:, :, :, None] * design[:, :, None, :]).reshape(*labels.shape, -1)
    prior = _prior_variance()
    information = (1 / variance @ outer).reshape(len(labels), len(variance), 4, 4) + np.diag(1 / prior)
    right = heights / variance @ design
    covariance = np.linalg.inv(information)
    mean = np.einsum("askl,asl->ask", covariance, right)
    squares = on_surface @ (heights**2 / variance).T - np.einsum("ask,ask->as", mean, right)
    volume = on_surface @ np.log(2 * np.pi * variance).T + np.linalg.slogdet(information)[1] + np.log(prior).sum()
    log_scatter = -0.5 * (np.log(_SCATTERS_ANGST / _SCATTER_ANGST) / _SCATTER_LOG_SD) ** 2
    log_likelihood = -0.5 * (squares + volume) + log_scatter - logsumexp(log_scatter)
    # surfaces closer than a few times the scatter are not told apart
    log_likelihood[(labels == UPPER).any(axis=1)[:, None] & (mean[:, :, 3] < _SEPARATE * _SCATTERS_ANGST)] = -np.inf
    evidence = logsumexp(log_likelihood, axis=1)
    share = np.exp(log_likelihood - np.where(np.isfinite(evidence), evidence, 0.0)[:, None])
    average = np.einsum("as,ask->ak", share, mean)
    apart = mean - average[:, None]
    spread = np.einsum("as,askl->akl", share, covariance + apart[..., :, None] * apart[..., None, :])
    return _Fits(evidence + _log_prior(labels), average, spread, share @ _SCATTERS_ANGST)


def _log_prior(labels: NDArray[np.int64]) -> FloatArray:
    """Prior of assignments: one or two surfaces alike, any share of the beads on the upper one alike; rare outliers."""
    upper = (labels == UPPER).sum(axis=1)
    outliers = (labels == OUTLIER).sum(axis=1)
    kept = labels.shape[1] - outliers
    two = gammaln(upper + 1) + gammaln(kept - upper + 1) - gammaln(kept + 2)
    odd = outliers * np.log(_OUTLIER_SHARE / _OUTLIER_RANGE_ANGST) + kept * np.log1p(-_OUTLIER_SHARE)
    prior: FloatArray = np.log(0.5) + np.where(upper > 0, two, 0.0) + odd
    return prior


def _with_outliers(labels: NDArray[np.int64], plane: FloatArray, heights: FloatArray) -> NDArray[np.int64]:
    """The same assignments with the beads far from their surface as outliers; those without any are left out."""
    marked = labels.copy()
    for _ in range(_OUTLIER_ROUNDS):
        apart = np.abs(heights - _heights(labels, plane, _planes(marked, plane, heights)))
        typical = np.maximum(np.median(apart, axis=1) / 0.6745, _SCATTERS_ANGST[0])
        marked = np.where(apart > _FAR * typical[:, None], OUTLIER, labels)
    count = (marked == OUTLIER).sum(axis=1)
    both_left = ((labels == UPPER).any(axis=1) == (marked == UPPER).any(axis=1)) & (marked == LOWER).any(axis=1)
    few = (count > 0) & (count <= _MOST_OUTLIERS * labels.shape[1]) & both_left
    return np.unique(marked[few], axis=0)


def _averaged(fits: _Fits, labels: NDArray[np.int64]) -> Slant:
    weight = np.exp(fits.log_evidence - logsumexp(fits.log_evidence))
    best = int(np.argmax(weight))
    angle = np.arctan(fits.mean[:, 1:3])
    slope_sd = np.sqrt(np.einsum("akk->ak", fits.covariance[:, 1:3, 1:3]))
    mean = weight @ angle
    # d(angle)/d(slope) = 1 / (1 + slope^2)
    variance = weight @ ((slope_sd * np.cos(angle) ** 2) ** 2 + (angle - mean) ** 2)
    deg, sd = np.rad2deg(mean), np.rad2deg(np.sqrt(variance))
    two = min(float(weight @ (labels == UPPER).any(axis=1)), 1.0)
    height, slope_x, slope_y, step = fits.mean[best]
    is_two = bool((labels[best] == UPPER).any())
    across = 1.0 / np.sqrt(1.0 + slope_x**2 + slope_y**2)
    return Slant(
        angle_x_deg=float(deg[0]),
        angle_y_deg=float(deg[1]),
        sd_x_deg=float(sd[0]),
        sd_y_deg=float(sd[1]),
        two_surfaces=two,
        thickness_angst=float(step * across) if is_two else float("nan"),
        thickness_sd_angst=float(np.sqrt(fits.covariance[best, 3, 3]) * across) if is_two else float("nan"),
        scatter_angst=float(fits.scatter_angst[best]),
        middle_angst=float(height + (step / 2 if is_two else 0.0)),
        outliers=int((labels[best] == OUTLIER).sum()),
    )
