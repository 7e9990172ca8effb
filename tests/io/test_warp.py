"""Files of Warp and M: what their numbers mean, which row is which image, and what writing leaves as it was."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from alignment_cases import SHAPES_YX, apart_px, make_series, random_alignment, slab

from napari_tiltalign.cli import main
from napari_tiltalign.errors import BadInput, BadTiltSeries, ProgramMissing
from napari_tiltalign.geometry import RigidMotion, ViewGeometry, rotation_x
from napari_tiltalign.io.convert import alignment_file, read_alignment, write_alignment
from napari_tiltalign.io.warp import read_warp, write_warp
from napari_tiltalign.model import Alignment, TiltSeries

ASCENDING = np.array([-10.02, -5.0, 0.01, 4.99, 10.0])
SYMMETRIC = np.array([-10.0, -5.0, 0.0, 5.0, 10.0])


def values(name: str, items: Sequence[object]) -> str:
    return f"<{name}>" + "\n".join(map(str, items)) + f"</{name}>"


def grid(name: str, layers: Sequence[Sequence[float]], size: str = 'Width="2" Height="1"', last: str = "Depth") -> str:
    """A grid of two nodes in each layer."""
    index = "W" if last == "Duration" else "Z"
    nodes = "".join(
        f'<Node X="{x}" Y="0" Z="0" {index}="{k}" Value="{value}" />'.replace('Z="0" Z=', "Z=")
        for k, layer in enumerate(layers)
        for x, value in enumerate(layer)
    )
    depth = 'Depth="1" ' if last == "Duration" else ""
    return f'<{name} {size} {depth}{last}="{len(layers)}">{nodes}</{name}>'


def warp_xml(
    angles: Sequence[float],
    *,
    axis: float = 0.0,
    offsets: Sequence[tuple[float, float]] | None = None,
    used: Sequence[bool] | None = None,
    names: Sequence[str] = (),
    dose: Sequence[float] = (),
    attributes: str = 'AreAnglesInverted="False"',
    more: str = "",
) -> str:
    """A file as Warp writes it, made without the code under test."""
    n = len(angles)
    offsets = offsets or [(0.0, 0.0)] * n
    parts = [
        values("Angles", angles),
        values("Dose", dose) if dose else "",
        values("UseTilt", used or [True] * n),
        values("AxisAngle", [axis] * n),
        values("AxisOffsetX", [x for x, _ in offsets]),
        values("AxisOffsetY", [y for _, y in offsets]),
        values("MoviePath", names) if names else "",
        '<CTF><Param Name="PixelSize" Value="2" /><Param Name="Defocus" Value="2.5" /></CTF>',
        more,
    ]
    return f'<?xml version="1.0" encoding="utf-8"?>\n<TiltSeries {attributes}>{"".join(parts)}</TiltSeries>'


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8-sig")
    return path


def parsed(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(path.read_text("utf-8-sig"))  # noqa: S314 (our own)


def movies(series: TiltSeries) -> list[str]:
    return [f"../frames/{tilt_id}.tif" for tilt_id in series.tilt_ids]


def test_numbers_worked_out_by_hand(tmp_path: Path) -> None:
    """Axis upright, 60 degrees: x halves; a point 100 A up in our hand is seen where Warp sees one 100 A down."""
    series = make_series(np.array([60.0, 0.0, -60.0]), (512, 640), 2.0)
    more = grid("GridMovementX", [[0.0, 0.0], [3.0, 5.0], [0.0, 0.0]])
    text = warp_xml([-60.0, 0.0, 60.0], offsets=[(7.0, -2.0)] * 3, names=movies(series), more=more)
    found = read_warp(put(tmp_path / "TS.xml", text), series)
    seen = found.geometry.project([[0.0, 5.0, 100.0], [-100.0, 0.0, 0.0]])  # zyx
    up = 100 * np.sqrt(3) / 2
    assert seen[0] == pytest.approx(np.array([[3.0, 57.0], [-2.0, 7.0 - up]]))
    assert seen[1] == pytest.approx(np.array([[3.0, 103.0], [-2.0, 3.0]]))  # the mean of its movement is 4
    assert seen[2] == pytest.approx(np.array([[3.0, 57.0], [-2.0, 7.0 + up]]))
    (flag,) = found.flags
    assert flag.name == "import_incomplete"
    assert "up to 1 Angstrom" in flag.detail


def test_turned_axis_and_odd_sizes_by_hand(tmp_path: Path) -> None:
    """Axis at 90 degrees: Warp's x is seen along y, its y against x; the centre of 5 pixels is at 2.5, ours at 2."""
    text = warp_xml([0.0, 10.0], axis=90.0, offsets=[(1.0, 2.0)] * 2)  # only one order fits without an offset
    found = read_warp(put(tmp_path / "TS.xml", text), make_series(np.array([0.0, -10.0]), (5, 4), 2.0))
    assert found.geometry.project([[0.0, 30.0, 100.0]])[0, 0] == pytest.approx([103.0, -29.0])


