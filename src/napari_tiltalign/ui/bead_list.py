"""The list of beads of *Curate beads*."""

from __future__ import annotations

import math

import numpy as np
from qtpy.QtCore import QPoint, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QMenu, QTreeWidget, QTreeWidgetItem

from napari_tiltalign.ui.bead_summary import bead_summary
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.overlays import residual_colours
from napari_tiltalign.ui.session import Session

_HEADERS = ("Bead", "Views", "Resid.", "Left out", "State")
_TOOLTIPS = (
    "Number of the bead",
    "In how many views it is used",
    "Root mean square distance between measured and predicted, raw pixels",
    "The same in raw pixels, with every position predicted without itself: it tells positions that bend the fit",
    "suspect: fits much worse than the other beads; locked: protected from edits",
)
_RESIDUAL = 2
_HEADER_MARGIN_PX, _SORT_SIGN_PX = 12, 16
_SWATCH_PX = 9
"""Of the colour that the bead has in the images; numbers in that colour cannot be read on a light ground."""


class _Row(QTreeWidgetItem):
    """A row that sorts by its numbers."""

    def __lt__(self, other: QTreeWidgetItem) -> bool:
        tree = self.treeWidget()
        column = tree.sortColumn() if tree is not None else 0
        mine, theirs = (item.data(column, Qt.ItemDataRole.UserRole) for item in (self, other))
        return bool(mine < theirs)


class BeadList(QTreeWidget):
    """Beads sorted by residual; the chosen row is the selected bead, two chosen rows can be merged.

    Parameters
    ----------
    session
        What to show.
    """

    merge_asked = Signal(int, int)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._filling = False
        self.setHeaderLabels(list(_HEADERS))
        self._explain_headers()
        self.setRootIsDecorated(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)  # the last column takes what is left
        self.setUniformRowHeights(True)
        self.setIconSize(QSize(_SWATCH_PX, _SWATCH_PX))
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setSortingEnabled(True)
        self.sortByColumn(_RESIDUAL, Qt.SortOrder.DescendingOrder)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.itemSelectionChanged.connect(self._on_selection)
        self.customContextMenuRequested.connect(self._show_menu)
        hear(session.series_changed, self.refresh)
        hear(session.alignment_changed, self._refresh_solved)
        hear(session.bead_changed, self._show_selected)
        self.refresh()

    def _explain_headers(self) -> None:
        header, titles = self.header(), self.headerItem()
        if header is None or titles is None:
            raise RuntimeError("a list without a header")
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)  # to contents, Qt would measure at every cell
        header.setStretchLastSection(True)
        for column, tooltip in enumerate(_TOOLTIPS):
            titles.setToolTip(column, tooltip)
        header.sortIndicatorChanged.connect(self._fit_columns)

    def _fit_columns(self) -> None:
        """Leave room for the last column; Qt itself keeps room for the sign of sorting in every one."""
        for column, title in enumerate(_HEADERS[:-1]):
            sign = _SORT_SIGN_PX if column == self.sortColumn() else 0
            header = self.fontMetrics().horizontalAdvance(title) + _HEADER_MARGIN_PX + sign
            self.setColumnWidth(column, max(header, self.sizeHintForColumn(column)))

    def _refresh_solved(self) -> None:
        """Wait for the solution after an edit: a moment later it would all be written again."""
        candidate = self._session.candidate
        if candidate is None or candidate.solved:
            self.refresh()

    def refresh(self) -> None:
        """Write the list again, in the order the user has chosen."""
        candidate = self._session.candidate
        self._filling = True
        self.clearSelection()  # rows are used again for other beads
        self.setSortingEnabled(False)
        if candidate is None or candidate.alignment.tracks is None:
            self.clear()
        else:
            table = bead_summary(candidate.alignment, candidate.locked)
            while self.topLevelItemCount() > len(table):
                self.takeTopLevelItem(self.topLevelItemCount() - 1)
            self.addTopLevelItems([_Row() for _ in range(len(table) - self.topLevelItemCount())])
            colours = residual_colours(table["residual_px"].to_numpy(dtype=np.float64))
            for item, bead, colour in zip(self._items(), table.to_dict("records"), colours, strict=True):
                values = [bead["track_id"], bead["views"], bead["residual_px"], bead["leave_out_px"], bead["state"]]
                for column, value in enumerate(values):
                    _write(item, column, value)
                item.setData(_RESIDUAL, Qt.ItemDataRole.DecorationRole, QColor.fromRgbF(*colour.tolist()))
        self.setSortingEnabled(True)
        self._fit_columns()
        self._filling = False
        self._show_selected()

    def _items(self) -> list[QTreeWidgetItem]:
        items = (self.topLevelItem(row) for row in range(self.topLevelItemCount()))
        return [item for item in items if item is not None]

    def chosen(self) -> list[int]:
        """Ids of the beads whose rows are chosen."""
        return [int(item.data(0, Qt.ItemDataRole.UserRole)) for item in self.selectedItems()]

    def _show_selected(self) -> None:
        """Choose the row of the selected bead, unless it is one of several chosen by the user."""
        bead = self._session.bead
        self._filling = True
        chosen = self.chosen()
        if bead not in chosen:
            self.clearSelection()
        for item in self._items():
            if item.data(0, Qt.ItemDataRole.UserRole) == bead:
                if bead not in chosen:
                    self.setCurrentItem(item)
                self.scrollToItem(item)
        self._filling = False

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Keep the selected bead in sight, also when the list gets its size at last."""
        super().resizeEvent(event)
        self.scrollToItem(self.currentItem())

    def _on_selection(self) -> None:
        chosen = self.chosen()
        if not self._filling and len(chosen) == 1:
            self._session.select_bead(chosen[0])

    def _show_menu(self, where: QPoint) -> None:
        menu = self.menu()
        if not menu.isEmpty():
            menu.exec(self.mapToGlobal(where))

    def menu(self) -> QMenu:
        """What can be done with the chosen rows."""
        menu = QMenu(self)
        chosen = self.chosen()
        if len(chosen) == 2:
            one, other = sorted(chosen)
            menu.addAction(f"Merge beads {one} and {other}", lambda: self.merge_asked.emit(one, other))
        return menu


def _write(item: QTreeWidgetItem, column: int, value: float | str) -> None:
    """Write a value into a cell, unless it is there: every change of a cell costs Qt about as much as a solution."""
    text, key = str(value), value
    if isinstance(value, float):
        text, key = (f"{value:.2f}", value) if math.isfinite(value) else ("", -1.0)
    if item.text(column) != text:
        item.setText(column, text)
    if item.data(column, Qt.ItemDataRole.UserRole) != key:
        item.setData(column, Qt.ItemDataRole.UserRole, key)
    if not isinstance(value, str) and item.textAlignment(column) != Qt.AlignmentFlag.AlignRight:
        item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
