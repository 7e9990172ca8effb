"""GPUs shared out among the series of a batch: each group of GPUs works on one series at a time.

A group in use is a locked file, whoever runs the batch: threads, processes or a scheduler on this machine. The system
gives a lock back when its holder ends, however it ends.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where AreTomo does not run
    fcntl = None  # type: ignore[assignment]

_POLL_S = 0.2


@contextmanager
def gpu_group(groups: Sequence[tuple[str, ...]], waiting: Callable[[], None]) -> Iterator[tuple[str, ...]]:
    """Hold the first group of GPUs that is free, for as long as it is used.

    Parameters
    ----------
    groups
        GPUs by number; an empty list leaves the choice to the program, and nothing is held.
    waiting
        Called while all are in use; may raise `Cancelled`.

    Yields
    ------
    tuple
        The GPUs of the group.
    """
    if not groups or fcntl is None:
        yield groups[0] if groups else ()
        return
    while True:
        for group in groups:
            held = _locked(group)
            if held is not None:
                try:
                    yield group
                finally:
                    os.close(held)
                return
        waiting()
        time.sleep(_POLL_S)


def _locked(group: tuple[str, ...]) -> int | None:
    """Lock the file of a group and return its descriptor; None if somebody has it."""
    name = f"tiltalign-{os.getuid()}-gpu-{'-'.join(group)}.lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(Path(tempfile.gettempdir()) / name, flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file
