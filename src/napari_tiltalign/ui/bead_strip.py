"""A strip of all views of the selected bead, to see whether it is on the gold everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import finalize

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QPointF, QRect, QRectF, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QHelpEvent, QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap, QResizeEvent
from qtpy.QtWidgets import QScrollArea, QSizePolicy, QToolTip, QWidget

from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.bead_table import bead_diameter_px
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.layer_data import display_binning
from napari_tiltalign.ui.overlays import residual_colours
from napari_tiltalign.ui.patch_reader import Patch, PatchReader
from napari_tiltalign.ui.patches import Place, places_of

TILE_PX = 64
_LABEL_PX = 13
_SPACE_PX = 3
_POLL_MS = 30
_HALF_WIDTH_DIAMETERS = 1.75
_MOVED_DIAMETERS = 0.5
"""Patches are read again once the prediction has moved by this many bead diameters."""

_CURRENT, _PREDICTED, _EXCLUDED = QColor("#ffffff"), QColor("#ff8ce6"), QColor("#d05050")


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """A patch as a pixmap, and where it was cut: pixel index of its first pixel, displayed pixels."""

    pixmap: QPixmap
    corner_yx: tuple[int, int]


class BeadStrip(QWidget):
    """Patches of the selected bead in all views, in order of tilt; a click goes to the view.

    A ring is where the bead was measured, coloured by residual as in the viewer; a cross is where it is predicted; a
    dashed square is a gap.

    Parameters
    ----------
    napari_viewer
        The viewer whose session is used.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._layers = layers_of(napari_viewer)
        self._session = self._layers.session
        self._tiles: dict[int, _Tile] = {}
        self._centres: dict[int, tuple[float, float]] = {}
        self._source: tuple[str, int] | None = None
        self._waiting: set[int] = set()
        self.places: list[Place] = []
        self._reader = PatchReader()
        finalize(self, self._reader.stop)
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._take)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        for signal in (self._session.series_changed, self._session.bead_changed, self._session.alignment_changed):
            hear(signal, self.refresh)
        hear(self._session.view_changed, self._show_view)
        self.refresh()

    # --- content

    @property
    def is_complete(self) -> bool:
        """Whether the patches of all views are there."""
        return all(place.view in self._tiles for place in self.places)

    def refresh(self) -> None:
        """Draw the selected bead as the session has it; patches are read again only where they have to be."""
        series, alignment, bead = self._session.series, self._session.alignment, self._session.bead
        if series is None or alignment is None or alignment.tracks is None or bead is None:
            self.places, self._source = [], None
            self._forget_patches()
        else:
            self.places = places_of(series, alignment, bead)
            if self._source != (series.name, bead):
                self._source = (series.name, bead)
                self._forget_patches()
            self._read_missing()
        self._fit_height()
        self._show_view()

    def _forget_patches(self) -> None:
        self._reader.stop()
        self._waiting.clear()
        self._tiles.clear()
        self._centres.clear()

    def _read_missing(self) -> None:
        """Ask for the patches that are not there, or were cut too far from where the bead is expected now."""
        alignment, series = self._session.alignment, self._session.series
        if alignment is None or series is None or self._layers.raw_layer() is None:
            return
        binning = display_binning(series)
        self._diameter_px = bead_diameter_px(alignment) / binning
        self._binning = binning
        missing = []
        for place in self.places:
            y, x = ((value + 0.5) / binning - 0.5 for value in place.predicted_yx_px)
            cut = self._centres.get(place.view)
            if cut is None or np.hypot(y - cut[0], x - cut[1]) > _MOVED_DIAMETERS * self._diameter_px:
                missing.append((place.view, (y, x)))
        if missing:
            self._centres.update(missing)
            waiting = [(view, c) for view, c in self._centres.items() if view not in self._tiles]
            asked = {**dict(waiting), **dict(missing)}
            half = max(6, round(_HALF_WIDTH_DIAMETERS * self._diameter_px))
            self._reader.ask(self._layers.raw_stack(), list(asked.items()), half)
            self._waiting = set(asked)
            self._timer.start()

    def _take(self) -> None:
        """Show the patches that were read meanwhile."""
        for patch in self._reader.take():
            self._show_patch(patch)
            self._waiting.discard(patch.view)
        if not self._waiting:
            self._timer.stop()

    def _show_patch(self, patch: Patch) -> None:
        size = patch.grey.shape[0]
        image = QImage(patch.grey.tobytes(), size, size, size, QImage.Format.Format_Grayscale8)
        pixmap = QPixmap.fromImage(image).scaled(
            TILE_PX, TILE_PX, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
        )
        self._tiles[patch.view] = _Tile(pixmap, patch.corner_yx)
        self._scale = TILE_PX / size
        for index, place in enumerate(self.places):
            if place.view == patch.view:
                self.update(self.tile_rect(index))

    # --- geometry

    def _columns(self) -> int:
        return max(1, (self.width() + _SPACE_PX) // (TILE_PX + _SPACE_PX))

    def tile_rect(self, index: int) -> QRect:
        """Where a place is drawn, its label included."""
        row, column = divmod(index, self._columns())
        step = TILE_PX + _SPACE_PX
        return QRect(column * step, row * (step + _LABEL_PX), TILE_PX, TILE_PX + _LABEL_PX)

    def _fit_height(self) -> None:
        rows = -(-len(self.places) // self._columns())
        self.setMinimumHeight(rows * (TILE_PX + _SPACE_PX + _LABEL_PX))

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Room for five patches beside each other."""
        return QSize(5 * (TILE_PX + _SPACE_PX), 3 * (TILE_PX + _SPACE_PX + _LABEL_PX))

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """Keep room for all rows, and the view in sight."""
        self._fit_height()
        super().resizeEvent(event)
        self._show_view()

    def _place_at(self, point: QPointF) -> Place | None:
        at = point.toPoint()
        return next((place for i, place in enumerate(self.places) if self.tile_rect(i).contains(at)), None)

    def _show_view(self) -> None:
        """Bring the view that is looked at into sight."""
        self.update()
        viewport = self.parent()
        area = viewport.parent() if viewport is not None else None
        for index, place in enumerate(self.places):
            if place.tilt_id == self._session.view and isinstance(area, QScrollArea):
                centre = self.tile_rect(index).center()
                area.ensureVisible(centre.x(), centre.y(), TILE_PX, TILE_PX)

    # --- mouse

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Go to the view that was clicked."""
        place = None if event is None else self._place_at(event.position())
        if place is not None:
            self._session.select_view(place.tilt_id)

    def event(self, event: QEvent | None) -> bool:
        """Tell the numbers of the view under the mouse."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            place = self._place_at(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), _about(place) if place else "", self)
            return True
        return super().event(event)

    # --- drawing

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        """Draw the tiles that are in sight."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPixelSize(_LABEL_PX - 2)
        painter.setFont(font)
        colours = residual_colours(np.array([place.residual_px for place in self.places]))
        for index, place in enumerate(self.places):
            rect = self.tile_rect(index)
            if event is None or event.rect().intersects(rect):
                self._draw(painter, rect, place, QColor.fromRgbF(*colours[index].tolist()))
        painter.end()

    def _draw(self, painter: QPainter, rect: QRect, place: Place, colour: QColor) -> None:
        picture = QRect(rect.topLeft(), QSize(TILE_PX, TILE_PX))
        tile = self._tiles.get(place.view)
        painter.save()
        painter.setClipRect(rect)
        if tile is None:
            painter.fillRect(picture, QColor("#404040"))
        else:
            painter.drawPixmap(picture.topLeft(), tile.pixmap)
            self._draw_marks(painter, picture, place, tile, colour)
        current = place.tilt_id == self._session.view
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if current:
            painter.setPen(QPen(_CURRENT, 3))
            painter.drawRect(picture.adjusted(1, 1, -2, -2))
        painter.setPen(self.palette().windowText().color() if place.included else _EXCLUDED)
        label = QRect(rect.left(), picture.bottom() + 1, TILE_PX, _LABEL_PX)
        painter.drawText(label, Qt.AlignmentFlag.AlignCenter, _label(place))
        painter.restore()

    def _draw_marks(self, painter: QPainter, picture: QRect, place: Place, tile: _Tile, colour: QColor) -> None:
        radius = 0.9 * self._diameter_px * self._scale
        painter.setBrush(Qt.BrushStyle.NoBrush)
        predicted = self._in_picture(place.predicted_yx_px, tile, picture)
        if place.measured_yx_px is None:
            painter.setPen(QPen(_PREDICTED, 1.5, Qt.PenStyle.DashLine))
            painter.drawRect(QRectF(predicted.x() - radius, predicted.y() - radius, 2 * radius, 2 * radius))
        else:
            painter.setPen(QPen(colour, 1.5))
            painter.drawEllipse(self._in_picture(place.measured_yx_px, tile, picture), radius, radius)
        painter.setPen(QPen(_PREDICTED, 1))
        for dx, dy in ((4.0, 0.0), (0.0, 4.0)):
            painter.drawLine(predicted - QPointF(dx, dy), predicted + QPointF(dx, dy))

    def _in_picture(self, position_yx_px: tuple[float, float], tile: _Tile, picture: QRect) -> QPointF:
        """Where a raw position lies on the screen."""
        y, x = (
            ((raw + 0.5) / self._binning - corner) * self._scale
            for raw, corner in zip(position_yx_px, tile.corner_yx, strict=True)
        )
        return QPointF(picture.left() + x, picture.top() + y)


def _label(place: Place) -> str:
    angle = f"{round(place.tilt_deg) + 0:+d}°"
    if place.measured_yx_px is None:
        return f"{angle} gap"
    return f"{angle} {place.residual_px:.2f}" if np.isfinite(place.residual_px) else angle


def _about(place: Place) -> str:
    lines = [f"{place.tilt_id}, tilt {place.tilt_deg:+.1f}°"]
    if place.measured_yx_px is None:
        lines.append("not used here; the dashed square is where it is predicted")
    elif np.isfinite(place.residual_px):
        lines.append(f"residual {place.residual_px:.2f} px")
    if not place.included:
        lines.append("the view is not part of the alignment")
    return "\n".join(lines)
