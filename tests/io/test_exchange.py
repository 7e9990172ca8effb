"""One alignment through every format is one alignment (issue: 0.01 px; faults 53 to 59)."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from alignment_cases import SHAPES_YX, apart_px, make_series, random_alignment, slab

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.geometry import RigidMotion, ViewGeometry, rotation_x, rotation_z
from napari_tiltalign.io.aln_text import read_aln_file
from napari_tiltalign.io.aretomo import read_aretomo
from napari_tiltalign.io.bare_series import bare_series_of_xf
from napari_tiltalign.io.convert import WRITABLE, read_alignment, write_alignment
from napari_tiltalign.io.imod import read_imod, read_xf
from napari_tiltalign.io.xf_geometry import xf_from_geometry
from napari_tiltalign.model import Alignment, LocalMotion, TiltSeries, Tracks, Uncertainty

HOLDS = {
    ".star": {"with_x_tilt": True},
    ".xf": {"with_x_tilt": True, "with_magnification": True},
    ".aln": {"with_magnification": True},
    ".json": {"with_x_tilt": True, "with_magnification": True},
}


@pytest.mark.parametrize("shape_yx", SHAPES_YX, ids=str)
@pytest.mark.parametrize("suffix", HOLDS)
def test_written_and_read_alignment_projects_to_the_same_place(
    tmp_path: Path, suffix: str, shape_yx: tuple[int, int]
) -> None:
    for seed in range(5):
        alignment, series = random_alignment(seed, shape_yx, **HOLDS[suffix])
        losses = write_alignment(tmp_path / f"TS{suffix}", alignment, series)
        again = read_alignment(tmp_path / f"TS{suffix}", series)
        assert losses == ()
        assert again.tilt_ids == alignment.tilt_ids
        assert apart_px(alignment, again) < (1e-9 if suffix == ".json" else 0.01)


@pytest.mark.parametrize("suffix", HOLDS)
def test_excluded_images_come_back_excluded_or_are_said_to_be_lost(tmp_path: Path, suffix: str) -> None:
    """Fault 29."""
    alignment, series = random_alignment(3, (512, 640), n_excluded=4, **HOLDS[suffix])
    losses = write_alignment(tmp_path / f"TS{suffix}", alignment, series)
    again = read_alignment(tmp_path / f"TS{suffix}", series)
    assert again.tilt_ids == series.tilt_ids
    assert again.included.tolist() == alignment.included.tolist()
    assert all(again.reasons[i] for i in np.flatnonzero(~again.included))
    assert apart_px(alignment, again, included_only=True) < 0.01
    assert [loss.what for loss in losses] == (["exclusions"] if suffix in (".star", ".xf") else [])


def test_images_a_file_leaves_out_are_interpolated_and_excluded(tmp_path: Path) -> None:
    """Fault 29: the series as first read knows nothing of the exclusions."""
    alignment, series = random_alignment(4, (512, 640), n_excluded=4)
    everything = series.replace(tilts=tuple(tilt.restored() for tilt in series.tilts))
    smooth = alignment.replace(
        geometry=ViewGeometry.nominal(series.nominal_tilt_deg + 2, 85.0).replace(
            shift_yx_angst=np.outer(series.nominal_tilt_deg, [1.0, 2.0])
        )
    )
    for suffix in (".star", ".aln"):
        write_alignment(tmp_path / f"TS{suffix}", smooth, series)
        again = read_alignment(tmp_path / f"TS{suffix}", everything)
        assert again.included.tolist() == alignment.included.tolist()
        assert all(again.reasons[i] for i in np.flatnonzero(~again.included))
        inner = np.abs(series.nominal_tilt_deg) < 25  # linear beyond the outermost is not promised
        assert again.geometry.shift_yx_angst[inner] == pytest.approx(smooth.geometry.shift_yx_angst[inner], abs=0.01)
        assert again.geometry.y_tilt_deg == pytest.approx(smooth.geometry.y_tilt_deg, abs=1e-3)


def test_through_all_formats_in_a_row(tmp_path: Path) -> None:
    alignment, series = random_alignment(0, (3711, 3838))
    again: Alignment = alignment
    for k, suffix in enumerate((".xf", ".aln", ".json", ".star", ".aln", ".xf")):
        write_alignment(tmp_path / f"{k}{suffix}", again, series)
        again = read_alignment(tmp_path / f"{k}{suffix}", series)
    assert apart_px(alignment, again) < 0.01


def test_without_a_series_the_files_speak_for_themselves(tmp_path: Path) -> None:
    alignment, series = random_alignment(1, (512, 641), with_magnification=True, n_excluded=2)
    write_alignment(tmp_path / "TS.xf", alignment, series)
    write_alignment(tmp_path / "TS.aln", alignment, series)
    from_xf = read_alignment(tmp_path / "TS.xf", pixel_size_angst=1.7, image_shape_yx=(512, 641))
    from_aln = read_alignment(tmp_path / "TS.aln", pixel_size_angst=1.7)
    assert from_xf.tilt_ids[0] == "1@TS"
    with pytest.raises(BadInput, match="1@TS is known from an alignment file only"):
        bare_series_of_xf(tmp_path / "TS.xf", 1.7, (512, 641)).tilts[0].image.read()
    assert from_aln.included.tolist() == alignment.included.tolist()
    assert apart_px(alignment, from_xf) < 0.01
    assert apart_px(alignment, from_aln, included_only=True) < 0.01


@pytest.mark.parametrize("shape_yx", SHAPES_YX, ids=str)
def test_xf_means_what_imod_says(tmp_path: Path, shape_yx: tuple[int, int]) -> None:
    """IMOD's rule, written out: first pixel's centre at 0.5, image centre at N/2, raw to aligned."""
    alignment, series = random_alignment(7, shape_yx, with_x_tilt=True, with_magnification=True)
    write_alignment(tmp_path / "TS.xf", alignment, series)
    points = slab(shape_yx, series.pixel_size_angst)
    centre_xy = np.array(shape_yx[::-1]) / 2
    tilts = np.loadtxt(tmp_path / "TS.tlt"), np.loadtxt(tmp_path / "TS.xtilt")
    for i, (a11, a12, a21, a22, dx, dy) in enumerate(np.loadtxt(tmp_path / "TS.xf")):
        b, a = np.deg2rad(tilts[0][i]), np.deg2rad(tilts[1][i])
        z, y, x = points.T / series.pixel_size_angst
        aligned = np.array([x * np.cos(b) + (y * np.sin(a) + z * np.cos(a)) * np.sin(b), y * np.cos(a) - z * np.sin(a)])
        raw = np.linalg.solve([[a11, a12], [a21, a22]], aligned - [[dx], [dy]]).T + centre_xy
        ours = alignment.geometry.take([i]).project(points)[0, :, ::-1] / series.pixel_size_angst
        index = ours + np.array(shape_yx[::-1]) // 2
        assert raw - 0.5 == pytest.approx(index, abs=0.01)


@pytest.mark.parametrize("shape_yx", SHAPES_YX, ids=str)
def test_aln_means_what_aretomo_says(tmp_path: Path, shape_yx: tuple[int, int]) -> None:
    """AreTomo's rule, written out: raw = R(ROT) aligned + (TX, TY) about N/2, first pixel's centre at 0.5."""
    alignment, series = random_alignment(8, shape_yx)
    write_alignment(tmp_path / "TS.aln", alignment, series)
    points = slab(shape_yx, series.pixel_size_angst)
    for sec, rot, _mag, tx, ty, *_rest, tilt in np.loadtxt(tmp_path / "TS.aln"):
        b, r = np.deg2rad(tilt), np.deg2rad(rot)
        z, y, x = points.T / series.pixel_size_angst
        u, v = x * np.cos(b) + z * np.sin(b), y
        raw = np.column_stack([u * np.cos(r) - v * np.sin(r) + tx, u * np.sin(r) + v * np.cos(r) + ty])
        raw += np.array(shape_yx[::-1]) / 2
        ours = alignment.geometry.take([int(sec)]).project(points)[0, :, ::-1] / series.pixel_size_angst
        assert raw - 0.5 == pytest.approx(ours + np.array(shape_yx[::-1]) // 2, abs=0.01)


def test_relion_reads_the_published_transforms() -> None:
    """Pure rotation of 85 degrees, wanted shift (sx, sy): d = -A (sx, sy)."""
    geometry = ViewGeometry.nominal([0.0], 85.0).replace(shift_yx_angst=[[3.0, -7.0]])
    xf = xf_from_geometry(geometry, (511, 511), 1.0)[0]
    linear = np.array([[0.0871557, 0.9961947], [-0.9961947, 0.0871557]])
    assert xf[:4] == pytest.approx(linear.ravel(), abs=1e-7)
    assert xf[4:] == pytest.approx(-linear @ [-7.0, 3.0], abs=1e-5)


@pytest.mark.parametrize(("axis_deg", "expected"), [(-95.0, -95.0), (275.0, -85.0), (0.5, 0.5), (-179.5, -179.5)])
def test_axis_has_the_right_sign(tmp_path: Path, axis_deg: float, expected: float) -> None:
    """RELION's rule (arc cosine and the nominal sign) gets the second one wrong."""
    series = make_series(np.array([-3.0, 0.0, 3.0]))
    geometry = ViewGeometry.nominal(series.nominal_tilt_deg, axis_deg)
    alignment = Alignment("TS", series.tilt_ids, geometry, 1.7, (512, 640), series.included)
    write_alignment(tmp_path / "TS.xf", alignment, series)
    assert read_imod(tmp_path / "TS.xf", series).geometry.z_rot_deg == pytest.approx([expected] * 3, abs=1e-4)


