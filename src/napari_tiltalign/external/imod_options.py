"""Options of IMOD's alignments, and the numbers that follow from them as in RELION 5."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_tiltalign.external.options import ExternalOptions

Route = Literal["auto", "batchruntomo", "programs"]

_PATCH_PIXEL_ANGST = 10.0
_LEAST_BEAD_PX = 5.0


class _ImodOptions(ExternalOptions):
    """Options of every alignment by IMOD."""

    route: Annotated[
        Route,
        Field(
            description="batchruntomo: IMOD's own batch run, as RELION does. programs: IMOD's programs one by one, "
            "which needs no Java. auto: batchruntomo where it is installed, otherwise programs"
        ),
    ] = "auto"
    adoc_template: Annotated[
        str,
        Field(description="File of batchruntomo directives to use instead of the built-in ones; empty for these"),
    ] = ""


class ImodFiducial(_ImodOptions):
    """Options of the alignment by gold beads with IMOD."""

    diameter_nm: Annotated[
        float,
        Field(
            ge=0.5,
            le=200,
            description="Diameter of the gold beads, nm",
            json_schema_extra={"flag": "--fiducial-diameter-nm"},
        ),
    ] = 10.0
    n_beads: Annotated[int, Field(ge=4, le=1000, description="How many beads to look for")] = 50
    binning: Annotated[
        int,
        Field(
            ge=0,
            le=64,
            description="Binning of the images that beads are followed in; 0 for 8 as in RELION, or less if a bead "
            "would have fewer than 5 pixels",
        ),
    ] = 0

    def binning_for(self, pixel_size_angst: float) -> int:
        """Return the binning for images of a pixel size."""
        if self.binning:
            return self.binning
        bead_px = 10.0 * self.diameter_nm / pixel_size_angst
        return next((b for b in (8, 4, 2) if bead_px / b >= _LEAST_BEAD_PX), 1)


class ImodPatchTracking(_ImodOptions):
    """Options of the alignment by patch tracking with IMOD."""

    patch_size_nm: Annotated[float, Field(ge=1, le=5000, description="Side of the square patches, nm")] = 100.0
    patch_overlap_percent: Annotated[
        float, Field(ge=0, le=95, description="Overlap of neighbouring patches in both directions, percent")
    ] = 50.0
    thickness_nm: Annotated[
        float,
        Field(
            ge=10,
            le=10000,
            description="Thickness of the tomogram, nm; written for later steps in etomo, not used to align",
        ),
    ] = 300.0

    def binning_for(self, pixel_size_angst: float) -> int:
        """Return the power of two that brings the pixel closest to 10 Angstrom; the smaller one of two as close."""
        return min(
            (1, 2, 4, 8, 16, 32, 64, 128, 256), key=lambda b: (abs(b * pixel_size_angst - _PATCH_PIXEL_ANGST), b)
        )

    def patch_size_px(self, pixel_size_angst: float) -> int:
        """Return the side of a patch in binned pixels."""
        return round(10.0 * self.patch_size_nm / (pixel_size_angst * self.binning_for(pixel_size_angst)))

    @property
    def overlap(self) -> float:
        """Overlap of patches, as a fraction."""
        return self.patch_overlap_percent / 100.0


ImodOptions = ImodFiducial | ImodPatchTracking
