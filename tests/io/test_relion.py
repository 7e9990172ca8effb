"""Reading RELION projects: rows 12, 14, 16-24, 27, 28, 32, 35, 36 and 41-43 of the fault table."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io import read
from napari_tiltalign.io.relion import read_relion
from napari_tiltalign.model import Table

if TYPE_CHECKING:
    from conftest import Project

Rows = list[dict[str, object]]
MakeRows = Callable[..., Rows]
MakeTable = Callable[[str, Rows], str]
Writer = Callable[..., Path]

ANGLE, IMAGE, DOSE = "rlnTomoNominalStageTiltAngle", "rlnMicrographName", "rlnMicrographPreExposure"


def test_project_is_read_without_pixels(one_series: Project) -> None:
    series = one_series.only_series()
    assert series.name == "TS_01"
    assert series.tilt_ids == tuple(f"TS_01_{k:03d}" for k in range(5))
    assert series.nominal_tilt_deg.tolist() == [0.0, 3.0, -3.0, -6.0, 6.0]
    assert series.image_shape_yx == (6, 8)
    assert series.pixel_size_angst == 10.0
    assert series.nominal_axis_deg == 85.0
    assert [t.pre_exposure_e_per_A2 for t in series.tilts] == [0.0, 3.0, 6.0, 9.0, 12.0]
    assert series.flags == ()
    assert series.tilts[2].image.read().shape == (6, 8)
    assert series.source == str(one_series.folder / "tilt_series" / "TS_01.star")


def test_axis_and_pixel_size_can_be_given(one_series: Project) -> None:
    series = read(one_series.star, pixel_size_angst=9.95, tilt_axis_deg=-4.3).series[0]
    assert (series.pixel_size_angst, series.nominal_axis_deg) == (9.95, -4.3)


def test_file_of_one_series(one_series: Project) -> None:
    dataset = read(one_series.folder / "tilt_series" / "TS_01.star")
    series = dataset.series[0]
    assert (series.name, series.pixel_size_angst, len(series)) == ("TS_01", 10.0, 5)
    assert series.columns["rlnTomoTiltSeriesPixelSize"] == "10.000000"


def test_file_of_one_series_whose_images_give_no_pixel_size(
    project: Project, make_rows: MakeRows, mrc_writer: Writer
) -> None:
    for row in make_rows("TS_01"):
        mrc_writer(project.folder / str(row[IMAGE]), np.ones((4, 4), np.float32), 1.0)
    path = project.add_series("TS_01", make_rows("TS_01"))
    with pytest.raises(
        BadTiltSeries,
        match=r"no pixel size in .*\(1 Angstrom in a header .*give --pixel-size-angst",
    ):
        read_relion(path)
    assert read_relion(path, pixel_size_angst=5.0).series[0].pixel_size_angst == 5.0


def test_paths_are_relative_to_a_folder_above_the_job(project: Project, make_table: MakeTable) -> None:
    project.add_series("TS_01")
    job = project.folder / "MotionCorr" / "job002"
    (job / "tilt_series").mkdir(parents=True)
    (project.folder / "tilt_series" / "TS_01.star").rename(job / "tilt_series" / "TS_01.star")
    row = {"rlnTomoName": "TS_01", "rlnTomoTiltSeriesStarFile": "MotionCorr/job002/tilt_series/TS_01.star",
           "rlnTomoTiltSeriesPixelSize": 10}  # fmt: skip
    (job / "corrected_tilt_series.star").write_text(make_table("global", [row]))
    for star in (job / "corrected_tilt_series.star", job / "tilt_series" / "TS_01.star"):
        assert len(read_relion(star).series[0]) == 5


def test_relative_path_of_the_star_file(one_series: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(one_series.folder)
    dataset = read("tilt_series.star")
    monkeypatch.chdir("/")
    assert dataset.series[0].tilts[0].image.read().shape == (6, 8)


@pytest.mark.parametrize("suffix", ["", ":mrcs"])
def test_images_of_a_stack(project: Project, make_rows: MakeRows, mrc_writer: Writer, suffix: str) -> None:
    stack = np.arange(5 * 12, dtype=np.int16).reshape(5, 3, 4)
    mrc_writer(project.folder / "stacks" / "TS_01.mrcs", stack)
    rows = make_rows("TS_01")
    for k, row in enumerate(rows):
        row[IMAGE] = f"{5 - k}@stacks/TS_01.mrcs{suffix}"
    project.add_series("TS_01", rows)
    project.list_series("TS_01")
    series = project.only_series()
    assert series.tilt_ids == ("5@TS_01", "4@TS_01", "3@TS_01", "2@TS_01", "1@TS_01")
    np.testing.assert_array_equal(series["4@TS_01"].image.read(), stack[3])


def test_tiff_images(project: Project, make_rows: MakeRows) -> None:
    rows = make_rows("TS_01")
    (project.folder / "frames").mkdir()
    for k, row in enumerate(rows):
        row[IMAGE] = f"frames/{k}.tif"
        tifffile.imwrite(project.folder / str(row[IMAGE]), np.full((3, 4), k, np.uint16))
    project.add_series("TS_01", rows)
    project.list_series("TS_01")
    series = project.only_series()
    assert series.image_shape_yx == (3, 4)
    assert series.tilts[3].image.read().mean() == 3.0


def test_identity_survives_another_folder_and_order(project: Project, make_rows: MakeRows) -> None:
    before = make_rows("TS_01")
    after = [row | {IMAGE: str(row[IMAGE]).replace("frames", "MotionCorr/job042/frames")} for row in before[::-1]]
    project.add_series("TS_01", before)
    project.list_series("TS_01")
    first = project.only_series()
    project.add_series("TS_01", after)
    assert project.only_series().tilt_ids == first.tilt_ids[::-1]


def test_identity_of_equal_names_in_different_folders(project: Project, make_rows: MakeRows) -> None:
    rows = [row | {IMAGE: f"day{k % 2}/image{k // 2}.mrc"} for k, row in enumerate(make_rows("TS_01"))]
    project.add_series("TS_01", rows)
    project.list_series("TS_01")
    assert project.only_series().tilt_ids == ("day0/image0", "day1/image0", "day0/image1", "day1/image1", "image2")


def test_row_12_number_with_comma_names_file_row_and_column(project: Project, make_rows: MakeRows) -> None:
    rows = make_rows("TS_01")
    rows[1][ANGLE] = "3,0"
    project.add_series("TS_01", rows)
    project.list_series("TS_01")
    assert "TS_01.star, row 2, rlnTomoNominalStageTiltAngle is '3,0'" in project.failure()


def test_row_14_unknown_columns_and_tables_are_kept(
    project: Project, make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = make_rows("TS_01", ourOwn="0.100")
    path = project.add_series("TS_01", rows)
    path.write_text(path.read_text() + "\ndata_extra\n_key value\n")
    star = project.list_series("TS_01", zzz="007")
    star.write_text(star.read_text() + "\ndata_more\n_key value\n")
    dataset = read_relion(star)
    series = dataset.series[0]
    extra = Table({"key": ("value",)}, is_loop=False)
    assert dict(series.tilts[0].columns) == {name: str(cell) for name, cell in rows[0].items()}
    assert list(series.tilts[0].columns) == list(rows[0])
    assert series.extra_blocks == {"extra": extra}
    assert dataset.extra_blocks == {"more": extra}
    assert series.columns["zzz"] == "007"


def test_row_01_and_02_series_named_like_numbers(project: Project) -> None:
    names = ("001", "1e5", "nan", "True")
    for name in names:
        project.add_series(name)
    project.list_series(*names)
    assert tuple(series.name for series in read_relion(project.star)) == names


def test_row_16_series_listed_twice(one_series: Project) -> None:
    one_series.list_series("TS_01", "TS_01")
    with pytest.raises(BadInput, match="rlnTomoName TS_01 listed more than once"):
        read_relion(one_series.star)


def test_row_16_file_listed_twice(project: Project) -> None:
    project.add_series("TS_01")
    project.list_series("TS_01", "TS_02", rlnTomoTiltSeriesStarFile="tilt_series/TS_01.star")
    with pytest.raises(BadInput, match=r"rlnTomoTiltSeriesStarFile tilt_series/TS_01\.star listed more than once"):
        read_relion(project.star)


@pytest.mark.parametrize("names", [("TS_01", "ts_01"), ("caf\u00e9", "cafe\u0301")], ids=["case", "unicode"])
def test_row_17_names_that_some_disks_confuse(project: Project, names: tuple[str, str]) -> None:
    for k, name in enumerate(names):
        project.add_series(name).rename(project.folder / "tilt_series" / f"{k}.star")
    project.list_series(*names)
    for k, name in enumerate(names):
        project.star.write_text(project.star.read_text().replace(f"tilt_series/{name}.star", f"tilt_series/{k}.star"))
    dataset = read_relion(project.star)
    assert len(dataset) == 2
    assert [flag.name for flag in dataset.flags] == ["name_collision_ignoring_case"]
    assert " and ".join(names) in dataset.flags[0].detail


@pytest.mark.parametrize(
    ("column", "job"),
    [(IMAGE, "Motion correction"), (ANGLE, "Import tilt series")],
    ids=["row_18_no_images", "row_18_no_angles"],
)
def test_missing_column_of_the_series(
    one_series: Project, make_rows: MakeRows, make_table: MakeTable, column: str, job: str
) -> None:
    one_series.write_series("TS_01", make_table("TS_01", make_rows("TS_01", drop=column)))
    with pytest.raises(BadInput, match=rf"TS_01\.star has no column {column}; RELION's job '{job}' writes it"):
        read_relion(one_series.star)


def test_row_18_missing_column_in_one_series_only(project: Project, make_rows: MakeRows, make_table: MakeTable) -> None:
    project.add_series("TS_01")
    project.write_series("TS_02", make_table("TS_02", make_rows("TS_02", drop=IMAGE)))
    project.list_series("TS_01", "TS_02")
    assert "has no column rlnMicrographName" in project.failure("TS_02")
    assert len(read_relion(project.star)) == 1


@pytest.mark.parametrize(
    "column",
    ["rlnTomoName", "rlnTomoTiltSeriesStarFile", "rlnTomoTiltSeriesPixelSize"],
    ids=lambda column: f"row_18_no_{column}",
)
def test_missing_column_of_the_project(one_series: Project, column: str) -> None:
    one_series.star.write_text(one_series.star.read_text().replace(f"_{column} ", "_rlnOther "))
    with pytest.raises(BadInput, match=rf"tilt_series\.star has no column {column}; RELION's job"):
        read_relion(one_series.star)


@pytest.mark.parametrize("size", ["0.000000", "-1.35", "nan", "1,35"], ids=lambda size: f"row_19_{size}")
def test_impossible_pixel_size(one_series: Project, size: str) -> None:
    one_series.list_series("TS_01", rlnTomoTiltSeriesPixelSize=size)
    message = one_series.failure()
    assert "pixel size is" in message or "rlnTomoTiltSeriesPixelSize is" in message


@pytest.mark.parametrize(("size", "is_flagged"), [("10.05", False), ("10.2", True)])
def test_row_19_pixel_size_disagrees_with_the_images(one_series: Project, size: str, is_flagged: bool) -> None:
    one_series.list_series("TS_01", rlnTomoTiltSeriesPixelSize=size)
    series = one_series.only_series()
    assert series.pixel_size_angst == float(size)
    assert ("pixel_size_disagrees" in [flag.name for flag in series.flags]) is is_flagged


def test_one_bad_series_does_not_stop_the_others(project: Project) -> None:
    for name in ("TS_01", "TS_03"):
        project.add_series(name)
    project.write_series("TS_02", "data_TS_02\nloop_\n_rlnA\n_rlnB\n1\n")
    project.list_series("TS_01", "TS_02", "TS_03", "TS_04")
    dataset = read_relion(project.star)
    assert [series.name for series in dataset] == ["TS_01", "TS_03"]
    assert "TS_02.star, line 5: row 1 of data_TS_02 has 1 of 2 values" in dataset.failed["TS_02"]
    assert "tilt_series/TS_04.star is neither in" in dataset.failed["TS_04"]
    assert set(dataset.failed_columns) == {"TS_02", "TS_04"}


def test_table_of_another_series(project: Project) -> None:
    project.add_series("TS_01").rename(project.folder / "tilt_series" / "TS_02.star")
    project.list_series("TS_02")
    assert "should hold a table data_TS_02; it holds data_TS_01" in project.failure("TS_02")


@pytest.mark.parametrize("path", ["x" * 5000, '""', "."], ids=["too_long", "empty", "folder"])
def test_impossible_paths_fail_their_series_only(project: Project, make_rows: MakeRows, path: str) -> None:
    for name in ("TS_01", "TS_02", "TS_03"):
        project.add_series(name)
    project.list_series("TS_01", "TS_02", "TS_03")
    project.star.write_text(project.star.read_text().replace("tilt_series/TS_02.star", path))
    images = project.folder / "tilt_series" / "TS_03.star"
    images.write_text(images.read_text().replace("frames/TS_03_000.mrc", path))
    dataset = read_relion(project.star)
    assert dataset.series[0].name == "TS_01"
    assert "TS_02" in dataset.failed
    excluded = [tilt.reason for tilt in dataset.series[1].tilts if not tilt.included] if len(dataset) > 1 else []
    assert excluded or "TS_03" in dataset.failed


def test_project_without_series(one_series: Project) -> None:
    one_series.star.write_text(one_series.star.read_text().partition("TS_01")[0])
    with pytest.raises(BadInput, match="lists no tilt series"):
        read_relion(one_series.star)


def test_star_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "particles.star"
    path.write_text("data_optics\n_rlnA 1\n\ndata_particles\n_rlnB 2\n")
    with pytest.raises(BadInput, match="holds data_optics, data_particles; expected data_global, or"):
        read_relion(path)


def test_input_of_an_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadInput, match="neither a STAR file nor a stack"):
        read(tmp_path / "notes.txt")
    with pytest.raises(BadInput, match="does not exist"):
        read(tmp_path / "nothing")
    (tmp_path / "tilt_series.star").write_text("x")
    with pytest.raises(BadInput, match="--tilt-angles is for stacks"):
        read(tmp_path / "tilt_series.star", tilt_angles="a.tlt")


@pytest.mark.parametrize("star", ["tilt_series.star", "tilt_series/TS_01.star"])
def test_real_series(shared_data: Path, star: str) -> None:
    start = time.perf_counter()
    series = read(shared_data / "empiar-10499_TS_01" / star).series[0]
    assert time.perf_counter() - start < 2.0
    assert (len(series), series.image_shape_yx, series.pixel_size_angst) == (41, (630, 652), 10.0)
    assert series.nominal_axis_deg == pytest.approx(-4.3)
    assert series.flags == ()
    assert series.tilt_ids[0] == "TS_01_002_-0_0"
    image = series.tilts[0].image.read()
    assert image.shape == (630, 652)
    assert 30 < image.mean() < 50


STAGES = {
    "MotionCorr or later": "CtfFind/job003/tilt_series_ctf.star",
    "Exclude": "ExcludeTiltImages/job004/selected_tilt_series.star",
    "Align": "AlignTiltSeries/job005/aligned_tilt_series.star",
    "Tomograms": "Tomograms/job006/tomograms.star",
}


@pytest.mark.parametrize("star", STAGES.values(), ids=STAGES)
def test_tutorial_stages_are_understood_up_to_their_missing_images(shared_data: Path, star: str) -> None:
    dataset = read(shared_data / "formats" / "relion5_tutorial" / star)
    assert list(dataset.failed) == ["TS_01", "TS_03", "TS_43", "TS_45", "TS_54"]
    for message in dataset.failed.values():
        assert "images cannot be read, the first: cannot read" in message
        assert str(shared_data / "formats" / "relion5_tutorial" / "MotionCorr" / "job002" / "frames") in message


def test_tutorial_import_stage_names_the_job_to_run(shared_data: Path) -> None:
    star = shared_data / "formats" / "relion5_tutorial" / "Import" / "job001" / "tilt_series.star"
    for options in ({}, {"pixel_size_angst": 1.35}):
        with pytest.raises(BadInput, match="RELION's job 'Motion correction' writes it"):
            read(star, **options)
