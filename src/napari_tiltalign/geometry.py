"""The projection model: how a point of the specimen is seen in every image of a tilt series.

There is one model, RELION 5's (the `Tomogram` class of RELION, columns ``rlnTomoXTilt`` ... ``rlnTomoYShiftAngst``),
with a magnification per image added::

    (u, v) = m [ Rz(z_rot) Ry(y_tilt) Rx(x_tilt) (x, y, z) ]_xy + (shift_x, shift_y)

         | 1  0   0 |         |  c  0  s |         | c  -s  0 |
    Rx = | 0  c  -s |    Ry = |  0  1  0 |    Rz = | s   c  0 |      c = cos(angle), s = sin(angle)
         | 0  s   c |         | -s  0  c |         | 0   0  1 |

A specimen point (x, y, z) is given in Angstrom about the rotation centre, an image point (u, v) in Angstrom about the
image centre, which is the pixel of index ``N // 2`` on each axis. u runs with the column index, v with the row index,
angles are right-handed and in degrees, and y is the tilt axis before ``z_rot`` turns it in the image plane.

Arrays are ordered (z, y, x) and (y, x), as everywhere in this package; only rotation matrices act on column vectors
(x, y, z), because that is how they are printed in the literature. Nothing here needs more than numpy.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating[Any]]


def frozen_array(values: ArrayLike, dtype: Any = np.float64) -> NDArray[Any]:
    """Return a read-only copy of `values` as a C-contiguous array of `dtype`."""
    array = np.array(values, dtype=dtype, order="C")
    array.flags.writeable = False
    return array


def rotation_x(angle_deg: ArrayLike) -> FloatArray:
    """Right-handed rotation(s) about x, shape (..., 3, 3), acting on (x, y, z)."""
    return _rotation(angle_deg, 1, 2)


def rotation_y(angle_deg: ArrayLike) -> FloatArray:
    """Right-handed rotation(s) about y, shape (..., 3, 3), acting on (x, y, z)."""
    return _rotation(angle_deg, 2, 0)


def rotation_z(angle_deg: ArrayLike) -> FloatArray:
    """Right-handed rotation(s) about z, shape (..., 3, 3), acting on (x, y, z)."""
    return _rotation(angle_deg, 0, 1)


def _rotation(angle_deg: ArrayLike, first: int, second: int) -> FloatArray:
    """Rotation that turns axis `first` towards axis `second`."""
    angle = np.deg2rad(np.asarray(angle_deg, dtype=np.float64))
    matrix = np.zeros((*angle.shape, 3, 3))
    fixed = 3 - first - second
    matrix[..., fixed, fixed] = 1.0
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., second, first] = np.sin(angle)
    matrix[..., first, second] = -np.sin(angle)
    return matrix


def euler_angles_deg(rotation: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Split rotations into ``Rz(z_rot) Ry(y_tilt) Rx(x_tilt)``.

    Parameters
    ----------
    rotation
        Proper rotation matrices, shape (..., 3, 3), acting on (x, y, z).

    Returns
    -------
    x_tilt_deg, y_tilt_deg, z_rot_deg
        Each of shape (...,); y_tilt lies within [-90, 90], and x_tilt is 0 where it is one of these. What RELION's
        ``getProjectionAnglesFromMatrix`` gives.
    """
    cosine = np.hypot(rotation[..., 0, 0], rotation[..., 1, 0])
    y_tilt = np.arctan2(-rotation[..., 2, 0], cosine)
    locked = cosine < 1e-8  # x and z then turn about the same axis, and z takes all of it
    x_tilt = np.where(locked, 0.0, np.arctan2(rotation[..., 2, 1], rotation[..., 2, 2]))
    z_rot = np.where(
        locked,
        np.arctan2(-rotation[..., 0, 1], rotation[..., 1, 1]),
        np.arctan2(rotation[..., 1, 0], rotation[..., 0, 0]),
    )
    return np.rad2deg(x_tilt), np.rad2deg(y_tilt), np.rad2deg(z_rot)


def wrap_deg(angle_deg: ArrayLike) -> FloatArray:
    """Bring angles into [-180, 180)."""
    return (np.asarray(angle_deg, dtype=np.float64) + 180.0) % 360.0 - 180.0


