"""Let widgets hear of the session for as long as Qt has them, which may be shorter than Python does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from psygnal import SignalInstance
from qtpy.QtCore import QObject


def hear(signal: SignalInstance, slot: Callable[..., Any], widget: QObject | None = None) -> None:
    """Connect a method of a widget to a signal until the widget is destroyed.

    psygnal holds methods weakly, but a widget whose window was closed lives on as garbage of Python, and a method
    of it that is called then fails in Qt.

    Parameters
    ----------
    signal
        Signal of psygnal.
    slot
        Bound method.
    widget
        The widget that is destroyed, where the method is not its own.
    """
    signal.connect(slot)
    method = WeakMethod(slot)

    def forget() -> None:
        alive = method()
        if alive is not None:
            signal.disconnect(alive, missing_ok=True)

    owner: QObject = widget if widget is not None else slot.__self__  # type: ignore[attr-defined]
    owner.destroyed.connect(forget)
