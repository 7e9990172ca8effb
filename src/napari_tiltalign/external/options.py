"""What the options of all external programs have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from napari_tiltalign.methods.base import MethodOptions

Conversion = Literal["exact", "relion"]


class ExternalOptions(MethodOptions):
    """Options of every external program.

    Paths of programs and folders are no part of a record: a project, which comes from others, must not say what is to
    be run on this machine, and where results lie does not change them.
    """

    executable: Annotated[
        str,
        Field(
            exclude=True,
            description="Path or name of the program; empty to look for it in the environment and on PATH",
        ),
    ] = ""
    extra_arguments: Annotated[
        str, Field(description="More arguments for the program, as they would be typed in a shell (which is not used)")
    ] = ""
    conversion: Annotated[
        Conversion,
        Field(
            description="exact: everything that the program found. relion: what RELION's own job would make of it "
            "(shifts half a pixel off; of IMOD also no X tilt, and tilts without the offset that levels the specimen)"
        ),
    ] = "exact"
    keep_files_in: Annotated[
        str,
        Field(
            exclude=True,
            description="Folder to keep the program's own files in, one folder for each series; empty to remove them",
        ),
    ] = ""
    time_limit_s: Annotated[
        int, Field(ge=1, le=10_000_000, description="Longest time that the program may take for a series, seconds")
    ] = 12 * 3600

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some options changed, validated like new ones."""
        return type(self)(**{**dict(self), **changes})
