"""The jobs of a run, done in this process one after another, or by workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from napari_tiltalign.batch.job import SeriesJob, do_series
from napari_tiltalign.batch.outcome import SeriesOutcome, Watcher
from napari_tiltalign.batch.placement import Placement
from napari_tiltalign.batch.plan import Plan
from napari_tiltalign.io.run_lock import RunLock

Ended = Callable[[SeriesOutcome], None]


def run_jobs(
    jobs: Sequence[SeriesJob], plan: Plan, placement: Placement, lock: RunLock, watcher: Watcher, ended: Ended
) -> None:
    """Do all jobs where they are meant to be done.

    A single series is aligned in this process: to start another would take longer than many a series, and there are no
    others that its end could harm.

    Parameters
    ----------
    jobs
        What to do.
    plan
        How many at a time.
    placement
        Where.
    lock
        The run's claim on the output folder.
    watcher
        Told what begins and how far it is.
    ended
        Told what came of every job, as soon as it is done.

    Raises
    ------
    Cancelled
        If the watcher or a stop marker asked to stop.
    OSError
        If the disk is full or read-only, or a cluster was lost.
    """
    total = len(plan.series)
    alone = placement.scheduler == "local" and len(jobs) == 1 and not placement.gpus and not placement.isolate
    if placement.scheduler == "serial" or alone:
        for number, job in enumerate(jobs, start=total - len(jobs) + 1):
            _do_here(job, number, total, lock, watcher, ended)
    elif jobs:
        from napari_tiltalign.batch.flights import fly  # Dask takes a second to import

        fly(jobs, plan, placement, lock, watcher, ended)


def _do_here(job: SeriesJob, number: int, total: int, lock: RunLock, watcher: Watcher, ended: Ended) -> None:
    """Do a job in this process."""

    def progress(fraction: float, message: str) -> None:
        lock.check()
        watcher.check()
        watcher.progress(job.name, fraction, message)

    lock.check()
    watcher.check()
    watcher.begins(job.name, number, total)
    ended(do_series(job, progress))
