"""``relion``: stands in the place of RELION's program for aligning tilt series, or runs as an external job."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_tiltalign.batch import Existing, Placement, Summary, align_dataset
from napari_tiltalign.cli.exit_codes import ExitCode
from napari_tiltalign.cli.relion_flags import (
    ExternalFlags,
    OwnFlags,
    RelionFlags,
    flags_of_job,
    input_of,
    mpi_rank_and_size,
)
from napari_tiltalign.cli.relion_methods import options_for, overrides_for, unused_flags
from napari_tiltalign.cli.watching import ConsoleWatcher, summary_lines
from napari_tiltalign.errors import Cancelled
from napari_tiltalign.external.aretomo_options import AreTomo
from napari_tiltalign.external.options import ExternalOptions
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.io import read
from napari_tiltalign.io.convert import STAR_COLUMNS
from napari_tiltalign.io.files import safe_name
from napari_tiltalign.io.numbers import format_number
from napari_tiltalign.io.output import write_tables_again
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.record import read_record
from napari_tiltalign.io.relion_job import (
    ABORTED,
    ALIGNED_NODE,
    FAILURE,
    LOGFILE_NODE,
    SUCCESS,
    JobMarkers,
    write_output_nodes,
)
from napari_tiltalign.io.relion_logfile import SeriesCurves, write_logfile
from napari_tiltalign.io.series_state import SeriesState
from napari_tiltalign.model import Alignment, Dataset, TiltSeries

_FIGURES: Mapping[str, str] = {
    "imod_residual_mean_nm": "rlnIMODResidualErrorMean",
    "imod_residual_sd_nm": "rlnIMODResidualErrorStddev",
    "imod_leave_out_nm": "rlnIMODLeaveOutError",
    "aretomo_tilt_axis_score": "rlnAreTomoTiltAxisScore",
    "residual_rms_px": "tiltalignResidualRmsPx",
    "leave_out_rms_px": "tiltalignLeaveOutRmsPx",
}
"""Figure of an alignment to its column of the global table: RELION's own for IMOD and AreTomo, and two of ours."""
_AXIS_COLUMN, _ETOMO_COLUMN = "rlnTomoZRot", "rlnEtomoDirectiveFile"
_PROGRAMS = "programs"
"""Folder in that of the job for the files of IMOD and AreTomo."""


def relion(
    *,
    flags: RelionFlags | None = None,
    external: ExternalFlags | None = None,
    own: OwnFlags | None = None,
) -> int:
    """Do RELION's job of aligning tilt series.

    Takes the flags of RELION 5's relion_align_tiltseries, so a link of that name to this program makes RELION's window
    run it; or those of an external job. Methods of this package do the work, or IMOD and AreTomo (--use_programs).

    Parameters
    ----------
    flags
        Those of RELION's program.
    external
        Those of an external job.
    own
        Our own.
    """
    flags, external, own = flags or RelionFlags(), external or ExternalFlags(), own or OwnFlags()
    rank, n_processes = mpi_rank_and_size()
    if rank:
        return ExitCode.GOOD
    markers = JobMarkers(Path(flags.pipeline_control) if flags.pipeline_control else None)
    markers.begin()
    try:
        code = _run(flags, external, own, markers, max(external.j, n_processes))
    except (Cancelled, KeyboardInterrupt):
        markers.end(ABORTED)
        raise
    except BaseException:
        markers.end(FAILURE)
        raise
    markers.end(SUCCESS if code == ExitCode.GOOD else FAILURE)
    return code


class _JobWatcher(ConsoleWatcher):
    """Shows how a job goes, and stops it when RELION's user wants that."""

    def __init__(self, markers: JobMarkers) -> None:
        super().__init__()
        self._markers = markers

    def check(self) -> None:
        """Look for RELION's marker."""
        super().check()
        if self._markers.abort_is_asked():
            raise Cancelled("RELION asks to stop")


def _run(flags: RelionFlags, external: ExternalFlags, own: OwnFlags, markers: JobMarkers, n_at_a_time: int) -> int:
    if own.job is not None:
        flags = _with_job(flags, own.job)
    source, folder = input_of(flags, external), OutputFolder(Path(flags.o))
    options = options_for(flags, own)
    if unused := unused_flags(flags, own):
        print(f"Our own methods do not know {', '.join(unused)}; IMOD and AreTomo do (--use_programs)", file=sys.stderr)
    dataset = read(source)
    if isinstance(options, ExternalOptions):
        options = options.replace(keep_files_in=str((folder.root / _PROGRAMS).absolute()))
    if isinstance(options, AreTomo):  # each group of GPUs can work on one series
        n_at_a_time = max(n_at_a_time, min(len(options.gpu_groups), len(dataset)))
    existing = Existing.RESUME if flags.only_do_unfinished else Existing.OVERWRITE
    only = _at_most(dataset, folder, flags.do_at_most, existing)
    with _JobWatcher(markers) as watcher:
        summary = align_dataset(
            dataset,
            options,
            folder.root,
            only=only,
            overrides=overrides_for(dataset, options),
            existing=existing,
            placement=Placement("serial") if n_at_a_time == 1 else Placement(workers=n_at_a_time),
            command=sys.argv,
            watcher=watcher,
        )
    print(*summary_lines(summary), sep="\n")
    alignments = _write_for_relion(dataset, summary, Path(flags.o))
    # like RELION: series that failed are left out and named; only a job without any result has failed
    return ExitCode.GOOD if alignments else ExitCode.ALL_FAILED