def test_agrees_with_cryoet_alignment(tmp_path: Path) -> None:
    """An independent package takes IMOD's files to RELION; like RELION it ignores the half pixel."""
    from cryoet_alignment import read as read_other
    from cryoet_alignment.io.cryoet_data_portal import Alignment as PortalAlignment

    alignment, series = random_alignment(11, (512, 640), n=11, with_x_tilt=True)
    ascending = make_series(np.sort(series.nominal_tilt_deg))
    moved = alignment.take(tuple(series.tilt_ids[i] for i in series.tilt_order()))
    moved = moved.replace(tilt_ids=ascending.tilt_ids)
    write_alignment(tmp_path / "TS.xf", moved, ascending)
    portal = PortalAlignment.from_imod(read_other(str(tmp_path / "TS"), reader="imod"))
    theirs = portal.to_relion("TS", 1.7).entries
    ours = read_imod(tmp_path / "TS.xf", ascending, half_pixel="relion").geometry
    assert [e.z_rot for e in theirs] == pytest.approx(ours.z_rot_deg, abs=1e-4)
    assert [e.x_tilt for e in theirs] == pytest.approx(ours.x_tilt_deg, abs=1e-4)
    assert [e.y_tilt for e in theirs] == pytest.approx(ours.y_tilt_deg, abs=1e-4)
    assert [e.y_shift_angst for e in theirs] == pytest.approx(ours.shift_yx_angst[:, 0], abs=2e-3)
    assert [e.x_shift_angst for e in theirs] == pytest.approx(ours.shift_yx_angst[:, 1], abs=2e-3)
    exact = read_imod(tmp_path / "TS.xf", ascending).geometry
    assert ours.shift_yx_angst - exact.shift_yx_angst == pytest.approx(np.full((11, 2), 0.5 * 1.7))


