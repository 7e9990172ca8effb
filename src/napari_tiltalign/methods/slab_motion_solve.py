"""The slab likelihood near a fit as a quadratic form, and its solution for the views and a smooth motion.

Every tile has a displacement in every view, of which the likelihood knows the gradient and the expected curvature
(`slab_model`). Heights of tiles are eliminated (Schur complement), so one small system is left over the view parameters
and the amplitudes of the modes of the motion (`motion_kernel`), each with prior variance 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.motion_kernel import ACROSS, ALONG, MotionBasis, MotionScales
from napari_tiltalign.methods.motion_problem import axis_rows
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, linearise
from napari_tiltalign.methods.slab_fit import TRUST, SlabFit, Weights
from napari_tiltalign.methods.slab_model import Evidence
from napari_tiltalign.methods.slab_pose import HEIGHT_SD_ANGST, prior_terms
from napari_tiltalign.methods.slab_tiles import plane_matrices

_FAINT = 0.5
"""Modes are left out as if the noise were this part of the motion."""


@dataclass(frozen=True, slots=True, eq=False)
class MovingSlab:
    """A fitted slab, ready to be linearised.

    Attributes
    ----------
    fit, fitted
        The last pass, and the index in the series of each of its m views.
    pixel_angst, field_px
        Pixel size; longer side of the images.
    tilt_deg, time_steps, solved, reference
        Of the n images of the series, see `FittedMotion`.
    """

    fit: SlabFit
    fitted: NDArray[np.intp]
    pixel_angst: float
    field_px: float
    tilt_deg: FloatArray
    time_steps: FloatArray
    solved: NDArray[np.bool_]
    reference: int

    def basis(self, parts: tuple[float, float, float]) -> MotionBasis:
        """Modes of a motion of an amplitude, a length and a time, see `_AMPLITUDES` and what follows."""
        amplitude = parts[0] * self.fit.spectra.scale.finest_angst / self.pixel_angst
        length, time = parts[1] * self.field_px / 2, parts[2] * len(self.tilt_deg)
        scales = MotionScales(amplitude, length, time, _FAINT * amplitude)
        points_yx = self.fit.centres_zyx[:, 1:] / self.pixel_angst
        return MotionBasis.of(scales, points_yx, self.time_steps, self.tilt_deg)


class LinearSlab:
    """The energy of a fit as a quadratic form, tile by tile, heights eliminated.

    A displacement x of a tile in the m views of its block (shape (2 m,), Angstrom in the specimen plane) changes its
    energy by ``pull @ x + x @ precision @ x / 2``.
    """

    def __init__(self, scene: MovingSlab, told: Evidence, heights: FloatArray) -> None:
        self.scene, fit = scene, scene.fit
        pose, self.n_tiles = fit.pose, len(fit.centres_zyx)
        self.inverse, self.slope = plane_matrices(pose.views, pose.x_tilt_deg)
        jacobian = linearise(pose.views, fit.centres_zyx, pose.x_tilts_deg)[1]
        self.by_view = np.einsum("nab,ncpb->pnac", self.inverse, jacobian)
        weights = Weights.of(told, fit.found)
        self.tiles: list[TileEnergy] = []
        for one in fit.found:
            seen = one.block.views
            fisher = TRUST * one.fisher.transpose(0, 2, 1, 3).reshape(2 * len(seen), 2 * len(seen))
            by_height = self.slope[seen].ravel()
            for tile in one.block.tiles.tolist():
                precision = weights.weight[tile] * weights.curvature[tile] * fisher
                pull = TRUST * weights.weight[tile] * told.gradient_yx[tile, seen].ravel()
                towards = precision @ by_height
                stiffness = float(by_height @ towards) + HEIGHT_SD_ANGST**-2
                rise = float(by_height @ pull) + heights[tile] * HEIGHT_SD_ANGST**-2
                left = precision - np.outer(towards, towards) / stiffness
                self.tiles.append(
                    TileEnergy(
                        tile, seen, left, pull - towards * rise / stiffness, towards / stiffness, rise / stiffness
                    )
                )

    @cached_property
    def by_amplitude(self) -> FloatArray:
        """What motion across and along the axis in the images is in the plane, shape (m, 2, 2), Angstrom a pixel."""
        turned: FloatArray = np.einsum("nab,ncb->nac", self.inverse, axis_rows(self.scene.fit.pose.views))
        return turned * self.scene.pixel_angst

    def modes(self, basis: MotionBasis) -> MotionModes:
        """The modes of a motion, as they displace tiles."""
        in_time, in_space, which = [], [], []
        begun = 0
        for component in (ACROSS, ALONG):
            values = basis.time[component].values[self.scene.fitted]
            in_time.append(self.by_amplitude[:, :, component, None] * values[:, None])
            space, time = basis.pairs[component].T
            in_space.append(basis.scales.amplitude_px * basis.space.values[:, space])
            which.append(begun + time)
            begun += values.shape[1]
        return MotionModes(np.concatenate(in_time, axis=2), np.hstack(in_space), np.concatenate(which))


@dataclass(frozen=True, slots=True, eq=False)
class TileEnergy:
    """One tile: its index, the m views that show it, its quadratic form, and how its height follows.

    The height that is best for a displacement x is ``-(rise + towards @ x)``.
    """

    index: int
    views: NDArray[np.intp]
    precision: FloatArray
    pull: FloatArray
    towards: FloatArray
    rise: float

    def energy(self, displacement_yx: FloatArray) -> float:
        """Change of its energy by displacements in all views, shape (n, 2)."""
        x = displacement_yx[self.views].ravel()
        return float(self.pull @ x + 0.5 * x @ self.precision @ x)

    def height(self, displacement_yx: FloatArray) -> float:
        """Change of its height that goes with displacements in all views, Angstrom."""
        return -self.rise - float(self.towards @ displacement_yx[self.views].ravel())


@dataclass(frozen=True, slots=True, eq=False)
class MotionModes:
    """q product modes: the first factor in the views, (m, 2, t) of which each takes one, the second over tiles (p, q).

    Attributes
    ----------
    in_time, in_space, which
        Factors, and which of the t a mode takes, shape (q,).
    """

    in_time: FloatArray
    in_space: FloatArray
    which: NDArray[np.intp]

    def displacement(self, amplitudes: FloatArray) -> FloatArray:
        """Displacement of every tile in every view, shape (p, m, 2), Angstrom in the plane."""
        p, t = len(self.in_space), self.in_time.shape[2]
        weight = np.zeros((t, p))
        np.add.at(weight, self.which, (self.in_space * amplitudes).T)
        moved: FloatArray = np.einsum("nat,tp->pna", self.in_time, weight)
        return moved


@dataclass(frozen=True, slots=True, eq=False)
class MotionStep:
    """A solution: change of the view parameters (m, 5), amplitudes of the modes, displacements (p, m, 2), Angstrom."""

    by_view: FloatArray
    amplitudes: FloatArray
    displacement: FloatArray


def solve_step(
    linear: LinearSlab, modes: MotionModes | None, used: NDArray[np.bool_], at: FloatArray, amplitudes: FloatArray
) -> MotionStep:
    """Solve for views and motion by some of the tiles.

    Parameters
    ----------
    linear
        Energy of the tiles.
    modes
        Of the motion; None for a rigid specimen.
    used
        Shape (p,): which tiles tell.
    at, amplitudes
        Where the view parameters (m, 5) and the amplitudes stand, seen from where the priors were linearised.
    """
    n = len(linear.slope)
    size, q = n * N_VIEW_PARAMETERS, 0 if modes is None else len(modes.which)
    hessian, gradient = np.zeros((size + q, size + q)), np.zeros(size + q)
    pose, fit = linear.scene.fit.pose, linear.scene.fit
    prior_hessian, prior_gradient = prior_terms(pose, fit.centres_zyx, fit.priors)
    hessian[:size, :size] = prior_hessian[:size, :size]
    gradient[:size] = prior_gradient[:size] + hessian[:size, :size] @ at.ravel()
    hessian[np.arange(size, size + q), np.arange(size, size + q)] = 1.0
    gradient[size:] = amplitudes
    for tile in linear.tiles:
        if used[tile.index]:
            _add(hessian, gradient, linear, modes, tile)
    hessian[:size, size:] = hessian[size:, :size].T
    scale = 1.0 / np.sqrt(np.diag(hessian))
    # not by Cholesky: single precision in the likelihood leaves what hardly matters slightly indefinite
    scaled = hessian * np.outer(scale, scale) + 1e-10 * np.eye(size + q)
    step = -scale * np.linalg.solve(scaled, scale * gradient)
    by_view = step[:size].reshape(n, N_VIEW_PARAMETERS)
    displacement = np.einsum("pnac,nc->pna", linear.by_view, by_view)
    if modes is not None:
        displacement += modes.displacement(step[size:])
    return MotionStep(by_view, step[size:], displacement)


def _add(
    hessian: FloatArray, gradient: FloatArray, linear: LinearSlab, modes: MotionModes | None, tile: TileEnergy
) -> None:
    """Add what one tile says to the normal equations; of what views and modes share, the part below the diagonal."""
    m, size = len(tile.views), len(linear.slope) * N_VIEW_PARAMETERS
    own = (tile.views[:, None] * N_VIEW_PARAMETERS + np.arange(N_VIEW_PARAMETERS)).ravel()
    blocks = np.zeros((m, 2, m, N_VIEW_PARAMETERS))
    blocks[np.arange(m), :, np.arange(m)] = linear.by_view[tile.index, tile.views]
    by_view = blocks.reshape(2 * m, -1)
    told = tile.precision @ by_view
    hessian[np.ix_(own, own)] += by_view.T @ told
    gradient[own] += by_view.T @ tile.pull
    if modes is None:
        return
    in_time, in_space = modes.in_time[tile.views].reshape(2 * m, -1), modes.in_space[tile.index]
    gradient[size:] += (in_time.T @ tile.pull)[modes.which] * in_space
    shared = (in_time.T @ tile.precision @ in_time)[:, modes.which] * in_space
    hessian[size:, size:] += shared[modes.which] * in_space[:, None]
    hessian[size:, own] += (in_time.T @ told)[modes.which] * in_space[:, None]
