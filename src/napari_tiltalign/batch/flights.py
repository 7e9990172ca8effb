"""Jobs on a Dask cluster: one task for each series, with progress, and with workers that may die."""

from __future__ import annotations

import queue
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker
from distributed.comm.core import CommClosedError

from napari_tiltalign.batch.clusters import Crew, host_of, open_crew
from napari_tiltalign.batch.job import SeriesJob, internal_error, record_failure
from napari_tiltalign.batch.outcome import SeriesOutcome, Watcher
from napari_tiltalign.batch.placement import Placement
from napari_tiltalign.batch.plan import Plan
from napari_tiltalign.batch.worker import end_process, work
from napari_tiltalign.errors import Cancelled
from napari_tiltalign.io.run_lock import RunLock

if TYPE_CHECKING:
    from distributed import Future

_TICK_S = 0.2
_LAST_WORDS_S = 4.0
"""How long workers may take to notice that the run stops, before they are killed."""
_FETCH_S = 3.0
"""How long the result of a finished series may take to come over."""
HEAL_EVERY_S = 5.0
"""How often it is looked whether all workers are there."""
_ATTEMPTS = 2
"""A series whose worker dies gets another one, once."""
_MOST_BAD_LUCK = 5
"""How often a series may lose its worker before it has begun there."""
_BAD_HOST = 2
"""A host on which the workers of so many different series have died gets no more series."""


@dataclass(slots=True)
class _Flight:
    """A job on its way."""

    job: SeriesJob
    number: int
    memory_bytes: float
    attempts: int = 0
    bad_luck: int = 0
    future: Future[SeriesOutcome] | None = None
    worker: str = ""
    last_word: float = 0.0
    problem: str = ""

    @property
    def has_begun(self) -> bool:
        return bool(self.worker)


def fly(
    jobs: Sequence[SeriesJob],
    plan: Plan,
    placement: Placement,
    lock: RunLock,
    watcher: Watcher,
    ended: Callable[[SeriesOutcome], None],
) -> None:
    """Do all jobs on a cluster; see `napari_tiltalign.batch.engine.run_jobs`."""
    watcher.check()
    with open_crew(placement, plan, lock.path.parent) as (crew, notices):
        for notice in notices:
            watcher.notice(notice)
        control = _Control(crew, jobs, plan, placement, lock, watcher, ended)
        try:
            control.run()
        except BaseException:
            lock.say_stopping()
            control.wait_for_last_words()
            raise


