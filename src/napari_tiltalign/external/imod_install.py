"""Where IMOD is, which version it is, and what its programs need to run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from napari_tiltalign.errors import ProgramMissing
from napari_tiltalign.external.find import Program

_INSTALL = "Install IMOD from https://bio3d.colorado.edu/imod and load it (source IMOD-linux.sh)"

BATCHRUNTOMO = Program(
    "batchruntomo of IMOD", ("batchruntomo",), "RELION_BATCHTOMO_EXECUTABLE", "IMOD_DIR", "--executable", _INSTALL
)
TILTALIGN = Program("IMOD", ("tiltalign",), "", "IMOD_DIR", "--executable", _INSTALL)


def programs_beside(executable: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Return the paths of IMOD's programs, which all lie in one folder.

    Raises
    ------
    ProgramMissing
        If one is not there.
    """
    found = {name: executable.parent / name for name in names}
    if missing := [name for name, path in found.items() if not os.access(path, os.X_OK)]:
        raise ProgramMissing(f"{executable.parent} has no {', '.join(missing)}; IMOD is not complete. {_INSTALL}")
    return found


def imod_environment(executable: Path) -> dict[str, str]:
    """Return the variables that IMOD's own start script would set, as far as they are not set already."""
    home = executable.resolve().parent.parent
    variables = {
        "PATH": os.pathsep.join([str(executable.parent), os.environ.get("PATH", "")]),
        "FOR_DISABLE_STACK_TRACE": "1",
    }
    if not os.environ.get("IMOD_DIR"):
        variables["IMOD_DIR"] = str(home)
    if sys.platform == "linux" and (libraries := home / "lib").is_dir():
        others = os.environ.get("LD_LIBRARY_PATH", "")
        variables["LD_LIBRARY_PATH"] = os.pathsep.join([str(libraries), *([others] if others else [])])
    return variables


def imod_version(executable: Path) -> str:
    """Return the version that an installation says it is; empty if it does not."""
    try:
        text = (executable.resolve().parent.parent / "VERSION").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return " ".join(text.split())[:40]
