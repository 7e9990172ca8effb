"""Align all the series of a dataset, one after another, so that one bad series never stops the others.

A series is on the disk as soon as it is done, and the tables of the dataset are written last. Whatever happens, the
same command goes on where it was (`Existing.RESUME`).
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from napari_tiltalign.api import align, method_of
from napari_tiltalign.errors import BadInput, BadTiltSeries, Cancelled, TiltAlignError
from napari_tiltalign.io.files import write_atomic
from napari_tiltalign.io.fingerprint import work_fingerprint
from napari_tiltalign.io.output import (
    LossesByFormat,
    remove_tables,
    write_series_failure,
    write_series_result,
    write_tables_again,
)
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.record import read_record
from napari_tiltalign.io.series_state import SeriesState
from napari_tiltalign.methods.base import MethodOptions
from napari_tiltalign.model import Alignment, Dataset, TiltSeries

_log = logging.getLogger(__name__)
_NOTHING_LOST: LossesByFormat = MappingProxyType({})


class Existing(StrEnum):
    """What to do if the output folder holds results already."""

    REFUSE = "refuse"
    """Stop before anything is done."""
    RESUME = "resume"
    """Keep series that are done in exactly this way and whose files are intact; do the others."""
    OVERWRITE = "overwrite"
    """Do everything again."""


@dataclass(frozen=True, slots=True)
class SeriesOutcome:
    """What became of one series.

    Attributes
    ----------
    name
        Name of the series.
    alignment
        Its alignment; None if it failed.
    failure
        Why it failed; empty if it did not.
    kept
        Whether the result is that of an earlier run.
    seconds
        How long it took.
    losses
        What its files do not hold.
    """

    name: str
    alignment: Alignment | None = None
    failure: str = ""
    kept: bool = False
    seconds: float = 0.0
    losses: LossesByFormat = field(default_factory=lambda: _NOTHING_LOST)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    folder
        Where the results are.
    outcomes
        Every series, in the order in which they were done.
    """

    folder: OutputFolder
    outcomes: tuple[SeriesOutcome, ...]

    @property
    def aligned(self) -> tuple[SeriesOutcome, ...]:
        """Series that have an alignment."""
        return tuple(outcome for outcome in self.outcomes if outcome.alignment is not None)

    @property
    def failed(self) -> tuple[SeriesOutcome, ...]:
        """Series that have none."""
        return tuple(outcome for outcome in self.outcomes if outcome.alignment is None)


class Watcher:
    """Told how a run goes. This one does nothing; a subclass overrides what it wants to know."""

    def begins(self, name: str, number: int, total: int) -> None:
        """Series `name` begins, as `number` (from 1) of `total`."""

    def progress(self, fraction: float, message: str) -> None:
        """How far the series is; may raise `Cancelled`."""

    def ended(self, outcome: SeriesOutcome) -> None:
        """A series is done, or has failed."""


def align_dataset(
    dataset: Dataset,
    options: MethodOptions,
    directory: Path,
    *,
    only: Iterable[str] = (),
    overrides: Mapping[str, MethodOptions] = MappingProxyType({}),
    existing: Existing = Existing.REFUSE,
    command: Sequence[str] = (),
    watcher: Watcher | None = None,
) -> Summary:
    """Align the series of a dataset and write the results.

    Parameters
    ----------
    dataset
        What was read.
    options
        Options of the method to use.
    directory
        Output folder; see `napari_tiltalign.io.output_folder`.
    only
        Names of the series to do; all if empty. What the folder has of the others stays in the tables.
    overrides
        Series name to options to use for it instead, of the same method.
    existing
        What to do if there are results already.
    command
        The command that asked for it, for the record.
    watcher
        Told how it goes.

    Returns
    -------
    Summary
        What became of every series.

    Raises
    ------
    BadInput
        If there are results already and `existing` says to refuse, a name is unknown, or the input would be
        overwritten.
    Cancelled
        If the watcher asked to stop. What is done is kept.
    OSError
        If something cannot be written.
    """
    folder = OutputFolder(directory)
    chosen = dataset.only(only) if (only := list(only)) else dataset
    folder.check_foreign_files(chosen)
    if existing is Existing.REFUSE and folder.has_results():
        raise BadInput(f"{directory} holds results already; resume or overwrite them (--resume, --overwrite), or "
                       "choose another output folder")  # fmt: skip
    run = _Run(folder, options, overrides, existing, watcher or Watcher())
    record = _RunRecord(folder, dataset.source, options, overrides, tuple(command))
    remove_tables(folder)
    try:
        summary = run.all(chosen)
        failures = {outcome.name: outcome.failure for outcome in summary.failed}
        write_tables_again(folder, dataset, {outcome.name for outcome in summary.aligned}, failures)
        record.write("finished", run.outcomes)
    except BaseException as error:
        with suppress(OSError):
            stopped = isinstance(error, (Cancelled, KeyboardInterrupt))
            record.write("stopped" if stopped else f"broken off: {error}", run.outcomes)
        raise
    return summary


