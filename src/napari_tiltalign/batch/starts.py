"""Alignments to start from: a file for one series or all of them, or a folder of results."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io.convert import READABLE, read_alignment
from napari_tiltalign.io.files import safe_name, sha256_of
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.record import record_text
from napari_tiltalign.io.relion_alignment import Z_ROT
from napari_tiltalign.model import Alignment, TiltSeries

_WHOLE = (".json", ".aln")
"""Formats whose alignment lies in one file, all of it; those of the others lie in several."""

_PARTS = (*READABLE, ".tlt", ".xtilt", ".rawtlt")


def start_file(path: Path, series_name: str) -> Path:
    """Return the file that holds the alignment that a series starts from; see `named_file`."""
    return named_file(path, series_name, " to start from (--start)")


def named_file(path: Path, series_name: str, purpose: str = "") -> Path:
    """Return the file that holds the alignment of a series.

    Parameters
    ----------
    path
        That file, or a folder of results: of this program, of RELION, or any with ``NAME.xf``, ``NAME.aln`` or
        ``NAME.xml``.
    series_name
        Name of the series.
    purpose
        What it is wanted for, as an error tells it.

    Raises
    ------
    BadTiltSeries
        If a folder has nothing for this series.
    """
    if not path.is_dir():
        return path
    found = next((file for file in _candidates(path, series_name) if file.is_file() and _holds_alignment(file)), None)
    if found is None:
        raise BadTiltSeries(series_name, f"there is no alignment of it in {path}{purpose}")
    return found


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    results, safe = OutputFolder(folder), safe_name(name)
    yield results.alignment_record(name)
    yield results.series_star(name)
    for parent in (folder, folder / safe):
        yield from (parent / f"{safe}{suffix}" for suffix in (".json", ".star", ".edf", ".xf", ".aln", ".xml"))


def _holds_alignment(file: Path) -> bool:
    """Whether a STAR file has columns of an alignment: a project that is not aligned yet is no folder of results."""
    try:
        return file.suffix.lower() != ".star" or f"_{Z_ROT}" in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True  # whoever reads it will tell


def check_start(path: Path, output: Path, n_series: float) -> None:
    """Make sure that something can be started from, before anything is done.

    Parameters
    ----------
    path
        What is to be started from.
    output
        Output folder.
    n_series
        Number of series that start from it; infinity if it is not known how many will come.

    Raises
    ------
    BadInput
        If it does not exist, lies in the output folder, or is a file for one series while there are many.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist, so nothing can be started from it (--start)")
    if path.resolve().is_relative_to(output.resolve()):
        raise BadInput(f"{path} lies in the output folder, where the results that are started from would be replaced; "
                       "choose another output folder")  # fmt: skip
    if path.is_file() and path.suffix.lower() not in READABLE:
        raise BadInput(f"{path} is no alignment that can be read ({', '.join(READABLE)})")
    if path.is_file() and path.suffix.lower() != ".star" and n_series > 1:
        how_many = "any number may arrive" if math.isinf(n_series) else f"{n_series} are to be aligned"
        raise BadInput(f"{path} is of one series, but {how_many}; give a STAR file that lists them, or a folder of "
                       "results (--start), or choose one series (--only)")  # fmt: skip


def read_start(file: Path, series: TiltSeries) -> Alignment:
    """Read the alignment that a series starts from.

    Raises
    ------
    TiltAlignError
        If it cannot be read or does not fit the series.
    """
    return read_alignment(file, series)


def start_digest(file: Path, series: TiltSeries) -> str:
    """Digest of the alignment that a series starts from, which changes with whatever that is read from.

    Raises
    ------
    TiltAlignError
        If it cannot be read or does not fit the series.
    OSError
        If there is no such file.
    """
    if file.suffix.lower() in _WHOLE:
        return sha256_of(file)
    return hashlib.sha256(record_text(read_start(file, series)).encode()).hexdigest()


def files_of_start(file: Path) -> list[Path]:
    """Files that an alignment is read from or may be read from later: its own, and those of the same name beside it."""
    return [file, *(file.with_suffix(suffix) for suffix in _PARTS if suffix != file.suffix)]
