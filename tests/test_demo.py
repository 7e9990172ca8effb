"""The main job from end to end: a simulated RELION project in, STAR files out, and how far from the truth they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_tiltalign.cli import main
from napari_tiltalign.demo import SANE_ERROR_PX
from napari_tiltalign.io import read
from napari_tiltalign.io.convert import read_alignment
from napari_tiltalign.io.record import read_record
from napari_tiltalign.quality.difference import difference


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output", str(tmp_path / "demo")]) == 0
    shown = capsys.readouterr().out
    assert "error against the truth: 0." in shown

    # checked again without the demo's own code
    aligned = tmp_path / "demo/AlignTiltSeries/job001/aligned_tilt_series.star"
    series = read(tmp_path / "demo/tilt_series.star").series[0]
    truth = read_record(tmp_path / f"demo/truth/{series.name}.json")
    error = difference(read_alignment(aligned, series), truth, thickness_angst=1200.0)
    assert error.rms_px < SANE_ERROR_PX
    assert not error.hand_flipped
    assert error.n_views == len(series)

    assert main(["demo", "--output", str(tmp_path / "demo")]) == 1  # never over an earlier one
    assert "exists already" in capsys.readouterr().err


def test_demo_fails_if_the_result_is_wrong(
    tmp_path: Path, nudge: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fake_method import Nudge
    from napari_tiltalign import demo
    from napari_tiltalign.simulation import Simulation

    tiny = Simulation(image_rows_px=64, image_columns_px=64, tilt_step_deg=30.0, texture="none", n_beads=0)
    monkeypatch.setitem(demo.__dict__, "SCENARIOS", {demo.SCENARIO: tiny})
    monkeypatch.setattr(demo, "method", lambda name: type("Any", (), {"Options": Nudge}))
    assert main(["demo", "--output", str(tmp_path / "demo")]) == 3
    assert "the demo has failed" in capsys.readouterr().out
