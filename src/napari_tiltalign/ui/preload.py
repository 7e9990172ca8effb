"""Images are made ahead, from one of them outwards, while that one is already looked at."""

from __future__ import annotations

import threading

from napari_tiltalign.ui.lazy_stack import LazyStack


def middle_out(length: int) -> list[int]:
    """Indices 0..length-1 in the order of their distance from the middle."""
    return sorted(range(length), key=lambda index: (abs(index - length // 2), index))


def outwards(length: int, first: int, reach: int) -> list[int]:
    """Indices within `reach` of one of 0..length-1, in the order of their distance from it."""
    near = range(max(0, first - reach), min(length, first + reach + 1))
    return sorted(near, key=lambda index: (abs(index - first), index))


class Preload:
    """Makes the images of one stack at a time in a thread of its own."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, stack: LazyStack) -> None:
        """Make the images of a stack, from the middle on, as many as it can keep."""
        self._start(stack, middle_out(len(stack))[: stack.capacity])

    def start_around(self, stack: LazyStack, view: int, reach: int, after_s: float = 0.0) -> None:
        """Make the neighbours of an image, the next ones first, if nothing else is asked for in the next seconds."""
        self._start(stack, outwards(len(stack), view, min(reach, (stack.capacity - 1) // 2)), after_s)

    def _start(self, stack: LazyStack, views: list[int], after_s: float = 0.0) -> None:
        """Begin with images, and leave those alone that were asked for before."""
        self.stop()
        missing = sorted(set(views).difference(stack.cached()), key=views.index)
        if not missing:
            return
        self._stop = threading.Event()
        work = (stack, missing, self._stop, after_s)
        self._thread = threading.Thread(target=_make, args=work, daemon=True, name="tiltalign-preload")
        self._thread.start()

    def stop(self) -> None:
        """Stop after the image that is being made."""
        self._stop.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until everything is made; False if that takes too long."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True


def _make(stack: LazyStack, views: list[int], stop: threading.Event, after_s: float) -> None:
    if stop.wait(after_s):
        return
    for view in views:
        if stop.is_set():
            return
        stack.image(view)
