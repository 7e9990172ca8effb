"""Dock widget *Exclude views*: all views in a table, with what they look like, and suggestions with their evidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from napari.components import ViewerModel
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QImage, QKeyEvent, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_tiltalign.quality.views import Suggestion
from napari_tiltalign.ui.actions import BY_HAND
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.closing import guard_when_shown
from napari_tiltalign.ui.commands import Command, ExcludeEach, ExcludeViews
from napari_tiltalign.ui.docking import gather_when_shown
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.scores_in_use import scores_in_use
from napari_tiltalign.ui.selecting import write_selection_asking
from napari_tiltalign.ui.view_survey import THUMBNAIL_SIDE_PX, ViewSurvey
from napari_tiltalign.ui.view_table import COLUMNS, EXCLUDED, SUSPECT, USED, ViewRow, view_rows, with_judged
from napari_tiltalign.ui.wrapped import let_wrap

_TILT_ID = Qt.ItemDataRole.UserRole
_STATE_COLOURS = {EXCLUDED: "#888888", SUSPECT: "#e0902c"}
_STATE = 1
"""Column of the state: the only one that is no number."""

_STATE_WIDTH_PX = 150
"""A longer reason is cut; the tooltip has all of it."""

MINIMUM_WIDTH_PX = 400
"""Enough for the state, the residual and the score; leaves room for the images in a window of 1280 pixels."""


class ExcludeWidget(QWidget):
    """Takes views out and back in.

    Parameters
    ----------
    napari_viewer
        The viewer whose session is used.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        layers = layers_of(napari_viewer)
        self._session = layers.session
        guard_when_shown(self, self._session)
        gather_when_shown(self, napari_viewer)
        self.survey = ViewSurvey(layers)
        self._filling = False
        self.setMinimumWidth(MINIMUM_WIDTH_PX)
        self._build()
        self._connect()
        self.survey.stop_with(self)
        self._fill()
        self._update_apply()

    # --- building

    def _build(self) -> None:
        self.summary = QLabel()
        self.table = _table()
        self.table.installEventFilter(self)
        self._keys: dict[int, Callable[[], None]] = {
            Qt.Key.Key_Return: self._toggle,
            Qt.Key.Key_Enter: self._toggle,
            Qt.Key.Key_PageUp: lambda: self._go_to(0),
            Qt.Key.Key_PageDown: lambda: self._go_to(self.table.rowCount() - 1),
        }
        self.toggle_button = _button("Exclude / include", "Take the selected views out, or back in (Enter)")
        self.include_all_button = _button("Include all", "Take all views back in (can be undone)")
        self.exclude_all_button = _button(
            "Exclude all", "Take all views out, to pick the few good ones (can be undone)"
        )
        self.write_button = _button(
            "Write selection …",
            "Write selected_tilt_series.star with the images that are used, as RELION's own program does: for jobs\n"
            "before the alignment. Dataset > Save keeps exclusions with the alignments, and brings them back",
        )
        self.advice = QLabel()
        let_wrap(self.advice)
        self.suggestions = _suggestion_list()
        self.apply_button = _button(
            "Apply suggestions", "Exclude the views that are ticked in this list, each for its reason (can be undone)"
        )
        buttons = _row(self.toggle_button, self.include_all_button, self.exclude_all_button)
        layout = QVBoxLayout(self)
        for widget, stretch in (
            (_row(self.summary, self.write_button), 0), (self.table, 3), (buttons, 0), (self.advice, 0),
            (self.suggestions, 1), (self.apply_button, 0),
        ):  # fmt: skip
            layout.addWidget(widget, stretch)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 (Qt's name)
        """Keys of the table; those of the canvas are in `keys.KEYS`."""
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress and watched is self.table:
            action = self._keys.get(event.key())
            if action is not None:
                action()
                return True
        return bool(super().eventFilter(watched, event))

    def _include_all(self) -> None:
        self._set_all("")

    def _exclude_all(self) -> None:
        self._set_all(BY_HAND)

    def _write_selection(self) -> None:
        write_selection_asking(self._session, self)

    def _connect(self) -> None:
        self.table.currentCellChanged.connect(self._on_row)
        self.table.itemChanged.connect(self._on_tick)
        self.toggle_button.clicked.connect(self._toggle)
        self.include_all_button.clicked.connect(self._include_all)
        self.exclude_all_button.clicked.connect(self._exclude_all)
        self.write_button.clicked.connect(self._write_selection)
        self.suggestions.currentItemChanged.connect(self._on_suggestion)
        self.suggestions.itemChanged.connect(self._update_apply)
        self.apply_button.clicked.connect(self._apply)
        session = self._session
        hear(session.series_changed, self._fill)
        hear(session.exclusions_changed, self._fill)
        hear(session.alignment_changed, self._fill)
        hear(session.view_changed, self._select)
        self.survey.seen.connect(self._show_seen)
        self.survey.suggested.connect(self._show_suggestions)
        hear(session.judged.changed, self._show_suggestions)

    # --- from the session

    def _rows(self) -> list[ViewRow]:
        series = self._session.series
        if series is None:
            return []
        return view_rows(
            series, self._session.alignment, self.survey.views, self._suggestions(), scores_in_use(self._session)
        )

    def _suggestions(self) -> list[Suggestion]:
        """What the images suggest, and what judging has found."""
        series = self._session.series
        return [] if series is None else with_judged(self.survey.suggestions, series, scores_in_use(self._session)[0])

    def _fill(self) -> None:
        """Bring the whole table up to date."""
        rows = self._rows()
        self._quietly(lambda: self._write_rows(rows))
        used = sum(row.state != EXCLUDED for row in rows)
        self.summary.setText(f"{used} of {len(rows)} views are used" if rows else "no series is open")
        for button in (self.toggle_button, self.include_all_button, self.exclude_all_button, self.write_button):
            button.setEnabled(bool(rows))
        self._select()
        self._update_advice()

    def _write_rows(self, rows: list[ViewRow]) -> None:
        if [row.tilt_id for row in rows] != self._tilt_ids():
            self.table.setRowCount(0)
            self.table.setRowCount(len(rows))
            for number, row in enumerate(rows):
                _add_row(self.table, number, row.tilt_id)
        for number, row in enumerate(rows):
            self._write_row(number, row)
        self.table.resizeColumnToContents(_STATE)
        self.table.setColumnWidth(_STATE, min(self.table.columnWidth(_STATE), _STATE_WIDTH_PX))

    def _write_row(self, number: int, row: ViewRow) -> None:
        seen = self.survey.views.get(row.tilt_id)
        for column, text in enumerate(row.cells):
            item = self._item(number, column)
            item.setText(text)
            item.setToolTip(text if column == _STATE else "")
            colour = _STATE_COLOURS.get(row.state)
            item.setData(Qt.ItemDataRole.ForegroundRole, QColor(colour) if colour else None)
            font = item.font()
            font.setItalic(row.state != USED)
            font.setStrikeOut(row.state == EXCLUDED and column != _STATE)
            item.setFont(font)
        first = self._item(number, 0)
        first.setCheckState(Qt.CheckState.Unchecked if row.state == EXCLUDED else Qt.CheckState.Checked)
        if seen is not None:
            first.setIcon(_icon(seen.thumbnail, dimmed=row.state == EXCLUDED))

    def _item(self, row: int, column: int) -> QTableWidgetItem:
        item = self.table.item(row, column)
        if item is None:
            raise IndexError(f"no cell {row}, {column}")
        return item

    def _tilt_ids(self) -> list[str]:
        return [self._item(row, 0).data(_TILT_ID) for row in range(self.table.rowCount())]

    def _select(self) -> None:
        """Show the view that is looked at as the current row, and keep a selection it is part of."""
        ids = self._tilt_ids()
        if self._session.view not in ids:
            return
        row = ids.index(self._session.view)
        if row != self.table.currentRow():
            self._quietly(lambda: self.table.selectRow(row))
        self.table.scrollToItem(self._item(row, 0))

    def _show_seen(self, tilt_id: str) -> None:
        """Show what an image looks like as soon as it was looked at."""
        rows = self._rows()
        number = next((i for i, row in enumerate(rows) if row.tilt_id == tilt_id), None)
        if number is not None and number < self.table.rowCount():
            self._quietly(lambda: self._write_row(number, rows[number]))
        self._update_advice()

    def _show_suggestions(self) -> None:
        self.suggestions.blockSignals(True)
        self.suggestions.clear()
        series = self._session.series
        for suggestion in self._suggestions():
            tilt = series[suggestion.tilt_id].nominal_tilt_deg if series else 0.0
            item = QTreeWidgetItem([f"{tilt:+.1f}°", suggestion.reason, suggestion.evidence])
            item.setData(0, _TILT_ID, suggestion.tilt_id)
            item.setCheckState(0, Qt.CheckState.Checked)
            item.setToolTip(2, suggestion.evidence)
            self.suggestions.addTopLevelItem(item)
        self.suggestions.blockSignals(False)
        for column in (0, 1):
            self.suggestions.resizeColumnToContents(column)
        self._fill()
        self._update_apply()

    def _update_advice(self) -> None:
        series, count = self._session.series, len(self._suggestions())
        if series is None:
            text = ""
        elif not self.survey.complete:
            text = f"looking at the images: {len(self.survey.views)} of {len(series)} ..."
        elif self.survey.is_busy:
            text = "judging the images ..."
        elif count:
            text = f"{count} view{'s look' if count > 1 else ' looks'} suspect. Nothing is excluded unless you say so:"
        else:
            text = "no view looks suspect"
        self.advice.setText(text)

    # --- from the user

    def _quietly(self, change: Callable[[], None]) -> None:
        """Change the table without taking it for the user's doing."""
        before, self._filling = self._filling, True
        try:
            change()
        finally:
            self._filling = before

    def _do(self, command: Command) -> None:
        try:
            self._session.do(command)
        except EditRefused as refused:
            self._session.told.emit(str(refused))

    def _on_row(self, row: int, *_: int) -> None:
        if not self._filling and row >= 0:
            self._session.select_view(self._item(row, 0).data(_TILT_ID))

    def _go_to(self, row: int) -> None:
        if row >= 0:
            self.table.selectRow(row)

    def _on_tick(self, item: QTableWidgetItem) -> None:
        if self._filling or item.column() != 0:
            return
        ticked = item.checkState() == Qt.CheckState.Checked
        self._do(ExcludeViews((item.data(_TILT_ID),), "" if ticked else BY_HAND))

    def _toggle(self) -> None:
        """Take the selected views out if the current one is in, else back in."""
        series, ids = self._session.series, self._tilt_ids()
        rows = sorted({index.row() for index in self.table.selectedIndexes()})
        if series is None or not rows:
            return
        reason = BY_HAND if series[self._session.view].included else ""
        chosen = tuple(ids[row] for row in rows if series[ids[row]].included == bool(reason))
        self._do(ExcludeViews(chosen or (self._session.view,), reason))

    def _set_all(self, reason: str) -> None:
        series = self._session.series
        if series is not None:
            chosen = tuple(tilt.tilt_id for tilt in series.tilts if tilt.included == bool(reason))
            self._do(ExcludeViews(chosen or series.tilt_ids, reason))

    def _on_suggestion(self, item: QTreeWidgetItem | None) -> None:
        if item is not None:
            self._session.select_view(item.data(0, _TILT_ID))

    def _ticked(self) -> dict[str, str]:
        """Reasons of the suggestions that are ticked, by tilt_id."""
        items = (self.suggestions.topLevelItem(i) for i in range(self.suggestions.topLevelItemCount()))
        ticked = [item for item in items if item is not None and item.checkState(0) == Qt.CheckState.Checked]
        return {item.data(0, _TILT_ID): item.text(1) for item in ticked}

    def _update_apply(self) -> None:
        self.apply_button.setEnabled(bool(self._ticked()))
        for widget in (self.suggestions, self.apply_button):
            widget.setVisible(self.suggestions.topLevelItemCount() > 0)

    def _apply(self) -> None:
        self._do(ExcludeEach(self._ticked()))


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    return button


def _row(*widgets: QWidget) -> QWidget:
    box = QWidget()
    layout = QHBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return box


def _table() -> QTableWidget:
    table = QTableWidget(0, len(COLUMNS))
    table.setHorizontalHeaderLabels([column.heading for column in COLUMNS])
    for number, column in enumerate(COLUMNS):
        heading = table.horizontalHeaderItem(number)
        if heading is not None:
            heading.setToolTip(column.meaning)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setIconSize(QSize(THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
    table.setShowGrid(False)
    table.setWordWrap(False)
    upright = table.verticalHeader()
    if upright is not None:
        upright.setVisible(False)
        upright.setDefaultSectionSize(THUMBNAIL_SIDE_PX + 4)
    header = table.horizontalHeader()
    if header is not None:
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_STATE, QHeaderView.ResizeMode.Interactive)
        header.setStretchLastSection(True)
    table.setToolTip("Views sorted by tilt. Enter: exclude or include; PageUp, PageDown: first and last view")
    return table


def _suggestion_list() -> QTreeWidget:
    tree = QTreeWidget()
    tree.setHeaderLabels(["Tilt", "Reason", "Evidence"])
    tree.setRootIsDecorated(False)
    tree.setToolTip("Views that look bad; click one to see it")
    return tree


def _add_row(table: QTableWidget, number: int, tilt_id: str) -> None:
    for column in range(len(COLUMNS)):
        item = QTableWidgetItem()
        item.setData(_TILT_ID, tilt_id)
        if column != _STATE:
            item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        table.setItem(number, column, item)


def _icon(picture: NDArray[np.uint8], *, dimmed: bool) -> QIcon:
    """Icon of a thumbnail."""
    grey = picture // (3 if dimmed else 1)
    rows, columns = grey.shape
    image = QImage(grey.tobytes(), columns, rows, columns, QImage.Format.Format_Grayscale8)
    return QIcon(QPixmap.fromImage(image.copy()))
