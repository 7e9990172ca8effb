"""Series that are aligned while they are collected; time passes only as the tests say."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from fake_method import Nudge, NudgeMethod
from napari_tiltalign.batch import Patience, Place, Placement, SeriesOutcome, Summary, Watcher, align_dataset, watch
from napari_tiltalign.batch.live import Clock
from napari_tiltalign.errors import BadInput, Cancelled
from napari_tiltalign.io import read
from napari_tiltalign.io.record import read_record
from napari_tiltalign.io.run_lock import FolderBusy
from napari_tiltalign.io.star import read_star
from napari_tiltalign.methods.base import Progress

ANGLES = (0.0, 20.0, -20.0, -40.0, 40.0, 60.0, -60.0)
Action = Callable[[], object]
TWO_MINUTES = Patience(settle_minutes=2.0)


class Script(Clock):
    """Time that passes at once, and what happens meanwhile: minute to action; the last one should be the end."""

    def __init__(self, events: Mapping[float, Action]) -> None:
        self._now_s = 0.0
        self._events = sorted(events.items(), key=lambda event: event[0])

    def now_s(self) -> float:
        """Seconds since the begin."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        assert self._events, "the watch goes on although it was told to stop"
        self._now_s += seconds
        while self._events and self._events[0][0] * 60.0 <= self._now_s:
            self._events.pop(0)[1]()


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def collect(folder: Path, name: str, n_images: int, *, listed: int = 0) -> Path:
    """Write a stack as a microscope does, with so many images until now; the mdoc file may be ahead of it."""
    stack = folder / f"{name}.mrc"
    with mrcfile.new(stack, np.arange(n_images * 48, dtype=np.int16).reshape(n_images, 6, 8), overwrite=True) as mrc:
        mrc.set_image_stack()
        mrc.voxel_size = 10.0
    sections = (f"[ZValue = {k}]\nTiltAngle = {ANGLES[k]}\n" for k in range(listed or n_images))
    stack.with_suffix(".mrc.mdoc").write_text("[T = Tilt axis angle = 85.0]\n" + "".join(sections))
    return stack


def cut(stack: Path) -> None:
    """Cut the last bytes of a stack off, as while it is being copied."""
    os.truncate(stack, stack.stat().st_size - 10)


def follow(place: Path, out: Path, events: Mapping[float, Action], **arguments: Any) -> Summary:
    arguments = {"patience": TWO_MINUTES, "placement": Placement("serial"), **arguments}
    return watch(Place(place), Nudge(), out, clock=Script(events), **arguments)


def follow_until_stopped(place: Path, out: Path, events: Mapping[float, Action], **arguments: Any) -> None:
    """Watch, with a marker that stops it a minute before the last event, which must not be needed."""
    end = max(events, default=0.0) + 5.0
    with pytest.raises(Cancelled, match="STOP asks to stop"):
        follow(place, out, {**events, end: (out / "STOP").touch}, **arguments)


