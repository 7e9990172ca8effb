"""Balls: what every simulated specimen is made of, because a ball looks the same from all sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry, frozen_array


@dataclass(frozen=True, slots=True, eq=False)
class Balls:
    """Balls of matter in the specimen.

    Attributes
    ----------
    centre_zyx_angst
        Shape (p, 3): centres in the specimen, Angstrom.
    radius_angst
        Shape (p,).
    density
        Shape (p,): relative to the solid material.
    """

    centre_zyx_angst: FloatArray
    radius_angst: FloatArray
    density: FloatArray

    def __post_init__(self) -> None:
        p = len(self.radius_angst)
        for name, shape in {"centre_zyx_angst": (p, 3), "radius_angst": (p,), "density": (p,)}.items():
            array = frozen_array(getattr(self, name))
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.radius_angst)

    @classmethod
    def none(cls) -> Balls:
        """Return no balls."""
        return cls(np.zeros((0, 3)), np.zeros(0), np.zeros(0))

    @classmethod
    def joined(cls, *parts: Balls) -> Balls:
        """Return all balls of several groups."""
        return cls(
            np.concatenate([part.centre_zyx_angst for part in parts]),
            np.concatenate([part.radius_angst for part in parts]),
            np.concatenate([part.density for part in parts]),
        )

    def take(self, keep: NDArray[np.bool_]) -> Balls:
        """Return some of the balls (mask over p)."""
        return Balls(self.centre_zyx_angst[keep], self.radius_angst[keep], self.density[keep])


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """A box in the specimen.

    Attributes
    ----------
    low_zyx_angst, high_zyx_angst
        Shape (3,): its corners, Angstrom.
    """

    low_zyx_angst: FloatArray
    high_zyx_angst: FloatArray

    @property
    def size_zyx_angst(self) -> FloatArray:
        """Shape (3,): lengths of its sides."""
        return self.high_zyx_angst - self.low_zyx_angst

    def scatter(self, density_per_um3: float, random: np.random.Generator) -> FloatArray:
        """Draw points spread evenly in the box, shape (p, 3)."""
        volume_um3 = float(np.prod(self.size_zyx_angst)) * 1e-12
        return random.uniform(self.low_zyx_angst, self.high_zyx_angst, (round(volume_um3 * density_per_um3), 3))


def box_in_view(geometry: ViewGeometry, field_yx_angst: FloatArray, thickness_angst: float) -> Box:
    """Return the part of the slab that at least one image sees."""
    half_y, half_x = field_yx_angst / 2
    corners = np.array([[y, x] for y in (-half_y, half_y) for x in (-half_x, half_x)])
    half = thickness_angst / 2
    seen = np.concatenate(
        [geometry.unproject(i, corners, height) for i in range(len(geometry)) for height in (-half, half)]
    )
    return Box(seen.min(axis=0), seen.max(axis=0))


def in_view(geometry: ViewGeometry, balls: Balls, field_yx_angst: FloatArray, margin_angst: float) -> NDArray[np.bool_]:
    """Which balls at least one image sees, shape (p,)."""
    reach = field_yx_angst / 2 + margin_angst + balls.radius_angst[:, None]
    seen = np.zeros(len(balls), bool)
    for i in range(len(geometry)):
        seen |= np.all(np.abs(geometry.take([i]).project(balls.centre_zyx_angst)[0]) <= reach, axis=1)
    return seen
