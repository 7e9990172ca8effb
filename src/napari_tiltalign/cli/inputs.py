"""What every command that reads tilt series asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter, validators

if TYPE_CHECKING:
    from napari_tiltalign.model import Dataset

Names = Annotated[tuple[str, ...], Parameter(consume_multiple=1, negative="", show_default=False)]
"""Names of series, at least one if the flag is given at all: a list that came out empty must not mean all of them."""

_GROUP = Group("What the input does not say", sort_key=10)


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True)
class InputOptions:
    """What to use instead of what the files say.

    Attributes
    ----------
    pixel_size_angst
        Pixel size of the images, Angstrom.
    tilt_axis_deg
        Tilt axis, degrees from the image's y axis, counter-clockwise with y drawn upwards.
    tilt_angles
        File with the tilt angles of a stack: one in each line (degrees), or an mdoc file.
    """

    pixel_size_angst: Annotated[float | None, Parameter(validator=validators.Number(gt=0, lte=1000))] = None
    tilt_axis_deg: Annotated[float | None, Parameter(validator=validators.Number(gte=-360, lte=360))] = None
    tilt_angles: Path | None = None

    def read(self, path: Path) -> Dataset:
        """Read tilt series; see `napari_tiltalign.io.read`."""
        from napari_tiltalign.io import read  # numpy and the formats, which --help does not need
        from napari_tiltalign.model import NOT_GIVEN

        return read(
            path,
            pixel_size_angst=NOT_GIVEN if self.pixel_size_angst is None else self.pixel_size_angst,
            tilt_axis_deg=NOT_GIVEN if self.tilt_axis_deg is None else self.tilt_axis_deg,
            tilt_angles=self.tilt_angles,
        )