@pytest.mark.parametrize("shape_yx", SHAPES_YX, ids=str)
def test_means_what_warp_computes(tmp_path: Path, shape_yx: tuple[int, int]) -> None:
    """Warp's rule, written out with its matrices (Euler angles of Xmipp: 0, tilt, -axis), with levels and the means."""
    random = np.random.default_rng(1)
    pixel, level_x, level_y = 1.7, 3.5, -2.0
    angles, axis, dose = np.linspace(-58, 61, 9), 84.3, random.permutation(9) * 3.0
    offsets = random.normal(0, 200, (9, 2))
    warped = {name: random.normal(0, 20, (4, 1)).repeat(2, axis=1) for name in "XYZ"}
    moved = {name: random.normal(0, 20, (9, 1)).repeat(2, axis=1) for name in "XY"}
    more = "".join(grid(f"GridVolumeWarp{a}", v.tolist(), last="Duration") for a, v in warped.items())
    more += "".join(grid(f"GridMovement{a}", v.tolist()) for a, v in moved.items())
    levels = f'LevelAngleX="{level_x}" LevelAngleY="{level_y}"'
    text = warp_xml(angles, axis=axis, offsets=offsets.tolist(), dose=dose.tolist(), attributes=levels, more=more)
    series = make_series(-angles, shape_yx, pixel)
    ours = read_warp(put(tmp_path / "TS.xml", text), series)
    points = slab(shape_yx, pixel)
    for i in range(9):
        b, g, x = np.deg2rad([angles[i] + level_y, -axis, level_x])
        euler = np.array([
            [np.cos(g) * np.cos(b), np.sin(g), -np.cos(g) * np.sin(b)],
            [-np.sin(g) * np.cos(b), np.cos(g), np.sin(g) * np.sin(b)],
            [np.sin(b), 0.0, np.cos(b)],
        ])  # fmt: skip
        level = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
        when = dose[i] / dose.max() * 3
        warp = [np.interp(when, range(4), warped[a][:, 0]) for a in "XYZ"]
        seen = (euler @ level @ (points[:, ::-1] + warp).T)[:2].T + offsets[i] + np.array(shape_yx[::-1]) * pixel / 2
        seen -= [moved["X"][i, 0], moved["Y"][i, 0]]
        index_xy = ours.geometry.take([i]).project(points)[0, :, ::-1] / pixel + np.array(shape_yx[::-1]) // 2
        assert seen / pixel == pytest.approx(index_xy, abs=1e-3)
    assert ours.flags == ()


def test_agrees_with_another_package(tmp_path: Path) -> None:
    """cryoet-alignment takes the same file to RELION (even sizes: it ignores the half pixel of odd ones)."""
    from cryoet_alignment.io.cryoet_data_portal import Alignment as PortalAlignment

    alignment, series = random_alignment(5, (512, 640), n=11)
    write_warp(tmp_path / "TS.xml", alignment, series)
    theirs = PortalAlignment.from_warp_file(str(tmp_path / "TS.xml"), vol_size=(640, 512, 300)).to_relion("TS", 1.7)
    geometry = alignment.geometry
    assert [e.y_tilt for e in theirs.entries] == pytest.approx(geometry.y_tilt_deg, abs=1e-4)
    assert np.cos(np.deg2rad([e.z_rot for e in theirs.entries] - geometry.z_rot_deg)) == pytest.approx(1, abs=1e-9)
    assert [e.x_shift_angst for e in theirs.entries] == pytest.approx(geometry.shift_yx_angst[:, 1], abs=1e-3)
    assert [e.y_shift_angst for e in theirs.entries] == pytest.approx(geometry.shift_yx_angst[:, 0], abs=1e-3)


