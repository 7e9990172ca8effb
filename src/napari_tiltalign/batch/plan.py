"""What there is to do in a run, what it takes, and what of earlier runs is kept."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from napari_tiltalign.api import method_of
from napari_tiltalign.batch.demands import machine_memory_bytes, memory_bytes, raw_bytes, typical_seconds
from napari_tiltalign.batch.job import MOST_BINNING, binned_fingerprint, binned_work, internal_error, reason_of
from napari_tiltalign.batch.outcome import SeriesOutcome
from napari_tiltalign.batch.placement import Placement
from napari_tiltalign.batch.starts import start_digest, start_file
from napari_tiltalign.errors import BadInput, TiltAlignError
from napari_tiltalign.images.compute import available_cpus
from napari_tiltalign.io.files import read_facts
from napari_tiltalign.io.fingerprint import work_fingerprint
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.series_state import SeriesState
from napari_tiltalign.io.star import can_hold
from napari_tiltalign.methods.base import MethodOptions
from napari_tiltalign.methods.binned import binned_series
from napari_tiltalign.model import Dataset, TiltSeries

_log = logging.getLogger(__name__)
_USABLE_PART_OF_MEMORY = 0.9
_BINNINGS = (2, MOST_BINNING)
_READERS = 8
"""Threads that verify checksums of earlier results."""


class Existing(StrEnum):
    """What to do with results that the output folder holds already."""

    RESUME = "resume"
    """Keep what is done in exactly this way and intact, and what a person has made; do what is missing, has failed or
    has changed."""
    KEEP_OLDER = "keep older"
    """As `RESUME`, and keep what another version of this package has done in the same way."""
    OVERWRITE = "overwrite"
    """Do everything again."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a run is asked for; see `napari_tiltalign.batch.align_dataset`.

    Attributes
    ----------
    dataset, chosen
        All that the tables may list, and the part of it to do.
    """

    dataset: Dataset
    chosen: Dataset
    options: MethodOptions
    overrides: Mapping[str, MethodOptions]
    folder: OutputFolder
    existing: Existing
    start: Path | None
    placement: Placement

    def options_for(self, name: str) -> MethodOptions:
        """Options for a series."""
        return self.overrides.get(name, self.options)


@dataclass(frozen=True, slots=True)
class PlannedSeries:
    """What is to be done with one series.

    Attributes
    ----------
    name
        Name of the series.
    why
        Why it is aligned, kept or refused, in a few words.
    series
        The series; None if it could not be read.
    fingerprint, work
        What is done; see `SeriesState`.
    start
        Alignment file to start from.
    memory_bytes
        Estimate of the most memory that it takes; 0 if it is not aligned.
    binning
        By how much its images will be binned, so that it fits into the memory.
    outcome
        What became of it already: it is kept, or cannot be aligned.
    older
        Version of this package that has done just this, where it is done again for no other reason.
    """

    name: str
    why: str
    series: TiltSeries | None = None
    fingerprint: str = ""
    work: str = ""
    start: Path | None = None
    memory_bytes: float = 0.0
    binning: int = 1
    outcome: SeriesOutcome | None = None
    older: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do in a run.

    Attributes
    ----------
    series
        Every series that was chosen, in the order of the input.
    workers
        How many are aligned at a time.
    threads
        How many cores each may use; 0 if the worker is to decide.
    memory_limit_bytes
        What a worker may take; 0 if it is not known.
    seconds
        Estimate of the time; NaN if nothing is known.
    seconds_from
        What that is judged by: the ``earlier run`` with the same method in the folder, or else what is ``typical``.
    """

    series: tuple[PlannedSeries, ...]
    workers: int
    threads: int
    memory_limit_bytes: float
    seconds: float
    seconds_from: str = ""

    @property
    def to_align(self) -> tuple[PlannedSeries, ...]:
        """Series that are to be aligned."""
        return tuple(one for one in self.series if one.outcome is None)

    @property
    def notice(self) -> str:
        """What a person should know before the work begins; empty if there is nothing."""
        older = sorted({one.older for one in self.to_align if one.older})
        if not older:
            return ""
        count = sum(bool(one.older) for one in self.to_align)
        return (
            f"{count} of {len(self.series)} series were aligned in just this way by version {', '.join(older)}, and "
            f"are aligned again by version {version('napari-tiltalign')}; --keep-older keeps such results"
        )

    @property
    def memory_bytes(self) -> float:
        """Estimate of the most memory that all workers take together."""
        largest = sorted((one.memory_bytes for one in self.to_align), reverse=True)
        return sum(largest[: self.workers])


