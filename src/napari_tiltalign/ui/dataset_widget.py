"""Dock widget *Dataset*: open a dataset, find a series, choose between its alignments."""

from __future__ import annotations

from pathlib import Path

from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.closing import guard_when_shown, may_be_lost
from napari_tiltalign.ui.commands import RemoveAlignment, UseAlignment
from napari_tiltalign.ui.docking import gather_when_shown
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.key_table import key_page
from napari_tiltalign.ui.save_row import SaveRow
from napari_tiltalign.ui.summary import alignment_summary
from napari_tiltalign.ui.wrapped import let_wrap

_NAME, _VIEWS, _FIT = range(3)
FILE_FILTER = "Tilt series (*.star *.mrc *.mrcs *.st *.edf);;All files (*)"


class DatasetWidget(QWidget):
    """Opens datasets and lists their series.

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
        self._build()
        self._connect()
        self._fill()

    def _build(self) -> None:
        self.open_button = QPushButton("Open …")
        self.open_button.setToolTip("Open a STAR file of RELION 5 (of a project or of one series), or a stack")
        self.keys_button = QPushButton("Keys")
        self.keys_button.setToolTip("Show all keys")
        self.source = QLabel()
        let_wrap(self.source)
        self.search = QLineEdit()
        self.search.setPlaceholderText("find a series")
        self.search.setClearButtonEnabled(True)
        self.list = QTreeWidget()
        self.list.setHeaderLabels(["Series", "Views", "Residual (px)"])
        self.list.setRootIsDecorated(False)
        self.list.setSortingEnabled(False)
        header = self.list.header()
        if header is not None:
            header.setStretchLastSection(False)
            header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        self.list.setToolTip("Series of the dataset; [ and ] go to the previous and the next one")
        self.candidates = QComboBox()
        self.candidates.setToolTip("Alignments of this series; the one chosen here is shown, edited and saved")
        self.remove_button = QPushButton("Remove")
        self.remove_button.setToolTip("Forget the chosen alignment (can be undone)")
        self.summary = QLabel()
        let_wrap(self.summary)

        top = QHBoxLayout()
        top.addWidget(self.open_button)
        top.addWidget(self.source, 1)
        top.addWidget(self.keys_button)
        chosen = QHBoxLayout()
        chosen.addWidget(QLabel("Alignment"))
        chosen.addWidget(self.candidates, 1)
        chosen.addWidget(self.remove_button)
        layout = QVBoxLayout(self)
        layout.addLayout(top)
        layout.addWidget(self.search)
        layout.addWidget(self.list, 1)
        layout.addLayout(chosen)
        layout.addWidget(self.summary)
        self.save_row = SaveRow(self._session)
        layout.addWidget(self.save_row)

    def _connect(self) -> None:
        self.open_button.clicked.connect(self._choose_file)
        self.keys_button.clicked.connect(self._show_keys)
        self.search.textChanged.connect(self._filter)
        self.list.currentItemChanged.connect(self._on_item)
        self.candidates.activated.connect(self._on_candidate)
        self.remove_button.clicked.connect(self._remove_candidate)
        session = self._session
        hear(session.dataset_changed, self._fill)
        hear(session.series_changed, self._select)
        hear(session.candidates_changed, self._fill_candidates)
        hear(session.alignment_changed, self._update_fit)
        hear(session.exclusions_changed, self._update_fit)
        hear(session.history_changed, self._update_rows)

    def open(self, path: str | Path) -> None:
        """Open a file; a problem is told and nothing changes. Unsaved changes are asked about."""
        from napari_tiltalign.io import read  # heavy, and not needed to show the widget

        try:
            dataset = read(path)
        except TiltAlignError as error:
            self._session.warned.emit(str(error))
            return
        if not may_be_lost(self._session, self):
            return
        for name, problem in dataset.failed.items():
            self._session.warned.emit(problem if problem.startswith(name) else f"{name}: {problem}")
        self._session.open(dataset)

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open tilt series", "", FILE_FILTER)
        if path:
            self.open(path)

    def _show_keys(self) -> None:
        """Show the table of keys beside the window, which can be used meanwhile."""
        box = QMessageBox(QMessageBox.Icon.NoIcon, "Keys", key_page(), QMessageBox.StandardButton.Close, self)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setModal(False)
        box.show()

    # --- from the session

    def _fill(self) -> None:
        dataset = self._session.dataset
        self.list.blockSignals(True)
        self.list.clear()
        for series in dataset or ():
            item = QTreeWidgetItem([series.name, "", ""])
            item.setData(_NAME, Qt.ItemDataRole.UserRole, series.name)
            for column in (_VIEWS, _FIT):
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
            self.list.addTopLevelItem(item)
        self.list.blockSignals(False)
        self.source.setText(Path(dataset.source).name if dataset else "nothing is open")
        self.source.setToolTip(dataset.source if dataset else "")
        self._filter(self.search.text())
        self._update_rows()
        self._select()

    def _items(self) -> list[QTreeWidgetItem]:
        items = (self.list.topLevelItem(row) for row in range(self.list.topLevelItemCount()))
        return [item for item in items if item is not None]

    def _select(self) -> None:
        series = self._session.series
        self.list.blockSignals(True)
        for item in self._items():
            if series is not None and item.data(_NAME, Qt.ItemDataRole.UserRole) == series.name:
                self.list.setCurrentItem(item)
        self.list.blockSignals(False)
        self._fill_candidates()

    def _update_rows(self) -> None:
        unsaved = self._session.unsaved()
        for item in self._items():
            name = item.data(_NAME, Qt.ItemDataRole.UserRole)
            series = self._session.series_named(name)
            work = self._session.work_of(name)
            alignment = work.alignment if work else None
            residual = alignment.statistics.get("residual_rms_px") if alignment else None
            item.setText(_NAME, f"{name} *" if name in unsaved else name)
            item.setToolTip(_NAME, "has changes that were not saved" if name in unsaved else "")
            item.setText(_VIEWS, f"{int(series.included.sum())}/{len(series)}")
            item.setText(_FIT, "" if residual is None else f"{residual:.2f}")

    def _fill_candidates(self) -> None:
        work = self._session.work
        self.candidates.clear()
        self.candidates.addItems(list(work.candidates))
        self.candidates.setCurrentText(work.current)
        self.candidates.setEnabled(bool(work.candidates))
        self.remove_button.setEnabled(bool(work.candidates))
        self._update_fit()

    def _update_fit(self) -> None:
        candidate = self._session.candidate
        lines = alignment_summary(candidate.alignment) if candidate else ["not aligned yet"]
        if candidate is not None and candidate.problem:
            lines.append(f"⚠ {candidate.problem}")
        self.summary.setText("\n".join(lines))
        self._update_rows()

    # --- from the user

    def _filter(self, text: str) -> None:
        for item in self._items():
            name = item.data(_NAME, Qt.ItemDataRole.UserRole)
            item.setHidden(text.casefold() not in name.casefold())

    def _on_item(self, item: QTreeWidgetItem | None) -> None:
        if item is not None:
            self._session.show(item.data(_NAME, Qt.ItemDataRole.UserRole))

    def _on_candidate(self) -> None:
        name = self.candidates.currentText()
        if name and name != self._session.work.current:
            self._session.do(UseAlignment(name))

    def _remove_candidate(self) -> None:
        name = self.candidates.currentText()
        if name:
            self._session.do(RemoveAlignment(name))
