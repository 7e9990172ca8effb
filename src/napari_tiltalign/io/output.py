"""Write the results of an alignment in the shape of RELION's own job (see `output_folder`).

A file is complete as soon as it has its name, each series is on the disk as soon as it is done, and the tables of the
whole dataset come last. Nothing here depends on the time, so equal results are equal bytes.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from napari_tiltalign.errors import BadTiltSeries
from napari_tiltalign.io.convert import for_series, write_alignment
from napari_tiltalign.io.fingerprint import image_file
from napari_tiltalign.io.images import ImageName
from napari_tiltalign.io.losses import Loss
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.relion_alignment import global_table
from napari_tiltalign.io.relion_tables import IMAGE, NAME
from napari_tiltalign.io.series_state import SeriesState
from napari_tiltalign.io.star import can_hold, write_star
from napari_tiltalign.model import Alignment, Dataset, Table, TiltSeries

GLOBAL = "global"
REASON_COLUMN = "tiltalignFailureReason"
"""Our own column of the table of failed series; RELION keeps columns that it does not know."""
WORK_COLUMN = "tiltalignWork"
"""Our own column of the table of aligned series: method and digest of the options; only where series differ in it."""
BY_HAND = "by-hand"
"""What stands there for a result that was saved in napari or from Python."""

LossesByFormat = Mapping[str, tuple[Loss, ...]]
"""Suffix of a file (``.star``) to what that file does not hold."""


def write_results(
    directory: str | os.PathLike[str],
    dataset: Dataset,
    alignments: Mapping[str, Alignment],
    failures: Mapping[str, str] | None = None,
) -> Mapping[str, LossesByFormat]:
    """Write the alignments of a dataset into an output folder, in place of earlier results of the same series.

    Parameters
    ----------
    directory
        The folder, which is made if need be.
    dataset
        The input.
    alignments
        Series name to its alignment. Series that are neither here nor in `failures` are left out of the tables.
    failures
        Series name to the reason why it has none; series that could not be read are added.

    Returns
    -------
    Mapping
        Series name to what its files do not hold; ``alignment.json`` holds everything.

    Raises
    ------
    BadInput
        If a result would take the place of the input, or of another program's file.
    BadTiltSeries
        If an alignment does not fit its series.
    OSError
        If something cannot be written.
    """
    folder = OutputFolder(Path(directory))
    failures = {**dataset.failed, **(failures or {})}
    folder.check_foreign_files(dataset)
    losses = {name: write_series_result(folder, dataset[name], alignment) for name, alignment in alignments.items()}
    for name, reason in failures.items():
        write_series_failure(folder, name, reason)
    write_tables(folder, dataset, alignments, failures)
    return losses


def write_series_result(
    folder: OutputFolder, series: TiltSeries, alignment: Alignment, fingerprint: str = "", work: str = ""
) -> LossesByFormat:
    """Write everything about one series that was aligned; its state comes last.

    Parameters
    ----------
    folder
        Output folder; see `OutputFolder.check_foreign_files`.
    series, alignment
        The series and its alignment.
    fingerprint, work
        What was done, for `SeriesState`; empty if no run over a dataset has made the alignment.

    Returns
    -------
    LossesByFormat
        What the files do not hold.

    Raises
    ------
    BadTiltSeries
        If the alignment does not fit the series or includes no image, or the images are not files.
    OSError
        If something cannot be written.
    """
    if not all(IMAGE in tilt.columns for tilt in series.tilts):
        raise BadTiltSeries(series.name, "its images are not files that a STAR file can name; write them as a RELION "
                            "project first and read that")  # fmt: skip
    alignment = for_series(alignment, series)
    _clear(folder, series.name)
    suffixes = (".xf", ".aln", *([".fid"] if alignment.tracks is not None else []))
    named = {suffix: folder.series_file(series.name, suffix) for suffix in suffixes}
    files = {".json": folder.alignment_record(series.name), **named, ".star": folder.series_star(series.name)}
    findable = named_for(folder, series)
    losses = {suffix: write_alignment(file, alignment, findable) for suffix, file in files.items()}
    written = [file for file in folder.result_files(series.name) if file.is_file()]
    facts, made_by = alignment_facts(alignment), alignment.provenance.version
    state = SeriesState.done(fingerprint, folder.root, written, work, facts, made_by)
    state.write(folder.state_file(series.name))
    return {suffix: lost for suffix, lost in losses.items() if lost}


def alignment_facts(alignment: Alignment) -> dict[str, Any]:
    """Return the figures of an alignment that a person wants to see first, as plain values."""
    tracks = {} if alignment.tracks is None else {"tracks": alignment.tracks.n_tracks}
    residual_px = alignment.statistics.get("residual_rms_px", math.nan)
    residual = {"residual_rms_px": float(residual_px)} if math.isfinite(residual_px) else {}
    return {
        **tracks,
        "views": int(alignment.included.sum()),
        "images": len(alignment),
        **residual,
        "axis_deg": float(alignment.axis_deg),
        "flags": list(dict.fromkeys(flag.name for flag in alignment.flags)),
    }


def write_series_failure(folder: OutputFolder, series_name: str, reason: str) -> None:
    """Record why a series failed; earlier results of it are removed, because they are not those of this run.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    _clear(folder, series_name)
    SeriesState(failure=reason).write(folder.state_file(series_name))


def _clear(folder: OutputFolder, series_name: str) -> None:
    """Make the folders of a series and remove its earlier results; until it has new ones, its state says so."""
    folder.series_folder(series_name).mkdir(parents=True, exist_ok=True)
    folder.series_star(series_name).parent.mkdir(exist_ok=True)
    SeriesState(failure=SeriesState.NOT_FINISHED).write(folder.state_file(series_name))
    for file in folder.result_files(series_name):
        file.unlink(missing_ok=True)


