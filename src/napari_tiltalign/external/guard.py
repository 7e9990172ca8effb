"""Runs one program and makes sure that nothing of it outlives whoever asked for it.

This file is started as a process of its own, ``python -I guard.py GRACE_S PARENT_PID PROGRAM ARGUMENT...``, between us
and the program. Its standard input is a pipe that nobody writes to. When the pipe ends, or the process that started it
is gone, however it died, the program and everything that it has started are ended: first politely, then for good.

On Linux the guard also adopts what the program leaves behind, so that a daemon cannot slip away, and the program is
ended by the kernel if the guard itself is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.05

NOT_STARTED = 127
"""Exit code if the program could not be started; the reason is in the output."""
BY_SIGNAL = 128
"""Exit codes from here on mean that the program died of signal (code - 128)."""


def main(arguments: list[str]) -> int:
    """Run a program and return its exit code; see the head of this file."""
    grace_s, parent_pid, command = float(arguments[0]), int(arguments[1]), arguments[2:]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, lambda _number, _frame: stop.set())
    linux = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if linux is not None:
        linux.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def die_with_the_guard() -> None:
        if linux is not None:
            linux.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    try:
        program = subprocess.Popen(  # noqa: S603 (a list of arguments, no shell)
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_the_guard if linux is not None else None,  # safe: there is one thread yet
        )
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror or error}", file=sys.stderr)
        return NOT_STARTED
    threading.Thread(target=_wait_for_end_of_input, args=(stop,), daemon=True).start()
    while program.poll() is None and not stop.wait(_POLL_S):
        if os.getppid() != parent_pid:
            stop.set()
    end_tree(psutil.Process(), grace_s if program.poll() is None else 0.0)
    code = program.wait()
    return code if code >= 0 else BY_SIGNAL - code


def _wait_for_end_of_input(stop: threading.Event) -> None:
    with suppress(OSError, ValueError):
        while os.read(0, 1):
            pass
    stop.set()


def end_tree(root: psutil.Process, grace_s: float) -> None:
    """End every descendant of a process: ask first, wait for a while, then kill until none is left."""
    for process in _descendants(root):
        with suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + grace_s
    while (left := _descendants(root)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=_POLL_S)
    while left := _descendants(root):
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=_POLL_S)


def _descendants(root: psutil.Process) -> list[psutil.Process]:
    try:
        found = root.children(recursive=True)
    except psutil.Error:
        return []
    return [process for process in found if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


if __name__ == "__main__":
    # not sys.exit: the thread that reads is still there, and nothing is left to clean up
    sys.stderr.flush()
    os._exit(main(sys.argv[1:]))
