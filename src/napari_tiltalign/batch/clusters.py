"""Dask clusters to align series on: processes of this machine, jobs of Slurm, or a cluster that runs already."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from napari_tiltalign.batch.placement import Placement, Slurm
from napari_tiltalign.batch.plan import Plan
from napari_tiltalign.errors import BadInput, ProgramMissing

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

LOOPBACK = "127.0.0.1"
CONFIG = {
    # a series that is too much for its worker ends that worker only, and nothing is written to disk to make room
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.comm.timeouts.connect": "10s",
    # a worker that is slow to start again, on a busy machine, is not given up; see `Crew.heal`
    "distributed.deploy.lost-worker-timeout": "2 minutes",
    "distributed.admin.low-level-log-length": 100,
    "logging": {"distributed": "critical", "distributed.worker": "critical", "distributed.nanny": "critical"},
}
_CLOSE_S = 3.0
_ANSWER_S = 120.0
"""How long Slurm may take to answer."""
_STARTS = 3
"""How often the workers of this machine are started before that is given up."""


@dataclass(slots=True)
class Crew:
    """Workers that can be given jobs.

    Attributes
    ----------
    client
        The connection to them.
    most
        How many series may be on their way at a time.
    is_own
        Whether the workers were started for this run.
    processes
        The workers on this machine, if that is where they are.
    """

    client: Client
    most: int
    is_own: bool
    processes: SpecCluster | None = None

    def n_places(self) -> int:
        """Return how many series can be given to the workers at a time, as many as there are threads of workers."""
        if self.is_own:
            return self.most
        threads: dict[str, int] = self.client.nthreads()
        return min(self.most, max(1, sum(threads.values())))

    def addresses(self) -> list[str]:
        """Addresses of the workers that are there."""
        return list(self.client.nthreads())

    def heal(self) -> None:
        """Start workers of this machine again that Dask has given up: one that dies while it starts, or starts slowly.

        Without this a run would wait for ever once all of them are gone.
        """
        if self.processes is None:
            return
        for name, nanny in list(self.processes.workers.items()):
            if nanny.status.name in ("closed", "failed"):
                self.processes.workers.pop(name, None)
        self.processes.scale(self.most)  # starts what is missing, and leaves alone what is there

    def check(self) -> None:
        """Make sure that the scheduler is still there.

        Raises
        ------
        ConnectionError
            If it is not.
        """
        if self.client.status in ("closed", "closing", "connecting"):
            raise ConnectionError("the connection to the Dask scheduler was lost; what is done is kept, run the same "
                                  "command again")  # fmt: skip


def host_of(address: str) -> str:
    """Host of a worker's address."""
    return urlsplit(address).hostname or address


@contextmanager
def open_crew(placement: Placement, plan: Plan, folder: Path) -> Iterator[tuple[Crew, list[str]]]:
    """Start workers, or connect to them, and let them go at the end.

    Parameters
    ----------
    placement
        Where they should be.
    plan
        How many, and with how many cores.
    folder
        Output folder; logs and certificates of a cluster's workers go to ``cluster`` in it.

    Yields
    ------
    Crew, list of str
        The workers, and what a person should know about them.

    Raises
    ------
    ProgramMissing
        If Slurm or the package for it is not installed.
    BadInput
        If Slurm would not take the jobs.
    OSError
        If no scheduler answers at the address given, or workers of this machine cannot be started.
    """
    import dask

    with dask.config.set(CONFIG), _silence():
        if placement.is_remote:
            with _connected(placement.scheduler) as client:
                yield Crew(client, plan.workers, False), _notices(client)
        else:
            if placement.scheduler == "slurm":
                cluster = _slurm_cluster(placement.slurm, folder, plan.workers)
            else:
                cluster = _local_cluster(placement, plan)
            with _closing(cluster), _connected(cluster) as client:
                processes = None if placement.scheduler == "slurm" else cluster
                yield Crew(client, plan.workers, True, processes), _notices(client)


def _local_cluster(placement: Placement, plan: Plan) -> SpecCluster:
    """One process for each series that is aligned at a time, on the loopback interface, each with its GPU."""
    from distributed import Nanny, Scheduler, SpecCluster

    def worker(number: int) -> dict[str, Any]:
        environment = {"NUMBA_NUM_THREADS": str(max(1, plan.threads))}
        if placement.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = placement.gpus[number]
        options = {
            "host": LOOPBACK,
            "nthreads": 1,
            "memory_limit": int(plan.memory_limit_bytes / plan.workers) or 0,
            "env": environment,
            "silence_logs": logging.CRITICAL,
            "dashboard": False,
            "local_directory": tempfile.gettempdir(),
            "preload": ["napari_tiltalign.batch.worker_start"],
        }
        return {"cls": Nanny, "options": options}

    scheduler = {
        "cls": Scheduler,
        "options": {"host": LOOPBACK, "port": 0, "allowed_failures": 0, **_dashboard(f"{LOOPBACK}:0")},
    }
    workers = {number: worker(number) for number in range(plan.workers)}
    for _ in range(_STARTS):
        try:
            return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL)
        except RuntimeError as error:  # a worker that was killed before it was ready; Dask has closed the rest
            problem = error.__cause__ or error
    raise ChildProcessError(f"workers on this machine die before they are ready ({problem}); use fewer (--workers), or "
                            "align in the program itself (--scheduler serial)")  # fmt: skip