@pytest.mark.parametrize("name", ["global_no_local", "global_and_local"])
def test_agrees_with_alnfile(shared_data: Path, name: str) -> None:
    """An independent package makes IMOD's transforms of AreTomo's files."""
    import alnfile

    path = shared_data / "formats" / "aretomo" / f"{name}.aln"
    file = read_aln_file(path)
    nominal = np.concatenate([file.dark_tilt_deg, file.tilt_deg - file.headers["AlphaOffset"]])
    series = make_series(nominal, (4096, 4096), 2.3)
    alignment = read_aretomo(path, series)
    ours = xf_from_geometry(alignment.geometry, (4096, 4096), 2.3)[alignment.included]
    theirs = alnfile.df_to_xf(alnfile.read(path))
    assert ours[:, :4] == pytest.approx(theirs[:, :, :2].reshape(-1, 4), abs=1e-9)
    assert ours[:, 4:] == pytest.approx(theirs[:, :, 2], abs=1e-6)


def test_transforms_of_aretomo_turn_back_by_its_axis(shared_data: Path) -> None:
    """AreTomo3's own writer (CSaveXF) turns by -ROT. A file of that name made by an early alnfile turns by +ROT."""
    path = shared_data / "formats" / "aretomo" / "global_no_local.aln"
    file = read_aln_file(path)
    series = make_series(file.tilt_deg - file.headers["AlphaOffset"], (4096, 4096), 2.3)
    ours = xf_from_geometry(read_aretomo(path, series).geometry, (4096, 4096), 2.3)
    turn = -np.deg2rad(file.rot_deg)
    a = np.column_stack([np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)])
    shifts = -np.einsum("nij,nj->ni", a.reshape(-1, 2, 2), file.shift_xy_px)
    assert ours == pytest.approx(np.hstack([a, shifts]), abs=1e-6)
    beside = read_xf(path.with_suffix(".xf"))
    assert beside[:, 1] == pytest.approx(-ours[:, 1], abs=1e-5), "the file beside it has the axis of the other sign"


