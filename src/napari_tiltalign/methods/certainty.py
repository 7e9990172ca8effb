"""What the covariance of the views means for people: error bars, the axis, and how far off the field is expected to be.

All methods that know the covariance of their view parameters tell it in this one way. What all views can do together
without any image telling is no error and is taken out first (an S-transformation, Baarda 1973).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, frozen_array
from napari_tiltalign.methods.projection import (
    LOG_MAGNIFICATION,
    N_VIEW_PARAMETERS,
    ROTATION,
    SHIFT_Y,
    TILT,
    linearise,
    view_matrices,
)
from napari_tiltalign.model import ExpectedError, Uncertainty

MAP_SHAPE_YX = (5, 5)
"""Places over the field at which the expected error is told; it is smooth, a view being affine."""


@dataclass(frozen=True, slots=True, eq=False)
class Certainty:
    """How sure n views are.

    Attributes
    ----------
    covariance
        Shape (5 n, 5 n): of the view parameters (`projection`), shifts in Angstrom.
    views
        Shape (n, 5): where they stand, shifts in Angstrom.
    x_tilt_deg
        Shape (n,): their fixed x tilts.
    index
        Shape (n,): image of the series that each of them is.
    """

    covariance: FloatArray
    views: FloatArray
    x_tilt_deg: FloatArray
    index: NDArray[np.intp]

    def __post_init__(self) -> None:
        size = len(self.views) * N_VIEW_PARAMETERS
        object.__setattr__(self, "covariance", frozen_array(self.covariance))
        if self.covariance.shape != (size, size):
            raise ValueError(f"{len(self.views)} views have no covariance of shape {self.covariance.shape}")

    @classmethod
    def in_pixels(
        cls, covariance: FloatArray, views: FloatArray, x_tilt_deg: FloatArray, index: NDArray[np.intp], pixel: float
    ) -> Certainty:
        """Make one of views whose shifts are in pixels of so many Angstrom."""
        scale = np.ones(views.shape)
        scale[:, SHIFT_Y:] = pixel
        flat = scale.ravel()
        return cls(covariance * flat[:, None] * flat, views * scale, x_tilt_deg, index)

    def view_sd(self) -> FloatArray:
        """Standard deviations of the view parameters, shape (n, 5), common motions of the specimen taken out."""
        return relative_sd(self.covariance, view_matrices(self.views, self.x_tilt_deg))

    def uncertainty(self, n_images: int) -> Uncertainty:
        """Error bars of all images of a series; NaN for those that are no views here."""
        sd = np.full((n_images, N_VIEW_PARAMETERS), np.nan)
        sd[self.index] = self.view_sd()
        return Uncertainty(
            y_tilt_deg=sd[:, TILT],
            z_rot_deg=sd[:, ROTATION],
            shift_yx_angst=sd[:, SHIFT_Y:],
            magnification=sd[:, LOG_MAGNIFICATION],
            axis_deg=self.axis_sd_deg(),
        )

    def axis_sd_deg(self) -> float:
        """Standard deviation of the tilt axis, degrees: that of the mean in-plane rotation."""
        own = np.arange(len(self.views)) * N_VIEW_PARAMETERS + ROTATION
        return float(np.sqrt(max(self.covariance[np.ix_(own, own)].mean(), 0.0)))

    def expected_error(self, field_yx_angst: FloatArray, thickness_angst: float) -> ExpectedError:
        """How far from the truth places of the specimen are expected to be seen, root mean square over the views.

        A turn, a displacement and a size of the whole specimen are fitted away, as `quality.difference` does, so the
        figure is what that would find.

        Parameters
        ----------
        field_yx_angst
            Size of the images.
        thickness_angst
            Thickness of the specimen; two layers stand for it.
        """
        axes = [((np.arange(n) + 0.5) / n - 0.5) * size for n, size in zip(MAP_SHAPE_YX, field_yx_angst, strict=True)]
        height = thickness_angst / np.sqrt(12.0)
        points = np.stack(np.meshgrid([-height, height], *axes, indexing="ij"), axis=-1).reshape(-1, 3)
        variance = self._variance_seen(points, field_yx_angst)
        by_place = variance.reshape(len(self.views), 2, *MAP_SHAPE_YX)
        seen = np.isfinite(by_place)
        total, count = np.where(seen, by_place, 0.0).sum(axis=(0, 1)), seen.sum(axis=(0, 1))
        rms = np.sqrt(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
        overall = float(np.sqrt(total.sum() / count.sum())) if count.any() else float("nan")
        return ExpectedError(axes[0], axes[1], rms, overall)

    def _variance_seen(self, points_zyx: FloatArray, field_yx_angst: FloatArray) -> FloatArray:
        """Variance (n, p), summed over both coordinates, of where views see points; NaN outside of a view."""
        n, p = len(self.views), len(points_zyx)
        predicted, by_view, by_point = linearise(self.views, points_zyx, self.x_tilt_deg)
        inside = (np.abs(predicted) <= field_yx_angst / 2.0).all(axis=2)
        lever = by_view.transpose(0, 2, 3, 1).reshape(n, 2 * p, N_VIEW_PARAMETERS)
        displacements = np.broadcast_to(np.eye(3), (p, 3, 3))
        motions = np.concatenate([displacements, _turns(points_zyx), points_zyx[:, :, None]], axis=2)
        free = (by_point[:, None] @ motions).reshape(n, 2 * p, -1)
        rows = np.repeat(inside, 2, axis=1)
        if rows.sum() < free.shape[2]:
            return np.full((n, p), np.nan)
        basis = np.zeros(free.shape)
        basis[rows] = np.linalg.qr(free[rows]).Q
        # the diagonal of P L C L' P with P = I - B B', as in `relative_sd`; L has a block of rows for every view
        spread = lever.transpose(0, 2, 1) @ basis
        pulled = (self.covariance @ spread.reshape(-1, basis.shape[2])).reshape(spread.shape)
        blocks = self.covariance.reshape(n, N_VIEW_PARAMETERS, n, N_VIEW_PARAMETERS)[np.arange(n), :, np.arange(n)]
        within = (spread.transpose(0, 2, 1) @ pulled).sum(axis=0)
        by_row = ((lever @ blocks) * lever).sum(axis=2) + ((basis @ within - 2.0 * (lever @ pulled)) * basis).sum(
            axis=2
        )
        variance = by_row.reshape(n, p, 2).sum(axis=2)
        return np.where(inside, np.maximum(variance, 0.0), np.nan)


def common_motion_basis(matrices: FloatArray) -> FloatArray:
    """Orthonormal changes of all view parameters together that no image tells, shape (5 n, 5).

    Displacements of the specimen, a turn about the tilt axis, and a change of size.

    Parameters
    ----------
    matrices
        Shape (n, 2, 3): what takes points (z, y, x) to images (y, x).
    """
    common = np.zeros((len(matrices), N_VIEW_PARAMETERS, 5))
    common[:, SHIFT_Y:, :3] = matrices
    common[:, TILT, 3] = 1.0
    common[:, LOG_MAGNIFICATION, 4] = 1.0
    basis: FloatArray = np.linalg.qr(common.reshape(-1, 5)).Q
    return basis


def relative_sd(covariance: FloatArray, matrices: FloatArray) -> FloatArray:
    """Standard deviations (n, 5) from a covariance (5 n, 5 n), common motions of the specimen taken out."""
    basis = common_motion_basis(matrices)
    pulled = covariance @ basis
    # the diagonal of P C P with P = I - B B'
    variance = np.diag(covariance) - 2.0 * np.einsum("ag,ag->a", pulled, basis)
    variance += np.einsum("ag,gh,ah->a", basis, basis.T @ pulled, basis)
    sd: FloatArray = np.sqrt(np.maximum(variance, 0.0)).reshape(-1, N_VIEW_PARAMETERS)
    return sd


def _turns(points_zyx: FloatArray) -> FloatArray:
    """Displacements (p, 3, 3) by small turns about z, y and x."""
    return np.stack([np.cross(axis, points_zyx) for axis in np.eye(3)], axis=2)