@dataclass(frozen=True, slots=True, eq=False)
class RigidMotion:
    """A similarity of the specimen, ``X_old = scale R X_new + translation``.

    Attributes
    ----------
    rotation
        Shape (3, 3), acting on (x, y, z).
    translation_zyx_angst
        Shape (3,), in Angstrom.
    scale
        Positive; 1 for a rigid motion.
    """

    rotation: FloatArray
    translation_zyx_angst: FloatArray
    scale: float = 1.0

    def __post_init__(self) -> None:
        rotation, translation = frozen_array(self.rotation), frozen_array(self.translation_zyx_angst)
        if rotation.shape != (3, 3) or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6):
            raise ValueError("rotation must be an orthogonal (3, 3) matrix")
        if np.linalg.det(rotation) < 0:
            raise ValueError("rotation must be proper; use ViewGeometry.mirrored() for the other hand")
        if translation.shape != (3,) or not self.scale > 0:
            raise ValueError("translation must have shape (3,) and scale must be positive")
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "translation_zyx_angst", translation)

    @classmethod
    def identity(cls) -> Self:
        """Return the motion that changes nothing."""
        return cls(np.eye(3), np.zeros(3))

    def apply(self, points_zyx_angst: ArrayLike) -> FloatArray:
        """Map new coordinates to old ones; points have shape (..., 3)."""
        points = np.asarray(points_zyx_angst, dtype=np.float64)
        turned = points[..., ::-1] @ self.rotation.T
        return self.scale * turned[..., ::-1] + self.translation_zyx_angst

    def inverse(self) -> RigidMotion:
        """Return the motion that undoes this one."""
        shift = -(self.translation_zyx_angst[::-1] @ self.rotation)[::-1] / self.scale
        return RigidMotion(self.rotation.T, shift, 1.0 / self.scale)

    def after(self, other: RigidMotion) -> RigidMotion:
        """Return ``self(other(X))`` as one motion."""
        return RigidMotion(
            self.rotation @ other.rotation,
            self.apply(other.translation_zyx_angst),
            self.scale * other.scale,
        )


