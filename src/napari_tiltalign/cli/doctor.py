"""``doctor``: what this machine has for the program, and what to do about what it lacks."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from napari_tiltalign.cli.exit_codes import ExitCode
from napari_tiltalign.cli.watching import plain
from napari_tiltalign.errors import TiltAlignError

_LIBRARIES = ("numpy", "scipy", "numba", "pydantic", "mrcfile", "starfile", "dask", "distributed")
"""Imported for a test: what every alignment or batch needs."""
_QT_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
_PROGRAMS = "Other people's programs"


class State(Enum):
    """How a thing is, as it is shown."""

    GOOD = "ok"
    ABSENT = "--"
    """Not there, and not needed for everything else to work."""
    BROKEN = "!!"
    """Something is wrong that will make commands fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    topic
        What it belongs to: a heading.
    state
        How it is.
    text
        What was found, and what to do if it is not good.
    """

    topic: str
    state: State
    text: str


def doctor() -> int:
    """Say which versions, devices and programs are there, and what to do about what is missing.

    Send what it prints along with a report of an error.

    Returns
    -------
    int
        `ExitCode.ENVIRONMENT` if something is broken. Programs, a GPU or a display that are merely not there are fine.
    """
    findings = list(examine())
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            print(topic)
        print(f"  [{finding.state.value}] {plain(finding.text)}")
    broken = sum(finding.state is State.BROKEN for finding in findings)
    print()
    if broken:
        print(
            f"{broken} {'thing is' if broken == 1 else 'things are'} broken; see the lines with [{State.BROKEN.value}]."
        )
        return ExitCode.ENVIRONMENT
    print("All good: what is marked [--] is needed only by what it is named for. "
          "To try the whole way: napari-tiltalign demo")  # fmt: skip
    return ExitCode.GOOD


def examine() -> Iterator[Finding]:
    """Look at everything, one finding after another."""
    yield from _versions()
    yield from _machine()
    yield from _display()
    yield from _programs()
    yield from _methods()


def _versions() -> Iterator[Finding]:
    topic = "Versions"
    yield Finding(topic, State.GOOD, f"napari-tiltalign {version('napari-tiltalign')}, {Path(__file__).parents[1]}")
    yield Finding(topic, State.GOOD, f"Python {platform.python_version()}, {sys.executable}")
    for name in _LIBRARIES:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a broken library raises
            yield Finding(topic, State.BROKEN, f"{name} cannot be imported: {error}; install the package again")
        else:
            yield Finding(topic, State.GOOD, f"{name} {version(name)}")


def _machine() -> Iterator[Finding]:
    import psutil

    from napari_tiltalign.images.compute import available_cpus, check_device

    topic = "Machine"
    memory_gb = psutil.virtual_memory().total / 1e9
    yield Finding(
        topic,
        State.GOOD,
        f"{platform.system()} {platform.machine()}, {available_cpus()} cores, {memory_gb:.0f} GB of memory",
    )
    try:
        with tempfile.TemporaryDirectory(prefix="tiltalign-") as folder:
            free_gb = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        yield Finding(
            topic, State.BROKEN, f"temporary files cannot be written: {error}; set TMPDIR to a folder you own"
        )
    else:
        yield Finding(topic, State.GOOD, f"temporary files in {tempfile.gettempdir()}, {free_gb:.0f} GB free")
    try:
        check_device("cuda")
    except TiltAlignError as error:
        yield Finding(topic, State.ABSENT, f"GPU: {error}")
    else:
        yield Finding(topic, State.GOOD, "GPU: CuPy can use one")


def _display() -> Iterator[Finding]:
    topic = "napari"
    napari, qt = _installed("napari"), [f"{name} {found}" for name in _QT_BINDINGS if (found := _installed(name))]
    if not napari:
        yield Finding(
            topic, State.ABSENT, 'napari is not installed; for the plugin: pip install "napari-tiltalign[all]"'
        )
        return
    yield Finding(topic, State.GOOD, f"napari {napari}")
    if qt:
        yield Finding(topic, State.GOOD, ", ".join(qt))
    else:
        yield Finding(topic, State.ABSENT, 'no Qt, so no windows; for the plugin: pip install "napari-tiltalign[all]"')
    if sys.platform != "linux":
        return
    if shown := os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY"):
        yield Finding(topic, State.GOOD, f"display {shown}")
    else:
        yield Finding(topic, State.ABSENT, "no display (DISPLAY is not set): the command line and Python work, napari "
                      "does not; log in with ssh -X, or use a desktop")  # fmt: skip


def _installed(name: str) -> str:
    """Version of a package; empty if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _programs() -> Iterator[Finding]:
    from napari_tiltalign.external.aretomo_install import ARETOMO, installed
    from napari_tiltalign.external.imod_install import BATCHRUNTOMO, imod_version

    def imod() -> str:
        path = BATCHRUNTOMO.find()
        return f"IMOD {imod_version(path)}: {path}"

    def aretomo() -> str:
        ARETOMO.find()
        found = installed("", "auto")
        return f"AreTomo {found.version or found.family}: {found.path}"

    yield _program(imod, BATCHRUNTOMO.variable)
    yield _program(aretomo, ARETOMO.variable)
    relion = shutil.which("relion_refine") or shutil.which("relion")
    if relion:
        yield Finding(_PROGRAMS, State.GOOD, f"RELION: {relion}")
    else:
        yield Finding(_PROGRAMS, State.ABSENT, "RELION: not on PATH; it is not needed to read and write its projects")
    if found := _installed("warpxmlfile"):
        yield Finding(_PROGRAMS, State.GOOD, f"files of Warp and M: warpxmlfile {found}")
    else:
        yield Finding(_PROGRAMS, State.ABSENT, 'files of Warp and M (.xml): pip install "napari-tiltalign[warp]"')


def _program(look: Callable[[], str], variable: str) -> Finding:
    try:
        return Finding(_PROGRAMS, State.GOOD, look())
    except TiltAlignError as error:
        # a path that was set and is wrong will make commands fail; a program that is nowhere may not be wanted
        state = State.BROKEN if os.environ.get(variable) else State.ABSENT
        return Finding(_PROGRAMS, state, str(error))


def _methods() -> Iterator[Finding]:
    from napari_tiltalign.methods.base import methods, unavailable_because

    topic = "Methods"
    registry = methods()
    for name in registry:
        try:
            method = registry[name]
        except Exception as error:  # another package's method may fail in any way
            yield Finding(
                topic, State.BROKEN, f"{name} cannot be loaded: {error}; install its package again, or remove it"
            )
            continue
        if unavailable_because(method):
            yield Finding(topic, State.ABSENT, f"{name}: needs a program that is not there, see above")
        else:
            yield Finding(topic, State.GOOD, f"{name}: {method.title}")
