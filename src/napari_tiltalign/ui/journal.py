"""Keeps a journal of the steps since the last saving, and offers them again after a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from napari_tiltalign.errors import BadInput, TiltAlignError
from napari_tiltalign.io.fingerprint import input_fingerprint
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.model import TiltSeries
from napari_tiltalign.ui import user_state
from napari_tiltalign.ui.commands import ReplaceWork
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.journal_file import Base, append_step, begin_journal, read_journal, rewrite_journal
from napari_tiltalign.ui.saving import folder_with_results
from napari_tiltalign.ui.session import Session, Step

Ask = Callable[[str, int], bool]
"""Asks whether to repeat steps: name of the series, number of steps; False forgets them."""
Later = Callable[[Callable[[], None]], None]
"""Calls a function when what is being done now is over."""


def at_once(function: Callable[[], None]) -> None:
    """Call a function now."""
    function()


@dataclass(slots=True)
class _Open:
    """A journal that is being written.

    `n_undo` and `n_redo` count the steps that an "undo" or a "redo" in the journal can rely on: those before it.
    """

    path: Path
    n_undo: int = 0
    n_redo: int = 0

    def as_written(self, step: Step, session: Session, name: str) -> Step:
        """Return what to write for a step that was done."""
        if step == "undo" and self.n_undo:
            self.n_undo, self.n_redo = self.n_undo - 1, self.n_redo + 1
        elif step == "redo" and self.n_redo:
            self.n_undo, self.n_redo = self.n_undo + 1, self.n_redo - 1
        elif step in ("undo", "redo"):
            work = session.work_of(name)
            if work is None:
                raise KeyError(f"series {name!r} is not open")
            self.n_undo = self.n_redo = 0
            return ReplaceWork(work)
        else:
            self.n_undo, self.n_redo = self.n_undo + 1, 0
        return step


class Journal:
    """Listens to a session: writes down what is done, forgets it when it is saved, offers what a crash has left.

    Parameters
    ----------
    session
        What to listen to. Datasets that are no files have no journal.
    ask
        Asks whether to repeat the steps of a journal.
    later
        Puts that off until the series is shown.
    """

    def __init__(self, session: Session, ask: Ask, later: Later = at_once) -> None:
        self._session = session
        self._ask = ask
        self._later = later
        self._forget()
        session.recorded.connect(self._write)
        session.settled.connect(self._end)
        session.dataset_changed.connect(self._forget)
        session.series_changed.connect(self._offer_later)

    def _forget(self) -> None:
        self._open: dict[str, _Open] = {}
        self._offered: set[str] = set()
        self._given_up: set[str] = set()

    def _source(self) -> str:
        return self._session.dataset.source if self._session.dataset else ""

    def path(self, name: str) -> Path:
        """Where the journal of a series belongs: beside its results if they have a folder, else with the user."""
        if self._session.results_folder is not None:
            return OutputFolder(self._session.results_folder).journal_file(name)
        return _private_path(self._source(), name)

    def _write(self, name: str, step: Step) -> None:
        if not self._source() or name in self._given_up:
            return
        try:
            if name not in self._open:
                path = self.path(name)
                begin_journal(path, self._base(name))
                self._open[name] = _Open(path)
            journal = self._open[name]
            append_step(journal.path, journal.as_written(step, self._session, name))
        except OSError as error:
            self._given_up.add(name)
            self._session.warned.emit(f"{name}: no journal is kept, so save often ({error})")

    def _base(self, name: str) -> Base:
        dataset = self._session.dataset
        if dataset is None:
            raise KeyError("no dataset is open")
        folder = folder_with_results(dataset, name)
        files = (folder.curation_file(name), folder.alignment_record(name)) if folder else ()
        found = [file.read_bytes() for file in files if file.is_file()]
        saved = sha256(b"".join(found)).hexdigest() if found else ""
        return Base(name, input_fingerprint(dataset[name]), saved)

    def _end(self, name: str) -> None:
        journal = self._open.pop(name, None)
        if journal is not None:
            with suppress(OSError):  # it would be offered again, and refused because it does not fit any more
                journal.path.unlink()
        self._given_up.discard(name)

    # --- after a crash

    def _offer_later(self) -> None:
        series = self._session.series
        if series is not None and self._source() and series.name not in self._offered:
            self._offered.add(series.name)
            if paths := [path for path in self._places(series.name) if path.is_file()]:
                self._later(lambda: self._offer(series, paths[0]))

    def _places(self, name: str) -> list[Path]:
        dataset = self._session.dataset
        folder = folder_with_results(dataset, name) if dataset else None
        beside = [folder.journal_file(name)] if folder else []
        return [self.path(name), *beside, _private_path(self._source(), name)]

    def _offer(self, series: TiltSeries, path: Path) -> None:
        """Offer the steps of a journal; one that cannot be repeated is put aside and told."""
        name = series.name
        if name in self._open:
            return
        if self._session.series is None or self._session.series.name != name:
            self._offered.discard(name)  # again when it is shown
            return
        try:
            base, steps = read_journal(path, series)
            if base != self._base(name):
                raise BadInput(f"{path} does not fit: {name} was changed or saved since it was written")
        except TiltAlignError as error:
            self._put_aside(name, path, str(error))
            return
        if steps and self._ask(name, len(steps)):
            self._repeat(name, path, base, steps)
        else:
            with suppress(OSError):
                path.unlink()

    def _put_aside(self, name: str, path: Path, why: str) -> None:
        """Keep a journal that cannot be repeated under another name, so that nothing is lost, and tell it."""
        aside = path.with_name(f"{path.name}.unusable")
        with suppress(OSError):
            path.replace(aside)
        self._session.warned.emit(f"{name}: the journal of unsaved steps was put aside as {aside.name}: {why}")

    def _repeat(self, name: str, path: Path, base: Base, steps: list[Step]) -> None:
        done: list[Step] = []

        def counted() -> Iterator[Step]:
            for step in steps:
                done.append(step)
                yield step

        try:
            self._session.replay(name, counted())
        except EditRefused as error:
            done.pop()
            self._session.warned.emit(f"{name}: {len(done)} of {len(steps)} steps were repeated: {error}")
        journal = _Open(path)
        for step in done:
            journal.as_written(step, self._session, name)
        self._open[name] = journal
        try:
            rewrite_journal(path, base, done)  # without the half of a line that a crash may have left
        except OSError as error:
            self._session.warned.emit(f"{name}: no journal is kept, so save often ({error})")


def _private_path(source: str, name: str) -> Path:
    return user_state.state_folder() / "journals" / f"{user_state.key_of(str(Path(source).absolute()), name)}.jsonl"
