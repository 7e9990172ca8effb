"""RELION's job with the programs that RELION itself would run: from its flags to its tables."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from fake_programs import IMOD, Programs, alignment_of, series_named

from napari_tiltalign.cli import main
from napari_tiltalign.io import read
from napari_tiltalign.io.convert import read_alignment
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.io.star import read_star
from napari_tiltalign.model import Alignment, TiltSeries

JOB = "AlignTiltSeries/job007/"


@pytest.fixture
def case(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Alignment, TiltSeries]:
    """A project, and the alignment that the programs deliver."""
    write_relion_project(tmp_path / "project", [series_named()])
    monkeypatch.chdir(tmp_path / "project")
    (series,) = read("tilt_series.star")
    truth = alignment_of(series, x_tilt_deg=1.5, offset_deg=9.02)
    programs.deliver(truth, series)
    (programs.results / "series.edf").write_text("Setup.DatasetName=series\n")
    return truth, series


def relion(*flags: str) -> int:
    words = ["--i", "tilt_series.star", "--o", JOB, "--use_programs", *flags, "--pipeline_control", JOB]
    return main(["relion", *words])


def tables() -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The row of the global table, and the columns of the series' own."""
    (row,) = read_star(Path(JOB) / "aligned_tilt_series.star")["global"].rows()
    columns = read_star(Path(JOB) / "tilt_series" / "TS_01.star")["TS_01"].columns
    return row, {name: np.array(columns[name], float) for name in columns if name.startswith("rlnTomo")}


def test_imod(programs: Programs, case: tuple[Alignment, TiltSeries]) -> None:
    """RELION's conversion: no offset, no X tilt, the centre half a pixel away."""
    truth, series = case
    executable = programs.install(*IMOD[:1])
    assert relion("--imod_fiducials", "--fiducial_diameter", "10", "--batchtomo_exe", str(executable)) == 0
    row, columns = tables()
    figures = ("rlnIMODResidualErrorMean", "rlnIMODResidualErrorStddev", "rlnIMODLeaveOutError")
    assert [row[name] for name in figures] == ["0.360000", "0.457000", "0.465600"]
    assert row["rlnEtomoDirectiveFile"] == f"{JOB}programs/TS_01/series.edf"
    assert Path(row["rlnEtomoDirectiveFile"]).is_file()
    order = series.tilt_order()
    assert columns["rlnTomoYTilt"] == pytest.approx(series.nominal_tilt_deg[order], abs=1e-4)
    assert (columns["rlnTomoXTilt"] == 0).all()
    assert columns["rlnTomoZRot"] == pytest.approx(np.full(7, 84.0), abs=1e-4)
    shift = truth.geometry.shift_yx_angst[order] + 5.0
    assert columns["rlnTomoXShiftAngst"] == pytest.approx(shift[:, 1], abs=0.02)
    assert (Path(JOB) / "RELION_JOB_EXIT_SUCCESS").exists()
    # and going on from it, with IMOD's beads
    assert read_alignment(Path(JOB) / "external/TS_01/alignment.json", series).tracks is not None
    assert read_alignment(Path(JOB) / "programs/TS_01/series.edf", series).tracks is not None


def test_everything_that_imod_found(programs: Programs, case: tuple[Alignment, TiltSeries]) -> None:
    truth, _ = case
    programs.install(*IMOD[:1])
    assert relion("--imod_patchtrack", "--conversion", "exact") == 0
    _, columns = tables()
    assert columns["rlnTomoXTilt"] == pytest.approx(np.full(7, 1.5), abs=1e-4)
    assert columns["rlnTomoYTilt"] == pytest.approx(np.sort(truth.geometry.y_tilt_deg), abs=1e-4)


def test_aretomo(programs: Programs, case: tuple[Alignment, TiltSeries]) -> None:
    programs.install("AreTomo2")
    flags = ("--aretomo2", "--tomogram_thickness", "200", "--aretomo_tiltcorrect", "--aretomo_tiltcorrect_angle", "-10")
    assert relion(*flags, "--gpu", "3", "--other_wrapper_args", "-Bft 200") == 0
    (call,) = programs.calls()
    tags = {"-AlignZ": ["200"], "-TiltCor": ["1", "-10"], "-Gpu": ["3"], "-Bft": ["200"], "-TiltAxis": ["85", "1"]}
    assert tags.items() <= call["tags"].items()
    row, _ = tables()
    assert row["rlnAreTomoTiltAxisScore"] == "0.810000"
    assert row["rlnTomoZRot"] == "84.000000"
    assert "rlnIMODLeaveOutError" not in row


