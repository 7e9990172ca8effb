"""In RELION's place: its flags, its marker files, its tables, and going on with a job."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_method import NudgeMethod
from napari_tiltalign.cli import main
from napari_tiltalign.cli.relion_flags import ExternalFlags, OwnFlags, RelionFlags, flags_of_job, input_of
from napari_tiltalign.cli.relion_methods import options_for, overrides_for, unused_flags
from napari_tiltalign.errors import BadInput
from napari_tiltalign.external.aretomo_options import AreTomo
from napari_tiltalign.external.imod_options import ImodFiducial, ImodPatchTracking
from napari_tiltalign.io import read
from napari_tiltalign.io.star import read_star, write_star
from napari_tiltalign.methods.fiducial import Fiducial
from napari_tiltalign.model import Table

NAMES = ("TS_01", "unlucky_02", "TS_03")
JOB = "AlignTiltSeries/job007/"
MARKERS = ("RELION_JOB_EXIT_SUCCESS", "RELION_JOB_EXIT_FAILURE", "RELION_JOB_EXIT_ABORTED")


@pytest.fixture
def project(write_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, with RELION's programs started in its folder as RELION does; no MPI."""
    star = write_project(*NAMES)
    monkeypatch.chdir(star.parent)
    for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    return star.parent


def relion(*flags: str, i: str = "tilt_series.star") -> int:
    """Run as RELION runs its program."""
    words = ["--i", i, "--o", JOB, "--method", "nudge", *flags, "--pipeline_control", JOB]
    return main(["relion", *words])


def markers() -> list[str]:
    return [name for name in MARKERS if (Path(JOB) / name).exists()]


def listed(table: str = "aligned") -> list[str]:
    file = Path(JOB) / f"{table}_tilt_series.star"
    return list(read_star(file)["global"].columns["rlnTomoName"]) if file.exists() else []


def test_a_job_that_succeeds(nudge: NudgeMethod, project: Path) -> None:
    assert relion() == 0
    assert markers() == ["RELION_JOB_EXIT_SUCCESS"]
    table = read_star(Path(JOB) / "aligned_tilt_series.star")["global"].columns
    assert table["rlnTomoName"] == NAMES
    assert table["rlnTomoTiltSeriesStarFile"][0] == f"{JOB}tilt_series/TS_01.star"
    assert table["tiltalignResidualRmsPx"] == ("0.250000",) * 3
    nodes = read_star(Path(JOB) / "RELION_OUTPUT_NODES.star")["output_nodes"].columns
    assert dict(zip(nodes["rlnPipeLineNodeName"], nodes["rlnPipeLineNodeTypeLabel"], strict=True)) == {
        f"{JOB}aligned_tilt_series.star": "TomogramGroupMetadata.star.relion.tomo.aligntiltseries",
        f"{JOB}logfile.pdf": "LogFile.pdf.relion.tomo.aligntiltseries",
    }
    assert (Path(JOB) / "logfile.pdf").read_bytes().startswith(b"%PDF")
    again = read(Path(JOB) / "aligned_tilt_series.star")  # what RELION's next job does
    assert [series.name for series in again] == list(NAMES)
    assert not again.failed


def test_series_that_fail_are_left_out_and_named(nudge: NudgeMethod, project: Path) -> None:
    assert relion("--set", "trouble=fails") == 0
    assert markers() == ["RELION_JOB_EXIT_SUCCESS"]
    assert listed() == ["TS_01", "TS_03"]
    assert listed("failed") == ["unlucky_02"]


@pytest.mark.parametrize(
    ("flags", "i", "code"),
    [
        (["--set", "amount_nm=1000"], "tilt_series.star", 1),
        (["--set", "nonsense"], "tilt_series.star", 1),
        (["--frobnicate", "3"], "tilt_series.star", 1),
        (["--aretomo_ctf"], "tilt_series.star", 1),
        ([], "nowhere.star", 1),
    ],
)
def test_a_job_that_fails(nudge: NudgeMethod, project: Path, flags: list[str], i: str, code: int) -> None:
    Path(JOB).mkdir(parents=True)
    (Path(JOB) / "RELION_JOB_EXIT_SUCCESS").touch()  # of an earlier run
    assert relion(*flags, i=i) == code
    assert markers() == ["RELION_JOB_EXIT_FAILURE"]


def test_a_job_of_which_nothing_is_left(nudge: NudgeMethod, project: Path) -> None:
    table = read_star(Path("tilt_series.star"))["global"].rows()
    write_star(Path("one.star"), {"global": Table.from_rows(table[1:2])})
    assert relion("--set", "trouble=fails", i="one.star") == 3
    assert markers() == ["RELION_JOB_EXIT_FAILURE"]
    assert not (Path(JOB) / "RELION_OUTPUT_NODES.star").exists()


