"""IMOD's text files and models: what is read, what is refused, in which order."""

from __future__ import annotations

from pathlib import Path

import imodmodel
import numpy as np
import pytest
from alignment_cases import apart_px, dose_symmetric, make_series, random_alignment

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.io.fid import read_fid, write_fid
from napari_tiltalign.io.imod import read_imod, read_xf, write_imod, xf_text
from napari_tiltalign.model import Alignment, State, Tracks

UNIT = "1 0 0 1 0 0\n"


def test_xf_has_imods_columns_and_is_read_back_from_them(tmp_path: Path, shared_data: Path) -> None:
    path = shared_data / "formats" / "imod_tutorial_BBa" / "BBa.xf"
    assert xf_text(read_xf(path)) == path.read_text()


@pytest.mark.parametrize("order", ["input", "by tilt"])
@pytest.mark.parametrize("with_rawtlt", [True, False])
def test_lines_find_their_images_in_either_order(tmp_path: Path, order: str, with_rawtlt: bool) -> None:
    """Fault 20: RELION gives IMOD a stack sorted by tilt, our series is in the order of acquisition."""
    alignment, series = random_alignment(0, (512, 640), with_x_tilt=True)
    assert series.nominal_tilt_deg.tolist() != sorted(series.nominal_tilt_deg)
    index = series.tilt_order() if order == "by tilt" else np.arange(len(series))
    listed = alignment.take(tuple(series.tilt_ids[i] for i in index))
    write_imod(tmp_path / "TS.xf", listed, series.nominal_tilt_deg[index] if with_rawtlt else None)
    assert apart_px(read_imod(tmp_path / "TS.xf", series), alignment) < 0.01


def test_images_of_equal_tilt_keep_the_order_of_the_input(tmp_path: Path) -> None:
    """Fault 21: RELION sorts stably."""
    series = make_series(np.array([3.0, 0.0, -3.0, 0.0]))
    (tmp_path / "TS.xf").write_text("".join(f"1 0 0 1 {dx} 0\n" for dx in (1, 2, 3, 4)))
    (tmp_path / "TS.tlt").write_text("-3\n0\n0\n3\n")
    shifts_px = read_imod(tmp_path / "TS.xf", series).geometry.shift_yx_angst[:, 1] / 1.7 + 0.5
    assert shifts_px == pytest.approx([-4, -2, -1, -3])


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({".xf": UNIT * 3}, r"cannot read .*TS\.tlt"),
        ({".xf": UNIT * 3, ".tlt": "-3\n0\n"}, r"TS\.tlt has 2 lines and TS\.xf 3"),
        ({".xf": UNIT * 3, ".tlt": "-3\n0\n3\n", ".xtilt": "0\n0\n"}, r"TS\.xtilt has 2 lines and TS\.xf 3"),
        ({".xf": UNIT * 2, ".tlt": "-3\n0\n"}, "2 lines for 3 images"),
        ({".xf": UNIT * 2 + "1 0 0 1 0\n", ".tlt": "-3\n0\n3\n"}, "line 3: 5 values, expected 6; was it cut"),
        ({".xf": "-1 0 0 1 0 0\n" * 3, ".tlt": "-3\n0\n3\n"}, "line 1 mirrors the image"),
        ({".xf": UNIT * 3, ".tlt": "-3\n0\nnan\n"}, "not a finite number"),
        ({".xf": UNIT * 3, ".tlt": "-30\n0\n9\n"}, "fit the series neither"),
        ({".xf": "", ".tlt": "-3\n0\n3\n"}, "empty"),
        ({".xf": "\xff\xfe".encode("latin1"), ".tlt": "-3\n0\n3\n"}, "not text"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, files: dict[str, str | bytes], problem: str) -> None:
    """RELION ends the whole job on these; here one series is refused, with what is wrong."""
    for suffix, content in files.items():
        (tmp_path / f"TS{suffix}").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadTiltSeries, match=problem) as caught:
        read_imod(tmp_path / "TS.xf", make_series(np.array([-3.0, 0.0, 3.0])))
    assert caught.value.series_name == "TS"


