"""Where AreTomo is and which one it is: 1.3, AreTomo2 and AreTomo3 take different arguments."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from napari_tiltalign.errors import ProgramFailed
from napari_tiltalign.external.find import Program
from napari_tiltalign.external.run import Command, run

Family = Literal["1", "2", "3"]

ARETOMO = Program(
    "AreTomo",
    ("AreTomo3", "AreTomo2", "AreTomo"),
    "RELION_ARETOMO_EXECUTABLE",
    "",
    "--executable",
    "Download AreTomo2 or AreTomo3 from https://github.com/czimaginginstitute and put it on PATH",
)

_SAYS = re.compile(
    r"AreTomo\s*_?(?P<family>[23])?[\s_v-]*(?:version[\s:]*)?(?P<number>\d+\.\d+(?:\.\d+)*)", re.IGNORECASE
)
_NAME = re.compile(r"AreTomo(?P<family>[23])?", re.IGNORECASE)
_PROBE_S = 20.0


@dataclass(frozen=True, slots=True)
class Installed:
    """An AreTomo that was asked who it is.

    Attributes
    ----------
    path
        The executable.
    family
        1, 2 or 3.
    version
        As it says; empty if it does not.
    """

    path: Path
    family: Family
    version: str


def installed(given: str, family: str) -> Installed:
    """Find AreTomo and out which one it is.

    Parameters
    ----------
    given
        Path or name; empty to look for it.
    family
        ``1``, ``2`` or ``3`` if it is known; ``auto`` to ask the program.

    Raises
    ------
    ProgramMissing
        If it is nowhere.
    ProgramFailed
        If it does not say which it is.
    """
    path = ARETOMO.find(given)
    if family in ("1", "2", "3"):
        return Installed(path, family, "")  # type: ignore[arg-type]
    return _asked(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _asked(path: Path, changed_ns: int) -> Installed:
    """Ask a program for its version, once as long as the file stays the same; then for its options; then its name."""
    with tempfile.TemporaryDirectory(prefix="tiltalign-", ignore_cleanup_errors=True) as name:
        said = [_output(path, flag, Path(name)) for flag in ("--version", "--help")]
    for text in said:
        if match := _SAYS.search(text):
            return Installed(path, _family(match["family"], match["number"]), match["number"])
    if "-InPrefix" in said[1]:
        return Installed(path, "3", "")
    if match := _NAME.search(path.resolve().name):
        return Installed(path, match["family"] or "1", "")  # type: ignore[arg-type]
    raise ProgramFailed(f"{path} does not say which AreTomo it is; say it (--aretomo-version)")


def _family(digit: str | None, number: str) -> Family:
    if digit is not None:
        return digit  # type: ignore[return-value]
    return "3" if number.startswith("3") else "2" if number.startswith("2") else "1"


def _output(path: Path, flag: str, folder: Path) -> str:
    log = folder / f"log{flag}"
    try:
        return run(Command(path, (flag,), folder, log, {}, _PROBE_S), grace_s=1.0).output
    except ProgramFailed as error:
        if "took longer" in str(error):
            return log.read_text(encoding="utf-8", errors="replace")
        raise
