"""Stacks with their angles beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io import read
from napari_tiltalign.io.stack import read_angles_deg, read_stack

STACK = np.arange(3 * 12, dtype=np.int16).reshape(3, 3, 4)


@pytest.fixture
def stack(tmp_path: Path, mrc_writer: Callable[..., Path]) -> Path:
    """A stack of three images without angles."""
    return mrc_writer(tmp_path / "TS_01.st", STACK)


def mdoc_text(*angles: float, header: str = "[T = Tilt axis angle = 85.3, binning = 4]\n") -> str:
    return header + "".join(
        f"[ZValue = {k}]\nTiltAngle = {angle}\nPriorRecordDose = {2 * k}\nTargetDefocus = -4\n"
        for k, angle in enumerate(angles)
    )


def beside(stack: Path, name: str, text: str) -> Path:
    path = stack.with_name(name)
    path.write_text(text)
    return path


ANGLE_FILES = {
    "rawtlt": ("TS_01.rawtlt", "-3.00\n 0.00\n 3.00\n\n"),
    "tlt": ("TS_01.tlt", "-3.0\n0\n3.0"),
    "aretomo_two_columns": ("TS_01.rawtlt", "-3.0 2\n0.0 0\n3.0 1\n"),
    "row_34_mdoc_of_the_file": ("TS_01.st.mdoc", mdoc_text(-3, 0, 3)),
    "row_34_mdoc_of_the_name": ("TS_01.mdoc", mdoc_text(-3, 0, 3)),
}


@pytest.mark.parametrize(("name", "text"), ANGLE_FILES.values(), ids=ANGLE_FILES)
def test_angles_are_found_beside_the_stack(stack: Path, name: str, text: str) -> None:
    beside(stack, name, text)
    series = read(stack).series[0]
    assert series.name == "TS_01"
    assert series.nominal_tilt_deg.tolist() == [-3.0, 0.0, 3.0]
    assert series.tilt_ids == ("1@TS_01", "2@TS_01", "3@TS_01")
    assert (series.pixel_size_angst, series.image_shape_yx) == (10.0, (3, 4))
    np.testing.assert_array_equal(series.tilts[1].image.read(), STACK[1])


def test_nearest_file_wins_and_mdoc_adds_the_rest(stack: Path) -> None:
    beside(stack, "TS_01.rawtlt", "-6\n0\n6\n")
    beside(stack, "TS_01.tlt", "-7\n1\n7\n")
    beside(stack, "TS_01.st.mdoc", mdoc_text(-3, 0, 3, header="Voltage = 300\n[T = Tilt axis angle = -4.3, b]\n"))
    series = read_stack(stack).series[0]
    assert series.nominal_tilt_deg.tolist() == [-6.0, 0.0, 6.0]
    assert series.nominal_axis_deg == -4.3
    assert [t.pre_exposure_e_per_A2 for t in series.tilts] == [0.0, 2.0, 4.0]
    assert series.tilts[0].nominal_defocus_um == -4.0
    assert series.flags == ()
    assert dict(series.columns) == {
        "rlnTomoName": "TS_01", "rlnTomoTiltSeriesPixelSize": "10.000000", "rlnVoltage": "300.000000",
    }  # fmt: skip
    assert dict(series.tilts[2].columns) == {
        "rlnMicrographName": f"3@{stack.as_posix()}:mrcs",
        "rlnTomoNominalStageTiltAngle": "6.000000",
        "rlnTomoNominalTiltAxisAngle": "-4.300000",
        "rlnMicrographPreExposure": "4.000000",
        "rlnTomoNominalDefocus": "-4.000000",
    }


def test_what_is_given_wins(stack: Path, tmp_path: Path) -> None:
    beside(stack, "TS_01.rawtlt", "-3\n0\n3\n")
    given = beside(stack, "other.txt", "-60\n0\n60\n")
    series = read_stack(stack, tilt_angles=given, pixel_size_angst=2.5, tilt_axis_deg=85.0).series[0]
    assert series.nominal_tilt_deg.tolist() == [-60.0, 0.0, 60.0]
    assert (series.pixel_size_angst, series.nominal_axis_deg) == (2.5, 85.0)
    assert [flag.name for flag in series.flags] == ["pixel_size_disagrees", "angle_gap", "dose_order_inconsistent"]


def test_given_mdoc(stack: Path) -> None:
    given = beside(stack, "elsewhere.mdoc", mdoc_text(-3, 0, 3))
    series = read_stack(stack, tilt_angles=given).series[0]
    assert (series.nominal_tilt_deg.tolist(), series.nominal_axis_deg) == ([-3.0, 0.0, 3.0], 85.3)


@pytest.mark.parametrize("given", [math.nan, 5.0])
def test_pixel_size_of_the_mdoc_where_the_header_has_none(
    tmp_path: Path, mrc_writer: Callable[..., Path], given: float
) -> None:
    stack = mrc_writer(tmp_path / "TS_01.mrc", STACK, 1.0)
    beside(stack, "TS_01.mrc.mdoc", "PixelSpacing = 5.4\n" + mdoc_text(-3, 0, 3))
    series = read_stack(stack, pixel_size_angst=given).series[0]
    assert series.pixel_size_angst == (5.4 if math.isnan(given) else given)


def test_no_pixel_size_anywhere(tmp_path: Path, mrc_writer: Callable[..., Path]) -> None:
    stack = mrc_writer(tmp_path / "TS_01.mrc", STACK, 0.0)
    beside(stack, "TS_01.rawtlt", "-3\n0\n3\n")
    with pytest.raises(BadTiltSeries, match=r"TS_01: no pixel size .* give --pixel-size-angst"):
        read_stack(stack)


REFUSED = {
    "too_few_angles": ("TS_01.rawtlt", "-3\n0\n", r"TS_01\.rawtlt holds 2 angles, .*TS_01\.st 3 images"),
    "row_35_mdoc_lists_more": ("TS_01.mdoc", mdoc_text(-3, 0, 3, 6), r"TS_01\.mdoc holds 4 angles, .* 3 images"),
    "row_33_mdoc_without_an_angle": (
        "TS_01.mdoc", mdoc_text(-3, 0, 3).replace("TiltAngle = 0\n", ""), "gives no angle within 180 .* image 2",
    ),
    "row_23_all_zero": ("TS_01.tlt", "0.00\n0.00\n0.00\n", "no tilt information: all angles are 0 degrees"),
    "row_12_out_of_range": ("TS_01.tlt", "-3\n0\n181\n", "gives no angle within 180 degrees for image 3"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), REFUSED.values(), ids=REFUSED)
def test_angles_that_do_not_fit(stack: Path, name: str, text: str, message: str) -> None:
    beside(stack, name, text)
    with pytest.raises(BadTiltSeries, match=message):
        read_stack(stack)


def test_row_35_mdoc_of_another_length_is_left_aside(stack: Path) -> None:
    beside(stack, "TS_01.rawtlt", "-3\n0\n3\n")
    beside(stack, "TS_01.mdoc", mdoc_text(-3, 0, 3, 6))
    series = read_stack(stack).series[0]
    assert math.isnan(series.tilts[0].pre_exposure_e_per_A2)
    assert "TS_01.mdoc lists 4 images" in next(f.detail for f in series.flags if f.name == "metadata_repaired")


def test_no_angles(stack: Path) -> None:
    with pytest.raises(BadTiltSeries, match=r"no angles: there is no TS_01\.rawtlt, TS_01\.tlt or TS_01\.mdoc beside"):
        read_stack(stack)


@pytest.mark.parametrize(
    ("text", "message"),
    [("1,5\n", "line 1 is '1,5'"), ("0\nx 1\n", "line 2 is 'x'"), ("\n", "is empty"), ("400\n", "line 1 is 400")],
)
def test_row_12_file_of_angles(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "TS_01.tlt"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_angles_deg(path)


def test_row_37_truncated_stack(stack: Path) -> None:
    beside(stack, "TS_01.rawtlt", "-3\n0\n3\n")
    stack.write_bytes(stack.read_bytes()[:-1])
    with pytest.raises(BadInput, match="it is truncated"):
        read_stack(stack)


def test_missing_files(stack: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.mrc does not exist in"):
        read(stack.with_name("absent.mrc"))
    with pytest.raises(BadInput, match=r"cannot read .*absent\.tlt"):
        read(stack, tilt_angles=stack.with_name("absent.tlt"))


def test_etomo_directory(shared_data: Path) -> None:
    """Its stack is a header with images of one pixel."""
    series = read(shared_data / "formats" / "etomo_TS_001" / "TS_001.st", pixel_size_angst=1.35).series[0]
    assert len(series) == 40
    assert series.nominal_tilt_deg[:3].tolist() == [-60.0, -57.0, -54.0]
