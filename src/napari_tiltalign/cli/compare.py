"""``compare INPUT --methods A,B --output DIR``: run several methods, judge them on the same views, pick the best."""

from __future__ import annotations

import json as json_format
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators
from pydantic import ValidationError

from napari_tiltalign.cli.alignments import alignment_of, check_alignments
from napari_tiltalign.cli.exit_codes import ExitCode, exit_code_for
from napari_tiltalign.cli.inputs import InputOptions, Names
from napari_tiltalign.cli.running import Output, RunOptions, SlurmOptions, placement_of
from napari_tiltalign.errors import BadInput, TiltAlignError
from napari_tiltalign.methods.base import MethodOptions, check_usable, flag_names, method

if TYPE_CHECKING:
    from napari_tiltalign.model import Alignment, Dataset, TiltSeries
    from napari_tiltalign.quality.comparing import Comparison

_SWITCH = Parameter(negative="", show_default=False)
_AS_READ = InputOptions()
_ANYWHERE = RunOptions()
_BY_DEFAULT = SlurmOptions()


def compare(
    input_path: Annotated[Path, Parameter(name="INPUT")],
    /,
    *,
    methods: str,
    output: Output,
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = (),
    also: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    only: Names = (),
    sample: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=100_000))] = 0,
    no_beads: Annotated[bool, _SWITCH] = False,
    json: Annotated[bool, _SWITCH] = False,
    overrides: InputOptions = _AS_READ,
    run: RunOptions = _ANYWHERE,
    slurm: SlurmOptions = _BY_DEFAULT,
) -> int:
    """Run several methods, judge their alignments on the same views, and pick the best for each series.

    DIR/METHOD holds the results of each method, DIR/best the best of each series, both in the shape of RELION's own
    job, and DIR/comparison.json everything that was found. Repeat the command to go on where it was stopped.

    Parameters
    ----------
    input_path
        The tilt series: STAR file, or a stack with its angles beside it.
    methods
        Names of methods, with commas between them: fiducial,slab.
    output
        Folder for the results; made if need be.
    settings
        Option of a method: fiducial.diameter-nm=5. May be repeated.
    also
        Alignment to compare with, that is there already: NAME=PATH, such as imod=TS_01.xf, or a folder of results.
        May be repeated.
    only
        Names of the series; all without it.
    sample
        Compare so many series, chosen at random (always the same ones); 0 for all.
    no_beads
        Do not look for gold beads as witnesses.
    json
        Print one JSON object for each series, one on a line.
    overrides
        What to use instead of what the input says.
    run
        Where it runs.
    slurm
        What to ask Slurm for.
    """
    from napari_tiltalign.api import write
    from napari_tiltalign.io.files import write_atomic

    placement = placement_of(run, slurm)
    chosen = _options(methods, settings)
    others = dict(_pair(text, "--also NAME=PATH") for text in also)
    if twice := sorted({"best", *chosen} & set(others)):
        raise BadInput(f"--also {twice[0]}=...: choose another name, this one is taken")
    dataset = _sampled(overrides.read(input_path), only, sample)
    for path in others.values():
        check_alignments(Path(path), dataset)
    found: dict[str, dict[str, Alignment]] = {series.name: {} for series in dataset}
    problems: dict[str, list[str]] = {series.name: [] for series in dataset}
    for name, options in chosen.items():
        print(f"{name}: aligning {len(dataset)} series", file=sys.stderr, flush=True)
        _align(name, options, dataset, output, placement, found, problems)
    for name, path in others.items():
        _read_other(name, Path(path), dataset, found, problems)
    comparisons: dict[str, Comparison] = {}
    for series in dataset:
        if compared := _compared(series, found[series.name], problems[series.name], use_beads=not no_beads):
            comparisons[series.name] = compared
        told = _told(series.name, comparisons.get(series.name), problems[series.name])
        print(json_format.dumps(told) if json else "\n".join(_lines(told)), flush=True)
    best = {name: c.entrants[c.best].alignment for name, c in comparisons.items() if c.best}
    record = [_told(series.name, comparisons.get(series.name), problems[series.name]) for series in dataset]
    output.mkdir(parents=True, exist_ok=True)
    write_atomic(output / "comparison.json", json_format.dumps(record, indent=1) + "\n")
    failures = {s.name: "; ".join(problems[s.name]) or "not judged" for s in dataset if s.name not in best}
    write(dataset, best, output / "best", failures={**failures, **dataset.failed})
    n_failed = len(failures) + len(dataset.failed)
    return exit_code_for(len(best), n_failed) if best or n_failed else ExitCode.ALL_FAILED