def test_agrees_with_imods_own_residuals(tmp_path: Path, shared_data: Path) -> None:
    """IMOD's bead positions in space, seen through its transforms, lie where its residuals say they do."""
    folder = shared_data / "formats" / "imod_tutorial_BBa"
    for name, source in {"BBa.xf": "BBa.tltxf", "BBa.tlt": "BBa.tlt", "BBa.xtilt": "BBa.xtilt"}.items():
        shutil.copy(folder / source, tmp_path / name)
    series = bare_series_of_xf(tmp_path / "BBa.xf", 20.2, (512, 512))
    geometry = read_imod(tmp_path / "BBa.xf", series).geometry
    points_xyz = np.loadtxt(folder / "BBafid.xyz", usecols=(1, 2, 3), comments="#", converters=float)
    points_xyz -= [256, 256, 0]
    seen_px = geometry.project(points_xyz[:, ::-1] * 20.2)[..., ::-1] / 20.2 + 256 + 0.5  # index to IMOD's pixels
    residuals = np.loadtxt(folder / "BBa.resid", skiprows=1)
    bead = np.cumsum(np.concatenate([[0], np.diff(residuals[:, 2]) < 0]))
    predicted = residuals[:, :2] + residuals[:, 3:]
    missed = seen_px[residuals[:, 2].astype(int), bead] - predicted
    assert bead.max() == 22
    assert np.abs(np.median(missed, axis=0)).max() < 0.1  # a wrong centre would show as 0.5
    assert np.sqrt((missed**2).sum(axis=1).mean()) < 0.6  # the stretch that is left out; a wrong hand would show as 43