@dataclass(frozen=True, slots=True, eq=False)
class ViewGeometry:
    """How every one of n images sees the specimen (see the module's docstring for the model).

    Attributes
    ----------
    x_tilt_deg, y_tilt_deg, z_rot_deg
        Shape (n,), degrees: turn of the specimen about x, about the tilt axis y, and of the axis in the image.
    shift_yx_angst
        Shape (n, 2), Angstrom: where the rotation centre is seen, from the image centre (index ``N // 2``).
    magnification
        Shape (n,), relative; RELION's STAR files imply 1.
    """

    x_tilt_deg: FloatArray
    y_tilt_deg: FloatArray
    z_rot_deg: FloatArray
    shift_yx_angst: FloatArray
    magnification: FloatArray

    def __post_init__(self) -> None:
        n = np.size(self.y_tilt_deg)
        for field in dataclasses.fields(self):
            array = frozen_array(getattr(self, field.name))
            expected = (n, 2) if field.name == "shift_yx_angst" else (n,)
            if array.shape != expected:
                raise ValueError(f"{field.name} has shape {array.shape}, expected {expected}")
            if not np.isfinite(array).all():
                raise ValueError(f"{field.name} holds values that are not finite")
            object.__setattr__(self, field.name, array)
        if (self.magnification <= 0).any():
            raise ValueError("magnification must be positive")

    @classmethod
    def nominal(cls, tilt_deg: ArrayLike, axis_deg: ArrayLike) -> Self:
        """Geometry of a perfect stage: tilts (n,) about an axis at `axis_deg` (scalar or (n,)), no shifts."""
        tilt = np.asarray(tilt_deg, dtype=np.float64)
        zero = np.zeros_like(tilt)
        return cls(zero, tilt, np.broadcast_to(axis_deg, tilt.shape), np.zeros((tilt.size, 2)), np.ones_like(tilt))

    def __len__(self) -> int:
        return self.y_tilt_deg.size

    def replace(self, **changes: ArrayLike) -> ViewGeometry:
        """Return a copy with some arrays replaced."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def take(self, index: ArrayLike) -> ViewGeometry:
        """Return the geometry of some images: integer indices or a boolean mask over the n images."""
        chosen = np.asarray(index)
        return ViewGeometry(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))

    def rotations(self) -> FloatArray:
        """Rotation of every image, shape (n, 3, 3), acting on (x, y, z)."""
        return rotation_z(self.z_rot_deg) @ rotation_y(self.y_tilt_deg) @ rotation_x(self.x_tilt_deg)

    def project(self, points_zyx_angst: ArrayLike) -> FloatArray:
        """Where every image sees every point.

        Parameters
        ----------
        points_zyx_angst
            Shape (p, 3), Angstrom about the rotation centre.

        Returns
        -------
        FloatArray
            Shape (n, p, 2), (y, x) in Angstrom from the image centre.

        Examples
        --------
        >>> from napari_tiltalign.geometry import ViewGeometry
        >>> view = ViewGeometry.nominal([60.0], axis_deg=0.0)
        >>> view.project([[0.0, 5.0, 100.0]]).round(6).tolist()  # x shrinks to cos(60 deg)
        [[[5.0, 50.0]]]
        """
        points_xyz = np.asarray(points_zyx_angst, dtype=np.float64)[:, ::-1]
        rows_yx = (self.rotations()[:, :2] * self.magnification[:, None, None])[:, ::-1]
        seen: FloatArray = np.einsum("nij,pj->npi", rows_yx, points_xyz) + self.shift_yx_angst[:, None, :]
        return seen

    def depth(self, points_zyx_angst: ArrayLike) -> FloatArray:
        """Height of every point along the beam in every image, shape (n, p), Angstrom from the rotation centre."""
        points_xyz = np.asarray(points_zyx_angst, dtype=np.float64)[:, ::-1]
        depth: FloatArray = np.einsum("nj,pj->np", self.rotations()[:, 2], points_xyz)
        return depth

    def unproject(self, view: int, positions_yx_angst: ArrayLike, height_z_angst: float = 0.0) -> FloatArray:
        """Specimen points that image `view` sees at given positions, if they lie at height z.

        Parameters
        ----------
        view
            Index of the image.
        positions_yx_angst
            Shape (p, 2), Angstrom from the image centre.
        height_z_angst
            Height of the points in the specimen, Angstrom.

        Returns
        -------
        FloatArray
            Shape (p, 3), (z, y, x) in Angstrom.

        Raises
        ------
        ValueError
            If the image looks along the specimen plane, so that the answer does not exist.
        """
        rows = self.rotations()[view, :2]
        if abs(np.linalg.det(rows[:, :2])) < 1e-6:
            raise ValueError("the image sees the specimen plane edge-on")
        seen_xy = (np.asarray(positions_yx_angst, float) - self.shift_yx_angst[view])[:, ::-1]
        seen_xy = seen_xy / self.magnification[view] - height_z_angst * rows[:, 2]
        xy = np.linalg.solve(rows[:, :2], seen_xy.T).T
        return np.column_stack([np.full(len(xy), height_z_angst), xy[:, 1], xy[:, 0]])

    def compose(self, motion: RigidMotion) -> ViewGeometry:
        """Geometry for moved specimen coordinates: ``result.project(X) == self.project(motion.apply(X))``."""
        x_tilt, y_tilt, z_rot = euler_angles_deg(self.rotations() @ motion.rotation)
        centre_yx = self.project(motion.translation_zyx_angst[None])[:, 0]
        return ViewGeometry(x_tilt, y_tilt, z_rot, centre_yx, self.magnification * motion.scale)

    def mirrored(self) -> ViewGeometry:
        """Return the other hand: the same images of the specimen mirrored in z (tilts and z change sign).

        Positions in images cannot tell the two apart: ``mirrored().project((-z, y, x)) == project((z, y, x))``.
        """
        return self.replace(x_tilt_deg=-self.x_tilt_deg, y_tilt_deg=-self.y_tilt_deg)

    def rescaled_shifts(self, factor: float) -> ViewGeometry:
        """Return the geometry with all lengths multiplied by `factor` (a corrected pixel size)."""
        return self.replace(shift_yx_angst=self.shift_yx_angst * factor)
