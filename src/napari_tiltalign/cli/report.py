"""``report DIR``: one self-contained page for a folder of results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

_SWITCH = Parameter(negative="", show_default=False)


def report(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    input: Annotated[Path | None, Parameter(show_default=False)] = None,  # noqa: A002 (the flag is called so)
    no_scores: Annotated[bool, _SWITCH] = False,
    no_pictures: Annotated[bool, _SWITCH] = False,
    quiet: Annotated[bool, _SWITCH] = False,
    told: Annotated[bool, Parameter(show=False, parse=False)] = True,
) -> int:
    """Write report.html and scores.csv into a folder of results.

    The page needs nothing beside it and no network. Scores are kept beside the alignments, so a second report is quick.

    Parameters
    ----------
    folder
        The output folder of align.
    input
        The tilt series, if they have moved since they were aligned.
    no_scores
        Do not judge alignments that were not judged before; judging takes about half a minute for each.
    no_pictures
        Show no images; they take a few seconds for each series.
    quiet
        Do not tell how far it is.
    told
        Whether to print where the files are.
    """
    from napari_tiltalign.report import ReportOptions, write_report

    said = ""

    def tell(fraction: float, message: str) -> None:
        nonlocal said
        if not quiet and message != said:
            said = message
            print(f"{100 * fraction:3.0f} %  {message}", file=sys.stderr, flush=True)

    options = ReportOptions(not no_scores, not no_pictures, "" if input is None else str(input))
    files = write_report(folder, options, progress=tell)
    if told:
        print(*files, sep="\n")
    return 0
