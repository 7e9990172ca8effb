"""The batch engine in a thread, with results that are told as they land."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_tiltalign.batch import Existing, Placement, Plan, SeriesOutcome, Watcher, align_dataset
from napari_tiltalign.methods.base import MethodOptions, Progress
from napari_tiltalign.model import Dataset
from napari_tiltalign.ui.tasks import Task

PLACEMENT = Placement()
"""Where the series are aligned: in other processes, so that napari stays quick."""


class BatchTask(Task):
    """Aligns a dataset and writes the results.

    `landed` tells every `SeriesOutcome` on the GUI thread, with its `Alignment`, which is None if it failed.

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

    landed = Signal(object, object)

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
            return align_dataset(
                dataset,
                options,
                folder,
                overrides=overrides,
                existing=existing,
                placement=PLACEMENT,
                watcher=watcher,
            )

        super().__init__(run, f"align {len(dataset)} series")


class _Watcher(Watcher):
    """Tells a task how the run goes; called in the worker's thread."""

    def __init__(self, task: BatchTask, progress: Progress) -> None:
        self._task = task
        self._progress = progress
        self._fractions: dict[str, float] = {}
        self._done, self._total = 0, 1
        self._message = "begins"

    def planned(self, plan: Plan) -> None:
        self._total = max(1, len(plan.series))

    def begins(self, name: str, number: int, total: int) -> None:
        self.progress(name, 0.0, "begins")

    def progress(self, name: str, fraction: float, message: str) -> None:
        self._fractions[name] = fraction
        others = len(self._fractions) - 1
        beside = f", {others} more at a time" if others else ""
        self._message = f"{name}: {message} ({self._done} of {self._total} done{beside})"
        self.check()

    def ended(self, outcome: SeriesOutcome) -> None:
        self._fractions.pop(outcome.name, None)
        self._done += 1
        self._task.landed.emit(outcome, None if outcome.failure else outcome.read_alignment())

    def check(self) -> None:
        self._progress((self._done + sum(self._fractions.values())) / self._total, self._message)


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
