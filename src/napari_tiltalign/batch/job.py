"""One series, aligned and written to the disk, in whatever process."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from napari_tiltalign.api import align
from napari_tiltalign.batch.outcome import SeriesOutcome
from napari_tiltalign.batch.starts import read_start
from napari_tiltalign.errors import DISK_TAKES_NOTHING, BadTiltSeries, Cancelled, TiltAlignError
from napari_tiltalign.images.compute import device, limited_cpus, use_device
from napari_tiltalign.io.fingerprint import input_fingerprint
from napari_tiltalign.io.output import alignment_facts, write_series_failure, write_series_result
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.run_lock import Claim
from napari_tiltalign.methods.base import MethodOptions, Progress
from napari_tiltalign.methods.binned import at_full_size, binned_series, start_for_binned
from napari_tiltalign.model import Alignment, Flag, TiltSeries

_log = logging.getLogger(__name__)
_CHECK_EVERY_S = 0.5
_NO_MEMORY = "not enough memory; use images that are binned more"
MOST_BINNING = 4
"""Beads and patches of the usual sizes are not found any more in images that are binned more than this."""


@dataclass(frozen=True, slots=True)
class SeriesJob:
    """All it takes to align one series and write its results, also in another process or on another machine.

    Attributes
    ----------
    series, options
        What to align, and how.
    folder
        Output folder.
    fingerprint, work
        What is done, for `SeriesState`.
    claim
        Tells whether the run still has the folder.
    start
        Alignment file to start from; None to start from the nominal geometry.
    threads
        Number of cores to use; 0 for all.
    device
        ``auto``, ``cpu`` or ``cuda``.
    too_large
        What becomes of it when it is too much for the memory; see `Placement`.
    binning
        By how much the images are binned for that reason.
    """

    series: TiltSeries
    options: MethodOptions
    folder: OutputFolder
    fingerprint: str
    work: str
    claim: Claim
    start: Path | None = None
    threads: int = 0
    device: str = "auto"
    too_large: str = "refuse"
    binning: int = 1

    @property
    def name(self) -> str:
        """Name of the series."""
        return self.series.name

    def smaller(self) -> SeriesJob | None:
        """Return the job with images that are binned more, if that is wanted and makes sense."""
        if self.too_large != "bin" or self.binning >= MOST_BINNING:
            return None
        return replace(self, binning=self.binning * 2)


def do_series(job: SeriesJob, progress: Progress) -> SeriesOutcome:
    """Align a series and write its results; whatever goes wrong with it is its own affair.

    Parameters
    ----------
    job
        What to do.
    progress
        Told how far it is; may raise `Cancelled`.

    Raises
    ------
    Cancelled
        If somebody wants to stop. The series then counts as not done.
    OSError
        If the disk is full or read-only, which concerns all series.
    """
    began = time.monotonic()
    with limited_cpus(job.threads), use_device(job.device):
        alignment, failure = _align(job, _checked(progress, job.claim))
        while failure == _NO_MEMORY and (smaller := job.smaller()) is not None:
            job = smaller
            alignment, failure = _align(job, _checked(progress, job.claim))
    job.claim.check()
    losses = {}
    if alignment is not None:
        try:
            done = binned_fingerprint(job.fingerprint, job.binning), binned_work(job.work, job.binning)
            losses = dict(write_series_result(job.folder, job.series, alignment, *done))
        except TiltAlignError as error:
            alignment, failure = None, reason_of(error, job.name)
        except OSError as error:
            if error.errno in DISK_TAKES_NOTHING:
                raise
            alignment, failure = None, f"its results cannot be written: {error}"
    seconds = time.monotonic() - began
    if alignment is None:
        record_failure(job.folder, job.name, failure)
        return SeriesOutcome(job.name, failure, seconds=seconds)
    record = job.folder.alignment_record(job.name)
    return SeriesOutcome(job.name, "", record, alignment_facts(alignment), "", seconds, losses)


def record_failure(folder: OutputFolder, name: str, reason: str) -> None:
    """Write down that a series failed. Where its own folder cannot be written to, the tables will tell.

    Raises
    ------
    OSError
        If the disk is full or read-only.
    """
    try:
        write_series_failure(folder, name, reason)
    except OSError as error:
        if error.errno in DISK_TAKES_NOTHING:
            raise
        _log.warning("%s: its failure cannot be recorded in its folder: %s", name, error)


def _align(job: SeriesJob, progress: Progress) -> tuple[Alignment | None, str]:
    try:
        start = None if job.start is None else read_start(job.start, job.series)
        if start is not None:
            start = start_for_binned(start, job.series, job.binning)
        return _at_full_size(_align_on_device(job, start, progress), job), ""
    except Cancelled:
        raise
    except TiltAlignError as error:
        return None, reason_of(error, job.name)
    except MemoryError:
        return None, _NO_MEMORY
    except OSError as error:
        if error.errno in DISK_TAKES_NOTHING:
            raise
        return None, str(error)
    except Exception as error:  # a bug, which must not cost the user the other series
        _log.exception("%s: internal error", job.name)
        return None, internal_error(error)


def _is_of_gpu(error: Exception) -> bool:
    """Whether it is CuPy's or CUDA's own error, such as too little memory on the GPU."""
    from_gpu = any(base.__module__.split(".")[0] in ("cupy", "cupy_backends") for base in type(error).__mro__)
    return from_gpu and device() != "cpu"


def _align_on_device(job: SeriesJob, start: Alignment | None, progress: Progress) -> Alignment:
    """Align, on the CPU if the GPU fails."""
    series = binned_series(job.series, job.binning)
    try:
        return align(series, job.options, start=start, progress=progress)
    except Exception as error:
        if not _is_of_gpu(error):
            raise
        problem = f"{type(error).__name__}: {error}"
    with use_device("cpu"):
        alignment = align(series, job.options, start=start, progress=progress)
    return alignment.replace(flags=(*alignment.flags, Flag("cpu_fallback", problem)))


def _at_full_size(alignment: Alignment, job: SeriesJob) -> Alignment:
    """Return what was found in binned images as an alignment of the series, with a flag."""
    if job.binning == 1:
        return alignment
    full = at_full_size(alignment, job.series, job.binning)
    made_of = replace(alignment.provenance, input_fingerprint=input_fingerprint(job.series))
    flag = Flag("binned_for_memory", f"by {job.binning}")
    return full.replace(provenance=made_of, flags=(*alignment.flags, flag))


def binned_fingerprint(fingerprint: str, binning: int) -> str:
    """Return the fingerprint of what is done with binned images, from that for the images as they are."""
    return fingerprint if binning == 1 else hashlib.sha256(f"{fingerprint}/{binning}".encode()).hexdigest()


def binned_work(work: str, binning: int) -> str:
    """Say in the word for what was done that the images were binned."""
    return work if binning == 1 else f"{work}/binned-{binning}"


def _checked(progress: Progress, claim: Claim) -> Progress:
    """Look now and then whether the run still has the folder."""
    last = time.monotonic()

    def checked(fraction: float, message: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _CHECK_EVERY_S:
            claim.check()
            last = time.monotonic()
        progress(fraction, message)

    return checked


def reason_of(error: TiltAlignError, series_name: str) -> str:
    """Say what went wrong, without the name of the series, which stands beside it wherever it is shown."""
    return error.problem if isinstance(error, BadTiltSeries) else str(error).removeprefix(f"{series_name}: ")


def internal_error(error: BaseException) -> str:
    """Say that a series failed through no fault of its own."""
    return f"internal error, please report it with the log: {type(error).__name__}: {error}"
