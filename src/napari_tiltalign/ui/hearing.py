"""Let widgets hear of the session for as long as Qt has them, which may be shorter than Python does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod, ref

from psygnal import SignalInstance
from qtpy.compat import isalive
from qtpy.QtCore import QObject


def hear(signal: SignalInstance, slot: Callable[[], Any], widget: QObject | None = None) -> None:
    """Connect a method of a widget to a signal without arguments, until Qt has deleted the widget.

    psygnal holds methods weakly, but a widget whose window was closed lives on as garbage of Python, and a method
    of it that is called then fails in Qt. (Qt's own signal `destroyed` is no help: it may come in the middle of
    Python's clearing of what listens to it.)

    Parameters
    ----------
    signal
        Signal of psygnal.
    slot
        Bound method; held weakly.
    widget
        The widget that may be deleted, where the method is not its own.
    """
    method = WeakMethod(slot)
    owner: ref[QObject] = ref(widget if widget is not None else slot.__self__)  # type: ignore[attr-defined]

    def call() -> None:
        alive, owned_by = method(), owner()
        if alive is not None and owned_by is not None and isalive(owned_by):  # type: ignore[no-untyped-call]
            alive()
        else:
            signal.disconnect(call, missing_ok=True)

    signal.connect(call)
