"""The alignment in RELION's tables, compared with what RELION's own jobs wrote."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from napari_tiltalign.errors import BadTiltSeries
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.io.relion import global_table, read_alignment_columns, star_blocks_with_alignment
from napari_tiltalign.io.relion_alignment import ALIGNMENT_COLUMNS
from napari_tiltalign.io.relion_tables import tilts_from_table
from napari_tiltalign.io.star import parse_star, read_star, star_text, write_star
from napari_tiltalign.model import ArrayImage, Table, Tilt, TiltSeries

TUTORIAL = ("TS_01", "TS_03", "TS_43", "TS_45", "TS_54")


def series_of(path: Path, name: str) -> TiltSeries:
    """A series from its STAR file alone: the tutorial's images are not here."""
    tilts = tilts_from_table(name, read_star(path)[name])
    return TiltSeries(name, tilts, 1.35, (3838, 3710), columns={"rlnTomoName": name})


def small_series(rows: list[dict[str, str]], **series: object) -> TiltSeries:
    tilts = tuple(
        Tilt(f"t{k}", ArrayImage(np.zeros((4, 4), np.float32)), angle, columns=row)
        for k, (angle, row) in enumerate(zip((3.0, 0.0, -3.0), rows, strict=True))
    )
    return TiltSeries("TS", tilts, 2.0, (4, 4)).replace(**series)


@pytest.mark.parametrize("name", TUTORIAL)
def test_tables_equal_those_of_relion(shared_data: Path, tmp_path: Path, name: str) -> None:
    """Issue: take the tables of job 4 and the geometry of job 5, write them, and compare with job 5."""
    tutorial = shared_data / "formats" / "relion5_tutorial"
    selected = series_of(tutorial / "ExcludeTiltImages" / "job004" / "tilt_series" / f"{name}.star", name)
    aligned_path = tutorial / "AlignTiltSeries" / "job005" / "tilt_series" / f"{name}.star"
    geometry = read_alignment_columns(series_of(aligned_path, name))
    assert geometry is not None
    write_star(tmp_path / "out.star", star_blocks_with_alignment(selected, geometry))
    ours, theirs = read_star(tmp_path / "out.star"), read_star(aligned_path)
    assert list(ours) == list(theirs) == [name]
    assert list(ours[name].columns) == list(theirs[name].columns)
    for column, cells in theirs[name].columns.items():
        assert ours[name].columns[column] == cells, column


@pytest.mark.parametrize("name", TUTORIAL)
def test_any_order_of_rows_gives_the_same_table(shared_data: Path, name: str) -> None:
    """CtfFind lists all images as they were acquired; those that job 4 removed are excluded here."""
    tutorial = shared_data / "formats" / "relion5_tutorial"
    acquired = series_of(tutorial / "CtfFind" / "job003" / "tilt_series" / f"{name}.star", name)
    selected = series_of(tutorial / "ExcludeTiltImages" / "job004" / "tilt_series" / f"{name}.star", name)
    aligned = series_of(tutorial / "AlignTiltSeries" / "job005" / "tilt_series" / f"{name}.star", name)
    solved = read_alignment_columns(aligned)
    assert solved is not None
    assert set(selected.tilt_ids) == set(aligned.tilt_ids) <= set(acquired.tilt_ids)
    acquired = acquired.with_exclusions(
        {tilt_id: "removed" for tilt_id in acquired.tilt_ids if tilt_id not in aligned.tilt_ids}
    )
    index = [aligned.index_of(i) if i in aligned.tilt_ids else 0 for i in acquired.tilt_ids]
    from_acquired = star_blocks_with_alignment(acquired, solved.take(index))[name]
    from_selected = star_blocks_with_alignment(selected, solved)[name]
    for column in ("rlnMicrographName", "rlnMicrographPreExposure", *ALIGNMENT_COLUMNS):
        assert from_acquired.columns[column] == from_selected.columns[column]


def test_global_table_equals_relions(shared_data: Path) -> None:
    tutorial = shared_data / "formats" / "relion5_tutorial"
    selected = read_star(tutorial / "ExcludeTiltImages" / "job004" / "selected_tilt_series.star")["global"]
    aligned = read_star(tutorial / "AlignTiltSeries" / "job005" / "aligned_tilt_series.star")["global"]
    ours = global_table(selected.rows(), "AlignTiltSeries/job005/")
    assert list(ours.columns) == [c for c in aligned.columns if c != "rlnEtomoDirectiveFile"]
    for column, cells in ours.columns.items():
        assert cells == aligned.columns[column]


