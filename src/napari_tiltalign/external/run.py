"""The one way in which another program is run.

Arguments are a list and never pass a shell; the program works in a folder of its own; what it says goes to a file that
is read while it runs; it has a limit of time; and it is ended, with everything it has started, when the work is
cancelled, when this process ends, and when this process is killed (see `guard`).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import psutil

from napari_tiltalign.errors import ProgramFailed
from napari_tiltalign.external import guard

_POLL_S = 0.05
_TAIL_BYTES = 1 << 16
_OWN_PYTHON = ("PYTHONHOME", "PYTHONPATH", "QT_PLUGIN_PATH", "QT_QPA_PLATFORM_PLUGIN_PATH", "LD_PRELOAD")
"""What may be set for our own interpreter and Qt, and would break the Python scripts and the Qt of others."""

Listener = Callable[[str], None]
"""Told the newest line of output, again and again while the program runs; may raise `Cancelled`."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program and how to run it.

    Attributes
    ----------
    program
        The executable.
    arguments
        Its arguments, each handed over as it is.
    folder
        Folder to run it in.
    log
        File for what it prints, standard output and error together; what is there is kept and added to.
    environment
        Variables to set besides those of this process.
    time_limit_s
        After this time it is ended.
    """

    program: Path
    arguments: tuple[str, ...]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    time_limit_s: float = 24 * 3600.0

    def __str__(self) -> str:
        """The command as it could be typed."""
        return shlex.join([str(self.program), *self.arguments])


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended.

    Attributes
    ----------
    exit_code
        Its exit code; 128 and more for a signal.
    output
        The end of what it printed (at most 64 KiB).
    """

    exit_code: int
    output: str

    @property
    def cause(self) -> str:
        """What went wrong, from the output: the last lines that speak of an error, or the last lines at all."""
        return failure_cause(self.output)

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if self.exit_code > guard.BY_SIGNAL:
            return f"was killed by signal {self.exit_code - guard.BY_SIGNAL}"
        return f"ended with exit code {self.exit_code}"


def run(command: Command, listen: Listener | None = None, *, grace_s: float = 5.0) -> Finished:
    """Run a program to its end.

    Parameters
    ----------
    command
        What to run.
    listen
        Told the newest line of output several times a second.
    grace_s
        How long a program that is to end may take for it before it is killed.

    Returns
    -------
    Finished
        How it ended, whether well or badly; that is for the caller to judge, by its results above all.

    Raises
    ------
    ProgramFailed
        If it cannot be started, or takes longer than its limit.
    Cancelled
        If `listen` raises it; the program has ended by then.
    """
    with command.log.open("ab") as log:
        log.write(f"> {command}\n".encode("utf-8", "replace"))
        log.flush()
        begin = log.tell()
        process = _start(command, log, grace_s)
    try:
        exit_code = _wait(process, command, begin, listen)
    finally:
        _end(process, grace_s)
    output = _tail(command.log, begin)
    if exit_code == guard.NOT_STARTED and "cannot start" in output:
        raise ProgramFailed(output.strip().splitlines()[-1])
    return Finished(exit_code, output)


def _start(command: Command, log: BinaryIO, grace_s: float) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in _OWN_PYTHON}
    words = [sys.executable, "-I", guard.__file__, str(grace_s), str(os.getpid())]
    words += [str(command.program), *command.arguments]
    try:
        return subprocess.Popen(  # noqa: S603 (a list of arguments, no shell)
            words,
            cwd=command.folder,
            env={**environment, **command.environment},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ProgramFailed(f"cannot start {command.program}: {error}") from error


def _wait(process: subprocess.Popen[bytes], command: Command, begin: int, listen: Listener | None) -> int:
    deadline = time.monotonic() + command.time_limit_s
    while True:
        try:
            return process.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            pass
        if listen is not None:
            listen(_last_line(_tail(command.log, begin)))
        if time.monotonic() > deadline:
            cause = failure_cause(_tail(command.log, begin))
            name = command.program.name
            raise ProgramFailed(
                f"{name} took longer than {command.time_limit_s:g} s and was ended (see the time limit "
                f"among its options); it last said: {cause or 'nothing'}"
            )


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """End the guard, which ends the rest; if it does not, end everything from here."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(timeout=grace_s + 5.0)
    except subprocess.TimeoutExpired:
        with suppress(psutil.Error):
            guard.end_tree(psutil.Process(process.pid), 0.0)
        process.kill()
        process.wait()


def _tail(log: Path, begin: int) -> str:
    """Return the end of what stands in a log after a position."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(begin, size - _TAIL_BYTES))
        return file.read().decode("utf-8", "replace")


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


_SPEAKS_OF_ERROR = re.compile(
    r"\b(error|abort(ed|ing)?|fail|failed|failure|fatal|cannot|could not|unable|exception|segmentation|assertion|"
    r"not found|no such|out of memory|denied|invalid)\b",
    re.IGNORECASE,
)
_SPEAKS_OF_RESIDUALS = re.compile(r"residual error|leave-out error|mean error", re.IGNORECASE)
_MOST_LINES = 4


def failure_cause(output: str) -> str:
    r"""Pick the lines of a program's output that say why it failed, joined to one line.

    Examples
    --------
    >>> failure_cause("reading\nERROR: tiltalign - TOO FEW DATA POINTS\nbye\n")
    'ERROR: tiltalign - TOO FEW DATA POINTS'
    """
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if _SPEAKS_OF_ERROR.search(line) and not _SPEAKS_OF_RESIDUALS.search(line)]
    return " | ".join(line[:300] for line in _without_repeats(telling or lines)[-_MOST_LINES:])


def _without_repeats(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def split_arguments(text: str, what: str) -> Sequence[str]:
    """Split arguments that a person has typed, with quotes as in a shell, but no shell is involved.

    Raises
    ------
    ProgramFailed
        If a quotation does not end.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ProgramFailed(f"{what} {text!r} cannot be split into arguments: {error}") from error
