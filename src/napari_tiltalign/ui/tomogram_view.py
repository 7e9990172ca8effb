"""Sections of small tomograms side by side (pyqtgraph), so that alignments can be told apart by what they give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QSize

from napari_tiltalign.quality.preview import Preview
from napari_tiltalign.ui.layer_data import contrast_limits
from napari_tiltalign.ui.tomogram_layers import SLAB_COLOUR, slab_lines


class TomogramView(pg.GraphicsLayoutWidget):  # type: ignore[misc]
    """A column for every tomogram: its name, the section XY, and below it XZ with the slab; all zoom together."""

    def __init__(self) -> None:
        super().__init__()
        self.setBackground(None)
        self._colour = "#ffffff"
        self._tomograms: dict[str, Preview] = {}

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Leave most of the window to the images."""
        return QSize(360, 400)

    @property
    def tomograms(self) -> Mapping[str, Preview]:
        """What is shown, from the left, by the names of the alignments."""
        return self._tomograms

    def set_text_colour(self, colour: str) -> None:
        """Write in a colour that is seen on the background."""
        self._colour = colour
        self._draw()

    def show_tomograms(self, tomograms: Mapping[str, Preview]) -> None:
        """Show tomograms by the names of their alignments; what is shown already stays as it is zoomed."""
        if {k: id(v) for k, v in tomograms.items()} != {k: id(v) for k, v in self._tomograms.items()}:
            self._tomograms = dict(tomograms)
            self._draw()

    def _draw(self) -> None:
        self.clear()
        first: list[Any] = []
        for column, (name, tomogram) in enumerate(self._tomograms.items()):
            self.addLabel(name, row=0, col=column, color=self._colour)
            sections = tomogram.slices()
            views = [self._section(row, column, sections[key]) for row, key in ((1, "xy"), (2, "xz"))]
            for start, along in slab_lines(tomogram):
                ends = np.array([start, start + along])
                views[1].addItem(pg.PlotDataItem(ends[:, 1], ends[:, 0], pen=pg.mkPen(SLAB_COLOUR, width=1)))
            for view, other, pixels in zip(views, first or views, (sections["xy"], sections["xz"]), strict=True):
                if view is not other:
                    view.setXLink(other)
                    view.setYLink(other)
                else:
                    rows, columns = pixels.shape
                    view.setRange(xRange=(0, columns), yRange=(0, rows), padding=0.02)
            first = first or views
        for row, key in ((1, "xy"), (2, "xz")):
            rows = [tomogram.slices()[key].shape[0] for tomogram in self._tomograms.values()]
            self.ci.layout.setRowStretchFactor(row, max(rows, default=1))

    def _section(self, row: int, column: int, pixels: Any) -> Any:
        view = self.addViewBox(row=row, col=column, lockAspect=True, invertY=True, enableMenu=False)
        image = pg.ImageItem(pixels, axisOrder="row-major")
        image.setLevels(contrast_limits(pixels))
        view.addItem(image)
        return view
