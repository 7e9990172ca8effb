"""What to simulate."""

from __future__ import annotations

import zlib
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.base import MethodOptions

STEEPEST_DEG = 80.0
"""Beyond this the slab is so long in projection that simulating all of it makes no sense."""


class Simulation(MethodOptions):
    """A tilt series to simulate: specimen, stage, beam and faults. The defaults are an easy one with gold beads.

    Errors of the stage are drawn at random from `seed`. Each kind has its own random numbers, so changing one option
    (more beads, less dose) leaves everything else as it was.
    """

    name: Annotated[str, Field(min_length=1, description="Name of the series")] = "SIM_01"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Where the random numbers start")] = 101

    image_rows_px: Annotated[int, Field(ge=64, le=8192, description="Height of the images, pixels")] = 512
    image_columns_px: Annotated[int, Field(ge=64, le=8192, description="Width of the images, pixels")] = 512
    pixel_size_angst: Annotated[float, Field(ge=0.5, le=100, description="Pixel size, Angstrom")] = 10.0

    tilt_min_deg: Annotated[float, Field(ge=-80, le=80, description="Lowest stage tilt, degrees")] = -60.0
    tilt_max_deg: Annotated[float, Field(ge=-80, le=80, description="Highest stage tilt, degrees")] = 60.0
    tilt_step_deg: Annotated[float, Field(ge=0.25, le=30, description="Step of the stage tilt, degrees")] = 3.0
    scheme: Annotated[
        Literal["dose-symmetric", "bidirectional", "one-way"], Field(description="Order in which the tilts are taken")
    ] = "dose-symmetric"
    dose_per_view_e_per_A2: Annotated[  # noqa: N815 (the unit's own capital)
        float, Field(ge=0.05, le=200, description="Dose of one image, electrons per square Angstrom")
    ] = 3.0
    underfocus_um: Annotated[float, Field(ge=0, le=20, description="Underfocus, micrometres")] = 3.5

    thickness_nm: Annotated[float, Field(ge=5, le=1000, description="Thickness of the slab, nanometres")] = 120.0
    texture: Annotated[
        Literal["cell", "cytoplasm", "particles", "needle", "none"],
        Field(
            description="What is in the ice: a cell with its edges, cytoplasm all over, single particles, nothing; "
            "or a needle in vacuum roughly along the tilt axis, as thick as the slab would be"
        ),
    ] = "cell"
    imaging: Annotated[
        Literal["bright-field", "haadf"],
        Field(description="Phase contrast, where matter is dark, or electrons scattered far, where matter is bright"),
    ] = "bright-field"
    n_beads: Annotated[int, Field(ge=0, le=5000, description="Gold beads in the untilted field of view")] = 20
    bead_diameter_nm: Annotated[float, Field(ge=1, le=100, description="Diameter of the beads, nanometres")] = 10.0
    second_bead_diameter_nm: Annotated[
        float, Field(ge=0, le=100, description="Diameter of every second bead, nanometres; 0: all are alike")
    ] = 0.0
    clustered_percent: Annotated[float, Field(ge=0, le=100, description="Beads that stand in clusters, percent")] = 0.0
    n_dirt: Annotated[
        int, Field(ge=0, le=5000, description="Dense irregular blobs of about a bead's size in the field of view")
    ] = 0
    bright_beads: Annotated[bool, Field(description="Invert the contrast: dense things bright")] = False

    axis_deg: Annotated[float, Field(ge=-360, le=360, description="Nominal tilt axis, degrees")] = -4.3
    axis_error_deg: Annotated[float, Field(ge=-180, le=180, description="True minus nominal tilt axis, degrees")] = 1.0
    wrong_tilt_sign: Annotated[
        bool, Field(description="Report the stage tilts with the wrong sign (a flipped hand)")
    ] = False
    pretilt_deg: Annotated[
        float, Field(ge=-40, le=40, description="Tilt of the slab at stage tilt zero, degrees; not reported")
    ] = 0.0
    tilt_error_sd_deg: Annotated[
        float, Field(ge=0, le=10, description="Error of the stage tilt, independent per image, degrees rms")
    ] = 0.2
    rotation_sd_deg: Annotated[
        float, Field(ge=0, le=10, description="Change of the tilt axis, smooth with tilt, degrees rms")
    ] = 0.2
    magnification_percent: Annotated[
        float, Field(ge=0, le=10, description="Largest change of magnification, smooth with tilt, percent")
    ] = 0.1
    max_shift_percent: Annotated[
        float, Field(ge=0, le=40, description="Largest shift of an image, without jumps, percent of the field")
    ] = 10.0
    n_jumps: Annotated[int, Field(ge=0, le=100, description="Sudden jumps of the stage")] = 0
    jump_percent: Annotated[float, Field(ge=0, le=60, description="Length of a jump, percent of the field")] = 27.5
    deformation_percent: Annotated[
        float, Field(ge=0, le=10, description="Largest motion of the specimen in itself, percent of the field")
    ] = 0.0

    n_dark_views: Annotated[int, Field(ge=0, le=100, description="Images without beam")] = 0
    n_blocked_views: Annotated[int, Field(ge=0, le=100, description="Images half hidden by the grid")] = 0
    n_duplicated_views: Annotated[int, Field(ge=0, le=100, description="Images taken a second time")] = 0
    hot_pixels_per_view: Annotated[int, Field(ge=0, le=10000, description="Pixels hit by X-rays, per image")] = 5
    detector_offset_counts: Annotated[
        float, Field(ge=-1e5, le=1e5, description="Counts added to every pixel (one electron is one count)")
    ] = 0.0
    counting_noise: Annotated[bool, Field(description="Whether the electrons are counted one by one")] = True

    @model_validator(mode="after")
    def _check_views(self) -> Self:
        steepest = max(abs(self.tilt_min_deg + self.pretilt_deg), abs(self.tilt_max_deg + self.pretilt_deg))
        if self.tilt_max_deg < self.tilt_min_deg or steepest > STEEPEST_DEG:
            raise ValueError(
                f"tilts must run upwards and stay within {STEEPEST_DEG:g} degrees of the slab, "
                f"not {self.tilt_min_deg:g} to {self.tilt_max_deg:g} with a pretilt of {self.pretilt_deg:g}"
            )
        n_faulty = self.n_dark_views + self.n_blocked_views + self.n_duplicated_views
        if n_faulty > len(self.stage_tilts_deg()) - 2:
            raise ValueError(f"{n_faulty} faulty images leave too few good ones of {len(self.stage_tilts_deg())}")
        return self

    @property
    def image_shape_yx(self) -> tuple[int, int]:
        """(rows, columns) of the images."""
        return self.image_rows_px, self.image_columns_px

    @property
    def field_yx_angst(self) -> FloatArray:
        """Field of view, (y, x), Angstrom."""
        return np.array(self.image_shape_yx) * self.pixel_size_angst

    @property
    def thickness_angst(self) -> float:
        """Thickness of the slab in Angstrom."""
        return self.thickness_nm * 10.0

    def stage_tilts_deg(self) -> list[float]:
        """Tilts the stage is asked for, ascending."""
        n = int(np.floor((self.tilt_max_deg - self.tilt_min_deg) / self.tilt_step_deg + 1e-6)) + 1
        return [round(self.tilt_min_deg + i * self.tilt_step_deg, 6) for i in range(n)]

    def random(self, *purpose: str | int) -> np.random.Generator:
        """Random numbers of their own for every purpose, all from the one seed."""
        return np.random.default_rng(
            [self.seed, *(p if isinstance(p, int) else zlib.crc32(p.encode()) for p in purpose)]
        )
