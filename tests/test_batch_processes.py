"""Series aligned in other processes: the same bytes, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import psutil
import pytest

from fake_method import FULL_DISK, Nudge
from napari_tiltalign.batch import Placement, SeriesOutcome, Watcher, align_dataset, clusters, plan_dataset
from napari_tiltalign.images.compute import available_cpus
from napari_tiltalign.io import read

pytestmark = pytest.mark.slow

NAMES = ("TS_01", "unlucky_02", "TS_03", "TS_04")
TWO = Placement(workers=2)


@pytest.fixture
def star(write_project: Callable[..., Path], installed_nudge: Path) -> Path:
    return write_project(*NAMES)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def lines(diary: Path) -> list[list[str]]:
    return [line.split(" ") for line in diary.read_text().splitlines()]


class Notes(Watcher):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.said: list[str] = []
        self.done: list[str] = []
        self.listening: set[str] = set()

    def notice(self, message: str) -> None:
        """Remember it."""
        self.said.append(message)

    def begins(self, name: str, number: int, total: int) -> None:
        """Remember it, and who can be reached over a network."""
        self.begun.append(name)
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                connections = (
                    getattr(process, "net_connections", None) or process.connections
                )  # psutil 5 has the latter
                self.listening |= {c.laddr.ip for c in connections("inet") if c.status == "LISTEN"}

    def ended(self, outcome: SeriesOutcome) -> None:
        """Remember it."""
        self.done.append(outcome.name)


def test_processes_give_the_same_bytes_and_a_worker_that_dies_costs_nothing(star: Path, installed_nudge: Path) -> None:
    dataset, notes, out = read(star), Notes(), star.parent / "out"
    align_dataset(dataset, Nudge(trouble="dies-once"), out, placement=TWO, watcher=notes)
    assert sorted(notes.begun) == sorted(notes.done) == sorted(NAMES)
    assert notes.said == ["unlucky_02: its worker process died; it is tried once more"]
    assert notes.listening == {"127.0.0.1"}
    calls = lines(installed_nudge)
    assert sorted(call[0] for call in calls) == sorted([*NAMES, "unlucky_02"])
    assert str(os.getpid()) not in {call[1] for call in calls}
    assert {call[2] for call in calls} == {str(max(1, available_cpus() // 2))}
    by_processes = contents(out.rename(star.parent / "by_processes"))
    align_dataset(dataset, Nudge(trouble="dies-once"), out, placement=Placement("serial"))
    assert contents(out) == by_processes


def test_series_that_kill_or_hang_their_workers_fail_with_the_reason(
    write_project: Callable[..., Path], installed_nudge: Path
) -> None:
    star = write_project("unlucky_killer", "TS_02", "unlucky_hanger", "TS_04", "unlucky_large")
    overrides = {
        "unlucky_killer": Nudge(trouble="dies"),
        "unlucky_hanger": Nudge(trouble="hangs"),
        "unlucky_large": Nudge(trouble="dies-if-large"),
    }
    placement = Placement(gpus=("3", "5"), stall_minutes=0.25, too_large="bin")
    summary = align_dataset(read(star), Nudge(), star.parent / "out", overrides=overrides, placement=placement)
    failures = {outcome.name: outcome.failure for outcome in summary.failed}
    assert sorted(failures) == ["unlucky_hanger", "unlucky_killer"], failures
    assert [outcome.name for outcome in summary.aligned] == ["TS_02", "TS_04", "unlucky_large"]
    large = summary.aligned[-1].read_alignment()
    assert [flag.detail for flag in large.flags if flag.name == "binned_for_memory"] == ["by 2"]
    assert failures["unlucky_killer"].startswith("its worker process died, more than once; ")
    assert "estimated to need 0.4 GB" in failures["unlucky_killer"]
    assert failures["unlucky_hanger"].startswith("it has reported no progress for 0.25 minutes, more than once; ")
    calls = lines(installed_nudge)
    tries = Counter(call[0] for call in calls)
    assert (tries["unlucky_killer"], tries["unlucky_large"], tries["unlucky_hanger"]) == (4, 3, 2)  # whole twice
    assert {call[3] for call in calls} == {"3", "5"}
    by_worker = {(call[1], call[3]) for call in calls}
    assert len({process for process, _ in by_worker}) == len(by_worker)  # a process keeps its GPU


def test_workers_that_dask_has_given_up_are_started_again(star: Path) -> None:
    placement = Placement(workers=2)
    plan = plan_dataset(read(star), Nudge(), star.parent / "out", placement=placement)
    with clusters.open_crew(placement, plan, star.parent) as (crew, _):
        assert crew.processes is not None
        before = set(crew.addresses())
        nanny = crew.processes.workers[0]
        crew.processes.sync(nanny.close)  # what Dask does to a worker that does not start again in time
        wait_for(lambda: len(crew.addresses()) == 1)
        crew.heal()
        wait_for(lambda: len(crew.addresses()) == 2)
        assert len(set(crew.addresses()) - before) == 1
        assert crew.client.submit(sum, (1, 2)).result(timeout=60) == 3


def test_a_full_disk_in_a_worker_stops_the_run(star: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FULL_DISK, "external/TS_03")
    with pytest.raises(OSError, match="No space left"):
        align_dataset(read(star), Nudge(), star.parent / "out", placement=TWO)
    assert not (star.parent / "out/aligned_tilt_series.star").exists()
    assert json.loads((star.parent / "out/run.json").read_text())["status"].startswith("broken off")


def start(star: Path, *flags: str, command: str = "align") -> subprocess.Popen[str]:
    """Run the program in a session of its own, as a terminal does."""
    code = "import sys; from napari_tiltalign.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, command, "nudge", str(star), "--output", str(star.parent / "out"), *flags]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended may wait for ever for a parent that asks about it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def workers_of(diary: Path) -> list[psutil.Process]:
    found = {int(call[1]) for call in lines(diary)} - {os.getpid()} if diary.exists() else set()
    return [psutil.Process(pid) for pid in found if psutil.pid_exists(pid)]


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "marker"])
def test_a_run_that_is_asked_to_stop_does_so_though_a_series_hangs(star: Path, installed_nudge: Path, how: str) -> None:
    run = start(star, "--workers", "2", "--trouble", "hangs", "--seconds", "0.1")
    wait_for(lambda: installed_nudge.exists() and "unlucky" in installed_nudge.read_text())
    workers = workers_of(installed_nudge)
    if how == "Ctrl-C":
        os.killpg(run.pid, signal.SIGINT)
    elif how == "SIGTERM":
        run.terminate()
    else:
        (star.parent / "out/STOP").touch()
    said, _ = run.communicate(timeout=40)
    assert run.returncode == 4
    assert said.splitlines()[-1] == "Stopped. What was done is kept."
    assert "Traceback" not in said
    wait_for(lambda: not any(map(is_alive, workers)))
    assert not (star.parent / "out/run.lock").exists()
    assert json.loads((star.parent / "out/run.json").read_text())["status"] == "stopped"


def test_whatever_is_killed_the_same_command_ends_with_the_same_bytes(
    star: Path, installed_nudge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    kill_and_resume = import_module("kill_and_resume")  # the loop that is run at length by scripts/kill-and-resume
    run, worker, *_, scheduler = kill_and_resume.VICTIMS
    with kill_and_resume.loop_over(star.parents[1], star, ("nudge", "--seconds", "0.3"), seed=1) as loop:
        loop.measure()
        for victim in (run, worker, scheduler):
            assert loop.kill(victim, 1, tell=lambda line: None).kills == 1


def test_a_watch_that_was_killed_goes_on_and_is_stopped_by_a_signal(star: Path, installed_nudge: Path) -> None:
    out, flags = star.parent / "out", ("--settle-minutes", "0", "--poll-seconds", "0.1", "--workers", "2")
    killed = start(star, *flags, command="watch")
    wait_for(lambda: (out / "aligned_tilt_series.star").exists())
    killed.kill()
    killed.communicate(timeout=10)
    os.utime(next((star.parent / "frames").glob("02_*.mrc")), (1, 1))  # as if TS_03 had grown
    again = start(star, *flags, command="watch")
    wait_for(lambda: len(lines(installed_nudge)) == len(NAMES) + 1)
    wait_for(lambda: "waiting for new series" in (again.stdout.readline() if again.stdout else ""))
    again.terminate()
    said, _ = again.communicate(timeout=40)
    assert again.returncode == 4, said
    assert sorted(call[0] for call in lines(installed_nudge)) == sorted([*NAMES, "TS_03"])
    assert json.loads((out / "run.json").read_text())["status"] == "stopped"
    summary = align_dataset(read(star), Nudge(), out, placement=TWO)  # what align would do is all done
    assert [bool(outcome.kept) for outcome in summary.outcomes] == [True] * len(NAMES)
