"""The flags of ``relion_align_tiltseries`` (RELION 5), those of an external job of RELION, and a few of our own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter, validators

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.relion_job import FAILURE, JOB_TYPE, JobMarkers, RelionJob, read_job_star

_RELION_GROUP = Group("As relion_align_tiltseries", sort_key=5)
_EXTERNAL_GROUP = Group("As an external job of RELION", sort_key=6)
_OWN_GROUP = Group("What does the work", sort_key=7)
_SWITCH = Parameter(negative="", show_default=False)
_Switch = Annotated[bool, _SWITCH]
_Words = Parameter(allow_leading_hyphen=True)


def _as_it_is(name: str) -> str:
    return name


@Parameter(name="*", name_transform=_as_it_is, group=_RELION_GROUP)
@dataclass(frozen=True)
class RelionFlags:
    """The flags of RELION's own program, with its defaults.

    Attributes
    ----------
    i
        Global STAR file of the tilt series.
    o
        Folder of the job.
    tomogram_thickness
        Thickness of the tomogram, nm; a column rlnTomoTomogramThickness of the input wins.
    only_do_unfinished
        Keep what is done in exactly this way and intact; do the rest.
    do_at_most
        Align at most so many series that are not done yet; -1 for all.
    batchtomo_exe
        batchruntomo of IMOD; used with --use_programs.
    adoc_template
        File of directives for batchruntomo instead of the built-in ones; used with --use_programs.
    imod_fiducials
        Align by gold beads.
    fiducial_diameter
        Diameter of the gold beads, nm.
    imod_patchtrack
        Align by tracking patches.
    patch_overlap
        Overlap of the patches, percent.
    patch_size
        Side of the patches, nm.
    aretomo2
        Align by matching projections.
    aretomo_exe
        AreTomo; used with --use_programs.
    aretomo_tiltcorrect
        Correct an offset of the tilts.
    aretomo_tiltcorrect_angle
        The offset, degrees; above 180 to have it measured.
    aretomo_ctf
        Let AreTomo2 estimate the CTF; only with --use_programs.
    aretomo_phaseshift
        Let AreTomo2 estimate the phase shift too; only with --aretomo_ctf.
    gpu
        GPUs for AreTomo: 0:1 for one series on each, 0,1 for both to work on one.
    other_wrapper_args
        More arguments for IMOD or AreTomo; used with --use_programs.
    pipeline_control
        Folder for RELION's marker files.
    """

    i: str = ""
    o: str = "AlignTiltSeries/"
    tomogram_thickness: Annotated[float, Parameter(validator=validators.Number(gte=10, lte=10000))] = 300.0
    only_do_unfinished: _Switch = False
    do_at_most: int = -1
    batchtomo_exe: str = ""
    adoc_template: str = ""
    imod_fiducials: _Switch = False
    fiducial_diameter: float = 10.0
    imod_patchtrack: _Switch = False
    patch_overlap: float = 10.0
    patch_size: float = 100.0
    aretomo2: _Switch = False
    aretomo_exe: str = ""
    aretomo_tiltcorrect: _Switch = False
    aretomo_tiltcorrect_angle: float = 999.0
    aretomo_ctf: _Switch = False
    aretomo_phaseshift: _Switch = False
    gpu: str = ""
    other_wrapper_args: Annotated[str, _Words] = ""
    pipeline_control: str = ""


@Parameter(name="*", name_transform=_as_it_is, group=_EXTERNAL_GROUP)
@dataclass(frozen=True)
class ExternalFlags:
    """What RELION gives to an external job besides --o and --pipeline_control.

    Attributes
    ----------
    in_tiltseries
        The same as --i, for a free parameter of the job.
    in_mics
        The same as --i: RELION's field for micrographs takes any STAR file.
    in_movies
        The same as --i.
    j
        Series at a time.
    """

    in_tiltseries: str = ""
    in_mics: str = ""
    in_movies: str = ""
    j: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1000))] = 1


@Parameter(name="*", name_transform=_as_it_is, group=_OWN_GROUP)
@dataclass(frozen=True)
class OwnFlags:
    """What RELION's own program does not have.

    Attributes
    ----------
    use_programs
        Run IMOD or AreTomo themselves; without it, the methods of this package do the same kind of alignment.
    method
        Align by this method of this package, whatever else is chosen.
    set
        Option of the method, NAME=VALUE; may be given several times.
    conversion
        exact keeps all that IMOD or AreTomo found; relion makes of it what RELION does.
    job
        job.star of an alignment job of RELION, or its folder: what is chosen there holds where no flag is given.
    """

    use_programs: _Switch = False
    method: str = ""
    set: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    conversion: str = "relion"
    job: Path | None = None


def input_of(flags: RelionFlags, external: ExternalFlags) -> Path:
    """Return the input, whichever flag it came with.

    Raises
    ------
    BadInput
        If there is none, or two that differ.
    """
    given = {path for path in (flags.i, external.in_tiltseries, external.in_mics, external.in_movies) if path}
    if not given:
        raise BadInput("give the global STAR file of the tilt series (--i, or --in_tiltseries in an external job)")
    if len(given) > 1:
        raise BadInput(f"several inputs are given: {', '.join(sorted(given))}; give one")
    return Path(given.pop())


_OF_JOB: Mapping[str, tuple[str, ...]] = {
    "i": ("in_tiltseries",),
    "tomogram_thickness": ("tomogram_thickness", "aretomo_thickness"),
    "batchtomo_exe": ("fn_batchtomo_exe",),
    "imod_fiducials": ("do_imod_fiducials",),
    "fiducial_diameter": ("fiducial_diameter",),
    "imod_patchtrack": ("do_imod_patchtrack",),
    "patch_overlap": ("patch_overlap",),
    "patch_size": ("patch_size",),
    "aretomo2": ("do_aretomo2", "do_aretomo"),
    "aretomo_exe": ("fn_aretomo_exe",),
    "aretomo_tiltcorrect": ("do_aretomo_tiltcorrect", "aretomo_tiltcorrect"),
    "aretomo_tiltcorrect_angle": ("aretomo_tiltcorrect_angle",),
    "aretomo_ctf": ("do_aretomo_ctf",),
    "aretomo_phaseshift": ("do_aretomo_phaseshift",),
    "gpu": ("gpu_ids",),
    "other_wrapper_args": ("other_aretomo_args",),
}
"""Flag to the names that job.star has had for it, in RELION 5 and its beta versions."""


def flags_of_job(path: Path) -> dict[str, Any]:
    """Return the flags that a job of RELION was run with, except for paths of programs, which a file must not give.

    Raises
    ------
    BadInput
        If it is no alignment job, or a value is no number where there should be one.
    """
    job = read_job_star(path)
    if not job.job_type.startswith(JOB_TYPE):
        raise BadInput(f"{path} is a job of the type {job.job_type}, not {JOB_TYPE}")
    defaults = RelionFlags()
    found: dict[str, Any] = {}
    for flag, names in _OF_JOB.items():
        name = next((name for name in names if name in job.options), None)
        if name is not None and not flag.endswith("_exe"):
            found[flag] = _converted(job, name, type(getattr(defaults, flag)), path)
    return found


def _converted(job: RelionJob, name: str, kind: type, path: Path) -> Any:
    if kind is bool:
        return job.is_yes(name)
    if kind is str:
        return job.options[name]
    try:
        return kind(job.options[name])
    except ValueError:
        raise BadInput(f"{path}: {name} is {job.options[name]!r}, which is no number") from None


def tell_relion_of_wrong_usage(arguments: Sequence[str]) -> None:
    """Mark a job as failed whose flags could not be understood: RELION would wait for it for ever."""
    for flag, value in itertools.pairwise(arguments):
        if flag == "--pipeline_control":
            markers = JobMarkers(Path(value))
            markers.begin()
            markers.end(FAILURE)


def mpi_rank_and_size() -> tuple[int, int]:
    """Which of how many processes of an ``mpirun`` this is; (0, 1) without one.

    RELION's window starts its MPI program for more than one process. Every process would do all of the work, so only
    the first does, and as many series at a time.
    """
    for rank, size in (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMI_RANK", "PMI_SIZE"),
        ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ):
        if os.environ.get(rank, "").isdecimal() and os.environ.get(size, "").isdecimal():
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1
