"""``align METHOD INPUT --output DIR``: a command for every method of the registry, its flags from the options class."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter

from napari_tiltalign.cli.exit_codes import ExitCode, exit_code_for
from napari_tiltalign.cli.inputs import InputOptions
from napari_tiltalign.cli.options import flags_annotation
from napari_tiltalign.cli.running import RunOptions, SlurmOptions, placement_of
from napari_tiltalign.errors import BadInput
from napari_tiltalign.methods.base import Method, MethodOptions, methods

if TYPE_CHECKING:
    from napari_tiltalign.batch import Placement

METHOD_GROUP = Group("Method", sort_key=5)
_SHOWN_GROUP = Group("What is shown", sort_key=15)
_SWITCH = Parameter(negative="", show_default=False)


@Parameter(name="*")
@dataclass(frozen=True)
class ChoiceOptions:
    """Which series are aligned, and what becomes of earlier results.

    Attributes
    ----------
    only
        Names of the series to align; all without it.
    start
        Alignment file to start from, or a folder of results with one for every series.
    resume
        Keep what is done in exactly this way and intact; align what is missing, has failed or has changed. This is
        what happens without any flag.
    overwrite
        Align everything again, and replace what other methods or people have made.
    dry_run
        Say what would be done, and the memory and time it takes; do nothing.
    """

    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)] = ()
    start: Path | None = None
    resume: Annotated[bool, _SWITCH] = False
    overwrite: Annotated[bool, _SWITCH] = False
    dry_run: Annotated[bool, _SWITCH] = False


@Parameter(name="*", group=_SHOWN_GROUP)
@dataclass(frozen=True)
class ShownOptions:
    """What is shown.

    Attributes
    ----------
    quiet
        Show only what goes wrong.
    json
        Print everything that happens as JSON, one object on a line.
    report
        Judge the alignments and write report.html, which takes about half a minute for each series; align does that in
        the end, watch after every series, with pictures in the end only.
    """

    quiet: Annotated[bool, _SWITCH] = False
    json: Annotated[bool, _SWITCH] = False
    report: Annotated[bool, _SWITCH] = False


def add_methods(app: App, arguments: Sequence[str] = ()) -> None:
    """Add a command for every method of the registry, or only for the one that the arguments name."""
    add_method_commands(app, arguments, _command)
    if any(word.partition("=")[0] == "--use-best" for word in arguments):
        app.default(align_by_best)


def add_method_commands(app: App, arguments: Sequence[str], command: Callable[[Method], Callable[..., int]]) -> None:
    """Add what `command` makes of every method of the registry, or only of the one that the arguments name."""
    registry = methods()
    for name in [word for word in arguments if word in registry][:1] or registry:
        method = registry[name]
        app.command(command(method), name=name, help=f"{method.title}. {method.summary}")


def _command(method: Method) -> Callable[..., int]:
    """Return the command for one method."""

    def align(
        input_path: Annotated[Path, Parameter(name="INPUT")],
        /,
        *,
        output: Path,
        options: MethodOptions,
        choice: ChoiceOptions | None = None,
        overrides: InputOptions | None = None,
        run: RunOptions | None = None,
        slurm: SlurmOptions | None = None,
        shown: ShownOptions | None = None,
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
        choice
            Which series.
        overrides
            What to use instead of what the input says.
        run
            Where it runs.
        slurm
            What to ask Slurm for.
        shown
            What is shown.
        """
        placement = placement_of(run or RunOptions(), slurm or SlurmOptions())
        return _align(
            input_path,
            output,
            options,
            choice or ChoiceOptions(),
            overrides or InputOptions(),
            placement,
            shown or ShownOptions(),
        )

    flags: Any = flags_annotation(method.Options)
    align.__annotations__["options"] = Annotated[flags, Parameter(group=METHOD_GROUP)]
    align.__kwdefaults__ = {**(align.__kwdefaults__ or {}), "options": method.Options()}
    return align


def align_by_best(
    input_path: Annotated[Path, Parameter(name="INPUT")],
    /,
    *,
    use_best: Path,
    output: Path,
    choice: ChoiceOptions | None = None,
    overrides: InputOptions | None = None,
    run: RunOptions | None = None,
    slurm: SlurmOptions | None = None,
    shown: ShownOptions | None = None,
) -> int:
    """Align by the method, with its options, that was the best of most series when methods were compared.

    Parameters
    ----------
    input_path
        RELION's global STAR file or that of one series, or a stack (.mrc, .st) with its angles (.rawtlt, .tlt, .mdoc)
        beside it.
    use_best
        Folder that compare has written.
    output
        Folder for the results; made if need be.
    choice
        Which series.
    overrides
        What to use instead of what the input says.
    run
        Where it runs.
    slurm
        What to ask Slurm for.
    shown
        What is shown.
    """
    from napari_tiltalign.cli.use_best import best_method

    options, reason = best_method(use_best)
    print(reason, file=sys.stderr, flush=True)
    placement = placement_of(run or RunOptions(), slurm or SlurmOptions())
    return _align(
        input_path, output, options, choice or ChoiceOptions(), overrides or InputOptions(), placement,
        shown or ShownOptions(),
    )  # fmt: skip


def _align(
    input_path: Path,
    output: Path,
    options: MethodOptions,
    choice: ChoiceOptions,
    overrides: InputOptions,
    placement: Placement,
    shown: ShownOptions,
) -> int:
    from napari_tiltalign.batch import Existing, align_dataset, plan_dataset
    from napari_tiltalign.cli.watching import ConsoleWatcher, JsonWatcher, new_watcher, plan_lines, summary_lines

    if choice.resume and choice.overwrite:
        raise BadInput("--resume keeps what is done, --overwrite does it again; give one of them")
    watcher = new_watcher(quiet=shown.quiet, as_json=shown.json)
    existing = Existing.OVERWRITE if choice.overwrite else Existing.RESUME
    asked: dict[str, Any] = {"only": choice.only, "existing": existing, "start": choice.start, "placement": placement}
    dataset = overrides.read(input_path)
    if choice.dry_run:
        plan = plan_dataset(dataset, options, output, **asked)
        if shown.json:
            JsonWatcher().planned(plan)
        else:
            print(*plan_lines(plan), sep="\n")
        return ExitCode.GOOD
    with watcher if isinstance(watcher, ConsoleWatcher) else nullcontext():
        summary = align_dataset(dataset, options, output, command=sys.argv, watcher=watcher, **asked)
    if isinstance(watcher, JsonWatcher):
        watcher.finished(summary)
    elif not shown.quiet:
        print(*summary_lines(summary), sep="\n")
    if shown.report and summary.aligned:
        from napari_tiltalign.cli.report import report

        report(output, quiet=shown.json or shown.quiet, told=not (shown.json or shown.quiet))
    return exit_code_for(len(summary.aligned), len(summary.failed)) if summary.outcomes else ExitCode.ALL_FAILED
