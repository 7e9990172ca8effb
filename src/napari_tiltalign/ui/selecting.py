"""The dataset as the user wants it used: with all exclusions, also those saved for series that were not opened yet."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_tiltalign.errors import BadInput, TiltAlignError
from napari_tiltalign.model import Dataset, TiltSeries
from napari_tiltalign.ui.saving import restored_work
from napari_tiltalign.ui.session import Session
from napari_tiltalign.ui.work import with_exclusions

FOLDER_NAME = "tiltalign_selection"
"""Name of the folder that is proposed for a selection."""


def curated(session: Session) -> Dataset:
    """Return the dataset that is open with the user's exclusions.

    Raises
    ------
    BadInput
        If none is open, or saved work on a series cannot be read; it may hold exclusions.
    """
    dataset = session.dataset
    if dataset is None:
        raise BadInput("no dataset is open")

    def chosen(series: TiltSeries) -> TiltSeries:
        if session.work_of(series.name) is not None:
            return session.series_named(series.name)
        return with_exclusions(series, restored_work(dataset, series).exclusions)

    return dataclasses.replace(dataset, series=tuple(chosen(series) for series in dataset))


def write_selection_asking(session: Session, parent: QWidget | None = None) -> Path | None:
    """Ask for a folder and write the selection there; None if nothing was written."""
    from napari_tiltalign.io.selection import write_selection  # heavy, and not needed to show a widget

    if session.dataset is None:
        return None
    source = session.dataset.source
    proposed = (Path(source).absolute().parent if source else Path.cwd()) / FOLDER_NAME
    folder, _ = QFileDialog.getSaveFileName(
        parent, "Folder for the selection (made if need be)", str(proposed), "", options=QFileDialog.Option.ShowDirsOnly
    )
    if not folder:
        return None
    try:
        written = write_selection(folder, curated(session))
    except (TiltAlignError, OSError) as error:
        session.warned.emit(f"no selection was written: {error}")
        return None
    session.told.emit(f"written: {written}")
    return written
