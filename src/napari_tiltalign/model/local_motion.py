"""Motion of the specimen in itself while it was exposed: where a point moves, as every image sees it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_tiltalign.geometry import FloatArray, frozen_array


@dataclass(frozen=True, slots=True, eq=False)
class LocalMotion:
    """A smooth field of displacements over the specimen for each of n images, learned from p beads.

    A point X of the specimen, as it was in the reference image, is seen at
    ``geometry.project(X) + displacement_yx_angst(X)``, where ``geometry`` is that of the alignment. In the reference
    image the displacement is zero everywhere.

    Attributes
    ----------
    reference_tilt_id
        The image in which nothing has moved yet: the first one exposed.
    support_zyx_angst
        Shape (p, 3): the beads as they were in the reference image, Angstrom about the rotation centre.
    coefficients_yx_angst
        Shape (n, p, 2): weights of the smooth functions around the beads, Angstrom in the image.
    common_yx
        Shape (n, 2, 4): the part common to the whole image, which takes (1, z, y, x) in Angstrom to a displacement:
        what the motion changes of the image's shift, rotation, tilt and magnification.
    length_angst
        Distance over which the motion changes.
    time_steps
        Time over which it changes, in images in the order of exposure (of tilt if that is unknown).
    amplitude_angst
        Typical size of a component of the motion (standard deviation).
    left_out_rms_px, rigid_left_out_rms_px
        Error of predicting beads that were left out, root mean square distance in raw pixels: with this motion, and
        for a rigid specimen. NaN if that was not tried.
    """

    reference_tilt_id: str
    support_zyx_angst: FloatArray
    coefficients_yx_angst: FloatArray
    common_yx: FloatArray
    length_angst: float
    time_steps: float
    amplitude_angst: float
    left_out_rms_px: float
    rigid_left_out_rms_px: float

    def __post_init__(self) -> None:
        for name in ("support_zyx_angst", "coefficients_yx_angst", "common_yx"):
            object.__setattr__(self, name, frozen_array(getattr(self, name)))
        n, p = len(self), len(self.support_zyx_angst)
        if self.support_zyx_angst.shape != (p, 3):
            raise ValueError(f"support_zyx_angst has shape {self.support_zyx_angst.shape}, expected (p, 3)")
        if self.coefficients_yx_angst.shape != (n, p, 2):
            raise ValueError(
                f"coefficients_yx_angst has shape {self.coefficients_yx_angst.shape} for {n} images and {p} beads"
            )
        if self.common_yx.shape != (n, 2, 4):
            raise ValueError(f"common_yx has shape {self.common_yx.shape} for {n} images")
        if not (self.length_angst > 0 and self.time_steps > 0):
            raise ValueError("length_angst and time_steps must be positive")

    def __len__(self) -> int:
        return len(self.coefficients_yx_angst)

    def displacement_yx_angst(self, points_zyx_angst: ArrayLike, image: int) -> FloatArray:
        """How far an image sees points from where the alignment's geometry puts them.

        Parameters
        ----------
        points_zyx_angst
            Shape (q, 3): points as they were in the reference image, Angstrom about the rotation centre.
        image
            Index of the image in the alignment.

        Returns
        -------
        FloatArray
            Shape (q, 2), (y, x), Angstrom.

        Notes
        -----
        Far from all beads only the part common to the image is left.
        """
        points = np.asarray(points_zyx_angst, dtype=np.float64)
        apart = np.linalg.norm(points[:, None, 1:] - self.support_zyx_angst[None, :, 1:], axis=2)
        local = matern_3_2(apart / self.length_angst) @ self.coefficients_yx_angst[image]
        common = np.column_stack([np.ones(len(points)), points]) @ self.common_yx[image].T
        displacement: FloatArray = local + common
        return displacement

    def take(self, index: NDArray[np.intp]) -> LocalMotion:
        """Return the motion for some of the images, by index."""
        return dataclasses.replace(
            self, coefficients_yx_angst=self.coefficients_yx_angst[index], common_yx=self.common_yx[index]
        )


def matern_3_2(distance: FloatArray) -> FloatArray:
    """Matern correlation of smoothness 3/2 at a distance in units of its length (Rasmussen and Williams 2006, 4.17)."""
    scaled = np.sqrt(3.0) * distance
    correlation: FloatArray = (1.0 + scaled) * np.exp(-scaled)
    return correlation


def matern_5_2(distance: FloatArray) -> FloatArray:
    """Matern correlation of smoothness 5/2 at a distance in units of its length (Rasmussen and Williams 2006, 4.17)."""
    scaled = np.sqrt(5.0) * distance
    correlation: FloatArray = (1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled)
    return correlation
