"""Learn how strong and how coherent the motion of the specimen is, by the evidence of the residuals.

The static position of every bead is free and not part of the motion, so it is projected out of the data (restricted
maximum likelihood, Patterson and Thompson 1971): ``P_b = W_b - W_b H (H' W_b H)^-1 H' W_b`` for every bead b, with H
what a displacement of the bead does in the images. With product modes s over beads and f over images the information
about the modes is ``sum_b (s_b s_b') x (F' P_b F)``, which needs no matrix as long as the observations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.motion_kernel import ACROSS, ALONG, MotionBasis, MotionScales

COMPONENTS = (ACROSS, ALONG)

_MOST_BEADS = 30
"""Beads that are enough to learn from."""
_MOST_EVALUATIONS = 40
_LEAST_GAIN = 10.0
"""Log evidence that motion must gain over a rigid specimen; that is odds of 20 000 to 1."""
_LEAST_NOISE_PX = 1e-4

# hyper-parameters: amplitude (pixels), length (halves of the field), time (images), noise (pixels)
_LOWER, _UPPER = (1e-4, 0.05, 1.0, 1e-4), (1e3, 10.0, 1e3, 1e2)
_FIRST_STEPS = (0.4, 0.4, 0.5, -0.3)
_TYPICAL, _TYPICAL_SD = (0.6, 15.0), 1.0
"""Log-normal hyper-prior of length and time."""
_FAINT, _STRONG = ((0.4, 0.8),), ((1.0, 0.4), (3.0, 0.2))
"""Amplitudes and noises to start at, parts of the noise if nothing moves."""
_START_LENGTHS, _START_TIMES = (0.3, 0.8), (5.0, 20.0)


@dataclass(frozen=True, slots=True, eq=False)
class BeadGrid:
    """Residuals of p beads in n images; images that do not show a bead have precision 0.

    Attributes
    ----------
    residual_px
        Shape (2, p, n): across and along the tilt axis, pixels.
    precision
        Shape (p, n): one over the variance of a coordinate, for a noise of 1 pixel.
    points_yx_px
        Shape (p, 2): beads in the specimen, pixels.
    tilt_deg, time_steps
        Shape (n,).
    """

    residual_px: FloatArray
    precision: FloatArray
    points_yx_px: FloatArray
    tilt_deg: FloatArray
    time_steps: FloatArray

    def take(self, beads: NDArray[np.intp]) -> BeadGrid:
        """Return some of the beads."""
        return BeadGrid(
            self.residual_px[:, beads], self.precision[beads], self.points_yx_px[beads], self.tilt_deg, self.time_steps
        )

    def static(self, component: int) -> FloatArray:
        """What a displacement of a bead does in the images, shape (n, 2) for (x, z) or (n, 1) for y."""
        angle = np.deg2rad(self.tilt_deg)
        return np.column_stack([np.cos(angle), np.sin(angle)]) if component == ACROSS else np.ones((len(angle), 1))

    def basis(self, scales: MotionScales) -> MotionBasis:
        """Modes of the motion over these beads and images."""
        return MotionBasis.of(scales, self.points_yx_px, self.time_steps, self.tilt_deg)


def projected_precision(grid: BeadGrid, component: int) -> FloatArray:
    """Precision of what is left of a bead's residuals when its position is refitted, shape (p, n, n)."""
    weighted, normal = _static_fit(grid, component)
    projected: FloatArray = -weighted @ np.linalg.solve(normal, weighted.transpose(0, 2, 1))
    diagonal = np.arange(grid.precision.shape[1])
    projected[:, diagonal, diagonal] += grid.precision
    return projected


