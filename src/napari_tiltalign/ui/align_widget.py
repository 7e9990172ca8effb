"""One dock widget for every method of the registry.

``align_widget:fiducial`` is the widget of the method ``fiducial``, ``align_widget:patch_tracking`` that of
``patch-tracking``: the classes are made when they are asked for, so a new method needs one entry in the manifest and
nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import monotonic

from magicgui.widgets import CheckBox, ComboBox, Container, Label, ProgressBar, PushButton, TextEdit, Widget
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication, QSizePolicy

from napari_tiltalign.api import align
from napari_tiltalign.batch import Existing, SeriesOutcome
from napari_tiltalign.errors import BadInput, ProgramMissing, TiltAlignError
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.methods.base import Method, MethodOptions, check_usable, methods, unavailable_because
from napari_tiltalign.model import Alignment, Dataset
from napari_tiltalign.ui import batch_task, save_row
from napari_tiltalign.ui.area_row import FIELD, AreaRow
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.batch_task import BatchTask
from napari_tiltalign.ui.closing import guard_when_shown
from napari_tiltalign.ui.commands import AddAlignment
from napari_tiltalign.ui.copy_text import as_command, as_python
from napari_tiltalign.ui.docking import gather_when_shown
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.options_form import OptionsForm
from napari_tiltalign.ui.preferences import preferences
from napari_tiltalign.ui.saving import free_name, proposed_folder
from napari_tiltalign.ui.selecting import curated
from napari_tiltalign.ui.series_options import SeriesOptions
from napari_tiltalign.ui.series_progress import SeriesProgress
from napari_tiltalign.ui.summary import alignment_summary
from napari_tiltalign.ui.tasks import Running, Task
from napari_tiltalign.ui.user_state import remember_folder
from napari_tiltalign.ui.wrapped import Scrolling, let_wrap

NOTHING, IN_USE = START_CHOICES = ("the angles in the input", "the alignment in use")
"""What a method can start from."""

_LEAST_LOG_PX = 80

_PROGRAM = "executable"
"""Option with the path of another program, which may be given where the program is not found by itself."""


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
        self._runs = Running()
        self.summary = Label(value=self._method.summary)
        let_wrap(self.summary.native)
        self.form = OptionsForm(first_options(self._method))
        self.form.margins = (0, 0, 0, 0)
        self._options = SeriesOptions(self.form.value)
        self.start_box = ComboBox(
            name="start",
            label="Start from",
            choices=START_CHOICES,
            tooltip="Where the method starts when it aligns the series that is shown; not every method can start "
            "from an alignment",
        )
        start_row = Container(widgets=[self.start_box], labels=True)
        self.own_box = CheckBox(
            text="Own options for this series", tooltip="What is set above holds for the series that is shown only"
        )
        self.command_button = PushButton(text="Copy as command", tooltip="Copy the command line that does the same")
        self.python_button = PushButton(text="Copy as Python", tooltip="Copy Python code that does the same")
        self.run_button = PushButton(text="Align this series", tooltip="Align the series that is shown")
        self.run_all_button = PushButton(
            text="Align all series", tooltip="Align every series and save the results, which open here as they are done"
        )
        self.cancel_button = PushButton(text="Cancel", enabled=False, tooltip="Stop; what is done already is kept")
        self.progress = ProgressBar(value=0, max=1000, visible=False)
        self.message = Label(value="", visible=False)
        self.series_progress = SeriesProgress()
        self.log = TextEdit(value="", tooltip="What was done, the last at the end")
        self.log.native.setReadOnly(True)
        self.log.native.setMinimumHeight(_LEAST_LOG_PX)
        self.log.native.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Ignored)
        buttons = Container(
            widgets=[self.run_button, self.run_all_button, self.cancel_button], layout="horizontal", labels=False
        )
        copies = Container(widgets=[self.command_button, self.python_button], layout="horizontal", labels=False)
        for row in (start_row, buttons, copies):
            row.margins = (0, 0, 0, 0)
        areas = [AreaRow(napari_viewer, self.form)] if FIELD in self._method.Options.model_fields else []
        super().__init__(
            widgets=[
                self.summary,
                self.form,
                *areas,
                self.own_box,
                start_row,
                buttons,
                self.progress,
                self.message,
                self.log,
                copies,
            ],
            labels=False,
        )
        layout = self.native.layout()
        layout.insertWidget(self.index(self.message) + 1, self.series_progress)
        layout.removeWidget(self.form.native)
        layout.insertWidget(self.index(self.form), Scrolling(self.form.native))
        layout.setStretchFactor(self.log.native, 1)  # it has what the form leaves
        self.run_button.changed.connect(self._run_one)
        self.run_all_button.changed.connect(self._run_all)
        self.cancel_button.changed.connect(self.cancel)
        self.command_button.changed.connect(self._copy_command)
        self.python_button.changed.connect(self._copy_python)
        self.form.changed.connect(self._keep_options)
        self.own_box.changed.connect(self._set_own)
        guard_when_shown(self.native, self._session)
        gather_when_shown(self.native, napari_viewer)
        hear(self._session.series_changed, self._show_series, self.native)
        hear(self._session.candidates_changed, self._update_buttons, self.native)
        hear(self._session.dataset_changed, self._forget_own, self.native)
        self._runs.stop_with(self.native)
        self._update_buttons()

    @property
    def is_running(self) -> bool:
        """Whether something is being aligned."""
        return self._runs.is_busy

    # --- options

    def _keep_options(self) -> None:
        """Remember what the form shows, unless it is refused; then running will say why."""
        with suppress(BadInput):
            self._options.change(self._series_name(), self.form.value)
        if _PROGRAM in self._method.Options.model_fields:
            self._update_buttons()

    def _series_name(self) -> str:
        series = self._session.series
        return series.name if series else ""

    def _set_own(self, own: bool) -> None:
        self._options.set_own(self._series_name(), own)
        self._show_options()

    def _show_series(self) -> None:
        self._show_options()
        self._update_buttons()

    def _show_options(self) -> None:
        name = self._series_name()
        with self.own_box.changed.blocked(), self.form.changed.blocked():
            self.own_box.value = name in self._options.own
            self.form.value = self._options.of(name)

    def _forget_own(self) -> None:
        self._options.own.clear()
        self._update_buttons()

    # --- copying

    def _copy_command(self) -> None:
        self._copy(lambda *what: as_command(self.method_name, *what))

    def _copy_python(self) -> None:
        self._copy(as_python)

    def _copy(self, text: Callable[[MethodOptions, str, Path, tuple[str, ...]], str]) -> None:
        dataset = self._session.dataset
        clipboard = QApplication.clipboard()
        if dataset is None or clipboard is None:
            return
        name = self._series_name()
        only = (name,) if name in self._options.own else ()
        folder = self._session.results_folder or proposed_folder(dataset, preferences().folder_name)
        try:
            clipboard.setText(text(self.form.value, dataset.source, folder, only))
        except BadInput as error:
            self._write(str(error))
            return
        self._session.told.emit("copied")

    # --- running

    def _run_one(self) -> None:
        """Align the series that is shown with the options that the form shows."""
        dataset, series = self._session.dataset, self._session.series
        if series is None or self.is_running:
            return
        name = series.name
        try:
            options = self.form.value
        except BadInput as error:
            self._write(str(error))
            return
        started = monotonic()
        start = self._session.alignment if self.start_box.value == IN_USE else None
        task = Task(
            lambda progress: align(series, options, start=start, progress=progress),
            f"{name}: {self._method.title.lower()}",
        )
        task.done.connect(lambda result: self._take(dataset, name, result, monotonic() - started))
        task.failed.connect(lambda error: self._fail(name, error))
        task.cancelled.connect(lambda: self._write(f"{name}: cancelled"))
        self._start(task, name)

    def _run_all(self) -> None:
        """Hand the dataset over to the batch engine, with the user's exclusions."""
        dataset, parent = self._session.dataset, self.native
        if dataset is None or self.is_running:
            return
        if unsaved := self._session.unsaved():
            self._session.warned.emit(f"save first: {', '.join(unsaved)} has changes, and its results will be replaced")
            return
        folder = self._session.results_folder or save_row.ask_folder(self._session, parent)
        if folder is None:
            return
        has_results = OutputFolder(folder).has_results()
        existing = batch_task.ask_existing(parent, folder) if has_results else Existing.RESUME
        if existing is None:
            return
        try:
            wanted = curated(self._session)
        except TiltAlignError as error:
            self._fail("all series", error)
            return
        task = BatchTask(wanted, self._options.common, dict(self._options.own), folder, existing)
        task.landed.connect(lambda outcome, alignment: self._land(dataset, folder, outcome, alignment))
        task.running.connect(self.series_progress.show_running)
        task.noticed.connect(self._write)
        task.failed.connect(lambda error: self._fail("all series", error))
        task.cancelled.connect(lambda: self._write("cancelled; what was done is kept"))
        self._start(task, "all series")

    def _start(self, task: Task, message: str) -> None:
        task.progressed.connect(self._show_progress)
        task.finished.connect(self._after_task)
        self._runs.task = task
        self._say(message)
        self._update_buttons()
        task.start()

    def _land(self, dataset: Dataset, folder: Path, outcome: SeriesOutcome, alignment: Alignment | None) -> None:
        """Take over a result of the batch engine, which is on the disk already."""
        if alignment is None:
            self._write(f"{outcome.name}: {outcome.failure}")
            return
        if self._session.dataset is dataset:
            self._session.results_folder = folder
            with suppress(OSError):  # a convenience only
                remember_folder(dataset.source, folder)
        self._take(dataset, outcome.name, alignment, outcome.seconds, on_disk=True)

    def cancel(self) -> None:
        """Stop what runs."""
        if self._runs.task is not None:
            self._runs.task.cancel()
            self._say("stopping ...")

    def _show_progress(self, fraction: float, message: str) -> None:
        self.progress.value = round(1000 * fraction)
        self._say(message)

    def _say(self, message: str) -> None:
        """Tell what is being done; nothing takes no room."""
        self.message.value = message
        self.message.visible = bool(message)

    def _take(
        self, dataset: Dataset | None, name: str, alignment: Alignment, seconds: float, *, on_disk: bool = False
    ) -> None:
        """Give a result to the session, unless another dataset was opened meanwhile."""
        if self._session.dataset is not dataset:
            self._write(f"{name}: done, but the dataset is closed; dropped")
            return
        work = self._session.work_of(name)
        known = work.candidates if work else {}
        self._session.do(AddAlignment(free_name(self.method_name, known), alignment), name, on_disk=on_disk)
        first, *rest = alignment_summary(alignment)
        self._write("\n".join([f"{name}: {first}, {seconds:.0f} s", *rest]))

    def _fail(self, name: str, error: Exception) -> None:
        if not isinstance(error, TiltAlignError | OSError):
            raise error  # a bug: napari shows it with its traceback
        text = str(error)
        self._write(text if text.startswith(name) else f"{name}: {text}")
        self._session.warned.emit(text)

    def _after_task(self) -> None:
        self._runs.task = None
        self.series_progress.show_running({})
        self._say("")
        self._update_buttons()

    def _update_buttons(self) -> None:
        dataset, idle = self._session.dataset, not self.is_running
        why_not = self._why_not()
        self.summary.value = f"⚠ Not available here: {why_not}" if why_not else self._method.summary
        self.form.enabled = not why_not or _PROGRAM in self._method.Options.model_fields
        self.run_button.enabled = idle and not why_not and self._session.series is not None
        self.run_all_button.enabled = idle and not why_not and dataset is not None and len(dataset) > 0
        self.start_box.enabled = idle and not why_not and self._session.alignment is not None
        if self._session.alignment is None:
            self.start_box.value = NOTHING
        self.cancel_button.enabled = not idle
        self.own_box.enabled = self._session.series is not None
        self.command_button.enabled = self.python_button.enabled = dataset is not None and bool(dataset.source)
        self.progress.visible = not idle
        if idle:
            self.progress.value = 0

    def _why_not(self) -> str:
        """Why the method cannot be used; empty if it can. A program may be where the form says, and nowhere else."""
        if _PROGRAM in self._method.Options.model_fields and self.form[_PROGRAM].value:
            try:
                check_usable(self._method, self.form.value)
            except ProgramMissing as error:
                return str(error)
            except BadInput:
                return ""  # running says what is wrong
            return ""
        return unavailable_because(self._method)

    def _write(self, text: str) -> None:
        self.log.native.append(text)


def first_options(method: Method) -> MethodOptions:
    """Options that the form of a method shows at first: the defaults, with the user's usual diameter of beads."""
    options = method.Options()
    if "diameter_nm" in method.Options.model_fields:
        return options.replace(diameter_nm=preferences().bead_diameter_nm)
    return options
