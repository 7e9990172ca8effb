"""What a form stands for, as a command and as Python, to be repeated elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from napari_tiltalign.methods.base import MethodOptions, flag_names


def changed_options(options: MethodOptions) -> dict[str, Any]:
    """Options that differ from their defaults."""
    fields = type(options).model_fields
    return {name: value for name, value in options if value != fields[name].default}


def as_command(method_name: str, options: MethodOptions, source: str, output: Path, only: Sequence[str] = ()) -> str:
    """Return the command that aligns a dataset with these options, quoted for a shell.

    Parameters
    ----------
    method_name
        Name of the method the options belong to.
    options
        Those that differ from their defaults are named.
    source
        What the dataset was read from.
    output
        Folder for the results.
    only
        Names of the series to align; all if empty.
    """
    words = ["napari-tiltalign", "align", method_name, source, "--output", str(output)]
    if only:
        words += ["--only", *only]
    return shlex.join([*words, *_flags(options)])


def _flags(options: MethodOptions) -> Iterator[str]:
    names = flag_names(type(options))
    for name, value in changed_options(options).items():
        flag = names[name]
        if isinstance(value, bool):
            yield flag if value else flag.replace("--", "--no-", 1)
        else:
            yield from (flag, str(value))


def as_python(options: MethodOptions, source: str, output: Path, only: Sequence[str] = ()) -> str:
    """Return Python code that aligns a dataset with these options; see `as_command`."""
    kind = type(options)
    chosen = f".only({list(only)!r})" if only else ""
    arguments = ", ".join(f"{name}={value!r}" for name, value in changed_options(options).items())
    return "\n".join(
        [
            "from napari_tiltalign import align, read, write",
            f"from {kind.__module__} import {kind.__name__}",
            "",
            f"dataset = read({source!r}){chosen}",
            f"options = {kind.__name__}({arguments})",
            "alignments = {series.name: align(series, options) for series in dataset}",
            f"write(dataset, alignments, {str(output)!r})",
            "",
        ]
    )