def refit_positions(grid: BeadGrid, unexplained_px: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Refit the static position of every bead to what nothing else explains.

    Parameters
    ----------
    grid
        p beads in n images; its own residuals are not used.
    unexplained_px
        Shape (2, p, n).

    Returns
    -------
    displacement_px, left_px
        Displacement of the beads (p, 3) as (z, y, x) with y along the tilt axis, and what is left, shape (2, p, n).
    """
    moved = []
    for component in COMPONENTS:
        weighted, normal = _static_fit(grid, component)
        pull = np.einsum("pna,pn->pa", weighted, unexplained_px[component])
        moved.append(np.linalg.solve(normal, pull[:, :, None])[:, :, 0])
    left = np.stack([unexplained_px[c] - moved[c] @ grid.static(c).T for c in COMPONENTS])
    return np.column_stack([moved[ACROSS][:, 1], moved[ALONG][:, 0], moved[ACROSS][:, 0]]), left


def _static_fit(grid: BeadGrid, component: int) -> tuple[FloatArray, FloatArray]:
    """Weighted design (p, n, a) and normal matrix (p, a, a) of the static position of every bead."""
    static = grid.static(component)
    weighted = grid.precision[:, :, None] * static
    normal = static.T @ weighted
    size = np.trace(normal, axis1=1, axis2=2)
    ridge = np.where(size > 0, 1e-9 * size, 1.0)  # a bead that no image shows stays where it is
    return weighted, normal + ridge[:, None, None] * np.eye(static.shape[1])


def mode_information(basis: MotionBasis, component: int, projected: FloatArray) -> FloatArray:
    """Information about the product modes of a component for a noise of 1 pixel, shape (q, q)."""
    space, time = basis.space.values, basis.time[component].values
    in_time = time.T @ projected @ time
    outer = (space[:, :, None] * space[:, None, :]).reshape(len(space), -1)
    s, t = space.shape[1], time.shape[1]
    full = (outer.T @ in_time.reshape(len(space), -1)).reshape(s, s, t, t)
    first, second = basis.pairs[component].T
    information: FloatArray = full[first[:, None], first[None], second[:, None], second[None]]
    return basis.scales.amplitude_px**2 * information


class Evidence:
    """Negative log evidence of a grid of residuals, as a function of the hyper-parameters."""

    def __init__(self, grid: BeadGrid) -> None:
        self._grid = grid
        self._projected = [projected_precision(grid, c) for c in COMPONENTS]
        self._pull = [np.einsum("pij,pj->pi", p, r) for p, r in zip(self._projected, grid.residual_px, strict=True)]
        self._misfit = sum(float((pull * r).sum()) for pull, r in zip(self._pull, grid.residual_px, strict=True))
        seen = (grid.precision > 0).sum(axis=1)
        self._freedom = float(sum(np.maximum(seen - grid.static(c).shape[1], 0).sum() for c in COMPONENTS))

    @property
    def rigid_noise_px(self) -> float:
        """Noise that explains the residuals best if nothing moves."""
        return max(float(np.sqrt(self._misfit / max(self._freedom, 1.0))), _LEAST_NOISE_PX)

    def rigid(self) -> float:
        """Negative log evidence if nothing moves, for the best noise."""
        variance = self.rigid_noise_px**2
        return float(0.5 * (self._freedom * np.log(variance) + self._misfit / variance))

    def __call__(self, scales: MotionScales) -> float:
        """Negative log evidence of some hyper-parameters."""
        basis = self._grid.basis(scales)
        variance = scales.noise_px**2
        cost = 0.5 * (self._freedom * np.log(variance) + self._misfit / variance)
        for component in COMPONENTS:
            information = mode_information(basis, component, self._projected[component]) / variance
            information[np.diag_indices(len(information))] += 1.0
            in_space, in_time = basis.modes(component)
            right = ((self._pull[component] @ in_time) * in_space).sum(axis=0) / variance
            lower = cho_factor(information, lower=True, overwrite_a=True, check_finite=False)
            cost += np.log(np.diag(lower[0])).sum() - 0.5 * right @ cho_solve(lower, right, check_finite=False)
        return float(cost)


def learn_scales(grid: BeadGrid, field_px: float, start: MotionScales | None = None) -> MotionScales | None:
    """Hyper-parameters with the greatest evidence, or None if a rigid specimen explains the residuals as well.

    Parameters
    ----------
    grid
        Residuals. If there are many beads only some, spread over the specimen, are looked at, with all their images:
        leaving out single observations would hide how motion goes on in time.
    field_px
        Longer side of the images.
    start
        Where to start; None to try some places, and to stop early where none of them beats a rigid specimen.
    """
    evidence = Evidence(grid.take(_spread_beads(grid)))
    half = field_px / 2

    def scales(logs: FloatArray) -> MotionScales:
        amplitude, length, time, noise = np.exp(np.clip(logs, np.log(_LOWER), np.log(_UPPER)))
        return MotionScales(float(amplitude), float(length * half), float(time), float(noise))

    def cost(logs: FloatArray) -> float:
        pull = (logs[1:3] - np.log(_TYPICAL)) / _TYPICAL_SD
        beyond = np.log(_LOWER) - logs, logs - np.log(_UPPER)
        outside = sum(float(np.maximum(b, 0.0).sum()) for b in beyond)
        return evidence(scales(logs)) + 0.5 * float(pull @ pull) + 1e3 * outside

    if start is not None:
        best = np.log([start.amplitude_px, start.length_px / half, start.time_steps, start.noise_px])
    else:
        noise = evidence.rigid_noise_px
        best, least = _best_start(cost, noise, _FAINT)
        if least > evidence.rigid() - _LEAST_GAIN:
            return None
        stronger, cost_stronger = _best_start(cost, noise, _STRONG)
        best = stronger if cost_stronger < least else best
    simplex = np.vstack([best, best + np.diag(_FIRST_STEPS)])
    found = minimize(
        cost, best, method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": _MOST_EVALUATIONS, "xatol": 0.03, "fatol": 0.3},
    )  # fmt: skip
    return scales(found.x) if found.fun < evidence.rigid() - _LEAST_GAIN else None


def _best_start(
    cost: Callable[[FloatArray], float], noise_px: float, parts: tuple[tuple[float, float], ...]
) -> tuple[FloatArray, float]:
    """The best of some places to start at, and its cost."""
    starts = [
        np.log([amplitude * noise_px, length, time, noise * noise_px])
        for (amplitude, noise), length, time in itertools.product(parts, _START_LENGTHS, _START_TIMES)
    ]
    costs = [cost(start) for start in starts]
    best = int(np.argmin(costs))
    return starts[best], costs[best]


def _spread_beads(grid: BeadGrid) -> NDArray[np.intp]:
    """Beads to learn from: the one seen most often, then always the one furthest from those chosen; not rarely seen."""
    seen = (grid.precision > 0).sum(axis=1)
    if len(seen) <= _MOST_BEADS:
        return np.arange(len(seen))
    often = seen >= np.sort(seen)[-min(2 * _MOST_BEADS, len(seen))]
    chosen = [int(np.argmax(seen))]
    distance = np.full(len(seen), np.inf)
    while len(chosen) < _MOST_BEADS:
        distance = np.minimum(distance, np.linalg.norm(grid.points_yx_px - grid.points_yx_px[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(np.where(often, distance, -1.0))))
    return np.sort(np.array(chosen))