def test_figures_of_an_earlier_alignment_do_not_stay(programs: Programs, case: tuple[Alignment, TiltSeries]) -> None:
    programs.install(*IMOD[:1], "AreTomo2")
    assert relion("--imod_fiducials") == 0
    again = ["relion", "--i", f"{JOB}aligned_tilt_series.star", "--o", "AlignTiltSeries/job008/"]
    assert main([*again, "--use_programs", "--aretomo2"]) == 0
    (row,) = read_star(Path("AlignTiltSeries/job008/aligned_tilt_series.star"))["global"].rows()
    assert "rlnIMODLeaveOutError" not in row
    assert "rlnEtomoDirectiveFile" not in row


def test_program_that_is_missing(
    programs: Programs, case: tuple[Alignment, TiltSeries], capsys: pytest.CaptureFixture[str]
) -> None:
    """Found out before anything is begun: it is no fault of the series."""
    assert relion("--imod_fiducials") == 5
    assert "batchruntomo of IMOD was not found" in capsys.readouterr().err
    assert not (Path(JOB) / "failed_tilt_series.star").exists()
    assert (Path(JOB) / "RELION_JOB_EXIT_FAILURE").exists()


def test_what_is_done_needs_no_program(programs: Programs, case: tuple[Alignment, TiltSeries]) -> None:
    executable = programs.install(*IMOD[:1])
    assert relion("--imod_fiducials") == 0
    executable.unlink()
    assert relion("--imod_fiducials", "--only_do_unfinished") == 0
    assert len(programs.calls()) == 1


def test_ctf_of_aretomo2(programs: Programs, case: tuple[Alignment, TiltSeries]) -> None:
    """Columns of the series' own table, with the astigmatism that belongs to them and the phase in degrees."""
    truth, series = case
    included = truth.included.copy()
    included[3] = False  # AreTomo drops this one
    programs.deliver(truth.replace(included=included), series)
    programs.install("AreTomo2")
    assert relion("--aretomo2", "--aretomo_ctf", "--aretomo_phaseshift") == 0
    (call,) = programs.calls()
    tags = {"-Kv": ["300"], "-Cs": ["2.7"], "-AmpContrast": ["0.1"], "-PixSize": ["10"], "-ExtPhase": ["90", "180"]}
    assert tags.items() <= call["tags"].items()
    columns = read_star(Path(JOB) / "tilt_series" / "TS_01.star")["TS_01"].columns
    assert len(columns["rlnDefocusU"]) == 6
    assert columns["rlnDefocusU"][:2] == ("30001.000000", "30002.000000")
    assert columns["rlnDefocusV"][0] == "29001.000000"
    assert set(columns["rlnCtfAstigmatism"]) == {"1000.000000"}
    assert float(columns["rlnPhaseShift"][0]) == pytest.approx(90, abs=1e-4)
    assert "rlnCtfMaxResolution" not in columns
    tilts = [float(cell) for cell in columns["rlnTomoNominalStageTiltAngle"]]
    assert tilts == sorted(tilts), "the lines of AreTomo2 stand by tilt, like these"


