"""Many series: one bad series never stops the others, and a run that was cut short goes on where it was."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fake_method import Nudge, NudgeMethod, nudged
from napari_tiltalign.batch import (
    Existing,
    Placement,
    SeriesOutcome,
    Summary,
    Watcher,
    align_dataset,
    attention,
    plan_dataset,
)
from napari_tiltalign.errors import BadInput, Cancelled
from napari_tiltalign.io import read
from napari_tiltalign.io.output import WORK_COLUMN, write_results
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.record import read_record
from napari_tiltalign.io.run_lock import FolderBusy
from napari_tiltalign.io.star import read_star
from napari_tiltalign.model import TiltSeries

NAMES = ("TS_01", "unlucky_02", "TS_03")


@pytest.fixture
def star(write_project: Callable[..., Path]) -> Path:
    return write_project(*NAMES)


def run(star: Path, options: Nudge | None = None, **arguments: Any) -> Summary:
    arguments = {"placement": Placement("serial"), **arguments}
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


def test_resume_keeps_what_is_done(nudge: NudgeMethod, star: Path) -> None:
    run(star, Nudge())
    before = contents(star.parent / "out")
    nudge.aligned.clear()
    summary = run(star, existing=Existing.RESUME)
    assert nudge.aligned == []
    assert all(outcome.kept and outcome.read_alignment().statistics for outcome in summary.outcomes)
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
        def progress(self, name: str, fraction: float, message: str) -> None:
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


def test_results_of_another_method_are_not_replaced_unasked(nudge: NudgeMethod, star: Path) -> None:
    run(star)
    before = contents(star.parent / "out")
    nudge.name = "shove"
    with pytest.raises(BadInput, match=r"holds results of the method nudge, such as TS_01; .*--overwrite"):
        run(star)
    assert contents(star.parent / "out") == before
    run(star, existing=Existing.OVERWRITE, only=["TS_03"])
    works = read_star(star.parent / "out/aligned_tilt_series.star")["global"].columns[WORK_COLUMN]
    assert [work.partition("/")[0] for work in works] == ["nudge", "nudge", "shove"]


def test_column_that_tells_how_is_there_only_where_series_differ(nudge: NudgeMethod, star: Path) -> None:
    run(star, overrides={"TS_03": Nudge(amount_nm=2.0)})
    aligned = star.parent / "out/aligned_tilt_series.star"
    first, second, third = read_star(aligned)["global"].columns[WORK_COLUMN]
    assert first == second != third
    align_dataset(read(aligned), Nudge(), star.parent / "again", placement=Placement("serial"))
    assert WORK_COLUMN not in read_star(star.parent / "again/aligned_tilt_series.star")["global"].columns


def test_tables_of_other_series_are_not_replaced_unasked(nudge: NudgeMethod, star: Path) -> None:
    run(star, only=["TS_01"])
    other = read(star).only(["TS_03"])
    with pytest.raises(BadInput, match="holds results of other series"):
        align_dataset(other, Nudge(), star.parent / "out")
    assert listed(star) == ["TS_01"]


def test_what_a_person_made_is_kept(nudge: NudgeMethod, star: Path) -> None:
    dataset = read(star)
    write_results(star.parent / "out", dataset, {"TS_03": nudged(dataset["TS_03"], 70.0)})
    kept = run(star).outcomes[2]
    assert kept.kept == "made by hand, kept (--overwrite replaces it)"
    assert nudge.aligned == ["TS_01", "unlucky_02"]
    assert kept.read_alignment().geometry.shift_yx_angst[0, 0] == 70.0
    run(star, existing=Existing.OVERWRITE, only=["TS_03"])
    assert nudge.aligned[-1] == "TS_03"


def test_tables_stay_while_series_are_added(nudge: NudgeMethod, star: Path) -> None:
    run(star, only=["TS_01"])
    there = []

    class Nosy(Watcher):
        def begins(self, name: str, number: int, total: int) -> None:
            there.append(listed(star))

    run(star, watcher=Nosy())
    run(star, existing=Existing.OVERWRITE, only=["TS_03"], watcher=Nosy())
    assert there == [["TS_01"], ["TS_01"], []]  # and never list what is being replaced


@pytest.mark.parametrize("as_file", [False, True], ids=["folder", "STAR file"])
def test_starting_from_earlier_results(nudge: NudgeMethod, star: Path, as_file: bool) -> None:
    earlier = star.parent / "earlier"
    align_dataset(read(star), Nudge(amount_nm=3.0), earlier, placement=Placement("serial"))
    start = earlier / "aligned_tilt_series.star" if as_file else earlier
    run(star, Nudge(amount_nm=1.0), start=start)
    for name in NAMES:
        shift = read_record(OutputFolder(star.parent / "out").alignment_record(name)).geometry.shift_yx_angst
        assert shift[0] == pytest.approx([40.0, 40.0], abs=0.01)  # the method adds to what it starts from
    nudge.aligned.clear()
    run(star, Nudge(amount_nm=1.0), start=start)
    assert nudge.aligned == []
    run(star, Nudge(amount_nm=1.0))
    assert nudge.aligned == list(NAMES)


def test_a_start_counts_as_changed_if_what_it_says_of_the_series_has_changed(nudge: NudgeMethod, star: Path) -> None:
    earlier = star.parent / "earlier"
    align_dataset(read(star), Nudge(), earlier, placement=Placement("serial"), only=["TS_01", "TS_03"])
    table = earlier / "aligned_tilt_series.star"
    run(star, start=table, only=["TS_01", "TS_03"])
    nudge.aligned.clear()
    align_dataset(read(star), Nudge(), earlier, placement=Placement("serial"))  # one more is in the table
    assert nudge.aligned == ["unlucky_02"]
    run(star, start=table)
    assert nudge.aligned == ["unlucky_02", "unlucky_02"]
    moved = earlier / "tilt_series/TS_03.star"
    moved.write_text(moved.read_text().replace("\t10.000000", "\t12.000000"))  # the table stays as it was
    run(star, start=table)
    assert nudge.aligned[2:] == ["TS_03"]


def test_a_bug_in_reading_a_start_costs_its_own_series_only(
    nudge: NudgeMethod, star: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = star.parent / "earlier"
    align_dataset(read(star), Nudge(), earlier, placement=Placement("serial"))

    def slip(file: Path, series: TiltSeries) -> str:
        return "digest" if series.name != "TS_03" else str(1 / 0)

    monkeypatch.setattr("napari_tiltalign.batch.plan.start_digest", slip)
    (failed,) = run(star, start=earlier).failed
    assert (failed.name, "ZeroDivisionError" in failed.failure) == ("TS_03", True)
    assert "Traceback" in caplog.text


def test_a_series_without_a_start_fails(nudge: NudgeMethod, star: Path) -> None:
    run(star, only=["TS_01", "unlucky_02"])
    earlier = (star.parent / "out").rename(star.parent / "earlier")
    summary = run(star, start=earlier)
    assert [(outcome.name, outcome.failure) for outcome in summary.failed] == [
        ("TS_03", f"there is no alignment of it in {earlier} to start from (--start)")
    ]


def test_tables_of_a_project_that_is_not_aligned_are_nothing_to_start_from(nudge: NudgeMethod, star: Path) -> None:
    """Its folder may hold alignments of other programs besides."""
    run(star, only=["TS_01"])
    for file in (star.parent / "out/external/TS_01").glob("TS_01.*"):
        shutil.copy(file, star.parent)
    summary = run(star, start=star.parent, only=["TS_01", "TS_03"])
    assert [one.name for one in summary.aligned] == ["TS_01"]
    assert summary.failed[0].failure == f"there is no alignment of it in {star.parent} to start from (--start)"


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("nowhere", "does not exist"),
        ("out", "lies in the output folder"),
        ("TS.xf", "is of one series, but 3 are to be aligned"),
        ("notes.txt", "is no alignment that can be read"),
    ],
)
def test_bad_starts(nudge: NudgeMethod, star: Path, start: str, message: str) -> None:
    run(star, only=["TS_01"])
    for name in ("TS.xf", "notes.txt"):
        (star.parent / name).write_text("")
    with pytest.raises(BadInput, match=message):
        run(star, start=star.parent / start)


def test_plan_says_what_would_be_done_and_writes_nothing(nudge: NudgeMethod, star: Path) -> None:
    assert plan_dataset(read(star), Nudge(), star.parent / "out").series[0].why == "new"
    assert not (star.parent / "out").exists()
    run(star, Nudge(trouble="fails"))
    change_images = star.parent / "frames" / "02_0.mrc"
    os.utime(change_images, (1, 1))
    before = contents(star.parent)
    plan = plan_dataset(read(star), Nudge(trouble="fails"), star.parent / "out")
    assert {one.name: one.why for one in plan.series} == {
        "TS_01": "kept", "unlucky_02": "failed before", "TS_03": "its images, or what it starts from, have changed"
    }  # fmt: skip
    assert plan.memory_bytes > 2e8
    assert plan.seconds > 0
    assert contents(star.parent) == before


def test_series_that_do_not_fit_into_memory_are_refused_before_they_start(nudge: NudgeMethod, star: Path) -> None:
    summary = run(star, placement=Placement("serial", memory_gb=0.1))
    assert nudge.aligned == []
    assert "about 0.4 GB of memory, and 0.1 GB may be used; use images that are binned" in summary.failed[0].failure
    assert listed(star, "failed") == list(NAMES)


@pytest.mark.parametrize("marker", ["STOP", "RELION_JOB_ABORT_NOW"])
def test_a_marker_stops_the_run(nudge: NudgeMethod, star: Path, marker: str) -> None:
    class Stopper(Watcher):
        def ended(self, outcome: SeriesOutcome) -> None:
            (star.parent / "out" / marker).touch()

    with pytest.raises(Cancelled, match=marker):
        run(star, watcher=Stopper())
    assert nudge.aligned == ["TS_01"]
    run(star)
    assert nudge.aligned == ["TS_01", "unlucky_02", "TS_03"]
    assert not (star.parent / "out" / marker).exists()


@pytest.fixture
def no_ctrl_c() -> Iterator[None]:
    """Ctrl-C is ignored, as in the background of a shell script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN


@pytest.mark.usefixtures("no_ctrl_c")
def test_a_marker_stops_a_run_in_the_background_that_does_not_look(
    nudge: NudgeMethod, star: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_a_marker_stops_a_run_that_does_not_look(nudge, star, monkeypatch, in_thread=False)


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_marker_stops_a_run_that_does_not_look(
    nudge: NudgeMethod, star: Path, monkeypatch: pytest.MonkeyPatch, in_thread: bool
) -> None:
    monkeypatch.setattr(attention, "PATIENCE_S", 0.2)

    class Stopper(Watcher):
        def progress(self, name: str, fraction: float, message: str) -> None:
            if name == "unlucky_02":
                (star.parent / "out/STOP").touch()

    def stopped() -> None:
        with pytest.raises(Cancelled, match="STOP asks to stop"):
            run(star, Nudge(trouble="none" if in_thread else "hangs"), watcher=Stopper())

    if in_thread:  # where nobody can be interrupted: it is noticed with the next progress
        with ThreadPoolExecutor() as pool:
            pool.submit(stopped).result()
    else:
        stopped()
    record = json.loads((star.parent / "out/run.json").read_text())
    done = ["TS_01", "unlucky_02"] if in_thread else ["TS_01"]
    assert (record["status"], list(record["series"])) == ("stopped", done)
    assert not (star.parent / "out/run.lock").exists()
    run(star)
    assert listed(star) == list(NAMES)


def test_ctrl_c_is_not_taken_for_a_marker(nudge: NudgeMethod, star: Path) -> None:
    class Impatient(Watcher):
        def progress(self, name: str, fraction: float, message: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(star, watcher=Impatient())
    assert json.loads((star.parent / "out/run.json").read_text())["status"] == "stopped"


def test_what_killed_writers_left_is_removed(nudge: NudgeMethod, star: Path) -> None:
    run(star)
    clean = contents(star.parent / "out")
    leave_something(star)
    run(star)
    assert contents(star.parent / "out") == clean


def leave_something(star: Path) -> None:
    for place in ("", "tilt_series", "external/TS_01"):
        (star.parent / "out" / place / ".tiltalign-0123.tmp").write_text("half")


def test_what_workers_left_that_were_killed_in_this_run_is_removed(nudge: NudgeMethod, star: Path) -> None:
    class Killer(Watcher):
        def ended(self, outcome: SeriesOutcome) -> None:
            leave_something(star)

    run(star, watcher=Killer())
    assert not list((star.parent / "out").rglob("*.tmp"))


def test_a_second_run_in_the_folder_is_refused(nudge: NudgeMethod, star: Path) -> None:
    class Second(Watcher):
        def begins(self, name: str, number: int, total: int) -> None:
            with pytest.raises(FolderBusy, match=f"process {os.getpid()} on {socket.gethostname()}"):
                run(star)

    assert len(run(star, watcher=Second()).aligned) == 3
    assert not (star.parent / "out/run.lock").exists()


def test_a_folder_without_permission_fails_its_own_series_only(
    nudge: NudgeMethod, star: Path, failing_writes: Callable[..., None]
) -> None:
    failing_writes(errno.EACCES, "external/unlucky_02/")
    summary = run(star)
    (failed,) = summary.failed
    assert (failed.name, "Permission denied" in failed.failure) == ("unlucky_02", True)
    assert (listed(star), listed(star, "failed")) == (["TS_01", "TS_03"], ["unlucky_02"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("where", ["external/unlucky_02/alignment.json", "external/unlucky_02/state.json", ".star"])
def test_a_disk_that_takes_nothing_stops_the_run_and_nothing_is_lost(
    nudge: NudgeMethod, star: Path, failing_writes: Callable[..., None], number: int, where: str
) -> None:
    undisturbed = run(star).folder.root.rename(star.parent / "undisturbed")
    stop_failing = failing_writes(number, where)
    with pytest.raises(OSError, match=os.strerror(number)):
        run(star)
    assert not (star.parent / "out/aligned_tilt_series.star").exists()
    assert not list((star.parent / "out").rglob("*.tmp"))
    stop_failing()
    run(star)
    assert contents(star.parent / "out") == contents(undisturbed)


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

        def progress(self, name: str, fraction: float, message: str) -> None:
            told.append((name, fraction, message))

        def ended(self, outcome: SeriesOutcome) -> None:
            told.append((outcome.name, bool(outcome.failure)))

    run(star, Nudge(trouble="fails"), watcher=Nosy())
    assert told[:3] == [("TS_01", 1, 3), ("TS_01", 0.5, "nudging"), ("TS_01", False)]
    assert told[-4:-3] == [("unlucky_02", True)]