def _options(methods: str, settings: tuple[str, ...]) -> dict[str, MethodOptions]:
    """Options of every method asked for.

    Raises
    ------
    BadInput
        If a method or an option is unknown.
    ProgramMissing
        If a method needs a program that is not there.
    """
    names = list(dict.fromkeys(name.strip() for name in methods.split(",") if name.strip()))
    values: dict[str, dict[str, str]] = {name: {} for name in names}
    for text in settings:
        key, value = _pair(text, "--set METHOD.OPTION=VALUE")
        name, _, option = key.partition(".")
        if name not in values:
            raise BadInput(f"--set {text}: {name} is none of the methods to run ({', '.join(names)})")
        flags = {flag.removeprefix("--"): field for field, flag in flag_names(method(name).Options).items()}
        option = option.removeprefix("--")
        values[name][flags.get(option, option.replace("-", "_"))] = value
    made = {}
    for name in names:
        try:
            made[name] = method(name).Options(**values[name])
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            what = str(first["loc"][0]) if first["loc"] else ""
            if first["type"] == "extra_forbidden":
                raise BadInput(f"--set {name}.{what}: {name} has no such option; it has {_known(name)}") from error
            raise BadInput(f"--set {name}.{what}: {first['msg']}") from error
        check_usable(method(name), made[name])
    return made


def _known(name: str) -> str:
    return ", ".join(flag.removeprefix("--") for flag in flag_names(method(name).Options).values())


def _pair(text: str, form: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (separator and key and value):
        raise BadInput(f"{text!r} is not of the form {form}")
    return key, value


def _sampled(dataset: Dataset, only: tuple[str, ...], sample: int) -> Dataset:
    dataset = dataset.only(only) if only else dataset
    names = [series.name for series in dataset]
    if not 0 < sample < len(names):
        return dataset
    drawn = set(random.Random(0).sample(names, sample))  # noqa: S311 (the same ones every time)
    return dataset.only([name for name in names if name in drawn])


def _align(
    name: str,
    options: MethodOptions,
    dataset: Dataset,
    output: Path,
    placement: Any,
    found: dict[str, dict[str, Alignment]],
    problems: dict[str, list[str]],
) -> None:
    """Run one method, and keep what it found."""
    from napari_tiltalign.batch import align_dataset
    from napari_tiltalign.io.convert import for_series

    summary = align_dataset(dataset, options, output / name, command=sys.argv, placement=placement)
    for outcome in summary.outcomes:
        if outcome.name not in found:
            continue
        if outcome.failure:
            problems[outcome.name].append(f"{name}: {outcome.failure}")
        else:
            found[outcome.name][name] = for_series(outcome.read_alignment(), dataset[outcome.name])


def _read_other(
    name: str,
    path: Path,
    dataset: Dataset,
    found: dict[str, dict[str, Alignment]],
    problems: dict[str, list[str]],
) -> None:
    for series in dataset:
        try:
            found[series.name][name] = alignment_of(path, series, dataset)
        except TiltAlignError as error:
            problems[series.name].append(f"{name}: {error}")


def _compared(
    series: TiltSeries, alignments: Mapping[str, Alignment], problems: list[str], *, use_beads: bool
) -> Comparison | None:
    from napari_tiltalign.quality.comparing import compare as compared

    if not alignments:
        return None
    try:
        return compared(series, alignments, use_beads=use_beads)
    except TiltAlignError as error:
        problems.append(str(error))
        return None


def _told(name: str, comparison: Comparison | None, problems: list[str]) -> dict[str, Any]:
    told = {"series": name, "best": None} if comparison is None else comparison.to_dict()
    return {**told, "failed": problems}


def _lines(told: Mapping[str, Any]) -> list[str]:
    """What was found about a series, for people."""
    lines = [f"{told['series']}: best {told['best']}. {told['reason']}" if told["best"] else f"{told['series']}: none"]
    for name, entrant in told.get("alignments", {}).items():
        scores, apart = entrant["scores"], entrant["from_best"]
        judged = "not judged" if scores is None else f"{scores['grade']:<5s} score {scores['score']:6.1f}"
        residual = None if scores is None else scores["parts"]["bead_residual_px"]
        beads = "" if residual is None else f"  beads {residual:5.2f} px"
        axis = "" if apart is None or apart["axis_deg"] is None else f", axis {apart['axis_deg']:+.2f}°"
        from_best = "" if apart is None else f"  {apart['rms_px']:6.2f} px rms from the best{axis}"
        flipped = " (other hand)" if apart is not None and apart["hand_flipped"] else ""
        lines.append(f"  {name:<20s} {judged}{beads}  {entrant['views']} views{from_best}{flipped}".rstrip())
        if entrant["remark"]:
            lines.append(f"      {entrant['remark']}")
    return lines + [f"  failed: {problem}" for problem in told["failed"]]
