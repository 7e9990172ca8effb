"""The data of an alignment as the model of local motion needs them: used observations and times, linearised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.bundle import STUDENT_T_DEGREES
from napari_tiltalign.methods.learned_model import model_of
from napari_tiltalign.methods.motion_evidence import BeadGrid
from napari_tiltalign.methods.motion_solve import ViewTerms
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import (
    LOG_MAGNIFICATION,
    N_VIEW_PARAMETERS,
    ROTATION,
    SHIFT_Y,
    TILT,
    linearise,
    view_matrices,
    views_from_geometry,
)
from napari_tiltalign.model import Alignment, TiltSeries

_LEAST_PER_IMAGE = 2
_LEAST_PER_BEAD = 4
_FARTHEST_PX = 100.0
"""How far a shift may change (standard deviation), pixels; the rigid solution is never off by more."""


@dataclass(frozen=True, slots=True, eq=False)
class MotionState:
    """Where the solution stands.

    Attributes
    ----------
    views
        Shape (n, 5), see `projection`.
    points_zyx
        Shape (p, 3), pixels.
    weight
        Shape (k,): robust weights of the observations.
    """

    views: FloatArray
    points_zyx: FloatArray
    weight: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class MotionProblem:
    """k observations of p beads in n images, in raw pixels.

    Attributes
    ----------
    image, bead
        Shape (k,): of every observation.
    position_yx_px
        Shape (k, 2), from the image centre.
    relative_sd
        Shape (k,): how uncertain an observation is compared with a typical one of its image.
    track
        Shape (p,): which track of the alignment a bead is.
    priors
        Of the images' rotation, tilt and magnification.
    x_tilt_deg, time_steps
        Shape (n,).
    solved
        Shape (n,): images with enough observations; the others' parameters are held.
    reference
        Index of the image in which nothing has moved yet.
    field_px
        Longer side of the images.
    """

    image: NDArray[np.int64]
    bead: NDArray[np.int64]
    position_yx_px: FloatArray
    relative_sd: FloatArray
    track: NDArray[np.intp]
    priors: ViewPriors
    x_tilt_deg: FloatArray
    time_steps: FloatArray
    solved: NDArray[np.bool_]
    reference: int
    field_px: float

    def reweighted(self, residual_px: FloatArray, noise_px: float) -> FloatArray:
        """Robust weights (Student t) for residuals on the grid (2, p, n), shape (k,)."""
        distance2 = (residual_px[:, self.bead, self.image] ** 2).sum(axis=0) / (noise_px * self.relative_sd) ** 2
        weight: FloatArray = (STUDENT_T_DEGREES + 2.0) / (STUDENT_T_DEGREES + distance2)
        return weight

    def linearised(self, state: MotionState) -> tuple[BeadGrid, ViewTerms]:
        """Residuals of a rigid specimen on the grid of beads and images, and what the views do to them."""
        views, points = state.views, state.points_zyx
        n, p = len(views), len(points)
        predicted, by_view, _ = linearise(views, points, self.x_tilt_deg)
        residual = self.position_yx_px - predicted[self.image, self.bead]
        grid_residual, precision = np.zeros((p, n, 2)), np.zeros((p, n))
        grid_residual[self.bead, self.image] = residual
        precision[self.bead, self.image] = state.weight / self.relative_sd**2
        turn = axis_rows(views)
        grid = BeadGrid(
            np.einsum("ncr,pnr->cpn", turn, grid_residual),
            precision,
            points[:, 1:],
            views[:, TILT],
            self.time_steps,
        )
        return grid, self._view_terms(views, np.einsum("ncr,napr->cpna", turn, by_view))

    def _view_terms(self, views: FloatArray, jacobian: FloatArray) -> ViewTerms:
        n = len(views)
        precision, pull = np.zeros((n, N_VIEW_PARAMETERS, n, N_VIEW_PARAMETERS)), np.zeros((n, N_VIEW_PARAMETERS))
        used = np.flatnonzero(self.solved)
        for kind, prior in zip((ROTATION, TILT, LOG_MAGNIFICATION), self.priors.take(used), strict=True):
            inverse = prior.precision()
            precision[used[:, None], kind, used, kind] = inverse
            pull[used, kind] = -inverse @ (views[used, kind] - prior.mean)
        # nor does anything tell the height of all beads together, which the shifts follow
        by_height = np.zeros((n, N_VIEW_PARAMETERS))
        by_height[used, SHIFT_Y:] = view_matrices(views, self.x_tilt_deg)[used, :, 0]
        precision += np.multiply.outer(by_height, by_height) / (by_height**2).sum()
        # images that share no bead with the others would drift away
        shifts = np.arange(SHIFT_Y, N_VIEW_PARAMETERS)
        precision[np.arange(n)[:, None], shifts, np.arange(n)[:, None], shifts] += _FARTHEST_PX**-2
        held = np.zeros((n, N_VIEW_PARAMETERS), dtype=bool)
        held[~self.solved] = True
        # a common displacement of all beads is free: the reference image keeps its shift
        held[self.reference, SHIFT_Y:] = True
        size = n * N_VIEW_PARAMETERS
        return ViewTerms(jacobian, precision.reshape(size, size), pull.ravel(), held.ravel())


def axis_rows(views: FloatArray) -> FloatArray:
    """Matrices that turn (y, x) in the image to (across, along) the tilt axis, shape (n, 2, 2)."""
    angle = np.deg2rad(views[:, ROTATION])
    rows = np.array([[np.sin(angle), np.cos(angle)], [np.cos(angle), -np.sin(angle)]])
    return rows.transpose(2, 0, 1)


def motion_problem(alignment: Alignment, series: TiltSeries) -> tuple[MotionProblem, MotionState] | None:
    """Take what is needed from an alignment with tracks; None if no bead can be used."""
    tracks, model = alignment.tracks, model_of(alignment)
    if tracks is None:
        return None
    used = tracks.used & alignment.included[tracks.tilt] & np.isfinite(tracks.residual_yx_px).all(axis=1)
    used &= np.bincount(tracks.tilt[used], minlength=len(alignment))[tracks.tilt] >= _LEAST_PER_IMAGE
    often = np.bincount(tracks.track[used], minlength=tracks.n_tracks) >= _LEAST_PER_BEAD
    used &= often[tracks.track]
    if not used.any():
        return None
    number = np.cumsum(often) - 1
    image = tracks.tilt[used]
    relative = tracks.sd_px[used] / model.noise_px[image]
    solved = np.bincount(image, minlength=len(alignment)) >= _LEAST_PER_IMAGE
    time, reference = exposure(series, alignment, solved)
    problem = MotionProblem(
        image=image,
        bead=number[tracks.track[used]],
        position_yx_px=tracks.position_yx_px[used] - np.array(alignment.image_shape_yx) // 2,
        relative_sd=np.where(np.isfinite(relative) & (relative > 0), relative, 1.0),
        track=np.flatnonzero(often),
        priors=model.priors,
        x_tilt_deg=alignment.geometry.x_tilt_deg,
        time_steps=time,
        solved=solved,
        reference=reference,
        field_px=float(max(alignment.image_shape_yx)),
    )
    start = MotionState(
        views_from_geometry(alignment.geometry, alignment.pixel_size_angst),
        tracks.points_zyx_angst[often] / alignment.pixel_size_angst,
        tracks.weight[used] * (STUDENT_T_DEGREES + 2.0) / STUDENT_T_DEGREES,
    )
    return problem, start


def exposure(series: TiltSeries, alignment: Alignment, solved: NDArray[np.bool_]) -> tuple[FloatArray, int]:
    """Time of every image in steps, and the solved image that was exposed first.

    Where the dose is not known time runs along the tilts, and the image nearest to zero tilt is the reference.
    """
    dose = np.array([series[tilt_id].pre_exposure_e_per_A2 for tilt_id in alignment.tilt_ids])
    tilt = alignment.geometry.y_tilt_deg
    known = bool(np.isfinite(dose).all()) and np.ptp(dose) > 0
    time = np.unique(dose if known else tilt, return_inverse=True)[1].astype(np.float64)
    first = time if known else np.abs(tilt)
    return time, int(np.argmin(np.where(solved, first, np.inf)))
