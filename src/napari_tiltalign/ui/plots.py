"""Plots of an alignment (pyqtgraph): values of every view with error bars, and residuals of every bead in every view.

They know nothing of the session: they are given arrays, and tell what was clicked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, Signal  # type: ignore[attr-defined]

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.ui.overlays import residual_colours

COLOURS = ("#3f9bff", "#f2913d")
"""Of the first and the second curve of a plot: told apart on dark and light, and by colour-blind people."""

LEAST_HEIGHT_PX = 92
"""Of one plot."""

_HERE_COLOUR = "#e8467c"
_GREY = "#888888"


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Values of the n views of one plot.

    Attributes
    ----------
    values
        Shape (n,); NaN where there is none.
    sd
        Shape (n,): standard deviations; NaN where they are not known.
    """

    values: FloatArray
    sd: FloatArray


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot.

    Attributes
    ----------
    title
        What the vertical axis shows, with its unit.
    meaning
        The same in a sentence, for the tooltip.
    curves
        What the curves are called, if there are several.
    """

    title: str
    meaning: str
    curves: tuple[str, ...] = ()

    @property
    def legend(self) -> str:
        """Rich text in the corner: the curves' names in their colours."""
        names = (f'<span style="color: {c}">{name}</span>' for c, name in zip(COLOURS, self.curves, strict=False))
        return "&nbsp; ".join(names)


