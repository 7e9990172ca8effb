"""IMOD as a method: what it is asked for, what is made of its results, and every way in which it can fail."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_programs import HOSTILE, IMOD, Programs, alignment_of, series_named

from napari_tiltalign.api import align
from napari_tiltalign.errors import (
    BadInput,
    BadTiltSeries,
    Cancelled,
    ProgramFailed,
    ProgramMissing,
    TiltAlignError,
)
from napari_tiltalign.external.aretomo_options import AreTomo
from napari_tiltalign.external.imod import IMOD_FIDUCIAL, IMOD_PATCH_TRACKING
from napari_tiltalign.external.imod_directives import directive_text
from napari_tiltalign.external.imod_options import ImodFiducial, ImodPatchTracking
from napari_tiltalign.io.record import record_text
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import ArrayImage, TiltSeries

COMMON = {
    "setupset.copyarg.userawtlt": "1",
    "setupset.copyarg.stackext": "mrc",
    "setupset.copyarg.dual": "0",
    "runtime.Positioning.any.wholeTomogram": "1",
    "runtime.Fiducials.any.seedingMethod": "3",
    "runtime.Excludeviews.any.deleteOldFiles": "0",
    "runtime.AlignedStack.any.binByFactor": "8",
    "comparam.prenewst.newstack.AntialiasFilter": "-1",
    "comparam.track.beadtrack.SobelFilterCentering": "1",
    "comparam.track.beadtrack.ScalableSigmaForSobel": "0.12",
    "comparam.newst.newstack.TaperAtFill": "1,1",
    "comparam.newst.newstack.AntialiasFilter": "-1",
    "comparam.golderaser.ccderaser.ExpandCircleIterations": "3",
    "comparam.eraser.ccderaser.PeakCriterion": "8.0",
    "comparam.eraser.ccderaser.DiffCriterion": "6.0",
    "comparam.align.tiltalign.TiltOption": "0",
    "comparam.align.tiltalign.SurfacesToAnalyze": "1",
    "comparam.align.tiltalign.RotOption": "-1",
    "comparam.align.tiltalign.MagOption": "0",
    "comparam.align.tiltalign.BeamTiltOption": "2",
    "setupset.copyarg.rotation": "85",
}
BEADS = COMMON | {
    "runtime.Fiducials.any.trackingMethod": "0",
    "comparam.autofidseed.autofidseed.TargetNumberOfBeads": "50",
    "comparam.prenewst.newstack.BinByFactor": "8",
    "setupset.copyarg.gold": "10",
}
PATCHES = COMMON | {
    "runtime.Fiducials.any.trackingMethod": "1",
    "runtime.PatchTracking.any.adjustTiltAngles": "0",
    "setupset.copyarg.gold": "10",
    "comparam.xcorr_pt.tiltxcorr.ShiftLimitsXandY": "200,200",
    "comparam.xcorr_pt.tiltxcorr.LengthAndOverlap": "16,4",
    "comparam.xcorr_pt.tiltxcorr.IterateCorrelations": "20",
    "comparam.xcorr_pt.tiltxcorr.FilterSigma2": "0.03",
    "comparam.xcorr_pt.tiltxcorr.FilterRadius2": "0.125",
    "comparam.xcorr_pt.tiltxcorr.OverlapOfPatchesXandY": "0.5,0.5",
}


def parsed(text: str) -> dict[str, str]:
    """Directives, of which the last of a name wins."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize(
    ("pixel", "options", "expected"),
    [
        (1.35, ImodFiducial(), BEADS | {"setupset.copyarg.pixel": "0.135"}),
        (2.0, ImodFiducial(), BEADS | {"setupset.copyarg.pixel": "0.2"}),
        (
            1.35,
            ImodPatchTracking(),
            PATCHES
            | {
                "setupset.copyarg.pixel": "0.135",
                "comparam.prenewst.newstack.BinByFactor": "8",
                "comparam.xcorr_pt.tiltxcorr.SizeOfPatchesXandY": "93,93",
                "comparam.tilt.tilt.THICKNESS": "2222",  # RELION writes 3000: Angstrom where IMOD wants pixels
            },
        ),
        (
            2.0,
            ImodPatchTracking(),
            PATCHES
            | {
                "setupset.copyarg.pixel": "0.2",
                "comparam.prenewst.newstack.BinByFactor": "4",
                "comparam.xcorr_pt.tiltxcorr.SizeOfPatchesXandY": "125,125",
                "comparam.tilt.tilt.THICKNESS": "1500",
            },
        ),
    ],
    ids=["beads-1.35", "beads-2.0", "patches-1.35", "patches-2.0"],
)
def test_directives_are_those_of_relion(
    pixel: float, options: ImodFiducial | ImodPatchTracking, expected: dict[str, str]
) -> None:
    assert parsed(directive_text(series_named(pixel=pixel), options)) == expected


