"""The projection model as the bundle adjustment needs it: per-view parameters, with derivatives.

The same model as `napari_tiltalign.geometry`, in one length unit (pixels) and with the parameters that are solved::

    view  (rotation_deg, tilt_deg, log_magnification, shift_y, shift_x)       point  (z, y, x)

``x_tilt`` is given and not solved: for all views together it is a turn of the specimen, which the points take up.
"""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray, ViewGeometry

ROTATION, TILT, LOG_MAGNIFICATION, SHIFT_Y, SHIFT_X = range(5)
N_VIEW_PARAMETERS = 5
_RADIANS = np.pi / 180.0


def view_matrices(views: FloatArray, x_tilt_deg: FloatArray) -> FloatArray:
    """Matrices that take points (z, y, x) to images (y, x) before the shift, shape (n, 2, 3)."""
    alpha, theta, xi = views[:, ROTATION] * _RADIANS, views[:, TILT] * _RADIANS, x_tilt_deg * _RADIANS
    sin_a, cos_a, sin_t, cos_t = np.sin(alpha), np.cos(alpha), np.sin(theta), np.cos(theta)
    # before the in-plane rotation: x' = cos(t) x + sin(t) (sin(xi) y + cos(xi) z),  y' = cos(xi) y - sin(xi) z
    x_row = np.stack([sin_t * np.cos(xi), sin_t * np.sin(xi), cos_t], axis=1)
    y_row = np.stack([-np.sin(xi), np.cos(xi), np.zeros_like(xi)], axis=1)
    rows = np.stack([sin_a[:, None] * x_row + cos_a[:, None] * y_row, cos_a[:, None] * x_row - sin_a[:, None] * y_row])
    matrices: FloatArray = rows.transpose(1, 0, 2) * np.exp(views[:, LOG_MAGNIFICATION])[:, None, None]
    return matrices


def project(views: FloatArray, points_zyx: FloatArray, x_tilt_deg: FloatArray) -> FloatArray:
    """Where every view sees every point, shape (n, p, 2), (y, x)."""
    seen: FloatArray = np.einsum("nij,pj->npi", view_matrices(views, x_tilt_deg), points_zyx)
    return seen + views[:, None, SHIFT_Y:]


def linearise(
    views: FloatArray, points_zyx: FloatArray, x_tilt_deg: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Predict where every view sees every point, with derivatives.

    Parameters
    ----------
    views, points_zyx, x_tilt_deg
        Parameters (n, 5), points (p, 3) and fixed x tilts (n,).

    Returns
    -------
    predicted, by_view, by_point
        Shapes (n, p, 2), (n, 5, p, 2) and, the same for all points of a view, (n, 2, 3); angles per degree.
    """
    matrices = view_matrices(views, x_tilt_deg)
    turned = views.copy()
    turned[:, TILT] += 90.0
    # d cos(t)/dt = cos(t + 90), d sin(t)/dt = sin(t + 90); y' does not depend on the tilt
    xi = x_tilt_deg * _RADIANS
    y_only = np.zeros_like(matrices)
    alpha, scale = views[:, ROTATION] * _RADIANS, np.exp(views[:, LOG_MAGNIFICATION])
    y_row = np.stack([-np.sin(xi), np.cos(xi), np.zeros_like(xi)], axis=1)
    y_only[:, 0] = (scale * np.cos(alpha))[:, None] * y_row
    y_only[:, 1] = (-scale * np.sin(alpha))[:, None] * y_row
    by_tilt = (view_matrices(turned, x_tilt_deg) - y_only) * _RADIANS

    unshifted = points_zyx @ matrices.transpose(0, 2, 1)
    by_view = np.zeros((len(views), N_VIEW_PARAMETERS, len(points_zyx), 2))
    by_view[:, ROTATION, :, 0] = unshifted[:, :, 1] * _RADIANS
    by_view[:, ROTATION, :, 1] = -unshifted[:, :, 0] * _RADIANS
    by_view[:, TILT] = points_zyx @ by_tilt.transpose(0, 2, 1)
    by_view[:, LOG_MAGNIFICATION] = unshifted
    by_view[:, SHIFT_Y, :, 0] = by_view[:, SHIFT_X, :, 1] = 1.0
    return unshifted + views[:, None, SHIFT_Y:], by_view, matrices


def views_from_geometry(geometry: ViewGeometry, pixel_size_angst: float) -> FloatArray:
    """View parameters (n, 5) in pixels from a geometry in Angstrom."""
    return np.column_stack(
        [
            geometry.z_rot_deg,
            geometry.y_tilt_deg,
            np.log(geometry.magnification),
            geometry.shift_yx_angst / pixel_size_angst,
        ]
    )


def geometry_from_views(views: FloatArray, x_tilt_deg: FloatArray, pixel_size_angst: float) -> ViewGeometry:
    """Geometry in Angstrom from view parameters (n, 5) in pixels."""
    return ViewGeometry(
        x_tilt_deg,
        views[:, TILT],
        views[:, ROTATION],
        views[:, SHIFT_Y:] * pixel_size_angst,
        np.exp(views[:, LOG_MAGNIFICATION]),
    )
