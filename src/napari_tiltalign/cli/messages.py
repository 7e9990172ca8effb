"""What a person is told when a command ends with an error: what is wrong, where, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from errno import EROFS
from itertools import pairwise
from pathlib import Path

from cyclopts import (
    ConsumeMultipleError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from napari_tiltalign.cli.options import explain
from napari_tiltalign.errors import DISK_TAKES_NOTHING, Cancelled
from napari_tiltalign.io.files import is_temporary


def message_of(error: BaseException) -> str:
    """Return what is printed of an error that was expected."""
    if isinstance(error, (Cancelled, KeyboardInterrupt)):
        return "Stopped. What was done is kept."
    if isinstance(error, CycloptsError):
        command = " ".join(["napari-tiltalign", *(error.command_chain or ())])
        return f"Error: {_usage_problem(error)}\nSee {command} --help."
    if isinstance(error, MemoryError):
        return "Error: not enough memory"
    if isinstance(error, OSError):
        return f"Error: {_system_problem(error)}"
    return f"Error: {error}"


def _usage_problem(error: CycloptsError) -> str:
    """Say what is wrong with the command line in terms of its flags."""
    error.verbose = False
    if isinstance(error, (MissingArgumentError, ConsumeMultipleError)) and error.keyword:
        return f"{error.keyword} needs a value{_hyphen_hint(error.keyword, error.root_input_tokens or ())}"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.names[0]
        return f"{name} is needed, with a value" if name.startswith("-") else f"{name} is missing"
    if isinstance(error, UnusedCliTokensError):
        return (
            f"{' '.join(error.unused_tokens or ())}: more than this command takes; does a name with blanks lack quotes?"
        )
    if isinstance(error, UnknownCommandError) and (method := _method_left_out(error)):
        return method
    if isinstance(error, UnknownOptionError):
        return f"{error}{_methods_with(error.token.keyword or error.token.value, error.command_chain or ())}"
    return explain(error) or str(error)


def _hyphen_hint(flag: str, arguments: Sequence[str]) -> str:
    """Say how a value is given that begins with a hyphen, such as arguments of another program, if there is one."""
    values = [value for name, value in pairwise(arguments) if name == flag]
    if not values or not values[0].startswith("-") or values[0].startswith("--"):
        return ""
    return f"; one that begins with a hyphen follows an equals sign: {shlex.quote(f'{flag}={values[0]}')}"


def _method_left_out(error: UnknownCommandError) -> str:
    """Say that a method must come first, where somebody has given a path instead."""
    command, given = list(error.command_chain or ()), next(iter(error.unused_tokens or ()), "")
    if command not in (["align"], ["watch"]) or not Path(given).exists():
        return ""
    from napari_tiltalign.methods.base import methods

    known = ", ".join(methods())
    return f"{given} stands where the method is expected: {command[0]} METHOD {given}; METHOD is one of {known}"


def _methods_with(flag: str, command: Sequence[str]) -> str:
    """Say which other methods have a flag, where the command is one of a method."""
    from napari_tiltalign.methods.base import flag_names, methods

    if not command or command[0] not in ("align", "watch"):
        return ""
    flag = flag.partition("=")[0]
    having = [name for name, method in methods().items() if flag in flag_names(method.Options).values()]
    return f" It is an option of {', '.join(having)}." if having else ""


def _system_problem(error: OSError) -> str:
    """Say what the system refuses, with the path that the user knows, and what to do."""
    if error.errno in DISK_TAKES_NOTHING:
        room = "Choose another --output" if error.errno == EROFS else "Make room there, or choose another --output"
        return f"{error}\n{room}, and give the command again. What was done is kept."
    if error.filename is None:
        return str(error)
    path = Path(error.filename)
    path = path.parent if is_temporary(path) else path
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        file = next((place for place in (path, *path.parents) if place.is_file()), path)
        return f"{file} is a file, but a folder is needed there; give another path"
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist; correct the path, or make the folder first"
    if isinstance(error, PermissionError):
        return f"{path}: no permission to read or write there; choose another place, or ask its owner for the right"
    return str(error)