@pytest.mark.parametrize(("pixel", "binning"), [(1.35, 8), (2.0, 4), (3.3, 4), (10.0, 1), (0.5, 16), (6.6, 2)])
def test_binning_for_patches(pixel: float, binning: int) -> None:
    assert ImodPatchTracking().binning_for(pixel) == binning


@pytest.mark.parametrize(("pixel", "binning"), [(1.35, 8), (2.0, 8), (3.3, 4), (5.0, 4), (10.0, 2), (30.0, 1)])
def test_binning_for_beads(pixel: float, binning: int) -> None:
    assert ImodFiducial().binning_for(pixel) == binning
    assert ImodFiducial(binning=3).binning_for(pixel) == 3


def test_template_replaces_what_is_built_in_but_not_what_the_series_needs(tmp_path: Path) -> None:
    (tmp_path / "own.adoc").write_text("comparam.align.tiltalign.MagOption = 3\nsetupset.copyarg.gold = 99")
    options = ImodFiducial(adoc_template=str(tmp_path / "own.adoc"), diameter_nm=6)
    assert parsed(directive_text(series_named(), options)) == {
        "comparam.align.tiltalign.MagOption": "3",
        "setupset.copyarg.rotation": "85",
        "setupset.copyarg.pixel": "1",
        "setupset.copyarg.gold": "6",
    }
    with pytest.raises(BadInput, match="cannot read the directives in nowhere"):
        directive_text(series_named(), ImodFiducial(adoc_template="nowhere"))


@pytest.mark.parametrize("method", [IMOD_FIDUCIAL, IMOD_PATCH_TRACKING], ids=lambda m: m.name)
@pytest.mark.parametrize("route", ["batchruntomo", "programs"])
def test_result_is_what_imod_found(programs: Programs, method: object, route: str) -> None:
    """All images in the order of the input, the excluded one interpolated, tracks on the raw images."""
    series = series_named(excluded=[3])
    truth = alignment_of(series, x_tilt_deg=1.5, offset_deg=9.02)
    programs.deliver(truth, series)
    programs.install(*IMOD)
    found = align(series, method.Options(route=route))
    used = series.included
    assert found.tilt_ids == series.tilt_ids
    assert found.included.tolist() == used.tolist()
    assert found.reasons[3] == "dark"
    assert found.geometry.take(used).y_tilt_deg == pytest.approx(truth.geometry.take(used).y_tilt_deg, abs=1e-4)
    assert found.geometry.take(used).x_tilt_deg == pytest.approx(1.5, abs=1e-4)
    assert found.geometry.shift_yx_angst[used] == pytest.approx(truth.geometry.shift_yx_angst[used], abs=0.02)
    assert found.tracks is not None
    assert truth.tracks is not None
    assert found.tracks.n_tracks == 5
    assert 3 not in found.tracks.tilt
    assert found.tracks.points_zyx_angst == pytest.approx(truth.tracks.points_zyx_angst, abs=0.5)
    assert found.statistics["residual_rms_px"] < 0.01
    assert found.statistics["imod_residual_mean_nm"] == 0.36
    assert found.statistics["imod_leave_out_nm"] == 0.4656
    assert found.provenance.method == method.name
    assert found.details["program"]["name"] == f"IMOD, route {route}"


def test_tracks_of_imod_can_be_curated(programs: Programs) -> None:
    series = series_named(excluded=[3])
    programs.deliver(alignment_of(series), series)
    programs.install("batchruntomo")
    found = align(series, ImodFiducial())
    assert found.tracks is not None
    keep = np.arange(5) != 2
    again = resolve(found, found.tracks.take_tracks(keep))
    assert again.tracks is not None
    assert again.tracks.n_tracks == 4
    assert again.geometry.z_rot_deg == pytest.approx(found.geometry.z_rot_deg, abs=0.2)


