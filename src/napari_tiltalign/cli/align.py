"""``align METHOD INPUT --output DIR``: a command for every method of the registry."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from napari_tiltalign.cli.exit_codes import ExitCode, exit_code_for
from napari_tiltalign.cli.inputs import InputOptions, Names
from napari_tiltalign.cli.method_commands import add_method_commands
from napari_tiltalign.cli.running import BatchOptions, bars_of
from napari_tiltalign.errors import BadInput
from napari_tiltalign.methods.base import MethodOptions

if TYPE_CHECKING:
    from napari_tiltalign.batch import Existing

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
    keep_older
        Keep also what another version of this program has aligned in just this way; without it, that is aligned again.
    overwrite
        Align everything again, and replace what other methods or people have made.
    dry_run
        Say what would be done, and the memory and time it takes; do nothing.
    """

    only: Names = ()
    start: Path | None = None
    resume: Annotated[bool, _SWITCH] = False
    keep_older: Annotated[bool, _SWITCH] = False
    overwrite: Annotated[bool, _SWITCH] = False
    dry_run: Annotated[bool, _SWITCH] = False

    @property
    def existing(self) -> Existing:
        """What becomes of earlier results.

        Raises
        ------
        BadInput
            If the flags do not go together.
        """
        from napari_tiltalign.batch import Existing

        if self.overwrite and (self.resume or self.keep_older):
            kept = "--resume" if self.resume else "--keep-older"
            raise BadInput(f"{kept} keeps what is done, --overwrite does it again; give one of them")
        if self.overwrite:
            return Existing.OVERWRITE
        return Existing.KEEP_OLDER if self.keep_older else Existing.RESUME


_ALL = ChoiceOptions()
_AS_READ = InputOptions()


def add_methods(app: App, arguments: Sequence[str] = ()) -> None:
    """Add a command for every method of the registry, or only for the one that the arguments name."""
    add_method_commands(app, arguments, align)
    if any(word.partition("=")[0] == "--use-best" for word in arguments):
        app.default(align_by_best)


def align(
    input_path: Annotated[Path, Parameter(name="INPUT")],
    /,
    *,
    batch: BatchOptions,
    options: MethodOptions,
    choice: ChoiceOptions = _ALL,
    overrides: InputOptions = _AS_READ,
) -> int:
    """Align.

    Parameters
    ----------
    input_path
        RELION's global STAR file or that of one series, or a stack (.mrc, .st) with its angles (.rawtlt, .tlt, .mdoc)
        beside it.
    batch
        Where the results go, where it runs, and what is shown.
    options
        Options of the method.
    choice
        Which series.
    overrides
        What to use instead of what the input says.
    """
    from napari_tiltalign.batch import align_dataset, plan_dataset
    from napari_tiltalign.cli.watching import JsonWatcher, plan_lines

    placement, watcher = batch.placement(), batch.watcher()
    asked: dict[str, Any] = {
        "only": choice.only, "existing": choice.existing, "start": choice.start, "placement": placement
    }  # fmt: skip
    dataset = overrides.read(input_path)
    if choice.dry_run:
        plan = plan_dataset(dataset, options, batch.output, **asked)
        if isinstance(watcher, JsonWatcher):
            watcher.planned(plan)
        else:
            print(*plan_lines(plan), sep="\n")
        return ExitCode.GOOD
    with bars_of(watcher):
        summary = align_dataset(dataset, options, batch.output, command=sys.argv, watcher=watcher, **asked)
    batch.tell(summary, watcher)
    return exit_code_for(len(summary.aligned), len(summary.failed)) if summary.outcomes else ExitCode.ALL_FAILED


def align_by_best(
    input_path: Annotated[Path, Parameter(name="INPUT")],
    /,
    *,
    use_best: Path,
    batch: BatchOptions,
    choice: ChoiceOptions = _ALL,
    overrides: InputOptions = _AS_READ,
) -> int:
    """Align by the method, with its options, that was the best of most series when methods were compared.

    Parameters
    ----------
    input_path
        RELION's global STAR file or that of one series, or a stack (.mrc, .st) with its angles (.rawtlt, .tlt, .mdoc)
        beside it.
    use_best
        Folder that compare has written.
    batch
        Where the results go, where it runs, and what is shown.
    choice
        Which series.
    overrides
        What to use instead of what the input says.
    """
    from napari_tiltalign.cli.use_best import best_method

    options, reason = best_method(use_best)
    print(reason, file=sys.stderr, flush=True)
    return align(input_path, batch=batch, options=options, choice=choice, overrides=overrides)
