"""The batch engine in a thread, with results that are told as they land."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_tiltalign.batch import Existing, SeriesOutcome, Watcher, align_dataset
from napari_tiltalign.methods.base import MethodOptions, Progress
from napari_tiltalign.model import Dataset
from napari_tiltalign.ui.tasks import Task


class BatchTask(Task):
    """Aligns a dataset and writes the results; `landed` tells every `SeriesOutcome` on the GUI thread.

    Parameters
    ----------
    dataset
        With the user's exclusions.
    options
        For all series but those in `overrides`.
    overrides
        Series name to its own options.
    folder
        Output folder.
    existing
        What to do with results that are in it.
    """

    landed = Signal(object)

    def __init__(
        self,
        dataset: Dataset,
        options: MethodOptions,
        overrides: Mapping[str, MethodOptions],
        folder: Path,
        existing: Existing,
    ) -> None:
        def run(progress: Progress) -> object:
            watcher = _Watcher(self, progress)
            return align_dataset(dataset, options, folder, overrides=overrides, existing=existing, watcher=watcher)

        super().__init__(run, f"align {len(dataset)} series")


class _Watcher(Watcher):
    """Tells a task how the run goes; called in the worker's thread."""

    def __init__(self, task: BatchTask, progress: Progress) -> None:
        self._task = task
        self._progress = progress
        self._name, self._number, self._total = "", 1, 1

    def begins(self, name: str, number: int, total: int) -> None:
        self._name, self._number, self._total = name, number, total
        self.progress(0.0, "begins")

    def progress(self, fraction: float, message: str) -> None:
        done = (self._number - 1 + fraction) / self._total
        self._progress(done, f"{self._name} ({self._number} of {self._total}): {message}")

    def ended(self, outcome: SeriesOutcome) -> None:
        self._task.landed.emit(outcome)


def ask_existing(parent: QWidget | None, folder: Path) -> Existing | None:
    """Ask what to do with the results that a folder holds; None to do nothing."""
    box = QMessageBox(QMessageBox.Icon.Question, "Results exist", f"{folder} holds results already.", parent=parent)
    roles = QMessageBox.ButtonRole
    replace = box.addButton("Align all again", roles.AcceptRole)
    keep = box.addButton("Keep what was done the same way", roles.AcceptRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.exec()
    clicked = box.clickedButton()
    if clicked is replace:
        return Existing.OVERWRITE
    return Existing.RESUME if clicked is keep else None