def test_conversion_as_relion_has_it(programs: Programs) -> None:
    """Tilt minus IMOD's offset, no X tilt, and half a pixel that is not there."""
    series = series_named()
    truth = alignment_of(series, x_tilt_deg=1.5, offset_deg=9.02)
    programs.deliver(truth, series)
    programs.install("batchruntomo")
    exact, relion = (align(series, ImodFiducial(conversion=c)) for c in ("exact", "relion"))
    assert relion.geometry.y_tilt_deg == pytest.approx(series.nominal_tilt_deg, abs=1e-4)
    assert (relion.geometry.x_tilt_deg == 0).all()
    assert relion.geometry.shift_yx_angst - exact.geometry.shift_yx_angst == pytest.approx(np.full((7, 2), 5.0))


def test_what_batchruntomo_is_given(programs: Programs, tmp_path: Path) -> None:
    series = series_named(excluded=[1])
    programs.deliver(alignment_of(series), series)
    executable = programs.install("batchruntomo")
    align(series, ImodFiducial(keep_files_in=str(tmp_path / "kept"), extra_arguments="-CPUMachineList 'a b'"))
    (call,) = programs.calls()
    folder = tmp_path / "kept" / "TS_01"
    assert call["arguments"] == [
        "-DirectiveFile", f"{folder}/batchDirective.adoc", "-CurrentLocation", str(folder), "-RootName", "series",
        "-EndingStep", "6", "-CPUMachineList", "a b",
    ]  # fmt: skip
    assert call["sections"] == 6
    assert call["angles"] == [-9, -6, -3, 0, 6, 9]
    assert (folder / "series.xf").is_file()
    assert f"> {executable} -DirectiveFile" in (folder / "log.txt").read_text()


def test_what_the_programs_are_given(programs: Programs) -> None:
    series = series_named(pixel=1.35)
    programs.deliver(alignment_of(series), series)
    programs.install(*IMOD)
    align(series, ImodPatchTracking(route="programs", extra_arguments="-Surf 2"))
    calls = programs.calls()
    first = ["tiltxcorr", "xftoxg", "newstack", "tiltxcorr", "imodchopconts", "tiltalign", "xfproduct"]
    assert [call["program"] for call in calls] == [*first, "tiltalign", "xfproduct"]
    coarse, _, newstack, patches, chop, fit, product, levelled, _ = calls
    assert coarse["flags"]["RotationAngle"] == "85"
    assert newstack["flags"]["BinByFactor"] == "8"
    assert patches["flags"]["SizeOfPatchesXandY"] == "93,93"
    assert patches["flags"]["OverlapOfPatchesXandY"] == "0.5,0.5"
    assert chop["others"] == ["series_pt.fid", "series.fid"]
    wanted = {"TiltOption": "0", "RotOption": "-1", "MagOption": "0", "BeamTiltOption": "2", "SurfacesToAnalyze": "1"}
    assert wanted.items() <= fit["flags"].items()
    assert (fit["flags"]["AngleOffset"], fit["flags"]["Surf"]) == ("0", "2")
    assert levelled["flags"]["AngleOffset"] == "9.02"
    assert product["flags"]["ScaleShifts"] == "1,8"


