"""A Gaussian process for the motion of the specimen in itself, reduced to the modes that matter.

The displacement of the specimen at (y, x) and time t has three independent components with one covariance,
``amplitude^2 M(|x - x'| / length) T(|t - t'| / time)``, with Matern functions of smoothness 3/2 over the specimen and
5/2 in time: of those tried they explain real specimens best, and smoothly moving ones no worse than smoother functions.
An image at tilt a sees, across and along the tilt axis, ::

    across = cos(a) d_x + sin(a) d_z        covariance in time  T(|t - t'| / time) cos(a - a')
    along  = d_y                            covariance in time  T(|t - t'| / time)

On a grid of beads and images the covariance is a Kronecker product, so its eigenvectors are products of a mode over
the beads and a mode over the images. Those that the noise would drown are left out (a reduced-rank Gaussian process,
Rasmussen and Williams 2006, section 8.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model.local_motion import matern_3_2, matern_5_2

ACROSS, ALONG = 0, 1
"""Components of what an image sees: across and along the tilt axis."""

_FAINTEST = 0.05
"""Modes with less signal than this, parts of the noise, are left out."""
_MOST_MODES = 600
"""Modes of a component at most, the strongest ones."""


@dataclass(frozen=True, slots=True)
class MotionScales:
    """Hyper-parameters of the motion.

    Attributes
    ----------
    amplitude_px
        Standard deviation of a component of the motion, pixels.
    length_px
        Distance over which it changes, pixels.
    time_steps
        Time over which it changes, images.
    noise_px
        Standard deviation of a coordinate of a typical observation, pixels.
    """

    amplitude_px: float
    length_px: float
    time_steps: float
    noise_px: float


@dataclass(frozen=True, slots=True, eq=False)
class Modes:
    """Eigenvectors of a covariance over g places, strongest first.

    Attributes
    ----------
    values
        Shape (g, m): eigenvectors times the roots of their eigenvalues; ``values @ values.T`` is the covariance.
    elsewhere
        Shape (g, m): a covariance (e, g) between other places and these, times this, gives the modes there.
    """

    values: FloatArray
    elsewhere: FloatArray

    @classmethod
    def of(cls, covariance: FloatArray, least: float) -> Modes:
        """Modes with an eigenvalue above `least`; at least one."""
        eigenvalues, vectors = np.linalg.eigh(covariance)
        strong = np.flatnonzero(eigenvalues > max(least, 1e-9 * eigenvalues[-1]))[::-1]
        strong = strong if strong.size else np.array([len(eigenvalues) - 1])
        root = np.sqrt(eigenvalues[strong])
        return cls(vectors[:, strong] * root, vectors[:, strong] / root)

    @property
    def strength(self) -> FloatArray:
        """Eigenvalues, shape (m,)."""
        strength: FloatArray = (self.values**2).sum(axis=0)
        return strength


@dataclass(frozen=True, slots=True, eq=False)
class MotionBasis:
    """Modes of the motion over p beads and n images.

    Attributes
    ----------
    scales
        Hyper-parameters.
    space
        Modes over the beads.
    time
        Modes over the images, across and along the tilt axis.
    pairs
        For each component, shape (q, 2): which mode over the beads and which over the images make a product mode.
    """

    scales: MotionScales
    space: Modes
    time: tuple[Modes, Modes]
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]]

    @classmethod
    def of(
        cls, scales: MotionScales, points_yx_px: FloatArray, time_steps: FloatArray, tilt_deg: FloatArray
    ) -> MotionBasis:
        """Modes for given hyper-parameters.

        Parameters
        ----------
        scales
            Hyper-parameters.
        points_yx_px
            Shape (p, 2): beads in the specimen.
        time_steps, tilt_deg
            Shape (n,): time and tilt of the images.
        """
        floor = _FAINTEST * (scales.noise_px / scales.amplitude_px) ** 2
        in_space = space_covariance(points_yx_px, points_yx_px, scales)
        in_time = time_covariance(time_steps, time_steps, scales)
        space = Modes.of(in_space, floor / len(time_steps))
        apart = np.deg2rad(tilt_deg[:, None] - tilt_deg)
        least = floor / space.strength[0]
        time = (Modes.of(in_time * np.cos(apart), least), Modes.of(in_time, least))
        return cls(scales, space, time, (_pairs(space, time[ACROSS], floor), _pairs(space, time[ALONG], floor)))

    def modes(self, component: int) -> tuple[FloatArray, FloatArray]:
        """Factors of the product modes of a component over the beads (p, q) and over the images (n, q), pixels."""
        in_space, in_time = self.pairs[component].T
        return self.scales.amplitude_px * self.space.values[:, in_space], self.time[component].values[:, in_time]


def _pairs(space: Modes, time: Modes, floor: float) -> NDArray[np.intp]:
    """Product modes above the floor, the strongest if there are too many."""
    strength = np.multiply.outer(space.strength, time.strength)
    if np.count_nonzero(strength > floor) > _MOST_MODES:
        floor = float(np.partition(strength.ravel(), -_MOST_MODES - 1)[-_MOST_MODES - 1])
    return np.argwhere(strength > min(floor, 0.999 * float(strength.max())))


def space_covariance(first_yx_px: FloatArray, second_yx_px: FloatArray, scales: MotionScales) -> FloatArray:
    """Correlation of the motion between two sets of places, shape (first, second)."""
    return matern_3_2(np.linalg.norm(first_yx_px[:, None] - second_yx_px[None], axis=2) / scales.length_px)


def time_covariance(first: FloatArray, second: FloatArray, scales: MotionScales) -> FloatArray:
    """Correlation of the motion between two sets of times, shape (first, second)."""
    return matern_5_2(np.abs(first[:, None] - second) / scales.time_steps)
