"""The agreement between RELION and the program of one of its jobs: ``job.star``, output nodes and marker files.

A job is a folder of a project, ``AlignTiltSeries/job007/``. RELION writes what the user chose into ``job.star`` and
calls a program; that tells by an empty file how it ended, and by a table what it has made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.files import write_atomic
from napari_tiltalign.io.star import read_star, write_star
from napari_tiltalign.model import Table

SUCCESS, FAILURE, ABORTED = "RELION_JOB_EXIT_SUCCESS", "RELION_JOB_EXIT_FAILURE", "RELION_JOB_EXIT_ABORTED"
ABORT_NOW = "RELION_JOB_ABORT_NOW"
OUTPUT_NODES = "RELION_OUTPUT_NODES.star"
ALIGNED_NODE = "TomogramGroupMetadata.star.relion.tomo.aligntiltseries"
LOGFILE_NODE = "LogFile.pdf.relion.tomo.aligntiltseries"
JOB_TYPE = "relion.aligntiltseries"


@dataclass(frozen=True, slots=True)
class JobMarkers:
    """The empty files by which RELION and a running job talk.

    Attributes
    ----------
    folder
        Folder of the job; None if nobody listens.
    """

    folder: Path | None

    def begin(self) -> None:
        """Remove what an earlier run of the job has left, as RELION's programs do.

        Raises
        ------
        OSError
            If the folder cannot be written to.
        """
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in (SUCCESS, FAILURE, ABORTED):
                (self.folder / name).unlink(missing_ok=True)

    def abort_is_asked(self) -> bool:
        """Whether RELION's user wants the job to stop."""
        return self.folder is not None and (self.folder / ABORT_NOW).exists()

    def end(self, marker: str) -> None:
        """Say how the job ended: one of `SUCCESS`, `FAILURE` and `ABORTED`.

        Raises
        ------
        OSError
            If the folder cannot be written to.
        """
        if self.folder is not None:
            if marker == ABORTED:  # the wish is fulfilled and must not stop the next run
                (self.folder / ABORT_NOW).unlink(missing_ok=True)
            write_atomic(self.folder / marker, "")


def write_output_nodes(folder: Path, nodes: Mapping[str, str]) -> None:
    """Tell RELION what a job has made; it reads this of external jobs.

    Parameters
    ----------
    folder
        Folder of the job.
    nodes
        Path relative to the project to the type of the file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    rows = [{"rlnPipeLineNodeName": path, "rlnPipeLineNodeTypeLabel": kind} for path, kind in nodes.items()]
    write_star(folder / OUTPUT_NODES, {"output_nodes": Table.from_rows(rows)})


@dataclass(frozen=True, slots=True)
class RelionJob:
    """A ``job.star``.

    Attributes
    ----------
    job_type
        Such as ``relion.aligntiltseries``.
    options
        What the user chose, as text; names that this program does not know are kept.
    """

    job_type: str
    options: Mapping[str, str]

    def is_yes(self, name: str) -> bool:
        """Whether a switch is on; one that is not there is off."""
        return self.options.get(name, "").strip().lower() in ("yes", "true", "1")


def read_job_star(path: str | os.PathLike[str]) -> RelionJob:
    """Read what was chosen in RELION's window for a job.

    Parameters
    ----------
    path
        The ``job.star``, or the folder of the job.

    Raises
    ------
    BadInput
        If it cannot be read or is no job.
    """
    where = Path(path)
    where = where / "job.star" if where.is_dir() else where
    blocks = read_star(where)
    try:
        job_type = blocks["job"].columns["rlnJobTypeLabel"][0]
        values = blocks["joboptions_values"].columns
        options = dict(zip(values["rlnJobOptionVariable"], values["rlnJobOptionValue"], strict=True))
    except (KeyError, IndexError) as error:
        raise BadInput(f"{where} is not the job.star of a RELION job: {error} is missing") from error
    return RelionJob(job_type, options)
