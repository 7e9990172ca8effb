"""One run in a folder at a time, whoever died and wherever."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from napari_tiltalign.errors import Cancelled
from napari_tiltalign.io import run_lock
from napari_tiltalign.io.run_lock import FolderBusy, RunLock


def left_behind(folder: Path, **changes: object) -> Path:
    lock = folder / "run.lock"
    me = psutil.Process()
    content = {
        "host": socket.gethostname(), "pid": me.pid, "process_began": me.create_time(), "run_id": "other", "beat": 3,
        "stopping": False,
    }  # fmt: skip
    with lock.open("r+" if lock.exists() else "w") as file:  # in place, as a run does
        file.write(json.dumps({**content, **changes}).ljust(500))
    return lock


def a_dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_lock_of_a_process_that_lives_is_respected(tmp_path: Path) -> None:
    left_behind(tmp_path)
    with pytest.raises(FolderBusy, match=f"process {os.getpid()} on {socket.gethostname()}"):
        RunLock(tmp_path)


@pytest.mark.parametrize("why", ["dead", "number used again", "half written", "not ours", "nonsense"])
def test_lock_of_a_dead_process_is_taken_over(tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_BEING_WRITTEN_S", 0.1)
    if why == "dead":
        left_behind(tmp_path, pid=a_dead_pid())
    elif why == "number used again":
        left_behind(tmp_path, process_began=psutil.Process().create_time() - 100)
    else:
        text = {"half written": "", "not ours": "[]", "nonsense": "[" * 100_000}[why]
        (tmp_path / "run.lock").write_text(text)
    with RunLock(tmp_path) as lock:
        lock.check()
    assert list(tmp_path.iterdir()) == []


def test_lock_of_another_host_that_stands_still_is_taken_over(tmp_path: Path) -> None:
    left_behind(tmp_path, host="elsewhere")
    with RunLock(tmp_path, patience_s=0.2) as lock:
        lock.check()


def test_lock_of_another_host_that_counts_is_respected(tmp_path: Path) -> None:
    left_behind(tmp_path, host="elsewhere")
    ended = threading.Event()

    def count() -> None:
        while not ended.wait(0.05):
            left_behind(tmp_path, host="elsewhere", beat=time.monotonic())

    beating = threading.Thread(target=count)
    beating.start()
    try:
        with pytest.raises(FolderBusy, match="on elsewhere"):
            RunLock(tmp_path, patience_s=2.0)
    finally:
        ended.set()
        beating.join()


def test_a_run_counts_in_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT_S", 0.02)
    with RunLock(tmp_path):
        for _ in range(500):
            if json.loads((tmp_path / "run.lock").read_text())["beat"] > 1:
                return
            time.sleep(0.01)
    pytest.fail("it does not count")


def test_those_who_work_for_a_run_stop_when_it_stops_or_ends(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.claim.check()
    lock.say_stopping()
    with pytest.raises(Cancelled, match="asked to stop"):
        lock.claim.check()
    lock.release()
    with pytest.raises(Cancelled, match="does not hold"):
        lock.claim.check()


def test_a_run_whose_lock_was_taken_stops_and_leaves_the_lock_alone(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    left_behind(tmp_path)
    lock.say_stopping()
    with pytest.raises(Cancelled, match="does not hold"):
        lock.check()
    lock.release()
    assert json.loads((tmp_path / "run.lock").read_text())["run_id"] == "other"


def test_row_70_clocks_of_others_do_not_matter(tmp_path: Path) -> None:
    ended = threading.Event()
    left_behind(tmp_path, host="elsewhere")

    def count() -> None:
        while not ended.wait(0.05):
            left_behind(tmp_path, host="elsewhere", beat=time.monotonic())
            os.utime(tmp_path / "run.lock", (1.0, 1.0))  # a clock that is 50 years late

    beating = threading.Thread(target=count)
    beating.start()
    try:
        with pytest.raises(FolderBusy, match="on elsewhere"):
            RunLock(tmp_path, patience_s=2.0)
    finally:
        ended.set()
        beating.join()


@pytest.mark.parametrize("fault", ["forgetful", "not exclusive"])
def test_row_70_a_file_system_that_holds_no_lock_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "forgetful":
        monkeypatch.setattr(run_lock, "_read", lambda path: {})
    else:
        really = os.open
        monkeypatch.setattr(os, "open", lambda path, flags, *mode: really(path, flags & ~os.O_EXCL, *mode))
    with pytest.raises(OSError, match=r"lies on a file system that .* choose another output folder"):
        RunLock(tmp_path)
    assert list(tmp_path.iterdir()) == []
