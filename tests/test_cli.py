"""The command line: its flags come from the options classes, and its exit codes are a contract."""

from __future__ import annotations

import errno
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from cyclopts import App

from fake_method import Nudge, NudgeMethod
from napari_tiltalign.cli import main
from napari_tiltalign.cli.align import add_methods
from napari_tiltalign.cli.app import build_app
from napari_tiltalign.cli.messages import message_of
from napari_tiltalign.cli.watching import plain
from napari_tiltalign.errors import BadInput
from napari_tiltalign.io import read
from napari_tiltalign.io.convert import read_alignment
from napari_tiltalign.io.record import read_record
from napari_tiltalign.methods.base import MethodOptions, flag_names, methods
from napari_tiltalign.report import ReportOptions, write_report

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def star(write_project: Callable[..., Path]) -> Path:
    return write_project("TS_01", "unlucky_02")


@pytest.fixture
def out(star: Path) -> Path:
    return star.parent / "out"


def align(star: Path, out: Path, *flags: str) -> int:
    return main(["align", "nudge", str(star), "--output", str(out), "--scheduler", "serial", *flags])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["align", "watch", "convert", "simulate", "demo", "Exit codes"]),
        (["watch", "nudge"], ["--nudge-nm", "--settle-minutes", "--images", "--only", "--start", "--scheduler", "DIR"]),
        (["align"], ["nudge", "For tests only."]),
        (["align", "nudge"], ["--nudge-nm", "How far every image is shifted, nm", "--only", "--resume", "INPUT"]),
        (["convert"], ["ALIGNMENT", "OUT", "--like", "--pixel-size-angst"]),
        (["simulate"], ["--scenario", "--seed", "--n-series", "nanometres"]),
        (["demo"], ["--output"]),
    ],
)
def test_help(nudge: NudgeMethod, capsys: Capture, command: list[str], words: list[str]) -> None:
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    for word in (*words, "--debug"):
        assert word in shown


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("napari-tiltalign")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from napari_tiltalign.cli import main; main(['--help']);"
        "print('IMPORTED', *(name for name in sys.modules if '.' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = done.stdout.split("IMPORTED")[1].split()
    assert not {
        "numpy",
        "pydantic",
        "numba",
        "pandas",
        "scipy",
        "skimage",
        "mrcfile",
        "starfile",
        "napari",
        "qtpy",
    } & set(imported)


def test_all_good(nudge: NudgeMethod, star: Path, out: Path, capsys: Capture) -> None:
    assert align(star, out) == 0
    shown = capsys.readouterr()
    first, *_ = lines = shown.out.splitlines()
    assert first.startswith("TS_01: 1 tracks, 4 of 5 views, residual 0.25 px, axis 85.00 deg, ")
    assert first.endswith("flags angle_gap view_not_aligned"), "of the series first"
    assert "2 of 2 series aligned" in lines
    assert any(line.startswith(".star cannot hold: magnification, up to ") for line in lines)
    assert shown.err == ""


def test_flags_become_options_and_are_recorded(nudge: NudgeMethod, star: Path, out: Path) -> None:
    assert align(star, out, "--nudge-nm", "2.5", "--no-with-tracks") == 0
    record = read_record(out / "external/TS_01/alignment.json")
    assert record.provenance.options == Nudge(amount_nm=2.5, with_tracks=False).model_dump()
    assert record.geometry.shift_yx_angst[0].tolist() == [25.0, 25.0]