def _slurm_cluster(slurm: Slurm, folder: Path, n_jobs: int) -> SpecCluster:
    """Jobs of Slurm; as many as there are series to do, within the limit. Talk is encrypted."""
    if shutil.which("sbatch") is None:
        raise ProgramMissing("sbatch was not found, so no job can be given to Slurm; run this on a machine of the "
                             "cluster, or use --scheduler local")  # fmt: skip
    try:
        from dask_jobqueue.slurm import SLURMCluster  # the package itself imports what warns
    except ImportError as error:
        raise ProgramMissing("--scheduler slurm needs the package dask-jobqueue: pip install "
                             "'napari-tiltalign[slurm]'") from error  # fmt: skip
    logs = (folder / "cluster").absolute()
    logs.mkdir(parents=True, exist_ok=True)
    gpus = [f"--gres=gpu:{slurm.gpus}"] if slurm.gpus else []
    cluster: Any = SLURMCluster(
        queue=slurm.queue or None,
        account=slurm.account or None,
        walltime=slurm.walltime,
        cores=slurm.cores,
        processes=1,
        memory=f"{slurm.memory_gb:g}GB",
        job_name="tiltalign",
        job_extra_directives=[*gpus, *slurm.extra],
        job_script_prologue=[
            *(f"export DASK_DISTRIBUTED__WORKER__MEMORY__{name}=False" for name in ("TARGET", "SPILL", "PAUSE")),
            f"export NUMBA_NUM_THREADS={slurm.cores}",
        ],
        worker_extra_args=["--nthreads", "1"],  # one series at a time, whatever the cores
        python=sys.executable,
        log_directory=str(logs),
        shared_temp_directory=str(logs),
        security=_given_security() or True,
        scheduler_options={"allowed_failures": 0, **_dashboard(f"{LOOPBACK}:0")},
        silence_logs=logging.CRITICAL,
    )
    try:
        _check_that_slurm_takes(cluster.job_script())
    except BaseException:
        cluster.close(timeout=_CLOSE_S)
        raise
    # a target of no time at all: as many jobs as there are series on their way
    cluster.adapt(minimum_jobs=0, maximum_jobs=n_jobs, target_duration="1ms", interval="1s", wait_count=10)
    started: SpecCluster = cluster
    return started


def _check_that_slurm_takes(script: str) -> None:
    """Ask Slurm whether it would take a job, without giving it one: Dask waits for ever for workers that it refuses.

    Raises
    ------
    BadInput
        If it would not: no such queue or account, more memory or time than there is.
    ProgramMissing
        If it does not answer.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
        file.write(script)
        file.flush()
        try:
            told = subprocess.run(  # noqa: S603 (no shell, and the file is ours)
                ["sbatch", "--test-only", file.name],  # noqa: S607 (Slurm is where the user's PATH says)
                capture_output=True, text=True, errors="replace", timeout=_ANSWER_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ProgramMissing(f"Slurm has not answered sbatch for {_ANSWER_S:g} s; see whether sinfo does, and "
                                 "give the command again") from error  # fmt: skip
    if told.returncode:
        said = " ".join(told.stderr.split()) or f"exit code {told.returncode}"
        raise BadInput(f"Slurm takes no such job ({said}); change what is asked of it (--slurm-queue, "
                            "--slurm-account, --slurm-walltime, --slurm-memory-gb ...)")  # fmt: skip


def _given_security() -> Any:
    """Certificates of Dask's own configuration; None if there are none."""
    import dask
    from distributed.security import Security

    has_certificates = dask.config.get("distributed.comm.tls.ca-file", None)
    return Security() if has_certificates else None


def _dashboard(address: str) -> dict[str, Any]:
    has_dashboard = find_spec("bokeh") is not None
    return {"dashboard": has_dashboard, "dashboard_address": address if has_dashboard else None}


def _notices(client: Client) -> list[str]:
    link = client.dashboard_link if find_spec("bokeh") is not None else ""
    notices = [f"dashboard: {link}"] if link else []
    address = (client.scheduler.address if client.scheduler else None) or ""
    if host_of(address) not in (LOOPBACK, "localhost", "::1") and not address.startswith("tls"):
        notices.append(f"the Dask scheduler at {address} is not encrypted: whoever reaches that port can run programs "
                       "as you; use it in a network that you trust, or configure TLS for Dask")  # fmt: skip
    return notices


@contextmanager
def _connected(target: SpecCluster | str) -> Iterator[Client]:
    from distributed import Client

    security = _given_security() if isinstance(target, str) and target.startswith("tls") else None
    try:
        client = Client(target, security=security, set_as_default=False, timeout="15s")
    except OSError as error:
        if not isinstance(target, str):
            raise
        problem = f"no Dask scheduler answers at {target} ({error})"
        raise ConnectionError(f"{problem}; start it (dask scheduler), or correct the address (--scheduler)") from error
    try:
        yield client
    finally:
        with suppress(Exception):  # nothing more can be done about it
            client.close(timeout=1)


@contextmanager
def _closing(cluster: SpecCluster) -> Iterator[None]:
    """Close a cluster at the end. Its workers are killed first: nothing that counts is in them, and some may hang."""
    try:
        yield
    finally:
        for nanny in cluster.workers.values():
            nanny.auto_restart = False
            with suppress(AttributeError):  # one that has no process just now, or jobs of Slurm
                nanny.process.process._process.kill()  # noqa: SLF001 (Dask's own handle has no kill)
        with suppress(Exception):
            cluster.close(timeout=_CLOSE_S)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Dask's own messages, which are about its workings, from the terminal."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"distributed|dask_jobqueue|tornado|asyncio")
            yield
    finally:
        logger.setLevel(before)
