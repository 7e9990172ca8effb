"""The command ``judge``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_tiltalign.cli import main
from napari_tiltalign.io.convert import write_alignment
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

TINY = Simulation(
    name="TS_1", image_rows_px=128, image_columns_px=144, pixel_size_angst=14, tilt_step_deg=10, n_beads=10
)


@pytest.fixture(scope="module")
def sample() -> SimulatedSeries:
    return simulate(TINY)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, sample: SimulatedSeries) -> Path:
    return write_relion_project(tmp_path_factory.mktemp("judged") / "project", [sample.series])


@pytest.mark.parametrize("suffix", [".xf", ".aln", ".json", ".star"])
def test_any_format_is_judged(project: Path, sample: SimulatedSeries, tmp_path: Path, suffix: str, capsys):
    from napari_tiltalign import read

    series = read(project).series[0]
    where = tmp_path / f"TS_1{suffix}"
    write_alignment(where, sample.truth.replace(tilt_ids=series.tilt_ids, tracks=None), series)

    assert main(["judge", str(project), str(where), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["series"] == "TS_1"
    assert found["score"] > 0
    assert found["grade"] in ("good", "fair", "poor")
    assert found["reasons"]
    assert len(found["views"]) == len(sample.series)


def test_people_get_sentences(project: Path, sample: SimulatedSeries, tmp_path: Path, capsys):
    from napari_tiltalign import read

    series = read(project).series[0]
    where = tmp_path / "TS_1.json"
    write_alignment(where, sample.truth.replace(tilt_ids=series.tilt_ids, tracks=None), series)
    assert main(["judge", str(project), str(where), "--views", "--no-beads"]) == 0
    out = capsys.readouterr().out
    assert "higher is better" in out
    assert all(tilt_id[:27] in out for tilt_id in series.tilt_ids)


def test_what_is_no_alignment_is_wrong_usage(project: Path, tmp_path: Path, capsys):
    notes = tmp_path / "notes.txt"
    assert main(["judge", str(project), str(notes)]) == 1
    assert "does not exist" in capsys.readouterr().err
    notes.write_text("nothing\n")
    assert main(["judge", str(project), str(notes)]) == 1
    assert "suffix" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["judge"], ["judge", "--json"], ["preview", "--output", "seen"]])
def test_an_alignment_that_is_not_there_is_told_once(write_project, capsys, command: list[str]):
    star = write_project("TS_1", "TS_2", "TS_3")
    assert main([*command, str(star), "nowhere.aln"]) == 1
    assert capsys.readouterr().err.count("nowhere.aln does not exist") == 1


@pytest.mark.parametrize("algorithm", ["wbp", "sirt"])
def test_a_small_tomogram_is_written(project: Path, sample: SimulatedSeries, tmp_path: Path, algorithm: str):
    import mrcfile

    from napari_tiltalign import read

    series = read(project).series[0]
    where = tmp_path / "TS_1.json"
    write_alignment(where, sample.truth.replace(tilt_ids=series.tilt_ids, tracks=None), series)
    arguments = ["--no-beads", "--preview", str(tmp_path / "seen"), "--preview-algorithm", algorithm]
    assert main(["judge", str(project), str(where), *arguments]) == 0
    with mrcfile.open(tmp_path / "seen" / "TS_1.mrc") as volume:
        assert volume.data.ndim == 3
        assert volume.data.std() > 0
        assert volume.voxel_size.x == pytest.approx(14.0, rel=0.01)


@pytest.mark.parametrize("command", [["judge"], ["preview", "--output", "{tmp}/seen"]])
def test_a_file_of_one_series_is_not_taken_for_others(
    project: Path, sample: SimulatedSeries, tmp_path: Path, command: list[str], capsys
):
    two = write_relion_project(tmp_path / "two", [sample.series, simulate(TINY.replace(name="TS_2")).series])
    where = tmp_path / "results" / "TS_1.aln"
    where.parent.mkdir()
    write_alignment(where, sample.truth.replace(tracks=None), sample.series)
    name, *options = (word.format(tmp=tmp_path) for word in command)

    assert main([name, str(two), str(where), *options]) == 1
    told = capsys.readouterr().err
    assert "of one series" in told
    assert "--only" in told

    assert main([name, str(two), str(where), *options, "--only", "TS_1"]) == 0
    assert "TS_1" in capsys.readouterr().out

    assert main([name, str(two), str(where.parent), *options]) == 2  # TS_2 has none there
    assert "TS_2" in capsys.readouterr().err