def test_global_table_with_new_columns_and_unsafe_names() -> None:
    rows = [{"rlnTomoName": "TS_01", "ours": "1"}, {"rlnTomoName": "../x"}]
    table = global_table(rows, "out")
    assert table.columns["ours"] == ("1", "")
    first, second = table.columns["rlnTomoTiltSeriesStarFile"]
    assert first == "out/tilt_series/TS_01.star"
    assert second.startswith("out/tilt_series/x~")


@pytest.mark.parametrize("name", TUTORIAL)
def test_tomograms_stage_holds_the_alignment_of_the_align_stage(shared_data: Path, name: str) -> None:
    tutorial = shared_data / "formats" / "relion5_tutorial"
    aligned, tomograms = (
        read_alignment_columns(series_of(tutorial / job / "tilt_series" / f"{name}.star", name))
        for job in ("AlignTiltSeries/job005", "Tomograms/job006")
    )
    assert aligned is not None
    assert tomograms is not None
    assert len(aligned) == len(tomograms)
    points = np.random.default_rng(0).uniform(-2000, 2000, (20, 3))
    np.testing.assert_allclose(aligned.project(points), tomograms.project(points), atol=1e-3)


def test_no_alignment(shared_data: Path) -> None:
    path = shared_data / "formats" / "relion5_tutorial" / "CtfFind" / "job003" / "tilt_series" / "TS_01.star"
    assert read_alignment_columns(series_of(path, "TS_01")) is None


def test_columns_in_place_are_overwritten_and_kept_in_place() -> None:
    old = {"rlnTomoZRot": "1", "rlnTomoYTilt": "1", "name": "a", "rlnTomoXShiftAngst": "9", "rlnTomoYShiftAngst": "9"}
    series = small_series([old, old, old], extra_blocks={"extra": Table({"k": ("v",)}, is_loop=False)})
    geometry = ViewGeometry(np.zeros(3), [3, 0, -3], [85, 85, 85], [[1, 2], [3, 4], [5, 6]], np.ones(3))
    blocks = star_blocks_with_alignment(series, geometry)
    assert list(blocks) == ["TS", "extra"]
    assert list(blocks["TS"].columns) == [*old, "rlnTomoXTilt"]
    assert blocks["TS"].columns["rlnTomoYTilt"] == ("-3.000000", "0.000000", "3.000000")
    assert blocks["TS"].columns["rlnTomoXShiftAngst"] == ("6.000000", "4.000000", "2.000000")
    assert blocks["TS"].columns["rlnTomoYShiftAngst"] == ("5.000000", "3.000000", "1.000000")


def test_chosen_rows_in_chosen_order() -> None:
    series = small_series([{"n": "a"}, {"n": "b"}, {"n": "c"}])
    blocks = star_blocks_with_alignment(series, ViewGeometry.nominal([3, 0, -3], 0.0), rows=[0, 2])
    assert blocks["TS"].columns["n"] == ("a", "c")


def test_row_15_alignment_comes_back_exactly() -> None:
    rng = np.random.default_rng(3)
    geometry = ViewGeometry(*rng.normal(0, 30, (3, 3)), rng.normal(0, 1e-7, (3, 2)), np.ones(3))
    series = small_series([{"n": "a"}, {"n": "b"}, {"n": "c"}])
    table = parse_star(star_text(star_blocks_with_alignment(series, geometry, rows=[0, 1, 2])))["TS"]
    again = read_alignment_columns(small_series(table.rows()))
    assert again is not None
    for field in dataclasses.fields(geometry):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(geometry, field.name))


def test_what_the_format_cannot_hold_is_refused() -> None:
    series = small_series([{}, {}, {}])
    with pytest.raises(ValueError, match="cannot hold magnifications"):
        star_blocks_with_alignment(series, ViewGeometry.nominal([1, 2, 3], 0.0).replace(magnification=[1, 1, 1.001]))
    with pytest.raises(ValueError, match="2 views for the 3 images of TS"):
        star_blocks_with_alignment(series, ViewGeometry.nominal([1, 2], 0.0))


def test_row_12_bad_cell_names_column_and_image() -> None:
    good = {"rlnTomoYTilt": "1", "rlnTomoZRot": "2", "rlnTomoXShiftAngst": "3", "rlnTomoYShiftAngst": "4"}
    series = small_series([good, good | {"rlnTomoYTilt": "1567301525373690323140608.00"}, good])
    with pytest.raises(BadTiltSeries, match=r"rlnTomoYTilt of t1 is 1567301525373690323140608\.00, outside"):
        read_alignment_columns(series)


