"""The alignment of each series, where a command takes one file or folder for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_tiltalign.errors import BadInput

if TYPE_CHECKING:
    from napari_tiltalign.model import Alignment, Dataset, TiltSeries


def check_alignments(path: Path, dataset: Dataset) -> None:
    """Refuse a file of one series where there are several: it would be taken for the alignment of all of them.

    Raises
    ------
    BadInput
        If it is one.
    """
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