def tracked(seed: int = 0) -> Alignment:
    """An alignment with tracks, some observations rejected and one track without any."""
    alignment, series = random_alignment(seed, (511, 640), n=7)
    random = np.random.default_rng(seed)
    track, tilt = (grid.ravel() for grid in np.mgrid[:5, :7])
    position = random.uniform(0, 500, (35, 2))
    tracks = Tracks.from_observations(series.tilt_ids, np.zeros((5, 3)), track, tilt, position)
    state = np.where((random.random(35) < 0.3) | (track == 3), State.REJECTED, State.MEASURED)
    shuffled = random.permutation(35)
    return alignment.replace(tracks=tracks.replace(state=state).take_observations(shuffled))


def test_tracks_written_as_a_model_are_read_back(tmp_path: Path) -> None:
    alignment = tracked()
    assert alignment.tracks is not None
    series = make_series(dose_symmetric(7), (511, 640))
    (loss,) = write_fid(tmp_path / "TS.fid", alignment)
    again = read_fid(tmp_path / "TS.fid", series)
    assert f"{(~alignment.tracks.used).sum()} rejected" in loss.detail
    assert again.n_tracks == 4
    expected = sorted(
        (t - (t > 3), i, *np.float32(p)) for t, i, p, used in
        zip(alignment.tracks.track, alignment.tracks.tilt, alignment.tracks.position_yx_px, alignment.tracks.used,
            strict=True) if used
    )  # fmt: skip
    found = sorted(zip(again.track, again.tilt, *again.position_yx_px.T, strict=True))
    assert np.array(found) == pytest.approx(np.array(expected), abs=1e-4)


def test_model_is_what_imod_expects(tmp_path: Path) -> None:
    """First pixel's centre at 0.5, sections from 0, the scale of the stack, open contours."""
    alignment = tracked()
    assert alignment.tracks is not None
    write_fid(tmp_path / "TS.fid", alignment)
    assert (tmp_path / "TS.fid").read_bytes().startswith(b"IMODV1.2")
    model = imodmodel.ImodModel.from_file(tmp_path / "TS.fid")
    assert (model.header.xmax, model.header.ymax, model.header.zmax) == (640, 511, 7)
    assert model.header.pixelsize == pytest.approx(0.17)
    assert model.header.units == -9
    assert model.minx is not None
    assert model.minx.cscale == pytest.approx((1.7, 1.7, 1.7))
    assert model.objects[0].header.flags.open
    assert not model.objects[0].header.flags.scattered
    table = imodmodel.read(tmp_path / "TS.fid")
    first = table[table.contour_id == 0].iloc[0]
    tracks = alignment.tracks
    (at,) = np.flatnonzero((tracks.track == 0) & (tracks.tilt == int(first.z)))
    assert (first.y - 0.5, first.x - 0.5) == pytest.approx(tuple(tracks.position_yx_px[at]), abs=1e-4)


def test_model_of_a_prealigned_binned_stack(tmp_path: Path) -> None:
    """IMOD tracks on a stack that was shifted and binned: raw = binned * binning - prexg shift."""
    alignment = tracked()
    assert alignment.tracks is not None
    tracks = alignment.tracks.take_observations(alignment.tracks.used)
    series = make_series(dose_symmetric(7), (512, 640))
    moved = np.random.default_rng(1).normal(0, 20, (7, 2))
    (tmp_path / "TS.prexg").write_text("".join(f"1 0 0 1 {x:.3f} {y:.3f}\n" for y, x in moved))
    binned = (tracks.position_yx_px + 0.5 + np.round(moved, 3)[tracks.tilt]) / 4 - 0.5
    on_binned = alignment.replace(
        tracks=tracks.replace(position_yx_px=binned), pixel_size_angst=1.7 * 4.002, image_shape_yx=(128, 160)
    )
    write_fid(tmp_path / "TS.fid", on_binned)
    again = read_fid(tmp_path / "TS.fid", series, prexg_path=tmp_path / "TS.prexg")
    order = np.lexsort((tracks.tilt, tracks.track))
    assert again.position_yx_px == pytest.approx(tracks.position_yx_px[order], abs=1e-3)


