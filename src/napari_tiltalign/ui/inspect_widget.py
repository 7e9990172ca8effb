"""Dock widget *Inspect*: plots of the alignment in use, residuals of every bead, and the choice between alignments."""

from __future__ import annotations

from typing import Any

from napari.components import ViewerModel
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QScrollArea,
    QSplitter,
    QTabWidget,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_tiltalign.model import Alignment
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.candidate_table import COLUMNS, candidate_rows
from napari_tiltalign.ui.closing import guard_when_shown
from napari_tiltalign.ui.commands import UseAlignment
from napari_tiltalign.ui.overlays import residual_scale_px
from napari_tiltalign.ui.plots import ResidualMap, ViewPlots
from napari_tiltalign.ui.view_curves import PANELS, ResidualGrid, residual_grid, view_curves

_NAME = Qt.ItemDataRole.UserRole
MINIMUM_WIDTH_PX = 400
"""Enough for the list of alignments; leaves room for the images in a window of 1280 pixels."""

_NO_TRACKS = "There are no beads or patches to show: the alignment has none, or there is no alignment yet."
_CELL_HINT = "Cyan: 0 px, yellow, red: {scale:.1f} px and more; empty: not used there. Click to go there."


class InspectWidget(QWidget):
    """Shows how good an alignment is, and where it is not.

    Parameters
    ----------
    napari_viewer
        The viewer whose session is used.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._session = session_of(napari_viewer)
        guard_when_shown(self, self._session)
        self._theme_name = napari_viewer.theme
        self.setMinimumWidth(MINIMUM_WIDTH_PX)
        self._grid: ResidualGrid | None = None
        self._build()
        self._connect()
        napari_viewer.events.theme.connect(self._on_theme)
        self._use_theme()
        self._fill_candidates()
        self._show_alignment()

    def _build(self) -> None:
        self.plots = ViewPlots(PANELS)
        self.map = ResidualMap()
        self.hint = QLabel(_NO_TRACKS)
        self.hint.setWordWrap(True)
        beads = QWidget()
        column = QVBoxLayout(beads)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.hint)
        column.addWidget(self.map, 1)
        self.tabs = QTabWidget()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(self.plots)
        self.tabs.addTab(scroll, "Views")
        self.tabs.addTab(beads, "Beads")
        self.tabs.setTabToolTip(0, "Shift, rotation, tilt and residual of every view; click to go there")
        self.tabs.setTabToolTip(1, "Residual of every bead in every view; click to go there")
        self.candidates = _candidate_list()
        self.use_button = QPushButton("Use this one")
        self.use_button.setToolTip("Show, edit and save the alignment that is selected in this list (can be undone)")
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self.tabs)
        splitter.addWidget(self._candidate_box())
        splitter.setStretchFactor(0, 4)
        splitter.setStretchFactor(1, 1)
        splitter.setChildrenCollapsible(False)
        QVBoxLayout(self).addWidget(splitter)

    def _candidate_box(self) -> QWidget:
        box = QWidget()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(QLabel("Alignments of this series"), 1)
        row.addWidget(self.use_button)
        layout.addLayout(row)
        layout.addWidget(self.candidates)
        return box

    def _connect(self) -> None:
        session = self._session
        session.series_changed.connect(self._show_alignment)
        session.alignment_changed.connect(self._show_alignment)
        session.exclusions_changed.connect(self._show_alignment)
        session.candidates_changed.connect(self._fill_candidates)
        session.view_changed.connect(self._show_here)
        session.bead_changed.connect(self._show_here)
        self.plots.view_clicked.connect(self._go_to_view)
        self.map.cell_clicked.connect(self._go_to_cell)
        self.candidates.currentItemChanged.connect(self._update_button)
        self.candidates.itemDoubleClicked.connect(self._use)
        self.candidates.itemChanged.connect(self._draw_plots)
        self.use_button.clicked.connect(self._use)

    # --- from the session

    def _show_alignment(self) -> None:
        series, alignment = self._session.series, self._session.alignment
        self._draw_plots()
        self._grid = residual_grid(series, alignment) if series and alignment else None
        self.map.setVisible(self._grid is not None)
        self.hint.setText(_NO_TRACKS if self._grid is None else _hint(self._grid))
        if self._grid is not None and series is not None:
            tilts = [f"{round(series.tilts[index].nominal_tilt_deg) + 0:d}" for index in self._grid.tilt]
            self.map.show_residuals(self._grid.residual_px, [str(i) for i in self._grid.track_ids], tilts)
        self._update_candidates()
        self._show_here()

    def _draw_plots(self, *_: Any) -> None:
        series, alignment = self._session.series, self._session.alignment
        if series is None or alignment is None:
            self.plots.show_nothing()
            return
        others = [view_curves(series, other) for other in self._compared()]
        used = alignment.included & series.included
        self.plots.show_views(series.nominal_tilt_deg, used, view_curves(series, alignment), others)
        self._show_here()

    def _compared(self) -> list[Alignment]:
        """Alignments that are ticked and not in use."""
        work = self._session.work
        ticked = [item.data(0, _NAME) for item in self._items() if item.checkState(0) == Qt.CheckState.Checked]
        return [work.candidates[name].alignment for name in ticked if name in work.candidates and name != work.current]

    def _show_here(self) -> None:
        """Mark the bead and the view that are selected."""
        series, grid = self._session.series, self._grid
        if series is None or self._session.alignment is None:
            self.plots.show_view(None)
            return
        index = series.index_of(self._session.view)
        self.plots.show_view(index)
        if grid is not None:
            rows = grid.track_ids.tolist()
            row = rows.index(self._session.bead) if self._session.bead in rows else None
            self.map.mark(row, grid.tilt.tolist().index(index))

    def _items(self) -> list[QTreeWidgetItem]:
        items = (self.candidates.topLevelItem(row) for row in range(self.candidates.topLevelItemCount()))
        return [item for item in items if item is not None]

    def _fill_candidates(self) -> None:
        """Make the list anew; what was ticked stays ticked."""
        ticked = {item.data(0, _NAME) for item in self._items() if item.checkState(0) == Qt.CheckState.Checked}
        self.candidates.blockSignals(True)
        self.candidates.clear()
        for row in candidate_rows(self._session.work):
            item = QTreeWidgetItem()
            item.setData(0, _NAME, row.name)
            item.setCheckState(0, Qt.CheckState.Checked if row.name in ticked else Qt.CheckState.Unchecked)
            self.candidates.addTopLevelItem(item)
            if row.in_use:
                self.candidates.setCurrentItem(item)
        self.candidates.blockSignals(False)
        self._update_candidates()
        self._draw_plots()

    def _update_candidates(self) -> None:
        self.candidates.blockSignals(True)
        for item, row in zip(self._items(), candidate_rows(self._session.work), strict=False):
            font = item.font(0)
            font.setBold(row.in_use)
            for column, text in enumerate(row.cells):
                item.setText(column, text)
                item.setFont(column, font)
                item.setToolTip(column, row.warnings)
                if column:
                    item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
        self.candidates.blockSignals(False)
        self._update_button()

    def _update_button(self, *_: Any) -> None:
        item = self.candidates.currentItem()
        self.use_button.setEnabled(item is not None and item.data(0, _NAME) != self._session.work.current)

    # --- from the user

    def _go_to_view(self, index: int) -> None:
        series = self._session.series
        if series is not None:
            self._session.select_view(series.tilt_ids[index])

    def _go_to_cell(self, row: int, column: int) -> None:
        if self._grid is not None:
            self._session.select_bead(int(self._grid.track_ids[row]))
            self._go_to_view(int(self._grid.tilt[column]))

    def _use(self, *_: Any) -> None:
        item = self.candidates.currentItem()
        if item is not None and item.data(0, _NAME) != self._session.work.current:
            self._session.do(UseAlignment(item.data(0, _NAME)))

    # --- looks

    def _on_theme(self, event: Any) -> None:
        self._theme_name = event.value
        self._use_theme()

    def _use_theme(self) -> None:
        colour = get_theme(self._theme_name).text.as_hex()
        self.plots.set_text_colour(colour)
        self.map.set_text_colour(colour)


def _hint(grid: ResidualGrid) -> str:
    return _CELL_HINT.format(scale=residual_scale_px(grid.residual_px.ravel()))


def _candidate_list() -> QTreeWidget:
    tree = QTreeWidget()
    tree.setRootIsDecorated(False)
    tree.setMinimumHeight(100)
    tree.setHeaderLabels([heading for heading, _ in COLUMNS])
    heads = tree.headerItem()
    if heads is not None:
        for column, (_, meaning) in enumerate(COLUMNS):
            heads.setToolTip(column, meaning)
    header = tree.header()
    if header is not None:
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    return tree
