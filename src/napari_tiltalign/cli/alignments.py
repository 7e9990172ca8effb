"""The alignment of each series, where a command takes one file or folder for all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tiltalign.cli.exit_codes import ExitCode, exit_code_for
from napari_tiltalign.errors import BadInput, TiltAlignError

if TYPE_CHECKING:
    from napari_tiltalign.model import Alignment, Dataset, TiltSeries


def for_each_aligned(
    path: Path, dataset: Dataset, work: Callable[[TiltSeries, Alignment], None], *, undone: str
) -> ExitCode:
    """Do something with every series and its alignment; one that fails does not stop the others.

    Parameters
    ----------
    path
        File or folder of the alignments.
    dataset
        The series; those that could not be read are told as failed.
    work
        What to do.
    undone
        How a failure is told: "not judged".

    Raises
    ------
    TiltAlignError
        What is wrong with the only series there is.
    """
    check_alignments(path, dataset)
    failed = [f"{name}: {why}" for name, why in dataset.failed.items()]
    done = 0
    for series in dataset:
        try:
            work(series, alignment_of(path, series, dataset))
            done += 1
        except TiltAlignError as error:
            if len(dataset) + len(dataset.failed) == 1:
                raise
            failed.append(str(error))
    for problem in failed:
        print(f"{undone}: {problem}", file=sys.stderr)
    return exit_code_for(done, len(failed)) if done or failed else ExitCode.ALL_FAILED


def check_alignments(path: Path, dataset: Dataset) -> None:
    """Refuse what cannot be the alignments of all series before any of them is looked at.

    Raises
    ------
    BadInput
        If it does not exist, or is a file of one series where there are several: it would be taken for the alignment of
        all of them.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist; give a file that holds an alignment, or a folder of results")
    n_series = len(dataset) + len(dataset.failed)
    if n_series > 1 and path.is_file() and path.suffix.lower() != ".star":
        raise BadInput(
            f"{path} is of one series, but there are {n_series}; choose its series (--only), or give a folder of "
            "results or a STAR file that lists them all"
        )


def alignment_of(path: Path, series: TiltSeries, dataset: Dataset) -> Alignment:
    """Read the alignment of one series of a dataset.

    Where the dataset has several, files in a folder must bear the names of their series.

    Raises
    ------
    BadInput
        If nothing can be read from it.
    BadTiltSeries
        If a folder has nothing for this series, or the alignment does not fit it.
    """
    from napari_tiltalign.batch.starts import named_file
    from napari_tiltalign.io.convert import read_alignment

    sole = len(dataset) + len(dataset.failed) == 1
    return read_alignment(path if sole else named_file(path, series.name), series)
