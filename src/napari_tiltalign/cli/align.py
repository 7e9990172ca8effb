"""``align METHOD INPUT --output DIR``: a command for every method of the registry, its flags from the options class."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from napari_tiltalign.cli.exit_codes import ExitCode, exit_code_for
from napari_tiltalign.cli.inputs import InputOptions
from napari_tiltalign.cli.options import flags_annotation
from napari_tiltalign.errors import BadInput
from napari_tiltalign.methods.base import Method, MethodOptions, methods

_METHOD_GROUP = Group("Method", sort_key=5)


def add_methods(app: App) -> None:
    """Add a command for every method of the registry."""
    for name, method in methods().items():
        app.command(_command(method), name=name, help=f"{method.title}. {method.summary}")


def _command(method: Method) -> Callable[..., int]:
    """Return the command for one method."""

    def align(
        input_path: Annotated[Path, Parameter(name="INPUT")],
        /,
        *,
        output: Path,
        options: MethodOptions,
        only: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)] = (),
        resume: Annotated[bool, Parameter(negative="", show_default=False)] = False,
        overwrite: Annotated[bool, Parameter(negative="", show_default=False)] = False,
        overrides: InputOptions | None = None,
    ) -> int:
        """Align.

        Parameters
        ----------
        input_path
            RELION's global STAR file or that of one series, or a stack (.mrc, .st) with its angles (.rawtlt, .tlt,
            .mdoc) beside it.
        output
            Folder for the results; made if need be.
        options
            Options of the method.
        only
            Names of the series to align; all without it.
        resume
            Keep series that were done in exactly this way and whose files are intact; align the others.
        overwrite
            Align series again that have results in the output folder.
        overrides
            What to use instead of what the input says.
        """
        return _align(input_path, output, options, only, resume, overwrite, overrides or InputOptions())

    flags: Any = flags_annotation(method.Options)
    align.__annotations__["options"] = Annotated[flags, Parameter(group=_METHOD_GROUP)]
    align.__kwdefaults__ = {**(align.__kwdefaults__ or {}), "options": method.Options()}
    return align


def _align(
    input_path: Path,
    output: Path,
    options: MethodOptions,
    only: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    overrides: InputOptions,
) -> int:
    from napari_tiltalign.batch import Existing, align_dataset
    from napari_tiltalign.cli.watching import ConsoleWatcher, summary_lines

    if resume and overwrite:
        raise BadInput("--resume keeps what is done, --overwrite does it again; give one of them")
    existing = Existing.RESUME if resume else Existing.OVERWRITE if overwrite else Existing.REFUSE
    dataset = overrides.read(input_path)
    with ConsoleWatcher() as watcher:
        summary = align_dataset(
            dataset, options, output, only=only, existing=existing, command=sys.argv, watcher=watcher
        )
    print(*summary_lines(summary), sep="\n")
    return exit_code_for(len(summary.aligned), len(summary.failed)) if summary.outcomes else ExitCode.ALL_FAILED
