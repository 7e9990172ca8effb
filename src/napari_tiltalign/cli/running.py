"""What every command that runs over many series asks for: where the work is done, and what is shown."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter, validators

if TYPE_CHECKING:
    from napari_tiltalign.batch import Placement, Summary
    from napari_tiltalign.cli.watching import ConsoleWatcher, JsonWatcher

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
"""Folder for what a command writes."""

_GROUP = Group("Where it runs", sort_key=12)
_SLURM_GROUP = Group("Slurm", sort_key=13)
_SHOWN_GROUP = Group("What is shown", sort_key=15)
_SWITCH = Parameter(negative="", show_default=False)
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
        cuda insists on a GPU for methods that can use one; auto works on the CPU as long as that has not been measured.
    gpus
        GPUs to use, one worker for each: 0:1:2. With --device cuda, several series are spread over all without it.
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


@Parameter(name="*", group=_SHOWN_GROUP)
@dataclass(frozen=True)
class ShownOptions:
    """What is shown.

    Attributes
    ----------
    quiet
        Show only what goes wrong.
    json
        Print everything that happens as JSON, one object on a line.
    report
        Judge the alignments and write report.html, which takes about half a minute for each series; align does that in
        the end, watch after every series, with pictures in the end only.
    """

    quiet: Annotated[bool, _SWITCH] = False
    json: Annotated[bool, _SWITCH] = False
    report: Annotated[bool, _SWITCH] = False


@Parameter(name="*")
@dataclass(frozen=True)
class BatchOptions:
    """What every run over many series is asked for.

    Attributes
    ----------
    output
        Folder for the results; made if need be.
    run
        Where it runs.
    slurm
        What to ask Slurm for.
    shown
        What is shown.
    """

    output: Output
    run: RunOptions = RunOptions()
    slurm: SlurmOptions = SlurmOptions()
    shown: ShownOptions = ShownOptions()

    def placement(self, *, isolate: bool = False) -> Placement:
        """Where the work is to be done; see `placement_of`."""
        return placement_of(self.run, self.slurm, isolate=isolate)

    def watcher(self) -> ConsoleWatcher | JsonWatcher:
        """What shows how the run goes; see `watching.new_watcher`."""
        from napari_tiltalign.cli.watching import new_watcher

        return new_watcher(quiet=self.shown.quiet, as_json=self.shown.json)

    def tell(self, summary: Summary, watcher: ConsoleWatcher | JsonWatcher) -> None:
        """Say what a run did, and write the report if that is asked for."""
        from napari_tiltalign.cli.watching import JsonWatcher, summary_lines

        told = not (self.shown.json or self.shown.quiet)
        if isinstance(watcher, JsonWatcher):
            watcher.finished(summary)
        elif told:
            print(*summary_lines(summary), sep="\n")
        if self.shown.report and summary.aligned:
            from napari_tiltalign.cli.report import report

            report(self.output, quiet=not told, told=told)


def bars_of(watcher: ConsoleWatcher | JsonWatcher) -> AbstractContextManager[object]:
    """Show the bars of a watcher, if it has some, as long as the context lasts."""
    from napari_tiltalign.cli.watching import JsonWatcher

    return nullcontext() if isinstance(watcher, JsonWatcher) else watcher
