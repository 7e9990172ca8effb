"""``check INPUT``: what is odd about tilt series before they are aligned."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_tiltalign.cli.exit_codes import ExitCode, exit_code_for
from napari_tiltalign.cli.inputs import InputOptions, Names

if TYPE_CHECKING:
    from napari_tiltalign.quality.checking import Finding, SeriesCheck

_SWITCH = Parameter(negative="", show_default=False)
_MOST_NAMES = 4


def check(
    input_path: Annotated[Path, Parameter(name="INPUT")],
    /,
    *,
    only: Names = (),
    json: Annotated[bool, _SWITCH] = False,
    overrides: InputOptions | None = None,
) -> int:
    """Look for what is wrong with tilt series before they are aligned: tables, angles, dose, images, tilt axis.

    Every finding says what, where, and what to do. Nothing is changed.

    Parameters
    ----------
    input_path
        The tilt series: STAR file, or a stack with its angles beside it.
    only
        Names of the series to check; all without it.
    json
        Print one JSON object.
    overrides
        What to use instead of what the input says.
    """
    from napari_tiltalign.quality.checking import check_dataset, check_series

    dataset = (overrides or InputOptions()).read(input_path)
    dataset = dataset.only(only) if only else dataset
    general = check_dataset(dataset)
    checks = []
    if not json:
        print(*(_line(finding) for finding in general), sep="\n", end="\n" if general else "")
    for series in dataset:
        found = check_series(series)
        checks.append(found)
        if not json:
            print(*check_lines(found), sep="\n", flush=True)
    if json:
        told = {
            "input": str(input_path),
            "findings": [finding.to_dict() for finding in general],
            "series": [found.to_dict() for found in checks],
        }
        print(json_format.dumps(told))
    return exit_code_for(len(dataset), len(dataset.failed)) if len(dataset) else ExitCode.ALL_FAILED


def check_lines(check: SeriesCheck) -> list[str]:
    """What was found about a series, for people."""
    axis = [] if check.axis is None else [f"  tilt axis {check.axis.nominal_deg:g}°: {check.axis.scores_text()}"]
    if not check.findings:
        return [f"{check.name}: nothing odd", *axis]
    return [f"{check.name}:", *(_line(finding) for finding in check.findings), *axis]


def _line(finding: Finding) -> str:
    names = ", ".join(finding.where[:_MOST_NAMES]) + (", ..." if len(finding.where) > _MOST_NAMES else "")
    return f"  {finding.level}: {finding.what}\n      where: {names or 'the whole input'}\n      to do: {finding.to_do}"