class _Run:
    """One run over many series."""

    def __init__(
        self,
        folder: OutputFolder,
        options: MethodOptions,
        overrides: Mapping[str, MethodOptions],
        existing: Existing,
        watcher: Watcher,
    ) -> None:
        self.folder = folder
        self.options = options
        self.overrides = overrides
        self.existing = existing
        self.watcher = watcher
        self.outcomes: list[SeriesOutcome] = []

    def _options_for(self, name: str) -> MethodOptions:
        return self.overrides.get(name, self.options)

    def _work(self, name: str) -> Mapping[str, Any]:
        options = self._options_for(name)
        return {
            "method": method_of(options).name,
            "options": options.model_dump(mode="json"),
            "version": version("napari-tiltalign"),
        }

    def all(self, dataset: Dataset) -> Summary:
        total = len(dataset) + len(dataset.failed)
        for number, series in enumerate(dataset, start=1):
            self.watcher.begins(series.name, number, total)
            self._ended(self._one(series))
        for name, reason in dataset.failed.items():
            write_series_failure(self.folder, name, reason)
            self._ended(SeriesOutcome(name, failure=reason))
        return Summary(self.folder, tuple(self.outcomes))

    def _ended(self, outcome: SeriesOutcome) -> None:
        self.outcomes.append(outcome)
        self.watcher.ended(outcome)

    def _one(self, series: TiltSeries) -> SeriesOutcome:
        began = time.monotonic()
        fingerprint = work_fingerprint(series, self._work(series.name))
        if self.existing is Existing.RESUME and (kept := self._kept(series.name, fingerprint)):
            return SeriesOutcome(series.name, kept, kept=True)
        alignment, failure = self._align(series)
        losses = _NOTHING_LOST
        if alignment is not None:
            try:
                losses = write_series_result(self.folder, series, alignment, fingerprint)
            except TiltAlignError as error:
                alignment, failure = None, _reason(error, series.name)
        if alignment is None:
            write_series_failure(self.folder, series.name, failure)
        return SeriesOutcome(series.name, alignment, failure, False, time.monotonic() - began, losses)

    def _kept(self, name: str, fingerprint: str) -> Alignment | None:
        """Alignment of an earlier run, if it was made in the same way and all its files are intact."""
        state = SeriesState.read(self.folder.state_file(name))
        if state is None or state.fingerprint != fingerprint or not state.is_intact(self.folder.root):
            return None
        return read_record(self.folder.alignment_record(name))

    def _align(self, series: TiltSeries) -> tuple[Alignment | None, str]:
        """Align a series; whatever goes wrong with it is its own affair, unless somebody wants to stop."""
        try:
            return align(series, self._options_for(series.name), progress=self.watcher.progress), ""
        except Cancelled:
            raise
        except TiltAlignError as error:
            return None, _reason(error, series.name)
        except MemoryError:
            return None, "not enough memory; use images that are binned more"
        except Exception as error:  # a bug, which must not cost the user the other series
            _log.exception("%s: internal error", series.name)
            return None, f"internal error, please report it with the log: {type(error).__name__}: {error}"


def _reason(error: TiltAlignError, series_name: str) -> str:
    """Say what went wrong, without the name of the series, which stands beside it wherever it is shown."""
    return error.problem if isinstance(error, BadTiltSeries) else str(error).removeprefix(f"{series_name}: ")


class _RunRecord:
    """``run.json``: what was asked for, with what, when, and what came of it."""

    def __init__(
        self,
        folder: OutputFolder,
        source: str,
        options: MethodOptions,
        overrides: Mapping[str, MethodOptions],
        command: tuple[str, ...],
    ) -> None:
        self.path = folder.run_record
        self.began = datetime.now(UTC)
        self.facts: Mapping[str, Any] = {
            "command": command,
            "input": source,
            "method": method_of(options).name,
            "options": options.model_dump(mode="json"),
            **({"overrides": {n: o.model_dump(mode="json") for n, o in overrides.items()}} if overrides else {}),
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("napari-tiltalign", "numpy", "scipy", "numba")},
            },
        }

    def write(self, status: str, outcomes: Iterable[SeriesOutcome]) -> None:
        ended = datetime.now(UTC)
        record = {
            **self.facts,
            "status": status,
            "began": self.began.isoformat(timespec="seconds"),
            "ended": ended.isoformat(timespec="seconds"),
            "seconds": round((ended - self.began).total_seconds(), 1),
            "series": {outcome.name: _as_recorded(outcome) for outcome in outcomes},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _as_recorded(outcome: SeriesOutcome) -> dict[str, Any]:
    if outcome.alignment is None:
        return {"result": "failed", "reason": outcome.failure, "seconds": round(outcome.seconds, 1)}
    lost = {suffix: [str(loss) for loss in losses] for suffix, losses in outcome.losses.items()}
    result = "kept" if outcome.kept else "aligned"
    return {"result": result, "seconds": round(outcome.seconds, 1), "not_in_file": lost}