def test_a_bug_is_a_failure_too(nudge: NudgeMethod, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slip(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("napari_tiltalign.cli.relion.write_logfile", slip)
    assert relion() == 3
    assert markers() == ["RELION_JOB_EXIT_FAILURE"]


@pytest.mark.parametrize("where", ["job folder", "elsewhere"])
def test_aborting(nudge: NudgeMethod, project: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """RELION's window makes a file; the job stops within a series, says so, and can go on."""
    folder = Path(JOB) if where == "job folder" else Path("elsewhere")
    real = NudgeMethod.__call__

    def align(self: NudgeMethod, series: Any, options: Any, **more: Any) -> Any:
        if series.name == "unlucky_02":
            (folder / "RELION_JOB_ABORT_NOW").touch()
        return real(self, series, options, **more)

    monkeypatch.setattr(NudgeMethod, "__call__", align)
    words = ["relion", "--i", "tilt_series.star", "--o", JOB, "--method", "nudge", "--pipeline_control", str(folder)]
    assert main(words) == 4
    assert [name for name in MARKERS if (folder / name).exists()] == ["RELION_JOB_EXIT_ABORTED"]
    assert not (folder / "RELION_JOB_ABORT_NOW").exists(), "it must not stop the next run"
    monkeypatch.setattr(NudgeMethod, "__call__", real)
    nudge.aligned.clear()
    assert relion("--only_do_unfinished") == 0
    assert nudge.aligned == ["unlucky_02", "TS_03"]
    assert markers() == ["RELION_JOB_EXIT_SUCCESS"]
    assert listed() == list(NAMES)


def test_going_on_is_verified(nudge: NudgeMethod, project: Path) -> None:
    """RELION takes any file for a finished series: a cut one, too, and one that was made in another way."""
    relion()
    nudge.aligned.clear()
    relion("--only_do_unfinished")
    assert nudge.aligned == []
    xf = Path(JOB) / "external/TS_03/TS_03.xf"
    xf.write_text(xf.read_text()[:-30])
    relion("--only_do_unfinished")
    assert nudge.aligned == ["TS_03"]
    nudge.aligned.clear()
    relion("--only_do_unfinished", "--set", "amount_nm=3")
    assert nudge.aligned == list(NAMES)
    nudge.aligned.clear()
    relion()
    assert nudge.aligned == list(NAMES), "without the flag everything is done again"


def test_at_most_so_many(nudge: NudgeMethod, project: Path) -> None:
    """Those that are left for later are neither failed nor lost."""
    for n_done in (1, 2, 3):
        nudge.aligned.clear()
        assert relion("--do_at_most", "1", "--only_do_unfinished") == 0
        assert nudge.aligned == [NAMES[n_done - 1]]
        assert listed() == list(NAMES[:n_done])
        assert listed("failed") == []


def test_only_one_process_of_mpi_works(nudge: NudgeMethod, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    assert relion() == 0
    assert nudge.aligned == []
    assert not Path(JOB).exists()


@pytest.mark.parametrize("flag", ["--in_tiltseries", "--in_mics", "--in_movies"])
def test_as_an_external_job(nudge: NudgeMethod, project: Path, flag: str) -> None:
    """As RELION calls it, with a folder of its own for each job."""
    words = ["--o", "External/job008/", flag, "tilt_series.star", "--method", "nudge", "--j", "1"]
    assert main(["relion", *words, "--pipeline_control", "External/job008/"]) == 0
    nodes = read_star(Path("External/job008/RELION_OUTPUT_NODES.star"))["output_nodes"].columns
    assert nodes["rlnPipeLineNodeName"][0] == "External/job008/aligned_tilt_series.star"
    assert Path("External/job008/RELION_JOB_EXIT_SUCCESS").exists()


def test_inputs_that_contradict_each_other() -> None:
    with pytest.raises(BadInput, match="give the global STAR file"):
        input_of(RelionFlags(), ExternalFlags())
    with pytest.raises(BadInput, match="several inputs are given: a, b"):
        input_of(RelionFlags(i="a"), ExternalFlags(in_mics="b"))
    assert input_of(RelionFlags(i="a"), ExternalFlags(in_mics="a")) == Path("a")


def test_flags_and_defaults_are_those_of_relion() -> None:
    """Of relion_align_tiltseries 5.0.1, all of them."""
    assert dataclasses.asdict(RelionFlags()) == {
        "i": "",
        "o": "AlignTiltSeries/",
        "tomogram_thickness": 300.0,
        "only_do_unfinished": False,
        "do_at_most": -1,
        "batchtomo_exe": "",
        "adoc_template": "",
        "imod_fiducials": False,
        "fiducial_diameter": 10.0,
        "imod_patchtrack": False,
        "patch_overlap": 10.0,
        "patch_size": 100.0,
        "aretomo2": False,
        "aretomo_exe": "",
        "aretomo_tiltcorrect": False,
        "aretomo_tiltcorrect_angle": 999.0,
        "aretomo_ctf": False,
        "aretomo_phaseshift": False,
        "gpu": "",
        "other_wrapper_args": "",
        "pipeline_control": "",
    }


def test_all_flags_at_once_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spelt as RELION's window spells them, with empty and odd values."""
    seen: list[RelionFlags] = []
    monkeypatch.setattr("napari_tiltalign.cli.relion._run", lambda flags, *_more: seen.append(flags) or 0)
    line = (
        "relion --i Exclude/job004/selected_tilt_series.star --o AlignTiltSeries/job005/ --tomogram_thickness 250 "
        "--only_do_unfinished --do_at_most 3 --batchtomo_exe /imod/bin/batchruntomo --adoc_template own.adoc "
        "--imod_fiducials --fiducial_diameter 6 --imod_patchtrack --patch_overlap 50 --patch_size 80 --aretomo2 "
        "--aretomo_exe /bin/AreTomo2 --aretomo_tiltcorrect --aretomo_tiltcorrect_angle -12.5 --aretomo_ctf "
        "--aretomo_phaseshift --gpu 0:1,2"
    )
    assert main([*line.split(), "--other_wrapper_args", "-Bft 200 -Patch 4 4"]) == 0
    assert main(["relion", "--gpu", "", "--other_wrapper_args", "", "--fiducial_diameter", "1e1"]) == 0
    every, few = seen
    defaults = dataclasses.asdict(RelionFlags())
    assert [name for name, value in dataclasses.asdict(every).items() if value == defaults[name]] == [
        "pipeline_control"
    ]
    assert (every.aretomo_tiltcorrect_angle, every.other_wrapper_args) == (-12.5, "-Bft 200 -Patch 4 4")
    assert few == RelionFlags()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (RelionFlags(imod_fiducials=True, fiducial_diameter=6), Fiducial(diameter_nm=6)),
    ],
)
def test_own_methods(flags: RelionFlags, expected: object) -> None:
    assert options_for(flags, OwnFlags()) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            RelionFlags(imod_fiducials=True, fiducial_diameter=6, batchtomo_exe="/x", adoc_template="/t"),
            ImodFiducial(diameter_nm=6, executable="/x", adoc_template="/t", conversion="relion"),
        ),
        (
            RelionFlags(imod_patchtrack=True, patch_size=80, tomogram_thickness=150, other_wrapper_args="-a 1"),
            ImodPatchTracking(
                patch_size_nm=80,
                patch_overlap_percent=10,
                thickness_nm=150,
                conversion="relion",
                extra_arguments="-a 1",
            ),
        ),
        (
            RelionFlags(aretomo2=True, tomogram_thickness=200, gpu="0:1"),
            AreTomo(sample_thickness_nm=200, aretomo_gpus="0:1", conversion="relion"),
        ),
        (
            RelionFlags(aretomo2=True, aretomo_tiltcorrect=True),
            AreTomo(tilt_angle_offset="measure", conversion="relion"),
        ),
        (
            RelionFlags(aretomo2=True, aretomo_tiltcorrect=True, aretomo_tiltcorrect_angle=-10),
            AreTomo(tilt_angle_offset="given", tilt_angle_offset_deg=-10, conversion="relion"),
        ),
    ],
)
def test_programs(flags: RelionFlags, expected: object) -> None:
    assert options_for(flags, OwnFlags(use_programs=True)) == expected


