"""What the microscope does: the order of the images, where the stage really is, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry, frozen_array
from napari_tiltalign.simulation.options import Simulation

SMOOTH_OVER_DEG = 25.0
"""Tilt over which rotation and magnification change."""


class Fate(StrEnum):
    """What became of an image."""

    GOOD = ""
    DARK = "no beam"
    BLOCKED = "blocked by the grid"


@dataclass(frozen=True, slots=True, eq=False)
class Acquisition:
    """How n images were taken, in the order of their acquisition.

    Attributes
    ----------
    stage_tilt_deg
        Shape (n,): what the stage was asked for.
    pre_exposure_e_per_A2
        Shape (n,): dose before the image.
    geometry
        How the images really see the specimen, whose slab is level (z is its normal).
    fates
        n entries: what became of each image.
    """

    stage_tilt_deg: FloatArray
    pre_exposure_e_per_A2: FloatArray  # noqa: N815 (the unit's own capital)
    geometry: ViewGeometry
    fates: tuple[Fate, ...]

    def __len__(self) -> int:
        return len(self.fates)


def acquire(options: Simulation) -> Acquisition:
    """Take the images: draw the true geometry and the faults of every one."""
    tilt = _with_duplicates(_in_order(options), options)
    n = len(tilt)
    geometry = ViewGeometry(
        x_tilt_deg=np.zeros(n),
        y_tilt_deg=tilt + options.pretilt_deg + options.random("tilt").normal(0, 1, n) * options.tilt_error_sd_deg,
        z_rot_deg=options.axis_deg + options.axis_error_deg + _rotations_deg(tilt, options),
        shift_yx_angst=_shifts_angst(n, options) + _jumps_angst(n, options),
        magnification=1 + _magnification_changes(tilt, options),
    )
    return Acquisition(
        stage_tilt_deg=frozen_array(tilt),
        pre_exposure_e_per_A2=frozen_array(np.arange(n) * options.dose_per_view_e_per_A2),
        geometry=geometry,
        fates=_fates(n, options),
    )


def _in_order(options: Simulation) -> list[float]:
    """Stage tilts in the order of acquisition."""
    tilts = options.stage_tilts_deg()
    if options.scheme == "one-way":
        return tilts
    if options.scheme == "bidirectional":
        return [t for t in tilts if t >= 0] + [t for t in reversed(tilts) if t < 0]

    def turn_and_side(tilt: float) -> tuple[int, float]:
        turn = round(abs(tilt) / options.tilt_step_deg)
        return turn, -tilt if turn % 2 else tilt  # 0, 3, -3, -6, 6, 9, -9 ... (Hagen et al. 2017)

    return sorted(tilts, key=turn_and_side)


def _with_duplicates(tilts: list[float], options: Simulation) -> FloatArray:
    """Repeat some images right after they were taken, as after a failed check of the image."""
    again = set(
        options.random("duplicates").permutation(np.arange(1, len(tilts)))[: options.n_duplicated_views].tolist()
    )
    return np.array([t for i, tilt in enumerate(tilts) for t in ([tilt] * 2 if i in again else [tilt])])


def _smooth(tilt_deg: FloatArray, random: np.random.Generator) -> FloatArray:
    """A smooth random function of tilt (Gaussian process), mean 0 and rms 1 over the images."""
    apart = (tilt_deg[:, None] - tilt_deg) / SMOOTH_OVER_DEG
    covariance = np.exp(-0.5 * apart**2) + 1e-6 * np.eye(len(tilt_deg))
    values = np.linalg.cholesky(covariance) @ random.normal(size=len(tilt_deg))
    values -= values.mean()
    return values / max(float(np.sqrt(np.mean(values**2))), 1e-12)


def _rotations_deg(tilt_deg: FloatArray, options: Simulation) -> FloatArray:
    return options.rotation_sd_deg * _smooth(tilt_deg, options.random("rotation"))


def _magnification_changes(tilt_deg: FloatArray, options: Simulation) -> FloatArray:
    values = _smooth(tilt_deg, options.random("magnification"))
    return options.magnification_percent / 100 * values / max(float(np.abs(values).max()), 1e-12)


def _shifts_angst(n: int, options: Simulation) -> FloatArray:
    """Tracking errors: a random walk in the order of acquisition that is pulled back, plus an error per image."""
    random = options.random("shift")
    walk = np.zeros((n, 2))
    for i in range(1, n):
        walk[i] = 0.9 * walk[i - 1] + random.normal(size=2)
    walk += 0.3 * random.normal(size=(n, 2))
    longest = np.linalg.norm(walk, axis=1).max()
    walk *= options.max_shift_percent / 100 * options.field_yx_angst.min() / longest
    return walk


def _jumps_angst(n: int, options: Simulation) -> FloatArray:
    """Jumps away and back again in turn, so that the specimen stays in reach."""
    random = options.random("jumps")
    when = np.sort(random.permutation(np.arange(1, n))[: options.n_jumps])
    length = options.jump_percent / 100 * options.field_yx_angst.min()
    jumps = np.zeros((n, 2))
    for away, back in zip(when[::2], [*when[1::2], n], strict=False):
        direction = random.uniform(0, 2 * np.pi)
        jumps[away:back] = length * random.uniform(0.9, 1.1) * np.array([np.sin(direction), np.cos(direction)])
    return jumps


def _fates(n: int, options: Simulation) -> tuple[Fate, ...]:
    """Pick the faulty images; the first one taken is always good."""
    faulty: NDArray[np.intp] = options.random("faults").permutation(np.arange(1, n))
    fates = [Fate.GOOD] * n
    for i in faulty[: options.n_dark_views]:
        fates[i] = Fate.DARK
    for i in faulty[options.n_dark_views :][: options.n_blocked_views]:
        fates[i] = Fate.BLOCKED
    return tuple(fates)
