"""Kill runs, workers and schedulers at random moments, and see whether the result is still the same; see the script.

Each round begins in an empty folder. The same command is given again and again, and every time something is killed
(SIGKILL, so nobody can tidy up) at a random moment, until a run ends before its moment has come, or until something was
killed when only the tables were left to do. Then every file must hold the bytes that an undisturbed run in one process
gives. A new round begins, until there were enough kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from simulated_batch import METHOD, contents, small_project

from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.series_state import SeriesState

PROGRAM = (sys.executable, "-c", "import sys; from napari_tiltalign.cli import main; sys.exit(main())")
PATIENCE_S = 300.0
"""Nothing here takes so long, unless it hangs, which is an error as well."""
_LOOK_EVERY_S = 0.02


class Broken(Exception):
    """A promise was not kept."""


@dataclass(frozen=True, slots=True)
class Victim:
    """What is killed: the run, one of its workers or the scheduler; on this machine or on a cluster of its own."""

    what: str
    on_cluster: bool

    def __str__(self) -> str:
        if not self.on_cluster:
            return "the run, with Dask's scheduler in it" if self.what == "run" else "a worker"
        return {"run": "the run", "worker": "a worker"}.get(self.what, "the scheduler") + " of a cluster (tcp://)"


VICTIMS = (
    Victim("run", on_cluster=False),
    Victim("worker", on_cluster=False),
    Victim("run", on_cluster=True),
    Victim("worker", on_cluster=True),
    Victim("scheduler", on_cluster=True),
)


@dataclass(slots=True)
class Tally:
    """What was killed when, and what came of it."""

    kills: int = 0
    rounds: int = 0
    done_at_kill: list[int] = field(default_factory=list)


class Cluster:
    """A Dask scheduler with two workers, as a person would start them; what was killed is started anew."""

    def __init__(self, logs: Path) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._log = (logs / "cluster.log").open("ab")
        self._logs = logs
        self._scheduler = self._workers = None
        self._all: list[subprocess.Popen[bytes]] = []

    def ensure(self) -> None:
        """Start what is not there."""
        port = self.address.rpartition(":")[2]
        if self._scheduler is None or self._scheduler.poll() is not None:
            self._scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
            self._workers = None  # of the old scheduler: they end by themselves
        if self._workers is None or self._workers.poll() is not None:
            place = ("--local-directory", str(self._logs))
            self._workers = self._start("dask_worker", self.address, "--nworkers", "2", "--nthreads", "1", *place)

    def scheduler(self) -> psutil.Process:
        """Return the process of the scheduler."""
        assert self._scheduler is not None  # noqa: S101
        return psutil.Process(self._scheduler.pid)

    def workers(self) -> list[psutil.Process]:
        """Return the processes that align; each has another one that starts it anew."""
        assert self._workers is not None  # noqa: S101
        return workers_under(self._workers.pid)

    def close(self) -> None:
        """End everything that was started."""
        for process in self._all:
            with suppress(psutil.NoSuchProcess):
                family = psutil.Process(process.pid)
                for one in [*family.children(recursive=True), family]:
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
            process.wait()
        self._log.close()

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{program}", *arguments]
        process = subprocess.Popen(command, stdout=self._log, stderr=self._log)  # noqa: S603
        self._all.append(process)
        return process


class Loop:
    """Rounds of one command that is killed and given again.

    Parameters
    ----------
    folder
        For the results and logs.
    star
        What is aligned.
    method
        Name of the method and its flags.
    seed
        Of the moments.
    """

    def __init__(self, folder: Path, star: Path, method: Sequence[str], seed: int) -> None:
        self.out = star.parent / "out"
        self._command = [*PROGRAM, "align", method[0], str(star), "--output", str(self.out), *method[1:]]
        self._random = random.Random(seed)  # noqa: S311 (moments, not secrets)
        self.log = folder / "runs.log"
        self._cluster = Cluster(folder)
        self._wanted: dict[str, bytes] = {}
        self._exit_code = 0
        self._work_s = 0.0
        self._n_good = 0

    def measure(self) -> float:
        """Run undisturbed: in one process for the bytes, and in two for the time, which is returned."""
        shutil.rmtree(self.out, ignore_errors=True)
        self._exit_code = self._start("--scheduler", "serial").wait(PATIENCE_S)
        self._wanted = contents(self.out)
        if not self._wanted or self._exit_code not in (0, 2):
            raise Broken(f"the undisturbed run ended with exit code {self._exit_code}; see {self.log}")
        shutil.rmtree(self.out)
        run = self._start("--workers", "2")
        self._until(run, lambda: self._has_folder(run))
        began = time.monotonic()
        run.wait(PATIENCE_S)
        self._work_s = time.monotonic() - began
        self._n_good = self._n_done()
        self._compare("two undisturbed processes")
        return self._work_s

    def kill(self, victim: Victim, n_kills: int, tell: Callable[[str], None] = print) -> Tally:
        """Go on until there were enough kills."""
        tally = Tally()
        while tally.kills < n_kills:
            shutil.rmtree(self.out, ignore_errors=True)
            tally.rounds += 1
            before = tally.kills
            while not self._ends(victim, tally, may_kill=tally.kills < n_kills and not self._was_late(tally, before)):
                self._check_promises()
            killed = tally.kills - before
            self._compare(f"{killed} kills of {victim}")
            tell(f"{victim}: round {tally.rounds}, {killed} kills, the same bytes")
        return tally

    def _was_late(self, tally: Tally, before: int) -> bool:
        """Whether the last kill of this round came when all was aligned, so that more of them would tell little."""
        return tally.kills > before and tally.done_at_kill[-1] >= self._n_good

    def close(self) -> None:
        """End the cluster."""
        self._cluster.close()

    def _ends(self, victim: Victim, tally: Tally, *, may_kill: bool) -> bool:
        """Give the command, and kill if the moment comes before its end; return whether it came to its end."""
        if victim.on_cluster:
            self._cluster.ensure()
        run = self._start(*(("--scheduler", self._cluster.address) if victim.on_cluster else ("--workers", "2")))
        self._until(run, lambda: self._has_folder(run))
        if may_kill:
            self._wait_for_moment(run)
        else:
            self._until(run, lambda: False)
        done = self._n_done()
        was_killed = run.poll() is None and self._do(victim, run)
        if was_killed:
            tally.kills += 1
            tally.done_at_kill.append(done)
        code = run.wait(PATIENCE_S)
        # a run outlives its workers, and the scheduler when it has all the results
        survives = not was_killed or victim.what == "worker" or code == self._exit_code
        wanted = self._exit_code if survives else -signal.SIGKILL if victim.what == "run" else 5
        if code != wanted:
            raise Broken(f"a run ended with exit code {code}, not {wanted} (killed {victim}: {was_killed}); "
                         f"see {self.log}")  # fmt: skip
        return survives

    def _wait_for_moment(self, run: subprocess.Popen[bytes]) -> None:
        """Wait until a random number of series is done, and a random time more; or for the end of the run."""
        done = self._n_done()
        enough = self._random.randint(done, self._n_good)
        # before the first is done, workers have to be started as well
        most_s = self._work_s / (2 if enough == done else self._n_good)
        pause_s = self._random.uniform(0.0, most_s)
        self._until(run, lambda: self._n_done() >= enough)
        due = time.monotonic() + pause_s
        self._until(run, lambda: time.monotonic() >= due)

    def _n_done(self) -> int:
        return sum(1 for _ in self.out.glob("external/*/alignment.json"))

    def _do(self, victim: Victim, run: subprocess.Popen[bytes]) -> bool:
        """Kill; return whether there was somebody."""
        if victim.what == "run":
            workers = [] if victim.on_cluster else workers_under(run.pid)
            run.kill()
            run.wait(PATIENCE_S)
            psutil.wait_procs(workers, PATIENCE_S)
            return True
        if victim.what == "scheduler":
            found = [self._cluster.scheduler()]
        else:
            found = self._cluster.workers() if victim.on_cluster else workers_under(run.pid)
        if not found:
            return False
        with suppress(psutil.NoSuchProcess):
            self._random.choice(found).kill()
            return True
        return False

    def _start(self, *flags: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen([*self._command, *flags], stdout=log, stderr=log)  # noqa: S603

    def _has_folder(self, run: subprocess.Popen[bytes]) -> bool:
        """Whether a run has begun; the lock of one that was killed may lie there still."""
        try:
            return bool(json.loads((self.out / "run.lock").read_bytes())["pid"] == run.pid)
        except (OSError, ValueError):
            return False

    def _until(self, run: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
        """Wait for a condition or the end of the run."""
        limit = time.monotonic() + PATIENCE_S
        while run.poll() is None and not condition():
            if time.monotonic() > limit:
                run.kill()
                raise Broken(f"a run hangs; see {self.log}")
            time.sleep(_LOOK_EVERY_S)

    def _check_promises(self) -> None:
        """What is at its final name is complete, and what is called done is done; also right after a kill."""
        folder = OutputFolder(self.out)
        for record in self.out.rglob("*.json"):
            with suppress(FileNotFoundError):  # workers of a cluster outlive the run for a moment
                json.loads(record.read_text())
        for file in self.out.glob("external/*/state.json"):
            state = SeriesState.read(file)
            if state is not None and not state.failure and not state.is_intact(folder.root):
                raise Broken(f"{file} says done, and it is not")

    def _compare(self, after: str) -> None:
        found = contents(self.out)
        names = found.keys() | self._wanted.keys()
        if different := sorted(name for name in names if found.get(name) != self._wanted.get(name)):
            raise Broken(f"after {after} {len(different)} files are not those of an undisturbed run: {different}")


def workers_under(pid: int) -> list[psutil.Process]:
    """Processes that align, among the descendants of one."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if any("spawn_main" in word for word in process.cmdline()):
                    found.append(process)
    return found


