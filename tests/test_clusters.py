"""What clusters are asked for, and that settings of TLS reach them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster
from distributed.security import Security

from fake_cupy import FakeCupy
from fake_method import Nudge, NudgeMethod
from napari_tiltalign.batch import Existing, Placement, Plan, Watcher, align_dataset, plan_dataset
from napari_tiltalign.batch import clusters as module
from napari_tiltalign.batch.placement import on_every_gpu
from napari_tiltalign.batch.plan import make_plan
from napari_tiltalign.batch.run import make_request
from napari_tiltalign.cli.running import RunOptions, SlurmOptions, placement_of
from napari_tiltalign.errors import BadInput, ProgramMissing
from napari_tiltalign.io import read

FAKE_SBATCH = """#!/bin/sh
[ "$1" = --test-only ] || exit 9
if grep -q partition=nowhere "$2"; then
    echo 'allocation failure: Invalid partition name specified' >&2
    exit 1
fi
"""


class FakeSlurm:
    """Takes what `dask_jobqueue.slurm.SLURMCluster` takes."""

    def __init__(self, **asked: Any) -> None:
        self.asked = asked
        self.adapted: dict[str, Any] = {}

    def close(self, timeout: float) -> None:
        """Nothing was started."""

    def job_script(self) -> str:
        """Return a script as Slurm takes it."""
        return f"#!/bin/bash\n#SBATCH --partition={self.asked['queue']}\n"

    def adapt(self, **limits: Any) -> None:
        """Remember how many jobs may run."""
        self.adapted = limits


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A machine that looks as if it were of a cluster with Slurm, which has no queue called nowhere."""
    programs = tmp_path_factory.mktemp("bin")
    (programs / "sbatch").write_text(FAKE_SBATCH, encoding="utf-8")
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    package: Any = types.ModuleType("dask_jobqueue.slurm")
    package.SLURMCluster = FakeSlurm
    monkeypatch.setitem(sys.modules, "dask_jobqueue", types.ModuleType("dask_jobqueue"))
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", package)


def planned(star: Path, placement: Placement) -> Plan:
    return plan_dataset(read(star), Nudge(), star.parent / "out", placement=placement)


def test_what_slurm_is_asked_for(slurm: None, nudge: NudgeMethod, write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01", "TS_02", "TS_03")
    flags = SlurmOptions(
        slurm_queue="gpu",
        slurm_account="cryo",
        slurm_walltime="01:30:00",
        slurm_cores=6,
        slurm_memory_gb=24.5,
        slurm_gpus=2,
        slurm_jobs=50,
        slurm_extra=("--constraint=fast",),
    )
    placement = placement_of(RunOptions(scheduler="slurm"), flags)
    plan = planned(star, placement)
    assert (plan.workers, plan.threads, plan.memory_limit_bytes) == (3, 6, 24.5e9)  # never more jobs than series
    cluster: Any = module._slurm_cluster(placement.slurm, star.parent, plan.workers)
    asked = cluster.asked
    assert (asked["queue"], asked["account"], asked["walltime"]) == ("gpu", "cryo", "01:30:00")
    assert (asked["cores"], asked["memory"], asked["processes"]) == (6, "24.5GB", 1)
    assert asked["job_extra_directives"] == ["--gres=gpu:2", "--constraint=fast"]
    assert asked["worker_extra_args"] == ["--nthreads", "1"]
    assert "export NUMBA_NUM_THREADS=6" in asked["job_script_prologue"]
    assert asked["security"] is True  # keys that last as long as the run
    assert (cluster.adapted["minimum_jobs"], cluster.adapted["maximum_jobs"]) == (0, 3)


def test_what_slurm_is_not_asked_for(slurm: None, tmp_path: Path) -> None:
    cluster: Any = module._slurm_cluster(placement_of(RunOptions(), SlurmOptions()).slurm, tmp_path, 8)
    assert (cluster.asked["queue"], cluster.asked["account"]) == (None, None)
    assert cluster.asked["job_extra_directives"] == []


def test_jobs_that_slurm_would_never_run_are_refused_at_once(slurm: None, tmp_path: Path) -> None:
    asked = placement_of(RunOptions(), SlurmOptions(slurm_queue="nowhere")).slurm
    with pytest.raises(BadInput, match=r"Invalid partition name specified\); change .*--slurm-queue"):
        module._slurm_cluster(asked, tmp_path, 8)


def test_where_there_is_no_slurm(nudge: NudgeMethod, write_project: Callable[..., Path], monkeypatch: Any) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    star = write_project("TS_01", "TS_02")
    with pytest.raises(ProgramMissing, match="sbatch was not found"):
        align_dataset(read(star), Nudge(), star.parent / "out", placement=Placement("slurm"))


@pytest.mark.parametrize("has_bokeh", [True, False])
def test_the_address_of_the_dashboard_is_told(monkeypatch: pytest.MonkeyPatch, has_bokeh: bool) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: object() if has_bokeh else None)
    scheduler = types.SimpleNamespace(address="tcp://127.0.0.1:8786")
    client: Any = types.SimpleNamespace(scheduler=scheduler, dashboard_link="http://127.0.0.1:8787/status")
    assert module._notices(client) == (["dashboard: http://127.0.0.1:8787/status"] if has_bokeh else [])


