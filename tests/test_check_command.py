"""The command ``check``."""

from __future__ import annotations

import json
from pathlib import Path

from napari_tiltalign.cli import main
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.simulation import Simulation, simulate

TINY = Simulation(name="TS_1", image_rows_px=128, image_columns_px=144, pixel_size_angst=28, tilt_step_deg=6, n_beads=4)


def test_findings_are_told_to_people_and_programs(tmp_path: Path, capsys):
    project = write_relion_project(
        tmp_path / "project", [simulate(TINY).series, simulate(TINY.replace(name="TS_2", axis_error_deg=80)).series]
    )
    assert main(["check", str(project), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    good, wrong = found["series"]
    assert (good["series"], wrong["series"]) == ("TS_1", "TS_2")
    assert not [f for f in good["findings"] if f["level"] == "problem"]
    assert [f["name"] for f in wrong["findings"] if f["level"] == "problem"] == ["axis"]
    assert wrong["axis"]["score_nominal_plus_90"] > wrong["axis"]["score_nominal"]

    assert main(["check", str(project), "--only", "TS_2"]) == 0
    told = capsys.readouterr().out
    assert "to do: Give the right one: --tilt-axis-deg" in told
    assert "TS_1" not in told
    assert "with the axis 90° off" in told
    assert set(wrong["axis"]["hypotheses"]) == {
        "nominal", "nominal + 90", "nominal + 180", "nominal, tilts of the opposite sign"
    }  # fmt: skip
    assert wrong["axis"]["hypotheses"]["nominal + 90"] == wrong["axis"]["score_nominal_plus_90"]
