"""What a run shows: to people, to machines, and nothing if that is wanted."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fake_method import Nudge, NudgeMethod
from napari_tiltalign.batch import Placement, Plan, SeriesOutcome, align_dataset, plan_dataset
from napari_tiltalign.batch.demands import typical_seconds
from napari_tiltalign.batch.plan import PlannedSeries
from napari_tiltalign.cli import main, watching
from napari_tiltalign.io import read
from napari_tiltalign.methods.auto import AUTO
from napari_tiltalign.methods.base import Method
from napari_tiltalign.methods.fiducial import FIDUCIAL
from napari_tiltalign.methods.patch_tracking import PATCH_TRACKING
from napari_tiltalign.methods.projection_matching import PROJECTION_MATCHING
from napari_tiltalign.methods.slab import SLAB
from napari_tiltalign.model import Dataset
from napari_tiltalign.simulation import Simulation, simulate

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def star(write_project: Callable[..., Path]) -> Path:
    return write_project("TS_01", "unlucky_02", "TS_03")


def align(star: Path, *flags: str) -> int:
    out = star.parent / "out"
    return main(["align", "nudge", str(star), "--output", str(out), "--scheduler", "serial", *flags])


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_dry_run_tells_plan_memory_and_time_and_writes_nothing(
    nudge: NudgeMethod, star: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert align(star, "--dry-run") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:3] == [f"{name}: align (new), about 0.4 GB" for name in ("TS_01", "unlucky_02", "TS_03")]
    assert shown[3].startswith("3 of 3 series to align, 1 at a time, ")
    assert shown[4].startswith("memory: about 0.4 GB together (each may use ")
    assert shown[5] == "time: not estimated: no series was aligned here with this method yet"
    monkeypatch.setattr(NudgeMethod, "cpu_seconds", lambda self, series, options: 300.0, raising=False)
    monkeypatch.setattr("napari_tiltalign.batch.plan.available_cpus", lambda: 1)
    align(star, "--dry-run")
    assert capsys.readouterr().out.splitlines()[5].startswith("time: very roughly 15 min, by what is typical")
    assert not (star.parent / "out").exists()
    assert nudge.aligned == []
    assert align(star, "--trouble", "fails") == 2
    capsys.readouterr()
    before = {file: file.stat().st_mtime_ns for file in star.parent.rglob("*")}
    assert align(star, "--trouble", "fails", "--dry-run") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "TS_01: kept from an earlier run"
    assert shown[1].startswith("unlucky_02: align (failed before), ")
    assert shown[-1].startswith("time: about ")
    assert shown[-1].endswith(", judged by the last run in this folder")
    assert {file: file.stat().st_mtime_ns for file in star.parent.rglob("*")} == before


def test_a_dry_run_for_machines(nudge: NudgeMethod, star: Path, capsys: Capture) -> None:
    assert align(star, "--dry-run", "--json") == 0
    (told,) = events(capsys.readouterr().out)
    assert told["event"] == "planned"
    assert told["series"] == {"TS_01": "new", "unlucky_02": "new", "TS_03": "new"}
    assert (told["workers"], told["seconds"], told["seconds_from"]) == (1, None, "")
    assert told["memory_limit_bytes"] > told["memory_bytes"] > 1e8


def test_everything_that_happens_as_json(nudge: NudgeMethod, star: Path, capsys: Capture) -> None:
    assert align(star, "--trouble", "fails", "--json") == 2
    captured = capsys.readouterr()
    told = events(captured.out)
    assert captured.err == ""
    assert [one["event"] for one in told if one["event"] != "progress"] == [
        "planned", *["begins", "ended"] * 3, "finished"
    ]  # fmt: skip
    ended = {one["series"]: (one["result"], one["reason"]) for one in told if one["event"] == "ended"}
    assert ended == {
        "TS_01": ("aligned", ""), "unlucky_02": ("failed", "there is nothing to nudge"), "TS_03": ("aligned", "")
    }  # fmt: skip
    last = [one for one in told if one["event"] == "ended"][-1]
    assert (last["facts"]["views"], last["seconds_left"]) == (4, 0.0)
    out = star.parent / "out"
    assert told[-1] == {
        "event": "finished",
        "aligned": 2,
        "failed": 1,
        "results": str(out / "aligned_tilt_series.star"),
        "failures": str(out / "failed_tilt_series.star"),
    }


def test_quiet_tells_only_what_goes_wrong(nudge: NudgeMethod, star: Path, capsys: Capture) -> None:
    assert align(star, "--trouble", "fails", "--quiet") == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["unlucky_02: FAILED: there is nothing to nudge"]
    assert captured.err == ""


def test_a_line_for_every_series_that_runs_and_one_for_all_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=140)
    monkeypatch.setattr(watching, "Console", lambda stderr: terminal)
    watcher = watching.ConsoleWatcher()

    def lines() -> list[list[str]]:
        text = "".join(segment.text for segment in terminal.render(watcher._progress.get_renderable()))
        return [line.split() for line in text.splitlines() if line.strip()]

    series = tuple(PlannedSeries(f"TS_{number}", "new") for number in range(4))
    watcher.planned(Plan(series, 2, 1, 0.0, math.nan))
    for number in (0, 1):
        watcher.begins(f"TS_{number}", number + 1, 4)
    watcher.progress("TS_0", 0.25, "finding beads")
    watcher.progress("TS_1", 0.5, "linking")
    assert [line[0] for line in lines()] == ["all", "TS_0", "TS_1"]
    assert lines()[1][2:] == ["25%", "0:00:00", "finding", "beads"]
    watcher.ended(SeriesOutcome("TS_0", "no beads", seconds=2.0))
    total, other = lines()
    assert ("25%" in total, total[-1], other[0]) == (True, "left", "TS_1")
    assert total[-4] == "about"


def test_without_a_terminal_it_says_now_and_then_how_far_it_is_but_not_while_it_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(watching, "_TELL_EVERY_S", 0.0)
    watcher = watching.ConsoleWatcher()
    watcher.planned(Plan((PlannedSeries("TS_0", "new"), PlannedSeries("TS_1", "new")), 2, 1, 0.0, math.nan))
    watcher.ended(SeriesOutcome("TS_0", "no beads", seconds=2.0))
    watcher.check()
    assert capsys.readouterr().err.startswith("1 of 2 done, about ")
    watcher.waiting("2 aligned, 0 failed, waiting for new series")
    watcher.check()
    assert capsys.readouterr().err == "2 aligned, 0 failed, waiting for new series\n"


OWN = [FIDUCIAL, SLAB, PATCH_TRACKING, PROJECTION_MATCHING, AUTO]


@pytest.mark.parametrize("method", OWN, ids=lambda method: method.name)
def test_own_methods_know_roughly_how_long_they_take(method: Method) -> None:
    series = simulate(Simulation(image_rows_px=64, image_columns_px=64, tilt_step_deg=20.0, n_beads=0)).series
    options = method.Options()
    short = typical_seconds(method, series, options, 1)
    assert 0 < typical_seconds(method, series, options, 2) < short
    assert typical_seconds(method, series.replace(image_shape_yx=(4096, 4096)), options, 1) > short
    fewer = series.with_exclusions({series.tilt_ids[0]: "dark"})
    assert typical_seconds(method, fewer, options, 1) < short


def test_the_plan_does_not_stumble_over_series_without_images(nudge: NudgeMethod, star: Path, capsys: Capture) -> None:
    out = star.parent / "out"
    dataset = read(star)
    align_dataset(dataset, Nudge(), out, placement=Placement("serial"))
    first, *others = dataset
    bare = first.with_exclusions(dict.fromkeys(first.tilt_ids, "dark"))
    plan = plan_dataset(Dataset((bare, *others)), Nudge(amount_nm=2.0), out, placement=Placement("serial"))
    assert plan.seconds > 0