def free_port() -> int:
    """Return a port that nobody uses just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def loop_over(folder: Path, star: Path, method: Sequence[str], seed: int) -> Iterator[Loop]:
    """Yield a loop, and end at the end what it has started."""
    loop = Loop(folder, star, method, seed)
    try:
        yield loop
    finally:
        loop.close()


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the data, results and logs")
    parser.add_argument("--kills", type=int, default=30, help="of each kind (default: 30)")
    parser.add_argument("--series", type=int, default=8, help="number of series, one of them broken (default: 8)")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (default: 1)")
    parser.add_argument("--victims", nargs="*", type=int, default=list(range(len(VICTIMS))),
                        help=", ".join(f"{k}: {victim}" for k, victim in enumerate(VICTIMS)))  # fmt: skip
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    star = small_project(asked.folder / "project", asked.series, n_broken=1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with loop_over(asked.folder, star, METHOD, asked.seed) as loop:
        print(f"undisturbed: {loop.measure():.1f} s from the lock to the end, {asked.series} series", flush=True)
        for victim in (VICTIMS[k] for k in asked.victims):
            tally = loop.kill(victim, asked.kills, tell=lambda line: print(line, flush=True))
            done = " ".join(str(n) for n in sorted(tally.done_at_kill))
            print(f"== {victim}: {tally.kills} kills in {tally.rounds} rounds, all with the bytes of the undisturbed "
                  f"run; series that were done at the kill: {done}", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as problem:
        sys.exit(f"BROKEN: {problem}")