def _with_job(flags: RelionFlags, job: Path) -> RelionFlags:
    """Flags of a job, and on top those that were given."""
    defaults = RelionFlags()
    given = {
        field.name: value
        for field in dataclasses.fields(flags)
        if (value := getattr(flags, field.name)) != getattr(defaults, field.name)
    }
    return dataclasses.replace(defaults, **{**flags_of_job(job), **given})


def _at_most(dataset: Dataset, folder: OutputFolder, limit: int, existing: Existing) -> Sequence[str]:
    """Names of the series to do now, of which at most so many are not done yet; all if there is no limit.

    RELION counts those that are left for later as failed and drops them. Here they are in no table until they are done.
    """
    if limit < 0:
        return ()
    resume = existing is Existing.RESUME
    done = {series.name for series in dataset if resume and _is_done(folder, series.name)}
    left = [series.name for series in dataset if series.name not in done]
    return [series.name for series in dataset if series.name in done | set(left[:limit])]


def _is_done(folder: OutputFolder, name: str) -> bool:
    state = SeriesState.read(folder.state_file(name))
    return state is not None and not state.failure and state.is_intact(folder.root)


def _write_for_relion(dataset: Dataset, summary: Summary, directory: Path) -> Mapping[str, Alignment]:
    """Write what RELION has beyond a folder of results: figures in the global table, plots, and the output nodes."""
    folder = summary.folder
    failures = {outcome.name: outcome.failure for outcome in summary.failed}
    alignments = {
        series.name: read_record(folder.alignment_record(series.name))
        for series in dataset
        if series.name not in failures and _is_done(folder, series.name)
    }
    columns = {name: _columns(alignment) | _etomo(directory, name) for name, alignment in alignments.items()}
    write_tables_again(folder, _with_columns(dataset, columns), set(alignments), failures)
    if alignments:
        names = [*_FIGURES.values(), _AXIS_COLUMN]
        figures = {name: [float(columns[one].get(name, "nan")) for one in alignments] for name in names}
        write_logfile(folder.root / "logfile.pdf", [_curves(dataset[n], a) for n, a in alignments.items()], figures)
        nodes = {folder.aligned_star.name: ALIGNED_NODE, "logfile.pdf": LOGFILE_NODE}
        write_output_nodes(folder.root, {(directory / name).as_posix(): kind for name, kind in nodes.items()})
    return alignments


def _with_columns(dataset: Dataset, columns: Mapping[str, Mapping[str, str]]) -> Dataset:
    """Dataset with columns added to its global table, in place of those of an earlier alignment.

    RELION cannot read an empty cell as a number, so a column is there only if every series has it.
    """
    whole = set.intersection(*map(set, columns.values())) if columns else set()
    stale = {*_FIGURES.values(), _AXIS_COLUMN, _ETOMO_COLUMN}

    def row(series: TiltSeries) -> dict[str, str]:
        kept = {name: cell for name, cell in series.columns.items() if name not in stale}
        return kept | {name: cell for name, cell in columns.get(series.name, {}).items() if name in whole}

    return dataclasses.replace(dataset, series=tuple(series.replace(columns=row(series)) for series in dataset))


def _etomo(directory: Path, name: str) -> dict[str, str]:
    """Where etomo finds the alignment that IMOD has made of a series, for RELION's own column."""
    found = sorted((directory / _PROGRAMS / safe_name(name)).glob("*.edf"))
    return {_ETOMO_COLUMN: found[0].as_posix()} if found else {}


def _columns(alignment: Alignment) -> dict[str, str]:
    """Figures of an alignment for the global table."""
    known = {name: alignment.statistics[key] for key, name in _FIGURES.items() if key in alignment.statistics}
    if "aretomo_tilt_axis_score" in alignment.statistics:
        known[_AXIS_COLUMN] = alignment.axis_deg
    return {name: format_number(value) for name, value in known.items() if math.isfinite(value)}


def _curves(series: TiltSeries, alignment: Alignment) -> SeriesCurves:
    order = [i for i in series.tilt_order() if alignment.included[i]]
    geometry = alignment.star_geometry.take(order)
    ids = [series.tilt_ids[i] for i in order]
    defocus = [_measured(alignment, ids, name) for name in ("rlnDefocusU", "rlnDefocusV")]
    return SeriesCurves(
        series.name,
        series.nominal_tilt_deg[order],
        geometry.y_tilt_deg,
        geometry.shift_yx_angst,
        None if defocus[0] is None or defocus[1] is None else np.column_stack([defocus[0], defocus[1]]),
        _measured(alignment, ids, "rlnCtfFigureOfMerit"),
    )


def _measured(alignment: Alignment, tilt_ids: Sequence[str], column: str) -> FloatArray | None:
    """What the program that aligned has measured of images besides; None if it has not."""
    cells = alignment.details.get(STAR_COLUMNS, {}).get(column)
    return None if cells is None else np.array([float(cells.get(tilt_id, "nan")) for tilt_id in tilt_ids])
