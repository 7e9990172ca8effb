"""The state of the plugin in one viewer: what is open, what was decided, what is selected. No widgets, no napari.

Widgets and layers know the session and never each other: they call its methods and listen to its signals. Everything
that can be undone goes through `Session.do`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from psygnal import Signal

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.methods.local_motion import estimate_local_motion
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import Alignment, Dataset, TiltSeries
from napari_tiltalign.ui.commands import Command
from napari_tiltalign.ui.comparison import Comparison
from napari_tiltalign.ui.history import History
from napari_tiltalign.ui.judged import Judged
from napari_tiltalign.ui.solving import Background, FindMotion, Resolve, Solving, inline
from napari_tiltalign.ui.work import Candidate, Excluding, Work, kept_bead, nothing_saved

Step = Command | Literal["undo", "redo"]


class Session:
    """State of the plugin in one viewer.

    Parameters
    ----------
    resolve
        Solves the geometry again from edited tracks.
    background
        Runs that somewhere; right here by default.
    restore
        Gives the work on a series of a dataset when it is opened for the first time: what was saved of it.
    find_motion
        Looks for local motion in a solved alignment.

    Attributes
    ----------
    dataset_changed, series_changed
        Another dataset, another series.
    candidates_changed, alignment_changed, exclusions_changed
        The set of alignments or which is in use; the one in use, its geometry or tracks; the excluded views.
    bead_changed, view_changed, display_changed, comparison_changed
        The selection: a bead, a view, raw or aligned images, what they are compared with.
    judged
        What was found out about alignments.
    history_changed
        What can be undone, or whether there are unsaved changes.
    settled, recorded
        For the journal: the name of a series whose changes were saved or given up; a series and a step.
    results_folder
        Where results of this dataset are kept; None if none was chosen yet.
    examined
        Beads (track id, tilt id) the user has been led to, the last at the end; forgotten with the series.
    solving
        Works out what follows from edits.
    told, warned
        A message for the user: in passing, or one that should not be missed.
    """

    dataset_changed = Signal()
    series_changed = Signal()
    candidates_changed = Signal()
    alignment_changed = Signal()
    exclusions_changed = Signal()
    bead_changed = Signal()
    view_changed = Signal()
    display_changed = Signal()
    comparison_changed = Signal()
    history_changed = Signal()
    settled = Signal(str)
    recorded = Signal(str, object)
    told = Signal(str)
    warned = Signal(str)

    def __init__(
        self,
        resolve: Resolve = resolve,
        background: Background = inline,
        restore: Callable[[Dataset, TiltSeries], Work] = nothing_saved,
        find_motion: FindMotion = estimate_local_motion,
    ) -> None:
        self.solving = Solving(background, self._take, resolve, find_motion)
        self._restore = restore
        self.judged = Judged()
        self._forget_dataset()

    def _forget_dataset(self) -> None:
        self._dataset: Dataset | None = None
        self._name, self._view = "", ""
        self._histories: dict[str, History[Work]] = {}
        self._saved: dict[str, Work] = {}
        self._excluding = Excluding()
        self.results_folder: Path | None = None
        self._bead: int | None = None
        self.examined: list[tuple[int, str]] = []
        self._shows_aligned = False
        self._comparison = Comparison()
        self.judged.forget()

    # --- what is open

    @property
    def dataset(self) -> Dataset | None:
        """The dataset that is open."""
        return self._dataset

    @property
    def series(self) -> TiltSeries | None:
        """The series that is shown, with the user's exclusions."""
        return self.series_named(self._name) if self._name else None

    def series_named(self, name: str) -> TiltSeries:
        """A series of the dataset, with the user's exclusions; KeyError if there is none of that name."""
        if self._dataset is None:
            raise KeyError(f"no dataset is open, so there is no series {name!r}")
        series, history = self._dataset[name], self._histories.get(name)
        return series if history is None else self._excluding.of(series, history.value.exclusions)

    def open(self, dataset: Dataset, show: str = "") -> None:
        """Open a dataset and show one of its series, the first by default; work on another dataset is forgotten."""
        self._forget_dataset()
        self._dataset = dataset
        self.dataset_changed.emit()
        self.show(show or next((series.name for series in dataset), ""))

    def close(self) -> None:
        """Close the dataset."""
        self._forget_dataset()
        self.dataset_changed.emit()
        self._announce_series()

    def show(self, name: str) -> None:
        """Show another series, or none with an empty name; KeyError if there is none of that name."""
        if name:
            self._history(name)
        self._name = name
        self._bead = None
        self.compare(Comparison())
        self.examined.clear()
        series = self.series
        self._view = series.tilt_ids[series.tilt_order()[len(series) // 2]] if series else ""
        self._announce_series()
        self._solve()

    def _history(self, name: str) -> History[Work]:
        """Work on a series with its past, begun at the first call."""
        if name not in self._histories:
            work = self._opened(self.series_named(name))
            self._histories[name] = History(work)
            self._saved[name] = work
        return self._histories[name]

    def _opened(self, series: TiltSeries) -> Work:
        """Work on a series that is opened for the first time; what cannot be restored is told."""
        if self._dataset is None:
            raise KeyError("no dataset is open")
        try:
            return self._restore(self._dataset, series)
        except TiltAlignError as error:
            self.warned.emit(f"{series.name}: saved work is not shown: {error}")
            return nothing_saved(self._dataset, series)

    def show_neighbour(self, step: int) -> None:
        """Show the series that comes `step` places later in the dataset, if there is one."""
        if self._dataset is None or not self._name:
            return
        names = [series.name for series in self._dataset]
        at = names.index(self._name) + step
        if 0 <= at < len(names):
            self.show(names[at])

    def _announce_series(self) -> None:
        for signal in (
            self.series_changed, self.candidates_changed, self.exclusions_changed, self.alignment_changed,
            self.view_changed, self.bead_changed, self.history_changed,
        ):  # fmt: skip
            signal.emit()

    # --- what was decided

    @property
    def work(self) -> Work:
        """What was decided about the series that is shown."""
        return self._histories[self._name].value if self._name else Work()

    @property
    def candidate(self) -> Candidate | None:
        """The alignment in use, with what is known of its state."""
        return self.work.candidate

    @property
    def alignment(self) -> Alignment | None:
        """The alignment in use."""
        return self.work.alignment

    def do(self, command: Command, series_name: str = "", *, on_disk: bool = False) -> None:
        """Apply a command to the series that is shown, or to another one of the dataset.

        Parameters
        ----------
        command
            What to do.
        series_name
            Series to do it to; the one that is shown if empty.
        on_disk
            Whether the files have the outcome already, so that there is nothing to save and nothing for a journal.

        Raises
        ------
        EditRefused
            If it makes no sense; nothing has changed then.
        """
        name = series_name or self._name
        if not name:
            raise KeyError("no series is open")
        history = self._history(name)
        before = history.value
        history.push(command.apply(before), command.label)
        if not on_disk:
            self.recorded.emit(name, command)
        self._announce_work(name, before)
        if on_disk:
            self.mark_saved(name)

    def undo(self) -> None:
        """Undo the last step, if there is one."""
        self._step_history("undo")

    def redo(self) -> None:
        """Repeat the step undone last, if there is one."""
        self._step_history("redo")

    def _step_history(self, direction: Literal["undo", "redo"]) -> None:
        if not self._name:
            return
        history = self._histories[self._name]
        before = history.value
        label = history.undo_label if direction == "undo" else history.redo_label
        if history.undo() if direction == "undo" else history.redo():
            self.recorded.emit(self._name, direction)
            self._announce_work(self._name, before)
            self.told.emit(f"{direction}: {label}")

    def replay(self, series_name: str, steps: Iterable[Step]) -> None:
        """Repeat recorded steps on a series that is as it was when it was opened, and show it.

        The geometry is solved once, at the end.

        Raises
        ------
        EditRefused
            If a step makes no sense; those before it are done then.
        """
        self.show(series_name)
        before, history = self.work, self._history(series_name)
        try:
            for step in steps:
                if step == "undo":
                    history.undo()
                elif step == "redo":
                    history.redo()
                else:
                    history.push(step.apply(history.value), step.label)
        finally:
            self._announce_work(series_name, before)

    @property
    def undo_label(self) -> str:
        """What `undo` would undo; empty if there is nothing."""
        return self._histories[self._name].undo_label if self._name else ""

    @property
    def redo_label(self) -> str:
        """What `redo` would repeat; empty if there is nothing."""
        return self._histories[self._name].redo_label if self._name else ""

    def unsaved(self) -> tuple[str, ...]:
        """Names of the series with changes that were not saved."""
        return tuple(n for n, history in self._histories.items() if history.value is not self._saved.get(n))

    def mark_saved(self, series_name: str) -> None:
        """Remember that a series was saved as it is now."""
        self._saved[series_name] = self._histories[series_name].value
        self.settled.emit(series_name)
        self.history_changed.emit()

    def give_up_changes(self) -> None:
        """Forget that there are unsaved changes, because the dataset is about to be closed."""
        for name in self._histories:
            self.mark_saved(name)

    def work_of(self, series_name: str) -> Work | None:
        """What was decided about a series; None if it was never opened."""
        history = self._histories.get(series_name)
        return history.value if history else None

    def _announce_work(self, name: str, before: Work) -> None:
        """Tell what changed in a series, and solve what has to be solved."""
        if name == self._name:
            after = self.work
            if after.exclusions != before.exclusions:
                self.exclusions_changed.emit()
            if list(after.candidates) != list(before.candidates) or after.current != before.current:
                self.candidates_changed.emit()
            if after.candidate is not before.candidate:
                self._keep_valid_bead(before)
                self.alignment_changed.emit()
        self.history_changed.emit()
        self._solve()

    def _keep_valid_bead(self, before: Work) -> None:
        if self.work.current != before.current:
            self.examined.clear()
        self.select_bead(kept_bead(self._bead, before, self.work))

    # --- solving

    def _solve(self) -> None:
        """Solve the alignment in use if its tracks were edited."""
        if self.candidate is not None:
            self.solving.solve(self._name, self.candidate)

    def find_motion(self) -> None:
        """Look for local motion again if edits have dropped it; for when the user pauses."""
        if self.series is not None and self.candidate is not None:
            self.solving.find_motion(self.series, self.candidate)

    def _take(self, name: str, asked: Candidate, answer: Candidate) -> None:
        """Take over an answer, unless the work has gone on meanwhile."""
        history = self._histories.get(name)
        if history is not None and history.value.candidate is asked:
            before = history.value
            history.amend(before.with_candidate(before.current, answer))
            if self._saved.get(name) is before:
                self._saved[name] = history.value
            if name == self._name:
                self.alignment_changed.emit()
            if answer.problem:
                self.warned.emit(answer.problem)
        self._solve()

    # --- what is selected

    @property
    def bead(self) -> int | None:
        """Track id of the selected bead."""
        return self._bead

    def select_bead(self, track_id: int | None) -> None:
        """Select a bead, or none."""
        if track_id != self._bead:
            self._bead = track_id
            self.bead_changed.emit()

    @property
    def view(self) -> str:
        """tilt_id of the image that is looked at; empty if no series is open."""
        return self._view

    def select_view(self, tilt_id: str) -> None:
        """Look at another image; KeyError if the series has none of that id."""
        if self.series is None:
            raise KeyError("no series is open")
        self.series.index_of(tilt_id)
        if tilt_id != self._view:
            self._view = tilt_id
            self.view_changed.emit()

    @property
    def shows_aligned(self) -> bool:
        """Whether aligned images are looked at, and not raw ones; never without an alignment."""
        return self._shows_aligned and self.alignment is not None

    def show_aligned(self, aligned: bool) -> None:
        """Look at aligned images, or at raw ones."""
        if aligned != self._shows_aligned:
            self._shows_aligned = aligned
            self.display_changed.emit()

    @property
    def comparison(self) -> Comparison:
        """What the images are compared with."""
        return self._comparison

    def compare(self, comparison: Comparison) -> None:
        """Compare the images with something; another alignment is compared by aligned images."""
        if comparison == self._comparison:
            return
        self._comparison = comparison
        if comparison.what in self.work.candidates:
            self.show_aligned(True)
        self.comparison_changed.emit()