class ViewPlots(pg.GraphicsLayoutWidget):  # type: ignore[misc]
    """Plots over the tilt, one below the other; a line marks the view that is looked at.

    Parameters
    ----------
    panels
        What is plotted, from the top.

    Attributes
    ----------
    view_clicked
        Emitted with the index of the view nearest to a click.
    """

    view_clicked = Signal(int)

    def __init__(self, panels: Sequence[Panel]) -> None:
        super().__init__()
        self.setBackground(None)
        self._tilt_deg: FloatArray = np.empty(0)
        self._arranged: tuple[int, ...] = ()
        self.plots: list[Any] = []
        self.marks: list[Any] = []
        for row, panel in enumerate(panels):
            plot = self.addPlot(row=row, col=0)
            plot.setToolTip(f"{panel.meaning}. Click to see the view")
            plot.setLabel("left", panel.title)
            legend = pg.LabelItem(panel.legend, size="9pt")
            legend.setParentItem(plot.vb)
            legend.anchor(itemPos=(1, 0), parentPos=(1, 0), offset=(-4, -2))
            plot.getAxis("left").setWidth(58)
            plot.getAxis("left").enableAutoSIPrefix(False)
            plot.getAxis("bottom").setTickSpacing(major=20, minor=10)
            plot.setMenuEnabled(False)
            plot.showGrid(x=True, y=True, alpha=0.15)
            if self.plots:
                plot.setXLink(self.plots[0])
            self.marks.append(pg.InfiniteLine(angle=90, pen=pg.mkPen(_HERE_COLOUR, width=1.5)))
            self.plots.append(plot)
        self._arrange(range(len(panels)))
        self.scene().sigMouseClicked.connect(self._on_click)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Leave most of the window to the images."""
        return QSize(360, 400)

    def _arrange(self, wanted: Iterable[int]) -> None:
        """Show some of the plots, one below the other, with the tilts below the last."""
        wanted = tuple(wanted)
        if wanted == self._arranged:
            return
        self._arranged = wanted
        for plot in self.plots:
            if plot in self.ci.items:
                self.ci.removeItem(plot)
        for row, number in enumerate(wanted):
            axis = self.plots[number].getAxis("bottom")
            self.addItem(self.plots[number], row=row, col=0)
            axis.setStyle(showValues=number == wanted[-1])
            axis.setLabel("nominal tilt (°)" if number == wanted[-1] else None)
            axis.showLabel(number == wanted[-1])
        self.setMinimumHeight(LEAST_HEIGHT_PX * len(wanted))

    def set_text_colour(self, colour: str) -> None:
        """Draw axes and texts in a colour that is seen on the background."""
        for plot in self.plots:
            _colour_axes(plot, colour)

    def show_views(
        self,
        tilt_deg: FloatArray,
        used: NDArray[np.bool_],
        curves: Sequence[Sequence[Curve]],
        others: Sequence[Sequence[Sequence[Curve]]] = (),
    ) -> None:
        """Plot an alignment.

        Parameters
        ----------
        tilt_deg
            Shape (n,), nominal tilts.
        used
            Shape (n,); other views are drawn hollow and grey.
        curves
            For each panel, what is plotted.
        others
            Alignments to compare with: the same for each of them, drawn as dashed lines.
        """
        self._tilt_deg = np.asarray(tilt_deg, dtype=np.float64)
        order = np.argsort(self._tilt_deg, kind="stable")
        self._arrange(number for number, drawn in enumerate(curves) if _is_known(drawn, others, number))
        for number, plot in enumerate(self.plots):
            plot.clear()
            plot.addItem(self.marks[number], ignoreBounds=True)
            for colour, curve in zip(COLOURS, curves[number], strict=False):
                _draw(plot, self._tilt_deg, used, order, curve, colour)
            for other in others:
                for colour, curve in zip(COLOURS, other[number], strict=False):
                    known = order[np.isfinite(curve.values[order])]
                    if known.size:
                        pen = pg.mkPen(colour, width=1.2, style=Qt.PenStyle.DashLine)
                        plot.plot(self._tilt_deg[known], curve.values[known], pen=pen)
            plot.enableAutoRange()

    def show_nothing(self) -> None:
        """Empty the plots."""
        self._tilt_deg = np.empty(0)
        for plot in self.plots:
            plot.clear()

    def show_view(self, index: int | None) -> None:
        """Mark the view that is looked at."""
        for mark in self.marks:
            mark.setVisible(index is not None)
            if index is not None:
                mark.setValue(float(self._tilt_deg[index]))

    def view_at(self, tilt_deg: float) -> int | None:
        """Index of the view nearest to a tilt; None if there are no views."""
        return int(np.argmin(np.abs(self._tilt_deg - tilt_deg))) if self._tilt_deg.size else None

    def _on_click(self, event: Any) -> None:
        for plot in (self.plots[number] for number in self._arranged):
            if plot.sceneBoundingRect().contains(event.scenePos()):
                index = self.view_at(plot.vb.mapSceneToView(event.scenePos()).x())
                if index is not None:
                    self.view_clicked.emit(index)


def _is_known(drawn: Sequence[Curve], others: Sequence[Sequence[Sequence[Curve]]], number: int) -> bool:
    """Whether there is anything to draw in a panel."""
    every = [*drawn, *(curve for other in others for curve in other[number])]
    return any(np.isfinite(curve.values).any() for curve in every)


class ResidualMap(pg.GraphicsLayoutWidget):  # type: ignore[misc]
    """Residuals as an image: a row for every bead, the worst on top, a column for every view.

    Attributes
    ----------
    cell_clicked
        Emitted with row and column of a click.
    """

    cell_clicked = Signal(int, int)

    def __init__(self) -> None:
        super().__init__()
        self.setBackground(None)
        self._shape = (0, 0)
        self.plot = self.addPlot()
        self.plot.setMenuEnabled(False)
        self.plot.invertY(True)
        self.plot.setLabel("left", "bead")
        self.plot.getAxis("left").setWidth(48)
        self.plot.setLabel("bottom", "nominal tilt (°)")
        self.image = pg.ImageItem(axisOrder="row-major")
        self.plot.addItem(self.image)
        pen = pg.mkPen(_HERE_COLOUR, width=1.5)
        self.column_mark = pg.InfiniteLine(angle=90, pen=pen)
        self.row_mark = pg.InfiniteLine(angle=0, pen=pen)
        for mark in (self.column_mark, self.row_mark):
            self.plot.addItem(mark, ignoreBounds=True)
            mark.setVisible(False)
        self.scene().sigMouseClicked.connect(self._on_click)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Leave most of the window to the images."""
        return QSize(360, 400)

    def set_text_colour(self, colour: str) -> None:
        """Draw axes and texts in a colour that is seen on the background."""
        _colour_axes(self.plot, colour)

    def show_residuals(
        self, residual_px: FloatArray, row_names: Sequence[str], column_names: Sequence[str], rows_are: str = "bead"
    ) -> None:
        """Show residuals of beads (rows) in views (columns), pixels; NaN where a bead is not used.

        `rows_are` says in words what a row is of, if not of a bead.
        """
        self.plot.setLabel("left", rows_are)
        self._shape = residual_px.shape
        rows, columns = residual_px.shape
        colours = residual_colours(residual_px.ravel()).reshape(rows, columns, 4)
        colours[~np.isfinite(residual_px), 3] = 0.0
        self.image.setImage((255 * colours).astype(np.uint8), levels=None, autoLevels=False)
        for axis, names, most in (("left", row_names, 20), ("bottom", column_names, 8)):
            self.plot.getAxis(axis).setTicks([_sparse_ticks(names, most)])
        self.plot.setRange(xRange=(0, max(columns, 1)), yRange=(0, max(rows, 1)), padding=0.02)

    def mark(self, row: int | None, column: int | None) -> None:
        """Mark the selected bead and the view that is looked at."""
        for line, at in ((self.row_mark, row), (self.column_mark, column)):
            line.setVisible(at is not None)
            if at is not None:
                line.setValue(at + 0.5)

    def cell_at(self, x: float, y: float) -> tuple[int, int] | None:
        """Row and column at a position of the plot; None outside."""
        row, column = int(np.floor(y)), int(np.floor(x))
        return (row, column) if 0 <= row < self._shape[0] and 0 <= column < self._shape[1] else None

    def _on_click(self, event: Any) -> None:
        place = self.plot.vb.mapSceneToView(event.scenePos())
        cell = self.cell_at(place.x(), place.y())
        if cell is not None:
            self.cell_clicked.emit(*cell)


