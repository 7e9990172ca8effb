"""A fitted motion of the specimen in itself, expressed as `LocalMotion` relative to the geometry of an alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, RigidMotion, ViewGeometry, rotation_x
from napari_tiltalign.methods.motion_kernel import ACROSS, ALONG, MotionBasis, time_covariance
from napari_tiltalign.methods.motion_problem import axis_rows
from napari_tiltalign.methods.projection import geometry_from_views
from napari_tiltalign.model import Alignment, LocalMotion
from napari_tiltalign.model.interpolation import interpolate_geometry


@dataclass(frozen=True, slots=True, eq=False)
class FittedMotion:
    """Motion of p points (beads, or the middles of tiles) in n images, in raw pixels.

    Attributes
    ----------
    start_views
        Shape (n, 5): where it was linearised, see `projection`.
    view_change
        Shape (n, 5): what the fit changed of them.
    points_zyx
        Shape (p, 3): the points there.
    displacement_zyx
        Shape (p, 3): by how much the fit displaced them, z and x in the frame of the tilt axis.
    basis
        Modes of the motion over these points and images.
    amplitudes
        Of the product modes of each component.
    x_tilt_deg, time_steps
        Shape (n,).
    solved
        Shape (n,): images that took part; the others' geometry is interpolated.
    reference
        Index of the image in which nothing has moved yet.
    """

    start_views: FloatArray
    view_change: FloatArray
    points_zyx: FloatArray
    displacement_zyx: FloatArray
    basis: MotionBasis
    amplitudes: tuple[FloatArray, ...]
    x_tilt_deg: FloatArray
    time_steps: FloatArray
    solved: NDArray[np.bool_]
    reference: int

    @property
    def views(self) -> FloatArray:
        """The views as fitted, shape (n, 5)."""
        return self.start_views + self.view_change

    def reference_points(self) -> FloatArray:
        """The points as they were in the reference image, (p, 3), pixels."""
        basis = self.basis
        in_space = basis.scales.amplitude_px * basis.space.values
        at_reference = time_covariance(self.time_steps[[self.reference]], self.time_steps, basis.scales)
        angle = np.deg2rad(self.start_views[:, 1])
        moved = self.displacement_zyx.copy()
        for axis, component, seen in ((0, ACROSS, np.sin(angle)), (1, ALONG, 1.0), (2, ACROSS, np.cos(angle))):
            in_time = (at_reference * seen) @ basis.time[component].elsewhere
            by_space, by_time = basis.pairs[component].T
            moved[:, axis] += in_space[:, by_space] @ (in_time[0, by_time] * self.amplitudes[component])
        # from the frame of the tilt axis to that of the specimen
        turn = rotation_x(np.median(self.x_tilt_deg))
        points: FloatArray = self.points_zyx + (moved[:, ::-1] @ turn)[:, ::-1]
        return points


def local_motion_of(
    fit: FittedMotion, alignment: Alignment, left_out_rms_px: float = np.nan, rigid_left_out_rms_px: float = np.nan
) -> LocalMotion:
    """Express a fit relative to the geometry of an alignment, with nothing moved in the reference image.

    Parameters
    ----------
    fit
        The fitted motion.
    alignment
        Its geometry is what the motion is relative to.
    left_out_rms_px, rigid_left_out_rms_px
        Error of points that were left out, with the motion and for a rigid specimen; NaN if that was not tried.
    """
    pixel, geometry = alignment.pixel_size_angst, alignment.geometry
    local = geometry_from_views(fit.views, fit.x_tilt_deg, pixel)
    motion = _onto(local, geometry, fit.reference)
    local = interpolate_geometry(local.compose(motion), fit.solved, geometry.y_tilt_deg)
    points = motion.inverse().apply(fit.reference_points() * pixel)
    corners = np.vstack([np.zeros(3), np.eye(3)])
    common = (local.project(corners) - geometry.project(corners)).transpose(0, 2, 1).copy()
    common[:, :, 1:] -= common[:, :, :1]
    scales = fit.basis.scales
    return LocalMotion(
        reference_tilt_id=alignment.tilt_ids[fit.reference],
        support_zyx_angst=points,
        coefficients_yx_angst=_coefficients(fit) * pixel,
        common_yx=common,
        length_angst=scales.length_px * pixel,
        time_steps=scales.time_steps,
        amplitude_angst=scales.amplitude_px * pixel,
        left_out_rms_px=left_out_rms_px,
        rigid_left_out_rms_px=rigid_left_out_rms_px,
    )


def _onto(local: ViewGeometry, geometry: ViewGeometry, reference: int) -> RigidMotion:
    """The motion of the specimen after which `local` sees it in the reference image just as `geometry` does."""
    turn = local.rotations()[reference].T @ geometry.rotations()[reference]
    apart_yx = geometry.shift_yx_angst[reference] - local.shift_yx_angst[reference]
    beam_frame = np.array([apart_yx[1], apart_yx[0], 0.0]) / local.magnification[reference]
    translation_xyz = local.rotations()[reference].T @ beam_frame
    scale = float(geometry.magnification[reference] / local.magnification[reference])
    return RigidMotion(turn, translation_xyz[::-1], scale)


def _coefficients(fit: FittedMotion) -> FloatArray:
    """Weights of the functions around the points in every image, relative to the reference, (n, p, 2), pixels."""
    basis, scales = fit.basis, fit.basis.scales
    at_reference = time_covariance(fit.time_steps[[fit.reference]], fit.time_steps, scales)
    tilt = np.deg2rad(fit.start_views[:, 1])
    along_axis = []
    for component in (ACROSS, ALONG):
        seen = np.cos(tilt[:, None] - tilt) if component == ACROSS else np.ones((len(tilt), len(tilt)))
        in_time = basis.time[component].values - (at_reference * seen) @ basis.time[component].elsewhere
        by_space, by_time = basis.pairs[component].T
        weighted = basis.space.elsewhere[:, by_space] * fit.amplitudes[component]
        along_axis.append(scales.amplitude_px * in_time[:, by_time] @ weighted.T)
    turned: FloatArray = np.einsum("ncr,cnp->npr", axis_rows(fit.views), np.stack(along_axis))
    return turned