def test_seeds_and_beads_of_the_programs(programs: Programs, tmp_path: Path) -> None:
    series = series_named(pixel=1.35)
    programs.deliver(alignment_of(series), series)
    programs.install(*IMOD)
    align(series, ImodFiducial(route="programs", n_beads=33, keep_files_in=str(tmp_path / "kept")))
    calls = {call["program"]: call for call in programs.calls()}
    assert calls["autofidseed"]["flags"]["TargetNumberOfBeads"] == "33"
    assert calls["beadtrack"]["flags"]["BeadDiameter"] == "74.074074"
    assert (tmp_path / "kept" / "TS_01" / "track.com").read_text().startswith("$beadtrack -StandardInput\nImageFile ")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_harm_nobody(programs: Programs, tmp_path: Path, name: str) -> None:
    series = series_named(name)
    programs.deliver(alignment_of(series), series)
    programs.install("batchruntomo")
    found = align(series, ImodFiducial(keep_files_in=str(tmp_path / "kept")))
    assert found.series_name == name
    (call,) = programs.calls()
    assert not any(name in word for word in call["arguments"][4:])
    (folder,) = (tmp_path / "kept").iterdir()
    assert Path(call["folder"]).parent == tmp_path / "kept"
    assert folder.name.isascii()


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("crash", "batchruntomo ended with exit code 1 and left no series.xf and series.tlt: "
                  "ERROR: batchruntomo - THE DISK OF THE STACK IS ON FIRE"),
        ("segfault", "batchruntomo was killed by signal 11 and left no series.xf"),
        ("nothing", "batchruntomo ended with exit code 0 and left no series.xf and series.tlt"),
        ("no-java", "java: command not found; IMOD's programs can also be called without it (--route programs)"),
        ("half", "IMOD left a result that cannot be used: "),
        ("wrong-count", "series.tlt has 7 lines and series.xf 6; they are not of one run"),
        ("garbage", "series.xf is not text"),
        ("not-numbers", "which is not a finite number"),
        ("empty", "series.xf is empty"),
        ("hang", "batchruntomo took longer than 1 s and was ended"),
    ],
)  # fmt: skip
def test_failures(programs: Programs, mode: str, message: str) -> None:
    series = series_named()
    programs.deliver(alignment_of(series), series)
    programs.install("batchruntomo")
    programs.behave(mode)
    with pytest.raises(ProgramFailed) as caught:
        align(series, ImodFiducial(time_limit_s=1 if mode == "hang" else 600))
    assert message in str(caught.value)
    assert list((programs.folder.parent / "scratch").iterdir()) == [], "the work folder must be gone"


@pytest.mark.parametrize("mode", ["crash", "nothing", "empty"])
def test_failures_of_the_programs(programs: Programs, mode: str) -> None:
    series = series_named()
    programs.deliver(alignment_of(series), series)
    programs.install(*IMOD)
    programs.behave(mode)
    with pytest.raises(ProgramFailed, match=r"(tiltxcorr|xfproduct) of IMOD ended with exit code"):
        align(series, ImodFiducial(route="programs"))


@pytest.mark.parametrize(("mode", "flags"), [("complains", ["program_complained"]), ("warns", []), ("succeed", [])])
def test_result_counts_more_than_what_is_said(programs: Programs, mode: str, flags: list[str]) -> None:
    series = series_named()
    programs.deliver(alignment_of(series), series)
    programs.install("batchruntomo")
    programs.behave(mode)
    found = align(series, ImodFiducial())
    assert [flag.name for flag in found.flags] == flags


def test_cancelling(programs: Programs) -> None:
    series = series_named()
    programs.deliver(alignment_of(series), series)
    programs.install("batchruntomo")
    programs.behave("hang")
    heard: list[str] = []

    def progress(_fraction: float, message: str) -> None:
        heard.append(message)
        if message == "still hanging":
            raise Cancelled

    with pytest.raises(Cancelled):
        align(series, ImodFiducial(), progress=progress)
    assert heard[0] == "writing the stack"
    assert list((programs.folder.parent / "scratch").iterdir()) == []


