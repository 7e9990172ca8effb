"""Folders in which etomo has worked, RELION's jobs with IMOD's files in them, and AreTomo's folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from alignment_cases import apart_px, make_series, random_alignment

from napari_tiltalign.batch.starts import read_start, start_file
from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io import read
from napari_tiltalign.io.convert import alignment_file, alignment_of_input, read_alignment, write_alignment
from napari_tiltalign.io.etomo import find_etomo, read_etomo
from napari_tiltalign.io.fid import write_fid
from napari_tiltalign.io.imod import write_imod
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.model import Alignment, TiltSeries, Tracks

LOG = "AngleOffset = 2.85\n Residual error mean and sd: 0.360 0.457 nm\n"
SHAPE = (48, 64)


def with_tracks(alignment: Alignment, n: int = 5) -> Alignment:
    """The alignment with beads seen in all images that are included."""
    points = np.random.default_rng(2).uniform(-1, 1, (n, 3)) * [100, 200, 250]
    seen = alignment.geometry.project(points) / alignment.pixel_size_angst + [24, 32]
    track, tilt = (i.ravel() for i in np.meshgrid(np.arange(n), np.flatnonzero(alignment.included), indexing="ij"))
    return alignment.replace(
        tracks=Tracks.from_observations(alignment.tilt_ids, points, track, tilt, seen[tilt, track])
    )


def write_etomo(folder: Path, name: str, alignment: Alignment, series: TiltSeries, edf: str = "") -> None:
    """What etomo leaves, for the images that are included, by tilt."""
    folder.mkdir(parents=True, exist_ok=True)
    order = [int(i) for i in series.tilt_order() if alignment.included[i]]
    part = alignment.take(tuple(series.tilt_ids[i] for i in order))
    write_imod(folder / f"{name}.xf", part, series.nominal_tilt_deg[order])
    assert alignment.tracks is not None
    section = {old: new for new, old in enumerate(order)}
    tilt = np.array([section[int(t)] for t in alignment.tracks.tilt])
    write_fid(folder / f"{name}.fid", part.replace(tracks=alignment.tracks.replace(tilt_ids=part.tilt_ids, tilt=tilt)))
    (folder / f"{name}.prexg").write_text("1 0 0 1 0 0\n" * len(order))
    (folder / "align.log").write_text(LOG)
    if edf:
        (folder / f"{name}.edf").write_text(edf)


@pytest.fixture
def case() -> tuple[Alignment, TiltSeries]:
    alignment, series = random_alignment(4, SHAPE, n=7, pixel=8.0, with_x_tilt=True)
    return with_tracks(alignment), series


def test_alignment_with_beads_and_figures(tmp_path: Path, case: tuple[Alignment, TiltSeries]) -> None:
    truth, series = case
    write_etomo(tmp_path / "it", "TS", truth, series, "Setup.DatasetName=TS\nSetup.PixelSize=0.8\n")
    for path in (tmp_path / "it", tmp_path / "it" / "TS.edf"):
        found = read_alignment(path, series)
        assert apart_px(found, truth) < 0.02
        assert found.statistics["imod_residual_mean_nm"] == 0.36
        assert found.statistics["residual_rms_px"] < 0.02
        assert found.tracks is not None
        assert truth.tracks is not None
        assert found.tracks.points_zyx_angst == pytest.approx(truth.tracks.points_zyx_angst, abs=1.0)
        order = [np.lexsort((t.tilt, t.track)) for t in (found.tracks, truth.tracks)]
        seen = [t.position_yx_px[o] for t, o in zip((found.tracks, truth.tracks), order, strict=True)]
        assert seen[0] == pytest.approx(seen[1], abs=1e-3)


def test_images_of_another_pixel_size(tmp_path: Path, case: tuple[Alignment, TiltSeries]) -> None:
    """Etomo worked on images that were binned twice less (fault 57)."""
    truth, series = case
    write_etomo(tmp_path, "TS", truth, series, "Setup.DatasetName=TS\nSetup.PixelSize=0.8\n")
    coarse = series.replace(pixel_size_angst=16.0, image_shape_yx=(24, 32))
    found = read_alignment(tmp_path, coarse)
    assert found.geometry.shift_yx_angst == pytest.approx(truth.geometry.shift_yx_angst - 4.0, abs=0.1), (
        "the centre of an image of even size is half a pixel off its middle, which is more of the coarser pixel"
    )
    assert found.tracks is not None


@pytest.mark.parametrize("name", ["TS.st", "TS.mrc"])
def test_binning_is_found_by_the_size_of_the_stack(
    tmp_path: Path, case: tuple[Alignment, TiltSeries], mrc_writer: Callable[..., Path], name: str
) -> None:
    """Fault 57 without settings of etomo, as in the folders of RELION's job, whose stacks have no pixel size."""
    truth, series = case
    write_etomo(tmp_path, "TS", truth, series)
    coarse = series.replace(pixel_size_angst=16.0, image_shape_yx=(24, 32))
    about_the_middle = truth.geometry.shift_yx_angst + 4.0  # of images of even size
    for shape, pixel in ((SHAPE, 8.0), ((24, 32), 16.0), ((24, 64), 16.0)):  # the last shows another field
        mrc_writer(tmp_path / name, np.ones((7, *shape), np.float32), 1.0)
        found = read_alignment(tmp_path / "TS.xf", coarse)
        assert found.geometry.shift_yx_angst == pytest.approx(about_the_middle * pixel / 8.0 - 8.0, abs=0.1)


