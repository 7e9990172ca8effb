"""Eight series through Slurm, one broken, with a worker killed on the way; see scripts/test-slurm."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from simulated_batch import METHOD, contents, small_project

from napari_tiltalign.cli import main

SLURM = ("--scheduler", "slurm", "--slurm-cores", "1", "--slurm-memory-gb", "2", "--slurm-jobs", "2",
         "--slurm-walltime", "00:20:00")  # fmt: skip


def run(folder: Path) -> None:
    """Run the batch and compare; raises if anything is not as promised."""
    star = small_project(folder / "project", 8, n_broken=1)
    out = folder / "project" / "out"
    arguments = ["align", METHOD[0], str(star), "--output", str(out), *METHOD[1:]]
    program = "import sys; from napari_tiltalign.cli import main; sys.exit(main())"
    began = time.monotonic()
    batch = subprocess.Popen([sys.executable, "-c", program, *arguments, *SLURM])  # noqa: S603
    killed = kill_a_worker(batch, out)
    if batch.wait(timeout=900) != 2:
        raise SystemExit(f"exit code {batch.returncode} instead of 2: one series is broken")
    print(f"{time.monotonic() - began:.0f} s through Slurm, worker process {killed} was killed")
    through_slurm = contents(out.rename(folder / "through_slurm"))
    if main([*arguments, "--scheduler", "serial", "--quiet"]) != 2:
        raise SystemExit("the run in one process did not end as it should")
    here = contents(out)
    different = [name for name in here.keys() | through_slurm.keys() if here.get(name) != through_slurm.get(name)]
    if different:
        raise SystemExit(f"files differ from those of a run in one process: {different}")
    print(f"{len(here)} files, the same bytes as in one process")


def kill_a_worker(batch: subprocess.Popen[bytes], out: Path) -> int:
    """Kill a worker in the middle of the batch, with its nanny, as happens on a node that goes down."""
    while batch.poll() is None:
        time.sleep(0.05)
        if not any(out.glob("external/*/alignment.json")):
            continue
        for process in psutil.process_iter(["cmdline"]):
            if "distributed.cli.dask_worker" in (process.info["cmdline"] or []):
                with suppress(psutil.NoSuchProcess):
                    children = process.children(recursive=True)
                    process.kill()
                    for child in children:
                        with suppress(psutil.NoSuchProcess):
                            child.kill()
                    return process.pid
    raise SystemExit("the run ended before a worker was killed")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
