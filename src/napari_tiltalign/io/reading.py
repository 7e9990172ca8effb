"""One door to everything that can be read."""

from __future__ import annotations

import os
from pathlib import Path

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.etomo import find_etomo, read_etomo_series
from napari_tiltalign.io.images import MRC_SUFFIXES, TIFF_SUFFIXES, format_suffix
from napari_tiltalign.io.missing import check_is_there
from napari_tiltalign.io.relion import read_relion
from napari_tiltalign.io.stack import read_stack
from napari_tiltalign.io.stack_folder import read_stack_folder
from napari_tiltalign.model import NOT_GIVEN, Dataset


def read(
    path: str | os.PathLike[str],
    *,
    pixel_size_angst: float = NOT_GIVEN,
    tilt_axis_deg: float = NOT_GIVEN,
    tilt_angles: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Read tilt series. Only headers are read; pixels come when they are asked for.

    Parameters
    ----------
    path
        A STAR file of RELION 5, global or of one series (see `relion.read_relion`), a stack with its angles beside it
        (see `stack.read_stack`), a folder of those (see `stack_folder`), or an ``.edf`` file or folder of etomo (see
        `etomo`).
    pixel_size_angst
        Pixel size to use instead of what the files say, Angstrom.
    tilt_axis_deg
        Tilt axis to use instead of what the files say, degrees from the image's y axis, counter-clockwise with y
        drawn upwards.
    tilt_angles
        For a stack: file of angles to use instead of the one beside it.

    Returns
    -------
    Dataset
        Series that cannot be used are in `Dataset.failed`, with the reason.

    Raises
    ------
    BadInput
        If the input as a whole cannot be used.
    BadTiltSeries
        If the input is a single series, and that cannot be used.

    Examples
    --------
    >>> from napari_tiltalign import read
    >>> dataset = read("tilt_series.star")
    >>> [series.name for series in dataset]
    ['TS_01', 'TS_02']
    >>> series = dataset["TS_01"]
    >>> len(series), series.pixel_size_angst
    (21, 10.0)
    >>> series.tilts[0].image.read().shape
    (192, 192)
    """
    check_is_there(path)
    suffix = format_suffix(os.fspath(path))
    if suffix == ".star":
        if tilt_angles is not None:
            raise BadInput(f"{path} has its angles in its own table; --tilt-angles is for stacks")
        return read_relion(path, pixel_size_angst=pixel_size_angst, tilt_axis_deg=tilt_axis_deg)
    if suffix in MRC_SUFFIXES | TIFF_SUFFIXES:
        return read_stack(path, tilt_angles=tilt_angles, pixel_size_angst=pixel_size_angst, tilt_axis_deg=tilt_axis_deg)
    if (suffix == ".edf" or Path(path).is_dir()) and (folder := find_etomo(path)):
        if tilt_angles is not None:
            raise BadInput(f"{path} has its angles beside its stack; --tilt-angles is for stacks")
        return read_etomo_series(folder, pixel_size_angst=pixel_size_angst, tilt_axis_deg=tilt_axis_deg)
    if Path(path).is_dir():
        if tilt_angles is not None:
            raise BadInput(f"{path} is a folder, whose stacks have their angles beside them; --tilt-angles is for one")
        return read_stack_folder(path, pixel_size_angst=pixel_size_angst, tilt_axis_deg=tilt_axis_deg)
    known = ", ".join([".star", ".mrc", ".mrcs", ".st", ".edf"])
    raise BadInput(f"{path} is neither a STAR file nor a stack; give a file that ends in one of {known}")
