"""The specimen: a slab of ice with what is in it and on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.simulation.acquisition import Acquisition
from napari_tiltalign.simulation.balls import Balls, box_in_view, in_view
from napari_tiltalign.simulation.beam import Frame, ice_transmission
from napari_tiltalign.simulation.deformation import Deformation, draw_deformation
from napari_tiltalign.simulation.gold import Beads, draw_beads, draw_dirt
from napari_tiltalign.simulation.options import Simulation
from napari_tiltalign.simulation.texture import draw_texture

N_ICE_WAVES = 6
ICE_UNEVENNESS = 0.06
"""Root mean square change of the thickness of the ice from place to place, relative."""


@dataclass(frozen=True, slots=True, eq=False)
class Ice:
    """The slab, level and centred on height 0, a little thicker here than there.

    Attributes
    ----------
    thickness_angst
        Mean thickness; 0 in vacuum.
    wave_yx_per_angst, phase_rad, amplitude
        Shape (w, 2), (w,), (w,): waves of relative thickness over the plane of the slab.
    """

    thickness_angst: float
    wave_yx_per_angst: FloatArray
    phase_rad: FloatArray
    amplitude: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Specimen:
    """Everything the beam meets.

    Attributes
    ----------
    ice
        The slab.
    protein
        Matter in the ice.
    beads
        Gold beads.
    gold
        The beads and the dirt as balls.
    deformation
        How the specimen moves in itself; None if it is rigid.
    """

    ice: Ice
    protein: Balls
    beads: Beads
    gold: Balls
    deformation: Deformation | None

    def moved(self, points_zyx_angst: FloatArray, dose_e_per_A2: float) -> FloatArray:  # noqa: N803
        """Where points of the specimen are after some dose, shape (p, 3)."""
        if self.deformation is None:
            return points_zyx_angst
        return points_zyx_angst + self.deformation.displacement_zyx_angst(points_zyx_angst, dose_e_per_A2)

    def slab_in_view(self, view: ViewGeometry, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The slab as one image sees it.

        Parameters
        ----------
        view
            Geometry of one image.
        frame
            The grid of the image.

        Returns
        -------
        height_angst, transmission
            For every pixel of the image: height of the middle of the slab along the beam, and the part of the beam
            that the ice lets pass.
        """
        v, u = frame.image_positions_angst()
        corner, right_of_v, right_of_u = view.unproject(0, np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        step_v, step_u = right_of_v - corner, right_of_u - corner
        depth = view.depth(np.array([corner, step_v, step_u]))[0]
        height = depth[0] + np.add.outer(depth[1] * v, depth[2] * u)

        unevenness = np.zeros(frame.image_shape_yx, np.float32)
        for wave, phase, amplitude in zip(
            self.ice.wave_yx_per_angst, self.ice.phase_rad, self.ice.amplitude, strict=True
        ):
            rows = amplitude * np.exp(1j * (phase + wave @ corner[1:] + wave @ step_v[1:] * v))
            columns = np.exp(1j * (wave @ step_u[1:] * u))
            unevenness += np.multiply.outer(rows.astype(np.complex64), columns.astype(np.complex64)).real
        slant = abs(view.rotations()[0, 2, 2])
        path = self.ice.thickness_angst / slant * np.maximum(1 + unevenness, 0.1)
        return height.astype(np.float32), ice_transmission(path)


def draw_specimen(options: Simulation, acquisition: Acquisition) -> Specimen:
    """Make a specimen that goes on beyond what the images see; what none of them sees is left out."""
    field_angst, geometry = options.field_yx_angst, acquisition.geometry
    box = box_in_view(geometry, field_angst, options.thickness_angst)
    deformation = None
    if options.deformation_percent:
        deformation = draw_deformation(options, len(acquisition) * options.dose_per_view_e_per_A2)
    margin_angst = 20 * options.pixel_size_angst + options.deformation_percent / 100 * float(field_angst.max())
    protein, dirt = (draw(options, box) for draw in (draw_texture, draw_dirt))
    protein, dirt = (part.take(in_view(geometry, part, field_angst, margin_angst)) for part in (protein, dirt))
    beads = draw_beads(options, box)
    beads = beads.take(in_view(geometry, beads.balls(), field_angst, margin_angst))
    return Specimen(_draw_ice(options), protein, beads, Balls.joined(beads.balls(), dirt), deformation)


def _draw_ice(options: Simulation) -> Ice:
    random = options.random("ice")
    length_angst = float(options.field_yx_angst.max()) * random.uniform(1.0, 4.0, N_ICE_WAVES)
    angle = random.uniform(0, 2 * np.pi, N_ICE_WAVES)
    return Ice(
        thickness_angst=0.0 if options.texture == "needle" else options.thickness_angst,
        wave_yx_per_angst=2 * np.pi / length_angst[:, None] * np.column_stack([np.sin(angle), np.cos(angle)]),
        phase_rad=random.uniform(0, 2 * np.pi, N_ICE_WAVES),
        amplitude=np.full(N_ICE_WAVES, ICE_UNEVENNESS * np.sqrt(2 / N_ICE_WAVES)),
    )