def make_plan(request: Request) -> Plan:
    """Find out what there is to do. Nothing is written.

    Raises
    ------
    BadInput
        If the folder holds results that a run like this should not replace unasked.
    """
    states = {series.name: SeriesState.read(request.folder.state_file(series.name)) for series in request.chosen}
    if request.existing is not Existing.OVERWRITE:
        _check_results_of_others(request, states)
    with ThreadPoolExecutor(_READERS) as pool:
        planned = list(pool.map(lambda one: _planned(request, one, states[one.name]), request.chosen))
    workers, threads, limit = _crew(request.placement, [one for one in planned if one.outcome is None], request)
    planned = [_with_memory(request, one, threads, limit) for one in planned]
    unread = [
        PlannedSeries(name, "cannot be read", outcome=SeriesOutcome(name, reason))
        for name, reason in request.chosen.failed.items()
    ]
    seconds, seconds_from = _estimated_seconds(request, planned, workers, threads)
    return Plan((*planned, *unread), workers, threads, limit, seconds, seconds_from)


def _check_results_of_others(request: Request, states: Mapping[str, SeriesState | None]) -> None:
    """Refuse to replace what another method has made, and tables that list other series."""
    root = request.folder.root
    for name, state in states.items():
        method = method_of(request.options_for(name)).name
        made_by = state.work.partition("/")[0] if state and not state.failure else ""
        if made_by not in ("", method):
            raise BadInput(f"{root} holds results of the method {made_by}, such as {name}; choose another output "
                           "folder or replace them (--overwrite)")  # fmt: skip
    listed = (*(series.name for series in request.dataset), *request.dataset.failed)
    known = any(states.values()) or any(request.folder.state_file(name).is_file() for name in listed)
    if states and not known and request.folder.has_results():
        raise BadInput(f"{root} holds results of other series, and its tables would not list them any more; choose "
                       "another output folder or replace the tables (--overwrite)")  # fmt: skip


def _planned(request: Request, series: TiltSeries, state: SeriesState | None) -> PlannedSeries:
    if not can_hold(series.name):
        refused = SeriesOutcome(series.name, "its name cannot stand in a STAR file; rename its files")
        return PlannedSeries(series.name, "cannot be named", outcome=refused)
    options = request.options_for(series.name)
    facts = {
        "method": method_of(options).name,
        "options": options.model_dump(mode="json"),
        "version": version("napari-tiltalign"),
    }
    work = f"{facts['method']}/{_digest({**facts, 'started': request.start is not None})}"
    start = None
    if request.start is not None:
        try:
            start = start_file(request.start, series.name)
            facts["start"] = start_digest(start, series)
        except TiltAlignError as error:
            return _cannot_start(series.name, reason_of(error, series.name))
        except OSError as error:
            return _cannot_start(series.name, str(error))
        except Exception as error:  # a bug, which must not cost the user the other series
            _log.exception("%s: internal error", series.name)
            return _cannot_start(series.name, internal_error(error))
    fingerprint = work_fingerprint(series, facts)
    older = _older_version(request, series, state, facts)
    why, kept = _verdict(request, state, fingerprint, work, older)
    outcome = None
    if kept and state is not None:
        older = ""
        record = request.folder.alignment_record(series.name)
        outcome = SeriesOutcome(series.name, "", record, state.facts, kept)
    return PlannedSeries(series.name, why, series, fingerprint, work, start, outcome=outcome, older=older)


def _cannot_start(name: str, reason: str) -> PlannedSeries:
    return PlannedSeries(name, "nothing to start from", outcome=SeriesOutcome(name, reason))


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _older_version(request: Request, series: TiltSeries, state: SeriesState | None, facts: Mapping[str, Any]) -> str:
    """Version of this package that has done to a series just what is asked for, if it is another than this one."""
    if state is None or state.version in ("", facts["version"]) or state.failure:
        return ""
    theirs = work_fingerprint(series, {**facts, "version": state.version})
    return state.version if state.fingerprint in _fingerprints(theirs, request.placement) else ""


def _fingerprints(fingerprint: str, placement: Placement) -> dict[str, int]:
    """Fingerprints of what may be done with a series, and by how much its images are binned for it."""
    binnings = (1, *_BINNINGS) if placement.too_large == "bin" else (1,)
    return {binned_fingerprint(fingerprint, binning): binning for binning in binnings}


def _verdict(request: Request, state: SeriesState | None, fingerprint: str, work: str, older: str) -> tuple[str, str]:
    """Say why a series is aligned, or why it is kept."""
    if state is None:
        return "new", ""
    if request.existing is Existing.OVERWRITE:
        return "to be overwritten", ""
    if state.failure:
        return ("was not finished" if state.failure == SeriesState.NOT_FINISHED else "failed before"), ""
    if not state.is_intact(request.folder.root):
        return "its files were changed or lost", ""
    if state.is_by_hand:
        return "kept", "made by hand, kept (--overwrite replaces it)"
    if binning := _fingerprints(fingerprint, request.placement).get(state.fingerprint):
        return "kept", "kept from an earlier run" + (f", binned by {binning}" if binning > 1 else "")
    if older and request.existing is Existing.KEEP_OLDER:
        return "kept", f"kept from an earlier run, by version {older}"
    if older:
        return f"was made by version {older}", ""
    same = state.work in {binned_work(work, binning) for binning in (1, *_BINNINGS)}
    changed = "its images, or what it starts from, have changed" if same else "options or version have changed"
    return changed, ""


