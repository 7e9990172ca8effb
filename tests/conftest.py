"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fake_cupy import FakeCupy
from fake_method import DIARY, FakeEntryPoint, NudgeMethod
from napari_tiltalign.images import compute
from napari_tiltalign.methods import base
from napari_tiltalign.model import ArrayImage, Tilt, TiltSeries


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real data, which lies beside a developer's checkout and is not part of the project."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data is not beside this checkout")
    return folder


@pytest.fixture
def nudge(monkeypatch: pytest.MonkeyPatch) -> Iterator[NudgeMethod]:
    """An instant method, ``nudge``, as the only one there is."""
    method = NudgeMethod()
    monkeypatch.setattr(base, "entry_points", lambda group: [FakeEntryPoint(method)])
    base.methods.cache_clear()
    yield method
    base.methods.cache_clear()


@pytest.fixture
def installed_nudge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The method ``nudge`` as if another package had brought it, for other processes too; returns its diary."""
    package = tmp_path / "installed" / "nudge-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: nudge\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[napari_tiltalign.methods]\nnudge = fake_method:METHOD\n")
    folders = [str(package.parent), str(Path(__file__).parent)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    monkeypatch.setenv(DIARY, str(tmp_path / "diary"))
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    base.methods.cache_clear()
    yield tmp_path / "diary"
    base.methods.cache_clear()


@pytest.fixture
def fake_cupy(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    """CuPy with a GPU, as far as the program can tell."""
    module = FakeCupy()
    for name, part in module.modules().items():
        monkeypatch.setitem(sys.modules, name, part)
    monkeypatch.setattr(compute, "_gpu_problem", lambda: "")
    return module


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> ModuleType:
    """CuPy with a GPU: what stands in for it, and then the real one if there is one."""
    if request.param == "stand-in":
        request.getfixturevalue("fake_cupy")
    elif problem := compute._gpu_problem():
        pytest.skip(f"there is no GPU: {problem}")
    return importlib.import_module("cupy")


@pytest.fixture
def write_project(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes a RELION project of tiny series with given names, and returns the file that lists them."""

    def write(*names: str) -> Path:
        from napari_tiltalign.io.project import write_relion_project

        return write_relion_project(tmp_path / "project", [tiny_series(name, k) for k, name in enumerate(names)])

    return write


def tiny_series(name: str, number: int) -> TiltSeries:
    """Five images of 6 x 8 pixels, taken dose-symmetrically."""
    image = np.arange(48, dtype=np.float32).reshape(6, 8)
    tilts = tuple(
        Tilt(f"{number:02d}_{k}", ArrayImage(image + k), angle, 85.0, 3.0 * k, -3.0)
        for k, angle in enumerate((0.0, 20.0, -20.0, -40.0, 40.0))
    )
    return TiltSeries(name, tilts, 10.0, (6, 8))


@pytest.fixture
def failing_writes() -> Iterator[Callable[[int, str], Callable[[], None]]]:
    """Function that lets writing of files fail whose path contains a text, and returns a function that mends it."""

    def fail(number: int, where: str) -> Callable[[], None]:
        replace = Path.replace

        def failing(source: Path, target: Path) -> Path:
            if where in Path(target).as_posix():
                raise OSError(number, os.strerror(number), str(target))
            return replace(source, target)

        with_failures = pytest.MonkeyPatch()
        with_failures.setattr(Path, "replace", failing)
        mended.append(with_failures.undo)
        return with_failures.undo

    mended: list[Callable[[], None]] = []
    yield fail
    for mend in mended:
        mend()
