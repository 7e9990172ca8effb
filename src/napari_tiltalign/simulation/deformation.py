"""Motion of the specimen in itself while it is exposed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from napari_tiltalign.geometry import FloatArray, frozen_array
from napari_tiltalign.simulation.options import Simulation

N_WAVES = 12
"""How many random waves make up the field."""
SETTLING_E_PER_A2 = 40.0
"""Dose in which the first, fast part of the motion dies away."""


@dataclass(frozen=True, slots=True, eq=False)
class Deformation:
    """A smooth field of displacements that grows with dose; zero before the first electron.

    It is a sum of w waves over the plane of the slab, each with its own direction of motion and its own pace. The field
    of view as a whole does not move: the mean over it is taken off.

    Attributes
    ----------
    wave_yx_per_angst
        Shape (w, 2): wave vectors, radians per Angstrom.
    phase_rad, mean
        Shape (w,): phase, and mean of the wave over the field of view.
    amplitude_zyx_angst
        Shape (w, 3): displacement at the crest when the series is over.
    fast_part
        Shape (w,), 0 to 1: how much of it comes with the first electrons, the rest steadily.
    total_dose_e_per_A2
        Dose of the whole series.
    """

    wave_yx_per_angst: FloatArray
    phase_rad: FloatArray
    mean: FloatArray
    amplitude_zyx_angst: FloatArray
    fast_part: FloatArray
    total_dose_e_per_A2: float  # noqa: N815 (the unit's own capital)

    def displacement_zyx_angst(self, points_zyx_angst: FloatArray, dose_e_per_A2: float) -> FloatArray:  # noqa: N803
        """How far points have moved.

        Parameters
        ----------
        points_zyx_angst
            Shape (p, 3): where they were at first, Angstrom.
        dose_e_per_A2
            Dose so far.

        Returns
        -------
        FloatArray
            Shape (p, 3), Angstrom.
        """
        fast = -np.expm1(-dose_e_per_A2 / SETTLING_E_PER_A2) / -np.expm1(-self.total_dose_e_per_A2 / SETTLING_E_PER_A2)
        progress = self.fast_part * fast + (1 - self.fast_part) * dose_e_per_A2 / self.total_dose_e_per_A2
        waves = np.cos(points_zyx_angst[:, 1:] @ self.wave_yx_per_angst.T + self.phase_rad) - self.mean
        moved: FloatArray = (waves * progress) @ self.amplitude_zyx_angst
        return moved


def draw_deformation(options: Simulation, total_dose_e_per_A2: float) -> Deformation:  # noqa: N803
    """Draw a field whose largest displacement in the untilted field of view is what the options ask for."""
    random = options.random("deformation")
    field_angst = options.field_yx_angst
    angle = random.uniform(0, 2 * np.pi, N_WAVES)
    length_angst = float(field_angst.min()) * random.uniform(0.7, 2.0, N_WAVES)
    wave = 2 * np.pi / length_angst[:, None] * np.column_stack([np.sin(angle), np.cos(angle)])
    phase_rad = random.uniform(0, 2 * np.pi, N_WAVES)
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, 21) * size for size in field_angst), indexing="ij")
    grid = np.column_stack([np.zeros(y.size), y.ravel(), x.ravel()])
    unit = Deformation(
        wave_yx_per_angst=frozen_array(wave),
        phase_rad=frozen_array(phase_rad),
        mean=frozen_array(np.cos(grid[:, 1:] @ wave.T + phase_rad).mean(axis=0)),
        amplitude_zyx_angst=frozen_array(random.normal(size=(N_WAVES, 3))),
        fast_part=frozen_array(random.uniform(0, 1, N_WAVES)),
        total_dose_e_per_A2=total_dose_e_per_A2,
    )
    largest = np.linalg.norm(unit.displacement_zyx_angst(grid, total_dose_e_per_A2), axis=1).max()
    wanted = options.deformation_percent / 100 * field_angst.min()
    return replace(unit, amplitude_zyx_angst=frozen_array(unit.amplitude_zyx_angst * wanted / largest))
