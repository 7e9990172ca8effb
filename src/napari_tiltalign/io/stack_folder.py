"""A folder of stacks, each with its angles beside it, as one dataset."""

from __future__ import annotations

import os
from pathlib import Path

from napari_tiltalign.errors import BadInput, TiltAlignError
from napari_tiltalign.io.images import MRC_SUFFIXES, TIFF_SUFFIXES, ImageName, format_suffix
from napari_tiltalign.io.stack import files_beside, read_stack
from napari_tiltalign.model import NOT_GIVEN, Dataset, TiltSeries


def find_stacks(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the stacks that lie in a folder: name of the series to its file, in the order of the names.

    A stack is an image file with a file of angles beside it (see `read_stack`); what has none is no tilt series. Where
    several are called the same but for their suffix, it is the first in the order of the suffixes.

    Raises
    ------
    BadInput
        If the folder cannot be read.
    """
    try:
        files = sorted(Path(folder).iterdir())
    except OSError as error:
        raise BadInput(f"cannot read {folder}: {error.strerror or error}") from error
    stacks: dict[str, Path] = {}
    for file in files:
        is_image = not file.name.startswith(".") and format_suffix(file.name) in MRC_SUFFIXES | TIFF_SUFFIXES
        if is_image and files_beside(file) and file.is_file():
            stacks.setdefault(series_name(file), file)
    return stacks


def series_name(stack: Path) -> str:
    """Return the name of the series that a stack holds."""
    return ImageName.parse(stack.name).stem


def read_stack_folder(
    path: str | os.PathLike[str],
    *,
    pixel_size_angst: float = NOT_GIVEN,
    tilt_axis_deg: float = NOT_GIVEN,
) -> Dataset:
    """Read all stacks of a folder; see `find_stacks`, and `read_stack` for the files beside each.

    Parameters
    ----------
    path
        The folder; folders in it are not searched.
    pixel_size_angst, tilt_axis_deg
        To use for all instead of what the files say.

    Returns
    -------
    Dataset
        Stacks that cannot be used are in `Dataset.failed`, with the reason.

    Raises
    ------
    BadInput
        If the folder cannot be read or holds no stack with angles.
    """
    stacks = find_stacks(path)
    if not stacks:
        tables = ", ".join(file.name for file in sorted(Path(path).glob("*.star")))
        hint = f"; it holds {tables}: give such a file for series of RELION" if tables else ""
        raise BadInput(
            f"{path} holds no stack (.mrc, .st, ...) with a file of angles beside it (.rawtlt, .tlt, .mdoc){hint}"
        )
    series: list[TiltSeries] = []
    failed: dict[str, str] = {}
    for name, stack in stacks.items():
        try:
            one = read_stack(stack, pixel_size_angst=pixel_size_angst, tilt_axis_deg=tilt_axis_deg)
        except TiltAlignError as error:
            failed[name] = getattr(error, "problem", str(error))
        else:
            series.extend(one.series)
    return Dataset(tuple(series), source=str(path), failed=failed)
