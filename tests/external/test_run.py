"""The runner: arguments, output, limits, and that nothing survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from napari_tiltalign.errors import Cancelled, ProgramFailed
from napari_tiltalign.external.run import Command, failure_cause, run, split_arguments

PYTHON = Path(sys.executable)
STUBBORN = Path(__file__).parent / "programs" / "stubborn.py"
SAY_ARGUMENTS = "import json, sys; print(json.dumps(sys.argv[1:]))"


def command(folder: Path, *arguments: str, program: Path = PYTHON, limit_s: float = 60.0) -> Command:
    return Command(program, arguments, folder, folder / "log.txt", {}, limit_s)


def wait_until(true: Callable[[], bool], what: str, limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def numbers(file: Path) -> list[int]:
    wait_until(file.exists, "the program did not begin")
    return [int(word) for word in file.read_text().split()]


def assert_ended(pids: list[int]) -> None:
    wait_until(lambda: not any(is_running(pid) for pid in pids), f"still running: {[p for p in pids if is_running(p)]}")


def test_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    words = ("", "a b", "-rf", "; touch bad", "$(id)", "`id`", 'it\'s "quoted"', "ångström", "*", "x\ny")
    finished = run(command(tmp_path, "-c", SAY_ARGUMENTS, *words))
    assert finished.exit_code == 0
    assert json.loads(finished.output) == list(words)
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_output_is_kept_and_told(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "for k in range(3):\n"
        "    print('out', k, flush=True); print('err', k, file=sys.stderr, flush=True); time.sleep(0.15)"
    )
    heard: list[str] = []
    finished = run(command(tmp_path, "-c", code), heard.append)
    assert {"err 0", "err 1"} & set(heard)
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith("> ")
    assert all(f"out {k}" in text and f"err {k}" in text for k in range(3))
    run(command(tmp_path, "-c", "print('again')"))
    assert "out 2" in (tmp_path / "log.txt").read_text(), "a second program must not wipe what the first has said"
    assert "again" not in finished.output


def test_exit_codes(tmp_path: Path) -> None:
    assert run(command(tmp_path, "-c", "import sys; sys.exit(3)")).how == "ended with exit code 3"
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert run(command(tmp_path, "-c", code)).how == "was killed by signal 11"


def test_program_that_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    with pytest.raises(ProgramFailed, match=r"cannot start .*nowhere: No such file"):
        run(command(tmp_path, program=tmp_path / "nowhere"))
    with pytest.raises(ProgramFailed, match=r"cannot start .*text: Permission denied"):
        run(command(tmp_path, program=tmp_path / "text"))
    with pytest.raises(ProgramFailed, match="null"):
        run(command(tmp_path, "a\0b"))


def test_limit_of_time(tmp_path: Path) -> None:
    code = "import time; print('so far', flush=True); time.sleep(1000)"
    with pytest.raises(ProgramFailed, match=r"longer than 1 s and was ended.*last said: so far"):
        run(command(tmp_path, "-c", code, limit_s=1.0))


@pytest.mark.parametrize("manner", ["meek", "deaf"])
def test_cancelling_ends_everything(tmp_path: Path, manner: str) -> None:
    """The program, its child, and a daemon of it, whether or not they listen to SIGTERM."""
    pids: list[int] = []

    def stop(_line: str) -> None:
        if (tmp_path / "pids").exists():
            pids.extend(numbers(tmp_path / "pids"))
            raise Cancelled

    with pytest.raises(Cancelled):
        run(command(tmp_path, str(STUBBORN), str(tmp_path / "pids"), manner), stop, grace_s=0.3)
    assert len(pids) == 3
    assert not any(is_running(pid) for pid in pids), "they must have ended when the error arrives"


def test_nothing_is_left_of_a_program_that_ends(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)']).pid)"
    )
    finished = run(command(tmp_path, "-c", code))
    assert finished.exit_code == 0
    assert_ended([int(finished.output)])


RUNNER = """
import sys
from pathlib import Path
from napari_tiltalign.external.run import Command, run
folder = Path(sys.argv[1])
run(Command(Path(sys.executable), (sys.argv[2], str(folder / "pids"), "deaf"), folder, folder / "log.txt"), grace_s=0.2)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_nothing_survives_us(tmp_path: Path, how: signal.Signals) -> None:
    """However this process ends: killed in an instant, stopped from the keyboard, or by a scheduler."""
    ours = subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path), str(STUBBORN)], stderr=subprocess.DEVNULL)
    try:
        pids = numbers(tmp_path / "pids")
        assert all(is_running(pid) for pid in pids)
        guards = [process.pid for process in psutil.Process(ours.pid).children()]
        os.kill(ours.pid, how)
        ours.wait(20)
        assert_ended([*pids, *guards])
    finally:
        ours.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end the program of a guard that was killed")
def test_program_does_not_survive_its_guard(tmp_path: Path) -> None:
    ours = subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path), str(STUBBORN)], stderr=subprocess.DEVNULL)
    try:
        program, *rest = numbers(tmp_path / "pids")
        (guard,) = psutil.Process(ours.pid).children()
        guard.kill()
        assert_ended([program])
        ours.wait(20)
    finally:
        ours.kill()
        for pid in rest:  # nobody can find these without the guard
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("reading\nERROR: tiltalign - TOO FEW DATA POINTS\nbye\n", "ERROR: tiltalign - TOO FEW DATA POINTS"),
        ("one\ntwo\n\nthree\nfour\nfive\n", "two | three | four | five"),
        (" Residual error mean and sd: 0.3 0.4 nm\ndone\n", "Residual error mean and sd: 0.3 0.4 nm | done"),
        ("Error: GPU 0 not found\n" * 50, "Error: GPU 0 not found"),
        ("", ""),
    ],
)
def test_cause_of_a_failure(output: str, cause: str) -> None:
    assert failure_cause(output) == cause


def test_typed_arguments() -> None:
    assert split_arguments("-Bft 200 'a b'", "--extra-arguments") == ["-Bft", "200", "a b"]
    with pytest.raises(ProgramFailed, match="cannot be split"):
        split_arguments("'a", "--extra-arguments")