@pytest.mark.parametrize(
    ("files", "name"), [(["a.edf"], "a"), (["a.xf", "a.tlt", "a_fid.xf", "a_fid.tlt"], "a"), (["a.xf"], ""), ([], "")]
)
def test_what_is_a_folder_of_etomo(tmp_path: Path, files: list[str], name: str) -> None:
    for file in files:
        (tmp_path / file).touch()
    found = find_etomo(tmp_path)
    assert (found.name if found else "") == name
    assert find_etomo(tmp_path / "a.star") is None


def test_several_in_one_folder(tmp_path: Path) -> None:
    for file in ("a.edf", "b.edf"):
        (tmp_path / file).touch()
    with pytest.raises(BadInput, match=r"several alignments of IMOD: a\.edf, b\.edf; give the one"):
        find_etomo(tmp_path)
    with pytest.raises(BadInput, match=r"several alignments: a\.edf, b\.edf"):
        alignment_file(tmp_path, "c")
    assert alignment_file(tmp_path, "b") == tmp_path / "b.edf"
    with pytest.raises(BadInput, match="holds no alignment of RELION, IMOD"):
        alignment_file(tmp_path.parent)


def test_settings_of_a_real_folder(shared_data: Path) -> None:
    folder = find_etomo(shared_data / "formats" / "etomo_TS_001")
    assert folder is not None
    assert (folder.name, folder.tilt_axis_deg) == ("TS_001", 83.9)
    assert folder.pixel_size_angst == pytest.approx(6.192)
    nominal = np.loadtxt(folder.file(".rawtlt"))
    found = read_etomo(folder, make_series(nominal, (1024, 1024), 6.192))
    assert found.geometry.z_rot_deg[0] == pytest.approx(np.rad2deg(np.arctan2(0.9947760, 0.1020875)), abs=1e-4)
    assert found.geometry.y_tilt_deg[0] == pytest.approx(-57.12)
    assert found.geometry.x_tilt_deg[0] == pytest.approx(-0.01)
    bare = read_etomo(folder, image_shape_yx=(1024, 1024))
    assert apart_px(bare, found) < 1e-6


def test_stack_of_etomo(tmp_path: Path, case: tuple[Alignment, TiltSeries], mrc_writer: Callable[..., Path]) -> None:
    """Series and alignment from the folder alone, with pixel size and axis of the settings."""
    truth, series = case
    settings = "Setup.DatasetName=TS\nSetup.PixelSize=0.8\nSetup.ImageRotationA=85.5\n"
    write_etomo(tmp_path / "it", "TS", truth, series, settings)
    mrc_writer(tmp_path / "it" / "TS.st", np.ones((7, *SHAPE), np.float32), 1.0)
    for path in (tmp_path / "it", tmp_path / "it" / "TS.edf"):
        (found,) = read(path)
        assert (found.pixel_size_angst, found.nominal_axis_deg, len(found)) == (8.0, 85.5, 7)
    alignment = read_alignment(tmp_path / "it")
    assert alignment.tilt_ids == found.tilt_ids
    assert alignment.tracks is not None
    assert read(tmp_path / "it", tilt_axis_deg=3.0).series[0].nominal_axis_deg == 3.0
    with pytest.raises(BadInput, match="--tilt-angles is for stacks"):
        read(tmp_path / "it", tilt_angles="x")
    (tmp_path / "it" / "TS.st").unlink()
    with pytest.raises(BadInput, match=r"has no stack TS\.st or \.mrc"):
        read(tmp_path / "it")


def test_damaged_tracks_do_not_spoil_the_alignment(tmp_path: Path, case: tuple[Alignment, TiltSeries]) -> None:
    truth, series = case
    write_etomo(tmp_path, "TS", truth, series)
    (tmp_path / "TS.fid").write_bytes((tmp_path / "TS.fid").read_bytes()[:300])
    found = read_alignment(tmp_path, series)
    assert found.tracks is None
    assert [flag.name for flag in found.flags] == ["import_incomplete"]
    assert "tracks are left out: " in found.flags[0].detail


