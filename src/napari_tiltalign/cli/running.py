"""What every command that runs over many series asks for: where the work is done, and what is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter, validators

if TYPE_CHECKING:
    from napari_tiltalign.batch import Placement

_GROUP = Group("Where it runs", sort_key=12)
_SLURM_GROUP = Group("Slurm", sort_key=13)
_Count = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=100_000))]
_AtLeastOne = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=100_000))]


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True)
class RunOptions:
    """Where the work is done. None of it changes a result, but for --too-large bin.

    Attributes
    ----------
    scheduler
        local: processes on this machine; serial: one series after another in this process; slurm: jobs of Slurm;
        tcp://HOST:PORT: a Dask cluster that runs already.
    workers
        Series at a time; 0 to choose from cores, memory and GPUs.
    device
        cuda insists on a GPU, which slab uses then; auto works on the CPU as long as that has not been measured.
    gpus
        GPUs to use, one worker for each: 0:1:2.
    memory_gb
        Memory that may be used on this machine, GB; 0 for what it has.
    too_large
        What becomes of a series that would take more memory than there is, or whose workers die: refuse it, or bin its
        images by 2, then 4; such a result carries the flag binned_for_memory.
    stall_minutes
        Give up a series that reports no progress for so many minutes; 0 waits for ever.
    """

    scheduler: str = "local"
    workers: _Count = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus: str = ""
    memory_gb: Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1e6))] = 0.0
    too_large: Literal["refuse", "bin"] = "refuse"
    stall_minutes: Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1e5))] = 60.0


@Parameter(name="*", group=_SLURM_GROUP)
@dataclass(frozen=True)
class SlurmOptions:
    """What to ask Slurm for; each job is one worker, which aligns one series after another.

    Attributes
    ----------
    slurm_queue
        Partition; the cluster's default without it.
    slurm_account
        Account; the cluster's default without it.
    slurm_walltime
        Time limit of a job, HH:MM:SS.
    slurm_cores
        Cores of a job.
    slurm_memory_gb
        Memory of a job, GB.
    slurm_gpus
        GPUs of a job.
    slurm_jobs
        Most jobs at a time; there are never more than series left.
    slurm_extra
        Further directives for sbatch, each one argument: --slurm-extra=--constraint=fast.
    """

    slurm_queue: str = ""
    slurm_account: str = ""
    slurm_walltime: str = "12:00:00"
    slurm_cores: _AtLeastOne = 8
    slurm_memory_gb: Annotated[float, Parameter(validator=validators.Number(gte=0.1, lte=1e5))] = 32.0
    slurm_gpus: _Count = 0
    slurm_jobs: _AtLeastOne = 8
    slurm_extra: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True, negative="")] = ()


def placement_of(run: RunOptions, slurm: SlurmOptions, *, isolate: bool = False) -> Placement:
    """Return where the work is to be done, from the command line.

    Raises
    ------
    BadInput
        If the flags do not go together.
    """
    from napari_tiltalign.batch.placement import Placement, Slurm, parse_gpus

    return Placement(
        scheduler=run.scheduler,
        workers=run.workers,
        gpus=parse_gpus(run.gpus),
        device=run.device,
        memory_gb=run.memory_gb,
        stall_minutes=run.stall_minutes,
        too_large=run.too_large,
        isolate=isolate,
        slurm=Slurm(
            queue=slurm.slurm_queue,
            account=slurm.slurm_account,
            walltime=slurm.slurm_walltime,
            cores=slurm.slurm_cores,
            memory_gb=slurm.slurm_memory_gb,
            gpus=slurm.slurm_gpus,
            jobs=slurm.slurm_jobs,
            extra=slurm.slurm_extra,
        ),
    )
