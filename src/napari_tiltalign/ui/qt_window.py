"""The window and the canvas of a viewer, as widgets of Qt, by what napari offers to everybody."""

from __future__ import annotations

from napari.components import ViewerModel
from qtpy.compat import isalive
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QMainWindow, QWidget


def window_of(viewer: ViewerModel | None) -> QMainWindow | None:
    """The window of a viewer; None for a viewer without one, or whose window is gone."""
    menu = getattr(getattr(viewer, "window", None), "main_menu", None)
    window = menu.window() if menu is not None and is_there(menu) else None
    return window if isinstance(window, QMainWindow) else None


def canvas_of(viewer: ViewerModel | None) -> QWidget | None:
    """The widget that a viewer draws in; None for a viewer without a window, or whose window is gone."""
    window = window_of(viewer)
    centre = window.centralWidget() if window is not None else None
    return centre.findChild(QOpenGLWidget) if centre is not None else None


def is_there(widget: QWidget | None) -> bool:
    """Whether there is a widget, in Qt as well as in Python."""
    return widget is not None and bool(isalive(widget))  # type: ignore[no-untyped-call]
