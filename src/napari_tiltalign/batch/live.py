"""Align series while they are collected: each as soon as it is complete, and once more if it grows later."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from napari_tiltalign.api import method_of
from napari_tiltalign.batch.arrivals import Look, Place, Sight, file_facts
from napari_tiltalign.batch.attention import attentive
from napari_tiltalign.batch.outcome import SeriesOutcome, Summary, Watcher
from napari_tiltalign.batch.placement import Placement
from napari_tiltalign.batch.plan import Existing, Request, make_plan
from napari_tiltalign.batch.record import RunRecord
from napari_tiltalign.batch.run import Run, make_request
from napari_tiltalign.batch.starts import check_start, files_of_start, start_file
from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io.output import write_tables_again
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.run_lock import RunLock
from napari_tiltalign.methods.base import MethodOptions, Progress, check_usable
from napari_tiltalign.model import Dataset, TiltSeries

WATCHING = "watching"
"""What ``run.json`` says of a run that goes on."""
_SLICE_S = 0.25
_REST = 4.0
"""A look at a slow disk is followed by a pause of at least so many times its length."""
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Patience:
    """When a series counts as complete, and when the watch ends.

    Attributes
    ----------
    settle_minutes
        A series is complete when nothing of it has changed for so long.
    images
        A series with so many images is complete as soon as two looks agree; 0 if the number is not known.
    poll_seconds
        Pause between looks.
    end_after_minutes
        The watch ends when everything is done and nothing has changed for so long; 0 for never.
    """

    settle_minutes: float = 10.0
    images: int = 0
    poll_seconds: float = 10.0
    end_after_minutes: float = 0.0


class Clock:
    """Time as it passes; a test brings its own."""

    def now_s(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


_UNTIL_STOPPED = Patience()
_ANYWHERE = Placement(isolate=True)


def watch(
    place: Place,
    options: MethodOptions,
    directory: Path,
    *,
    patience: Patience = _UNTIL_STOPPED,
    only: Iterable[str] = (),
    start: Path | None = None,
    placement: Placement = _ANYWHERE,
    command: Sequence[str] = (),
    watcher: Watcher | None = None,
    refresh: Callable[[Progress], None] | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Align series as they arrive, until somebody stops it.

    A series is complete when its files fit together (every image that is listed is there, with an angle each) and
    nothing of it has changed for `Patience.settle_minutes`; or another series was still written to so long after it;
    or it has `Patience.images` images. One that stays incomplete for so long is done as `align_dataset` would do it:
    without what is missing, or it fails with the reason. Changes are told from sizes and times of change of the
    files, which are compared with each other and never with a clock of this machine. The alignment that a series starts
    from is part of it: it is waited for, and a series is aligned again when it changes.

    After every series the tables and ``run.json`` are brought up to date. Nothing needs to be remembered for a restart:
    what is done is verified on the disk, as by `align_dataset`.

    Parameters
    ----------
    place
        Where series arrive.
    options
        Options of the method to use.
    directory
        Output folder.
    patience
        When a series is complete.
    only
        Names of the series to do, which need not be there yet; all if empty. What the folder has of the others stays in
        the tables.
    start
        Alignment file to start from, or a folder of results with one for every series, which may be still to come.
    placement
        Where the work is done.
    command
        The command that asked for it, for the record.
    watcher
        Told how it goes.
    refresh
        Called whenever the tables have changed, to bring up to date what else there is. It should call what it is given
        several times a second, as a method does its progress, so that the watch can be stopped meanwhile.
    clock
        For tests.

    Returns
    -------
    Summary
        Every series that was aligned, has failed or was kept, if the watch ends by itself.

    Raises
    ------
    BadInput
        If another run works in the folder, it holds results that should not be replaced unasked, or nothing can be
        started from what is given for that.
    ProgramMissing
        If a program, or a GPU, that is asked for is not there.
    Cancelled
        If the watcher or a stop marker asked to stop, which is how a watch usually ends. What is done is kept.
    OSError
        If the disk is full or the folder cannot be written to, or a cluster was lost.
    """
    if placement.scheduler in ("local", "serial"):
        check_usable(method_of(options), options)
    wanted = frozenset(only)
    if start is not None:
        check_start(start, directory, len(wanted) or math.inf)
    with RunLock(directory) as lock:
        told, time_from = watcher or Watcher(), clock or Clock()
        follower = _Follower(place, options, directory, patience, wanted, start, placement, lock, told, time_from)
        record = RunRecord(follower.request(Dataset((), source=str(place.path)), ()), tuple(command))
        try:
            with attentive(lock):
                while not follower.is_over():
                    if follower.step():
                        record.write(WATCHING, follower.summary().outcomes)
                        if refresh is not None and follower.summary().outcomes:
                            refresh(follower.look_up)
                    follower.pause()
            record.write("finished", follower.summary().outcomes)
        except BaseException as error:
            record.write_end(error, follower.summary().outcomes)
            raise
    return follower.summary()


