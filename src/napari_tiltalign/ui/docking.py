"""Widgets of the plugin become tabs of one place.

napari stacks docked widgets above each other. Three of them need more height than a screen has, and the window grows
beyond it.
"""

from __future__ import annotations

from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QObject, QSize, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_tiltalign.ui.qt_window import is_there, window_of

_MARK = "tiltalign_widget"
"""Property of the widgets of the plugin."""


class _FirstShown(QObject):
    """Waits until a widget is shown for the first time; later the user may have put it elsewhere."""

    def __init__(self, widget: QWidget, size: QSize | None) -> None:
        super().__init__(widget)
        self._size = size
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 (Qt's name)
        """Look out for the widget being shown."""
        if event is not None and event.type() == QEvent.Type.Show and isinstance(watched, QWidget):
            dock = dock_of(watched)
            if dock is not None:
                watched.removeEventFilter(self)
                _join(dock, self._size)
        return False


def gather_when_shown(widget: QWidget, viewer: ViewerModel) -> None:
    """Let a new widget become a tab beside other widgets of the plugin in the same place, when it is first shown.

    Parameters
    ----------
    widget
        It was just made, and is about to be docked.
    viewer
        Where it will be docked.
    """
    widget.setProperty(_MARK, True)
    window = window_of(viewer)
    _FirstShown(widget, None if window is None else window.size())


def dock_of(widget: QWidget) -> QDockWidget | None:
    """The dock that a widget is in; None if it is in none."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


def _join(dock: QDockWidget, size: QSize | None) -> None:
    """Make a dock a tab; the window, which has grown for it, gets the size it had."""
    dock.setWindowTitle(dock.windowTitle().partition(" (")[0])  # tabs have little room; its own bar keeps the name
    window = dock.parentWidget()
    if not isinstance(window, QMainWindow) or dock.isFloating():
        return
    others = [other for other in window.findChildren(QDockWidget) if other is not dock and _is_ours(other)]
    beside = [
        other
        for other in others
        if window.dockWidgetArea(other) == window.dockWidgetArea(dock)
        and other.isVisibleTo(window)
        and not other.isFloating()
    ]
    if beside:
        window.tabifyDockWidget(beside[-1], dock)
        QTimer.singleShot(0, lambda: _finish(dock, size))  # when napari has done with it


def _is_ours(dock: QDockWidget) -> bool:
    inside = dock.widget()
    return inside is not None and any(w.property(_MARK) for w in (inside, *inside.findChildren(QWidget)))


def _finish(dock: QDockWidget, size: QSize | None) -> None:
    if is_there(dock):
        dock.raise_()
        window = dock.parentWidget()
        if size is not None and window is not None and not window.isMaximized() and not window.isFullScreen():
            window.resize(size)
