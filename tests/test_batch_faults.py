"""Rows of the table of faults that concern runs over many series and have no place elsewhere."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import types
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import KilledWorker

from fake_method import Nudge, NudgeMethod
from napari_tiltalign.batch import Placement, SeriesOutcome, Summary, Watcher, align_dataset, plan_dataset
from napari_tiltalign.batch.clusters import Crew, _notices
from napari_tiltalign.batch.flights import _Control
from napari_tiltalign.batch.plan import Existing, make_plan
from napari_tiltalign.batch.run import Run, make_request
from napari_tiltalign.cli.watching import summary_lines
from napari_tiltalign.images import compute
from napari_tiltalign.io import read
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.record import read_record
from napari_tiltalign.io.run_lock import RunLock
from napari_tiltalign.io.series_state import SeriesState
from napari_tiltalign.io.star import read_star
from napari_tiltalign.model import Dataset, TiltSeries
from napari_tiltalign.quality.checking import check_series

SOURCES = sorted((Path(__file__).parents[1] / "src").rglob("*.py"))
SERIAL = Placement("serial")
VERSION = version("napari-tiltalign")


@pytest.fixture
def star(write_project: Callable[..., Path]) -> Path:
    return write_project("TS_01", "unlucky_02", "TS_03")


def run(star: Path, options: Nudge | None = None, **arguments: Any) -> Summary:
    arguments = {"placement": SERIAL, **arguments}
    return align_dataset(read(star), options or Nudge(), star.parent / "out", **arguments)


def record_of(star: Path, name: str) -> Any:
    return read_record(OutputFolder(star.parent / "out").alignment_record(name))


def test_row_61_files_without_a_state_are_not_trusted(nudge: NudgeMethod, star: Path) -> None:
    run(star)
    (star.parent / "out/external/TS_03/state.json").unlink()
    (star.parent / "out/external/TS_03/TS_03.xf").write_text("0 0 0 0 0 0\n")
    nudge.aligned.clear()
    with pytest.raises(Exception, match="was not written by this program"):
        run(star)
    for file in [*(star.parent / "out/external/TS_03").iterdir(), star.parent / "out/tilt_series/TS_03.star"]:
        file.unlink()
    run(star)
    assert nudge.aligned == ["TS_03"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for two of three series, where whoever runs the tests may make one."""
    place = tmp_path / "small_disk"
    place.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=100k", "none", place], capture_output=True)
    if not made or made.returncode:
        pytest.skip("a small disk can be made by root only")
    yield place
    subprocess.run(["umount", place], check=True)


