"""The command ``compare``: runs methods, takes others' alignments, and leaves the best in RELION's shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_method import NudgeMethod
from napari_tiltalign import read, read_alignment
from napari_tiltalign.cli import main
from napari_tiltalign.io.convert import write_alignment
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

TINY = Simulation(
    name="TS_1", image_rows_px=128, image_columns_px=144, pixel_size_angst=28, tilt_step_deg=8, n_beads=10,
    bead_diameter_nm=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def sample() -> SimulatedSeries:
    return simulate(TINY)


@pytest.fixture
def project(tmp_path: Path, sample: SimulatedSeries) -> Path:
    return write_relion_project(tmp_path / "project", [sample.series])


@pytest.fixture
def given(tmp_path: Path, project: Path, sample: SimulatedSeries) -> Path:
    series = read(project).series[0]
    where = tmp_path / "given.json"
    write_alignment(where, sample.truth.replace(tilt_ids=series.tilt_ids, tracks=None), series)
    return where


def test_methods_and_others_alignments_are_compared(
    nudge: NudgeMethod, project: Path, given: Path, tmp_path: Path, capsys
):
    out = tmp_path / "compared"
    command = ["compare", str(project), "--methods", "nudge", "--output", str(out), "--scheduler", "serial"]
    assert main([*command, "--also", f"truth={given}", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["best"] == "truth"
    assert set(told["alignments"]) == {"nudge", "truth"}
    assert told["alignments"]["nudge"]["from_best"]["rms_px"] > 1
    assert json.loads((out / "comparison.json").read_text())[0] == told
    series = read(project).series[0]
    best = read_alignment(out / "best", series)
    assert best.geometry.shift_yx_angst == pytest.approx(read_alignment(given, series).geometry.shift_yx_angst)
    assert (out / "best" / "aligned_tilt_series.star").is_file()
    assert (out / "nudge" / "aligned_tilt_series.star").is_file()

    assert main([*command, "--also", f"truth={given}"]) == 0  # once more: what is done is kept
    text = capsys.readouterr().out
    assert "TS_1: best truth. truth scores" in text
    assert "rms from the best" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "nudge", "--set", "nudge.nonsense=1"], "nudge has no such option; it has nudge-nm"),
        (["--methods", "nudge", "--also", "imod=nowhere.xf"], "nowhere.xf does not exist"),
        (["--methods", "nudge", "--set", "other.x=1"], "none of the methods"),
        (["--methods", "nudge", "--also", "best=x.aln"], "another name"),
        (["--methods", "nudge", "--also", "x.aln"], "NAME=PATH"),
        (["--methods", "nothing"], "no method"),
    ],
)
def test_wrong_usage_is_told(nudge: NudgeMethod, project: Path, tmp_path: Path, capsys, arguments, message):
    assert main(["compare", str(project), "--output", str(tmp_path / "out"), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_the_best_method_aligns_the_rest_with_its_options(nudge: NudgeMethod, project: Path, tmp_path: Path, capsys):
    compared, out = tmp_path / "compared", tmp_path / "job"
    command = ["compare", str(project), "--methods", "nudge", "--output", str(compared), "--scheduler", "serial"]
    assert main([*command, "--set", "nudge.nudge-nm=7"]) == 0
    capsys.readouterr()

    align = ["align", str(project), "--use-best", str(compared), "--output", str(out), "--scheduler", "serial"]
    assert main(align) == 0

    assert "nudge is the best of 1 of 1 series" in capsys.readouterr().err
    run = json.loads((out / "run.json").read_text())
    assert (run["method"], run["options"]["amount_nm"]) == ("nudge", 7.0)
    assert read_alignment(out, read(project).series[0]).provenance.options["amount_nm"] == 7.0


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("{}", "is not what compare writes"),
        ('[{"series": "TS_1", "best": null}]', "no method that was run"),
        ('[{"series": "TS_1", "best": "imod"}]', "the best were imod, which were given with --also"),
    ],
)
def test_what_is_no_comparison_is_refused(
    nudge: NudgeMethod, project: Path, tmp_path: Path, capsys, record: str | None, message: str
):
    if record is not None:
        (tmp_path / "comparison.json").write_text(record)
    align = ["align", str(project), "--use-best", str(tmp_path), "--output", str(tmp_path / "job")]
    assert main(align) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "job").exists()
