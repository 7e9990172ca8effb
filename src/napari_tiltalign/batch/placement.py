"""Where the series of a run are aligned, and what they may use there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Literal

from napari_tiltalign.errors import BadInput
from napari_tiltalign.images.compute import gpu_count

DEVICES = ("auto", "cpu", "cuda")
_REMOTE = ("tcp://", "tls://", "ucx://", "ws://", "wss://")


@dataclass(frozen=True, slots=True)
class Slurm:
    """What to ask Slurm for; each job is one worker, which aligns one series after another.

    Attributes
    ----------
    queue, account
        Partition and account; empty for the cluster's defaults.
    walltime
        Time limit of a job: ``HH:MM:SS``.
    cores
        Cores of a job.
    memory_gb
        Memory of a job, GB.
    gpus
        GPUs of a job.
    jobs
        Most jobs at a time; there are never more than series left.
    extra
        Further directives for sbatch: ``--constraint=fast``.
    """

    queue: str = ""
    account: str = ""
    walltime: str = "12:00:00"
    cores: int = 8
    memory_gb: float = 32.0
    gpus: int = 0
    jobs: int = 8
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the work is done; only `too_large` can change a result, which then carries a flag.

    Attributes
    ----------
    scheduler
        ``local``: processes on this machine, or this one if there is a single series. ``serial``: this process, one
        series after another. ``slurm``: jobs of Slurm. ``tcp://...``: a Dask cluster that runs already.
    workers
        Number of series at a time; 0 to choose from cores, memory and GPUs.
    gpus
        GPUs to use, one worker for each; with the device ``cuda``, none stands for all there are.
    device
        ``auto``, ``cpu`` or ``cuda``.
    memory_gb
        Memory that may be used on this machine, GB; 0 for what it has.
    stall_minutes
        A series that reports no progress for so long is given up, as if its worker had died; 0 waits for ever.
    isolate
        Whether to use a process of its own even for a single series.
    too_large
        What becomes of a series that would take more memory than there is, or whose workers die: ``refuse`` it, or
        ``bin`` its images by 2, then 4.
    slurm
        What to ask Slurm for.

    Raises
    ------
    BadInput
        If that is no way to run.
    """

    scheduler: str = "local"
    workers: int = 0
    gpus: tuple[str, ...] = ()
    device: str = "auto"
    memory_gb: float = 0.0
    stall_minutes: float = 60.0
    isolate: bool = False
    too_large: Literal["refuse", "bin"] = "refuse"
    slurm: Slurm = field(default_factory=Slurm)

    def __post_init__(self) -> None:
        if self.scheduler not in ("local", "serial", "slurm") and not self.is_remote:
            raise BadInput(f"no scheduler {self.scheduler!r}; there are local, serial, slurm and tcp://HOST:PORT")
        if self.device not in DEVICES:
            raise BadInput(f"no device {self.device!r}; there are {', '.join(DEVICES)}")
        if self.gpus and self.device == "cpu":
            raise BadInput("--gpus says which GPUs to use, --device cpu to use none; give one of them")
        if self.gpus and self.scheduler != "local":
            raise BadInput("--gpus is for workers on this machine; ask Slurm with --slurm-gpus, and give a running "
                           "cluster its GPUs when it is started")  # fmt: skip
        if len(set(self.gpus)) != len(self.gpus):
            raise BadInput(f"--gpus {':'.join(self.gpus)} names a GPU twice; each gets one worker")

    @property
    def is_remote(self) -> bool:
        """Whether it is the address of a cluster."""
        return self.scheduler.startswith(_REMOTE)


def on_every_gpu(placement: Placement) -> Placement:
    """Give each GPU a worker where GPUs are demanded and none is named; all workers would go to the first one else."""
    if placement.device != "cuda" or placement.gpus or placement.scheduler != "local":
        return placement
    named = tuple(name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip())
    return replace(placement, gpus=named[: gpu_count()] or tuple(str(number) for number in range(gpu_count())))


def parse_gpus(text: str) -> tuple[str, ...]:
    """Return the GPUs of ``0:1:2``.

    Raises
    ------
    BadInput
        If one is neither a number nor the identity of a GPU.
    """
    gpus = tuple(text.split(":")) if text else ()
    for gpu in gpus:
        if not (gpu.isdecimal() or gpu.startswith(("GPU-", "MIG-"))):
            raise BadInput(f"--gpus {text}: {gpu!r} is no GPU; give their numbers with colons between: 0:1:2")
    return gpus