class _Control:
    """Gives jobs to the workers and hears from them; all in the caller's thread."""

    def __init__(
        self,
        crew: Crew,
        jobs: Sequence[SeriesJob],
        plan: Plan,
        placement: Placement,
        lock: RunLock,
        watcher: Watcher,
        ended: Callable[[SeriesOutcome], None],
    ) -> None:
        self._crew = crew
        self._placement = placement
        self._lock = lock
        self._watcher = watcher
        self._ended = ended
        self._total = len(plan.series)
        memory = {one.name: one.memory_bytes for one in plan.to_align}
        first = self._total - len(jobs) + 1
        self._waiting = deque(_Flight(job, number, memory[job.name]) for number, job in enumerate(jobs, first))
        self._flying: dict[str, _Flight] = {}
        self._told: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._topic = f"tiltalign-{secrets.token_hex(8)}"
        self._deaths: defaultdict[str, set[str]] = defaultdict(set)
        self._healed = time.monotonic()
        self._folder = str(Path.cwd()) if placement.is_remote else ""

    def run(self) -> None:
        self._crew.client.subscribe_topic(self._topic, lambda event: self._told.put(("event", event[1])))
        while self._waiting or self._flying:
            self._lock.check()
            self._watcher.check()
            self._crew.check()
            if time.monotonic() - self._healed >= HEAL_EVERY_S:
                self._healed = time.monotonic()
                self._crew.heal()
            self._launch()
            self._listen()
            self._give_up_stalled()

    def wait_for_last_words(self) -> None:
        """Give workers a moment to stop by themselves, with what they have started."""
        limit = time.monotonic() + _LAST_WORDS_S
        begun = [flight.future for flight in self._flying.values() if flight.has_begun and flight.future]
        with suppress(Exception):
            for flight in self._flying.values():
                if flight.future and not flight.has_begun:
                    flight.future.cancel()
        while time.monotonic() < limit and any(not future.done() for future in begun):
            time.sleep(_TICK_S / 2)

    def _launch(self) -> None:
        """Send jobs off while there is room; never more than can run, so a dead worker takes one series with it."""
        while self._waiting and len(self._flying) < self._crew.n_places():
            flight = self._waiting.popleft()
            key = f"{self._topic}-{flight.number}-{flight.attempts}-{flight.bad_luck}"
            hosts = self._good_addresses(flight) if self._deaths else None
            flight.worker = ""
            flight.future = self._crew.client.submit(
                work, flight.job, key, self._topic, self._folder, key=key, pure=False, workers=hosts,
                allow_other_workers=hosts is not None,
            )  # fmt: skip
            self._flying[key] = flight
            flight.future.add_done_callback(lambda future: self._told.put(("done", future.key)))

    def _good_addresses(self, flight: _Flight) -> list[str] | None:
        """Return workers on hosts where neither this series nor several others lost theirs; None if there are none."""
        bad = {h for h, names in self._deaths.items() if len(names) >= _BAD_HOST or flight.job.name in names}
        return [address for address in self._crew.addresses() if host_of(address) not in bad] or None

    def _listen(self) -> None:
        """Hear what has happened, waiting a moment for the first of it."""
        with suppress(queue.Empty):
            kind, told = self._told.get(timeout=_TICK_S)
            while True:
                if kind == "done":
                    self._on_done(told)
                else:
                    self._on_event(told)
                kind, told = self._told.get_nowait()

    def _on_event(self, event: dict[str, Any]) -> None:
        flight = self._flying.get(event["key"])
        if flight is None:
            return
        flight.last_word = time.monotonic()
        if not flight.has_begun:
            flight.worker = event["worker"]
            flight.attempts += 1
            if flight.attempts == 1:
                self._watcher.begins(flight.job.name, flight.number, self._total)
        self._watcher.progress(flight.job.name, event["fraction"], event["message"])

    def _on_done(self, key: str) -> None:
        flight = self._flying.get(key)
        if flight is None or flight.future is None:
            return
        future, flight.future = flight.future, None
        if future.status == "finished":
            del self._flying[key]
            try:
                outcome = future.result(timeout=_FETCH_S)
            except (TimeoutError, CancelledError):
                # its worker died between finishing and handing over; what it has written is written again, the same
                future.cancel()
                self._again_or_fail(flight, "its worker process died before it could hand over the result")
            else:
                self._ended(outcome)
        elif future.status == "error":
            error = future.exception()
            del self._flying[key]
            self._on_error(flight, error)
        else:  # the scheduler has lost it
            del self._flying[key]
            self._crew.check()
            self._again_or_fail(flight, "the scheduler has lost it")

    def _on_error(self, flight: _Flight, error: BaseException) -> None:
        if isinstance(error, KilledWorker):
            address = getattr(error.last_worker, "address", "") or flight.worker
            if flight.has_begun:
                self._deaths[host_of(address)].add(flight.job.name)
            stalled, flight.problem = flight.problem, ""
            self._again_or_fail(flight, stalled or "its worker process died", elsewhere=error.allowed_failures == 0,
                                may_bin=not stalled)  # fmt: skip
        elif isinstance(error, (Cancelled, OSError)):
            self._lock.check()
            raise error
        else:
            self._fail(flight, internal_error(error))

    def _again_or_fail(self, flight: _Flight, problem: str, *, elsewhere: bool = True, may_bin: bool = False) -> None:
        """Try once more, unless that was done; a series that had not begun yet has done nothing wrong."""
        if not flight.has_begun:
            flight.bad_luck += 1
        may_retry = flight.attempts < _ATTEMPTS or not flight.has_begun
        if elsewhere and may_retry and flight.bad_luck < _MOST_BAD_LUCK:
            self._watcher.notice(f"{flight.job.name}: {problem}; it is tried once more")
            self._waiting.appendleft(flight)
        elif may_bin and flight.has_begun and (smaller := flight.job.smaller()) is not None:
            self._watcher.notice(f"{flight.job.name}: {problem}; it is tried with images binned by {smaller.binning}")
            flight.job = smaller
            self._waiting.appendleft(flight)
        else:
            self._fail(flight, f"{problem}, more than once; a worker that is killed most often lacks memory (the "
                       f"series was estimated to need {flight.memory_bytes / 1e9:.1f} GB): use images that are binned "
                       "more (--too-large bin does that), fewer workers (--workers) or more memory")  # fmt: skip

    def _fail(self, flight: _Flight, reason: str) -> None:
        record_failure(flight.job.folder, flight.job.name, reason)
        self._ended(SeriesOutcome(flight.job.name, reason))

    def _give_up_stalled(self) -> None:
        """End the workers of series that have not been heard of for long; the rest happens as if they had died."""
        limit_s = self._placement.stall_minutes * 60.0
        now = time.monotonic()
        for flight in self._flying.values():
            if limit_s and flight.has_begun and now - flight.last_word > limit_s:
                flight.problem = f"it has reported no progress for {limit_s / 60.0:g} minutes"
                flight.last_word = now
                with suppress(OSError, CommClosedError):  # it may be gone already
                    self._crew.client.run(end_process, workers=[flight.worker], wait=False)
