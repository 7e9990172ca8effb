"""One dock widget for every method of the registry.

``align_widget:fiducial`` is the widget of the method ``fiducial``, ``align_widget:patch_tracking`` that of
``patch-tracking``: the classes are made when they are asked for, so a new method needs one entry in the manifest and
nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from time import monotonic
from typing import Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton, TextEdit, Widget
from napari.components import ViewerModel

from napari_tiltalign.api import align
from napari_tiltalign.errors import BadInput, TiltAlignError
from napari_tiltalign.methods.base import Method, methods
from napari_tiltalign.model import Alignment, Dataset
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.commands import AddAlignment
from napari_tiltalign.ui.options_form import OptionsForm
from napari_tiltalign.ui.summary import alignment_summary
from napari_tiltalign.ui.tasks import Task


def __getattr__(name: str) -> type[AlignWidget]:
    """Return the widget class of a method by its name with underscores."""
    try:
        return widget_class(name.replace("_", "-"))
    except BadInput as error:
        raise AttributeError(str(error)) from None


@cache
def widget_class(method_name: str) -> type[AlignWidget]:
    """Return the widget class of a method.

    Raises
    ------
    BadInput
        If there is no method of that name.
    """
    if method_name not in methods():
        raise BadInput(f"no method {method_name!r}; there are {', '.join(methods())}")
    title = f"{method_name.title().replace('-', '')}Widget"
    return type(title, (AlignWidget,), {"method_name": method_name, "__doc__": methods()[method_name].summary})


@dataclass(slots=True)
class _Runs:
    """What runs and what waits; apart from the widget, so that it can be stopped when the widget is gone."""

    queue: list[str] = field(default_factory=list)
    task: Task | None = None

    def stop_silently(self) -> None:
        """Stop, and let nobody hear of it."""
        self.queue.clear()
        if self.task is not None:
            self.task.blockSignals(True)
            self.task.cancel()


class AlignWidget(Container[Widget]):
    """Options of one method, a button that runs it, and what came of it.

    Parameters
    ----------
    napari_viewer
        The viewer whose session is used.
    """

    method_name = ""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        self._session = session_of(napari_viewer)
        self._method: Method = methods()[self.method_name]
        self._runs = runs = _Runs()
        self._summary = Label(value=self._method.summary)
        self._summary.native.setWordWrap(True)
        self.form = OptionsForm(self._method.Options())
        self.form.margins = (0, 0, 0, 0)
        self.run_button = PushButton(text="Align this series", tooltip="Align the series that is shown")
        self.run_all_button = PushButton(text="Align all series", tooltip="Align every series of the dataset")
        self.cancel_button = PushButton(text="Cancel", enabled=False, tooltip="Stop; what is done already is kept")
        self.progress = ProgressBar(value=0, max=1000, visible=False)
        self.message = Label(value="")
        self.log = TextEdit(value="", tooltip="What was done, the last at the end")
        self.log.native.setReadOnly(True)
        self.log.native.setMinimumHeight(120)
        buttons = Container(
            widgets=[self.run_button, self.run_all_button, self.cancel_button], layout="horizontal", labels=False
        )
        buttons.margins = (0, 0, 0, 0)
        super().__init__(
            widgets=[self._summary, self.form, buttons, self.progress, self.message, self.log], labels=False
        )
        self.run_button.changed.connect(self._run_one)
        self.run_all_button.changed.connect(self._run_all)
        self.cancel_button.changed.connect(self.cancel)
        self._session.series_changed.connect(self._update_buttons)
        self._session.dataset_changed.connect(self._update_buttons)
        self.native.destroyed.connect(lambda: runs.stop_silently())
        self._update_buttons()

    @property
    def is_running(self) -> bool:
        """Whether something is being aligned."""
        return self._runs.task is not None

    def _run_one(self) -> None:
        series = self._session.series
        if series is not None:
            self._start([series.name])

    def _run_all(self) -> None:
        dataset = self._session.dataset
        if dataset is not None:
            self._start([series.name for series in dataset])

    def _start(self, names: list[str]) -> None:
        if self.is_running:
            return
        self._runs.queue = names
        self._run_next()

    def _run_next(self) -> None:
        """Align the first series of the queue with the options that the form shows now."""
        dataset, name = self._session.dataset, self._runs.queue.pop(0)
        try:
            options, series = self.form.value, self._session.series_named(name)
        except TiltAlignError as error:
            self._runs.queue.clear()
            self._write(str(error))
            return
        started = monotonic()
        task = Task(lambda progress: align(series, options, progress=progress), f"{name}: {self._method.title.lower()}")
        task.progressed.connect(self._show_progress)
        task.done.connect(lambda result: self._take(dataset, name, result, monotonic() - started))
        task.failed.connect(lambda error: self._fail(name, error))
        task.cancelled.connect(lambda: self._write(f"{name}: cancelled"))
        task.finished.connect(self._after_task)
        self._runs.task = task
        self.message.value = name
        self._update_buttons()
        task.start()

    def cancel(self) -> None:
        """Stop the alignment that runs, and those that wait."""
        self._runs.queue.clear()
        if self._runs.task is not None:
            self._runs.task.cancel()
            self.message.value = "stopping ..."

    def _show_progress(self, fraction: float, message: str) -> None:
        self.progress.value = round(1000 * fraction)
        self.message.value = message

    def _take(self, dataset: Dataset | None, name: str, alignment: Alignment, seconds: float) -> None:
        """Give a result to the session, unless another dataset was opened meanwhile."""
        if self._session.dataset is not dataset:
            self._write(f"{name}: done, but the dataset is closed; dropped")
            return
        work = self._session.work_of(name)
        known = work.candidates if work else {}
        self._session.do(AddAlignment(_free_name(self.method_name, known), alignment), name)
        first, *rest = alignment_summary(alignment)
        self._write("\n".join([f"{name}: {first}, {seconds:.0f} s", *rest]))

    def _fail(self, name: str, error: Exception) -> None:
        if not isinstance(error, TiltAlignError):
            raise error  # a bug: napari shows it with its traceback
        text = str(error)
        self._write(text if text.startswith(name) else f"{name}: {text}")
        self._session.warned.emit(text)

    def _after_task(self) -> None:
        self._runs.task = None
        self.message.value = ""
        if self._runs.queue:
            self._run_next()
        self._update_buttons()

    def _update_buttons(self) -> None:
        dataset, idle = self._session.dataset, not self.is_running
        self.run_button.enabled = idle and self._session.series is not None
        self.run_all_button.enabled = idle and dataset is not None and len(dataset) > 0
        self.cancel_button.enabled = not idle
        self.progress.visible = not idle
        if idle:
            self.progress.value = 0

    def _write(self, text: str) -> None:
        self.log.native.append(text)


def _free_name(method_name: str, known: Any) -> str:
    """Name for a new candidate: the method's, with a number if it is taken."""
    number = 1
    while (name := method_name if number == 1 else f"{method_name} {number}") in known:
        number += 1
    return name