def test_settings_that_are_no_numbers(tmp_path: Path, case: tuple[Alignment, TiltSeries]) -> None:
    truth, series = case
    write_etomo(tmp_path, "TS", truth, series, "Setup.DatasetName=TS\nSetup.PixelSize=0,8\n")
    with pytest.raises(BadInput, match=r"Setup\.PixelSize in .*TS\.edf is '0,8'.*point"):
        read_alignment(tmp_path, series)


def test_beads_of_a_relion_job(tmp_path: Path) -> None:
    """RELION's tables say the geometry, and the folder external/NAME of the same job has IMOD's beads."""
    alignment, series = random_alignment(5, SHAPE, n=9, pixel=8.0, n_excluded=2)
    truth, job = with_tracks(alignment), tmp_path / "AlignTiltSeries" / "job005"
    write_etomo(job / "external" / "TS", "TS", truth, series)
    (job / "tilt_series").mkdir()
    write_alignment(job / "tilt_series" / "TS.star", truth, series)
    found = read_alignment(job / "tilt_series" / "TS.star", series)
    assert found.tracks is not None
    assert found.included.tolist() == truth.included.tolist()
    assert found.statistics["residual_rms_px"] < 0.02
    assert set(np.unique(found.tracks.tilt)) == set(np.flatnonzero(truth.included))
    shutil.rmtree(job / "external")
    assert read_alignment(job / "tilt_series" / "TS.star", series).tracks is None


def test_folders_of_aretomo(tmp_path: Path) -> None:
    alignment, series = random_alignment(6, (512, 640), n=7)
    write_alignment(tmp_path / "any.aln", alignment, series)
    assert apart_px(read_alignment(tmp_path, series), alignment) < 0.01
    write_alignment(tmp_path / "TS.aln", alignment, series)
    assert alignment_file(tmp_path, "TS") == tmp_path / "TS.aln"
    with pytest.raises(BadInput, match=r"several alignments: TS\.aln, any\.aln"):
        read_alignment(tmp_path)


def test_series_that_does_not_fit(tmp_path: Path, case: tuple[Alignment, TiltSeries]) -> None:
    truth, series = case
    write_etomo(tmp_path, "TS", truth, series)
    with pytest.raises(BadTiltSeries, match="7 lines for 3 images"):
        read_alignment(tmp_path, make_series(np.array([-3.0, 0.0, 3.0])))


def test_relions_conversion_of_a_real_alignment(shared_data: Path) -> None:
    """The row of RELION's own table for the image at 0 degrees of this series: EMPIAR-10164 TS_01."""
    from napari_tiltalign.io.imod import read_xf
    from napari_tiltalign.io.xf_geometry import geometry_from_xf

    xf = read_xf(shared_data / "formats" / "imod_align_log" / "xf_file.xf")
    tilts = np.arange(-60.0, 63.0, 3.0) + 9.02  # what the log says was added
    found = geometry_from_xf(xf, tilts, np.zeros(41), (3838, 3710), 1.35, half_pixel="relion").geometry.take([20])
    assert found.y_tilt_deg == pytest.approx([9.02])
    assert found.z_rot_deg == pytest.approx([85.267461], abs=1e-4)
    assert found.shift_yx_angst[0] == pytest.approx([2.585551, -64.15332], abs=1e-4)


def test_a_run_can_start_from_a_folder_of_etomo(tmp_path: Path, case: tuple[Alignment, TiltSeries]) -> None:
    truth, series = case
    write_etomo(tmp_path / "its" / "TS", "TS", truth, series, "Setup.DatasetName=TS\n")
    for start in (tmp_path / "its", tmp_path / "its" / "TS"):
        found = read_start(start_file(start, "TS"), series)
        assert found.tracks is not None
        assert apart_px(found, truth) < 0.02


def test_folders_of_results_have_everything(tmp_path: Path, case: tuple[Alignment, TiltSeries]) -> None:
    """Our own folder has files of all formats; the record is the one that holds all."""
    truth, series = case
    folder = OutputFolder(tmp_path)
    folder.series_folder("TS").mkdir(parents=True)
    write_alignment(folder.alignment_record("TS"), truth, series)
    for suffix in (".xf", ".aln"):
        write_alignment(folder.series_file("TS", suffix), truth, series)
    for path in (tmp_path, folder.series_folder("TS")):
        assert alignment_file(path, "TS") == folder.alignment_record("TS")
    assert alignment_of_input(series) is None
