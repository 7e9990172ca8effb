"""Between our projection model and IMOD's transforms.

IMOD maps a raw position p to an aligned one, ``p' = A p + d``, both in pixels about the edge centre (see
`edge_centre`), and says that a point (X, Y, Z) of the specimen is seen in the aligned image at ``[Ry(tlt) Rx(xtilt)
(X, Y, Z)]_xy``. Put into ``u = m Rz(z_rot) p' + shift`` this gives ``A = Rz(-z_rot) / m`` and ``d = -A shift``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_tiltalign.geometry import FloatArray, ViewGeometry, rotation_z
from napari_tiltalign.io.edge_centre import HalfPixel, from_edge_centre_px


def xf_from_geometry(geometry: ViewGeometry, image_shape_yx: tuple[int, int], pixel_size_angst: float) -> FloatArray:
    """Return IMOD's transforms for n images, shape (n, 6): A11 A12 A21 A22 DX DY.

    Parameters
    ----------
    geometry
        Of n images; the tilts are not part of the transforms.
    image_shape_yx, pixel_size_angst
        Of the raw images.
    """
    linear = rotation_z(-geometry.z_rot_deg)[:, :2, :2] / geometry.magnification[:, None, None]
    centre_px = geometry.shift_yx_angst / pixel_size_angst + from_edge_centre_px(image_shape_yx)
    moved_xy = -np.einsum("nij,nj->ni", linear, centre_px[:, ::-1])
    return np.column_stack([linear.reshape(-1, 4), moved_xy])


@dataclass(frozen=True, slots=True, eq=False)
class XfGeometry:
    """What IMOD's transforms mean in our model, and what they hold beyond it.

    Attributes
    ----------
    geometry
        Of n images.
    beyond_angst
        Shape (n,): how far stretch and skew, which our model does not have, move the corner of an image.
    """

    geometry: ViewGeometry
    beyond_angst: FloatArray


def geometry_from_xf(
    xf: FloatArray,
    y_tilt_deg: FloatArray,
    x_tilt_deg: FloatArray,
    image_shape_yx: tuple[int, int],
    pixel_size_angst: float,
    xf_pixel_size_angst: float | None = None,
    half_pixel: HalfPixel = "exact",
) -> XfGeometry:
    """Read IMOD's transforms: rotation and magnification are the best for positions in the raw image.

    Parameters
    ----------
    xf
        Shape (n, 6): A11 A12 A21 A22 DX DY.
    y_tilt_deg, x_tilt_deg
        Shape (n,): contents of ``.tlt`` and ``.xtilt``.
    image_shape_yx, pixel_size_angst
        Of the raw images that the result is for.
    xf_pixel_size_angst
        Of the images that the transforms were made from, if another.
    half_pixel
        See `edge_centre.HalfPixel`.

    Raises
    ------
    ValueError
        If a transform mirrors the image or squeezes it to a line. The message gives the line.
    """
    aligned_from_raw = xf[:, :4].reshape(-1, 2, 2)
    if (bad := np.flatnonzero(np.linalg.det(aligned_from_raw) < 1e-6)).size:
        raise ValueError(f"the transform in line {bad[0] + 1} mirrors the image or squeezes it to a line")
    raw_from_aligned = np.linalg.inv(aligned_from_raw)
    cosine = 0.5 * (raw_from_aligned[:, 0, 0] + raw_from_aligned[:, 1, 1])
    sine = 0.5 * (raw_from_aligned[:, 1, 0] - raw_from_aligned[:, 0, 1])
    magnification = np.hypot(cosine, sine)
    z_rot_deg = np.rad2deg(np.arctan2(sine, cosine))
    centre_xy_px = -np.einsum("nij,nj->ni", raw_from_aligned, xf[:, 4:])
    edge_to_ours_angst = from_edge_centre_px(image_shape_yx, half_pixel) * pixel_size_angst
    shift = centre_xy_px[:, ::-1] * (xf_pixel_size_angst or pixel_size_angst) - edge_to_ours_angst
    geometry = ViewGeometry(x_tilt_deg, y_tilt_deg, z_rot_deg, shift, magnification)
    beyond = raw_from_aligned - rotation_z(z_rot_deg)[:, :2, :2] * magnification[:, None, None]
    return XfGeometry(geometry, _corner_displacement_px(beyond, image_shape_yx) * pixel_size_angst)


def _corner_displacement_px(linear: FloatArray, image_shape_yx: tuple[int, int]) -> FloatArray:
    """Largest displacement of a corner of the image by each 2x2 matrix, shape (n,)."""
    half_y, half_x = (0.5 * size for size in image_shape_yx)
    corners_xy = np.array([[half_x, half_y], [half_x, -half_y]])
    moved = np.einsum("nij,cj->nci", linear, corners_xy)
    return np.asarray(np.linalg.norm(moved, axis=-1).max(axis=-1))
