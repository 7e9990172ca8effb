"""Text over the pictures of a viewer, in the corner of its canvas.

It is a label of Qt. napari has a text of its own for this place, but whenever that changes, the box behind it is built
and compiled for the graphics card again, which made up a seventh of a step to the next view.
"""

from __future__ import annotations

from weakref import ref

from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QLabel, QWidget

from napari_tiltalign.ui.qt_window import canvas_of, is_there

_MARGIN_PX = 6
_LOOKS = "QLabel { background: rgba(0, 0, 0, 165); color: #f2f2f2; padding: 3px 6px; border-radius: 3px; }"
"""The same in both themes, because it lies on images."""


class CanvasText:
    """Says what is looked at, over the pictures; in a viewer without a window it only knows it.

    Parameters
    ----------
    viewer
        Held weakly.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = ref(viewer)
        self._label: CanvasLabel | None = None
        self._text = self._note = ""

    @property
    def shown(self) -> str:
        """What is written: the text, and the note below it."""
        return "\n".join(part for part in (self._text, self._note) if part)

    def show(self, text: str) -> None:
        """Write a text; nothing if it is empty."""
        self._text = text
        self._draw()

    def note(self, note: str) -> None:
        """Write something below the text, whatever that is; nothing if it is empty."""
        self._note = note
        self._draw()

    def _draw(self) -> None:
        if not is_there(self._label):
            canvas = canvas_of(self._viewer())
            self._label = CanvasLabel(canvas) if canvas is not None else None
        if self._label is not None:
            self._label.write(self.shown)


class CanvasLabel(QLabel):
    """A label in the upper left corner of a widget, broken into lines where that is narrow; the mouse goes through."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setObjectName("tiltalign_canvas_text")
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setStyleSheet(_LOOKS)
        self.move(_MARGIN_PX, _MARGIN_PX)
        canvas.installEventFilter(self)

    def write(self, text: str) -> None:
        """Show a text, or nothing."""
        if text != self.text():
            self.setText(text)
            self._fit()
        if self.isHidden() == bool(text):
            self.setVisible(bool(text))

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 (Qt's name)
        """Fit again when the canvas has another size."""
        if event is not None and event.type() == QEvent.Type.Resize:
            self._fit()
        return False

    def _fit(self) -> None:
        canvas = self.parentWidget()
        room = (canvas.width() if canvas is not None else 0) - 2 * _MARGIN_PX
        self.setWordWrap(False)
        size = self.sizeHint()
        if size.width() > room > 0:
            self.setWordWrap(True)
            self.resize(room, self.heightForWidth(room))
        else:
            self.resize(size)
