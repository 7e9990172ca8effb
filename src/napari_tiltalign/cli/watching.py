"""What a run shows while it goes: a line for every series on standard output, progress on standard error."""

from __future__ import annotations

import math
import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from napari_tiltalign.batch import SeriesOutcome, Summary, Watcher
from napari_tiltalign.model import Alignment


def new_progress() -> Progress:
    """Progress bars on standard error; none at all if that is not a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", markup=False),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )


class ConsoleWatcher(Watcher):
    """Shows how a run goes."""

    def __init__(self) -> None:
        self._progress = new_progress()
        self._task = self._progress.add_task("", total=None, message="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begins(self, name: str, number: int, total: int) -> None:
        """Show which series is being done."""
        self._number = number
        self._progress.update(self._task, description=plain(name), completed=number - 1, total=total, message="")

    def progress(self, fraction: float, message: str) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=self._number - 1 + fraction, message=message)

    def ended(self, outcome: SeriesOutcome) -> None:
        """Print the line of a series."""
        print(outcome_line(outcome), flush=True)


def outcome_line(outcome: SeriesOutcome) -> str:
    """Say in one line what became of a series."""
    if outcome.alignment is None:
        return f"{plain(outcome.name)}: FAILED: {plain(outcome.failure)}"
    facts = alignment_facts(outcome.alignment)
    facts.append("kept from an earlier run" if outcome.kept else f"{outcome.seconds:.1f} s")
    if outcome.alignment.flags:
        facts.append("flags " + " ".join(dict.fromkeys(flag.name for flag in outcome.alignment.flags)))
    return f"{plain(outcome.name)}: " + ", ".join(facts)


def alignment_facts(alignment: Alignment) -> list[str]:
    """The figures of an alignment that a person wants to see first."""
    facts = []
    statistics = alignment.statistics
    if alignment.tracks is not None:
        facts.append(f"{alignment.tracks.n_tracks} tracks")
    facts.append(f"{int(alignment.included.sum())} of {len(alignment)} views")
    if math.isfinite(residual := statistics.get("residual_rms_px", math.nan)):
        facts.append(f"residual {residual:.2f} px")
    facts.append(f"axis {alignment.axis_deg:.2f} deg")
    return facts


def summary_lines(summary: Summary) -> list[str]:
    """Say what a run did, and what its files do not hold."""
    n_aligned, n_failed = len(summary.aligned), len(summary.failed)
    lines = [f"{n_aligned} of {n_aligned + n_failed} series aligned" + (f", {n_failed} failed" if n_failed else "")]
    if n_aligned:
        lines.append(f"results: {summary.folder.aligned_star}")
    if n_failed:
        lines.append(f"failures: {summary.folder.failed_star}")
    worst: dict[tuple[str, str], tuple[float, str]] = {}
    for outcome in summary.aligned:
        for suffix, losses in outcome.losses.items():
            for loss in losses:
                if loss.size_angst > worst.get((suffix, loss.what), (0.0, ""))[0]:
                    worst[suffix, loss.what] = loss.size_angst, outcome.name
    for (suffix, what), (size_angst, name) in worst.items():
        lines.append(f"{suffix} cannot hold: {what}, up to {size_angst:.2g} Angstrom ({plain(name)}); "
                     "alignment.json holds everything")  # fmt: skip
    return lines


def plain(text: str) -> str:
    """Return a text without what could play tricks on a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