@pytest.mark.parametrize(
    ("way", "flag", "value"),
    [
        ("imod_fiducials", "fiducial_diameter", 7.0),
        ("imod_patchtrack", "patch_size", 77.0),
        ("aretomo2", "tomogram_thickness", 177.0),
    ],
)
def test_what_is_chosen_reaches_our_methods(way: str, flag: str, value: float) -> None:
    chosen = RelionFlags(**{way: True})
    try:
        plain = options_for(chosen, OwnFlags())
    except BadInput as error:
        assert "there is no method of our own" in str(error)  # noqa: PT017
        pytest.skip(f"there is no method of our own for {way}")
    changed = dataclasses.replace(chosen, **{flag: value})
    assert options_for(changed, OwnFlags()) != plain
    assert unused_flags(changed, OwnFlags()) == []


def test_what_has_no_effect_is_said() -> None:
    flags = RelionFlags(imod_fiducials=True, gpu="0", adoc_template="x", patch_size=3)
    assert unused_flags(flags, OwnFlags()) == ["--adoc_template", "--gpu"]
    assert unused_flags(flags, OwnFlags(use_programs=True)) == []
    assert unused_flags(RelionFlags(imod_fiducials=True), OwnFlags()) == []


@pytest.mark.parametrize("flags", [RelionFlags(), RelionFlags(imod_fiducials=True, aretomo2=True)])
def test_exactly_one_way(flags: RelionFlags) -> None:
    with pytest.raises(BadInput, match="choose one of --imod_fiducials, --imod_patchtrack and --aretomo2"):
        options_for(flags, OwnFlags())


