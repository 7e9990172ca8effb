"""The command ``preview``."""

from __future__ import annotations

import inspect
from pathlib import Path

import mrcfile
import pytest

from napari_tiltalign import read
from napari_tiltalign.cli import main
from napari_tiltalign.cli.exit_codes import ExitCode
from napari_tiltalign.cli.preview import preview, write_preview
from napari_tiltalign.images import compute
from napari_tiltalign.io.convert import write_alignment
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.quality.preview import PREVIEW_SIZE_PX
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

TINY = Simulation(
    name="TS_1", image_rows_px=128, image_columns_px=144, pixel_size_angst=14, tilt_step_deg=10, n_beads=10
)


@pytest.fixture(scope="module")
def sample() -> SimulatedSeries:
    return simulate(TINY)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, sample: SimulatedSeries) -> Path:
    return write_relion_project(tmp_path_factory.mktemp("previewed") / "project", [sample.series])


@pytest.fixture(scope="module")
def aligned(project: Path, sample: SimulatedSeries) -> Path:
    series = read(project).series[0]
    where = project.parent / "TS_1.aln"
    write_alignment(where, sample.truth.replace(tilt_ids=series.tilt_ids, tracks=None), series)
    return where


def test_size_height_and_voxels_are_as_asked(project: Path, aligned: Path, tmp_path: Path, capsys):
    asked = ["--size", "72", "--thickness-nm", "100", "--no-level"]
    assert main(["preview", str(project), str(aligned), "--output", str(tmp_path / "seen"), *asked]) == 0
    with mrcfile.open(tmp_path / "seen" / "TS_1.mrc") as volume:
        assert volume.data.shape == (round(1000 / 28), 64, 72)
        assert volume.voxel_size.x == pytest.approx(28.0, rel=0.01)
        assert volume.data.std() > 0
    told = capsys.readouterr().out
    assert "TS_1.mrc" in told
    assert "as aligned" in told


def test_the_device_is_used_or_missed(project: Path, aligned: Path, tmp_path: Path, fake_cupy, monkeypatch, capsys):
    asked = ["preview", str(project), str(aligned), "--output", str(tmp_path / "seen"), "--size", "32"]
    assert main([*asked, "--device", "auto"]) == 0
    assert fake_cupy.uploads == 0
    assert main([*asked, "--device", "cuda"]) == 0
    assert fake_cupy.uploads > 0
    monkeypatch.setattr(compute, "_gpu_problem", lambda: "there is none")
    assert main([*asked, "--device", "cuda"]) == ExitCode.ENVIRONMENT
    assert "no GPU can be used" in capsys.readouterr().err


def test_a_series_that_fails_does_not_stop_the_others(project: Path, aligned: Path, tmp_path: Path, capsys):
    two = write_relion_project(tmp_path / "two", [simulate(TINY).series, simulate(TINY.replace(name="TS_2")).series])
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "TS_1.aln").write_bytes(aligned.read_bytes())
    assert main(["preview", str(two), str(folder), "--output", str(tmp_path / "seen"), "--size", "48"]) == 2
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["TS_1.mrc"]
    assert "TS_2" in capsys.readouterr().err


def test_without_the_alignment_nothing_is_written(project: Path, tmp_path: Path):
    assert main(["preview", str(project), str(tmp_path / "no.aln"), "--output", str(tmp_path / "seen")]) != 0
    assert not (tmp_path / "seen").exists()


@pytest.mark.parametrize("function", [preview, write_preview])
def test_the_usual_size_is_that_of_python(function):
    parameters = inspect.signature(function).parameters
    assert next(p.default for name, p in parameters.items() if name.startswith("size")) == PREVIEW_SIZE_PX