def test_stretch_of_a_transform_is_flagged_with_its_size(shared_data: Path) -> None:
    """Fault 54, on IMOD's own solution of its tutorial series."""
    path = shared_data / "formats" / "imod_tutorial_BBa" / "BBa.xf"
    alignment = read_imod(path, bare_series_of_xf(path, 20.2, (512, 512)))
    (flag,) = [f for f in alignment.flags if f.name == "import_incomplete"]
    (a11, a12), (a21, a22) = read_xf(path)[0, :4].reshape(2, 2)
    inverse = np.linalg.inv([[a11, a12], [a21, a22]])
    m, z = alignment.geometry.magnification[0], alignment.geometry.z_rot_deg[0]
    left = inverse - m * rotation_z(z)[:2, :2]
    corner = max(np.linalg.norm(left @ [256, 256]), np.linalg.norm(left @ [256, -256]))
    assert corner > 0.1
    assert alignment.tilt_ids[0] in flag.tilt_ids
    worst = max(float(word) for word in flag.detail.split() if word.replace(".", "", 1).isdigit())
    assert worst >= corner * 20.2 - 0.05


def test_magnification_of_imod_above_one_is_no_surprise(tmp_path: Path) -> None:
    """Fault 54: A11 > 1 has no arc cosine."""
    series = make_series(np.array([-3.0, 0.0, 3.0]))
    (tmp_path / "TS.xf").write_text("1.0200000 0.0 0.0 1.02 0.0 0.0\n" * 3)
    (tmp_path / "TS.tlt").write_text("-3\n0\n3\n")
    geometry = read_imod(tmp_path / "TS.xf", series).geometry
    assert geometry.magnification == pytest.approx([1 / 1.02] * 3)
    assert geometry.z_rot_deg == pytest.approx([0.0] * 3)


def test_x_tilt_of_an_etomo_project_is_kept(tmp_path: Path, shared_data: Path) -> None:
    """Faults 53 and 55: .tlt and .xtilt go through unchanged, the .xf to its own decimals."""
    folder = shared_data / "formats" / "etomo_TS_001"
    series = bare_series_of_xf(folder / "TS_001.xf", 0.6192, (4092, 5760))
    alignment = read_imod(folder / "TS_001.xf", series)
    assert alignment.geometry.x_tilt_deg == pytest.approx(np.loadtxt(folder / "TS_001.xtilt"))
    assert alignment.geometry.x_tilt_deg.min() == -0.01
    assert series.nominal_tilt_deg[0] == -60.0
    write_alignment(tmp_path / "TS_001.xf", alignment, series)
    for suffix, decimals in {".xf": 1.1e-3, ".tlt": 0, ".xtilt": 0, ".rawtlt": 0}.items():
        before, after = (np.loadtxt(f / f"TS_001{suffix}") for f in (folder, tmp_path))
        assert after == pytest.approx(before, abs=decimals, rel=0)


def test_angle_offset_can_be_undone_as_relion_does(shared_data: Path) -> None:
    """Fault 53."""
    path = shared_data / "formats" / "etomo_TS_001" / "TS_001.xf"
    series = bare_series_of_xf(path, 1.0, (4092, 5760))
    kept, undone = (read_imod(path, series, angle_offset_deg=offset) for offset in (0.0, 2.9))
    assert kept.geometry.y_tilt_deg - undone.geometry.y_tilt_deg == pytest.approx(np.full(40, 2.9))
    assert undone.provenance.options["angle_offset_deg"] == 2.9


def test_transforms_of_binned_images(tmp_path: Path) -> None:
    """Fault 57: the pixel size of the transforms is given."""
    alignment, series = random_alignment(2, (512, 640))
    binned = alignment.replace(image_shape_yx=(128, 160), pixel_size_angst=4 * 1.7)
    half = 0.5 * (4 - 1) * 1.7  # between the pixels of index N // 2 of both
    shift = binned.geometry.shift_yx_angst - half
    write_alignment(tmp_path / "TS.xf", binned.replace(geometry=binned.geometry.replace(shift_yx_angst=shift)), series)
    again = read_imod(tmp_path / "TS.xf", series, xf_pixel_size_angst=4 * 1.7)
    assert apart_px(alignment, again) < 0.01
    assert any(flag.name == "outlier_shift" for flag in read_imod(tmp_path / "TS.xf", series.replace(
        pixel_size_angst=10 * 1.7, image_shape_yx=(51, 64))).flags)  # fmt: skip


