"""One run in an output folder at a time, and the word to stop it.

``DIR/run.lock`` names the host and the process that work in a folder. A run that was killed leaves it behind: on the
same host it is known that the process is gone; from another host the lock is watched for a while, because a run that is
alive counts up in it. Nothing compares the clocks of two hosts.

Processes on other machines that work for a run look into the lock too, and stop when it is no longer that of their run.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from napari_tiltalign.errors import BadInput, Cancelled
from napari_tiltalign.io.files import parse_facts

STOP_MARKERS = ("STOP", "RELION_JOB_ABORT_NOW")
"""Files that stop the run in whose output folder they appear; the second is what RELION's window writes."""

BEAT_S = 5.0
"""How often a run counts up in its lock."""
PATIENCE_S = 30.0
"""How long the lock of another host may stand still before its run counts as dead: six beats."""
_BEING_WRITTEN_S = 2.0
"""How long a lock may be empty before it counts as that of a run that was killed while it wrote it."""
_SIZE_BYTES = 1024
"""The lock is rewritten in place, in one piece, so it always has the same size."""


class FolderBusy(BadInput):
    """Another run works in the output folder."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a process that works for a run knows of the lock; it can be sent to other machines.

    Attributes
    ----------
    path
        The lock.
    run_id
        Identity of the run.
    """

    path: Path
    run_id: str

    def check(self) -> None:
        """Make sure that the run still has the folder.

        Raises
        ------
        Cancelled
            If it has ended, is about to stop, or another run has taken over.
        """
        held = _read(self.path)
        if held.get("run_id") != self.run_id:
            raise Cancelled(f"this run does not hold {self.path} any more")
        if held.get("stopping"):
            raise Cancelled("the run was asked to stop")


class RunLock:
    """The claim of a run on an output folder; as a context it is given up at the end.

    Parameters
    ----------
    folder
        The output folder; made if need be.
    patience_s
        How long to watch the lock of another host before it counts as left behind.

    Raises
    ------
    FolderBusy
        If another run works there; the message names its host and process.
    OSError
        If the folder cannot be written to.
    """

    def __init__(self, folder: Path, patience_s: float = PATIENCE_S) -> None:
        self.path = folder / "run.lock"
        self._markers = [folder / name for name in STOP_MARKERS]
        self._content: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_began": psutil.Process().create_time(),
            "run_id": secrets.token_hex(8),
            "beat": 0,
            "stopping": False,
        }
        self._ended = threading.Event()
        self._guard = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._take(patience_s)
        for marker in self._markers:  # of an earlier run
            marker.unlink(missing_ok=True)
        self._beating = threading.Thread(target=self._beat, name="run.lock", daemon=True)
        self._beating.start()

    @property
    def claim(self) -> Claim:
        """For those who work for this run."""
        return Claim(self.path, self._content["run_id"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def check(self) -> None:
        """Find out whether the run should stop.

        Raises
        ------
        Cancelled
            If a marker says so, or another run has taken over.
        """
        for marker in self._markers:
            if marker.exists():
                raise Cancelled(f"{marker} asks to stop")
        self.claim.check()

    def say_stopping(self) -> None:
        """Tell everybody who works for this run to stop."""
        self._content["stopping"] = True
        with suppress(OSError):
            self._write()

    def release(self) -> None:
        """Give the folder free, unless another run has taken it."""
        self._ended.set()
        self._beating.join()
        with suppress(OSError):
            if _read(self.path).get("run_id") == self._content["run_id"]:
                self.path.unlink()

    def _take(self, patience_s: float) -> None:
        while True:
            try:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                _remove_if_left_behind(self.path, patience_s)
                continue
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._text())
                file.flush()
                os.fsync(file.fileno())
            self._check_file_system()
            return

    def _check_file_system(self) -> None:
        """Make sure that a lock means something here; some network mounts keep or mix up what was written.

        Raises
        ------
        OSError
            If it does not.
        """
        problem = ""
        if _read(self.path).get("run_id") != self._content["run_id"]:
            problem = "does not give back what was written"
        else:
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                problem = "makes a file that is there a second time"
        if problem:
            self.path.unlink(missing_ok=True)
            raise OSError(errno.ENOLCK, f"{self.path.parent} lies on a file system that {problem}, so that two runs "
                          "there cannot be kept apart; choose another output folder")  # fmt: skip

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            self._content["beat"] += 1
            with suppress(OSError):
                self._write()

    def _write(self) -> None:
        """Rewrite the lock in place, which other hosts see sooner than a new file, if it is still ours."""
        with self._guard, self.path.open("r+b", buffering=0) as file:
            if _parse(file.read()).get("run_id") == self._content["run_id"]:
                file.seek(0)
                file.write(self._text())

    def _text(self) -> bytes:
        return json.dumps(self._content).encode().ljust(_SIZE_BYTES - 1) + b"\n"


def _remove_if_left_behind(path: Path, patience_s: float) -> None:
    """Remove a lock whose run is dead.

    Raises
    ------
    FolderBusy
        If it is alive.
    """
    held = _read(path)
    if _is_alive(path, held, patience_s if held else min(patience_s, _BEING_WRITTEN_S)):
        held = _read(path) or held
        raise FolderBusy(
            f"another run works in {path.parent}: process {held.get('pid', '?')} on {held.get('host', '?')}. Wait for "
            f"it, stop it (touch {path.parent / STOP_MARKERS[0]}), or choose another output folder; if you know that "
            f"it is dead, remove {path}"
        )
    aside = path.with_name(f".tiltalign-{secrets.token_hex(8)}.tmp")
    with suppress(FileNotFoundError):  # somebody else was faster
        path.rename(aside)
        if _read(aside).get("run_id") == held.get("run_id"):
            aside.unlink()
        elif not path.exists():  # a new run took the folder meanwhile
            aside.rename(path)


def _is_alive(path: Path, held: dict[str, Any], patience_s: float) -> bool:
    if held.get("host") == socket.gethostname():
        try:
            began = psutil.Process(int(held["pid"])).create_time()
        except (psutil.NoSuchProcess, KeyError, ValueError):
            return False
        except psutil.AccessDenied:
            return True
        return bool(abs(began - float(held.get("process_began", began))) < 1.0)
    waited, step_s = 0.0, min(1.0, patience_s / 4)
    pause = threading.Event()
    while waited < patience_s:
        pause.wait(step_s)
        waited += step_s
        if _read(path) != held:
            return path.exists()
    return False


def _read(path: Path) -> dict[str, Any]:
    try:
        return _parse(path.read_bytes())
    except OSError:
        return {}


def _parse(text: bytes) -> dict[str, Any]:
    try:
        return parse_facts(text)
    except ValueError:
        return {}