def listed(out: Path, table: str = "aligned") -> list[str]:
    file = out / f"{table}_tilt_series.star"
    return list(read_star(file)["global"].columns["rlnTomoName"]) if file.exists() else []


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in ("run.json", "STOP"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_row_74_a_series_is_aligned_when_it_is_complete_and_once_more_when_it_has_grown(
    nudge: NudgeMethod, incoming: Path, out: Path
) -> None:
    aligned_at: dict[float, list[str]] = {}

    def note(minute: float) -> Action:
        return lambda: aligned_at.update({minute: list(nudge.aligned)})

    events: dict[float, Action] = {float(k): lambda k=k: collect(incoming, "TS_01", k) for k in range(1, 6)}  # type: ignore[misc]
    events |= {6.5: note(6.5), 9.0: note(9.0)}
    events |= {
        10.0: lambda: collect(incoming, "TS_01", 6),
        11.0: lambda: collect(incoming, "TS_01", 7),
        12.5: note(12.5),
    }
    follow_until_stopped(incoming, out, events)
    assert aligned_at == {6.5: [], 9.0: ["TS_01"], 12.5: ["TS_01"]}
    assert nudge.aligned == ["TS_01", "TS_01"]
    assert len(read_record(out / "external/TS_01/alignment.json")) == 7
    assert json.loads((out / "run.json").read_text())["status"] == "stopped"


def test_results_are_those_of_align(nudge: NudgeMethod, incoming: Path, out: Path) -> None:
    events: dict[float, Action] = {
        1.0: lambda: collect(incoming, "TS_02", 5),
        8.0: lambda: collect(incoming, "TS_01", 4),
    }
    follow_until_stopped(incoming, out, events)
    assert nudge.aligned == ["TS_02", "TS_01"]
    by_watch = contents(out.rename(out.with_name("by_watch")))
    align_dataset(read(incoming), Nudge(), out, placement=Placement("serial"))
    assert contents(out) == by_watch


def test_a_known_number_of_images_or_a_later_series_need_no_waiting(
    nudge: NudgeMethod, incoming: Path, out: Path
) -> None:
    collect(incoming, "TS_01", 5)
    collect(incoming, "TS_02", 4)
    follow_until_stopped(incoming, out, {}, patience=Patience(settle_minutes=30.0, images=5))
    assert nudge.aligned == ["TS_01"]
    for file in incoming.glob("TS_02*"):
        os.utime(file, (1000.0, 1000.0))  # long before TS_01
    follow_until_stopped(incoming, out, {}, patience=Patience(settle_minutes=30.0))
    assert nudge.aligned == ["TS_01", "TS_02"]


def test_what_does_not_fit_together_is_waited_for_and_fails_if_nothing_comes(
    nudge: NudgeMethod, incoming: Path, out: Path
) -> None:
    cut(collect(incoming, "TS_01", 5))
    collect(incoming, "TS_02", 4, listed=5)
    (incoming / "gain.mrc").write_bytes(b"no series")
    said: list[str] = []

    class Notes(Watcher):
        def waiting(self, message: str) -> None:
            said.append(message)

    failures: list[list[str]] = []
    events: dict[float, Action] = {
        1.0: lambda: collect(incoming, "TS_02", 5),
        1.5: lambda: failures.append(listed(out, "failed")),
        4.5: lambda: failures.append(listed(out, "failed")),
        5.0: lambda: collect(incoming, "TS_01", 5),
    }
    follow_until_stopped(incoming, out, events, watcher=Notes())
    assert failures == [[], ["TS_01"]]
    assert nudge.aligned == ["TS_02", "TS_01"]
    assert (listed(out), listed(out, "failed")) == (["TS_01", "TS_02"], [])
    assert "TS_01 (" in said[0]
    assert "5 angles" in said[0]
    assert said[-1] == "2 aligned, 0 failed, waiting for new series"


def test_a_project_of_relion_that_grows(nudge: NudgeMethod, write_project: Callable[..., Path], out: Path) -> None:
    star = write_project("TS_01", "TS_02")
    image = next((star.parent / "frames").glob("01_*.mrc"))
    pixels = image.read_bytes()
    image.unlink()
    whole = star.read_text()
    star.unlink()
    seen: list[list[str]] = []
    events: dict[float, Action] = {
        1.0: lambda: star.write_text(whole[:-30]),  # half written
        2.0: lambda: star.write_text(whole),
        3.5: lambda: image.write_bytes(pixels),
        4.7: lambda: seen.append(list(nudge.aligned)),
        8.0: lambda: write_project("TS_01", "TS_02", "TS_03"),
    }
    follow_until_stopped(star, out, events)
    assert seen == [["TS_01"]]
    # writing it anew has changed the time of the images, so all count as changed
    assert nudge.aligned == ["TS_01", "TS_02", "TS_01", "TS_02", "TS_03"]
    assert listed(out) == ["TS_01", "TS_02", "TS_03"]


def test_a_watch_goes_on_where_it_was(nudge: NudgeMethod, incoming: Path, out: Path) -> None:
    collect(incoming, "TS_01", 5)
    collect(incoming, "TS_02", 5)
    follow_until_stopped(incoming, out, {})
    before = contents(out)
    (out / "aligned_tilt_series.star").unlink()  # as after a kill between a series and the tables
    collect(incoming, "TS_03", 5)
    states: list[Any] = []
    later = {1.0: lambda: states.append((listed(out), json.loads((out / "run.json").read_text())))}
    nudge.aligned.clear()
    follow_until_stopped(incoming, out, later)
    assert nudge.aligned == ["TS_03"]
    tables, record = states[0]
    assert (tables, record["status"]) == (["TS_01", "TS_02"], "watching")
    assert {name: one["result"] for name, one in record["series"].items()} == {"TS_01": "kept", "TS_02": "kept"}
    unchanged = {name: data for name, data in contents(out).items() if "TS_03" not in name}
    assert {**before, "aligned_tilt_series.star": unchanged["aligned_tilt_series.star"]} == unchanged
    assert list(json.loads((out / "run.json").read_text())["series"]) == ["TS_01", "TS_02", "TS_03"]


def test_the_others_stay_in_the_tables_while_one_is_done_again_and_when_files_are_moved_away(
    nudge: NudgeMethod, incoming: Path, out: Path
) -> None:
    collect(incoming, "TS_01", 5)
    collect(incoming, "TS_02", 4)
    tables: list[list[str]] = []

    class Nosy(Watcher):
        def begins(self, name: str, number: int, total: int) -> None:
            tables.append(listed(out))

    def move_away() -> None:
        for file in incoming.glob("TS_01*"):
            file.unlink()

    events: dict[float, Action] = {
        4.0: lambda: collect(incoming, "TS_02", 5),
        8.0: move_away,
        9.0: lambda: collect(incoming, "TS_03", 5),
    }
    follow_until_stopped(incoming, out, events, watcher=Nosy())
    assert tables == [[], [], ["TS_01"], ["TS_01", "TS_02"]]
    assert sorted(listed(out)) == ["TS_01", "TS_02", "TS_03"]


def test_only_some_series_which_need_not_be_there_yet(nudge: NudgeMethod, incoming: Path, out: Path) -> None:
    collect(incoming, "TS_01", 5)
    follow_until_stopped(incoming, out, {})
    collect(incoming, "TS_02", 5)
    collect(incoming, "TS_03", 5)
    said: list[str] = []

    class Notes(Watcher):
        def waiting(self, message: str) -> None:
            said.append(message)

    nudge.aligned.clear()
    later: dict[float, Action] = {
        4.0: lambda: collect(incoming, "TS_04", 5),
        5.0: lambda: collect(incoming, "TS_05", 5),
    }
    follow_until_stopped(incoming, out, later, only=["TS_03", "TS_05"], watcher=Notes())
    assert nudge.aligned == ["TS_03", "TS_05"]
    assert listed(out) == ["TS_01", "TS_03", "TS_05"]
    assert said == [
        "0 aligned, 0 failed, waiting for TS_03 (5 images), TS_05 (not there yet)",
        "1 aligned, 0 failed, waiting for TS_05 (not there yet)",
        "1 aligned, 0 failed, waiting for TS_05 (5 images)",
        "2 aligned, 0 failed, waiting for new series",
    ]


def test_what_else_there_is_can_be_kept_up_to_date_and_the_watch_stopped_meanwhile(
    nudge: NudgeMethod, incoming: Path, out: Path
) -> None:
    collect(incoming, "TS_01", 5)
    tables: list[list[str]] = []

    def refresh(progress: Progress) -> None:
        progress(0.5, "looking")
        tables.append(listed(out))
        if len(tables) == 2:
            (out / "STOP").touch()
            progress(0.5, "still looking")
            pytest.fail("it was told to stop")

    follow_until_stopped(incoming, out, {4.0: lambda: collect(incoming, "TS_02", 5)}, refresh=refresh)
    assert tables == [["TS_01"], ["TS_01", "TS_02"]]


def start_of(incoming: Path, earlier: Path, name: str, amount_nm: float) -> None:
    """Make an alignment to start from."""
    dataset = read(incoming)
    align_dataset(dataset, Nudge(amount_nm=amount_nm), earlier, only=[name], placement=Placement("serial"))


def test_series_start_from_alignments_that_are_waited_for_and_again_when_these_change(
    nudge: NudgeMethod, incoming: Path, out: Path, tmp_path: Path
) -> None:
    earlier, moved = tmp_path / "earlier", {}
    for name in ("TS_01", "TS_02", "TS_03"):
        collect(incoming, name, 5)
    start_of(incoming, earlier, "TS_01", 3.0)

    def note(minute: float) -> Action:
        def look() -> None:
            records = {name: out / "external" / name / "alignment.json" for name in listed(out)}
            shifts = {name: read_record(file).geometry.shift_yx_angst[0, 0] for name, file in records.items()}
            moved[minute] = (shifts, listed(out, "failed"))

        return look

    events: dict[float, Action] = {
        1.0: lambda: start_of(incoming, earlier, "TS_02", 5.0),
        2.7: note(2.7),
        3.5: note(3.5),
        4.0: lambda: start_of(incoming, earlier, "TS_03", 7.0),
        6.5: note(6.5),
        7.0: lambda: start_of(incoming, earlier, "TS_01", 9.0),
        10.0: note(10.0),
    }
    follow_until_stopped(incoming, out, events, start=earlier)
    assert moved == {
        2.7: ({"TS_01": 40.0}, ["TS_03"]),  # the start of TS_02 is too new
        3.5: ({"TS_01": 40.0, "TS_02": 60.0}, ["TS_03"]),
        6.5: ({"TS_01": 40.0, "TS_02": 60.0, "TS_03": 80.0}, []),
        10.0: ({"TS_01": 100.0, "TS_02": 60.0, "TS_03": 80.0}, []),
    }
    by_watch = contents(out.rename(out.with_name("by_watch")))
    align_dataset(read(incoming), Nudge(), out, start=earlier, placement=Placement("serial"))
    assert contents(out) == by_watch


def test_a_start_for_one_series_is_for_one_series(
    nudge: NudgeMethod, incoming: Path, out: Path, tmp_path: Path
) -> None:
    collect(incoming, "TS_01", 5)
    start_of(incoming, tmp_path / "earlier", "TS_01", 3.0)
    start = tmp_path / "earlier/external/TS_01/alignment.json"
    with pytest.raises(BadInput, match=r"is of one series, but any number may arrive; .*\(--only\)"):
        follow(incoming, out, {}, start=start)
    with pytest.raises(BadInput, match="but 2 are to be aligned"):
        follow(incoming, out, {}, start=start, only=["TS_01", "TS_02"])
    assert not out.exists()
    collect(incoming, "TS_02", 5)
    follow_until_stopped(incoming, out, {}, start=start, only=["TS_01"])
    assert listed(out) == ["TS_01"]


def test_one_bad_series_is_tried_once_and_does_not_stop_the_others(
    nudge: NudgeMethod, incoming: Path, out: Path
) -> None:
    for name in ("TS_01", "unlucky_02"):
        collect(incoming, name, 5)
    patience = Patience(settle_minutes=1.0, end_after_minutes=6.0)
    end = {20.0: lambda: pytest.fail("it should have ended by itself")}
    summary = watch(
        Place(incoming),
        Nudge(trouble="fails"),
        out,
        patience=patience,
        placement=Placement("serial"),
        clock=Script(end),
    )
    assert [outcome.name for outcome in summary.failed] == ["unlucky_02"]
    assert nudge.aligned == ["TS_01", "unlucky_02"]
    assert (listed(out), listed(out, "failed")) == (["TS_01"], ["unlucky_02"])
    assert json.loads((out / "run.json").read_text())["status"] == "finished"


def test_a_second_watch_is_refused(nudge: NudgeMethod, incoming: Path, out: Path) -> None:
    class Second(Watcher):
        def ended(self, outcome: SeriesOutcome) -> None:
            with pytest.raises(FolderBusy):
                follow(incoming, out, {})

    collect(incoming, "TS_01", 5)
    follow_until_stopped(incoming, out, {}, watcher=Second())
    assert nudge.aligned == ["TS_01"]


def test_results_of_another_method_are_not_replaced_unasked(nudge: NudgeMethod, incoming: Path, out: Path) -> None:
    collect(incoming, "TS_01", 5)
    follow_until_stopped(incoming, out, {})
    nudge.name = "shove"
    with pytest.raises(BadInput, match="holds results of the method nudge"):
        follow(incoming, out, {1.0: lambda: None})


def test_places(write_project: Callable[..., Path], incoming: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="neither a folder nor the STAR file"):
        Place(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"no later\.star can appear there"):
        Place(tmp_path / "nowhere" / "later.star")
    star = write_project("TS_01")
    assert list(Place(star.parent).look().sights) == ["TS_01"]
    assert list(Place(star.parent / "later.star").look().sights) == []
    collect(star.parent, "TS_02", 3)
    with pytest.raises(BadInput, match=r"holds tilt_series\.star and stacks; give the STAR file"):
        Place(star.parent)
    for file in star.parent.glob("TS_02*"):
        file.unlink()
    (star.parent / "more.star").write_bytes(star.read_bytes())
    with pytest.raises(BadInput, match=r"holds more\.star, tilt_series\.star; give the STAR file"):
        Place(star.parent)


def test_a_folder_of_stacks_as_a_dataset(incoming: Path) -> None:
    with pytest.raises(BadInput, match="holds no stack"):
        read(incoming)
    collect(incoming, "TS_01", 5)
    cut(collect(incoming, "TS_02", 5))
    (incoming / "TS_03.mrc").write_bytes(b"without angles")
    dataset = read(incoming, pixel_size_angst=3.0)
    assert [series.name for series in dataset] == ["TS_01"]
    assert dataset["TS_01"].pixel_size_angst == 3.0
    assert list(dataset.failed) == ["TS_02"]
    with pytest.raises(BadInput, match="--tilt-angles is for one"):
        read(incoming, tilt_angles="angles.rawtlt")