def with_everything() -> tuple[Alignment, TiltSeries]:
    """An alignment that has all that an alignment can have."""
    alignment, series = random_alignment(1, (512, 640), with_x_tilt=True, with_magnification=True, n_excluded=2)
    n, random = len(alignment), np.random.default_rng(0)
    points = random.uniform(-300, 300, (5, 3))
    track, tilt = (i.ravel() for i in np.meshgrid(np.arange(5), np.flatnonzero(alignment.included), indexing="ij"))
    seen = alignment.geometry.project(points)[tilt, track] / 1.7 + [256, 320]
    motion = random.normal(0, 5, (n, 5, 2))
    return alignment.replace(
        tracks=Tracks.from_observations(alignment.tilt_ids, points, track, tilt, seen),
        uncertainty=Uncertainty(np.ones(n), np.ones(n), np.ones((n, 2)), np.ones(n)),
        local_motion=LocalMotion(
            series.tilt_ids[0], points, motion, np.zeros((n, 2, 4)), 1000.0, 1.0, 5.0, np.nan, np.nan
        ),
    ), series


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        (".json", []),
        (".star", ["magnification", "tracks", "local motion", "uncertainty", "exclusions"]),
        (".xf", ["tracks", "local motion", "uncertainty", "exclusions"]),
        (".aln", ["x tilt", "tracks", "local motion", "uncertainty"]),
        (".fid", ["geometry", "track details", "local motion", "uncertainty"]),
        (
            ".xml",
            ["magnification", "X tilt of each image", "CTF and paths", "dose", "tracks", "local motion", "uncertainty"],
        ),
    ],
)
def test_every_format_lists_all_that_it_cannot_hold(tmp_path: Path, suffix: str, lost: list[str]) -> None:
    alignment, series = with_everything()
    losses = write_alignment(tmp_path / f"TS{suffix}", alignment, series)
    assert [loss.what for loss in losses] == lost
    sized = {loss.what for loss in losses if loss.size_angst > 1}
    assert sized == {"magnification", "x tilt", "X tilt of each image", "local motion"} & set(lost)


def test_all_formats_are_tried() -> None:
    assert set(WRITABLE) == {".json", ".star", ".xf", ".aln", ".fid", ".xml"}


def test_loss_of_magnification_has_its_size(tmp_path: Path) -> None:
    """0.1 % is 2 px at the edge of a 4k image."""
    series = make_series(np.array([-3.0, 0.0, 3.0]), (4096, 4096), 1.0)
    geometry = ViewGeometry.nominal(series.nominal_tilt_deg, 0.0).replace(magnification=[1.0, 1.001, 1.0])
    alignment = Alignment("TS", series.tilt_ids, geometry, 1.0, (4096, 4096), series.included)
    (loss,) = write_alignment(tmp_path / "TS.star", alignment, series)
    assert loss.what == "magnification"
    assert loss.size_angst == pytest.approx(0.001 * np.hypot(2048, 2048))
    assert "1.00100" in loss.detail
    assert str(loss).startswith("magnification (up to 2.9 Angstrom): ")
    assert read_alignment(tmp_path / "TS.star", series).geometry.magnification.tolist() == [1.0, 1.0, 1.0]


def test_star_holds_the_geometry_solved_without_magnification(tmp_path: Path) -> None:
    alignment, series = random_alignment(5, (512, 640), with_magnification=True)
    unit = alignment.geometry.replace(magnification=np.ones(21), z_rot_deg=alignment.geometry.z_rot_deg + 1)
    alignment = alignment.replace(unit_magnification_geometry=unit)
    (loss,) = write_alignment(tmp_path / "TS.star", alignment, series)
    apart = np.linalg.norm(unit.project(slab((512, 640), 1.7)) - alignment.geometry.project(slab((512, 640), 1.7)),
                           axis=-1)  # fmt: skip
    assert loss.size_angst == pytest.approx(apart.max())
    assert read_alignment(tmp_path / "TS.star", series).geometry.z_rot_deg == pytest.approx(unit.z_rot_deg)