def matrix_columns(geometry: ViewGeometry, size_px: tuple[int, int, int], image_centre_px: int) -> list[dict[str, str]]:
    """RELION 4's matrices of a geometry, in pixels of 2 Angstrom."""
    columns = []
    for view, shift_yx in zip(geometry.rotations(), geometry.shift_yx_angst, strict=True):
        offset = np.array([*shift_yx[::-1] / 2.0 + image_centre_px, 0.0]) - view @ (np.array(size_px) // 2)
        rows = [[*view[k], offset[k]] for k in range(3)] + [[0, 0, 0, 1]]
        cells = ["[" + ",".join(f"{value:.9f}" for value in row) + "]" for row in rows]
        columns.append({f"rlnTomoProj{axis}": cell for axis, cell in zip("XYZW", cells, strict=True)})
    return columns


def test_matrices_of_relion_4() -> None:
    geometry = ViewGeometry([0.1, 0.2, 0.3], [3, 0, -3], [85, 86, 87], [[1, 2], [3, 4], [5, 6]], np.ones(3))
    size_px = (401, 300, 200)
    sizes = {f"rlnTomoSize{axis}": str(size) for axis, size in zip("XYZ", size_px, strict=True)}
    columns = matrix_columns(geometry, size_px, image_centre_px=2)
    old = {"rlnTomoYTilt": "50", "rlnTomoZRot": "50", "rlnTomoXShiftAngst": "50", "rlnTomoYShiftAngst": "50"}
    series = small_series([row | old for row in columns], columns=sizes)
    read = read_alignment_columns(series)
    assert read is not None
    points = np.random.default_rng(0).uniform(-300, 300, (10, 3))
    np.testing.assert_allclose(read.project(points), geometry.project(points), atol=1e-5)
    written = star_blocks_with_alignment(series, geometry)["TS"]
    assert not [column for column in written.columns if "Proj" in column]
    with pytest.raises(BadTiltSeries, match="no rlnTomoSizeX, rlnTomoSizeY, rlnTomoSizeZ"):
        read_alignment_columns(small_series(columns))


def test_matrix_that_relion_shipped() -> None:
    """EMPIAR-10164: the matrix and the angles that RELION itself gives for one view."""
    row = {
        "rlnTomoProjX": "[0.0814842,-0.9965907,0.0129350,3618.2894]",
        "rlnTomoProjY": "[0.9842665,0.0825045,0.1562447,-446.9939]",
        "rlnTomoProjZ": "[-0.1567792,0,0.9876336,-1167.892]",
        "rlnTomoProjW": "[0,0,0,1]",
    }
    sizes = {"rlnTomoSizeX": "4000", "rlnTomoSizeY": "4000", "rlnTomoSizeZ": "3000"}
    series = small_series([row] * 3, columns=sizes, pixel_size_angst=1.35, image_shape_yx=(3838, 3710))
    geometry = read_alignment_columns(series)
    assert geometry is not None
    assert geometry.x_tilt_deg[0] == pytest.approx(0.0, abs=1e-4)
    assert geometry.y_tilt_deg[0] == pytest.approx(9.02, abs=1e-4)
    assert geometry.z_rot_deg[0] == pytest.approx(85.267461, abs=1e-4)
    assert geometry.shift_yx_angst[0].tolist() == pytest.approx([2.585551, -64.15332], abs=1e-3)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("[1,0,0]", "[0,1,0,0]", "rlnTomoProjX of t0 is .* not four numbers"),
        ("[1,0,0,0]", "[1,0,0,0]", "are not perpendicular"),
        ("[1,0,0,0]", "[0,2,0,0]", "differ in length"),
        ("[1,0,0,0]", "[0,one,0,0]", "rlnTomoProjY of t0 is 'one'"),
    ],
)
def test_matrix_that_is_no_projection(x: str, y: str, message: str) -> None:
    row = {"rlnTomoProjX": x, "rlnTomoProjY": y, "rlnTomoProjZ": "[0,0,1,0]", "rlnTomoProjW": "[0,0,0,1]"}
    sizes = {f"rlnTomoSize{axis}": "100" for axis in "XYZ"}
    with pytest.raises(BadTiltSeries, match=message):
        read_alignment_columns(small_series([row] * 3, columns=sizes))
