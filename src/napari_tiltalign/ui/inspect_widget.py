"""Dock widget *Inspect*: plots of the alignment in use, residuals of every bead, and the choice between alignments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari.components import ViewerModel
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QLabel,
    QScrollArea,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_tiltalign.quality.preview import Preview
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.bead_table import followed_noun
from napari_tiltalign.ui.candidate_box import CandidateBox
from napari_tiltalign.ui.closing import guard_when_shown
from napari_tiltalign.ui.docking import gather_when_shown
from napari_tiltalign.ui.expected_error_row import ExpectedErrorRow
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.overlays import residual_scale_px
from napari_tiltalign.ui.plots import ResidualMap, ViewPlots
from napari_tiltalign.ui.scores_in_use import scores_in_use
from napari_tiltalign.ui.tomogram_view import TomogramView
from napari_tiltalign.ui.view_curves import PANELS, ResidualGrid, residual_grid, view_curves
from napari_tiltalign.ui.wrapped import let_wrap

_NAME = Qt.ItemDataRole.UserRole
MINIMUM_WIDTH_PX = 400
"""Enough for the list of alignments; leaves room for the images in a window of 1280 pixels."""

_NO_TRACKS = "There are no beads or patches to show: the alignment has none, or there is no alignment yet."
_NO_TOMOGRAMS = "No tomogram yet: press Tomograms below. Those of ticked alignments are shown side by side."
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
        gather_when_shown(self, napari_viewer)
        self._theme_name = napari_viewer.theme
        self.expected_error = ExpectedErrorRow(napari_viewer)
        self.setMinimumWidth(MINIMUM_WIDTH_PX)
        self._grid: ResidualGrid | None = None
        self._build()
        self._connect()
        napari_viewer.events.theme.connect(self._on_theme)
        self._use_theme()
        self._show_alignment()

    def _build(self) -> None:
        self.plots = ViewPlots(PANELS)
        self.map = ResidualMap()
        self.hint = QLabel(_NO_TRACKS)
        let_wrap(self.hint)
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
        views = QWidget()
        column = QVBoxLayout(views)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.expected_error)
        column.addWidget(scroll, 1)
        self.tabs.addTab(views, "Views")
        self.tabs.addTab(beads, "Beads")
        self.tabs.setTabToolTip(0, "Shift, rotation, tilt and residual of every view; click to go there")
        self.tabs.setTabToolTip(1, "Residual of every bead in every view; click to go there")
        self.tomograms = TomogramView()
        self.tomogram_hint = QLabel(_NO_TOMOGRAMS)
        let_wrap(self.tomogram_hint)
        sections = QWidget()
        column = QVBoxLayout(sections)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.tomogram_hint)
        column.addWidget(self.tomograms, 1)
        self.tabs.addTab(sections, "Tomograms")
        self.tabs.setTabToolTip(2, "Small tomograms of the alignment in use and of those ticked, side by side")
        self.candidates = CandidateBox(self._session)
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self.tabs)
        splitter.addWidget(self.candidates)
        splitter.setStretchFactor(0, 4)
        splitter.setStretchFactor(1, 1)
        splitter.setChildrenCollapsible(False)
        QVBoxLayout(self).addWidget(splitter)

    def _connect(self) -> None:
        session = self._session
        hear(session.series_changed, self._show_alignment)
        hear(session.alignment_changed, self._show_alignment)
        hear(session.exclusions_changed, self._show_alignment)
        hear(session.judged.changed, self._show_tomograms)
        hear(session.judged.changed, self._draw_plots)
        hear(session.view_changed, self._show_here)
        hear(session.bead_changed, self._show_here)
        self.plots.view_clicked.connect(self._go_to_view)
        self.map.cell_clicked.connect(self._go_to_cell)
        self.candidates.ticked_changed.connect(self._draw_plots)
        self.candidates.ticked_changed.connect(self._show_tomograms)

    # --- from the session

    def _show_alignment(self) -> None:
        series, alignment = self._session.series, self._session.alignment
        self._draw_plots()
        self._grid = residual_grid(series, alignment) if series and alignment else None
        self.map.setVisible(self._grid is not None)
        self.hint.setText(_NO_TRACKS if self._grid is None else _hint(self._grid))
        if self._grid is not None and series is not None and alignment is not None:
            tilts = [f"{round(series.tilts[index].nominal_tilt_deg) + 0:d}" for index in self._grid.tilt]
            rows = [str(i) for i in self._grid.track_ids]
            self.map.show_residuals(self._grid.residual_px, rows, tilts, rows_are=followed_noun(alignment))
        self._show_tomograms()
        self._show_here()

    def _draw_plots(self, *_: Any) -> None:
        series, alignment = self._session.series, self._session.alignment
        if series is None or alignment is None:
            self.plots.show_nothing()
            return
        judged = self._session.judged
        others = [view_curves(series, one, judged.scores_of(one)) for one in self.candidates.ticked().values()]
        used = alignment.included & series.included
        self.plots.show_views(
            series.nominal_tilt_deg, used, view_curves(series, alignment, scores_in_use(self._session)[0]), others
        )
        self._show_here()

    def _show_tomograms(self) -> None:
        """Show the tomograms that were made of the alignment in use and of those ticked."""
        work, judged = self._session.work, self._session.judged
        wanted = {} if work.alignment is None else {work.current: work.alignment, **self.candidates.ticked()}
        made = {name: judged.tomogram_of(alignment) for name, alignment in wanted.items()}
        self.tomograms.show_tomograms({name: tomogram for name, tomogram in made.items() if tomogram is not None})
        self.tomogram_hint.setText(_slabs(self.tomograms.tomograms) or _NO_TOMOGRAMS)

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

    # --- from the user

    def _go_to_view(self, index: int) -> None:
        series = self._session.series
        if series is not None:
            self._session.select_view(series.tilt_ids[index])

    def _go_to_cell(self, row: int, column: int) -> None:
        if self._grid is not None:
            self._session.select_bead(int(self._grid.track_ids[row]))
            self._go_to_view(int(self._grid.tilt[column]))

    # --- looks

    def _on_theme(self, event: Any) -> None:
        self._theme_name = event.value
        self._use_theme()

    def _use_theme(self) -> None:
        colour = get_theme(self._theme_name).text.as_hex()
        self.plots.set_text_colour(colour)
        self.map.set_text_colour(colour)
        self.tomograms.set_text_colour(colour)


def _hint(grid: ResidualGrid) -> str:
    return _CELL_HINT.format(scale=residual_scale_px(grid.residual_px.ravel()))


def _slabs(tomograms: Mapping[str, Preview]) -> str:
    """What the tomograms tell of the specimen, a line for each."""
    return "\n".join(f"{name}: {_slab(tomogram)}" for name, tomogram in tomograms.items())


def _slab(tomogram: Preview) -> str:
    slab = tomogram.slab
    if doubt := slab.doubt:
        return f"no slab stands out: {doubt}"
    about_y, about_x = (round(angle, 1) + 0.0 for angle in (slab.tilt_about_y_deg, slab.tilt_about_x_deg))  # no -0.0
    return (
        f"slab {slab.thickness_in_words} thick, turned by {about_y:+.1f}° about the tilt axis, "
        f"by {about_x:+.1f}° across{' (levelled here)' if tomogram.levelled else ''}"
    )
