"""Angles and doses that make no sense or are odd: rows 20-24, 27, 28 and 32 of the fault table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from napari_tiltalign.model import TiltSeries

if TYPE_CHECKING:
    from conftest import Project

Rows = list[dict[str, object]]
MakeRows = Callable[..., Rows]

ANGLE, DOSE = "rlnTomoNominalStageTiltAngle", "rlnMicrographPreExposure"


def flags(series: TiltSeries) -> dict[str, str]:
    return {flag.name: flag.detail for flag in series.flags}


def test_row_20_any_order_of_rows(project: Project, make_rows: MakeRows) -> None:
    rows = make_rows("TS_01")
    shuffled = [rows[k] for k in (3, 0, 4, 2, 1)]
    series = project.series_with(shuffled)
    assert series.nominal_tilt_deg.tolist() == [-6.0, 0.0, 6.0, -3.0, 3.0]
    assert series.nominal_tilt_deg[series.tilt_order()].tolist() == [-6.0, -3.0, 0.0, 3.0, 6.0]
    assert series.flags == ()


def test_row_21_same_angle_twice(project: Project, make_rows: MakeRows) -> None:
    series = project.series_with(make_rows("TS_01", [0.0, 0.02, 3.0, 6.0]))
    assert series.included.all()
    (flag,) = series.flags
    assert (flag.name, flag.tilt_ids) == ("duplicate_angle", ("TS_01_000", "TS_01_001"))


def test_row_22_repeated_row_is_excluded_once(project: Project, make_rows: MakeRows) -> None:
    rows = make_rows("TS_01")
    series = project.series_with([*rows, rows[1], rows[1]])
    assert series.tilt_ids[5:] == ("TS_01_001#2", "TS_01_001#3")
    assert series.included.tolist() == [True] * 5 + [False] * 2
    assert series.tilts[5].reason == "duplicate: the row repeats TS_01_001"
    assert set(flags(series)) == {"metadata_repaired"}


def test_row_22_one_image_with_two_angles(project: Project, make_rows: MakeRows) -> None:
    rows = make_rows("TS_01")
    project.add_series("TS_01", [*rows, rows[1] | {ANGLE: "9.0"}])
    project.list_series("TS_01")
    assert "TS_01_001.mrc is listed at 3 and at 9 degrees; remove the wrong row" in project.failure()


@pytest.mark.parametrize("angle", [0.0, 12.0])
def test_row_23_no_tilt_information(project: Project, make_rows: MakeRows, angle: float) -> None:
    project.add_series("TS_01", make_rows("TS_01", [angle] * 5))
    project.list_series("TS_01")
    assert f"no tilt information: all angles are {angle:g} degrees" in project.failure()


RANGES = {
    "row_24_pretilt": ([-11.0, 0.0, 12.0, 24.0, 36.0, 48.0, 60.0, 72.0], {"pretilt_suspected"}, "near 30.5 degrees"),
    "row_24_symmetric": ([-12.0, 0.0, 12.0, -24.0, 15.0], set(), ""),
    "row_27_one_side": ([3.0, 6.0, 9.0], {"one_sided"}, "from 3 to 9 degrees"),
    "row_28_gap": ([-12.0, -9.0, 7.0], {"angle_gap"}, "-9 to 7 degrees"),
    "row_28_no_gap": ([-12.0, -9.0, 6.0], set(), ""),
}


@pytest.mark.parametrize(("angles", "expected", "detail"), RANGES.values(), ids=RANGES)
def test_odd_ranges_are_flagged(
    project: Project, make_rows: MakeRows, angles: list[float], expected: set[str], detail: str
) -> None:
    found = flags(project.series_with(make_rows("TS_01", angles)))
    found.pop("dose_order_inconsistent", None)
    assert set(found) == expected
    assert detail in "".join(found.values())


@pytest.mark.parametrize("n", [1, 2], ids=["row_27_one", "row_27_two"])
def test_too_few_tilts(project: Project, make_rows: MakeRows, n: int) -> None:
    project.add_series("TS_01", make_rows("TS_01", [0.0, 30.0][:n]))
    project.list_series("TS_01")
    assert f"{n} of {n} images can be used; at least 3 are needed" in project.failure()


SCHEMES = {
    "row_32_dose_symmetric": ([0.0, 3.0, -3.0, -6.0, 6.0, 9.0, -9.0], ""),
    "row_32_grouped": ([0.0, 3.0, 6.0, -3.0, -6.0, 9.0, 12.0, -9.0], ""),
    "row_32_one_direction": ([-6.0, -3.0, 0.0, 3.0], ""),
    "row_32_two_directions": ([0.0, 3.0, 6.0, -3.0, -6.0], ""),
    "row_32_image_taken_again": ([0.0, 3.0, 6.0, 2.98, -3.0], ""),
    "row_32_shuffled": ([0.0, 9.0, -9.0, 3.0, -3.0, 6.0, -6.0], "would have jumped"),
}


@pytest.mark.parametrize(("angles", "detail"), SCHEMES.values(), ids=SCHEMES)
def test_dose_and_angle_scheme(project: Project, make_rows: MakeRows, angles: list[float], detail: str) -> None:
    found = flags(project.series_with(make_rows("TS_01", angles)))
    found.pop("duplicate_angle", None)
    assert list(found) == (["dose_order_inconsistent"] if detail else [])
    assert detail in "".join(found.values())


DOSES = {
    "row_32_missing": ({"drop": DOSE}, "no dose for 5 of 5 images"),
    "row_32_not_a_number": ({DOSE: "<NA>"}, "no dose for 5 of 5 images"),
    "row_32_all_equal": ({DOSE: "0.0"}, "several images have the same dose"),
    "row_32_negative": ({DOSE: "-3.0"}, "negative doses"),
}


@pytest.mark.parametrize(("column", "detail"), DOSES.values(), ids=DOSES)
def test_unusable_doses_are_flagged_not_made_up(
    project: Project, make_rows: MakeRows, column: dict[str, str], detail: str
) -> None:
    series = project.series_with(make_rows("TS_01", **column))
    assert flags(series) == {"dose_order_inconsistent": detail}
    assert series.flags[0].tilt_ids == ()
