"""Ask about unsaved changes before they are lost: when the viewer is closed, or another dataset is opened."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from weakref import ref

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_tiltalign.ui.save_row import save_asking
from napari_tiltalign.ui.session import Session


class Answer(Enum):
    """What to do with unsaved changes."""

    SAVE = "save"
    DISCARD = "discard"
    CANCEL = "cancel"


def ask_unsaved(parent: QWidget | None, names: Sequence[str]) -> Answer:
    """Ask what to do with unsaved changes of these series."""
    which = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    box = QMessageBox(QMessageBox.Icon.Question, "Unsaved changes", f"Save the changes of {which}?", parent=parent)
    buttons = QMessageBox.StandardButton
    box.setStandardButtons(buttons.Save | buttons.Discard | buttons.Cancel)
    box.setDefaultButton(buttons.Save)
    chosen = box.exec()
    if chosen == buttons.Save:
        return Answer.SAVE
    return Answer.DISCARD if chosen == buttons.Discard else Answer.CANCEL


def ask_repeat(name: str, n_steps: int) -> bool:
    """Ask whether to repeat the steps that a crash has left in a journal."""
    buttons = QMessageBox.StandardButton
    text = (
        f"{n_steps} steps of your work on {name} were not saved when napari was closed or broke down. "
        "Repeat them? They can be undone. (No forgets them.)"
    )
    box = QMessageBox(QMessageBox.Icon.Question, "Unsaved work found", text)
    box.setStandardButtons(buttons.Yes | buttons.No)
    box.setDefaultButton(buttons.Yes)
    box.setEscapeButton(buttons.Yes)
    return bool(box.exec() != buttons.No)


def may_be_lost(session: Session, parent: QWidget | None = None) -> bool:
    """Whether the work of a session may be forgotten now: it is saved, or the user does not want it.

    Parameters
    ----------
    session
        Its unsaved changes are asked about.
    parent
        Widget to ask in front of.
    """
    names = session.unsaved()
    answer = ask_unsaved(parent, names) if names else Answer.DISCARD
    if answer is Answer.CANCEL or (answer is Answer.SAVE and not save_asking(session, parent)):
        return False
    session.give_up_changes()
    return True


class CloseGuard(QObject):
    """Keeps a window open while its work is neither saved nor given up.

    Parameters
    ----------
    window
        The window; it owns the guard.
    session
        Held weakly.
    """

    def __init__(self, window: QWidget, session: Session) -> None:
        super().__init__(window)
        self._session = ref(session)
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 (Qt's name)
        """Stop the closing of the window if the user says so."""
        session = self._session()
        if event is not None and event.type() == QEvent.Type.Close and session is not None:
            window = watched if isinstance(watched, QWidget) else None
            if not may_be_lost(session, window):
                event.ignore()
                return True
        return False


def guard_window(window: QWidget, session: Session) -> None:
    """Let a window ask about the unsaved changes of a session before it closes; a second call does nothing."""
    if not any(isinstance(child, CloseGuard) for child in window.children()):
        CloseGuard(window, session)


class _Shown(QObject):
    """Guards the window of a widget once the widget is shown, and so is part of one."""

    def __init__(self, widget: QWidget, session: Session) -> None:
        super().__init__(widget)
        self._session = ref(session)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 (Qt's name)
        """Look out for the widget being shown."""
        session = self._session()
        if event is not None and event.type() == QEvent.Type.Show and isinstance(watched, QWidget) and session:
            guard_window(_outermost(watched), session)
        return False


def _outermost(widget: QWidget) -> QWidget:
    """Window of a widget; for one in a floating dock, the window that the dock belongs to."""
    while (parent := widget.parentWidget()) is not None:
        widget = parent
    return widget


def guard_when_shown(widget: QWidget, session: Session) -> None:
    """Let the window that a widget will be part of ask about unsaved changes before it closes."""
    _Shown(widget, session)