def remove_tables(folder: OutputFolder) -> None:
    """Remove the global tables of an earlier run, which would not fit the series from now on."""
    folder.aligned_star.unlink(missing_ok=True)
    folder.failed_star.unlink(missing_ok=True)


def write_tables(folder: OutputFolder, dataset: Dataset, aligned: Collection[str], failures: Mapping[str, str]) -> None:
    """Write the global tables, in place of earlier ones. A table without a series is not written.

    Parameters
    ----------
    folder
        Output folder, with the results of every series in it.
    dataset
        The input, which gives the order, the columns and further tables.
    aligned
        Names of the series that were aligned.
    failures
        Series name to the reason why it was not.

    Raises
    ------
    OSError
        If a table cannot be written.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    rows = {series.name: {**series.columns, NAME: series.name} for series in dataset}
    if failed := [name for name in (*rows, *dataset.failed) if name in failures]:
        unread = {name: {**columns, NAME: name} for name, columns in dataset.failed_columns.items()}
        write_star(folder.failed_star, {GLOBAL: _failed_table({**unread, **rows}, failed, failures)})
    else:
        folder.failed_star.unlink(missing_ok=True)
    if good := [name for name in rows if name in aligned]:
        listed = _with_work(folder, {name: rows[name] for name in good})
        table = global_table(listed, as_written(folder, dataset))
        write_star(folder.aligned_star, {GLOBAL: table, **dataset.extra_blocks})
    else:
        folder.aligned_star.unlink(missing_ok=True)


def _with_work(folder: OutputFolder, rows: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    """Return rows with a column that says how each series was aligned, unless that is the same for all."""
    states = {name: SeriesState.read(folder.state_file(name)) for name in rows}
    works = {name: (state.work if state else "") or BY_HAND for name, state in states.items()}
    plain = {name: {c: cell for c, cell in row.items() if c != WORK_COLUMN} for name, row in rows.items()}
    mixed = len(set(works.values())) > 1
    return [{**row, WORK_COLUMN: works[name]} if mixed else row for name, row in plain.items()]


def write_tables_again(
    folder: OutputFolder, dataset: Dataset, aligned: Collection[str], failures: Mapping[str, str]
) -> None:
    """Write the global tables after some series were done; what the folder has of the others stays in them.

    Parameters
    ----------
    folder, dataset
        See `write_tables`.
    aligned, failures
        What became of the series that were done now.

    Raises
    ------
    OSError
        If a table cannot be written.
    """
    good, bad = set(aligned), dict(failures)
    for name in (*(series.name for series in dataset), *dataset.failed):
        state = None if name in good or name in bad else SeriesState.read(folder.state_file(name))
        if state and state.is_intact(folder.root):
            good.add(name)
        elif state:
            bad[name] = state.failure or "its files were changed since they were written"
    write_tables(folder, dataset, good, bad)


def _failed_table(rows: Mapping[str, Mapping[str, str]], names: Collection[str], failures: Mapping[str, str]) -> Table:
    """Table of series that failed, with the columns of the input, so that it can be given as input again."""
    listed = [rows.get(name, {NAME: name}) for name in names]
    columns = dict.fromkeys(column for row in listed for column in row)
    return Table.from_rows(
        [
            {column: _cell(row.get(column, "")) for column in columns} | {REASON_COLUMN: _one_line(failures[name])}
            for name, row in zip(names, listed, strict=True)
        ]
    )


def _cell(text: str) -> str:
    """Return a cell as it is, or as near to that as a STAR file can hold."""
    return text if can_hold(text) else _one_line(text)


def _one_line(reason: str) -> str:
    """Return a text as a cell of a STAR file can hold it."""
    return " ".join(reason.split()).replace('"', "'")


def as_written(folder: OutputFolder, dataset: Dataset) -> str:
    """Output folder as it stands in the tables: relative to the project that the images are named from.

    RELION looks for everything from there, and it is the working folder where the input does not tell. For a folder
    outside of the project it is the whole path.
    """
    found = (project_folder(series) for series in dataset)
    project = next((root for root in found if root is not None), Path()).resolve()
    root = folder.root.resolve()
    return (root.relative_to(project) if root.is_relative_to(project) else root).as_posix()


def named_for(folder: OutputFolder, series: TiltSeries) -> TiltSeries:
    """Return the series with its files named in full if the folder is outside of their project.

    Names relative to the project could not be found from there when the results are opened again.
    """
    project = project_folder(series)
    if project is None or folder.root.resolve().is_relative_to(project.resolve()):
        return series
    tilts = (
        dataclasses.replace(tilt, columns={name: _in_full(cell, project) for name, cell in tilt.columns.items()})
        for tilt in series.tilts
    )
    return series.replace(tilts=tuple(tilts))


def _in_full(cell: str, project: Path) -> str:
    """Return a cell of a table with the name of a file of the project in full; any other cell as it is."""
    if "/" not in cell:
        return cell
    name = ImageName.parse(cell).path
    return cell.replace(name, (project.resolve() / name).as_posix()) if (project / name).is_file() else cell


def project_folder(series: TiltSeries) -> Path | None:
    """Return the folder that the names of a series' images are relative to; None if they do not tell."""
    for tilt in series.tilts:
        name = Path(ImageName.parse(tilt.columns[IMAGE]).path) if IMAGE in tilt.columns else None
        file = image_file(tilt.image)
        if name and file and not name.is_absolute() and file.parts[-len(name.parts) :] == name.parts:
            return Path(*file.parts[: -len(name.parts)])
    return None
