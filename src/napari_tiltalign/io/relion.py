"""RELION 5 tilt series in: a global STAR file or that of one series, at any stage of the pipeline.

The alignment that a STAR file holds, and tables to write, are in `relion_alignment` and can be had from here too.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from napari_tiltalign.errors import BadInput, BadTiltSeries, TiltAlignError, listed
from napari_tiltalign.io.fingerprint import image_file
from napari_tiltalign.io.image_survey import survey_images
from napari_tiltalign.io.numbers import format_number, parse_number, parse_optional_number
from napari_tiltalign.io.relion_alignment import global_table, read_alignment_columns, star_blocks_with_alignment
from napari_tiltalign.io.relion_tables import (
    ANGLE,
    HAND,
    NAME,
    PIXEL_SIZE,
    SERIES_FILE,
    VOLTAGE,
    MissingColumn,
    is_there,
    require_columns,
    tilts_from_table,
)
from napari_tiltalign.io.star import read_star
from napari_tiltalign.io.tilt_checks import checked_tilts
from napari_tiltalign.model import NOT_GIVEN, Dataset, Flag, Table, TiltSeries

__all__ = ["global_table", "read_alignment_columns", "read_relion", "star_blocks_with_alignment"]

GLOBAL = "global"


def read_relion(
    path: str | os.PathLike[str],
    *,
    pixel_size_angst: float = NOT_GIVEN,
    tilt_axis_deg: float = NOT_GIVEN,
) -> Dataset:
    """Read the tilt series that a STAR file of RELION 5 lists. Headers of images are read, pixels are not.

    Paths in the file are relative to the project's folder, which is searched for: it is the file's own folder or
    the nearest one above in which they exist.

    Parameters
    ----------
    path
        The global file of an Import, MotionCorr, CtfFind, Exclude, Align or Tomograms job, or the file of a single
        series. Rows may stand in any order; unknown columns and tables are kept.
    pixel_size_angst
        Pixel size to use instead of what the file says. The file of a single series says nothing, and then the
        headers of its images are asked.
    tilt_axis_deg
        Tilt axis to use instead of what the file says.

    Returns
    -------
    Dataset
        Series that cannot be used are in `Dataset.failed`, with the reason.

    Raises
    ------
    BadInput
        If the file as a whole cannot be used: it is no STAR file, a column is missing, names collide.
    BadTiltSeries
        If it is the file of a single series, and that cannot be used.
    """
    where = Path(path).absolute()
    blocks = read_star(where)
    if GLOBAL in blocks:
        return _read_project(where, blocks, pixel_size_angst, tilt_axis_deg)
    name = _only_series(where, blocks)
    columns = {NAME: name, SERIES_FILE: where.name}
    series = _read_series(name, where, blocks, columns, _and_above(where), pixel_size_angst, tilt_axis_deg)
    series = series.replace(columns={**columns, PIXEL_SIZE: format_number(series.pixel_size_angst)})
    return Dataset((series,), source=str(where))


def _only_series(where: Path, blocks: Mapping[str, Table]) -> str:
    """Name of the one table of a series in a file without a global table."""
    names = [name for name, table in blocks.items() if ANGLE in table.columns]
    if len(names) != 1:
        found = ", ".join(f"data_{name}" for name in blocks)
        raise BadInput(f"{where} holds {found}; expected data_{GLOBAL}, or the table of one tilt series with the "
                       f"column {ANGLE}")  # fmt: skip
    return names[0]


def _read_project(where: Path, blocks: Mapping[str, Table], pixel_size_angst: float, tilt_axis_deg: float) -> Dataset:
    table = blocks[GLOBAL]
    require_columns(table, (NAME, SERIES_FILE), str(where))
    _check_collisions(where, table)
    series: list[TiltSeries] = []
    failed: dict[str, TiltAlignError] = {}
    rows = {row[NAME]: row for row in table.rows()}
    for name, row in rows.items():
        try:
            series.append(_read_listed(where, row, pixel_size_angst, tilt_axis_deg))
        except TiltAlignError as error:
            failed[name] = error
    lacking = [error.problem for error in failed.values() if isinstance(error, MissingColumn)]
    if len(lacking) == len(rows):
        raise BadInput(lacking[0])
    return Dataset(
        tuple(series),
        source=str(where),
        failed={name: getattr(error, "problem", str(error)) for name, error in failed.items()},
        failed_columns={name: rows[name] for name in failed},
        extra_blocks={name: block for name, block in blocks.items() if name != GLOBAL},
        flags=_case_flags(list(rows)),
    )


def _check_collisions(where: Path, table: Table) -> None:
    """Refuse files in which two series would be one."""
    if not len(table):
        raise BadInput(f"{where} lists no tilt series")
    for column in (NAME, SERIES_FILE):
        twice = [cell for cell, count in Counter(table.columns[column]).items() if count > 1]
        if twice:
            raise BadInput(f"{where}: {column} {', '.join(twice)} listed more than once; each series needs its own")


def _case_flags(names: Sequence[str]) -> tuple[Flag, ...]:
    """Warn of names that some disks cannot tell apart."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    return tuple(
        Flag("name_collision_ignoring_case", f"{' and '.join(group)}; results collide on disks that ignore case")
        for group in groups.values()
        if len(group) > 1
    )


