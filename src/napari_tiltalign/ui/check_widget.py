"""Dock widget *Check*: what is odd about the series that is shown, before it is aligned."""

from __future__ import annotations

from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.model import TiltSeries
from napari_tiltalign.quality.axis_check import AXIS_OFF_DEG, AxisCheck
from napari_tiltalign.quality.checking import Finding, SeriesCheck, check_series
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.closing import guard_when_shown
from napari_tiltalign.ui.docking import gather_when_shown
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.tasks import Running, Task
from napari_tiltalign.ui.wrapped import let_rows_wrap, let_wrap

_WHERE = Qt.ItemDataRole.UserRole
_SIGNS = {"problem": "✖", "warning": "⚠", "note": "·"}
_NOTHING_OPEN = "Open a dataset: its series are checked as they are shown."


class CheckWidget(QWidget):
    """Checks the series that is shown, in a thread, and lists what is odd and what to do about it.

    Parameters
    ----------
    napari_viewer
        The viewer whose session is used.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._session = session_of(napari_viewer)
        guard_when_shown(self, self._session)
        gather_when_shown(self, napari_viewer)
        self._running = Running()
        self._known: dict[str, tuple[TiltSeries, SeriesCheck]] = {}
        self._build()
        self.again_button.clicked.connect(self._check_again)
        self.list.currentItemChanged.connect(self._go_to)
        hear(self._session.dataset_changed, self._forget)
        hear(self._session.series_changed, self._show)
        self._running.stop_with(self)
        self._show()

    def _build(self) -> None:
        self.summary = QLabel(_NOTHING_OPEN)
        let_wrap(self.summary)
        self.list = QTreeWidget()
        self.list.setRootIsDecorated(False)
        let_rows_wrap(self.list)
        self.list.setHeaderHidden(True)
        self.list.setToolTip("What is odd; choose a line to go to the view and to read what to do")
        self.to_do = QLabel()
        let_wrap(self.to_do)
        self.again_button = QPushButton("Check again")
        self.again_button.setToolTip("Look at all images of this series once more, without those that are excluded now")
        self.progress = QProgressBar()
        self.progress.setMaximum(1000)
        self.progress.setVisible(False)
        row = QHBoxLayout()
        row.addWidget(self.progress, 1)
        row.addWidget(self.again_button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.summary)
        layout.addWidget(self.list, 1)
        layout.addWidget(self.to_do)
        layout.addLayout(row)

    @property
    def is_busy(self) -> bool:
        """Whether images are being looked at."""
        return self._running.is_busy

    # --- from the session

    def _forget(self) -> None:
        self._known.clear()

    def _show(self) -> None:
        """Show what is known of the series, and find it out if nothing is."""
        series = self._session.series
        self.list.clear()
        self.to_do.setText("")
        self.again_button.setEnabled(series is not None)
        if series is None:
            self.summary.setText(_NOTHING_OPEN)
        elif series.name in self._known:
            self._fill(self._known[series.name][1])
        else:
            self._check(series)

    def _fill(self, check: SeriesCheck) -> None:
        counts = {level: sum(f.level == level for f in check.findings) for level in ("problem", "warning", "note")}
        told = ", ".join(f"{n} {level}{'s' if n > 1 else ''}" for level, n in counts.items() if n) or "nothing odd"
        lines = [f"{check.name}: {told}"]
        if check.axis is not None and check.axis.clear:
            lines.append(_about_axis(check.axis))
        if check.flat_deg == check.flat_deg:
            lines.append(f"lies flat at {check.flat_deg:+z.0f}° by its brightness")
        self.summary.setText("\n".join(lines))
        self.summary.setToolTip("" if check.axis is None else check.axis.scores_text())
        self.list.clear()
        for finding in check.findings:
            self.list.addTopLevelItem(_item(finding))

    # --- from the user

    def _check_again(self) -> None:
        series = self._session.series
        if series is not None:
            self._known.pop(series.name, None)
            self._show()

    def _go_to(self, item: QTreeWidgetItem | None, *_: object) -> None:
        series = self._session.series
        if item is None or series is None:
            return
        finding: Finding = item.data(0, _WHERE)
        self.to_do.setText(finding.to_do)
        if finding.where and finding.where[0] in series.tilt_ids:
            self._session.select_view(finding.where[0])

    # --- work in the background

    def _check(self, series: TiltSeries) -> None:
        if self._running.task is not None:  # of another series, which is not shown any more
            self._running.task.silence()
            self._running.cancel()
        self.summary.setText(f"{series.name}: looking at its images ...")
        self.progress.setVisible(True)
        task = Task(lambda progress: check_series(series, progress=progress))
        task.progressed.connect(lambda fraction, message: self.progress.setValue(round(1000 * fraction)))
        task.done.connect(lambda check: self._keep(series, check))
        task.failed.connect(self._fail)
        task.finished.connect(self._on_finished)
        self._running.task = task
        task.start()

    def _keep(self, series: TiltSeries, check: SeriesCheck) -> None:
        self._known[series.name] = (series, check)
        if self._session.series is not None and self._session.series.name == series.name:
            self._fill(check)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, TiltAlignError | OSError | MemoryError):
            raise error  # a bug: napari shows it with its traceback
        self.summary.setText(str(error) or "not enough memory")

    def _on_finished(self) -> None:
        self._running.task = None
        self.progress.setVisible(False)


def _about_axis(axis: AxisCheck) -> str:
    """What the images say of the tilt axis; they tell it to some degrees only."""
    if abs(axis.off_deg) <= AXIS_OFF_DEG:
        return f"tilt axis: {axis.nominal_deg:.1f}°, and the images agree (to {AXIS_OFF_DEG:.0f}°)"
    return f"tilt axis: {axis.nominal_deg:.1f}° given, {axis.best_deg:z.0f}° by the images"


def _item(finding: Finding) -> QTreeWidgetItem:
    item = QTreeWidgetItem([f"{_SIGNS[finding.level]} {finding.what}"])
    item.setData(0, _WHERE, finding)
    item.setToolTip(0, f"{finding.what}\n\n{', '.join(finding.where)}\n\n{finding.to_do}")
    return item