def test_missing_program(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = r"RELION_BATCHTOMO_EXECUTABLE \(not set\), batchruntomo on PATH, IMOD_DIR \(not set\)\. Install IMOD"
    with pytest.raises(ProgramMissing, match=looked):
        align(series_named(), ImodFiducial())
    assert IMOD_FIDUCIAL.unavailable_because().startswith("batchruntomo of IMOD was not found")
    monkeypatch.setenv("RELION_BATCHTOMO_EXECUTABLE", "/nowhere/batchruntomo")
    with pytest.raises(ProgramMissing, match="RELION_BATCHTOMO_EXECUTABLE=/nowhere/batchruntomo does not exist"):
        align(series_named(), ImodFiducial(route="batchruntomo"))
    with pytest.raises(ProgramMissing, match="--executable /etc/passwd is not executable"):
        align(series_named(), ImodFiducial(executable="/etc/passwd"))


@pytest.mark.parametrize("how", ["option", "RELION_BATCHTOMO_EXECUTABLE", "IMOD_DIR", "PATH"])
def test_where_it_is_looked_for(programs: Programs, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    series = series_named()
    programs.deliver(alignment_of(series), series)
    executable = programs.install("batchruntomo")
    if how != "PATH":
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if how not in ("PATH", "option"):
        monkeypatch.setenv(how, str(executable if how.startswith("RELION") else programs.folder / "imod"))
    align(series, ImodFiducial(executable=str(executable) if how == "option" else ""))
    assert len(programs.calls()) == 1
    assert how == "option" or IMOD_FIDUCIAL.unavailable_because() == ""


def test_route_is_chosen_by_what_is_there(programs: Programs) -> None:
    series = series_named()
    programs.deliver(alignment_of(series), series)
    programs.install(*(name for name in IMOD if name != "batchruntomo"))
    found = align(series, ImodFiducial())
    assert found.details["program"]["name"] == "IMOD, route programs"
    (programs.bin / "xfproduct").unlink()
    with pytest.raises(ProgramMissing, match="has no xfproduct; IMOD is not complete"):
        align(series, ImodFiducial())


def test_paths_are_in_no_record(programs: Programs, tmp_path: Path) -> None:
    """Equal work gives equal bytes wherever it is done, and a project cannot say what is run."""
    series = series_named()
    programs.deliver(alignment_of(series), series)
    executable = programs.install("batchruntomo")
    (programs.folder / "imod" / "VERSION").write_text("4.12.62\n")
    options = ImodFiducial(executable=str(executable), keep_files_in=str(tmp_path / "kept"))
    text = record_text(align(series, options))
    assert str(tmp_path) not in text
    assert text == record_text(align(series, ImodFiducial()))
    assert json.loads(text)["details"]["program"]["version"] == "4.12.62"
    assert options.replace(n_beads=9).executable == str(executable)


def test_row_79_a_project_cannot_say_what_is_run(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, mark = tmp_path / "project", tmp_path / "it_was_run"
    (project / "bin").mkdir(parents=True)
    planted = [project / name for name in ("batchruntomo", "tiltxcorr", "bin/batchruntomo", "AreTomo2")]
    for program in planted:
        program.write_text(f"#!/bin/sh\ntouch {mark}\n")
        program.chmod(0o755)
    exe = str(planted[0])
    series = series_named()
    tilts = (dataclasses.replace(t, columns={**t.columns, "rlnBatchtomoExecutable": exe}) for t in series.tilts)
    series = series.replace(tilts=tuple(tilts), columns={**series.columns, "fn_batchtomo_exe": exe})
    job = "data_joboptions_values\n\nloop_\n_rlnJobOptionVariable #1\n_rlnJobOptionValue #2\n"
    (project / "job.star").write_text(f"{job}fn_batchtomo_exe {exe}\nexecutable {exe}\n")
    monkeypatch.chdir(project)
    for method in (ImodFiducial(), AreTomo()):
        with pytest.raises(ProgramMissing):
            align(series, method)
    assert not mark.exists()
    with pytest.raises(TiltAlignError):  # only who gives the command can, although nothing comes of it
        align(series, ImodFiducial(executable=exe, route="batchruntomo"))
    assert mark.exists()


def test_a_folder_of_somebody_else_is_left_alone(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "kept" / "TS_01").mkdir(parents=True)
    (tmp_path / "kept" / "TS_01" / "precious").touch()
    programs.install("batchruntomo")
    with pytest.raises(FileExistsError, match="was not made by this program"):
        align(series_named(), ImodFiducial(keep_files_in=str(tmp_path / "kept")))
    assert (tmp_path / "kept" / "TS_01" / "precious").exists()


def test_a_disk_without_room_is_told_before_anything_is_run(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 63."""
    programs.install("batchruntomo")
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("napari_tiltalign.external.work.shutil.disk_usage", lambda _path: usage)
    with pytest.raises(OSError, match=r"has 0\.0 GB free and the stack takes .*TMPDIR"):
        align(series_named(), ImodFiducial())
    assert programs.calls() == []
    assert list((programs.folder.parent / "scratch").iterdir()) == []


def test_series_that_cannot_be_used(programs: Programs) -> None:
    programs.install("batchruntomo")
    with pytest.raises(BadTiltSeries, match="only 2 images take part"):
        align(series_named(excluded=[0, 1, 2, 3, 4]), ImodFiducial())
    series = series_named()
    small: TiltSeries = series.replace(
        tilts=(*series.tilts[:-1], dataclasses.replace(series.tilts[-1], image=ArrayImage(np.ones((2, 3)))))
    )
    with pytest.raises(BadTiltSeries, match="array has 3 x 2 px"):
        align(small, ImodFiducial())
    with pytest.raises(BadInput, match="cannot start from an alignment"):
        align(series, ImodFiducial(), start=alignment_of(series))
