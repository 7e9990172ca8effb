"""Images that are missing, damaged or do not fit together: rows 19, 35, 36 and 41-43 of the fault table."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import Project

MakeRows = Callable[..., list[dict[str, object]]]
Writer = Callable[..., Path]

IMAGE = "rlnMicrographName"


def break_image(path: Path, how: str) -> None:
    path.unlink()
    if how == "directory":
        path.mkdir()
    elif how == "dangling_link":
        path.symlink_to(path.with_name("nowhere.mrc"))
    elif how == "truncated":
        path.write_bytes(bytes(1024))
    elif how == "text":
        path.write_text("no image " * 200)


BREAKAGES = ["missing", "directory", "dangling_link", "truncated", "text"]


@pytest.mark.parametrize("how", BREAKAGES, ids=[f"row_36_{how}" for how in BREAKAGES])
def test_image_that_cannot_be_read_is_excluded(one_series: Project, how: str) -> None:
    path = one_series.folder / "frames" / "TS_01_003.mrc"
    break_image(path, how)
    series = one_series.only_series()
    assert series.included.tolist() == [True, True, True, False, True]
    assert str(path) in series["TS_01_003"].reason
    (flag,) = series.flags
    assert (flag.name, flag.tilt_ids) == ("images_missing", ("TS_01_003",))


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_row_36_image_without_permission(one_series: Project) -> None:
    (one_series.folder / "frames" / "TS_01_003.mrc").chmod(0)
    assert "Permission denied" in one_series.only_series()["TS_01_003"].reason


def test_row_35_and_36_too_many_images_missing(one_series: Project) -> None:
    for k in (1, 3):
        (one_series.folder / "frames" / f"TS_01_{k:03d}.mrc").unlink()
    message = one_series.failure()
    assert "2 of 5 images cannot be read" in message
    assert str(one_series.folder / "frames" / "TS_01_001.mrc") in message


def test_row_36_section_beyond_the_stack(project: Project, make_rows: MakeRows, mrc_writer: Writer) -> None:
    mrc_writer(project.folder / "TS_01.mrcs", np.ones((4, 3, 3), np.float32))
    rows = [row | {IMAGE: f"{k}@TS_01.mrcs"} for k, row in enumerate(make_rows("TS_01"), start=1)]
    series = project.series_with(rows)
    assert "has no image 5; it holds 4" in series["5@TS_01"].reason


@pytest.mark.parametrize(
    ("shape_yx", "hint"),
    [((5, 8), "different sizes: 8 x 6"), ((8, 6), "different sizes (some look transposed): 8 x 6")],
    ids=["row_41_mixed_sizes", "row_43_transposed"],
)
def test_mixed_sizes(one_series: Project, mrc_writer: Writer, shape_yx: tuple[int, int], hint: str) -> None:
    path = one_series.folder / "frames" / "TS_01_002.mrc"
    mrc_writer(path, np.ones(shape_yx, np.float32))
    message = one_series.failure()
    assert hint in message
    assert f"{shape_yx[1]} x {shape_yx[0]} ({path})" in message


def test_row_42_mixed_pixel_sizes(one_series: Project, mrc_writer: Writer) -> None:
    path = mrc_writer(one_series.folder / "frames" / "TS_01_002.mrc", np.ones((6, 8), np.float32), 20.0)
    message = one_series.failure()
    assert "images of different pixel sizes: 10 Angstrom" in message
    assert f"20 Angstrom ({path})" in message