@pytest.mark.parametrize("shape_yx", SHAPES_YX, ids=str)
def test_round_trip(tmp_path: Path, shape_yx: tuple[int, int]) -> None:
    for seed in range(3):
        alignment, series = random_alignment(seed, shape_yx, n_excluded=3)
        level = alignment.replace(geometry=alignment.geometry.replace(x_tilt_deg=np.full(21, 4.0)))
        path = tmp_path / f"{seed}.xml"
        losses = write_alignment(path, level, series)
        assert [loss.what for loss in losses] == ["CTF and paths", "dose"]
        for given in (series, series.replace(tilts=tuple(t.restored() for t in series.tilts)), None):
            again = read_alignment(path, given, pixel_size_angst=alignment.pixel_size_angst)
            assert apart_px(level, again) < 0.01
            assert again.included.tolist() == level.included.tolist()
            assert again.tilt_ids == series.tilt_ids
            assert all(again.reasons[i] for i in np.flatnonzero(~again.included))


def test_what_the_file_cannot_hold_is_said_with_its_size(tmp_path: Path) -> None:
    alignment, series = random_alignment(3, (512, 640), with_x_tilt=True, with_magnification=True)
    losses = {loss.what: loss for loss in write_alignment(tmp_path / "TS.xml", alignment, series)}
    assert set(losses) == {"magnification", "X tilt of each image", "CTF and paths", "dose"}
    again = read_alignment(tmp_path / "TS.xml", series)
    mean = alignment.geometry.x_tilt_deg.mean()
    assert again.geometry.x_tilt_deg == pytest.approx(np.full(21, mean), abs=1e-4)
    without = alignment.geometry.replace(magnification=np.ones(21))
    points = slab((512, 640), 1.7)
    apart = np.linalg.norm(without.project(points) - again.geometry.project(points), axis=-1).max()
    assert losses["X tilt of each image"].size_angst == pytest.approx(apart, rel=0.05)


# ---- which row is which image


def offsets_by_row(n: int) -> list[tuple[float, float]]:
    return [(float(k), 0.0) for k in range(n)]


def rows_read(path: Path, series: TiltSeries) -> list[int]:
    """Row of each image: its shift along x, which is the number of the row."""
    return [round(x) for x in read_warp(path, series).geometry.shift_yx_angst[:, 1]]


def test_names_of_movies_decide(tmp_path: Path) -> None:
    """Symmetric tilts, sorted by Warp after it has changed their sign: the other way round than the series."""
    series = make_series(SYMMETRIC, (512, 640), 2.0)
    names = movies(series)[::-1]
    path = put(tmp_path / "TS.xml", warp_xml(SYMMETRIC, offsets=offsets_by_row(5), names=names))
    assert rows_read(path, series) == [4, 3, 2, 1, 0]
    found = read_warp(path, series)
    assert found.flags == ()
    assert found.geometry.y_tilt_deg == pytest.approx(series.nominal_tilt_deg)


def test_names_after_the_motion_correction_of_relion(tmp_path: Path) -> None:
    """It writes underscores for dots, and a later table may have lost the names of the movies."""
    series = make_series(SYMMETRIC, (512, 640), 2.0)
    underscored = [
        dataclasses.replace(t, tilt_id=t.tilt_id.replace(".", "_"), columns={"rlnMicrographName": "MotionCorr/a.mrc"})
        for t in series.tilts
    ]
    path = put(tmp_path / "TS.xml", warp_xml(SYMMETRIC, offsets=offsets_by_row(5), names=movies(series)[::-1]))
    assert rows_read(path, series.replace(tilts=tuple(underscored))) == [4, 3, 2, 1, 0]


