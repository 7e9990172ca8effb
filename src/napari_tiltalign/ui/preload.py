"""Images are read ahead, from the middle of the stack outwards, while the first is already looked at."""

from __future__ import annotations

import threading

from napari_tiltalign.ui.lazy_stack import LazyStack


def middle_out(length: int) -> list[int]:
    """Indices 0..length-1 in the order of their distance from the middle."""
    return sorted(range(length), key=lambda index: (abs(index - length // 2), index))


class Preload:
    """Reads the images of one stack at a time in a thread of its own."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, stack: LazyStack) -> None:
        """Read the images of a stack, as many as it can keep; another stack that is being read is left alone."""
        self.stop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=_read, args=(stack, self._stop), daemon=True, name="tiltalign-preload")
        self._thread.start()

    def stop(self) -> None:
        """Stop after the image that is being read."""
        self._stop.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until everything is read; False if that takes too long."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True


def _read(stack: LazyStack, stop: threading.Event) -> None:
    for view in middle_out(len(stack))[: stack.capacity]:
        if stop.is_set():
            return
        stack.image(view)
