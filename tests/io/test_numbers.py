"""Numbers as text: rows 12 and 15 of the fault table."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.numbers import format_number, parse_angle_deg, parse_number, parse_optional_number

NOT_NUMBERS = ["1,5", "inf", "-inf", "nan", "1e400", "", " 1", "1_000", "0x10", "1.5.2", "--1", "one", "٣"]


@pytest.mark.parametrize("text", NOT_NUMBERS, ids=[f"row_12_{text!r}" for text in NOT_NUMBERS])
def test_not_a_number_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"the angle is .* not a finite number"):
        parse_number(text, "the angle")


def test_row_12_comma_is_explained() -> None:
    with pytest.raises(BadInput, match="write decimals with a point"):
        parse_number("1,5", "x")


@pytest.mark.parametrize("text", ["1567301525373690323140608.00", "180.1", "-181"])
def test_row_12_angle_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"tilt is .* outside"):
        parse_angle_deg(text, "tilt")


@pytest.mark.parametrize(
    ("text", "value"), [("-3.50000", -3.5), ("+.5", 0.5), ("180", 180.0), ("-1.5e+01", -15.0), ("7.", 7.0)]
)
def test_numbers_are_read(text: str, value: float) -> None:
    assert parse_angle_deg(text, "tilt") == value


@pytest.mark.parametrize("text", [None, "", " ", "nan", "NaN", "<NA>", "None"])
def test_missing_number_is_missing(text: str | None) -> None:
    assert math.isnan(parse_optional_number(text, "dose"))


def test_optional_rubbish_is_refused() -> None:
    with pytest.raises(BadInput, match="dose is '1,5'"):
        parse_optional_number("1,5", "dose")


WRITTEN = {
    "row_15_tiny": (1e-7, "1e-07"),
    "row_15_big": (1e20, "100000000000000000000.000000"),
    "row_15_third": (1 / 3, "0.3333333333333333"),
    "like_relion": (-85.032958, "-85.032958"),
    "no_negative_zero": (-0.0, "0.000000"),
}


@pytest.mark.parametrize(("value", "text"), WRITTEN.values(), ids=WRITTEN)
def test_written_as(value: float, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_row_15_every_number_comes_back_exactly(value: float) -> None:
    assert parse_number(format_number(value), "x") == value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_relion_cannot_read_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        format_number(value)
