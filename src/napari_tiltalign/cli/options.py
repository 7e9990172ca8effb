"""Flags out of options classes, so that the command line cannot disagree with Python, the forms and the JSON record."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import CycloptsError, Parameter
from pydantic import ValidationError

from napari_tiltalign.methods.base import MethodOptions, flag_names


def flags_annotation(options: type[MethodOptions]) -> Any:
    """Return the type annotation that makes cyclopts offer every option as a flag of its own."""
    names = {name: flag.removeprefix("--") for name, flag in flag_names(options).items()}
    return Annotated[options, Parameter(name="*", name_transform=lambda name: names.get(name, name))]


def explain(error: CycloptsError) -> str:
    """Say which flags have values that an options class refuses, one line for each; empty if the error is another."""
    options = error.argument.hint if error.argument else None
    cause = error.__cause__
    if not (isinstance(cause, ValidationError) and isinstance(options, type) and issubclass(options, MethodOptions)):
        return ""
    flags = flag_names(options)
    lines = []
    for problem in cause.errors(include_url=False):
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # about several options together
            lines.append(message)
            continue
        name = str(problem["loc"][0])
        lines.append(f"{flags.get(name, name)} {problem['input']}: {message[:1].lower()}{message[1:]}")
    return "\n".join(lines)