def test_loss_of_x_tilt_has_its_size(tmp_path: Path) -> None:
    """Fault 55: a point 100 nm above the centre moves by sin(x tilt) times that, along the axis."""
    series = make_series(np.array([-3.0, 0.0, 3.0]), (500, 500), 1.0)
    geometry = ViewGeometry.nominal(series.nominal_tilt_deg, 0.0).replace(x_tilt_deg=[1.0, 1.0, 1.0])
    alignment = Alignment("TS", series.tilt_ids, geometry, 1.0, (500, 500), series.included)
    (loss,) = write_alignment(tmp_path / "TS.aln", alignment, series)
    assert loss.what == "x tilt"
    assert loss.size_angst == pytest.approx(1000 * np.sin(np.deg2rad(1)), abs=0.3)
    again = read_alignment(tmp_path / "TS.aln", series).geometry
    turned = geometry.compose(RigidMotion(rotation_x(-1.0), np.zeros(3)))  # a common x tilt only turns the specimen
    points = slab((500, 500), 1.0)
    assert again.project(points) == pytest.approx(turned.project(points), abs=0.01)


def test_star_needs_the_series_and_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    alignment, series = random_alignment(0, (64, 64), n=3)
    with pytest.raises(BadInput, match="give the tilt series"):
        write_alignment(tmp_path / "TS.star", alignment)
    with pytest.raises(BadInput, match=r"\.xf"):
        write_alignment(tmp_path / "TS.txt", alignment)
    with pytest.raises(BadInput, match="does not exist"):
        read_alignment(tmp_path / "TS.txt", series)
    (tmp_path / "TS.txt").write_text("notes\n")
    with pytest.raises(BadInput, match=r"\.xf"):
        read_alignment(tmp_path / "TS.txt", series)
    write_alignment(tmp_path / "TS.xf", alignment)
    with pytest.raises(BadInput, match="pixel size"):
        read_alignment(tmp_path / "TS.xf")
    with pytest.raises(BadInput, match="size of the images"):
        read_alignment(tmp_path / "TS.xf", pixel_size_angst=1.0)


def test_alignment_of_another_series_is_refused(tmp_path: Path) -> None:
    alignment, series = random_alignment(0, (64, 64), n=5)
    other = make_series(np.array([1.0, 2.0, 4.0]), (64, 64))
    for suffix, problem in {".json": "another series", ".star": "series that was aligned", ".xf": "5 lines for 3",
                            ".aln": "5 images and 0 dark ones, the series has 3"}.items():  # fmt: skip
        write_alignment(tmp_path / f"TS{suffix}", alignment, series)
        with pytest.raises(BadTiltSeries, match=problem):
            read_alignment(tmp_path / f"TS{suffix}", other)


def test_global_star_file_finds_the_series(tmp_path: Path, shared_data: Path) -> None:
    """RELION's own IMOD alignment of the tutorial: five series, read without images."""
    from napari_tiltalign.io.relion_tables import tilts_from_table
    from napari_tiltalign.io.star import read_star

    project = tmp_path / "project"
    shutil.copytree(shared_data / "formats" / "relion5_tutorial" / "AlignTiltSeries", project / "AlignTiltSeries")
    star = project / "AlignTiltSeries" / "job005" / "tilt_series" / "TS_03.star"
    tilts = tilts_from_table("TS_03", read_star(star)["TS_03"])
    series = make_series(np.zeros(1), (3838, 3710), 1.35).replace(name="TS_03", tilts=tilts)
    alignment = read_alignment(project / "AlignTiltSeries" / "job005" / "aligned_tilt_series.star", series)
    assert len(alignment) == len(tilts)
    assert alignment.axis_deg == pytest.approx(85.0, abs=1.0)
    assert alignment.included.all()
    with pytest.raises(BadTiltSeries, match="TS_01, TS_03"):
        read_alignment(project / "AlignTiltSeries" / "job005" / "aligned_tilt_series.star", series.replace(name="X"))