def test_row_63_a_disk_that_is_really_full(nudge: NudgeMethod, star: Path, small_disk: Path, tmp_path: Path) -> None:
    undisturbed = align_dataset(read(star), Nudge(), tmp_path / "undisturbed", placement=SERIAL).folder.root
    with pytest.raises(OSError, match=r"No space left on device: .*small_disk"):
        align_dataset(read(star), Nudge(), small_disk / "out", placement=SERIAL)
    assert not list(small_disk.rglob("*.tmp"))
    assert not (small_disk / "out/aligned_tilt_series.star").exists()
    done = nudge.aligned[3:-1]
    assert done  # there was room for some
    subprocess.run(["mount", "-o", "remount,size=2m", small_disk], check=True)
    nudge.aligned.clear()
    align_dataset(read(star), Nudge(), small_disk / "out", placement=SERIAL)
    assert not set(nudge.aligned) & set(done)
    for name in ("TS_01", "unlucky_02", "TS_03"):
        files = [OutputFolder(root).alignment_record(name) for root in (undisturbed, small_disk / "out")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_row_64_a_read_only_input_is_fine(nudge: NudgeMethod, star: Path, tmp_path: Path) -> None:
    places = [star.parent, *star.parent.rglob("*")]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    try:
        summary = align_dataset(read(star), Nudge(), tmp_path / "out", placement=SERIAL)
    finally:
        for place in places:
            place.chmod(0o755 if place.is_dir() else 0o644)
    assert len(summary.aligned) == 3


class Greedy(NudgeMethod):
    """A method that takes 8 GB for an image of 6 x 8 pixels."""

    def memory_bytes(self, series: TiltSeries, options: Nudge) -> float:
        """Memory for one image."""
        return float(np.prod(series.image_shape_yx)) / 48.0 * 8e9


@pytest.fixture
def greedy(nudge: NudgeMethod, monkeypatch: pytest.MonkeyPatch) -> NudgeMethod:
    """The method, and it says itself how much memory it takes."""
    monkeypatch.setattr(nudge, "__class__", Greedy)
    return nudge


@pytest.mark.parametrize(("memory_gb", "binning"), [(9.0, 1), (2.6, 2), (0.8, 4)])
def test_row_66_a_series_that_is_too_large_is_binned_if_that_is_asked_for(
    greedy: NudgeMethod, star: Path, memory_gb: float, binning: int
) -> None:
    placement = Placement("serial", memory_gb=memory_gb, too_large="bin")
    summary = run(star, placement=placement)
    assert len(summary.aligned) == 3
    found = record_of(star, "TS_01")
    flags = {flag.name: flag.detail for flag in found.flags}
    assert flags.get("binned_for_memory") == (None if binning == 1 else f"by {binning}")
    assert (found.pixel_size_angst, found.image_shape_yx) == (10.0, (6, 8))
    greedy.aligned.clear()
    assert all(outcome.kept for outcome in run(star, placement=placement).outcomes)
    # where there is enough memory, what was binned for want of it is not what is asked for
    if binning > 1:
        whole = plan_dataset(read(star), Nudge(), star.parent / "out", placement=Placement("serial", memory_gb=99.0))
        assert len(whole.to_align) == 3


def test_row_66_or_refused_with_the_way_out(greedy: NudgeMethod, star: Path) -> None:
    summary = run(star, placement=Placement("serial", memory_gb=2.6))
    assert greedy.aligned == []
    assert "about 8.4 GB of memory, and 2.6 GB may be used" in summary.failed[0].failure
    assert "--too-large bin" in summary.failed[0].failure
    tiny = run(star, placement=Placement("serial", memory_gb=0.3, too_large="bin"))
    assert len(tiny.failed) == 3


def test_row_65_memory_that_runs_out_on_the_way(nudge: NudgeMethod, star: Path) -> None:
    options = Nudge(trouble="no-memory-if-large")
    assert run(star, options).failed[0].failure.startswith("not enough memory")
    placement = Placement("serial", too_large="bin")
    assert not run(star, options, placement=placement).failed
    names = {flag.name: flag.detail for flag in record_of(star, "unlucky_02").flags}
    assert names["binned_for_memory"] == "by 2"
    works = read_star(star.parent / "out/aligned_tilt_series.star")["global"].columns["tiltalignWork"]
    assert [work.endswith("/binned-2") for work in works] == [False, True, False]
    assert all(outcome.kept for outcome in run(star, options, placement=placement).outcomes)
    nudge.aligned.clear()
    run(star, options)  # without asking for it
    assert nudge.aligned == ["unlucky_02"]


class OutOfMemoryError(Exception):
    """As CuPy's own, which is told by where it is from."""

    __module__ = "cupy.cuda.memory"


def test_row_67_a_gpu_that_fails_is_replaced_by_the_cpu_once(
    nudge: NudgeMethod, star: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu = run(star).folder.root.rename(star.parent / "on_cpu")
    align = NudgeMethod.__call__

    def on_gpu(self: NudgeMethod, *arguments: Any, **others: Any) -> Any:
        if compute.device() == "cuda":
            raise OutOfMemoryError("out of memory on the GPU")
        return align(self, *arguments, **others)

    monkeypatch.setattr(NudgeMethod, "__call__", on_gpu)
    monkeypatch.setattr(compute, "_gpu_problem", lambda: "")
    run(star, placement=Placement("serial", device="cuda"))
    found, wanted = record_of(star, "TS_03"), read_record(OutputFolder(on_cpu).alignment_record("TS_03"))
    assert found.flags[-1].name == "cpu_fallback"
    assert "out of memory on the GPU" in found.flags[-1].detail
    np.testing.assert_array_equal(found.geometry.shift_yx_angst, wanted.geometry.shift_yx_angst)


def test_row_67_an_error_that_is_not_the_gpus_is_not_hidden(
    nudge: NudgeMethod, star: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "_gpu_problem", lambda: "")
    summary = run(star, Nudge(trouble="bug"), placement=Placement("serial", device="cuda"))
    assert "a slip" in summary.failed[0].failure


class FakeFuture:
    """A task whose fate is known at once."""

    def __init__(self, key: str, outcome: SeriesOutcome | None, error: Exception | None) -> None:
        self.key, self._outcome, self._error = key, outcome, error
        self.status = "error" if error else "finished"

    def result(self, timeout: float) -> SeriesOutcome | None:
        """What came of it."""
        return self._outcome

    def exception(self) -> Exception | None:
        """What went wrong."""
        return self._error

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """It is done already."""
        callback(self)


class FakeClient:
    """A cluster of two hosts, the first of which kills whatever it gets."""

    status = "running"

    def __init__(self) -> None:
        self.landed: list[tuple[str, str]] = []
        self._tell: Any = None

    def nthreads(self) -> dict[str, int]:
        """The workers."""
        return {"tcp://bad:1": 1, "tcp://good:1": 1}

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        """Somebody wants to hear of the workers."""
        self._tell = handler

    def submit(
        self, work: Any, job: Any, told: str, *rest: Any, key: str, workers: list[str] | None, **options: Any
    ) -> FakeFuture:
        """Have it done at once by the first worker that may."""
        address = (workers or list(self.nthreads()))[0]
        self.landed.append((job.name, address))
        self._tell((0.0, {"key": key, "worker": address, "fraction": 0.0, "message": "begins"}))
        if address == "tcp://bad:1":
            died = KilledWorker(key, types.SimpleNamespace(address=address), 0)
            return FakeFuture(key, None, died)
        return FakeFuture(key, SeriesOutcome(job.name), None)


def test_row_71_a_host_on_which_two_series_died_gets_no_more(
    nudge: NudgeMethod, write_project: Callable[..., Path]
) -> None:
    star = write_project("TS_01", "TS_02", "TS_03", "TS_04")
    request = make_request(read(star), Nudge(), star.parent / "out", (), {}, Existing.RESUME, None, SERIAL)
    plan, client, ended = make_plan(request), FakeClient(), []
    with RunLock(star.parent / "out") as lock:
        jobs = [Run(request, plan, lock, Watcher())._job(one) for one in plan.to_align]
        crew = Crew(client, 1, True)  # type: ignore[arg-type]
        _Control(crew, jobs, plan, SERIAL, lock, Watcher(), ended.append).run()
    assert [outcome.name for outcome in ended] == ["TS_01", "TS_02", "TS_03", "TS_04"]
    bad, good = "tcp://bad:1", "tcp://good:1"
    assert client.landed == [
        ("TS_01", bad), ("TS_01", good), ("TS_02", bad), ("TS_02", good), ("TS_03", good), ("TS_04", good)
    ]  # fmt: skip


def test_row_68_workers_that_dask_has_given_up_are_started_again() -> None:
    def nanny(status: str) -> Any:
        return types.SimpleNamespace(status=types.SimpleNamespace(name=status))

    asked: list[int] = []
    workers = {0: nanny("closed"), 1: nanny("running"), 2: nanny("failed"), 3: nanny("starting")}
    cluster: Any = types.SimpleNamespace(workers=workers, scale=asked.append)
    Crew(FakeClient(), 4, True, cluster).heal()  # type: ignore[arg-type]
    assert (list(workers), asked) == ([1, 3], [4])
    Crew(FakeClient(), 4, False).heal()  # type: ignore[arg-type]  # workers of others are their affair


class Told(Watcher):
    """Remembers what a person is told."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, message: str) -> None:
        """Remember it."""
        self.notices.append(message)


@pytest.fixture
def newer(nudge: NudgeMethod, star: Path, monkeypatch: pytest.MonkeyPatch) -> NudgeMethod:
    """Everything was aligned by this version, and then another one was installed."""
    from napari_tiltalign.batch import plan

    assert len(run(star).aligned) == 3
    nudge.aligned.clear()
    monkeypatch.setattr(plan, "version", lambda package: "99.0")
    return nudge


def test_row_73_a_new_version_does_it_again_and_says_why(newer: NudgeMethod, star: Path) -> None:
    planned = plan_dataset(read(star), Nudge(), star.parent / "out", placement=SERIAL)
    assert {one.why for one in planned.series} == {f"was made by version {VERSION}"}
    assert len(planned.to_align) == 3
    told = Told()
    run(star, watcher=told)
    assert newer.aligned == ["TS_01", "unlucky_02", "TS_03"]
    assert told.notices == [
        f"3 of 3 series were aligned in just this way by version {VERSION}, and are aligned again by version 99.0; "
        "--keep-older keeps such results"
    ]


def test_row_73_or_keeps_what_an_older_version_has_done(newer: NudgeMethod, star: Path) -> None:
    state = star.parent / "out/external/TS_03/state.json"
    state.write_text(state.read_text().replace(f'"version": "{VERSION}"', '"version": ""'))  # as before it was kept
    told = Told()
    kept = run(star, existing=Existing.KEEP_OLDER, watcher=told)
    assert newer.aligned == ["TS_03"]
    assert [one.kept for one in kept.aligned][:2] == [f"kept from an earlier run, by version {VERSION}"] * 2
    assert told.notices == []
    other = run(star, Nudge(amount_nm=3.0), existing=Existing.KEEP_OLDER)
    assert [one.kept for one in other.aligned] == ["", "", ""], "older, but of other options"


def test_what_has_changed_is_told(nudge: NudgeMethod, star: Path) -> None:
    run(star)
    image = next((star.parent / "frames").glob("02_*"))
    image.write_bytes(image.read_bytes())
    why = {one.name: one.why for one in plan_dataset(read(star), Nudge(), star.parent / "out").series}
    assert why["TS_01"] == "kept"
    assert why["TS_03"] == "its images, or what it starts from, have changed"
    other = plan_dataset(read(star), Nudge(amount_nm=3.0), star.parent / "out")
    assert {one.why for one in other.series} == {"options or version have changed"}


def test_row_75_few_failures_of_many_are_on_the_first_screen(nudge: NudgeMethod, write_project: Any) -> None:
    names = [f"{'unlucky' if number % 12 == 5 else 'TS'}_{number:02d}" for number in range(60)]
    lines = summary_lines(run(write_project(*names), Nudge(trouble="fails")))
    assert lines[0] == "55 of 60 series aligned, 5 failed"
    assert [line for line in lines if line.endswith(": there is nothing to nudge")] == [
        f"  {name}: there is nothing to nudge" for name in names if name.startswith("unlucky")
    ]
    assert len(lines) < 25


def test_row_77_images_outside_of_the_project_are_read_and_nothing_is_written_there(
    nudge: NudgeMethod, star: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (star.parent / "frames").rename(elsewhere)
    (star.parent / "frames").symlink_to(elsewhere)
    for table in (star.parent / "tilt_series").iterdir():
        table.write_text(table.read_text().replace("frames/", f"{elsewhere}/"))
    before = {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in elsewhere.iterdir()}
    for series in read(star):
        (finding,) = [found for found in check_series(series).findings if found.name == "images_elsewhere"]
        assert (finding.level, finding.where) == ("note", series.tilt_ids)
        assert f"5 of 5, in {elsewhere}" in finding.what
    assert len(run(star).aligned) == 3
    flags = {flag.name for flag in record_of(star, "TS_01").flags}
    assert "images_elsewhere" not in flags, "it has no bearing on the alignment"
    assert {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in elsewhere.iterdir()} == before


def test_row_77_links_in_the_project_are_part_of_it(star: Path, tmp_path: Path) -> None:
    (star.parent / "frames").rename(tmp_path / "elsewhere")
    (star.parent / "frames").symlink_to(tmp_path / "elsewhere")
    assert not [flag for series in read(star) for flag in series.flags if flag.name == "images_elsewhere"]


def test_row_36_an_image_that_is_missing_is_told_with_the_result(
    nudge: NudgeMethod, star: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_tiltalign.cli import main

    lost = next((star.parent / "frames").glob("02_*"))
    lost.unlink()
    assert main(["align", "nudge", str(star), "-o", str(star.parent / "out"), "--scheduler", "serial"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "views" in line]
    assert ["images_missing" in line for line in lines] == [False, False, True]
    told = {flag.name: flag.detail for flag in record_of(star, "TS_03").flags}
    assert lost.name in told["images_missing"]


def test_row_76_row_78_no_name_leaves_the_folder_or_stops_the_others(
    nudge: NudgeMethod, star: Path, tmp_path: Path
) -> None:
    names = ["../../x", "/abs", "TS;rm -rf x", "$(id)", "-x", "a\nb"]
    series = [one.replace(name=name) for name, one in zip(names, list(read(star)) * 2, strict=True)]
    dataset = Dataset(tuple(series[:3]))
    summary = align_dataset(dataset, Nudge(), tmp_path / "out", placement=SERIAL)
    more = align_dataset(Dataset(tuple(series[3:])), Nudge(), tmp_path / "more", placement=SERIAL)
    assert len(summary.aligned) == 3
    assert [one.name for one in more.aligned] == ["$(id)", "-x"]
    assert [one.failure for one in more.failed] == ["its name cannot stand in a STAR file; rename its files"]
    assert read_star(tmp_path / "more/failed_tilt_series.star")["global"].columns["rlnTomoName"] == ("a b",)
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"project", "out", "more"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_row_80_nothing_in_an_input_is_ever_executed(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "yaml", "joblib", "asteval"}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        named = call.func.id if isinstance(call.func, ast.Name) else ""
        assert named not in ("eval", "exec")
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        for forbidden in ("shell", "allow_pickle"):
            value = keywords.get(forbidden)
            assert value is None or (isinstance(value, ast.Constant) and value.value is False)
        if isinstance(call.func, ast.Attribute):
            assert (ast.unparse(call.func)) not in ("os.system", "os.popen", "torch.load")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_row_85_no_xml_is_read(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    # whoever adds a reader of XML: expand no entities, limit the size, and test it with a bomb
    assert not {name.partition(".")[0] for name in imported} & {"xml", "lxml", "defusedxml", "bs4", "xmltodict"}


def test_row_81_a_record_of_an_earlier_run_that_makes_no_sense_is_not_used(nudge: NudgeMethod, star: Path) -> None:
    run(star)
    for text in ("[" * 100_000, "[1]", '{"method": "nudge", "series": [1]}', '{"method": "nudge", "series": {"a": 1}}'):
        (star.parent / "out/run.json").write_text(text)
        planned = plan_dataset(read(star), Nudge(amount_nm=2.0), star.parent / "out", placement=SERIAL)
        assert np.isnan(planned.seconds)


def test_row_83_an_open_scheduler_is_told_about() -> None:
    def said(address: str) -> str:
        client = types.SimpleNamespace(scheduler=types.SimpleNamespace(address=address), dashboard_link="")
        return " ".join(_notices(client))  # type: ignore[arg-type]

    assert "whoever reaches that port can run programs as you" in said("tcp://node17:8786")
    assert said("tls://node17:8786") == said("tcp://127.0.0.1:8786") == ""


def test_row_88_a_run_needs_no_display(nudge: NudgeMethod, star: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(variable, raising=False)
    assert len(run(star).aligned) == 3
    assert "DISPLAY" not in os.environ
    assert SeriesState.read(star.parent / "out/external/TS_01/state.json") is not None