def _draw(
    plot: Any, tilt_deg: FloatArray, used: NDArray[np.bool_], order: NDArray[np.intp], curve: Curve, colour: str
) -> None:
    """Draw a curve: a line through the views that are used, error bars, and the others hollow."""
    drawn = order[(used & np.isfinite(curve.values))[order]]
    if drawn.size:
        plot.plot(
            tilt_deg[drawn], curve.values[drawn], pen=pg.mkPen(colour, width=1), symbol="o", symbolSize=5,
            symbolBrush=colour, symbolPen=None,
        )  # fmt: skip
    barred = np.isfinite(curve.sd) & np.isfinite(curve.values) & used
    if barred.any():
        x, y, height = tilt_deg[barred], curve.values[barred], 2.0 * curve.sd[barred]
        plot.addItem(pg.ErrorBarItem(x=x, y=y, height=height, beam=0.6, pen=pg.mkPen(colour)))
    left = ~used & np.isfinite(curve.values)
    if left.any():
        plot.addItem(pg.ScatterPlotItem(tilt_deg[left], curve.values[left], size=6, brush=None, pen=pg.mkPen(_GREY)))


def _colour_axes(plot: Any, colour: str) -> None:
    for side in ("left", "bottom"):
        axis = plot.getAxis(side)
        axis.setPen(colour)
        axis.setTextPen(colour)


def _sparse_ticks(names: Sequence[str], most: int) -> list[tuple[float, str]]:
    """Ticks in the middle of cells, at most about `most`."""
    step = max(1, -(-len(names) // most))
    return [(at + 0.5, names[at]) for at in range(0, len(names), step)]
