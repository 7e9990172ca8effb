"""Options of AreTomo under names that say what they mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from napari_tiltalign.external.options import ExternalOptions

Version = Literal["auto", "1", "2", "3"]
TiltOffset = Literal["measure", "given", "leave"]
CtfEstimation = Literal["no", "defocus", "defocus-and-phase"]


class AreTomo(ExternalOptions):
    """Options of the alignment with AreTomo 1.3, AreTomo2 or AreTomo3."""

    aretomo_version: Annotated[
        Version, Field(description="Which AreTomo the program is; auto asks the program itself")
    ] = "auto"
    sample_thickness_nm: Annotated[
        float,
        Field(
            ge=10,
            le=10000,
            description="Thickness of the volume that is used to align, nm; close to that of the sample (-AlignZ)",
        ),
    ] = 300.0
    tilt_angle_offset: Annotated[
        TiltOffset,
        Field(
            description="measure: AreTomo finds the offset of the tilts and corrects it. given: the offset below. "
            "leave: tilts stay as they are"
        ),
    ] = "leave"
    tilt_angle_offset_deg: Annotated[
        float, Field(ge=-60, le=60, description="Offset of the tilts, if it is given, degrees")
    ] = 0.0
    refine_tilt_axis: Annotated[
        bool, Field(description="Whether AreTomo refines the tilt axis; otherwise the nominal one is kept")
    ] = True
    patches_x: Annotated[
        int, Field(ge=0, le=20, description="Patches along x for local alignment (-Patch); 0 for as many as along y")
    ] = 0
    patches_y: Annotated[
        int, Field(ge=0, le=20, description="Patches along y for local alignment (-Patch); 0 for as many as along x")
    ] = 0
    dark_tolerance: Annotated[
        float,
        Field(
            ge=0.1,
            le=0.9,
            description="Views darker than this part of the one at zero tilt are dropped (-DarkTol)",
        ),
    ] = 0.7
    estimate_ctf: Annotated[
        CtfEstimation,
        Field(
            description="Whether AreTomo2 estimates the CTF too, for RELION's columns; it needs voltage, spherical "
            "aberration and amplitude contrast in the global STAR file"
        ),
    ] = "no"
    aretomo_gpus: Annotated[
        str,
        Field(
            description="GPUs by number: 0 or 0,1 for all of these to work on a series; 0:1:2 for one series on each "
            "in a batch, of which a single series takes the first. Empty for AreTomo's own choice"
        ),
    ] = ""

    @field_validator("aretomo_gpus")
    @classmethod
    def _numbers_only(cls, text: str) -> str:
        """Refuse what is no list of numbers, so that nothing else can slip into the command."""
        for group in text.split(":") if text else []:
            if not all(number.strip().isdecimal() for number in group.split(",")):
                raise ValueError("GPUs are numbers with commas between those of one series and colons between series")
        return text.replace(" ", "")

    @property
    def gpu_groups(self) -> tuple[tuple[str, ...], ...]:
        """The groups of GPUs, each for one series at a time; none if the choice is AreTomo's."""
        return tuple(tuple(group.split(",")) for group in self.aretomo_gpus.split(":")) if self.aretomo_gpus else ()
