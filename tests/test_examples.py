"""The examples run, in a folder with a small simulated project: those in docstrings and the scripts."""

from __future__ import annotations

import doctest
import importlib
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import napari_tiltalign
from napari_tiltalign import difference, read, read_alignment, write_alignment
from napari_tiltalign.demo import write_simulated_project
from napari_tiltalign.simulation import Simulation

SCRIPTS = Path(__file__).parents[1] / "examples"
PACKAGE = Path(napari_tiltalign.__file__).parent
MODULES = sorted(
    ".".join(["napari_tiltalign", *path.relative_to(PACKAGE).with_suffix("").parts])
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8") and "ui" not in path.relative_to(PACKAGE).parts
)
FUNCTIONS = [name for name in napari_tiltalign.__all__ if inspect.isfunction(getattr(napari_tiltalign, name))]
SMALL = Simulation(image_rows_px=192, image_columns_px=192, tilt_step_deg=6, n_beads=12, thickness_nm=60)


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``tilt_series.star``, two small series and their truth."""
    folder = tmp_path_factory.mktemp("examples") / "project"
    write_simulated_project(folder, [SMALL.replace(name=f"TS_0{number}", seed=100 + number) for number in (1, 2)])
    return folder


@pytest.fixture
def project(finished_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, as the current folder."""
    copy = Path(shutil.copytree(finished_project, tmp_path / "project"))
    monkeypatch.chdir(copy)
    return copy


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
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


def run(script: str, *arguments: str) -> str:
    """Run a script as a user does and return what it prints."""
    done = subprocess.run([sys.executable, SCRIPTS / script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


def error_px(alignment: str, name: str) -> float:
    """Error of a written alignment against the truth."""
    truth = read_alignment(f"truth/{name}.json")
    return difference(read_alignment(alignment), truth, thickness_angst=SMALL.thickness_angst).rms_px


@pytest.mark.usefixtures("project")
def test_align_one_series_and_curate_its_beads() -> None:
    shown = run("align_one_series.py", "tilt_series.star", "TS_02")
    assert "TS_02: 21 of 21 images took part" in shown
    assert "RELION's file does not hold magnification" in shown
    record = "aligned/external/TS_02/alignment.json"
    assert error_px(record, "TS_02") < 0.1

    shown = run("curate_beads.py", record, "--worst-px", "0.2")
    assert "px from where the others predict it" in shown
    before, after = (float(line.split("error ")[1].split()[0]) for line in shown.splitlines() if "leave-out" in line)
    assert after < before
    assert error_px("curated.json", "TS_02") < 0.1


@pytest.mark.usefixtures("project")
def test_batch_on_this_machine_and_once_more() -> None:
    for _ in range(2):
        shown = run("batch_on_cluster.py", "tilt_series.star", "job001")
        assert "TS_01: aligned\n" in shown
        assert "2 aligned, 0 failed" in shown
    assert error_px("job001/external/TS_01/alignment.json", "TS_01") < 0.1


@pytest.mark.usefixtures("project")
def test_compare_methods() -> None:
    methods = ("fiducial", "projection-matching")
    shown = run("compare_methods.py", "tilt_series.star", "--series", "TS_02", "--methods", *methods)
    for name in methods:
        assert f"{name}: score " in shown
    assert "the best one, fiducial, is in best" in shown
    assert error_px("best/external/TS_02/alignment.json", "TS_02") < 0.1


@pytest.mark.usefixtures("project")
def test_judge_imod_alignment() -> None:
    series = read("tilt_series.star")["TS_01"]
    truth = read_alignment("truth/TS_01.json", series)
    write_alignment("TS_01.xf", truth, series)
    jumped = truth.geometry.shift_yx_angst.copy()
    jumped[5] += 200.0
    write_alignment("jumped.xf", truth.replace(geometry=truth.geometry.replace(shift_yx_angst=jumped)), series)
    shown = run("judge_imod_alignment.py", "tilt_series.star", "TS_01.xf", "--other", "jumped.xf")
    assert "TS_01: good" in shown
    assert f"in {series.tilt_ids[5]}" in shown


def test_every_script_is_listed_and_tested() -> None:
    listed = (SCRIPTS / "README.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8")
    for script in SCRIPTS.glob("*.py"):
        assert f"({script.name})" in listed
        assert f'run("{script.name}"' in tests