def _read_listed(where: Path, row: Mapping[str, str], pixel_size_angst: float, tilt_axis_deg: float) -> TiltSeries:
    """Read a series that a global table lists."""
    name = row[NAME]
    if math.isnan(pixel_size_angst):
        if PIXEL_SIZE not in row:
            raise MissingColumn(name, f"{where} has no column {PIXEL_SIZE}; RELION's job 'Motion correction' writes "
                                "it: give the file of that job or of a later one, or --pixel-size-angst")  # fmt: skip
        pixel_size_angst = parse_number(row[PIXEL_SIZE], PIXEL_SIZE)
    project = next((folder for folder in _and_above(where) if is_there(folder / row[SERIES_FILE])), None)
    if project is None:
        raise BadTiltSeries(name, f"{row[SERIES_FILE]} is neither in {where.parent} nor in a folder above; paths "
                            "must be relative to the project's folder")  # fmt: skip
    star = project / row[SERIES_FILE]
    folders = tuple(dict.fromkeys((project, *_and_above(where), *_and_above(star))))
    series = _read_series(name, star, read_star(star), row, folders, pixel_size_angst, tilt_axis_deg)
    return series.with_flags(*_elsewhere(series, project))


def _elsewhere(series: TiltSeries, project: Path) -> Iterator[Flag]:
    """Name the folders of images that are not the project's: absolute paths, ``..``, or found further above only.

    Links in the project are part of it.
    """
    home = os.path.normpath(project)
    outside = {
        tilt.tilt_id: os.path.normpath(file.parent)
        for tilt in series.tilts
        if (file := image_file(tilt.image)) is not None and not Path(os.path.normpath(file)).is_relative_to(home)
    }
    if outside:
        where = listed(sorted(set(outside.values())))
        yield Flag("images_elsewhere", f"{len(outside)} of {len(series)}, in {where}", tuple(outside))


def _read_series(
    name: str,
    star: Path,
    blocks: Mapping[str, Table],
    columns: Mapping[str, str],
    folders: Sequence[Path],
    pixel_size_angst: float,
    tilt_axis_deg: float,
) -> TiltSeries:
    if name not in blocks:
        found = ", ".join(f"data_{block}" for block in blocks)
        raise BadTiltSeries(name, f"{star} should hold a table data_{name}; it holds {found}")
    tilts = tilts_from_table(name, blocks[name], folders=folders, tilt_axis_deg=tilt_axis_deg, source=str(star))
    repeated = [t for t in tilts if not t.included]
    survey = survey_images(name, tilts, pixel_size_angst)
    flags = [Flag("metadata_repaired", f"{t.tilt_id} excluded, {t.reason}", (t.tilt_id,)) for t in repeated]
    series = TiltSeries(
        name=name,
        tilts=survey.tilts,
        pixel_size_angst=survey.pixel_size_angst,
        image_shape_yx=survey.shape_yx,
        columns=columns,
        extra_blocks={block: table for block, table in blocks.items() if block != name},
        source=str(star),
        flags=(*flags, *survey.flags),
        voltage_kv=parse_optional_number(columns.get(VOLTAGE), f"{star}, {VOLTAGE}"),
        hand=_sign(parse_optional_number(columns.get(HAND), f"{star}, {HAND}")),
    )
    return checked_tilts(series)


def _sign(hand: float) -> int:
    """+1 or -1, or 0 where the table does not say."""
    return 0 if math.isnan(hand) else int(math.copysign(1, hand))


def _and_above(file: Path) -> tuple[Path, ...]:
    """Folder of a file and all folders above it."""
    return (file.parent, *file.parent.parents)
