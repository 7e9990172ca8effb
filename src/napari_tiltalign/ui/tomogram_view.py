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

_APART = 0.03
"""Space between the sections, part of the height of the upper one,"""
_TITLE = 0.07
"""and that for the name above it."""


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
        first: Any = None
        for column, (name, tomogram) in enumerate(self._tomograms.items()):
            view = self.addViewBox(row=0, col=column, lockAspect=True, invertY=True, enableMenu=False)
            sections = tomogram.slices()
            below = sections["xy"].shape[0] * (1.0 + _APART)
            for pixels, top in ((sections["xy"], 0.0), (sections["xz"], below)):
                view.addItem(_section(pixels, top))
            for start, along in slab_lines(tomogram):
                ends = np.array([start, start + along])
                pen = pg.mkPen(SLAB_COLOUR, width=1)
                view.addItem(pg.PlotDataItem(ends[:, 1], ends[:, 0] + below, pen=pen))
            title = pg.TextItem(name, color=self._colour, anchor=(0, 1))
            view.addItem(title, ignoreBounds=True)
            if first is not None:
                view.setXLink(first)
                view.setYLink(first)
            else:
                first, (rows, columns) = view, sections["xy"].shape
                title_space = _TITLE * rows
                height = below + sections["xz"].shape[0]
                view.setRange(xRange=(0, columns), yRange=(-title_space, height), padding=0.01)


def _section(pixels: Any, top: float) -> Any:
    """Image of a section whose first row is at a height."""
    image = pg.ImageItem(pixels, axisOrder="row-major")
    image.setLevels(contrast_limits(pixels))
    image.setPos(0.0, top)
    return image