def test_thickness_of_a_series_wins(project: Path) -> None:
    rows = read_star(Path("tilt_series.star"))["global"].rows()
    for row, thickness in zip(rows, ("100", "200", "250.5"), strict=True):
        row["rlnTomoTomogramThickness"] = thickness
    write_star(Path("thick.star"), {"global": Table.from_rows(rows)})
    found = overrides_for(read("thick.star"), AreTomo(aretomo_gpus="3"))
    assert [found[name].sample_thickness_nm for name in NAMES] == [100, 200, 250.5]  # type: ignore[attr-defined]
    assert found["TS_01"] == AreTomo(aretomo_gpus="3", sample_thickness_nm=100)
    assert overrides_for(read("thick.star"), Fiducial()) == {}


def test_flags_of_a_real_job(shared_data: Path) -> None:
    job = shared_data / "formats/relion5_tutorial/AlignTiltSeries/job005"
    found = flags_of_job(job)
    assert found["i"] == "ExcludeTiltImages/job004/selected_tilt_series.star"
    assert found["imod_fiducials"]
    assert not found["imod_patchtrack"]
    assert (found["fiducial_diameter"], found["tomogram_thickness"]) == (10.0, 200.0)
    with pytest.raises(BadInput, match=r"is a job of the type relion\.importtomo"):
        flags_of_job(shared_data / "formats/relion5_tutorial/Import/job001")


def test_a_job_as_it_was_chosen(nudge: NudgeMethod, project: Path) -> None:
    """A file of a project chooses options, but no program to run."""
    Path("old").mkdir()
    values = {
        "in_tiltseries": "tilt_series.star",
        "do_imod_fiducials": "Yes",
        "fn_batchtomo_exe": "/bin/false",
        "new": "?",
    }
    rows = [{"rlnJobOptionVariable": name, "rlnJobOptionValue": value} for name, value in values.items()]
    kind = Table.from_rows([{"rlnJobTypeLabel": "relion.aligntiltseries"}], is_loop=False)
    write_star(Path("old/job.star"), {"job": kind, "joboptions_values": Table.from_rows(rows)})
    assert flags_of_job(Path("old/job.star")) == {"i": "tilt_series.star", "imod_fiducials": True}
    assert main(["relion", "--job", "old", "--o", JOB, "--method", "nudge"]) == 0
    assert listed() == list(NAMES)
    Path("old/job.star").write_text("\ndata_job\n\n_rlnJobTypeLabel x\n")
    with pytest.raises(BadInput, match=r"is not the job\.star of a RELION job"):
        flags_of_job(Path("old"))


def test_called_by_the_name_of_relions_program(project: Path, tmp_path: Path) -> None:
    """A link is enough for RELION's window to run this program."""
    ours = shutil.which("napari-tiltalign", path=str(Path(sys.executable).parent))
    if ours is None:
        pytest.skip("the program is not installed beside this interpreter")
    link = tmp_path / "relion_align_tiltseries"
    link.symlink_to(ours)
    done = subprocess.run([link, "--i", "tilt_series.star", "--o", JOB, "--pipeline_control", JOB],
                          capture_output=True, text=True, check=False, env=dict(os.environ))  # fmt: skip
    assert done.returncode == 1
    assert "choose one of --imod_fiducials, --imod_patchtrack and --aretomo2" in done.stderr
    assert markers() == ["RELION_JOB_EXIT_FAILURE"]


def test_a_figure_that_one_series_lacks_is_no_column(
    nudge: NudgeMethod, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RELION cannot read an empty cell as a number, and 0 would be a lie."""
    real = NudgeMethod.__call__

    def align(self: NudgeMethod, series: Any, options: Any, **more: Any) -> Any:
        found = real(self, series, options, **more)
        figures = {"imod_residual_mean_nm": 0.4, "imod_leave_out_nm": 0.5}
        return found.replace(statistics={n: figures[n] for n in figures if series.name != "TS_03" or "mean" in n})

    monkeypatch.setattr(NudgeMethod, "__call__", align)
    assert relion() == 0
    table = read_star(Path(JOB) / "aligned_tilt_series.star")["global"].columns
    assert table["rlnIMODResidualErrorMean"] == ("0.400000",) * 3
    assert "rlnIMODLeaveOutError" not in table