@pytest.mark.parametrize(
    ("flags", "exit_code", "message"),
    [
        (["--nudge-nm", "1000"], 1, "--nudge-nm 1000: input should be less than or equal to 100"),
        (["--nudge-nm", "nan"], 1, "--nudge-nm nan: input should be a finite number"),
        (["--trouble", "much"], 1, "--trouble much: "),
        (["--frobnicate"], 1, "Unknown option: --frobnicate"),
        (["--pixel-size-angst", "-3"], 1, "--pixel-size-angst"),
        (["--tilt-angles", "angles.txt"], 1, "--tilt-angles is for stacks"),
        (["--only", "TS_7"], 1, "no tilt series named TS_7; there are TS_01, unlucky_02"),
        (["--resume", "--overwrite"], 1, "give one of them"),
        (["--trouble", "fails"], 2, ""),
        (["--trouble", "bug"], 2, "ZeroDivisionError"),
        (["--trouble", "fails", "--only", "unlucky_02"], 3, ""),
        (["--trouble", "stops"], 4, "Stopped. What was done is kept."),
        (["--trouble", "killed"], 4, "Stopped. What was done is kept."),
    ],
)
def test_exit_code(
    nudge: NudgeMethod,
    star: Path,
    out: Path,
    capsys: Capture,
    caplog: pytest.LogCaptureFixture,
    flags: list[str],
    exit_code: int,
    message: str,
) -> None:
    assert align(star, out, *flags) == exit_code
    error = capsys.readouterr().err
    assert message in error + caplog.text
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["align", "nudge", "x.star"], "--output"),
        (["align", "nudge"], "INPUT"),
        (["align", "no-such-method", "x.star", "--output", "out"], "no-such-method"),
        (["no-such-command"], "no-such-command"),
        (["align", "nudge", "missing.star", "--output", "out"], "missing.star"),
        (["watch", "nudge", "missing", "--output", "out"], "missing is neither a folder nor"),
        (["watch", "nudge", ".", "--output", "out", "--quiet", "--json"], "give one of them"),
        (["watch", "nudge", ".", "--output", "out", "--start", "nowhere"], "nowhere does not exist"),
        (["convert", "missing.xf", "out.star"], "missing.xf"),
        (["simulate", "out", "--scenario", "no-such"], "no-such"),
        (["simulate", "out", "--tilt-min-deg", "70"], "tilts must run upwards"),
        (["align", "nudge", "x.star", "y.star", "--output", "out"], "y.star: more than this command takes"),
        (["report", "missing"], "missing is no folder; give the one that align"),
    ],
)
def test_wrong_usage(
    nudge: NudgeMethod,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert message in error
    assert not list(tmp_path.iterdir())


def test_output_that_cannot_be_written_is_the_environments_fault(
    nudge: NudgeMethod, star: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("")
    assert align(star, tmp_path / "file" / "out") == 5
    assert f"{tmp_path / 'file'} is a file, but a folder is needed there" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_row_63_a_full_disk_has_an_exit_code_of_its_own(
    nudge: NudgeMethod, star: Path, out: Path, capsys: Capture, failing_writes: Callable[..., None], number: int
) -> None:
    failing_writes(number, "external/TS_01/alignment.json")
    assert align(star, out) == 5
    error = capsys.readouterr().err
    assert os.strerror(number) in error
    assert "alignment.json" in error
    assert error.endswith("give the command again. What was done is kept.\n")
    assert "Traceback" not in error


def test_debug_shows_where_an_error_arose(nudge: NudgeMethod, star: Path, out: Path, capsys: Capture) -> None:
    assert align(star, out, "--only", "TS_7", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_outside_of_the_series_is_shown(
    nudge: NudgeMethod, star: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def slip(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr("napari_tiltalign.batch.align_dataset", slip)
    assert align(star, out) == 3
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "Please report it" in error


def test_existing_results(nudge: NudgeMethod, star: Path, out: Path, capsys: Capture) -> None:
    assert align(star, out) == 0
    nudge.aligned.clear()
    capsys.readouterr()
    assert align(star, out) == 0
    assert nudge.aligned == []
    assert "kept from an earlier run" in capsys.readouterr().out
    assert align(star, out, "--overwrite", "--only", "TS_01") == 0
    assert nudge.aligned == ["TS_01"]


def test_watch_only_some_and_start_from_earlier_results(nudge: NudgeMethod, star: Path, out: Path) -> None:
    earlier = star.parent / "earlier"
    assert align(star, earlier, "--nudge-nm", "2") == 0
    quick = ["--settle-minutes", "0", "--poll-seconds", "0.1", "--end-after-minutes", "0.005", "--scheduler", "serial"]
    watch = ["watch", "nudge", str(star), "--output", str(out), *quick]
    assert main([*watch, "--only", "unlucky_02", "--start", str(earlier)]) == 0
    assert [place.name for place in (out / "external").iterdir()] == ["unlucky_02"]
    assert read_record(out / "external/unlucky_02/alignment.json").geometry.shift_yx_angst[0, 0] == 30.0


def test_watch_keeps_the_report_current(
    nudge: NudgeMethod, star: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    quick = ["--settle-minutes", "0", "--poll-seconds", "0.1", "--end-after-minutes", "0.005", "--scheduler", "serial"]
    told: list[tuple[bool, list[str]]] = []

    def told_of(folder: Path, options: ReportOptions, **arguments: object) -> tuple[Path, Path]:
        told.append((options.pictures, sorted(json.loads((out / "run.json").read_text())["series"])))
        if len(told) == 1:
            raise BadInput("something is odd")
        return write_report(folder, options)

    monkeypatch.setattr("napari_tiltalign.report.write_report", told_of)
    assert main(["watch", "nudge", str(star), "--output", str(out), *quick, "--report"]) == 0
    assert told == [(False, ["TS_01", "unlucky_02"]), (True, ["TS_01", "unlucky_02"])]
    said = capsys.readouterr()
    assert "the report cannot be written: something is odd" in said.err
    assert said.out.splitlines()[-2:] == [str(out / "report.html"), str(out / "scores.csv")]
    assert "unlucky_02" in (out / "report.html").read_text()


def test_stack_with_what_its_files_do_not_say(nudge: NudgeMethod, tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "TS.st", np.ones((3, 6, 8), np.float32)) as stack:
        stack.set_image_stack()
    (tmp_path / "angles.txt").write_text("-20\n0\n20\n")
    overrides = ["--pixel-size-angst", "2", "--tilt-axis-deg", "-85", "--tilt-angles", str(tmp_path / "angles.txt")]
    assert align(tmp_path / "TS.st", tmp_path / "out", *overrides) == 0
    record = read_record(tmp_path / "out/external/TS/alignment.json")
    assert (record.pixel_size_angst, record.axis_deg) == (2.0, -85.0)
    np.testing.assert_array_equal(record.geometry.y_tilt_deg, [-20.0, 0.0, 20.0])


@pytest.mark.parametrize("name", list(methods()))
def test_defaults_on_the_command_line_are_those_in_python(name: str) -> None:
    app = App()
    add_methods(app)
    command, bound, *_ = app.parse_args([name, "x.star", "--output", "out"], print_error=False)
    bound = inspect.signature(command).bind(*bound.args, **bound.kwargs)
    bound.apply_defaults()
    assert bound.arguments["options"] == methods()[name].Options()


@pytest.mark.parametrize("name", list(methods()))
def test_every_option_of_a_method_is_a_flag_with_help(name: str, capsys: Capture) -> None:
    assert main(["align", name, "--help"]) == 0
    shown = capsys.readouterr().out
    for option, flag in flag_names(methods()[name].Options).items():
        assert flag in shown
        assert methods()[name].Options.model_fields[option].description


def test_flag_of_the_contract() -> None:
    assert flag_names(methods()["fiducial"].Options)["diameter_nm"] == "--fiducial-diameter-nm"


def test_flags_must_look_like_flags() -> None:
    from pydantic import Field

    class Odd(MethodOptions):
        size: float = Field(1.0, json_schema_extra={"flag": "size"})

    with pytest.raises(TypeError, match="begins with two dashes"):
        flag_names(Odd)


def test_names_cannot_play_tricks_on_the_terminal() -> None:
    assert plain("TS\x1b[2J\n01") == "TS [2J 01"


@pytest.fixture
def record(nudge: NudgeMethod, star: Path, out: Path) -> Path:
    assert align(star, out) == 0
    return out / "external/TS_01/alignment.json"


@pytest.mark.parametrize("suffix", [".star", ".xf", ".aln", ".json", ".fid"])
def test_convert(record: Path, star: Path, tmp_path: Path, capsys: Capture, suffix: str) -> None:
    capsys.readouterr()
    target = tmp_path / f"TS_01{suffix}"
    assert main(["convert", str(record), str(target), "--like", str(star), "--series", "TS_01"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{target}: TS_01, 4 of 5 views")
    assert ("not in it: magnification" in shown) == (suffix == ".star")
    if suffix != ".fid":
        found = read_alignment(target, read(star)["TS_01"])
        assert abs(found.geometry.shift_yx_angst[:4] - 10.0).max() < 0.1


@pytest.mark.parametrize("of", ["aligned_tilt_series.star", "."])
def test_convert_one_series_of_a_job(record: Path, out: Path, tmp_path: Path, capsys: Capture, of: str) -> None:
    capsys.readouterr()
    assert main(["convert", str(out / of), str(tmp_path / "a.aln"), "--series", "TS_01"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'a.aln'}: TS_01, ")


def test_convert_does_not_take_another_series_than_the_one_meant(record: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["convert", str(record), str(tmp_path / "a.aln"), "--series", "TS_02"]) == 1
    assert "is of TS_01; give the file of TS_02" in capsys.readouterr().err
    assert not (tmp_path / "a.aln").exists()


def test_convert_takes_the_series_that_the_file_is_called_after(record: Path, star: Path, tmp_path: Path) -> None:
    xf = record.parent / "TS_01.xf"
    assert main(["convert", str(xf), str(tmp_path / "a.aln"), "--like", str(star)]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--like"),
        (["--like", "PROJECT"], "lists TS_01, unlucky_02; say which one is meant (--series NAME)"),
        (["--like", "PROJECT", "--series", "TS_9"], "no tilt series named TS_9"),
    ],
)
def test_convert_asks_for_what_it_needs(
    record: Path, star: Path, tmp_path: Path, capsys: Capture, flags: list[str], message: str
) -> None:
    flags = [str(star) if flag == "PROJECT" else flag for flag in flags]
    assert main(["convert", str(record), str(tmp_path / "x.star"), *flags]) == 1
    assert message in capsys.readouterr().err


def test_convert_does_not_replace_the_angles_of_a_stack(
    record: Path, star: Path, tmp_path: Path, capsys: Capture
) -> None:
    nominal = tmp_path / "TS.rawtlt"
    nominal.write_text("precious")
    arguments = ["convert", str(record), str(tmp_path / "TS.xf")]
    like = ["--like", str(star), "--series", "TS_01"]
    for flags, message in ((like, "would be replaced"), (["--overwrite"], "would be taken for the nominal angles")):
        assert main([*arguments, *flags]) == 1
        assert f"{nominal} {message}" in capsys.readouterr().err
    assert nominal.read_text() == "precious"
    assert main([*arguments, *like, "--overwrite"]) == 0


def test_convert_does_not_replace_its_own_input(record: Path, capsys: Capture) -> None:
    assert main(["convert", str(record), str(record), "--overwrite"]) == 1
    assert "is what is to be converted" in capsys.readouterr().err


SMALL = ["--image-rows-px", "64", "--image-columns-px", "80", "--tilt-step-deg", "30", "--texture", "none",
         "--n-beads", "3"]  # fmt: skip


def test_simulate(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "simulated"
    assert main(["simulate", str(folder), "--scenario", "sparse", "--n-series", "2", *SMALL]) == 0
    dataset = read(folder / "tilt_series.star")
    assert [series.name for series in dataset] == ["SIM_sparse_01", "SIM_sparse_02"]
    assert dataset.series[0].image_shape_yx == (64, 80)
    truth = read_record(folder / "truth" / "SIM_sparse_02.json")
    assert truth.tilt_ids == dataset["SIM_sparse_02"].tilt_ids
    options = truth.provenance.options
    assert (options["seed"], options["n_beads"], options["tilt_step_deg"]) == (102, 3, 30.0)
    assert main(["simulate", str(folder), *SMALL]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["simulate", str(folder), "--overwrite", *SMALL]) == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["align", "nudge", "tilt_series.star"], "--output is needed, with a value"),
        (["align", "nudge", "tilt_series.star", "--output"], "--output needs a value"),
        (["align", "nudge", "x.star", "-o", "out", "--only"], "--only needs a value"),
        (["judge", "x.star", "x.aln", "--only"], "--only needs a value"),
        (["align", "nudge", "x.star", "-o", "out", "--scheduler", "--quiet"], "--scheduler needs a value\n"),
        (["simulate"], "DIR is missing"),
        (["convert", "here.aln"], "OUT is missing"),
        (["algn"], 'Did you mean "align"?'),
        (["align", ".", "--output", "out"], ". stands where the method is expected: align METHOD .; METHOD is one of"),
        (["watch", ".", "-o", "out"], ". stands where the method is expected: watch METHOD .; METHOD is one of "),
        (["align", "nowhere", "-o", "out"], 'Unknown command "nowhere"'),
    ],
)
def test_wrong_usage_says_what_is_needed(nudge: NudgeMethod, capsys: Capture, command: list[str], said: str) -> None:
    assert main(command) == 1
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.splitlines()[-1].startswith("See napari-tiltalign ")


@pytest.mark.parametrize("flag", ["--output", "-o"])
@pytest.mark.parametrize(
    "command", [["align", "nudge", "x"], ["align", "x", "--use-best", "y"], ["watch", "nudge", "x"],
                ["compare", "x", "--methods", "nudge"], ["preview", "x", "y"]],
)  # fmt: skip
def test_output_has_a_short_name_everywhere(nudge: NudgeMethod, command: list[str], flag: str) -> None:
    _, bound, _ = build_app(command).parse_args([*command, flag, "out"], exit_on_error=False, print_error=False)
    given = bound.arguments
    assert (given["batch"].output if "batch" in given else given["output"]) == Path("out")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tilt_sries.star", "tilt_sries.star does not exist in {folder}; did you mean tilt_series.star"),
        ("nowhere/else/x.star", "there is no nowhere/else, only {folder}; correct the path"),
        ("something.mrc", "something.mrc does not exist in {folder}; correct the path"),
    ],
)
def test_a_path_that_is_misspelt(
    star: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    monkeypatch.chdir(star.parent)
    assert main(["check", given]) == 1
    assert said.format(folder=star.parent) in capsys.readouterr().err


def test_a_folder_of_relion_in_the_place_of_its_table(star: Path, capsys: Capture) -> None:
    assert main(["check", str(star.parent)]) == 1
    assert "it holds tilt_series.star: give such a file" in capsys.readouterr().err


def test_arguments_of_another_program_follow_an_equals_sign(capsys: Capture) -> None:
    command = ["align", "aretomo", "x.star", "-o", "out"]
    assert main([*command, "--extra-arguments", "-Bft 200"]) == 1
    said = "needs a value; one that begins with a hyphen follows an equals sign: '--extra-arguments=-Bft 200'"
    assert said in capsys.readouterr().err
    words = [*command, "--extra-arguments=-Bft 200"]
    _, bound, _ = build_app(words).parse_args(words, exit_on_error=False, print_error=False)
    assert bound.arguments["options"].extra_arguments == "-Bft 200"


def test_an_option_of_other_methods_is_told_with_their_names(capsys: Capture) -> None:
    assert main(["align", "fiducial", "x.star", "--output", "out", "--sample-thickness-nm", "9"]) == 1
    said = capsys.readouterr().err
    assert "Unknown option: --sample-thickness-nm. It is an option of aretomo, " in said
    assert "slab" in said


def test_every_command_is_told_on_one_line_and_tells_more_itself(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 32
    assert main(["convert", "--help"]) == 0
    assert ".aln (AreTomo)" in capsys.readouterr().out


def test_help_is_a_command_too(capsys: Capture) -> None:
    assert main(["help", "convert"]) == 0
    assert "Usage: napari-tiltalign convert " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere/TS.aln", "there is no folder {tmp}/nowhere to write TS.aln in; make it"),
        ("", "is a folder; give the file to write in it, such as {tmp}/NAME.aln"),
    ],
)
def test_convert_says_which_folder_is_missing(
    record: Path, tmp_path: Path, capsys: Capture, target: str, said: str
) -> None:
    assert main(["convert", str(record), str(tmp_path / target)]) == 1
    assert said.format(tmp=tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/.tiltalign-0a.tmp"), "/data: no permission to read"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/data/.tiltalign-0a.tmp"), "/data does not exist; correct"),
        (OSError(errno.EIO, "Input/output error", "/data/x"), "Input/output error: '/data/x'"),
        (ConnectionError("the scheduler was lost"), "Error: the scheduler was lost"),
    ],
)
def test_what_the_system_refuses_is_told_with_a_path_that_the_user_knows(error: OSError, said: str) -> None:
    assert said in message_of(error)


def test_an_alignment_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    assert main(["convert", str(tmp_path / "nothing"), str(tmp_path / "out.json")]) == 1
    assert "nothing does not exist" in capsys.readouterr().err
