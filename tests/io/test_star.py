"""STAR files: every fault of rows 1-15 of the fault table, and round trips."""

from __future__ import annotations

from pathlib import Path

import pytest
import starfile
from hypothesis import given
from hypothesis import strategies as st

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.star import parse_star, read_star, star_text, write_star
from napari_tiltalign.model import Table

LOOP = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnValue #2\n_rlnOther #3\n"


def names_in(text: str) -> tuple[str, ...]:
    return parse_star(LOOP + text)["global"].columns["rlnTomoName"]


KEPT = {
    "row_01_leading_zeros": ("001 1 2\n002 1 2\n", ("001", "002")),
    "row_02_looks_like_a_value": (
        "1e5 1 2\nTrue 1 2\nnan 1 2\nNA 1 2\nNone 1 2\n",
        ("1e5", "True", "nan", "NA", "None"),
    ),
    "row_03_hash_inside": ("TS#1 1 2 # a comment\n# another\n", ("TS#1",)),
    "row_04_apostrophe": ("it's/o'clock 1 2\n", ("it's/o'clock",)),
    "row_05_quoted_blanks": ('"TS 1" 1 2\n\'TS "2"\' 1 2\n"" 1 2\n', ("TS 1", 'TS "2"', "")),
    "row_09_path_begins_with_data": ("data_disk/TS.mrc 1 2\n_hidden.mrc 1 2\n", ("data_disk/TS.mrc", "_hidden.mrc")),
    "row_13_tabs_and_trailing_blanks": ("  TS\t\t1  2 \t \n \n\n", ("TS",)),
}


@pytest.mark.parametrize(("text", "expected"), KEPT.values(), ids=KEPT)
def test_cells_are_kept_as_they_are(text: str, expected: tuple[str, ...]) -> None:
    assert names_in(text) == expected


REFUSED = {
    "row_05_unquoted_blanks": (LOOP + "TS 1 1 2\n", r"line 7: row 1 of data_global has 4 of 3 values.*quotes"),
    "row_05_open_quote": (LOOP + '"TS 1 2\n', "line 7: a quote is opened and never closed"),
    "row_06_last_row_cut": (LOOP + "a 1 2\nb 1\n", r"line 8: row 2 of data_global has 2 of 3 values; was the file cut"),
    "row_06_last_cell_cut": (LOOP + "a 1 2\nb 1 2.71", "line 8: the last row does not end with a line break"),
    "row_07_too_many_values": (LOOP + "a 1 2\nb 1 2 3\n", r"line 8: row 2 of data_global has 4 of 3 values"),
    "row_08_empty": ("", "not a STAR file"),
    "row_08_no_data": ("# only a comment\n", "not a STAR file"),
    "row_08_binary": ("data_g\0\n", "is not a STAR file: it is not text"),
    "row_08_other_text": ("PixelSpacing = 5.4\n", "line 1: text outside of any table"),
    "row_10_block_twice": (
        LOOP + "a 1 2\ndata_x\ndata_global\n",
        "line 9: table data_global stands here and in line 1",
    ),
    "row_10_column_twice": ("data_g\nloop_\n_rlnA #1\n_rlnA #2\n1 2\n", "line 4: column _rlnA stands twice in data_g"),
    "row_10_pair_twice": ("data_g\n_rlnA 1\n_rlnA 2\n", "line 3: column _rlnA stands twice"),
    "two_loops_in_a_block": (LOOP + "a 1 2\nloop_\n_rlnB\n1\n", "line 8: a second table within data_global"),
    "column_after_rows": (LOOP + "a 1 2\n_rlnLate #4\n", "line 8: column _rlnLate after the rows"),
    "pair_without_value": ("data_g\n_rlnA\n", "line 2: _rlnA of data_g has 0 values, expected 1"),
    "rows_without_columns": ("data_g\nloop_\na b\n", "line 3: text that belongs to no column"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_damaged_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "series.star"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        read_star(path)
    assert str(path) in str(caught.value)


def test_row_08_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "image.star"
    path.write_bytes(b"data_\xff\xfe\x00\n")
    with pytest.raises(BadInput, match=r"image\.star is not a STAR file: it is not text"):
        read_star(path)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.star", tmp_path):
        with pytest.raises(BadInput, match=f"cannot read {path}"):
            read_star(path)


def test_row_09_empty_block() -> None:
    blocks = parse_star("data_global\n\ndata_other\n_rlnKey value\n")
    assert blocks["global"] == Table({}, is_loop=False)
    assert blocks["other"] == Table({"rlnKey": ("value",)}, is_loop=False)


def test_loop_without_rows_keeps_its_columns() -> None:
    table = parse_star(LOOP)["global"]
    assert len(table) == 0
    assert list(table.columns) == ["rlnTomoName", "rlnValue", "rlnOther"]
    assert parse_star(star_text({"global": table})) == {"global": table}


def test_row_11_repaired_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "series.star"
    path.write_text(LOOP + "a 1\n")
    with pytest.raises(BadInput):
        read_star(path)
    path.write_text(LOOP + "a 1 2\n")
    assert read_star(path)["global"].columns["rlnTomoName"] == ("a",)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old_mac"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte_order_mark"])
