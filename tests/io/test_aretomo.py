"""AreTomo's .aln of all versions: sections, dark frames and local alignment (faults 12, 29 to 31, 58)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alignment_cases import apart_px, dose_symmetric, make_series, random_alignment

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io.aln_text import read_aln_file
from napari_tiltalign.io.aretomo import read_aretomo, write_aretomo
from napari_tiltalign.io.bare_series import bare_series_of_aln
from napari_tiltalign.io.record import parse_record, record_text

NOMINAL = np.array([0.0, -3.0, 3.0, -6.0, 6.0, -9.0, 9.0])
"""In the order of acquisition, which is the order of the stack."""


def aln(rows: list[tuple[int, float]], dark: list[tuple[int, float]] = (), header: str = "") -> str:
    """An .aln file; TX of each row is ten times its nominal tilt, so that one can see whose it is."""
    n = len(rows) + len(dark)
    lines = ["# AreTomo Alignment / Priims bprmMn", f"# RawSize = 640 512 {n}", "# NumPatches = 0"]
    lines += [f"# DarkFrame = {rank} {sec} {tilt:.2f}" for rank, (sec, tilt) in enumerate(dark)]
    lines += [header] if header else []
    lines.append("# SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE TILT")
    lines += [f"{sec} 85.0 1.0 {10 * tilt:.3f} 0.0 1 1 1 0 {tilt:.2f}" for sec, tilt in rows]
    return "\n".join(lines) + "\n"


def shifted(text: str, offset: float) -> str:
    """The same file with an offset added to the tilts, as AreTomo does on request."""
    out = []
    for line in text.splitlines():
        words = line.split()
        out.append(line if line.startswith("#") else " ".join([*words[:-1], f"{float(words[-1]) + offset:.2f}"]))
    return "\n".join(out) + "\n"


def by_tilt(section_of: dict[float, int], without: tuple[float, ...] = ()) -> list[tuple[int, float]]:
    return [(section_of[t], t) for t in sorted(section_of) if t not in without]


STACK = {t: k for k, t in enumerate(NOMINAL)}
SORTED = {t: k for k, t in enumerate(sorted(NOMINAL))}
DARK = (-9.0, 6.0)
KEPT = [t for t in NOMINAL if t not in DARK]

NUMBERINGS = {
    "AreTomo2: stack, from 0": (by_tilt(STACK, DARK), [(STACK[t], t) for t in DARK]),
    "AreTomo3: stack, from 1": ([(s + 1, t) for s, t in by_tilt(STACK, DARK)], [(STACK[t] + 1, t) for t in DARK]),
    "rows from 1, dark from 0": ([(s + 1, t) for s, t in by_tilt(STACK, DARK)], [(STACK[t], t) for t in DARK]),
    "sorted, from 0": (by_tilt(SORTED, DARK), [(SORTED[t], t) for t in DARK]),
    "sorted, from 1": ([(s + 1, t) for s, t in by_tilt(SORTED, DARK)], [(SORTED[t] + 1, t) for t in DARK]),
    "kept only, sorted": (list(enumerate(sorted(KEPT))), [(SORTED[t], t) for t in DARK]),
    "kept only, stack": (by_tilt({t: k for k, t in enumerate(KEPT)}), [(STACK[t], t) for t in DARK]),
    "kept only, from 1": ([(k + 1, t) for k, t in enumerate(sorted(KEPT))], [(0, t) for t in DARK]),
}


@pytest.mark.parametrize("offset", [0.0, 3.0, -7.0])
@pytest.mark.parametrize("case", NUMBERINGS)
def test_any_numbering_of_sections_finds_the_images(tmp_path: Path, case: str, offset: float) -> None:
    """Faults 30 and 31; an offset of one tilt step must not move every line to its neighbour."""
    rows, dark = NUMBERINGS[case]
    (tmp_path / "TS.aln").write_text(shifted(aln(rows, dark), offset))
    alignment = read_aretomo(tmp_path / "TS.aln", make_series(NOMINAL))
    kept = np.array([t not in DARK for t in NOMINAL])
    assert alignment.included.tolist() == kept.tolist()
    assert alignment.geometry.shift_yx_angst[kept, 1] / 1.7 + 0.5 == pytest.approx(10 * NOMINAL[kept])
    assert alignment.geometry.y_tilt_deg == pytest.approx(NOMINAL + offset)
    assert [reason for reason in alignment.reasons if reason] == ["dropped by AreTomo (TS.aln)"] * 2


def test_series_without_the_dark_images(tmp_path: Path) -> None:
    """RELION deletes their rows (fault 29)."""
    rows, dark = NUMBERINGS["AreTomo2: stack, from 0"]
    (tmp_path / "TS.aln").write_text(aln(rows, dark))
    alignment = read_aretomo(tmp_path / "TS.aln", make_series(np.array(KEPT)))
    assert alignment.included.all()
    assert alignment.geometry.shift_yx_angst[:, 1] / 1.7 + 0.5 == pytest.approx(10 * np.array(KEPT))


TWICE = np.array([0.0, 3.0, -3.0, 0.0])


@pytest.mark.parametrize("first", [0, 1])
def test_equal_tilts_are_told_apart_by_section_if_it_is_sure(tmp_path: Path, first: int) -> None:
    """Fault 21."""
    text = aln([(2 + first, -3.0), (3 + first, 0.0), (first, 0.0), (1 + first, 3.0)]).replace(
        " 0.000 0.0", " 7.5 0.0", 1
    )
    (tmp_path / "TS.aln").write_text(text)
    alignment = read_aretomo(tmp_path / "TS.aln", make_series(TWICE))
    assert alignment.geometry.shift_yx_angst[:, 1] / 1.7 + 0.5 == pytest.approx([0, 30, -30, 7.5])


def test_equal_tilts_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    (tmp_path / "TS.aln").write_text(aln([(0, -3.0), (1, 0.0), (2, 0.0), (3, 3.0)]))
    with pytest.raises(BadTiltSeries, match="some images have the same tilt, so they cannot be told apart"):
        read_aretomo(tmp_path / "TS.aln", make_series(TWICE))


@pytest.mark.parametrize(("first", "base"), [(0, 0), (1, 1)])
def test_dark_image_of_equal_tilt_is_found_by_its_section(tmp_path: Path, first: int, base: int) -> None:
    stack = np.array([-3.0, 0.0, 0.0, 3.0])
    rows = [(0 + base, -3.0), (1 + base, 0.0), (3 + base, 3.0)]
    (tmp_path / "TS.aln").write_text(aln(rows, [(2 + base, 0.0)]))
    assert read_aretomo(tmp_path / "TS.aln", make_series(stack)).included.tolist() == [True, True, False, True]
    unsure = aln([(k, t) for k, (_, t) in enumerate(rows)], [(2, 0.0)])
    (tmp_path / "TS.aln").write_text(unsure)
    with pytest.raises(BadTiltSeries, match="which of the images at 0 degrees is the dark one"):
        read_aretomo(tmp_path / "TS.aln", make_series(stack))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (aln([(0, 0.0)]), "lists 1 images and 0 dark ones, the series has 7"),
        (aln([(k, 5 * t) for t, k in STACK.items()]), "do not fit those of the series"),
        (aln(by_tilt(STACK, (9.0,)), [(6, 45.0)]), "dark image at 45 degrees .* is not in the series"),
        (aln(by_tilt(STACK)).replace("640 512", "320 256"), "320 x 256 px and those of the series have 640 x 512"),
        (aln(by_tilt(STACK)).replace("512 7", "512 8"), "7 images and 0 dark ones are listed, but the stack had 8"),
        (aln(by_tilt(STACK)).replace("-9.00\n", "1567301525373690323140608.00\n", 1), "AreTomo has failed"),
        (aln(by_tilt(STACK)).replace("-9.00\n", "nan\n", 1), "not a finite number"),
        (aln(by_tilt(STACK))[:-8], "8 values, expected 10 for an image; was the file cut"),
        (aln(by_tilt(STACK)).replace(" 1.0 ", " -1.0 ", 1), "GMAG must be positive"),
        ("# AreTomo Alignment\n", "lists no image"),
        ("# DarkFrame = 1 2\n", "DarkFrame has 2 values"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "TS.aln").write_text(text)
    with pytest.raises(BadTiltSeries, match=problem):
        read_aretomo(tmp_path / "TS.aln", make_series(NOMINAL))


@pytest.mark.parametrize(
    ("name", "n", "n_dark", "size", "first"),
    [
        ("example_v1_2_0", 41, 0, None, 0),
        ("example_v1_3_0", 41, 0, (5760, 4092, 41), 0),
        ("global_no_local", 61, 0, (4096, 4096, 61), 1),
        ("global_and_local", 37, 14, (4096, 4096, 51), None),
    ],
)
def test_all_versions_are_read(
    shared_data: Path, name: str, n: int, n_dark: int, size: tuple[int, int, int] | None, first: int | None
) -> None:
    file = read_aln_file(shared_data / "formats" / "aretomo" / f"{name}.aln")
    assert (file.section.size, file.dark_section.size, file.raw_size_xyz) == (n, n_dark, size)
    assert file.first_section == first
    assert file.tilt_deg.tolist() == sorted(file.tilt_deg)


@pytest.mark.parametrize("name", ["test", "test_thickness"])
def test_trimmed_files_are_refused(shared_data: Path, name: str) -> None:
    """Four rows and four dark frames of a stack of 90."""
    with pytest.raises(BadInput, match="but the stack had 90; was the file cut"):
        read_aln_file(shared_data / "formats" / "aretomo" / f"{name}.aln")


def test_real_local_alignment_becomes_motion_of_the_specimen(shared_data: Path) -> None:
    """Fault 58: RELION reads these rows as images. Every patch moves as AreTomo says, as seen from the reference."""
    import alnfile

    path = shared_data / "formats" / "aretomo" / "global_and_local.aln"
    file = read_aln_file(path)
    assert file.local == pytest.approx(alnfile.read(path, "local").to_numpy())
    nominal = np.concatenate([file.dark_tilt_deg, file.tilt_deg - 12.3])
    pixel = 2.0
    series = make_series(nominal, (4096, 4096), pixel)
    alignment = read_aretomo(path, series)
    motion = alignment.local_motion
    assert motion is not None
    assert alignment.flags == ()
    assert alignment.details["aretomo"]["AlphaOffset"] == 12.3
    assert alignment.included.sum() == 37
    centre = alignment.geometry.shift_yx_angst
    for line in range(37):
        image = 14 + line  # after the dark ones
        theirs = file.local[file.local[:, 0] == line]
        seen = alignment.geometry.take([image]).project(motion.support_zyx_angst)[0] - centre[image]
        seen = seen + motion.displacement_yx_angst(motion.support_zyx_angst, image)
        good = theirs[:, 6] > 0
        expected = (theirs[:, [3, 2]] + theirs[:, [5, 4]]) * pixel  # where AreTomo sees the patch
        assert seen[good] == pytest.approx(expected[good], abs=1.0), "within half a pixel: places have rounded tilts"
    reference = series.index_of(motion.reference_tilt_id)
    assert motion.displacement_yx_angst(motion.support_zyx_angst, reference) == pytest.approx(
        np.zeros((16, 2)), abs=1e-6
    )
    assert (motion.coefficients_yx_angst[:14] == 0).all(), "dark images have no motion"
    with pytest.raises(BadInput, match="give the tilt series too"):
        bare_series_of_aln(path, 1.0, None)


def test_motion_of_known_patches(tmp_path: Path) -> None:
    """Nine points of a specimen, seen where the projection model says plus a displacement, come back."""
    random = np.random.default_rng(5)
    tilts, turn = np.array([-40.0, -20.0, 0.0, 20.0, 40.0]), np.deg2rad(30.0)
    x, y = (grid.ravel() for grid in np.meshgrid([-200.0, 0.0, 200.0], [-150.0, 0.0, 150.0]))
    z, moved = random.uniform(-50, 50, 9), random.normal(0, 3, (5, 9, 2))
    moved[2] = 0
    rows = []
    for t, tilt in enumerate(np.deg2rad(tilts)):
        u, v = x * np.cos(tilt) + z * np.sin(tilt), y
        places = np.column_stack([u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)])
        rows += [(t, p, *places[p], *moved[t, p], float((t, p) != (4, 3))) for p in range(9)]
    lines = ["# RawSize = 640 512 5", "# NumPatches = 9"]
    lines += [f"{k} 30.0 1.0 0 0 1 1 1 0 {tilt}" for k, tilt in enumerate(tilts)]
    lines += ["# Local Alignment", *(" ".join(f"{value:.6f}" for value in row) for row in rows)]
    (tmp_path / "TS.aln").write_text("\n".join(lines) + "\n")
    motion = read_aretomo(tmp_path / "TS.aln", make_series(tilts, (512, 640), 2.0)).local_motion
    assert motion is not None
    assert motion.support_zyx_angst == pytest.approx(2.0 * np.column_stack([z, y, x]), abs=1e-3)
    found = np.stack([motion.displacement_yx_angst(motion.support_zyx_angst, t) for t in range(5)])
    difference = np.abs(found - 2.0 * moved[:, :, ::-1])
    difference[4, 3] = 0  # a patch that AreTomo marks as bad in one image follows its neighbours there
    assert difference.max() < 1e-3
    again = parse_record(record_text(read_aretomo(tmp_path / "TS.aln", make_series(tilts, (512, 640), 2.0))), "it")
    assert again.local_motion is not None
    assert np.isnan(again.local_motion.left_out_rms_px)


@pytest.mark.parametrize("change", ["three patches", "a patch is missing"])
def test_local_alignment_that_cannot_be_used_is_flagged(tmp_path: Path, change: str) -> None:
    n = 3 if change == "three patches" else 9
    rows = [(t, p, 100.0 * (p % 3), 100.0 * (p // 3), 3.0, 4.0, 1.0) for t in range(7) for p in range(n)]
    text = "# Local Alignment\n" + "".join(" ".join(map(str, row)) + "\n" for row in rows[: len(rows) - (n == 9)])
    (tmp_path / "TS.aln").write_text(aln(by_tilt(STACK)) + text)
    alignment = read_aretomo(tmp_path / "TS.aln", make_series(NOMINAL))
    assert alignment.local_motion is None
    assert f"local alignment of {n} patches, 5 px rms, is left out" in alignment.flags[0].detail


def test_beta_offset_is_flagged(tmp_path: Path) -> None:
    (tmp_path / "TS.aln").write_text(aln(by_tilt(STACK), header="# BetaOffset = 1.50"))
    assert "1.5 degrees" in read_aretomo(tmp_path / "TS.aln", make_series(NOMINAL)).flags[0].detail


def test_written_file_is_what_aretomo2_writes(tmp_path: Path) -> None:
    """Kept images by ascending tilt, sections from 0, dark frames with rank, section and tilt (outside reader)."""
    import alnfile

    alignment, series = random_alignment(0, (512, 640), n_excluded=3)
    write_aretomo(tmp_path / "TS.aln", alignment, series.nominal_tilt_deg)
    text = (tmp_path / "TS.aln").read_text()
    for i in np.flatnonzero(~alignment.included):
        rank = int(np.flatnonzero(np.argsort(alignment.geometry.y_tilt_deg) == i)[0])
        assert f"# DarkFrame =  {rank:4d} {i:4d} {series.nominal_tilt_deg[i]:8.2f}\n" in text
    assert "# RawSize = 640 512 21\n" in text
    offsets = "# AlphaOffset = 0.00\n# BetaOffset = 0.00\n# SEC"  # the outside reader knows AreTomo3 only
    (tmp_path / "outside.aln").write_text(text.replace("# SEC", offsets))
    table = alnfile.read(tmp_path / "outside.aln")
    assert table.tilt.tolist() == sorted(table.tilt)
    assert table.tilt.to_numpy() == pytest.approx(alignment.geometry.y_tilt_deg[table.sec], abs=1e-4)
    assert table.rot.to_numpy() == pytest.approx(alignment.geometry.z_rot_deg[table.sec], abs=1e-4)
    assert set(table.gmag) == {1.0}


def test_close_tilts_that_changed_places_come_back_as_they_were(tmp_path: Path) -> None:
    """Sorted by the refined tilt, two images taken at the same nominal tilt stand the other way round."""
    alignment, series = random_alignment(1, (512, 640), n=5)
    series = make_series(np.array([-3.0, 0.0, 0.0, 3.0, 6.0]))
    tilt = np.array([-3.0, 0.2, -0.2, 3.0, 6.0])
    alignment = alignment.replace(
        tilt_ids=series.tilt_ids, geometry=alignment.geometry.replace(y_tilt_deg=tilt), included=np.ones(5, bool)
    )
    write_aretomo(tmp_path / "TS.aln", alignment, series.nominal_tilt_deg)
    assert apart_px(read_aretomo(tmp_path / "TS.aln", series), alignment) < 0.01


def test_nothing_included_is_refused(tmp_path: Path) -> None:
    alignment, _ = random_alignment(1, (512, 640), n=5, n_excluded=5)
    with pytest.raises(BadTiltSeries, match="no image is included"):
        write_aretomo(tmp_path / "TS.aln", alignment)


def test_tilts_are_found_in_a_real_scheme() -> None:
    assert sorted(dose_symmetric(41) - 0.01) == np.arange(-60.0, 61.0, 3.0).tolist()