def test_real_model_is_read(tmp_path: Path, shared_data: Path) -> None:
    """A model saved by 3dmod, its points spread over the sections as tracks are."""
    path = shared_data / "formats" / "imod_models" / "two_contour_example.mod"
    series = make_series(np.arange(128.0) / 3, (128, 128), 4.48)
    with pytest.raises(BadTiltSeries, match=r"contour 1 of .* has two points on section \d+; delete one"):
        read_fid(path, series)
    model = imodmodel.ImodModel.from_file(path)
    for contour in model.objects[0].contours:
        contour.points[:, 2] = np.arange(len(contour.points))
    model.to_file(tmp_path / "tracks.mod")
    tracks = read_fid(tmp_path / "tracks.mod", series)
    points = np.concatenate([contour.points for contour in model.objects[0].contours])
    assert tracks.n_tracks == 2
    assert tracks.position_yx_px == pytest.approx(points[:, 1::-1] - 0.5, abs=1e-4)
    with pytest.raises(BadTiltSeries, match=r"4\.48 Angstrom per pixel, the series has 1\.9"):
        read_fid(path, series.replace(pixel_size_angst=1.9))


@pytest.mark.parametrize("cut", [4, 100, 300, 700, -4])
def test_cut_model_is_refused_and_does_not_hang(tmp_path: Path, cut: int) -> None:
    """The library looks for the end of such a file forever."""
    write_fid(tmp_path / "TS.fid", tracked())
    (tmp_path / "cut.fid").write_bytes((tmp_path / "TS.fid").read_bytes()[:cut])
    with pytest.raises(BadTiltSeries, match="cut" if cut != 4 else "not a binary IMOD model"):
        read_fid(tmp_path / "cut.fid", make_series(dose_symmetric(7)))


def test_model_of_another_series_is_refused(tmp_path: Path) -> None:
    write_fid(tmp_path / "TS.fid", tracked())
    with pytest.raises(BadTiltSeries, match=r"on section [4-7], the series has 3 images"):
        read_fid(tmp_path / "TS.fid", make_series(np.array([-3.0, 0.0, 3.0])))
    (tmp_path / "TS.prexg").write_text(UNIT * 3)
    with pytest.raises(BadTiltSeries, match="3 lines for 7 images"):
        read_fid(tmp_path / "TS.fid", make_series(dose_symmetric(7)), prexg_path=tmp_path / "TS.prexg")


def test_alignment_without_tracks_has_no_model(tmp_path: Path) -> None:
    alignment, _ = random_alignment(0, (64, 64), n=3)
    with pytest.raises(BadTiltSeries, match="no tracks"):
        write_fid(tmp_path / "TS.fid", alignment)


def test_rounding_is_reported_when_it_matters(tmp_path: Path) -> None:
    """Seven decimals are not enough for an image of a million pixels."""
    series = make_series(np.array([0.0]), (1_000_000, 10), 1.0)
    geometry = ViewGeometry.nominal([0.0], 12.3456789)
    alignment = Alignment("TS", series.tilt_ids, geometry, 1.0, (1_000_000, 10), series.included)
    losses = write_imod(tmp_path / "TS.xf", alignment)
    assert [loss.what for loss in losses] == ["rounding"]
    assert 0.01 < losses[0].size_angst < 0.1


def test_reading_xf_names_the_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.xf").write_text(UNIT + "1 0 0 1 1,5 0\n")
    with pytest.raises(BadInput, match=r"a\.xf, line 2 is '1,5'.*decimals with a point"):
        read_xf(tmp_path / "a.xf")


def test_model_of_finer_images_than_the_series(tmp_path: Path) -> None:
    alignment = tracked()
    assert alignment.tracks is not None
    write_fid(tmp_path / "TS.fid", alignment)
    coarse = make_series(dose_symmetric(7), (128, 160), 6.8)
    used = alignment.tracks.take_observations(alignment.tracks.used)
    order = np.lexsort((used.tilt, used.track))
    expected = (used.position_yx_px[order] + 0.5) / 4 - 0.5
    assert read_fid(tmp_path / "TS.fid", coarse).position_yx_px == pytest.approx(expected, abs=1e-4)