def _crew(placement: Placement, todo: Iterable[PlannedSeries], request: Request) -> tuple[int, int, float]:
    """Choose how many series are aligned at a time, with how many cores each, and how much memory each may take."""
    todo = list(todo)
    if placement.scheduler == "slurm":
        slurm = placement.slurm
        return max(1, min(placement.workers or slurm.jobs, len(todo))), slurm.cores, slurm.memory_gb * 1e9
    if placement.is_remote:
        return max(1, placement.workers or len(todo)), 0, placement.memory_gb * 1e9
    cores = available_cpus()
    limit = placement.memory_gb * 1e9 or machine_memory_bytes()
    if placement.scheduler == "serial":
        return 1, cores, limit
    wanted = min(placement.workers or len(placement.gpus) or cores, len(placement.gpus) or len(todo), len(todo))
    needs = [_needs(request, one, 1) for one in todo]
    fitting = [need for need in needs if need <= limit]
    fits = int(_USABLE_PART_OF_MEMORY * limit // max(fitting, default=limit))
    workers = max(1, min(wanted, fits))
    return workers, max(1, cores // workers), limit


def _needs(request: Request, planned: PlannedSeries, threads: int, binning: int = 1) -> float:
    if planned.series is None:
        return 0.0
    options = request.options_for(planned.name)
    series = binned_series(planned.series, binning)
    needed = memory_bytes(method_of(options), series, options, max(1, threads))
    return needed + (0.0 if binning == 1 else raw_bytes(planned.series, max(1, threads)))


def _with_memory(request: Request, planned: PlannedSeries, threads: int, limit_bytes: float) -> PlannedSeries:
    """Estimate the memory of a series that is to be aligned, and refuse it if that is more than there is."""
    if planned.outcome is not None:
        return planned
    planned = replace(planned, memory_bytes=_needs(request, planned, threads))
    if not limit_bytes or planned.memory_bytes <= limit_bytes:
        return planned
    if request.placement.too_large == "bin":
        for binning in _BINNINGS:
            small = _needs(request, planned, threads, binning)
            if small <= limit_bytes:
                why = f"{planned.why}, binned by {binning} because it would need {planned.memory_bytes / 1e9:.1f} GB"
                return replace(planned, memory_bytes=small, binning=binning, why=why)
    needed, limit = f"{planned.memory_bytes / 1e9:.1f} GB", f"{limit_bytes / 1e9:.1f} GB"
    reason = (
        f"it needs about {needed} of memory, and {limit} may be used; use images that are binned more (--too-large bin "
        "does that), or a machine or jobs with more memory (--memory-gb, --slurm-memory-gb)"
    )
    return replace(planned, why="too large for the memory", outcome=SeriesOutcome(planned.name, reason))


def _estimated_seconds(
    request: Request, planned: Sequence[PlannedSeries], workers: int, threads: int
) -> tuple[float, str]:
    """Scale the times of the last run in the folder to the sizes of the series, or say what is typical."""
    sizes = {one.name: _n_pixels(one.series) for one in planned if one.series is not None}
    rates = [seconds / sizes[name] for name, seconds in _earlier_seconds(request).items() if sizes.get(name)]
    todo = [one for one in planned if one.outcome is None and one.series is not None]
    if not todo:
        return 0.0, ""
    if rates:
        times = [statistics.median(rates) * sizes[one.name] for one in todo]
    else:
        times = [_typical_seconds(request, one, threads) for one in todo]
    known = "earlier run" if rates else "" if any(map(math.isnan, times)) else "typical"
    return max(sum(times) / workers, *times), known


def _typical_seconds(request: Request, planned: PlannedSeries, threads: int) -> float:
    options = request.options_for(planned.name)
    return math.nan if planned.series is None else typical_seconds(method_of(options), planned.series, options, threads)


def _earlier_seconds(request: Request) -> dict[str, float]:
    """Seconds of every series that the last run with this method has aligned."""
    try:
        record = read_facts(request.folder.run_record)
        if record["method"] != method_of(request.options).name:
            return {}
        series = record["series"].items()
        return {name: float(one["seconds"]) for name, one in series if one["result"] == "aligned"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _n_pixels(series: TiltSeries | None) -> int:
    if series is None:
        return 0
    return series.image_shape_yx[0] * series.image_shape_yx[1] * int(series.included.sum())
