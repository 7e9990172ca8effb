"""AreTomo as a method: the command line of each version, what is made of its results, and how it can fail."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fake_programs import HOSTILE, Programs, alignment_of, series_named
from pydantic import ValidationError

from napari_tiltalign.api import align
from napari_tiltalign.errors import Cancelled, ProgramFailed, ProgramMissing
from napari_tiltalign.external.aretomo import ARETOMO_METHOD
from napari_tiltalign.external.aretomo_command import angle_text, aretomo_arguments
from napari_tiltalign.external.aretomo_install import installed
from napari_tiltalign.external.aretomo_options import AreTomo
from napari_tiltalign.external.gpus import gpu_group
from napari_tiltalign.external.work import by_tilt

IN = "-InMrc series.mrc -AngFile series.rawtlt -OutMrc series_aligned.mrc -ImgDose 0"
END = "-OutImod 0 -DarkTol 0.7"
IN3 = "-InPrefix ./series -InSuffix .mrc -OutDir ./out/ -TmpDir ./ -Cmd 1 -Serial 1"


@pytest.mark.parametrize(
    ("family", "pixel", "options", "expected"),
    [
        # RELION 5 at 1.35 and 2.0 A: AlignZ 2222 and 1500, the axis refined from the nominal one, no tilt offset
        ("2", 1.35, AreTomo(), f"{IN} -AlignZ 2222 -VolZ 0 -TiltAxis 85 1 -TiltCor -1 {END}"),
        ("2", 2.0, AreTomo(), f"{IN} -AlignZ 1500 -VolZ 0 -TiltAxis 85 1 -TiltCor -1 {END}"),
        ("1", 2.0, AreTomo(), f"{IN} -AlignZ 1500 -VolZ 0 -TiltAxis 85 1 -TiltCor -1 {END}"),
        (
            "2",
            1.35,
            AreTomo(tilt_angle_offset="measure", aretomo_gpus="0,2", extra_arguments="-Bft 200"),
            f"{IN} -AlignZ 2222 -VolZ 0 -TiltAxis 85 1 -TiltCor 1 {END} -Gpu 0 2 -Bft 200",
        ),
        (
            "2",
            2.0,
            AreTomo(
                sample_thickness_nm=150,
                tilt_angle_offset="given",
                tilt_angle_offset_deg=-10,
                refine_tilt_axis=False,
                patches_x=5,
                patches_y=4,
                dark_tolerance=0.2,
            ),
            f"{IN} -AlignZ 750 -VolZ 0 -TiltAxis 85 -1 -TiltCor 1 -10 -Patch 5 4 -OutImod 0 -DarkTol 0.2",
        ),
        (
            "3",
            2.0,
            AreTomo(patches_x=4, patches_y=4),
            f"{IN3} -PixSize 2 -AlignZ 1500 -VolZ 0 -ExtZ 0 -CorrCTF 0 0 -TiltAxis 85 1 -TiltCor -1 -AtPatch 4 4 {END}",
        ),
    ],
)
def test_command_line(family: str, pixel: float, options: AreTomo, expected: str) -> None:
    groups = options.gpu_groups
    words = aretomo_arguments(series_named(pixel=pixel), options, family, groups[0] if groups else ())  # type: ignore[arg-type]
    assert " ".join(words) == expected


@pytest.mark.parametrize(("deg", "words"), [(0.0, "-1"), (0.1, "-1"), (-0.1, "-1"), (0.2, "1 0.2"), (-5, "1 -5")])
def test_an_offset_that_aretomo_takes_for_none_is_not_measured(deg: float, words: str) -> None:
    line = " ".join(
        aretomo_arguments(series_named(), AreTomo(tilt_angle_offset="given", tilt_angle_offset_deg=deg), "2")
    )
    assert f" -TiltCor {words} -OutImod" in line


def test_patches_of_one_direction_hold_for_both() -> None:
    for options in (AreTomo(patches_x=4), AreTomo(patches_y=4)):
        words = aretomo_arguments(series_named(), options, "2")
        at = words.index("-Patch")
        assert words[at + 1 : at + 3] == ("4", "4")
    assert "-Patch" not in aretomo_arguments(series_named(), AreTomo(), "2")


def test_axis_that_is_not_known_or_zero() -> None:
    series = series_named()
    unknown = series.replace(tilts=tuple(t.__class__(t.tilt_id, t.image, t.nominal_tilt_deg) for t in series.tilts))
    assert "-TiltAxis" not in aretomo_arguments(unknown, AreTomo(), "2")
    zero = series.replace(tilts=tuple(t.__class__(t.tilt_id, t.image, t.nominal_tilt_deg, 0.0) for t in series.tilts))
    words = aretomo_arguments(zero, AreTomo(refine_tilt_axis=False), "2")
    assert words[words.index("-TiltAxis") + 1] == "0.0001", "0 would mean that the axis is not known"


def test_angles_are_sorted_and_have_their_rank_by_dose() -> None:
    used = by_tilt(series_named(excluded=[1]))
    assert angle_text(used, "2").split("\n")[:3] == ["-9.0000 5", "-6.0000 2", "-3.0000 1"]
    assert angle_text(used, "1").split("\n")[0] == "-9.0000"
    assert angle_text(used, "3").split("\n")[0] == "-9.0000"


@pytest.mark.parametrize(
    ("text", "groups"),
    [("", ()), ("0", (("0",),)), ("0:1:2", (("0",), ("1",), ("2",))), ("0,1:2, 3", (("0", "1"), ("2", "3")))],
)
def test_gpus(text: str, groups: tuple[tuple[str, ...], ...]) -> None:
    assert AreTomo(aretomo_gpus=text).gpu_groups == groups


@pytest.mark.parametrize("text", ["0 1", "-1", "0;rm", "a", "0:", ",", "0::1", "²"])
def test_gpus_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValidationError, match="GPUs are numbers"):
        AreTomo(aretomo_gpus=text)


@pytest.mark.parametrize(
    ("name", "family", "version"),
    [("AreTomo3", "3", "2.1.10"), ("AreTomo2", "2", "1.1.3"), ("AreTomo", "1", "1.3.4")],
)
def test_result_of_each_version(programs: Programs, name: str, family: str, version: str) -> None:
    series = series_named(excluded=[3])
    truth = alignment_of(series, offset_deg=2.5)
    programs.deliver(truth, series)
    programs.install(name)
    found = align(series, AreTomo())
    (call,) = programs.calls()
    assert found.details["program"] == {"name": f"AreTomo {family}", "version": version}
    assert [float(line[0]) for line in call["angles"]] == [-9, -3, 0, 3, 6, 9]
    used = series.included
    assert found.included.tolist() == used.tolist()
    assert found.geometry.y_tilt_deg[used] == pytest.approx(truth.geometry.y_tilt_deg[used], abs=1e-3)
    assert found.geometry.shift_yx_angst[used] == pytest.approx(truth.geometry.shift_yx_angst[used], abs=0.02)
    assert found.statistics == {"aretomo_tilt_axis_score": 0.81}
    assert found.provenance.method == "aretomo"


def test_dark_images_are_remembered(programs: Programs) -> None:
    """AreTomo dropped one more than we did."""
    series = series_named(excluded=[3])
    dropped = alignment_of(series)
    included = dropped.included.copy()
    included[6] = False
    programs.deliver(dropped.replace(included=included), series)
    programs.install("AreTomo2")
    found = align(series, AreTomo())
    assert found.included.tolist() == included.tolist()
    assert found.reasons[6] == "dropped by AreTomo (series.aln)"
    assert found.reasons[3] == "dark"


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("crash", "AreTomo ended with exit code 1 and left no series.aln: ERROR: AreTomo2 - THE DISK"),
        ("overflow", "left no series.aln: Error: Fail to allocate device memory, GPU 0"),
        ("segfault", "AreTomo was killed by signal 11 and left no series.aln: AreTomo2 begins"),
        ("nothing", "AreTomo ended with exit code 0 and left no series.aln"),
        ("half", "AreTomo left a result that cannot be used: "),
        ("wrong-count", "6 images and 0 dark ones are listed, but the stack had 7; was the file cut?"),
        ("garbage", "series.aln is not text"),
        ("not-numbers", "AreTomo left a result that cannot be used: "),
        ("empty", "lists no image"),
        ("hang", "AreTomo2 took longer than 1 s"),
    ],
)
def test_failures(programs: Programs, mode: str, message: str) -> None:
    series = series_named()
    programs.deliver(alignment_of(series), series)
    programs.install("AreTomo2")
    programs.behave(mode)
    with pytest.raises(ProgramFailed) as caught:
        align(series, AreTomo(time_limit_s=1 if mode == "hang" else 600))
    assert message in str(caught.value)
    assert list((programs.folder.parent / "scratch").glob("tiltalign-*")) == []


def test_a_complete_result_counts_more_than_the_exit_code(programs: Programs) -> None:
    series = series_named()
    programs.deliver(alignment_of(series), series)
    programs.install("AreTomo2")
    programs.behave("complains")
    assert [flag.name for flag in align(series, AreTomo()).flags] == ["program_complained"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_harm_nobody(programs: Programs, name: str) -> None:
    series = series_named(name)
    programs.deliver(alignment_of(series), series)
    programs.install("AreTomo3")
    assert align(series, AreTomo()).series_name == name
    (call,) = programs.calls()
    assert not any(name in word for word in call["arguments"])


def test_missing(programs: Programs) -> None:
    looked = r"RELION_ARETOMO_EXECUTABLE \(not set\), AreTomo3 or AreTomo2 or AreTomo on PATH\. Download AreTomo2"
    with pytest.raises(ProgramMissing, match=looked):
        align(series_named(), AreTomo())
    assert ARETOMO_METHOD.unavailable_because().startswith("AreTomo was not found")


def test_which_one_it_is(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.install("AreTomo2", "AreTomo3")
    assert installed("", "auto").family == "3", "the newest of those on PATH"
    path = programs.install("AreTomo2")
    monkeypatch.setenv("RELION_ARETOMO_EXECUTABLE", str(path))
    assert installed("", "auto").family == "2"
    assert installed("", "1").family == "1"
    renamed = path.rename(programs.bin / "aligner")
    renamed.write_text("#!/bin/sh\necho what?\n")
    with pytest.raises(ProgramFailed, match="does not say which AreTomo it is; say it"):
        installed(str(renamed), "auto")


def test_each_gpu_works_on_one_series_at_a_time(programs: Programs) -> None:
    groups = AreTomo(aretomo_gpus="90:91").gpu_groups
    busy, most, held = 0, 0, []
    lock = threading.Lock()

    def work() -> None:
        nonlocal busy, most
        with gpu_group(groups, lambda: None) as gpus:
            with lock:
                busy, most = busy + 1, max(most, busy + 1)
                held.append(gpus[0])
            time.sleep(0.05)
            with lock:
                busy -= 1

    workers = [threading.Thread(target=work) for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == 2
    assert set(held) == {"90", "91"}


def test_waiting_for_a_gpu_can_be_cancelled(programs: Programs) -> None:
    def stop() -> None:
        raise Cancelled

    with gpu_group([("92",)], stop), pytest.raises(Cancelled), gpu_group([("92",)], stop):
        pass
    with gpu_group([], stop) as gpus:
        assert gpus == ()


def test_images_are_written_sorted_by_tilt(programs: Programs, tmp_path: Path) -> None:
    import mrcfile

    series = series_named(excluded=[0])
    programs.deliver(alignment_of(series), series)
    programs.install("AreTomo2")
    align(series, AreTomo(keep_files_in=str(tmp_path / "kept")))
    with mrcfile.open(tmp_path / "kept" / "TS_01" / "series.mrc") as file:
        first_pixel = np.array(file.data[:, 0, 0])
        assert file.voxel_size.x == 10
        assert file.header.dmin == file.data.min()
        assert file.header.dmax == file.data.max()
        assert file.is_image_stack()
    assert first_pixel.tolist() == [6000, 3000, 2000, 1000, 4000, 5000]