def test_plots_of_what_aretomo2_has_measured(
    programs: Programs, case: tuple[Alignment, TiltSeries], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.install("AreTomo2")
    plotted: list[Any] = []
    monkeypatch.setattr(
        "napari_tiltalign.cli.relion.write_logfile", lambda _path, curves, _figures: plotted.extend(curves)
    )
    assert relion("--aretomo2", "--aretomo_ctf") == 0
    (one,) = plotted
    assert one.defocus_uv_angst.tolist() == [[30000.0 + k, 29000.0 + k] for k in range(1, 8)]
    assert one.ctf_score == pytest.approx([0.1] * 7)
    assert relion("--aretomo2") == 0
    assert plotted[1].defocus_uv_angst is None
    assert plotted[1].ctf_score is None


def test_every_group_of_gpus_gets_a_series(
    programs: Programs, case: tuple[Alignment, TiltSeries], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RELION itself uses only the first of 0:1:2 with one process."""
    programs.install("AreTomo2")
    placements: list[Any] = []

    def look(_dataset: object, _options: object, *_more: object, placement: object, **_others: object) -> object:
        placements.append(placement)
        raise InterruptedError

    series = [series_named(f"TS_{k}") for k in range(4)]
    series = [
        s.replace(tilts=tuple(dataclasses.replace(t, tilt_id=f"{s.name}_{t.tilt_id}") for t in s.tilts)) for s in series
    ]
    write_relion_project(Path("four"), series)
    monkeypatch.chdir("four")
    monkeypatch.setattr("napari_tiltalign.cli.relion.align_dataset", look)
    for gpus in ("0:1:2", "0,1", "0:1:2:3:4:5", ""):
        relion("--aretomo2", "--gpu", gpus)
    assert [(p.scheduler, p.workers) for p in placements] == [("local", 3), ("serial", 0), ("local", 4), ("serial", 0)]


def programs_left() -> list[str]:
    """Processes of fake programs that still run."""
    words = (" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
    return [line for line in words if str(Path.cwd().parent) in line and "batchruntomo" in line]


def wait_for_hanging() -> None:
    log = Path(JOB) / "programs/TS_01/log.txt"
    deadline = time.monotonic() + 60
    while not (log.is_file() and "still hanging" in log.read_text()):
        assert time.monotonic() < deadline, "the program did not begin"
        time.sleep(0.02)
    assert programs_left()


def test_abort_marker_ends_the_program(programs: Programs, case: tuple[Alignment, TiltSeries]) -> None:
    """Faults 61 and 62: in the middle of a program that would take for ever."""
    programs.install(*IMOD[:1])
    programs.behave("hang")

    def abort() -> None:
        wait_for_hanging()
        (Path(JOB) / "RELION_JOB_ABORT_NOW").touch()

    user = threading.Thread(target=abort)
    user.start()
    assert relion("--imod_fiducials") == 4
    user.join()
    assert sorted(file.name for file in Path(JOB).glob("RELION_JOB_*")) == ["RELION_JOB_EXIT_ABORTED"]
    assert programs_left() == []
    programs.behave("succeed")
    assert relion("--imod_fiducials", "--only_do_unfinished") == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_ending_the_job_ends_the_program(
    programs: Programs, case: tuple[Alignment, TiltSeries], how: signal.Signals
) -> None:
    """A scheduler's limit, Ctrl-C, and the worst; the same command then goes on and trusts nothing that was left."""
    programs.install(*IMOD[:1])
    programs.behave("hang")
    flags = ["--i", "tilt_series.star", "--o", JOB, "--use_programs", "--imod_fiducials", "--pipeline_control", JOB]
    code = "import sys; from napari_tiltalign.cli import main; sys.exit(main())"
    job = subprocess.Popen(
        [sys.executable, "-c", code, "relion", *flags], env=dict(os.environ), stderr=subprocess.DEVNULL
    )
    try:
        wait_for_hanging()
        job.send_signal(how)
        code_left = job.wait(timeout=60)
    finally:
        job.kill()
        job.wait()
    ended = [file.name for file in Path(JOB).glob("RELION_JOB_EXIT_*")]
    if how is signal.SIGKILL:
        assert ended == []
    else:
        assert code_left == 4
        assert ended == ["RELION_JOB_EXIT_ABORTED"]
    deadline = time.monotonic() + 30
    while programs_left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert programs_left() == []
    (Path(JOB) / "programs/TS_01/series.xf").write_text("1 0 0 1 0 0\n" * 7)  # half of something, whole by its looks
    (Path(JOB) / "programs/TS_01/series.tlt").write_text("0\n" * 7)
    programs.behave("nothing")
    assert relion("--imod_fiducials", "--only_do_unfinished") == 3
    assert "left no series.xf and series.tlt" in (Path(JOB) / "failed_tilt_series.star").read_text()


def test_ctf_that_was_cut_short(programs: Programs, case: tuple[Alignment, TiltSeries]) -> None:
    programs.install("AreTomo2")
    programs.behave("cut-ctf")
    assert relion("--aretomo2", "--aretomo_ctf") == 3
    assert "series_ctf.txt has 6 lines for 7 images" in (Path(JOB) / "failed_tilt_series.star").read_text()


@pytest.mark.parametrize(
    "flags", [("--imod_fiducials", "--aretomo_ctf"), ("--aretomo2", "--aretomo_ctf", "--method", "x")]
)
def test_ctf_of_another_program(programs: Programs, case: tuple[Alignment, TiltSeries], flags: tuple[str, ...]) -> None:
    programs.install("AreTomo2", *IMOD)
    assert relion(*flags) == 1
