"""Work off the GUI thread: with progress, with a way to stop, and with the answer back on the GUI thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from napari.qt.threading import create_worker
from napari.utils import cancelable_progress
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_tiltalign.errors import Cancelled
from napari_tiltalign.methods.base import Progress

T = TypeVar("T")

_STEPS = 1000
"""Resolution of progress bars."""


class Task(QObject):
    """A function that runs in a thread of napari's pool; its signals come on the GUI thread.

    Exactly one of `done`, `failed` and `cancelled` is emitted at the end, and `finished` after it.

    Parameters
    ----------
    function
        What to run; it is given a `Progress` that raises `Cancelled` once the task was cancelled.
    title
        What is being done, for napari's activity dock; empty for work too short to be shown there.
    """

    talk: ClassVar[tuple[str, ...]] = ("progressed",)
    """Names of the signals that are emitted while it runs."""
    progressed = Signal(float, str)
    done = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    finished = Signal()

    def __init__(self, function: Callable[[Progress], Any], title: str = "") -> None:
        super().__init__()
        self._function = function
        self._title = title
        self._bar: cancelable_progress | None = None
        self._last = (-1, "")
        self._in_bar = False
        self._ended_in_bar = False
        self._result: Any = None
        self._error: Exception | None = None
        self._errand = _Errand(self)
        self._worker = create_worker(self._errand, _start_thread=False)
        self._worker.finished.connect(self._on_finished)
        self.progressed.connect(self._on_progress)

    def start(self) -> None:
        """Start running."""
        if self._title:
            self._bar = cancelable_progress(total=_STEPS, desc=self._title)
        self._worker.start()

    def cancel(self) -> None:
        """Ask the function to stop; it does when it next reports progress."""
        self._worker.quit()

    def silence(self) -> None:
        """Let nobody hear of it any more, not even what is on its way already."""
        if not isalive(self):  # type: ignore[no-untyped-call]
            return  # at the end of the program Qt takes things apart in any order
        self.blockSignals(True)
        for name in self.talk:
            with suppress(TypeError):  # nobody listens to it
                getattr(self, name).disconnect()

    def work(self) -> None:
        """Run the function; called in the worker's thread."""
        try:
            self._result = self._function(self._progress)
        except Exception as error:  # whatever it is, it belongs on the GUI thread
            self._error = error

    def _progress(self, fraction: float, message: str) -> None:
        """Pass progress on to the GUI thread; called in the worker's thread."""
        if self._worker.abort_requested:
            raise Cancelled(f"{self._title or 'the work'} was cancelled")
        now = (round(fraction * _STEPS), message)
        if now != self._last:
            self._last = now
            self.progressed.emit(fraction, message)

    def _on_progress(self, fraction: float, message: str) -> None:
        """Move the bar; napari handles other events meanwhile, so more reports and even the end may come within."""
        if self._bar is None or self._in_bar:
            return
        if self._bar.is_canceled:
            self.cancel()
        self._in_bar = True
        try:
            self._bar.set_description(f"{self._title}: {message}")
            self._bar.update(max(0, round(fraction * _STEPS) - self._bar.n))
        finally:
            self._in_bar = False
        if self._ended_in_bar:
            self._on_finished()

    def _on_finished(self) -> None:
        if self._in_bar:
            self._ended_in_bar = True
            return
        self._close_bar()
        if self._error is None:
            self.done.emit(self._result)
        elif isinstance(self._error, Cancelled):
            self.cancelled.emit()
        else:
            self.failed.emit(self._error)
        self.finished.emit()
        self._errand.task = None

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Errand:
    """What napari runs. It remembers that as long as its window lives, but not the task and all that listens to it."""

    def __init__(self, task: Task) -> None:
        self.task: Task | None = task

    def __call__(self) -> None:
        if self.task is not None:
            self.task.work()


class Running:
    """The task that a widget runs; apart from the widget, so that it can be stopped when the widget is gone."""

    def __init__(self) -> None:
        self.task: Task | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something runs."""
        return self.task is not None

    def cancel(self) -> None:
        """Ask what runs to stop."""
        if self.task is not None:
            self.task.cancel()

    def stop_with(self, widget: QObject) -> None:
        """Stop when a widget is destroyed, and let nobody hear of it."""
        # Where the widget is collected as garbage it may be destroyed after all that only it holds was taken apart, and
        # calling that would break down: so this is held from elsewhere, and a method is connected (Qt holds it weakly).
        _STOPPED_WITH_WIDGETS.add(self)
        widget.destroyed.connect(self._stop_for_good)

    def _stop_for_good(self) -> None:
        _STOPPED_WITH_WIDGETS.discard(self)
        self.stop()

    def stop(self) -> None:
        """Stop what runs, and let nobody hear of it."""
        if self.task is not None:
            self.task.cancel()
            self.task.silence()
            self.task = None


_STOPPED_WITH_WIDGETS: set[Running] = set()
"""What is to be stopped when its widget is destroyed."""


def in_thread(work: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
    """Run a function in a thread and give its result, or its exception, to one of two functions on this thread."""
    task = Task(lambda progress: work())
    task.done.connect(done)
    task.failed.connect(failed)
    task.start()