def test_tilts_that_were_not_inverted_are_flagged_and_given_in_the_hand_of_the_series(tmp_path: Path) -> None:
    series = make_series(SYMMETRIC, (512, 640), 2.0)
    text = warp_xml(
        SYMMETRIC, offsets=offsets_by_row(5), names=movies(series), attributes='LevelAngleX="4" LevelAngleY="1"'
    )
    found = read_warp(put(tmp_path / "TS.xml", text), series)
    assert found.geometry.shift_yx_angst[:, 1] == pytest.approx(np.arange(5.0))
    assert found.geometry.y_tilt_deg == pytest.approx(SYMMETRIC + 1)
    assert found.geometry.x_tilt_deg == pytest.approx(np.full(5, -4.0))
    assert [flag.name for flag in found.flags] == ["hand_undetermined"]


def test_dose_decides_where_names_do_not(tmp_path: Path) -> None:
    series = make_series(SYMMETRIC, (512, 640), 2.0)
    doses = (9.0, 6.0, 0.0, 3.0, 12.0)
    series = series.replace(
        tilts=tuple(
            dataclasses.replace(t, pre_exposure_e_per_A2=d, columns={})
            for t, d in zip(series.tilts, doses, strict=True)
        )
    )
    for name, dose, expected in (("same", doses, [0, 1, 2, 3, 4]), ("reversed", doses[::-1], [4, 3, 2, 1, 0])):
        path = put(tmp_path / f"{name}.xml", warp_xml(SYMMETRIC, offsets=offsets_by_row(5), dose=dose))
        assert rows_read(path, series) == expected


def test_tilts_decide_where_they_are_not_symmetric(tmp_path: Path) -> None:
    series = make_series(ASCENDING, (512, 640), 2.0)
    same = put(tmp_path / "same.xml", warp_xml(ASCENDING + 1.5, offsets=offsets_by_row(5)))
    inverted = put(tmp_path / "inverted.xml", warp_xml(np.sort(-ASCENDING), offsets=offsets_by_row(5)))
    assert rows_read(same, series) == [0, 1, 2, 3, 4]
    assert rows_read(inverted, series) == [4, 3, 2, 1, 0]


def test_tilts_of_the_stage_are_recognised_where_only_the_middle_is_not_zero(tmp_path: Path) -> None:
    """With any offset, steps of 5 degrees from -10 to 15 also fit the other way round, but not without one."""
    tilts = np.arange(-10.0, 16.0, 5.0)
    path = put(tmp_path / "TS.xml", warp_xml(-tilts[::-1], offsets=offsets_by_row(6)))
    assert rows_read(path, make_series(tilts + 0.004, (512, 640), 2.0)) == [5, 4, 3, 2, 1, 0]
    moved = put(tmp_path / "moved.xml", warp_xml(-tilts[::-1] + 2.0))
    with pytest.raises(BadTiltSeries, match="cannot be told"):
        read_warp(moved, make_series(tilts, (512, 640), 2.0))


def test_two_possible_orders_are_refused(tmp_path: Path) -> None:
    series = make_series(SYMMETRIC, (512, 640), 2.0)
    with pytest.raises(BadTiltSeries, match=r"cannot be told.*the other way round.*\.mdoc"):
        read_warp(put(tmp_path / "TS.xml", warp_xml(SYMMETRIC)), series)


def test_a_stack_of_the_images_in_use(tmp_path: Path) -> None:
    """What Warp writes for IMOD has only these."""
    used = [True, False, True, True, True]
    text = warp_xml(ASCENDING, offsets=offsets_by_row(5), used=used)
    assert rows_read(put(tmp_path / "TS.xml", text), make_series(ASCENDING[used], (512, 640), 2.0)) == [0, 2, 3, 4]


def test_images_warp_does_not_list_are_interpolated_and_excluded(tmp_path: Path) -> None:
    series = make_series(ASCENDING, (512, 640), 2.0)
    kept = [0, 1, 3, 4]
    text = warp_xml(-ASCENDING[kept], offsets=[(k, 0) for k in kept], names=[movies(series)[k] for k in kept])
    found = read_warp(put(tmp_path / "TS.xml", text), series)
    assert found.included.tolist() == [True, True, False, True, True]
    assert found.reasons[2] == "not listed by Warp (TS.xml)"
    assert found.geometry.shift_yx_angst[:, 1] == pytest.approx(np.arange(5.0), abs=0.02)


