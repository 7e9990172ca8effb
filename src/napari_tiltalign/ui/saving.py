"""Save what was done in a viewer as the command line writes it, and find it again when the dataset is opened."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from napari_tiltalign.errors import BadInput, TiltAlignError
from napari_tiltalign.io.convert import alignment_of_input, for_series
from napari_tiltalign.io.curation import CuratedAlignment, Curation, read_curation, write_curation
from napari_tiltalign.io.files import sha256_of
from napari_tiltalign.io.output import LossesByFormat, write_series_result, write_tables_again
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.record import read_record
from napari_tiltalign.methods.local_motion import estimate_local_motion
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import Dataset, TiltSeries
from napari_tiltalign.ui.session import Session
from napari_tiltalign.ui.user_state import remember_folder, remembered_folder
from napari_tiltalign.ui.work import Candidate, Work, opened_work

FOLDER_NAME = "tiltalign"
"""Name of the folder for results, unless the preferences say otherwise."""


def proposed_folder(dataset: Dataset, name: str = FOLDER_NAME) -> Path:
    """Folder to offer for the results of a dataset: where they were saved last, else one beside the input."""
    known = remembered_folder(dataset.source) if dataset.source else None
    return known or (Path(dataset.source).absolute().parent if dataset.source else Path.cwd()) / name


def known_folder(dataset: Dataset) -> Path | None:
    """Folder that results of a dataset were saved to; None if there is none."""
    if not dataset.source:
        return None
    beside = Path(dataset.source).absolute().parent / FOLDER_NAME
    return remembered_folder(dataset.source) or (beside if beside.is_dir() else None)


def folder_with_results(dataset: Dataset, series_name: str) -> OutputFolder | None:
    """Folder that holds saved work on a series: the one saved to last, one beside the input, or that of the input."""
    if not dataset.source:
        return None
    beside = Path(dataset.source).absolute().parent
    for root in (proposed_folder(dataset), beside / FOLDER_NAME, beside, beside.parent):
        folder = OutputFolder(root)
        if folder.curation_file(series_name).is_file() or folder.alignment_record(series_name).is_file():
            return folder
    return None


def restored_work(dataset: Dataset, series: TiltSeries) -> Work:
    """Work on a series as it was saved; if nothing was, its own exclusions and the alignment that came with it.

    An ``alignment.json`` that was written after the curation, as by the command line, comes in as one more candidate
    and is the one in use.

    Raises
    ------
    TiltAlignError
        If something was saved that cannot be read, or that is of other images.
    """
    folder = folder_with_results(dataset, series.name)
    if folder is None:
        found = alignment_of_input(series)
        return opened_work(series, {} if found is None else {found.provenance.method: found})
    curation = read_curation(folder.curation_file(series.name))
    work = opened_work(series, {}) if curation is None else work_of_curation(curation, series)
    record = folder.alignment_record(series.name)
    if record.is_file() and (curation is None or curation.alignment_sha256 != sha256_of(record)):
        alignment = for_series(read_record(record), series)
        name = free_name(alignment.provenance.method or "saved", work.candidates)
        work = Work(work.exclusions, {**work.candidates, name: Candidate(alignment)}, name)
    return work


def work_of_curation(curation: Curation, series: TiltSeries) -> Work:
    """Work as a curation describes it, for the images that the series has.

    Raises
    ------
    BadTiltSeries
        If an alignment is of other images.
    """
    candidates = {
        name: Candidate(for_series(item.alignment, series), frozenset(item.locked), problem=item.problem)
        for name, item in curation.candidates.items()
    }
    exclusions = {i: why for i, why in curation.exclusions.items() if i in series.tilt_ids}
    return Work(exclusions, candidates, curation.current)


def curation_of_work(work: Work, alignment_sha256: str = "") -> Curation:
    """Describe work as a curation."""
    candidates = {
        name: CuratedAlignment(item.alignment, tuple(sorted(item.locked)), item.problem)
        for name, item in work.candidates.items()
    }
    return Curation(work.exclusions, candidates, work.current, alignment_sha256)


def free_name(name: str, taken: Mapping[str, object]) -> str:
    """Return a name that is not taken: this one, or this one with a number."""
    number = 1
    while (free := name if number == 1 else f"{name} {number}") in taken:
        number += 1
    return free


def save(session: Session, directory: Path) -> Mapping[str, LossesByFormat]:
    """Write all work of a session into a folder, in place of earlier results of the same series.

    Parameters
    ----------
    session
        All its series with unsaved changes or an alignment are written and marked as saved, one by one.
    directory
        The folder, in the shape that the command line writes too.

    Returns
    -------
    Mapping
        Series name to what its files do not hold.

    Raises
    ------
    BadInput
        If no dataset is open, or a result would take the place of the input or of another program's file.
    BadTiltSeries
        If images are not files that a STAR file can name, or an alignment includes no image.
    OSError
        If something cannot be written.
    """
    dataset = session.dataset
    if dataset is None:
        raise BadInput("no dataset is open, so there is nothing to save")
    folder = OutputFolder(directory.absolute())
    folder.check_foreign_files(dataset)
    losses = {}
    for series in dataset:
        work = session.work_of(series.name)
        if work is not None and (work.candidates or series.name in session.unsaved()):
            losses[series.name] = save_series(folder, session.series_named(series.name), work)
            session.mark_saved(series.name)
    folder.root.mkdir(parents=True, exist_ok=True)
    write_tables_again(folder, dataset, _aligned(session, dataset), {})
    session.results_folder = folder.root
    with suppress(OSError):  # a convenience only; the results themselves are safe
        remember_folder(dataset.source, folder.root)
    return losses


def save_series(folder: OutputFolder, series: TiltSeries, work: Work) -> LossesByFormat:
    """Write the work on one series: its alignment for everybody, and the rest for going on; see `save`."""
    work = _completed(work, series)
    losses: LossesByFormat = {}
    digest = ""
    if work.alignment is not None:
        losses = write_series_result(folder, series, work.alignment)
        digest = sha256_of(folder.alignment_record(series.name))
    folder.series_folder(series.name).mkdir(parents=True, exist_ok=True)
    write_curation(folder.curation_file(series.name), curation_of_work(work, digest))
    return losses


def _completed(work: Work, series: TiltSeries) -> Work:
    """Return the work with every candidate solved and its local motion known, so that what is written fits together."""
    for name, candidate in work.candidates.items():
        if not candidate.solved:
            candidate = _solve(candidate)
        if candidate.motion_due and not candidate.problem:
            candidate = candidate.with_motion(estimate_local_motion(candidate.alignment, series))
        work = work.with_candidate(name, candidate)
    return work


def _solve(candidate: Candidate) -> Candidate:
    alignment, tracks = candidate.alignment, candidate.alignment.tracks
    if tracks is None:
        raise ValueError("an alignment without tracks cannot be solved again")
    try:
        return candidate.as_solved(resolve(alignment, tracks))
    except TiltAlignError as error:
        return candidate.as_unsolvable(str(error))


def _aligned(session: Session, dataset: Dataset) -> set[str]:
    works = ((series.name, session.work_of(series.name)) for series in dataset)
    return {name for name, work in works if work is not None and work.alignment is not None}
