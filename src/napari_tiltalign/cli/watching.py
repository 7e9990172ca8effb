"""What a run shows while it goes: a line for every series on standard output, progress on standard error."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from napari_tiltalign.batch import Plan, SeriesOutcome, Summary, Watcher
from napari_tiltalign.batch.run_clock import RunClock, duration
from napari_tiltalign.errors import BadInput

_TELL_EVERY_S = 60.0
_MOST_REASONS = 20
"""Failures that fit on a screen with the rest of the summary."""


def new_progress(disable: bool = False) -> Progress:
    """Progress bars on standard error; none at all if that is not a terminal, or if they are not wanted."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", markup=False),
        console=console,
        disable=disable or not console.is_terminal,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )


def new_watcher(*, quiet: bool, as_json: bool) -> ConsoleWatcher | JsonWatcher:
    """Return the watcher that the flags ask for.

    Raises
    ------
    BadInput
        If they do not go together.
    """
    if quiet and as_json:
        raise BadInput("--json tells everything, --quiet only what goes wrong; give one of them")
    return JsonWatcher() if as_json else ConsoleWatcher(quiet)


class ConsoleWatcher(Watcher):
    """Shows how a run goes: a bar for every series that runs and one for all, with the time left.

    Without a terminal there are no bars; a line now and then says how far the run is.

    Parameters
    ----------
    quiet
        Whether to show only what went wrong.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._progress = new_progress(disable=quiet)
        self._total: TaskID | None = None
        self._running: dict[str, TaskID] = {}
        self._clock = RunClock()
        self._told_s = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def planned(self, plan: Plan) -> None:
        """Show the bar for all series."""
        self._clock = RunClock(len(plan.to_align))
        if self._total is not None:  # of an earlier run, in live mode
            self._progress.remove_task(self._total)
            self._total = None
        if len(plan.series) > 1:
            self._total = self._progress.add_task("all series", total=len(plan.series), message="")

    def notice(self, message: str) -> None:
        """Print it on standard error."""
        if not self._quiet:
            print(plain(message), file=sys.stderr, flush=True)

    def waiting(self, message: str) -> None:
        """Show it instead of the bars, or print it where there are none."""
        self._clock = RunClock()  # nothing runs
        if self._progress.disable:
            self.notice(message)
            return
        if self._total is not None:
            self._progress.remove_task(self._total)
        self._total = self._progress.add_task("watching", total=None, message=plain(message))

    def begins(self, name: str, number: int, total: int) -> None:
        """Show the bar of a series."""
        self._running[name] = self._progress.add_task(plain(name), total=1.0, message="")

    def progress(self, name: str, fraction: float, message: str) -> None:
        """Move the bar of a series."""
        if name in self._running:
            self._progress.update(self._running[name], completed=fraction, message=plain(message))

    def ended(self, outcome: SeriesOutcome) -> None:
        """Print the line of a series."""
        if (task := self._running.pop(outcome.name, None)) is not None:
            self._progress.remove_task(task)
        self._clock.ended(outcome)
        if self._total is not None:
            self._progress.advance(self._total)
            self._progress.update(self._total, message=self._clock.time_left())
        if not self._quiet or outcome.failure:
            print(outcome_line(outcome), flush=True)

    def check(self) -> None:
        """Say now and then how far the run is, where there are no bars."""
        if self._progress.disable and self._clock.n_series and time.monotonic() - self._told_s >= _TELL_EVERY_S:
            self._told_s = time.monotonic()
            self.notice(f"{self._clock.done} of {self._clock.n_series} done, {self._clock.time_left()}")


class JsonWatcher(Watcher):
    """Prints everything that happens as JSON, one object on a line, for machines."""

    def __init__(self) -> None:
        self._clock = RunClock()

    def planned(self, plan: Plan) -> None:
        """Tell what there is to do."""
        self._clock = RunClock(len(plan.to_align))
        series = {one.name: one.why for one in plan.series}
        self._tell("planned", series=series, workers=plan.workers, threads=plan.threads,
                   memory_bytes=round(plan.memory_bytes), memory_limit_bytes=round(plan.memory_limit_bytes),
                   seconds=_rounded(plan.seconds), seconds_from=plan.seconds_from)  # fmt: skip

    def notice(self, message: str) -> None:
        """Tell it."""
        self._tell("notice", message=message)

    def waiting(self, message: str) -> None:
        """Tell what is waited for."""
        self._tell("waiting", message=message)

    def begins(self, name: str, number: int, total: int) -> None:
        """Tell that a series begins."""
        self._tell("begins", series=name, number=number, total=total)

    def progress(self, name: str, fraction: float, message: str) -> None:
        """Tell how far a series is."""
        self._tell("progress", series=name, fraction=round(fraction, 4), message=message)

    def ended(self, outcome: SeriesOutcome) -> None:
        """Tell what became of a series."""
        self._clock.ended(outcome)
        result = "failed" if outcome.failure else "kept" if outcome.kept else "aligned"
        self._tell("ended", series=outcome.name, result=result, reason=outcome.failure or outcome.kept,
                   seconds=round(outcome.seconds, 3), facts=dict(outcome.facts),
                   seconds_left=_rounded(self._clock.seconds_left()))  # fmt: skip

    def finished(self, summary: Summary) -> None:
        """Tell what the whole run did."""
        tables = summary.folder.aligned_star, summary.folder.failed_star
        results, failures = (str(table) if table.is_file() else "" for table in tables)
        self._tell("finished", aligned=len(summary.aligned), failed=len(summary.failed), results=results,
                   failures=failures)  # fmt: skip

    def _tell(self, event: str, **facts: object) -> None:
        print(json.dumps({"event": event, **facts}), flush=True)


def _rounded(seconds: float) -> float | None:
    """Seconds as JSON can hold them: null if they are not known."""
    return None if math.isnan(seconds) else round(seconds, 1)


def outcome_line(outcome: SeriesOutcome) -> str:
    """Say in one line what became of a series."""
    if outcome.failure:
        return f"{plain(outcome.name)}: FAILED: {plain(outcome.failure)}"
    facts = shown_facts(outcome.facts)
    facts.append(outcome.kept or f"{outcome.seconds:.1f} s")
    if flags := outcome.facts.get("flags"):
        facts.append("flags " + " ".join(flags))
    return f"{plain(outcome.name)}: " + ", ".join(facts)


def shown_facts(facts: Mapping[str, Any]) -> list[str]:
    """The figures of an alignment that a person wants to see first; see `alignment_facts`."""
    shown = [f"{facts['tracks']} tracks"] if "tracks" in facts else []
    if "views" in facts:
        shown.append(f"{facts['views']} of {facts['images']} views")
    if "residual_rms_px" in facts:
        shown.append(f"residual {facts['residual_rms_px']:.2f} px")
    if "axis_deg" in facts:
        shown.append(f"axis {facts['axis_deg']:.2f} deg")
    return shown


def plan_lines(plan: Plan) -> list[str]:
    """Say what a run would do."""
    lines = []
    for one in plan.series:
        if one.outcome is None:
            lines.append(f"{plain(one.name)}: align ({one.why}), about {one.memory_bytes / 1e9:.1f} GB")
        else:
            verdict = f"cannot be aligned: {one.outcome.failure}" if one.outcome.failure else one.outcome.kept
            lines.append(f"{plain(one.name)}: {plain(verdict)}")
    limit = f" (each may use {plan.memory_limit_bytes / 1e9:.1f} GB)" if plan.memory_limit_bytes else ""
    cores = f", {plan.threads} core{'' if plan.threads == 1 else 's'} each" if plan.threads else ""
    return [
        *lines,
        *([plan.notice] if plan.notice else []),
        f"{len(plan.to_align)} of {len(plan.series)} series to align, {plan.workers} at a time{cores}",
        f"memory: about {plan.memory_bytes / 1e9:.1f} GB together{limit}",
        f"time: {_time_it_takes(plan)}",
    ]


def _time_it_takes(plan: Plan) -> str:
    if math.isnan(plan.seconds):
        return "not estimated: no series was aligned here with this method yet"
    if plan.seconds_from == "typical":
        return f"very roughly {duration(plan.seconds)}, by what is typical; a run knows better after its first series"
    return f"about {duration(plan.seconds)}" + (", judged by the last run in this folder" if plan.seconds_from else "")


def summary_lines(summary: Summary) -> list[str]:
    """Say what a run did, and what its files do not hold."""
    n_aligned, n_failed = len(summary.aligned), len(summary.failed)
    lines = [f"{n_aligned} of {n_aligned + n_failed} series aligned" + (f", {n_failed} failed" if n_failed else "")]
    if n_aligned:
        lines.append(f"results: {summary.folder.aligned_star}")
    if n_failed:
        lines.append(f"failures: {summary.folder.failed_star}")
        lines += [f"  {plain(one.name)}: {plain(one.failure)}" for one in summary.failed[:_MOST_REASONS]]
        if n_failed > _MOST_REASONS:
            lines.append(f"  and {n_failed - _MOST_REASONS} more")
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