def test_row_13_line_ends_and_byte_order_mark(tmp_path: Path, ending: str, mark: str) -> None:
    path = tmp_path / "series.star"
    text = f"{mark}\n# version 50001\n\n{LOOP}TS_01 1 2\n \n"
    path.write_bytes(text.replace("\n", ending).encode())
    assert read_star(path) == parse_star(LOOP + "TS_01 1 2\n")


def test_row_14_unknown_columns_and_blocks_are_kept_in_order(tmp_path: Path) -> None:
    blocks = {
        "general": Table({"zzOwn": ("1.10",), "aaOwn": ("x y",)}, is_loop=False),
        "global": Table({"rlnTomoName": ("b", "a"), "ourColumn": ("-0.00", "1e-7"), "rlnValue": ("007", "")}),
    }
    write_star(tmp_path / "out.star", blocks)
    read = read_star(tmp_path / "out.star")
    assert read == blocks
    assert [list(table.columns) for table in read.values()] == [list(table.columns) for table in blocks.values()]
    assert list(read) == list(blocks)


def test_equal_tables_give_equal_text_without_the_time() -> None:
    text = star_text({"g": Table({"a": ("1",)})})
    assert text == "\n# version 50001\n\ndata_g\n\nloop_\n_a #1\n1\n\n\n"


cells = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=8
) | st.sampled_from(
    ["it's", "'quoted'", '"', "'", "#1", "a #b", "data_x", "loop_", "_own", "nan", "001", "'a' b", 'a" b']
)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=4))
def test_any_cells_survive_a_round_trip(rows: list[tuple[str, str]]) -> None:
    loop = Table({"first": tuple(r[0] for r in rows), "second": tuple(r[1] for r in rows)})
    one_column = Table({"only": tuple(r[0] for r in rows)})
    pairs = Table({"key": (rows[0][0],), "other": (rows[0][1],)}, is_loop=False)
    blocks = {"loop": loop, "one": one_column, "pairs": pairs}
    try:
        text = star_text(blocks)
    except BadInput:
        both = [cell for row in rows for cell in row if '"' in cell and "'" in cell]
        assert any('" ' in cell and "' " in cell for cell in both), "refused without need"
        return
    assert parse_star(text) == blocks


@pytest.mark.parametrize("cell", ["two\nlines", "a\ttab", "form\ffeed", "\u2028", "both \" and ' quotes \" ' "])
def test_cell_that_cannot_be_expressed_is_refused(cell: str) -> None:
    with pytest.raises(BadInput, match="cannot hold the value"):
        star_text({"g": Table({"a": (cell,)})})


@pytest.mark.parametrize("name", ["a\nb", "a #b", "a  b"])
def test_block_name_that_cannot_be_expressed_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot hold a table named"):
        star_text({name: Table({"a": ("1",)})})


def test_block_name_with_a_blank_survives() -> None:
    blocks = {"TS 1;rm -rf x": Table({"a": ("1",)})}
    assert parse_star(star_text(blocks)) == blocks


def test_tutorial_files_agree_with_starfile_and_survive_a_round_trip(shared_data: Path) -> None:
    paths = sorted((shared_data / "formats" / "relion5_tutorial").rglob("*.star"))
    assert len(paths) > 20
    for path in paths:
        ours = read_star(path)
        assert parse_star(star_text(ours)) == ours
        for name, theirs in starfile.read(path, always_dict=True).items():
            columns = dict(theirs) if isinstance(theirs, dict) else {c: theirs[c].tolist() for c in theirs}
            assert list(columns) == list(ours[name].columns)
            for column, values in columns.items():
                listed = values if isinstance(values, list) else [values]
                assert [type(v)(cell) for v, cell in zip(listed, ours[name].columns[column], strict=True)] == listed


def test_starfile_reads_what_we_write(tmp_path: Path) -> None:
    blocks = {"global": Table({"rlnTomoName": ("TS_01", "TS 2"), "rlnValue": ("1.5", "-2")})}
    write_star(tmp_path / "out.star", blocks)
    frame = starfile.read(tmp_path / "out.star", always_dict=True)["global"]
    assert frame["rlnTomoName"].tolist() == ["TS_01", "TS 2"]
    assert frame["rlnValue"].tolist() == [1.5, -2.0]