ENTITIES = "".join(f'<!ENTITY a{k} "{f"&a{k - 1};" * 10 if k else "lol" * 100}">' for k in range(9))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a tilt series of Warp"),
        ("<TiltSeries>", "cannot be read as a tilt series of Warp"),
        ("<Movie><CTF /></Movie>", "no <Angles> element"),
        (warp_xml(ASCENDING).replace("10.0", "ten"), "cannot be read as a tilt series of Warp"),
        (warp_xml(ASCENDING).replace("4.99", "NaN"), "Angles holds values that are not finite"),
        (warp_xml(ASCENDING, offsets=[(0, 0)] * 4), "AxisOffsetX"),
        (warp_xml(ASCENDING, attributes='LevelAngleX="up"'), "could not convert"),
        (f"<!DOCTYPE TiltSeries [{ENTITIES}]><TiltSeries>&a8;</TiltSeries>", "has a <!DOCTYPE declaration"),
        (warp_xml(ASCENDING[:3]), "lists 3 images.*series has 5"),
        (warp_xml(ASCENDING + np.array([0, 0, 0, 0, 30])), "do not fit"),
        (warp_xml(ASCENDING, attributes='ImageDimensionsAngstrom="1024, 1280"'), "1024 x 1280 Angstrom.*1280 x 1024"),
    ],
)
def test_files_that_cannot_be_used_say_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadTiltSeries, match=message) as raised:
        read_warp(put(tmp_path / "TS.xml", text), make_series(ASCENDING, (512, 640), 2.0))
    assert "TS.xml" in str(raised.value)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    """Fault 85; a sparse file, so nothing is written."""
    path = put(tmp_path / "TS.xml", warp_xml(ASCENDING))
    with path.open("r+b") as file:
        file.truncate(300_000_000)
    with pytest.raises(BadTiltSeries, match="it has 300 MB"):
        read_warp(path, make_series(ASCENDING, (512, 640), 2.0))


def test_entities_cannot_hide_in_another_coding(tmp_path: Path) -> None:
    path = tmp_path / "TS.xml"
    path.write_bytes(f"<!DOCTYPE TiltSeries [{ENTITIES}]><TiltSeries>&a8;</TiltSeries>".encode("utf-16"))
    with pytest.raises(BadTiltSeries, match="cannot be read as a tilt series of Warp"):
        read_warp(path, make_series(ASCENDING, (512, 640), 2.0))


def test_other_tilts_of_the_same_names_are_refused(tmp_path: Path) -> None:
    series = make_series(ASCENDING, (512, 640), 2.0)
    text = warp_xml(ASCENDING * 3, names=movies(series))
    with pytest.raises(BadTiltSeries, match="same names, but other tilts"):
        read_warp(put(tmp_path / "TS.xml", text), series)


# ---- writing to a file of Warp


@pytest.fixture
def project(tmp_path: Path) -> tuple[Path, TiltSeries, Alignment]:
    """Warp's own file with a CTF, M's grids, an unknown element and one row more than the series has images."""
    series = make_series(SYMMETRIC, (511, 640), 2.0)
    names = [*movies(series)[::-1], "../frames/extra.tif"]
    more = grid("GridMovementX", [[1, 2]] * 6) + grid("GridCTF", [[2.5, 2.5]] * 6) + grid("GridAngleZ", [[0, 1]] * 6)
    text = warp_xml([*SYMMETRIC, 15.0], names=names, more=more + "<News>kept</News>", dose=range(6))
    random = np.random.default_rng(0)
    geometry = ViewGeometry(
        np.full(5, 2.0), SYMMETRIC + 1.0, np.full(5, 84.0), random.normal(0, 50, (5, 2)), np.ones(5)
    )
    included = np.array([True, True, True, True, False])
    alignment = Alignment("TS", series.tilt_ids, geometry, 2.0, (511, 640), included, ("",) * 4 + ("dark",))
    return put(tmp_path / "TS.xml", text), series, alignment