def test_star_file_speaks_for_itself_where_its_images_are(tmp_path: Path) -> None:
    """Without a series given, size and pixel size come from the images."""
    import mrcfile

    alignment, series = random_alignment(6, (32, 48), n=5, with_x_tilt=True)
    (tmp_path / "frames").mkdir()
    for tilt_id in series.tilt_ids:
        with mrcfile.new(tmp_path / "frames" / f"{tilt_id}.mrc", np.zeros((32, 48), np.float32)) as file:
            file.voxel_size = 1.7
    write_alignment(tmp_path / "TS.star", alignment, series)
    again = read_alignment(tmp_path / "TS.star")
    assert again.tilt_ids == tuple(series.tilt_ids[i] for i in series.tilt_order())
    assert again.pixel_size_angst == pytest.approx(1.7)
    assert apart_px(again.take(alignment.tilt_ids), alignment) < 0.01
    (tmp_path / "bare.star").write_text((tmp_path / "TS.star").read_text().replace("_rlnTomoYTilt", "_rlnOther"))
    with pytest.raises(BadTiltSeries, match="holds no alignment"):
        read_alignment(tmp_path / "bare.star")
    row = "_rlnTomoName #1\n_rlnTomoTiltSeriesStarFile #2\n_rlnTomoTiltSeriesPixelSize #3\n"
    (tmp_path / "global.star").write_text(f"data_global\nloop_\n{row}TS TS.star 1.7\nTS_2 missing.star 1.7\n")
    with pytest.raises(BadInput, match="lists TS, TS_2; say which"):
        read_alignment(tmp_path / "global.star")
    with pytest.raises(BadTiltSeries, match=r"missing\.star is neither in"):
        read_alignment(tmp_path / "global.star", series.replace(name="TS_2"))
    assert apart_px(read_alignment(tmp_path / "global.star", series), alignment) < 0.01


def test_tracks_are_written_and_nothing_without_images(tmp_path: Path) -> None:
    alignment, series = random_alignment(0, (64, 64), n=3, n_excluded=3)
    for suffix in (".star", ".aln"):
        with pytest.raises(BadTiltSeries, match="no image is included"):
            write_alignment(tmp_path / f"TS{suffix}", alignment, series)
    with pytest.raises(BadTiltSeries, match="no tracks"):
        write_alignment(tmp_path / "TS.fid", alignment)
    assert not any(tmp_path.iterdir())


def test_what_only_our_record_holds_is_listed(tmp_path: Path) -> None:
    alignment, series = random_alignment(0, (64, 64), n=3)
    nothing = np.zeros(3)
    full = alignment.replace(
        tracks=Tracks.from_observations(
            series.tilt_ids, np.zeros((2, 3)), np.array([0]), np.array([1]), np.zeros((1, 2))
        ),
        uncertainty=Uncertainty(nothing, nothing, np.zeros((3, 2)), nothing),
        local_motion=LocalMotion(
            series.tilt_ids[0], np.zeros((2, 3)), np.zeros((3, 2, 2)), np.full((3, 2, 4), [3.0, 0.0, 0.0, 0.0]) *
            np.array([0.0, -1.0, 1.0])[:, None, None], 1.0, 1.0, 1.0, 0.2, 0.4,
        ),
    )  # fmt: skip
    for suffix in (".star", ".xf", ".aln"):
        losses = write_alignment(tmp_path / f"TS{suffix}", full, series)
        assert [loss.what for loss in losses] == ["tracks", "local motion", "uncertainty"]
        assert str(losses[0]) == "tracks: 2 tracks with their 3D points are kept in alignment.json only"
        assert str(losses[1]) == (
            "local motion (up to 4.24 Angstrom): motion of the specimen in itself "
            f"since {series.tilt_ids[0]} is kept in alignment.json only"
        )
    assert write_alignment(tmp_path / "TS.json", full, series) == ()
