"""The batch engine in a thread, with results that are told as they land."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_tiltalign.batch import Existing, Placement, Plan, SeriesOutcome, Watcher, align_dataset
from napari_tiltalign.batch.run_clock import RunClock
from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.methods.base import MethodOptions, Progress
from napari_tiltalign.model import Dataset
from napari_tiltalign.ui.tasks import Task

PLACEMENT = Placement()
"""Where the series are aligned: in other processes, so that napari stays quick."""
_TELL_EVERY_S = 0.1


class BatchTask(Task):
    """Aligns a dataset and writes the results.

    On the GUI thread `landed` tells every `SeriesOutcome`, with its `Alignment`, which is None if it failed; `running`
    tells how far every series is that is being aligned, by its name: (fraction, message); and `noticed` what a person
    may want to know besides, such as a worker that died.

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

    talk = (*Task.talk, "landed", "running", "noticed")
    landed = Signal(object, object)
    running = Signal(object)
    noticed = Signal(str)

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
        self._running: dict[str, tuple[float, str]] = {}
        self._done, self._total = 0, 1
        self._clock = RunClock()
        self._told_s = 0.0

    def planned(self, plan: Plan) -> None:
        self._total = max(1, len(plan.series))
        self._clock = RunClock(len(plan.to_align))

    def notice(self, message: str) -> None:
        self._task.noticed.emit(message)

    def begins(self, name: str, number: int, total: int) -> None:
        self._running[name] = (0.0, "begins")
        self._tell()

    def progress(self, name: str, fraction: float, message: str) -> None:
        is_new = self._running.get(name, (0.0, ""))[1] != message
        self._running[name] = (fraction, message)
        if is_new or monotonic() - self._told_s >= _TELL_EVERY_S:
            self._tell()
        self.check()

    def ended(self, outcome: SeriesOutcome) -> None:
        self._running.pop(outcome.name, None)
        self._done += 1
        self._clock.ended(outcome)
        self._tell()
        try:
            alignment = None if outcome.failure else outcome.read_alignment()
        except TiltAlignError as error:  # it is on the disk and in the tables, only not here
            outcome, alignment = replace(outcome, failure=f"its result cannot be opened: {error}"), None
        self._task.landed.emit(outcome, alignment)

    def check(self) -> None:
        fraction = (self._done + sum(fraction for fraction, _ in self._running.values())) / self._total
        self._progress(min(1.0, fraction), f"{self._done} of {self._total} series done, {self._clock.time_left()}")

    def _tell(self) -> None:
        self._told_s = monotonic()
        self._task.running.emit(dict(self._running))


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
