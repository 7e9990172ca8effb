"""Write which images are used, without any alignment, as RELION's own program for excluding tilt images does.

::

    DIR/selected_tilt_series.star       global table; series without an image are not in it
    DIR/tilt_series/NAME.star           rows of the images that are used, sorted by tilt
"""

from __future__ import annotations

import os
from pathlib import Path

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io.output import GLOBAL, as_written, named_for
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.relion_alignment import global_table
from napari_tiltalign.io.relion_tables import IMAGE, NAME
from napari_tiltalign.io.star import write_star
from napari_tiltalign.model import Dataset, Table, TiltSeries

SELECTED_STAR = "selected_tilt_series.star"


def write_selection(directory: str | os.PathLike[str], dataset: Dataset) -> Path:
    """Write STAR files of the images that are used, for RELION's jobs that come before the alignment.

    All columns and further tables of the input are kept. A selection that was written here before is replaced.

    Parameters
    ----------
    directory
        Folder to write to, which is made if need be.
    dataset
        Series with their exclusions. Those without any image that is used are left out.

    Returns
    -------
    Path
        The global table, which is written last.

    Raises
    ------
    BadInput
        If no image is used, or a file would take the place of the input or of another job's file.
    BadTiltSeries
        If images are not files that a STAR file can name.
    OSError
        If something cannot be written.
    """
    folder = OutputFolder(Path(directory).absolute())
    used = [series for series in dataset if any(tilt.included for tilt in series.tilts)]
    if not used:
        raise BadInput("no image of any series is used, so there is no selection to write")
    _check(folder, dataset)
    tables = {series.name: selection_blocks(named_for(folder, series)) for series in used}
    folder.series_star(used[0].name).parent.mkdir(parents=True, exist_ok=True)
    for series in dataset:
        if series.name in tables:
            write_star(folder.series_star(series.name), tables[series.name])
        else:
            folder.series_star(series.name).unlink(missing_ok=True)
    rows = [{**series.columns, NAME: series.name} for series in used]
    table = global_table(rows, as_written(folder, dataset))
    write_star(folder.root / SELECTED_STAR, {GLOBAL: table, **dataset.extra_blocks})
    return folder.root / SELECTED_STAR


def selection_blocks(series: TiltSeries) -> dict[str, Table]:
    """Return the tables of a series' STAR file with the images that are used only, sorted by nominal tilt.

    Raises
    ------
    BadTiltSeries
        If images are not files that a STAR file can name.
    """
    if not all(IMAGE in tilt.columns for tilt in series.tilts):
        raise BadTiltSeries(series.name, "its images are not files that a STAR file can name; write them as a RELION "
                            "project first and read that")  # fmt: skip
    used = [tilt for tilt in (series.tilts[i] for i in series.tilt_order()) if tilt.included]
    return {series.name: Table.from_rows([dict(tilt.columns) for tilt in used]), **series.extra_blocks}


def _check(folder: OutputFolder, dataset: Dataset) -> None:
    files = [folder.root / SELECTED_STAR, *(folder.series_star(series.name) for series in dataset)]
    inputs = {Path(s).resolve() for s in (dataset.source, *(series.source for series in dataset)) if s}
    taken = next((file for file in files if file.resolve() in inputs), None)
    if taken is not None:
        raise BadInput(f"the selection would take the place of the input {taken}; choose another folder")
    foreign = next((file for file in files[1:] if file.exists()), None)
    if foreign is not None and not files[0].exists():
        raise BadInput(
            f"{foreign} is of another job and will not be replaced; choose another folder than {folder.root}"
        )
