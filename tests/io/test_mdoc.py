"""SerialEM's mdoc files: rows 33 and 34 of the fault table."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.mdoc import pre_exposure_e_per_A2, read_mdoc

HEADER = "PixelSpacing = 5.4\nVoltage = 300\n\n[T = SerialEM]\n\n[T =     Tilt axis angle = 85.3, binning = 4]\n\n"


def mdoc_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "TS_01.mrc.mdoc"
    path.write_text(text)
    return path


def test_tutorial_series(shared_data: Path) -> None:
    mdoc = read_mdoc(shared_data / "formats" / "mdoc" / "tilt_series.mdoc")
    assert len(mdoc.sections) == 41
    assert (mdoc.tilt_axis_deg, mdoc.pixel_size_angst) == (85.3, 5.4)
    assert math.isnan(mdoc.voltage_kv)
    first = mdoc.sections[0]
    assert first.tilt_deg == pytest.approx(0.000999877)
    assert first.target_defocus_um == -4.0
    assert first.acquired == (15, 11, 30, 15, 21, 38)
    assert first.frames_name == "TS_01_000_0.0.mrc"


def test_frame_sets(shared_data: Path) -> None:
    mdoc = read_mdoc(shared_data / "formats" / "mdoc" / "frame_set_multiple.mdoc")
    assert len(mdoc.sections) == 20
    assert {section.tilt_deg for section in mdoc.sections} == {33.0}
    single = read_mdoc(shared_data / "formats" / "mdoc" / "frame_set_single.mdoc")
    assert [section.frames_name for section in single.sections] == ["s_mmm_00993_33.0_Oct08_07.39.05.tif"]


@pytest.mark.parametrize(
    ("text", "axis_deg"),
    [
        ("[T = Tilt axis angle = -86.7, binning = 1  spot = 7]", -86.7),
        ("[T =     Tilt axis angle = 85, binning = 2]", 85.0),
        ("T = Tilt axis angle = +95.5, binning = 2", 95.5),
        ("[T = TOMO5: TiltAxisAngle = -95.00]", -95.0),
        ("[T = SerialEM: no axis]", math.nan),
    ],
)
def test_tilt_axis_from_titles(tmp_path: Path, text: str, axis_deg: float) -> None:
    mdoc = read_mdoc(mdoc_file(tmp_path, f"{text}\n[ZValue = 0]\nTiltAngle = 1\n"))
    assert mdoc.tilt_axis_deg == pytest.approx(axis_deg, nan_ok=True)


READ = {
    "row_33_other_order": ("[ZValue = 0]\nDateTime = 30-Nov-15  15:21:38\nTiltAngle = 3\n", 3.0),
    "row_33_empty_values": ("[ZValue = 0]\nTiltAngle = 3\nDateTime = \nExposureDose =\nNumSubFrames = \n", 3.0),
    "row_33_nan": ("[ZValue = 0]\nCountsPerElectron = NaN\nExposureDose = nan\nTiltAngle = 3\n", 3.0),
    "row_33_unbracketed_sections": ("ZValue = 0\nTiltAngle = 3\n", 3.0),
    "row_33_spacing": ("[ZValue=0]\n  TiltAngle=3  \n", 3.0),
    "row_33_frame_set": ("[FrameSet = 0]\nTiltAngle = 3\n", 3.0),
    "row_33_unknown_keys_and_text": ("[ZValue = 0]\nTiltAngle = 3\nNewKey = a = b\nBinning = many\nnonsense\n", 3.0),
    "row_33_no_angle": ("[ZValue = 0]\nPixelSpacing = 5.4\n", math.nan),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize(("text", "tilt_deg"), READ.values(), ids=READ)
def test_odd_files_are_read(tmp_path: Path, text: str, tilt_deg: float, ending: str) -> None:
    path = tmp_path / "TS_01.mdoc"
    path.write_bytes(("\ufeff" + HEADER + text).replace("\n", ending).encode())
    (section,) = read_mdoc(path).sections
    assert section.tilt_deg == pytest.approx(tilt_deg, nan_ok=True)
    assert math.isnan(section.exposure_e_per_A2)


PATHS = {
    "row_34_windows": (r"D:\DATA\frames\TS_01_000.tif", "TS_01_000.tif"),
    "row_34_unc": (r"\\camera\share\TS_01_000.tif", "TS_01_000.tif"),
    "row_34_trailing_blanks": ("X:\\frames\\TS_01_000.tif   ", "TS_01_000.tif"),
    "row_34_unix": ("/data/frames/TS_01_000.tif", "TS_01_000.tif"),
    "row_34_missing": ("", ""),
}


@pytest.mark.parametrize(("path", "name"), PATHS.values(), ids=PATHS)
def test_frames_are_known_by_their_base_name(tmp_path: Path, path: str, name: str) -> None:
    mdoc = read_mdoc(mdoc_file(tmp_path, f"[ZValue = 0]\nTiltAngle = 0\nSubFramePath = {path}\n"))
    assert mdoc.sections[0].frames_name == name


def test_sections_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    mdoc = read_mdoc(mdoc_file(tmp_path, "[ZValue = 1]\nTiltAngle = 3\n[ZValue = 0]\nTiltAngle = 0\n"))
    assert [(s.number, s.tilt_deg) for s in mdoc.sections] == [(0, 0.0), (1, 3.0)]


def sections(*lines: str) -> str:
    return "".join(f"[ZValue = {k}]\nTiltAngle = {k}\n{line}\n" for k, line in enumerate(lines))


DOSES = {
    "told": (["PriorRecordDose = 0", "PriorRecordDose = 3.5"], [0.0, 3.5]),
    "summed_by_time": (
        ["ExposureDose = 2\nDateTime = 01-Jan-2021  00:00:01", "ExposureDose = 3\nDateTime = 31-Dec-2020  23:59:59"],
        [3.0, 0.0],
    ),
    "zero_dose": (["ExposureDose = 0\nDateTime = 01-Jan-21  00:00:01"] * 2, [math.nan] * 2),
    "no_time": (["ExposureDose = 2"] * 2, [math.nan] * 2),
    "odd_month": (["ExposureDose = 2\nDateTime = 01-Foo-21  00:00:01"] * 2, [math.nan] * 2),
}


@pytest.mark.parametrize(("lines", "expected"), DOSES.values(), ids=DOSES)
def test_dose_is_summed_only_where_everything_is_known(tmp_path: Path, lines: list[str], expected: list[float]) -> None:
    mdoc = read_mdoc(mdoc_file(tmp_path, sections(*lines)))
    assert list(pre_exposure_e_per_A2(mdoc.sections)) == pytest.approx(expected, nan_ok=True)


REFUSED = {
    "no_sections": (HEADER, "lists no images of a tilt series"),
    "not_a_number": ("[ZValue = 0]\nTiltAngle = three\n", "TiltAngle is 'three'"),
    "out_of_range": ("[ZValue = 4]\nTiltAngle = 1567301.0\n", "TiltAngle of section 4 is .* outside"),
    "twice": ("[ZValue = 0]\nTiltAngle = 0\n[ZValue = 0]\nTiltAngle = 3\n", "lists an image more than once"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_unusable_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = mdoc_file(tmp_path, text)
    with pytest.raises(BadInput, match=message) as caught:
        read_mdoc(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read .*absent\.mdoc"):
        read_mdoc(tmp_path / "absent.mdoc")
