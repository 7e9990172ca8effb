"""Many series: one bad series never stops the others, and a run that was cut short goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_method import Nudge, NudgeMethod
from napari_tiltalign.batch import Existing, SeriesOutcome, Summary, Watcher, align_dataset
from napari_tiltalign.errors import BadInput, Cancelled
from napari_tiltalign.io import read
from napari_tiltalign.io.star import read_star

NAMES = ("TS_01", "unlucky_02", "TS_03")


@pytest.fixture
def star(write_project: Callable[..., Path]) -> Path:
    return write_project(*NAMES)


def run(star: Path, options: Nudge | None = None, **arguments: Any) -> Summary:
    return align_dataset(read(star), options or Nudge(), star.parent / "out", **arguments)


def listed(star: Path, table: str = "aligned") -> list[str]:
    file = star.parent / "out" / f"{table}_tilt_series.star"
    return list(read_star(file)["global"].columns["rlnTomoName"]) if file.exists() else []


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_all_good(nudge: NudgeMethod, star: Path) -> None:
    summary = run(star)
    assert [outcome.name for outcome in summary.aligned] == list(NAMES)
    assert summary.failed == ()
    assert listed(star) == list(NAMES)
    assert not (star.parent / "out/failed_tilt_series.star").exists()


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("fails", "there is nothing to nudge"),
        ("bug", "internal error, please report it with the log: ZeroDivisionError: a slip"),
        ("no-memory", "not enough memory; use images that are binned more"),
        ("all-excluded", "no image is included, so there is nothing to write as .aln"),
    ],
)
def test_one_bad_series_does_not_stop_the_others(nudge: NudgeMethod, star: Path, trouble: Any, reason: str) -> None:
    summary = run(star, Nudge(trouble=trouble))
    assert [(outcome.name, outcome.failure) for outcome in summary.failed] == [("unlucky_02", reason)]
    assert listed(star) == ["TS_01", "TS_03"]
    assert listed(star, "failed") == ["unlucky_02"]


def test_series_that_cannot_be_read_are_reported(nudge: NudgeMethod, star: Path) -> None:
    (star.parent / "tilt_series" / "TS_03.star").unlink()
    summary = run(star)
    assert [outcome.name for outcome in summary.failed] == ["TS_03"]
    assert listed(star, "failed") == ["TS_03"]


def test_results_are_not_replaced_unasked(nudge: NudgeMethod, star: Path) -> None:
    run(star)
    before = contents(star.parent / "out")
    with pytest.raises(BadInput, match="--resume, --overwrite"):
        run(star)
    assert contents(star.parent / "out") == before


def test_resume_keeps_what_is_done(nudge: NudgeMethod, star: Path) -> None:
    run(star, Nudge())
    before = contents(star.parent / "out")
    nudge.aligned.clear()
    summary = run(star, existing=Existing.RESUME)
    assert nudge.aligned == []
    assert all(outcome.kept and outcome.alignment is not None for outcome in summary.outcomes)
    assert contents(star.parent / "out") == before


def change_options(star: Path) -> Nudge:
    return Nudge(amount_nm=3.0)


def touch_image(star: Path) -> Nudge:
    os.utime(next((star.parent / "frames").glob("01_*.mrc")), (1, 1))
    return Nudge()


def change_result(star: Path) -> Nudge:
    with (star.parent / "out/external/unlucky_02/unlucky_02.xf").open("a") as file:
        file.write("\n")
    return Nudge()


def lose_result(star: Path) -> Nudge:
    (star.parent / "out/tilt_series/unlucky_02.star").unlink()
    return Nudge()


def lose_state(star: Path) -> Nudge:
    # as after a kill: files, but no word that they are complete
    state = star.parent / "out/external/unlucky_02/state.json"
    state.write_text(json.dumps({"fingerprint": "", "failure": "not finished", "checksums": {}}))
    return Nudge()


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (change_options, list(NAMES)),
        (touch_image, ["unlucky_02"]),
        (change_result, ["unlucky_02"]),
        (lose_result, ["unlucky_02"]),
        (lose_state, ["unlucky_02"]),
    ],
)
def test_resume_does_what_is_not_done_in_this_way(
    nudge: NudgeMethod, star: Path, change: Callable[[Path], Nudge], again: list[str]
) -> None:
    run(star)
    options = change(star)
    nudge.aligned.clear()
    run(star, options, existing=Existing.RESUME)
    assert nudge.aligned == again
    assert listed(star) == list(NAMES)


def test_resume_tries_failed_series_again(nudge: NudgeMethod, star: Path) -> None:
    run(star, Nudge(trouble="fails"))
    nudge.aligned.clear()
    run(star, Nudge(trouble="fails"), existing=Existing.RESUME)
    assert nudge.aligned == ["unlucky_02"]


def test_stopping_keeps_what_is_done_and_resuming_gives_the_same(nudge: NudgeMethod, star: Path) -> None:
    undisturbed = run(star).folder.root.rename(star.parent / "undisturbed")

    class Impatient(Watcher):
        def progress(self, fraction: float, message: str) -> None:
            if nudge.aligned[-1] == "unlucky_02":
                raise Cancelled

    with pytest.raises(Cancelled):
        run(star, watcher=Impatient())
    assert not (star.parent / "out/aligned_tilt_series.star").exists()
    record = json.loads((star.parent / "out/run.json").read_text())
    assert (record["status"], list(record["series"])) == ("stopped", ["TS_01"])
    nudge.aligned.clear()
    run(star, existing=Existing.RESUME)
    assert nudge.aligned == ["unlucky_02", "TS_03"]
    assert contents(star.parent / "out") == contents(undisturbed)


def test_overwrite_does_everything_again(nudge: NudgeMethod, star: Path) -> None:
    run(star)
    nudge.aligned.clear()
    run(star, existing=Existing.OVERWRITE)
    assert nudge.aligned == list(NAMES)


def test_only_some_series(nudge: NudgeMethod, star: Path) -> None:
    run(star, only=["TS_03"])
    assert nudge.aligned == listed(star) == ["TS_03"]
    with pytest.raises(BadInput, match="no tilt series named TS_9; there are TS_01, TS_03, unlucky_02"):
        run(star, only=["TS_9"], existing=Existing.OVERWRITE)


def test_doing_one_series_again_keeps_the_others_in_the_tables(nudge: NudgeMethod, star: Path) -> None:
    run(star, Nudge(trouble="fails"))
    nudge.aligned.clear()
    run(star, Nudge(amount_nm=5.0), only=["TS_03"], existing=Existing.OVERWRITE)
    assert nudge.aligned == ["TS_03"]
    assert listed(star) == ["TS_01", "TS_03"]
    assert listed(star, "failed") == ["unlucky_02"]


def test_disk_full_stops_the_run(nudge: NudgeMethod, star: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_tiltalign.io.convert.write_star", full)
    with pytest.raises(OSError, match="No space left"):
        run(star)
    assert nudge.aligned == ["TS_01"]
    monkeypatch.undo()
    record = json.loads((star.parent / "out/run.json").read_text())
    assert record["status"].startswith("broken off")


def test_record_of_the_run(nudge: NudgeMethod, star: Path) -> None:
    run(star, Nudge(trouble="fails"), command=("napari-tiltalign", "align"))
    record = json.loads((star.parent / "out/run.json").read_text())
    assert record["command"] == ["napari-tiltalign", "align"]
    assert (record["method"], record["options"]["trouble"], record["status"]) == ("nudge", "fails", "finished")
    assert {name: facts["result"] for name, facts in record["series"].items()} == {
        "TS_01": "aligned", "unlucky_02": "failed", "TS_03": "aligned"
    }  # fmt: skip
    assert any("magnification" in loss for loss in record["series"]["TS_01"]["not_in_file"][".star"])


def test_input_is_not_touched(nudge: NudgeMethod, star: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in star.parent.rglob("*") if path.is_file()}
    run(star)
    shutil.rmtree(star.parent / "out")
    assert {path: path.stat().st_mtime_ns for path in star.parent.rglob("*") if path.is_file()} == before


def test_watcher_is_told_everything(nudge: NudgeMethod, star: Path) -> None:
    told: list[Any] = []

    class Nosy(Watcher):
        def begins(self, name: str, number: int, total: int) -> None:
            told.append((name, number, total))

        def progress(self, fraction: float, message: str) -> None:
            told.append((fraction, message))

        def ended(self, outcome: SeriesOutcome) -> None:
            told.append((outcome.name, bool(outcome.failure)))

    run(star, Nudge(trouble="fails"), watcher=Nosy())
    assert told[:3] == [("TS_01", 1, 3), (0.5, "nudging"), ("TS_01", False)]
    assert told[-4:-3] == [("unlucky_02", True)]
