"""The output folder: RELION's shape, nothing lost, nothing foreign touched, the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_method import nudged
from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io import read
from napari_tiltalign.io.convert import read_alignment
from napari_tiltalign.io.output import REASON_COLUMN, write_results, write_series_result
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.record import read_record
from napari_tiltalign.io.series_state import SeriesState
from napari_tiltalign.io.star import read_star, write_star
from napari_tiltalign.model import Alignment, ArrayImage, Dataset, Table, Tilt, TiltSeries

JOB = "AlignTiltSeries/job003"


def aligned(dataset: Dataset, **options: Any) -> dict[str, Alignment]:
    return {series.name: nudged(series, 12.5, **options) for series in dataset}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_layout_is_that_of_relions_own_job(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01", "TS_02")
    dataset = read(star)
    job = star.parent / JOB
    write_results(job, dataset, aligned(dataset))
    of_series = [
        file
        for name in ("TS_01", "TS_02")
        for file in (
            f"tilt_series/{name}.star",
            *(f"external/{name}/{name}{suffix}" for suffix in (".xf", ".tlt", ".xtilt", ".rawtlt", ".aln", ".fid")),
            f"external/{name}/alignment.json",
            f"external/{name}/state.json",
        )
    ]
    assert sorted(contents(job)) == sorted(["aligned_tilt_series.star", *of_series])


def test_next_job_of_relion_finds_everything(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01", "TS_02")
    dataset = read(star)
    write_results(star.parent / JOB, dataset, aligned(dataset))
    table = read_star(star.parent / JOB / "aligned_tilt_series.star")["global"]
    files = (f"{JOB}/tilt_series/TS_01.star", f"{JOB}/tilt_series/TS_02.star")
    assert table.columns["rlnTomoTiltSeriesStarFile"] == files
    before = read_star(star)["global"]
    for column in set(before.columns) - {"rlnTomoTiltSeriesStarFile"}:
        assert table.columns[column] == before.columns[column]
    again = read(star.parent / JOB / "aligned_tilt_series.star")
    assert not again.failed
    np.testing.assert_array_equal(again["TS_01"].tilts[0].image.read(), dataset["TS_01"].tilts[3].image.read())


def test_folder_outside_of_the_project_is_named_in_full(write_project: Callable[..., Path], tmp_path: Path) -> None:
    dataset = read(write_project("TS_01"))
    write_results(tmp_path / "elsewhere", dataset, aligned(dataset))
    table = read_star(tmp_path / "elsewhere" / "aligned_tilt_series.star")["global"]
    assert table.columns["rlnTomoTiltSeriesStarFile"] == (str(tmp_path / "elsewhere/tilt_series/TS_01.star"),)
    again = read(tmp_path / "elsewhere" / "aligned_tilt_series.star")
    assert not again.failed
    np.testing.assert_array_equal(again["TS_01"].tilts[0].image.read(), dataset["TS_01"].tilts[3].image.read())


def test_series_star_has_what_relion_writes(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01")
    dataset = read(star)
    write_results(star.parent / JOB, dataset, aligned(dataset))
    before = read_star(star.parent / "tilt_series" / "TS_01.star")["TS_01"]
    after = read_star(star.parent / JOB / "tilt_series" / "TS_01.star")["TS_01"]
    # by ascending tilt, and without the image that took no part (40 degrees)
    assert [float(a) for a in after.columns["rlnTomoNominalStageTiltAngle"]] == [-40.0, -20.0, 0.0, 20.0]
    assert list(after.columns) == [
        *before.columns,
        *("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot", "rlnTomoXShiftAngst", "rlnTomoYShiftAngst"),
    ]
    rows = {row["rlnMicrographName"]: row for row in before.rows()}
    for row in after.rows():
        assert rows[row["rlnMicrographName"]].items() <= row.items()
        assert (row["rlnTomoXShiftAngst"], row["rlnTomoZRot"]) == ("12.500000", "85.000000")


def test_record_keeps_what_the_star_cannot_hold(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01")
    dataset = read(star)
    alignments = aligned(dataset)
    losses = write_results(star.parent / JOB, dataset, alignments)["TS_01"]
    record = read_record(star.parent / JOB / "external/TS_01/alignment.json")
    assert record.tilt_ids == dataset["TS_01"].tilt_ids
    assert record.reasons[-1] == "not_aligned"
    np.testing.assert_array_equal(record.geometry.magnification, alignments["TS_01"].geometry.magnification)
    assert {"magnification", "tracks"} <= {loss.what for loss in losses[".star"]}
    assert ".json" not in losses


@pytest.mark.parametrize("suffix", [".xf", ".aln"])
def test_files_for_other_programs_hold_the_same_geometry(write_project: Callable[..., Path], suffix: str) -> None:
    star = write_project("TS_01")
    dataset = read(star)
    alignments = aligned(dataset)
    write_results(star.parent / JOB, dataset, alignments)
    found = read_alignment(star.parent / JOB / f"external/TS_01/TS_01{suffix}", dataset["TS_01"])
    points = np.array([[0.0, 20.0, -30.0], [50.0, 0.0, 10.0]])
    used = alignments["TS_01"].included
    apart_angst = found.geometry.project(points) - alignments["TS_01"].geometry.project(points)
    assert np.abs(apart_angst[used]).max() < 0.01 * 10.0  # 0.01 px


def test_failed_series_are_listed_with_the_reason(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01", "TS_02", "TS_03")
    (star.parent / "tilt_series" / "TS_03.star").unlink()
    dataset = read(star)
    job = star.parent / JOB
    write_results(job, dataset, {"TS_01": nudged(dataset["TS_01"], 1.0)}, {"TS_02": 'no "beads"\n at all'})
    assert read_star(job / "aligned_tilt_series.star")["global"].columns["rlnTomoName"] == ("TS_01",)
    failed = read_star(job / "failed_tilt_series.star")["global"]
    assert failed.columns["rlnTomoName"] == ("TS_02", "TS_03")
    assert failed.columns[REASON_COLUMN][0] == "no 'beads' at all"
    assert "TS_03.star" in failed.columns[REASON_COLUMN][1]
    assert failed.columns["rlnTomoTiltSeriesStarFile"][0] == "tilt_series/TS_02.star"
    assert [s.name for s in read(job / "failed_tilt_series.star")] == ["TS_02"]  # can be tried again as it is
    assert sorted(path.name for path in (job / "external/TS_02").iterdir()) == ["state.json"]


def test_no_table_without_series(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01")
    dataset = read(star)
    folder = OutputFolder(star.parent / JOB)
    write_results(folder.root, dataset, {}, {"TS_01": "no beads"})
    assert (folder.failed_star.exists(), folder.aligned_star.exists()) == (True, False)
    write_results(folder.root, dataset, aligned(dataset))
    assert (folder.failed_star.exists(), folder.aligned_star.exists()) == (False, True)


def test_further_tables_of_the_input_are_kept(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01")
    write_star(star, {**read_star(star), "job": Table({"rlnJobTypeLabel": ("relion.ctffind",)}, is_loop=False)})
    dataset = read(star)
    write_results(star.parent / JOB, dataset, aligned(dataset))
    blocks = read_star(star.parent / JOB / "aligned_tilt_series.star")
    assert blocks["job"].columns["rlnJobTypeLabel"] == ("relion.ctffind",)


def test_equal_results_are_equal_bytes(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01")
    written = []
    for _ in range(2):
        dataset = read(star)
        write_results(star.parent / JOB, dataset, aligned(dataset))
        written.append(contents(star.parent / JOB))
    assert written[0] == written[1]


def test_nothing_stays_of_an_earlier_result(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01")
    dataset = read(star)
    write_results(star.parent / JOB, dataset, aligned(dataset))
    write_results(star.parent / JOB, dataset, aligned(dataset, with_tracks=False))
    assert not (star.parent / JOB / "external/TS_01/TS_01.fid").exists()


@pytest.mark.parametrize("place", [".", "AlignTiltSeries/../"])
def test_input_is_never_replaced(write_project: Callable[..., Path], place: str) -> None:
    star = write_project("TS_01", "TS_02")
    (star.parent / "AlignTiltSeries").mkdir()
    dataset = read(star)
    before = contents(star.parent)
    with pytest.raises(BadInput, match="would take the place of the input"):
        write_results(star.parent / place, dataset, aligned(dataset))
    assert contents(star.parent) == before


def test_results_do_not_replace_themselves_as_input(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01")
    dataset = read(star)
    job = star.parent / JOB
    write_results(job, dataset, aligned(dataset))
    before = contents(job)
    for name in ("aligned_tilt_series.star", "tilt_series/TS_01.star"):
        again = read(job / name)
        with pytest.raises(BadInput, match="would take the place of the input"):
            write_results(job, again, aligned(again))
    assert contents(job) == before


@pytest.mark.parametrize(
    "foreign",
    ["tilt_series/TS_01.star", "external/TS_01/TS_01.xf", "aligned_tilt_series.star", "tilt_series/TS_02.star"],
)
def test_files_of_another_program_are_not_replaced(write_project: Callable[..., Path], foreign: str) -> None:
    star = write_project("TS_01", "TS_02")
    (star.parent / "tilt_series" / "TS_02.star").unlink()  # cannot be read
    dataset = read(star)
    file = star.parent / JOB / foreign
    file.parent.mkdir(parents=True)
    file.write_text("of RELION")
    with pytest.raises(BadInput, match="was not written by this program"):
        write_results(star.parent / JOB, dataset, aligned(dataset))
    assert contents(star.parent / JOB) == {foreign: b"of RELION"}


def test_folder_of_the_images_is_not_written_to(tmp_path: Path, mrc_writer: Callable[..., Path]) -> None:
    folder = tmp_path / "external" / "TS"
    mrc_writer(folder / "TS.mrc", np.ones((4, 6, 8), np.float32))
    (folder / "angles.txt").write_text("-20\n0\n20\n40\n")
    dataset = read(folder / "TS.mrc", tilt_angles=folder / "angles.txt")
    with pytest.raises(BadInput, match="the images of TS lie in"):
        write_results(tmp_path, dataset, aligned(dataset))


@pytest.mark.parametrize("name", ["../../etc/x", "/abs", "a/b", "..", "TS;rm -rf x", "$(id)", "-x", "é", "x" * 300])
def test_names_cannot_leave_the_folder(write_project: Callable[..., Path], tmp_path: Path, name: str) -> None:
    star = write_project(name)
    dataset = read(star)
    outside = set(contents(tmp_path))
    write_results(star.parent / JOB, dataset, aligned(dataset))
    new = set(contents(tmp_path)) - outside
    assert all(path.startswith(f"project/{JOB}/") for path in new)
    assert [series.name for series in read(star.parent / JOB / "aligned_tilt_series.star")] == [name]


def test_an_interrupted_series_does_not_look_done(
    write_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    star = write_project("TS_01")
    dataset = read(star)
    folder = OutputFolder(star.parent / JOB)
    write_results(folder.root, dataset, aligned(dataset))
    state = SeriesState.read(folder.state_file("TS_01"))
    assert state is not None
    assert state.is_intact(folder.root)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_tiltalign.io.convert.write_star", full)
    with pytest.raises(OSError, match="No space left"):
        write_series_result(folder, dataset["TS_01"], aligned(dataset)["TS_01"])
    state = SeriesState.read(folder.state_file("TS_01"))
    assert state is not None
    assert state.failure == "not finished"
    assert not state.is_intact(folder.root)


def test_a_changed_file_is_noticed(write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01")
    dataset = read(star)
    folder = OutputFolder(star.parent / JOB)
    write_results(folder.root, dataset, aligned(dataset))
    state = SeriesState.read(folder.state_file("TS_01"))
    assert state is not None
    with folder.series_file("TS_01", ".tlt").open("a") as file:
        file.write(" ")
    assert not state.is_intact(folder.root)
    folder.series_file("TS_01", ".tlt").unlink()
    assert not state.is_intact(folder.root)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"fingerprint": 1}', "not json", "[" * 100_000])
def test_damaged_state_means_that_nothing_is_known(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert SeriesState.read(tmp_path / "state.json") is None


def test_images_in_memory_cannot_be_named_in_a_star_file(tmp_path: Path) -> None:
    tilts = tuple(Tilt(f"{k}", ArrayImage(np.ones((6, 8), np.float32)), 10.0 * k) for k in range(3))
    dataset = Dataset((TiltSeries("TS_01", tilts, 10.0, (6, 8)),))
    with pytest.raises(BadTiltSeries, match="not files"):
        write_results(tmp_path / "out", dataset, aligned(dataset))


def test_stack_as_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mrc_writer: Callable[..., Path]) -> None:
    mrc_writer(tmp_path / "TS.mrc", np.ones((4, 6, 8), np.float32))
    (tmp_path / "TS.rawtlt").write_text("-20\n0\n20\n40\n")
    monkeypatch.chdir(tmp_path)
    dataset = read("TS.mrc")
    write_results("out", dataset, aligned(dataset))
    table = read_star(tmp_path / "out/aligned_tilt_series.star")["global"]
    assert table.columns["rlnTomoTiltSeriesStarFile"] == ("out/tilt_series/TS.star",)
    assert [s.tilts[0].image.read().shape for s in read(tmp_path / "out/aligned_tilt_series.star")] == [(6, 8)]
