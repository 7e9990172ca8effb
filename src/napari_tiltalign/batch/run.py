"""The door to runs over many series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType

from napari_tiltalign.api import method_of
from napari_tiltalign.batch.attention import attentive
from napari_tiltalign.batch.engine import run_jobs
from napari_tiltalign.batch.job import SeriesJob, record_failure
from napari_tiltalign.batch.outcome import SeriesOutcome, Summary, Watcher
from napari_tiltalign.batch.placement import Placement, on_every_gpu
from napari_tiltalign.batch.plan import Existing, Plan, PlannedSeries, Request, make_plan
from napari_tiltalign.batch.record import RunRecord
from napari_tiltalign.batch.starts import check_start
from napari_tiltalign.images.compute import check_device
from napari_tiltalign.io.files import remove_leftovers
from napari_tiltalign.io.output import remove_tables, write_tables_again
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.run_lock import RunLock
from napari_tiltalign.io.series_state import SeriesState
from napari_tiltalign.methods.base import MethodOptions, check_usable
from napari_tiltalign.model import Dataset

_NO_OVERRIDES: Mapping[str, MethodOptions] = MappingProxyType({})
_ANYWHERE = Placement()


def align_dataset(
    dataset: Dataset,
    options: MethodOptions,
    directory: Path,
    *,
    only: Iterable[str] = (),
    overrides: Mapping[str, MethodOptions] = _NO_OVERRIDES,
    existing: Existing = Existing.RESUME,
    start: Path | None = None,
    placement: Placement = _ANYWHERE,
    command: Sequence[str] = (),
    watcher: Watcher | None = None,
    lock: RunLock | None = None,
) -> Summary:
    """Align the series of a dataset and write the results.

    Where more than one series is to be aligned, that happens in other processes (see `Placement`). A script that calls
    this must then guard its entry with ``if __name__ == "__main__":``, as for everything that starts processes.

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
        What to do with results that are there already.
    start
        Alignment file to start from, or a folder of results with one for every series.
    placement
        Where the work is done; it does not change the results.
    command
        The command that asked for it, for the record.
    watcher
        Told how it goes.
    lock
        The claim on the folder, if the caller has it already.

    Returns
    -------
    Summary
        What became of every series.

    Raises
    ------
    BadInput
        If another run works in the folder, it holds results that should not be replaced unasked, a name is unknown, or
        the input would be overwritten.
    ProgramMissing
        If a GPU is asked for and there is none, Slurm is and it is not installed, or the method needs a program that
        is not there.
    Cancelled
        If the watcher or a stop marker asked to stop. What is done is kept.
    OSError
        If the disk is full or the folder cannot be written to.
    """
    watcher = watcher or Watcher()
    request = make_request(dataset, options, directory, only, overrides, existing, start, placement)
    with RunLock(request.folder.root) if lock is None else nullcontext(lock) as held:
        record = RunRecord(request, tuple(command))
        plan = make_plan(request)
        if plan.to_align and placement.scheduler in ("local", "serial"):
            check_usable(method_of(options), options)
        run = Run(request, plan, held, watcher)
        try:
            with attentive(held):
                summary = run.do()
            record.write("finished", summary.outcomes)
        except BaseException as error:
            record.write_end(error, run.summary().outcomes)
            raise
    return summary


def plan_dataset(
    dataset: Dataset,
    options: MethodOptions,
    directory: Path,
    *,
    only: Iterable[str] = (),
    overrides: Mapping[str, MethodOptions] = _NO_OVERRIDES,
    existing: Existing = Existing.RESUME,
    start: Path | None = None,
    placement: Placement = _ANYWHERE,
) -> Plan:
    """Say what `align_dataset` would do; nothing is written. Parameters and errors are the same."""
    return make_plan(make_request(dataset, options, directory, only, overrides, existing, start, placement))


def make_request(
    dataset: Dataset,
    options: MethodOptions,
    directory: Path,
    only: Iterable[str],
    overrides: Mapping[str, MethodOptions],
    existing: Existing,
    start: Path | None,
    placement: Placement,
) -> Request:
    """Check what a run is asked for; see `align_dataset` for parameters and errors."""
    chosen = dataset.only(only) if (only := list(only)) else dataset
    folder = OutputFolder(directory)
    if start is not None:
        check_start(start, directory, len(chosen))
    folder.check_foreign_files(chosen)
    if placement.scheduler in ("local", "serial"):
        check_device(placement.device)
    if len(chosen) > 1:
        placement = on_every_gpu(placement)
    return Request(dataset, chosen, options, overrides, folder, existing, start, placement)


def _remove_leftovers(folder: OutputFolder) -> None:
    for place in (folder.root, folder.root / "tilt_series", *folder.root.glob("external/*")):
        remove_leftovers(place)


def _is_kept(planned: PlannedSeries) -> bool:
    return planned.outcome is not None and not planned.outcome.failure


class Run:
    """One run over the chosen series of a dataset, in a folder that is claimed.

    Parameters
    ----------
    request, plan
        What to do.
    lock
        The claim on the folder.
    watcher
        Told how it goes.
    keep_tables
        Whether the tables of the other series stay while some are done again. Otherwise there are none until the end,
        as in RELION's jobs.
    """

    def __init__(
        self, request: Request, plan: Plan, lock: RunLock, watcher: Watcher, *, keep_tables: bool = False
    ) -> None:
        self._request = request
        self._plan = plan
        self._lock = lock
        self._watcher = watcher
        self._keep_tables = keep_tables
        self._outcomes: dict[str, SeriesOutcome] = {}

    def do(self) -> Summary:
        """Align what is to be aligned and write the tables."""
        folder = self._request.folder
        self._watcher.planned(self._plan)
        if notice := self._plan.notice:
            self._watcher.notice(notice)
        _remove_leftovers(folder)
        self._withdraw()
        for planned in self._plan.series:
            if planned.outcome is not None:
                if planned.outcome.failure:
                    record_failure(folder, planned.name, planned.outcome.failure)
                self._ended(planned.outcome)
        jobs = [self._job(planned) for planned in self._plan.to_align]
        run_jobs(jobs, self._plan, self._request.placement, self._lock, self._watcher, self._ended)
        _remove_leftovers(folder)  # of workers that died while they wrote
        summary = self.summary()
        failures = {outcome.name: outcome.failure for outcome in summary.failed}
        write_tables_again(folder, self._request.dataset, {outcome.name for outcome in summary.aligned}, failures)
        return summary

    def summary(self) -> Summary:
        """What has become of the series so far."""
        done = (self._outcomes.get(planned.name) for planned in self._plan.series)
        return Summary(self._request.folder, tuple(outcome for outcome in done if outcome is not None))

    def _withdraw(self) -> None:
        """Let no table list series whose results will be replaced."""
        folder, dataset = self._request.folder, self._request.dataset
        states = {one.name: SeriesState.read(folder.state_file(one.name)) for one in self._plan.series
                  if not _is_kept(one)}  # fmt: skip
        replaced = {name for name, state in states.items() if state is not None and not state.failure}
        if replaced and self._keep_tables:
            names = [*(series.name for series in dataset), *dataset.failed]
            write_tables_again(folder, dataset.only(name for name in names if name not in replaced), (), {})
        elif replaced:
            remove_tables(folder)

    def _ended(self, outcome: SeriesOutcome) -> None:
        self._outcomes[outcome.name] = outcome
        self._watcher.ended(outcome)

    def _job(self, planned: PlannedSeries) -> SeriesJob:
        assert planned.series is not None  # noqa: S101 (what is to be aligned was read)
        return SeriesJob(
            planned.series,
            self._request.options_for(planned.name),
            self._request.folder,
            planned.fingerprint,
            planned.work,
            self._lock.claim,
            planned.start,
            self._plan.threads,
            self._request.placement.device,
            self._request.placement.too_large,
            planned.binning,
        )
