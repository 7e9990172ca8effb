"""The examples in docstrings run, in a folder with a small simulated project, as the documentation says."""

from __future__ import annotations

import doctest
import importlib
import inspect
import shutil
from pathlib import Path

import pytest

import napari_tiltalign
from napari_tiltalign.demo import write_simulated_project
from napari_tiltalign.simulation import Simulation

PACKAGE = Path(napari_tiltalign.__file__).parent
MODULES = sorted(
    ".".join(["napari_tiltalign", *path.relative_to(PACKAGE).with_suffix("").parts])
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8") and "ui" not in path.relative_to(PACKAGE).parts
)
FUNCTIONS = [name for name in napari_tiltalign.__all__ if inspect.isfunction(getattr(napari_tiltalign, name))]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``tilt_series.star``, one small series and its truth."""
    folder = tmp_path_factory.mktemp("examples") / "project"
    small = Simulation(
        name="TS_01", image_rows_px=192, image_columns_px=192, tilt_step_deg=6, n_beads=12, thickness_nm=60
    )
    write_simulated_project(folder, [small])
    return folder


@pytest.fixture
def inside_project(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a copy of the project."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")


@pytest.mark.usefixtures("inside_project")
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    shown: list[str] = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(test, out=shown.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(shown)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_has_an_example_that_runs(name: str) -> None:
    function = getattr(napari_tiltalign, name)
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(function) or "")
    assert examples, f"give {name} an example"
    assert not any(doctest.SKIP in example.options for example in examples)
    imports = [example.source for example in examples if "import" in example.source]
    assert any(name in line for line in imports), f"import {name} in its example, so that it can be copied"
    assert function.__module__ in MODULES