@dataclass(slots=True)
class _Seen:
    """What was seen of a series in the last looks: how long it has been as it is."""

    trace: str
    since_s: float
    looks: int = 1


class _Follower:
    """Looks again and again, and has those series aligned that are complete."""

    def __init__(
        self,
        place: Place,
        options: MethodOptions,
        directory: Path,
        patience: Patience,
        only: Set[str],
        start: Path | None,
        placement: Placement,
        lock: RunLock,
        watcher: Watcher,
        clock: Clock,
    ) -> None:
        self._place = place
        self._options = options
        self._folder = OutputFolder(directory)
        self._patience = patience
        self._only = only
        self._start = start
        self._placement = placement
        self._lock = lock
        self._watcher = watcher
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._done: dict[str, str] = {}  # name to its trace when it was aligned
        self._outcomes: dict[str, SeriesOutcome] = {}
        self._known: dict[str, TiltSeries] = {}  # those with an outcome, should their files be moved away
        self._is_first = True
        self._changed_s = clock.now_s()
        self._look_s = 0.0
        self._told = ""

    def request(self, dataset: Dataset, names: Sequence[str]) -> Request:
        """What a run over some series is asked for."""
        request = make_request(
            dataset, self._options, self._folder.root, names, {}, Existing.RESUME, None, self._placement
        )
        return replace(request, chosen=dataset.only(names), start=self._start)

    def summary(self) -> Summary:
        """What has become of the series so far."""
        return Summary(self._folder, tuple(self._outcomes.values()))

    def is_over(self) -> bool:
        """Whether everything is done, and nothing has come for long."""
        wait_s = self._patience.end_after_minutes * 60.0
        pending = any(self._done.get(name) != seen.trace for name, seen in self._seen.items())
        return bool(wait_s) and not pending and self._clock.now_s() - self._changed_s >= wait_s

    def step(self) -> bool:
        """Look once and align what is complete; return whether anything was done."""
        self._check()
        look = self._look()
        if look is None:
            return False
        begins, self._is_first = self._is_first, False
        if begins:
            self._recognize(look)
        self._notice_changes(look)
        ready = [name for name in self._wanted(look) if self._is_ready(name, look)]
        if ready:
            self._align(look, ready)
        self._tell(look)
        return begins or bool(ready)

    def pause(self) -> None:
        """Wait until it is time for the next look, ready to stop at any time."""
        end_s = self._clock.now_s() + max(self._patience.poll_seconds, _REST * self._look_s)
        while (left_s := end_s - self._clock.now_s()) > 0:
            self._check()
            self._clock.sleep(min(left_s, _SLICE_S))

    def look_up(self, fraction: float, message: str) -> None:
        """Stop if that is asked for, during something else that takes long."""
        self._check()

    def _check(self) -> None:
        self._lock.check()
        self._watcher.check()

    def _look(self) -> Look | None:
        """Look once; None if nothing can be seen just now, which may be otherwise the next time."""
        began_s = self._clock.now_s()
        try:
            look = self._place.look()
            sights = {name: self._with_start(name, sight) for name, sight in look.sights.items()}
            return replace(look, sights=sights)
        except (BadInput, OSError) as error:
            self._tell_once(f"cannot be read just now: {error}")
            return None
        finally:
            self._look_s = self._clock.now_s() - began_s

    def _with_start(self, name: str, sight: Sight) -> Sight:
        """Let the alignment that a series starts from be one of its files."""
        if self._start is None:
            return sight
        try:
            file = start_file(self._start, name)
        except BadTiltSeries as error:
            return replace(sight, lacks=sight.lacks or error.problem)
        facts = [file_facts(part) for part in files_of_start(file)]
        changed_ns = max(sight.changed_ns, *(changed for _, changed in facts))
        return replace(sight, trace=f"{sight.trace} from {file} {facts}", changed_ns=changed_ns)

    def _wanted(self, look: Look) -> list[str]:
        """Names of the series that are there and should be done."""
        return [name for name in look.sights if not self._only or name in self._only]

    def _recognize(self, look: Look) -> None:
        """Find out what earlier runs have done, and let the tables say so."""
        plan = make_plan(self.request(look.dataset, self._wanted(look)))
        for planned in plan.series:
            if planned.outcome is not None and not planned.outcome.failure:
                self._done[planned.name] = look.sights[planned.name].trace
                self._outcomes[planned.name] = planned.outcome
                self._watcher.ended(planned.outcome)
        self._remember(look)
        if self._folder.has_results():
            write_tables_again(self._folder, look.dataset, set(self._outcomes), {})

    def _notice_changes(self, look: Look) -> None:
        now_s = self._clock.now_s()
        wanted = self._wanted(look)
        for name in wanted:
            sight, seen = look.sights[name], self._seen.get(name)
            if seen is None or seen.trace != sight.trace:
                self._seen[name] = _Seen(sight.trace, now_s)
                self._changed_s = now_s
            else:
                seen.looks += 1
        self._seen = {name: seen for name, seen in self._seen.items() if name in wanted}

    def _is_ready(self, name: str, look: Look) -> bool:
        seen, sight = self._seen[name], look.sights[name]
        if self._done.get(name) == sight.trace or seen.looks < 2:
            return False
        settle_s = self._patience.settle_minutes * 60.0
        if self._clock.now_s() - seen.since_s >= settle_s:
            return True
        if sight.lacks:
            return False
        others_ns = max((other.changed_ns for key, other in look.sights.items() if key != name), default=0)
        return (0 < self._patience.images <= sight.n_images) or others_ns - sight.changed_ns >= settle_s * 1e9 > 0

    def _align(self, look: Look, names: Sequence[str]) -> None:
        there = look.sights.keys()
        gone = [series for name, series in self._known.items() if name not in there]
        dataset = replace(look.dataset, series=(*look.dataset.series, *gone))
        request = self.request(dataset, names)
        run = Run(request, make_plan(request), self._lock, self._watcher, keep_tables=True)
        try:
            run.do()
        finally:
            for outcome in run.summary().outcomes:
                self._outcomes[outcome.name] = outcome
                self._done[outcome.name] = look.sights[outcome.name].trace
        self._remember(look)
        self._changed_s = self._clock.now_s()

    def _remember(self, look: Look) -> None:
        self._known.update({series.name: series for series in look.dataset if series.name in self._outcomes})

    def _tell(self, look: Look) -> None:
        summary = self.summary()
        waiting = [
            f"{name} ({look.sights[name].lacks or f'{look.sights[name].n_images} images'})"
            for name in self._wanted(look)
            if self._done.get(name) != look.sights[name].trace
        ]
        waiting += [f"{name} (not there yet)" for name in sorted(self._only - look.sights.keys() - self._known.keys())]
        more = f" and {len(waiting) - _MOST_NAMED} more" if len(waiting) > _MOST_NAMED else ""
        for_what = ", ".join(waiting[:_MOST_NAMED]) + more or "new series"
        self._tell_once(f"{len(summary.aligned)} aligned, {len(summary.failed)} failed, waiting for {for_what}")

    def _tell_once(self, message: str) -> None:
        if message != self._told:
            self._told = message
            self._watcher.waiting(message)
