"""What AreTomo2 says of the CTF of every image that it has aligned: ``NAME_ctf.txt``."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.numbers import format_number, parse_number

_DEFOCUS_1, _DEFOCUS_2, _AZIMUTH, _PHASE, _SCORE = 1, 2, 3, 4, 5
_LEAST_COLUMNS = 6


def read_ctf_columns(
    path: str | os.PathLike[str], tilt_ids: Sequence[str], *, with_phase: bool
) -> dict[str, dict[str, str]]:
    """Return the columns that RELION has for the CTF.

    Parameters
    ----------
    path
        The file.
    tilt_ids
        The images that were aligned, by ascending tilt, as the lines of the file stand.
    with_phase
        Whether the phase shift was estimated. AreTomo2 gives it in radians, RELION's column is in degrees.

    Returns
    -------
    dict
        Column to the cell of every image, by its identity. The resolution is left out: AreTomo2 gives the same for all.

    Raises
    ------
    BadInput
        If it cannot be read or does not have one line for every image.
    """
    where = Path(path)
    try:
        text = where.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadInput(f"cannot read {where}: {error.strerror or error}") from error
    lines = [(k, line.split()) for k, line in enumerate(text.splitlines(), start=1)]
    rows = [(k, cells) for k, cells in lines if cells and not cells[0].startswith("#")]
    if len(rows) != len(tilt_ids):
        raise BadInput(f"{where} has {len(rows)} lines for {len(tilt_ids)} images; was it cut?")
    columns: dict[str, dict[str, str]] = {}
    for tilt_id, (number, cells) in zip(tilt_ids, rows, strict=True):
        place = f"{where}, line {number}"
        if len(cells) < _LEAST_COLUMNS:
            raise BadInput(f"{place}: {len(cells)} values, expected {_LEAST_COLUMNS} or more; was it cut?")
        values = [parse_number(cell, place) for cell in cells[:_LEAST_COLUMNS]]
        found = {
            "rlnDefocusU": values[_DEFOCUS_1],
            "rlnDefocusV": values[_DEFOCUS_2],
            "rlnCtfAstigmatism": values[_DEFOCUS_1] - values[_DEFOCUS_2],
            "rlnDefocusAngle": values[_AZIMUTH],
            "rlnCtfFigureOfMerit": values[_SCORE],
            **({"rlnPhaseShift": math.degrees(values[_PHASE])} if with_phase else {}),
        }
        for column, value in found.items():
            columns.setdefault(column, {})[tilt_id] = format_number(value)
    return columns
