"""What the exit code of a command says. Scripts and schedulers build on it: it is a contract."""

from __future__ import annotations

from enum import IntEnum

from cyclopts import CycloptsError

from napari_tiltalign.errors import BadInput, Cancelled, ProgramMissing, TiltAlignError


class ExitCode(IntEnum):
    """The exit codes of every command."""

    GOOD = 0
    """Everything asked for was done."""
    USAGE = 1
    """The command line or the whole input cannot be used; nothing was computed."""
    SOME_FAILED = 2
    """Some series failed; the others are done."""
    ALL_FAILED = 3
    """No series could be done."""
    STOPPED = 4
    """Stopped by the user or the scheduler; what was done is kept."""
    ENVIRONMENT = 5
    """Disk, permissions, memory or a missing program."""


EXPECTED = (TiltAlignError, CycloptsError, OSError, MemoryError, KeyboardInterrupt)
"""Errors that are told in one message; anything else is a bug and shows where it happened."""


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for one of the `EXPECTED` errors."""
    if isinstance(error, (BadInput, CycloptsError)):
        return ExitCode.USAGE
    if isinstance(error, (Cancelled, KeyboardInterrupt)):
        return ExitCode.STOPPED
    if isinstance(error, (ProgramMissing, OSError, MemoryError)):
        return ExitCode.ENVIRONMENT
    return ExitCode.ALL_FAILED


def exit_code_for(n_good: int, n_failed: int) -> ExitCode:
    """Return the exit code for a run over many series."""
    if not n_failed:
        return ExitCode.GOOD
    return ExitCode.SOME_FAILED if n_good else ExitCode.ALL_FAILED
