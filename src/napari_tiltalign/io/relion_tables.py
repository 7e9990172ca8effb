"""The columns of RELION's tilt-series tables that matter here, and the tilts that a table lists."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io.images import ImageName
from napari_tiltalign.io.numbers import parse_angle_deg, parse_optional_number
from napari_tiltalign.model import NOT_GIVEN, Table, Tilt

NAME = "rlnTomoName"
SERIES_FILE = "rlnTomoTiltSeriesStarFile"
PIXEL_SIZE = "rlnTomoTiltSeriesPixelSize"
IMAGE = "rlnMicrographName"
ANGLE = "rlnTomoNominalStageTiltAngle"
AXIS = "rlnTomoNominalTiltAxisAngle"
PRE_EXPOSURE = "rlnMicrographPreExposure"
DEFOCUS = "rlnTomoNominalDefocus"
MEASURED_DEFOCUS = ("rlnDefocusU", "rlnDefocusV")
VOLTAGE = "rlnVoltage"
HAND = "rlnTomoHand"

_WRITTEN_BY = {
    NAME: "Import tilt series",
    SERIES_FILE: "Import tilt series",
    PIXEL_SIZE: "Motion correction",
    IMAGE: "Motion correction",
    ANGLE: "Import tilt series",
}


class MissingColumn(BadTiltSeries):
    """The table of a series lacks a column that is needed."""


def require_columns(table: Table, names: Iterable[str], source: str) -> None:
    """Check that a table has some columns.

    Raises
    ------
    BadInput
        If one is missing; the message says which job of RELION writes it.
    """
    for name in names:
        if name not in table.columns:
            raise BadInput(f"{source} has no column {name}; RELION's job '{_WRITTEN_BY[name]}' writes it: give the "
                           "file of that job or of a later one")  # fmt: skip


def tilts_from_table(
    series_name: str,
    table: Table,
    *,
    folders: Sequence[Path] = (),
    tilt_axis_deg: float = NOT_GIVEN,
    source: str = "the table",
) -> tuple[Tilt, ...]:
    """Return the tilts that a per-series table lists, in its order; no image is opened.

    A tilt's identity is the name of its image file without folder and suffix, with ``N@`` before it for a stack.
    RELION carries that name through all its jobs, so it stays the same from motion correction to tomograms and for
    any order of rows. Images of one name in different folders keep their folders; a row that repeats an image
    gets ``#2`` and is excluded.

    Parameters
    ----------
    series_name
        For messages.
    table
        The table.
    folders
        Where the images' paths may start: the first folder in which any of them exists is taken, else the first.
    tilt_axis_deg
        Tilt axis to use instead of the table's, degrees.
    source
        What to call the table in messages.

    Raises
    ------
    MissingColumn
        If there is no column of images or angles.
    BadTiltSeries
        If a cell is wrong, or one image stands there with two angles.
    """
    try:
        require_columns(table, (ANGLE, IMAGE), source)
    except BadInput as error:
        raise MissingColumn(series_name, str(error)) from None
    try:
        names = [ImageName.parse(text) for text in table.columns[IMAGE]]
        root = _project_folder(names, folders)
        tilts = [
            _tilt(row, name, root, tilt_axis_deg, f"{source}, row {number}")
            for number, (row, name) in enumerate(zip(table.rows(), names, strict=True), start=1)
        ]
    except BadInput as error:
        raise BadTiltSeries(series_name, str(error)) from None
    return _told_apart(series_name, tilts, names)


def _tilt(row: dict[str, str], name: ImageName, root: Path, tilt_axis_deg: float, where: str) -> Tilt:
    axis_deg = tilt_axis_deg
    if axis_deg != axis_deg:  # not given
        axis_deg = parse_optional_number(row.get(AXIS), f"{where}, {AXIS}", limit=360.0)
    return Tilt(
        tilt_id=name.stem,
        image=name.source(root / name.path),
        nominal_tilt_deg=parse_angle_deg(row[ANGLE], f"{where}, {ANGLE}"),
        nominal_axis_deg=axis_deg,
        pre_exposure_e_per_A2=parse_optional_number(row.get(PRE_EXPOSURE), f"{where}, {PRE_EXPOSURE}"),
        nominal_defocus_um=parse_optional_number(row.get(DEFOCUS), f"{where}, {DEFOCUS}"),
        defocus_um=_measured_defocus_um(row, where),
        columns=row,
    )


def _measured_defocus_um(row: dict[str, str], where: str) -> float:
    """Mean over the directions; RELION gives the underfocus in Angstrom."""
    values = [parse_optional_number(row.get(name), f"{where}, {name}") for name in MEASURED_DEFOCUS]
    return -1e-4 * sum(values) / len(values)


def _project_folder(names: Sequence[ImageName], folders: Sequence[Path]) -> Path:
    """Folder that the images' paths are relative to."""
    for folder in folders:
        if any(is_there(folder / name.path) for name in names):
            return folder
    return folders[0] if folders else Path()


def is_there(path: Path) -> bool:
    """Whether a path exists and may be looked at, however odd it is: a name that is too long does not exist."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _told_apart(series_name: str, tilts: Sequence[Tilt], names: Sequence[ImageName]) -> tuple[Tilt, ...]:
    """Make the identities unique, and exclude rows that repeat an image."""
    n_files = Counter(stem for stem, _path in {(name.stem, name.path) for name in names})
    seen: dict[str, Tilt] = {}
    result = []
    for tilt, name in zip(tilts, names, strict=True):
        tilt_id = name.stem
        if n_files[tilt_id] > 1:
            tilt_id = f"{Path(name.path).parent.as_posix()}/{tilt_id}"
        if tilt_id in seen:
            first = seen[tilt_id]
            if first.nominal_tilt_deg != tilt.nominal_tilt_deg:
                raise BadTiltSeries(series_name, f"{tilt.image.name} is listed at {first.nominal_tilt_deg:g} and at "
                                    f"{tilt.nominal_tilt_deg:g} degrees; remove the wrong row")  # fmt: skip
            tilt = tilt.excluded(f"duplicate: the row repeats {tilt_id}")
            number = 2
            while f"{tilt_id}#{number}" in seen:
                number += 1
            tilt_id = f"{tilt_id}#{number}"
        seen[tilt_id] = tilt
        result.append(dataclasses.replace(tilt, tilt_id=tilt_id))
    return tuple(result)
