"""Stop a run that does not look whether it should, because it is busy with something that takes long."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from napari_tiltalign.errors import Cancelled
from napari_tiltalign.io.run_lock import RunLock

LOOK_EVERY_S = 0.5
PATIENCE_S = 1.0
"""How long a run may take to notice a marker by itself; it is to have stopped within 10 s."""


@contextmanager
def attentive(lock: RunLock) -> Iterator[None]:
    """Interrupt what is done within, as Ctrl-C does, if a marker has asked to stop and it did not notice.

    A method may compute for seconds before it tells its progress, and a cluster takes its time to start. Only the
    main thread can be interrupted; elsewhere this does nothing.

    Parameters
    ----------
    lock
        The run's claim on its folder, which knows the markers.

    Raises
    ------
    Cancelled
        If it was interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(lock)
    with _interrupting(watch):
        watch.start()
        try:
            yield
        except KeyboardInterrupt as interrupted:
            if watch.reason is not None:
                raise watch.reason from interrupted
            raise
        finally:
            watch.end()


@contextmanager
def _interrupting(watch: _Watch) -> Iterator[None]:
    """Let SIGINT interrupt if the watch has sent it, also where it is ignored: in the background of a shell script."""
    before = signal.getsignal(signal.SIGINT)
    if before in (None, signal.SIG_DFL):  # not for us to change
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if watch.reason is not None:
            raise KeyboardInterrupt
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Watch(threading.Thread):
    """Looks at the markers beside the main thread."""

    def __init__(self, lock: RunLock) -> None:
        super().__init__(name="markers", daemon=True)
        self.reason: Cancelled | None = None
        self._lock = lock
        self._ended = threading.Event()
        self._guard = threading.Lock()

    def run(self) -> None:
        """Wait for a marker."""
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                self._lock.check()
            except Cancelled as reason:
                if not self._ended.wait(PATIENCE_S):
                    self._interrupt(reason)
                return
            except OSError:
                continue  # the run itself meets that as well

    def end(self) -> None:
        """Interrupt nobody from now on."""
        with self._guard:
            self._ended.set()

    def _interrupt(self, reason: Cancelled) -> None:
        with self._guard:
            if self._ended.is_set():
                return
            self.reason = reason
            if hasattr(signal, "pthread_kill"):  # wakes a thread that sleeps or waits, too
                with suppress(ProcessLookupError):
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            else:
                _thread.interrupt_main()
