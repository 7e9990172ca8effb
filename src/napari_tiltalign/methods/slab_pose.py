"""Geometry of views that see a slab, its priors, and how it is levelled."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import (
    LOG_MAGNIFICATION,
    N_VIEW_PARAMETERS,
    ROTATION,
    SHIFT_X,
    SHIFT_Y,
    TILT,
    view_matrices,
)

HEIGHT_SD_ANGST = 120.0
"""Prior: how far a tile's height is from the plane of all tiles."""
_WEAK_SHIFT_SD_ANGST = 1e4
_WEAK_HEIGHT_SD_ANGST = 3e3
_HELD_SD_ANGST = 1.0
"""How far a step may displace the specimen as a whole in its plane: no image tells, so only rounding errors do."""


@dataclass(frozen=True, slots=True, eq=False)
class SlabPose:
    """Geometry of n views and how the slab lies.

    Attributes
    ----------
    views
        Shape (n, 5): rotation and tilt in degrees, log magnification, shift (y, x) in Angstrom.
    x_tilt_deg
        Turn of the slab about x, the same in all views.
    tilt_offset_deg
        What was added to all nominal tilts.
    nominal_tilt_deg
        Shape (n,).
    """

    views: FloatArray
    x_tilt_deg: float
    tilt_offset_deg: float
    nominal_tilt_deg: FloatArray

    def replace(self, **changes: object) -> SlabPose:
        """Return a copy with some fields replaced."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @property
    def x_tilts_deg(self) -> FloatArray:
        """The x tilt for every view, shape (n,)."""
        return np.full(len(self.views), self.x_tilt_deg)


def prior_terms(pose: SlabPose, centres: FloatArray, priors: ViewPriors) -> tuple[FloatArray, FloatArray]:
    """Hessian and gradient of the negative log prior."""
    n, p = len(pose.views), len(centres)
    size = n * N_VIEW_PARAMETERS
    hessian, gradient = np.zeros((size + p, size + p)), np.zeros(size + p)
    for kind, (weight, off) in _view_priors(pose, priors).items():
        own = np.arange(n) * N_VIEW_PARAMETERS + kind
        hessian[np.ix_(own, own)] = weight
        gradient[own] = weight @ off
    for kind in (SHIFT_Y, SHIFT_X):
        own = np.arange(n) * N_VIEW_PARAMETERS + kind
        hessian[own, own] = 1.0 / _WEAK_SHIFT_SD_ANGST**2
    for axis in (1, 2):
        displaced = np.zeros((n, N_VIEW_PARAMETERS))
        displaced[:, SHIFT_Y:] = view_matrices(pose.views, pose.x_tilts_deg)[:, :, axis]
        held = displaced.ravel() / np.square(displaced).sum() / _HELD_SD_ANGST
        hessian[:size, :size] += np.outer(held, held)
    uneven = _off_plane(centres) / HEIGHT_SD_ANGST**2
    hessian[size:, size:] = uneven + np.eye(p) / _WEAK_HEIGHT_SD_ANGST**2
    gradient[size:] = uneven @ centres[:, 0]
    return hessian, gradient


def _view_priors(pose: SlabPose, priors: ViewPriors) -> dict[int, tuple[FloatArray, FloatArray]]:
    """Precision (n, n) and deviation from the mean (n,) of every kind of view parameter that has a prior."""
    shifted = {TILT: pose.tilt_offset_deg}
    return {
        kind: (prior.precision(), pose.views[:, kind] - prior.mean - shifted.get(kind, 0.0))
        for kind, prior in zip((ROTATION, TILT, LOG_MAGNIFICATION), priors, strict=True)
    }


def _off_plane(centres: FloatArray) -> FloatArray:
    """Projector (p, p) that takes the plane out of heights."""
    plane = np.column_stack([np.ones(len(centres)), centres[:, 1:] / max(float(np.abs(centres[:, 1:]).max()), 1.0)])
    projector: FloatArray = np.eye(len(centres)) - plane @ np.linalg.pinv(plane)
    return projector


def prior_energy(pose: SlabPose, centres: FloatArray, priors: ViewPriors) -> float:
    """Negative log prior of a geometry and heights, without the weak ones."""
    views = sum(float(off @ weight @ off) for weight, off in _view_priors(pose, priors).values())
    return 0.5 * (views + float(np.square(_off_plane(centres) @ centres[:, 0] / HEIGHT_SD_ANGST).sum()))


def levelled(pose: SlabPose, centres: FloatArray) -> tuple[SlabPose, FloatArray]:
    """Turn the slab level: the robust plane through the tiles' heights becomes tilt offset, x tilt and shifts."""
    plane = np.column_stack([centres[:, 1:], np.ones(len(centres))])
    weight = np.ones(len(centres))
    for _ in range(8):
        slope_y, slope_x, mean = np.linalg.lstsq(plane * weight[:, None], centres[:, 0] * weight, rcond=None)[0]
        off = centres[:, 0] - plane @ np.array([slope_y, slope_x, mean])
        spread = 1.4826 * np.median(np.abs(off)) + 2.0
        weight = 1.0 / np.sqrt(1.0 + np.square(off / (2.0 * spread)))
    views = pose.views.copy()
    views[:, SHIFT_Y:] += view_matrices(views, pose.x_tilts_deg)[:, :, 0] * mean
    turn = float(np.rad2deg(np.arctan(slope_x)))
    views[:, TILT] -= turn
    level = centres.copy()
    level[:, 0] = off
    x_tilt = pose.x_tilt_deg + float(np.rad2deg(np.arctan(slope_y)))
    return SlabPose(views, x_tilt, pose.tilt_offset_deg - turn, pose.nominal_tilt_deg), level
