"""Part of the widget *Inspect*: the alignments of a series, for choosing, comparing and judging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.methods.base import Progress
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.ui.candidate_table import COLUMNS, candidate_rows
from napari_tiltalign.ui.commands import UseAlignment
from napari_tiltalign.ui.comparison import REPROJECTION, Comparison, How
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.session import Session
from napari_tiltalign.ui.tasks import Running, Task

_NAME = Qt.ItemDataRole.UserRole
NOTHING = "nothing"
TOMOGRAM_SIZE_PX = 320
"""Voxels along the longer side of a tomogram: enough to judge by, and made in a few seconds."""

Judge = Callable[[TiltSeries, Alignment, Progress], Any]


class CandidateBox(QWidget):
    """List of the alignments of a series, and what can be done with them.

    Parameters
    ----------
    session
        What to show.

    Attributes
    ----------
    ticked_changed
        Emitted when other alignments are ticked, or there are others.
    """

    ticked_changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._running = Running()
        self._build()
        hear(session.candidates_changed, self.refill)
        hear(session.series_changed, self.refill)
        hear(session.alignment_changed, self.update_rows)
        hear(session.judged.changed, self.update_rows)
        hear(session.comparison_changed, self._show_comparison)
        self.list.currentItemChanged.connect(self._update_buttons)
        self.list.itemDoubleClicked.connect(self._use)
        self.list.itemChanged.connect(self._on_tick)
        self.use_button.clicked.connect(self._use)
        self.tomogram_button.clicked.connect(self._make_tomograms)
        self.judge_button.clicked.connect(self._judge)
        self.cancel_button.clicked.connect(self._running.cancel)
        self.what_box.activated.connect(self._compare)
        self.how_box.activated.connect(self._compare)
        self._running.stop_with(self)
        self.refill()

    def _build(self) -> None:
        self.list = _candidate_list()
        self.use_button = _button("Use this one", "Show, edit and save the alignment selected here (can be undone)")
        self.tomogram_button = _button("Tomograms", "Make a small tomogram of the alignment in use and of those ticked")
        self.judge_button = _button(
            "Judge", "Score the alignment in use and those ticked by evidence that does not depend on the method"
        )
        self.cancel_button = _button("Cancel", "Stop; what is done already is kept")
        self.progress = QProgressBar()
        self.progress.setMaximum(1000)
        self.what_box, self.how_box = QComboBox(), QComboBox()
        self.what_box.setToolTip(
            "What the images are compared with: another alignment (both are brought together), or, once there are\n"
            "tomograms, the re-projection: what all other views predict of the one that is shown"
        )
        self.how_box.setToolTip("blink: one after the other; overlay: both in colours, grey where they agree")
        self.how_box.addItems([How.BLINK.value, How.OVERLAY.value])
        top, below = QHBoxLayout(), QHBoxLayout()
        top.addWidget(QLabel("Alignments"), 1)
        for widget in (self.judge_button, self.tomogram_button, self.use_button):
            top.addWidget(widget)
        below.addWidget(QLabel("Compare with"))
        below.addWidget(self.what_box, 1)
        below.addWidget(self.how_box)
        busy = QHBoxLayout()
        busy.addWidget(self.progress, 1)
        busy.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self.list, 1)
        layout.addLayout(below)
        layout.addLayout(busy)
        self._show_busy(False)

    # --- the list

    def _items(self) -> list[QTreeWidgetItem]:
        items = (self.list.topLevelItem(row) for row in range(self.list.topLevelItemCount()))
        return [item for item in items if item is not None]

    def ticked(self) -> dict[str, Alignment]:
        """Alignments that are ticked and not in use, by name."""
        work = self._session.work
        names = [item.data(0, _NAME) for item in self._items() if item.checkState(0) == Qt.CheckState.Checked]
        return {n: work.candidates[n].alignment for n in names if n in work.candidates and n != work.current}

    def refill(self) -> None:
        """Make the list anew; what was ticked stays ticked."""
        ticked = {item.data(0, _NAME) for item in self._items() if item.checkState(0) == Qt.CheckState.Checked}
        self.list.blockSignals(True)
        self.list.clear()
        for row in candidate_rows(self._session.work, self._session.judged):
            item = QTreeWidgetItem()
            item.setData(0, _NAME, row.name)
            item.setCheckState(0, Qt.CheckState.Checked if row.name in ticked else Qt.CheckState.Unchecked)
            self.list.addTopLevelItem(item)
            if row.in_use:
                self.list.setCurrentItem(item)
        self.list.blockSignals(False)
        self.update_rows()
        self.ticked_changed.emit()

    def update_rows(self) -> None:
        """Write what is known of the alignments now."""
        self.list.blockSignals(True)
        for item, row in zip(self._items(), candidate_rows(self._session.work, self._session.judged), strict=False):
            font = item.font(0)
            font.setBold(row.in_use)
            for column, text in enumerate(row.cells):
                item.setText(column, text)
                item.setFont(column, font)
                item.setToolTip(column, row.warnings)
                if column:
                    item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
        self.list.blockSignals(False)
        self._show_comparison()
        self._update_buttons()

    def _on_tick(self, *_: Any) -> None:
        self.ticked_changed.emit()

    def _update_buttons(self, *_: Any) -> None:
        item, idle = self.list.currentItem(), not self._running.is_busy
        self.use_button.setEnabled(item is not None and item.data(0, _NAME) != self._session.work.current)
        for button in (self.tomogram_button, self.judge_button):
            button.setEnabled(idle and self._session.alignment is not None)

    def _use(self, *_: Any) -> None:
        item = self.list.currentItem()
        if item is not None and item.data(0, _NAME) != self._session.work.current:
            self._session.do(UseAlignment(item.data(0, _NAME)))

    # --- comparing

    def _show_comparison(self) -> None:
        """Offer what there is to compare with, and show what was chosen."""
        work, chosen = self._session.work, self._session.comparison
        offered = [NOTHING, *(name for name in work.candidates if name != work.current)]
        if self._session.judged.tomogram_of(work.alignment) is not None:
            offered.append(REPROJECTION)
        if [self.what_box.itemText(i) for i in range(self.what_box.count())] != offered:
            self.what_box.clear()
            self.what_box.addItems(offered)
        self.what_box.setCurrentText(chosen.what if chosen.what in offered and chosen.how is not How.OFF else NOTHING)
        if chosen.how is not How.OFF:
            self.how_box.setCurrentText(chosen.how.value)
        self.what_box.setEnabled(len(offered) > 1)
        self.how_box.setEnabled(len(offered) > 1)

    def _compare(self, *_: Any) -> None:
        what = self.what_box.currentText()
        how = How.OFF if what == NOTHING else How(self.how_box.currentText())
        self._session.compare(Comparison("" if what == NOTHING else what, how))

    # --- work in the background

    def _make_tomograms(self) -> None:
        """Make the tomograms that are not there yet."""
        series, work, judged = self._session.series, self._session.work, self._session.judged
        if series is None or work.alignment is None:
            return
        wanted = {work.current: work.alignment, **self.ticked()}
        missing = {name: found for name, found in wanted.items() if judged.tomogram_of(found) is None}
        self._run(f"{series.name}: tomograms", series, missing, _tomogram, judged.keep_tomogram)

    def _judge(self) -> None:
        """Judge the alignments that were not judged yet."""
        series, work, judged = self._session.series, self._session.work, self._session.judged
        if series is None or work.alignment is None:
            return
        wanted = {work.current: work.alignment, **self.ticked()}
        missing = {name: found for name, found in wanted.items() if judged.scores_of(found) is None}
        self._run(f"{series.name}: judging", series, missing, _judging(), judged.keep_scores)

    def _run(
        self, title: str, series: TiltSeries, asked: Mapping[str, Alignment], judge: Judge, keep: Callable[..., None]
    ) -> None:
        """Judge alignments one after the other, in a thread; each is kept as soon as it is there."""
        if self._running.is_busy or not asked:
            return
        task = JudgeTask(title, series, asked, judge)
        task.found.connect(keep)
        task.failed.connect(self._fail)
        task.progressed.connect(lambda fraction, message: self.progress.setValue(round(1000 * fraction)))
        task.finished.connect(self._on_finished)
        self._running.task = task
        self._show_busy(True)
        task.start()

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, TiltAlignError | OSError | MemoryError):
            raise error  # a bug: napari shows it with its traceback
        self._session.warned.emit(str(error) or "not enough memory")

    def _on_finished(self) -> None:
        self._running.task = None
        self._show_busy(False)

    def _show_busy(self, busy: bool) -> None:
        self.progress.setValue(0)
        for widget in (self.progress, self.cancel_button):
            widget.setVisible(busy)
        self._update_buttons()


class JudgeTask(Task):
    """Judges alignments of a series; `found` tells the alignment and what came out, on the GUI thread."""

    talk = (*Task.talk, "found")
    found = Signal(object, object)

    def __init__(self, title: str, series: TiltSeries, asked: Mapping[str, Alignment], judge: Judge) -> None:
        def run(progress: Progress) -> None:
            for number, (name, alignment) in enumerate(asked.items()):

                def part(fraction: float, message: str, number: int = number, name: str = name) -> None:
                    progress((number + fraction) / len(asked), f"{name}: {message}")

                self.found.emit(alignment, judge(series, alignment, part))

        super().__init__(run, title)


def _tomogram(series: TiltSeries, alignment: Alignment, progress: Progress) -> Any:
    from napari_tiltalign.quality.preview import preview  # heavy, and not needed to show the widget

    return preview(series, alignment, size_px=TOMOGRAM_SIZE_PX, progress=progress)


def _judging() -> Judge:
    """Return a function that judges alignments of one series; the images are prepared once, for the first."""
    prepared: list[Any] = []

    def judge(series: TiltSeries, alignment: Alignment, progress: Progress) -> Any:
        from napari_tiltalign.quality import scores  # heavy, and not needed to show the widget

        if not prepared:
            prepared.append(scores.Judge(series, progress=lambda f, text: progress(0.4 * f, text)))
        return prepared[0](alignment, progress=lambda f, text: progress(0.4 + 0.6 * f, text))

    return judge


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    return button


def _candidate_list() -> QTreeWidget:
    tree = QTreeWidget()
    tree.setRootIsDecorated(False)
    tree.setMinimumHeight(110)
    tree.setHeaderLabels([heading for heading, _ in COLUMNS])
    heads = tree.headerItem()
    if heads is not None:
        for column, (_, meaning) in enumerate(COLUMNS):
            heads.setToolTip(column, meaning)
    header = tree.header()
    if header is not None:
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    return tree