def test_only_the_alignment_of_a_file_is_replaced(project: tuple[Path, TiltSeries, Alignment]) -> None:
    path, series, alignment = project
    before = parsed(path)
    losses = {loss.what: loss.detail for loss in write_warp(path, alignment, series)}
    assert set(losses) == {"Warp's own motion"}
    assert losses["Warp's own motion"].startswith("GridAngleZ, GridMovementX in")
    after = parsed(path)
    for name in ("Dose", "MoviePath", "News"):
        assert after.findtext(name) == before.findtext(name)
    for name in ("CTF", "GridCTF"):
        assert [e.attrib for e in after.find(name).iter()] == [e.attrib for e in before.find(name).iter()]  # type: ignore[union-attr]
    assert after.find("GridMovementX") is None
    assert (after.findtext("UseTilt") or "").split() == ["False", "True", "True", "True", "True", "False"]
    assert float((after.findtext("Angles") or "").split()[-1]) == 15.0  # the row that is none of ours
    assert after.get("LevelAngleX") == "2"
    again = read_warp(path, series)
    assert apart_px(alignment, again) < 0.01
    assert again.included.tolist() == alignment.included.tolist()


def test_the_hand_of_a_file_stays_what_it_was(project: tuple[Path, TiltSeries, Alignment]) -> None:
    """Otherwise Warp's knowledge of the defocus (AreAnglesInverted) would become wrong."""
    path, series, alignment = project
    text = warp_xml(SYMMETRIC, names=movies(series), attributes='AreAnglesInverted="True"')
    write_warp(put(path, text), alignment, series)
    after = parsed(path)
    assert after.get("AreAnglesInverted") == "True"
    assert after.get("LevelAngleX") == "-2"
    assert [float(v) for v in (after.findtext("Angles") or "").split()] == pytest.approx(SYMMETRIC + 1)
    assert apart_px(alignment, read_warp(path, series)) < 0.01


def test_another_file_is_never_replaced(tmp_path: Path, project: tuple[Path, TiltSeries, Alignment]) -> None:
    _, series, alignment = project
    other = tmp_path / "other.xml"
    for text in ("<settings><a>1</a></settings>", "no xml"):
        other.write_text(text)
        with pytest.raises(BadInput, match=r"other\.xml cannot be read as a tilt series of Warp"):
            write_warp(other, alignment, series)
        assert other.read_text() == text


def test_a_turn_of_the_whole_specimen_is_no_loss(tmp_path: Path) -> None:
    """A common X tilt that is composed with the tilts still is one for all images."""
    alignment, series = random_alignment(2, (512, 640))
    turned = alignment.geometry.compose(RigidMotion(rotation_x(5.0), np.zeros(3)))
    losses = write_warp(tmp_path / "TS.xml", alignment.replace(geometry=turned), series)
    assert [loss.what for loss in losses] == ["CTF and paths", "dose"]


# ---- from outside


def test_without_the_package_its_name_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alignment, series = random_alignment(2, (512, 640))
    path = put(tmp_path / "TS.xml", warp_xml(SYMMETRIC))
    monkeypatch.setitem(sys.modules, "warpxmlfile", None)
    for use in (lambda: read_alignment(path, series), lambda: write_alignment(tmp_path / "new.xml", alignment)):
        with pytest.raises(ProgramMissing, match=r"warpxmlfile: pip install \"napari-tiltalign\[warp\]\""):
            use()
    assert not (tmp_path / "new.xml").exists()


def test_folder_of_warp(tmp_path: Path) -> None:
    for name in ("TS_1", "TS_2"):
        put(tmp_path / f"{name}.xml", warp_xml(SYMMETRIC))
    assert alignment_file(tmp_path, "TS_2") == tmp_path / "TS_2.xml"
    with pytest.raises(BadInput, match=r"several alignments: TS_1\.xml, TS_2\.xml"):
        alignment_file(tmp_path)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"../frames/TS_{k}.tif" for k in range(5)]
    text = warp_xml(SYMMETRIC, names=names, attributes='ImageDimensionsAngstrom="1280, 1024"')
    path = put(tmp_path / "TS.xml", text)
    assert main(["convert", str(path), str(tmp_path / "TS.aln")]) == 0
    assert "5 of 5 views" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / "TS.aln"), str(path), "--pixel-size-angst", "2"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    old = put(tmp_path / "old.xml", warp_xml(SYMMETRIC))
    assert main(["convert", str(old), str(tmp_path / "old.aln")]) == 1
    assert "does not say the size of the images" in capsys.readouterr().err