@pytest.mark.parametrize(
    ("placement", "problem"),
    [
        ({"scheduler": "pbs"}, "there are local, serial, slurm and tcp://HOST:PORT"),
        ({"gpus": ("0",), "device": "cpu"}, "give one of them"),
        ({"gpus": ("0",), "scheduler": "slurm"}, "--slurm-gpus"),
        ({"gpus": ("0",), "scheduler": "tcp://127.0.0.1:8786"}, "give a running cluster its GPUs"),
        ({"gpus": ("1", "1")}, "names a GPU twice"),
    ],
)
def test_placements_that_make_no_sense(placement: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        Placement(**placement)


@pytest.mark.parametrize(("gpus", "workers"), [("0:1:2", 3), ("0:1:2:3:4:5", 4), ("7", 1)])
def test_gpus_get_one_worker_each(
    nudge: NudgeMethod, write_project: Callable[..., Path], gpus: str, workers: int
) -> None:
    star = write_project("TS_01", "TS_02", "TS_03", "TS_04")
    placement = placement_of(RunOptions(gpus=gpus, memory_gb=64), SlurmOptions())
    assert planned(star, placement).workers == workers


@pytest.mark.parametrize(
    ("visible", "count", "series", "expected"),
    [("", 3, 4, ("0", "1", "2")), ("5,GPU-7", 2, 4, ("5", "GPU-7")), ("", 3, 1, ()), ("", 1, 4, ("0",))],
)
def test_without_a_word_every_gpu_gets_one_worker(
    nudge: NudgeMethod, write_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, fake_cupy: FakeCupy,
    visible: str, count: int, series: int, expected: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(fake_cupy.cuda.runtime, "getDeviceCount", lambda: count)
    dataset = read(write_project(*(f"TS_{k}" for k in range(series))))
    placement = placement_of(RunOptions(device="cuda", memory_gb=64), SlurmOptions())
    request = make_request(dataset, Nudge(), Path("out"), (), {}, Existing.RESUME, None, placement)
    assert request.placement.gpus == expected
    assert make_plan(request).workers == max(1, len(expected))
    serial = placement_of(RunOptions(device="cuda", scheduler="serial"), SlurmOptions())
    assert on_every_gpu(serial).gpus == ()


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """Settings of Dask for TLS, with a key of its own."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not here, which makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    asked = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=dask", "-keyout", str(key)]
    subprocess.run([openssl, *asked, "-out", str(certificate)], check=True, capture_output=True)
    names = {f"distributed.comm.tls.{who}.key": str(key) for who in ("scheduler", "worker", "client")}
    names |= {f"distributed.comm.tls.{who}.cert": str(certificate) for who in ("scheduler", "worker", "client")}
    return {"distributed.comm.tls.ca-file": str(certificate), **names}


@pytest.mark.slow
def test_row_83_certificates_of_dasks_configuration_are_used(
    write_project: Callable[..., Path], installed_nudge: Path, certificates: dict[str, str]
) -> None:
    star = write_project("TS_01", "TS_02")
    said: list[str] = []

    class Notes(Watcher):
        def notice(self, message: str) -> None:
            said.append(message)

    with dask.config.set(certificates):
        cluster = LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=1, threads_per_worker=1, protocol="tls://", security=Security(), dashboard_address="127.0.0.1:0"
        )
    with cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with dask.config.set(certificates):
            summary = align_dataset(
                read(star), Nudge(), star.parent / "out", placement=Placement(address), watcher=Notes()
            )
            with Client(address, security=Security()) as client:  # type: ignore[no-untyped-call]
                client.shutdown()
        assert [outcome.name for outcome in summary.aligned] == ["TS_01", "TS_02"]
        assert said == []  # nothing to be warned of
    assert len(installed_nudge.read_text().splitlines()) == 2


@pytest.mark.slow
def test_row_83_without_the_certificates_nothing_is_run(
    nudge: NudgeMethod, write_project: Callable[..., Path], certificates: dict[str, str]
) -> None:
    star = write_project("TS_01", "TS_02")
    with dask.config.set(certificates):
        cluster = LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=0, protocol="tls://", security=Security(), dashboard_address="127.0.0.1:0"
        )
    with cluster, pytest.raises((OSError, TypeError)):
        align_dataset(read(star), Nudge(), star.parent / "out", placement=Placement(cluster.scheduler_address))


def test_a_scheduler_that_does_not_answer_is_told_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*arguments: object, **options: object) -> None:
        raise OSError("timed out")

    monkeypatch.setattr("distributed.Client", nobody)
    with pytest.raises(ConnectionError) as caught, module._connected("tcp://far:1"):
        pass
    said = "no Dask scheduler answers at tcp://far:1 (timed out); start it (dask scheduler), or correct the address"
    assert str(caught.value).startswith(said)
