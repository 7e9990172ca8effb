"""How fast many small series go, and whether memory stays flat; see scripts/many-series."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from simulated_batch import METHOD, contents, small_project

from napari_tiltalign.io.star import read_star

PROGRAM = (sys.executable, "-c", "import sys; from napari_tiltalign.cli import main; sys.exit(main())")
_SAMPLE_EVERY_S = 0.5
_MB = 1e6


@dataclass(slots=True)
class Measured:
    """What one run took.

    Attributes
    ----------
    wall_s, cpu_s
        Time by the clock, and of all processors together.
    rss_bytes
        Process to its memory at every sample: (series done, bytes).
    command_lines
        Process to what it is.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    rss_bytes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)


def measure(star: Path, out: Path, flags: tuple[str, ...]) -> Measured:
    """Run once and watch the processes."""
    result, cpu_s = Measured(), {}
    command = [*PROGRAM, "align", METHOD[0], str(star), "--output", str(out), *METHOD[1:], *flags, "--quiet"]
    began = time.monotonic()
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
    main = psutil.Process(run.pid)
    while run.poll() is None:
        done = sum(1 for _ in out.glob("external/*/alignment.json"))
        with suppress(psutil.NoSuchProcess):
            for process in [main, *main.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    cpu_s[process.pid] = times.user + times.system
                    result.rss_bytes.setdefault(process.pid, []).append((done, process.memory_info().rss))
                    if process.pid not in result.kinds:
                        words = " ".join(process.cmdline())
                        kind = "worker" if "spawn_main" in words else "helper"
                        result.kinds[process.pid] = "main" if process.pid == run.pid else kind
        time.sleep(_SAMPLE_EVERY_S)
    result.wall_s = time.monotonic() - began
    result.cpu_s = sum(cpu_s.values())
    if run.returncode != 2:
        raise SystemExit(f"exit code {run.returncode} instead of 2: some series are broken")
    return result


def memory_lines(measured: Measured, n_series: int) -> list[str]:
    """Say how the memory of every process went: its median in the second and in the last fifth of the series."""
    lines = []
    for pid, samples in measured.rss_bytes.items():
        early = [rss for done, rss in samples if n_series / 5 <= done < 2 * n_series / 5]
        late = [rss for done, rss in samples if done >= 4 * n_series / 5]
        if measured.kinds[pid] == "helper" or not early or not late:
            continue
        first, last = statistics.median(early) / _MB, statistics.median(late) / _MB
        peak = max(rss for _, rss in samples) / _MB
        lines.append(f"  {measured.kinds[pid]} {pid}: {first:.0f} MB after 20-40 %, {last:.0f} MB after 80-100 % "
                     f"({last - first:+.0f} MB), peak {peak:.0f} MB")  # fmt: skip
    return lines


def check_report(out: Path, n_series: int, n_broken: int) -> None:
    """Make sure that tables and record agree with what was asked for."""
    aligned = read_star(out / "aligned_tilt_series.star")["global"].columns["rlnTomoName"]
    failed = read_star(out / "failed_tilt_series.star")["global"].columns["rlnTomoName"]
    names = [f"TS_{number + 1:03d}" for number in range(n_series)]
    if [*aligned, *failed] != names or len(failed) != n_broken:
        raise SystemExit(
            f"the tables list {len(aligned)} and {len(failed)} series, not {n_series - n_broken} and {n_broken}"
        )
    record = json.loads((out / "run.json").read_text())["series"]
    results = {name: one["result"] for name, one in record.items()}
    if results != {name: "failed" if name in failed else "aligned" for name in names}:
        raise SystemExit("run.json does not agree with the tables")


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the data and results")
    parser.add_argument("--series", type=int, default=200, help="number of series of 128 px (default: 200)")
    parser.add_argument("--broken", type=int, default=3, help="how many of them hold nothing (default: 3)")
    parser.add_argument("--workers", type=int, default=2, help="processes to compare with one (default: 2)")
    asked = parser.parse_args()
    star = small_project(asked.folder / "project", asked.series, n_broken=asked.broken)
    out = asked.folder / "project" / "out"
    results: list[dict[str, bytes]] = []
    walls: list[float] = []
    for title, flags in (
        ("one process", ("--scheduler", "serial")),
        (f"{asked.workers} workers", ("--workers", str(asked.workers))),
    ):
        measured = measure(star, out, flags)
        check_report(out, asked.series, asked.broken)
        results.append(contents(out))
        walls.append(measured.wall_s)
        rate = asked.series / measured.wall_s * 60.0
        print(f"{title}: {measured.wall_s:.0f} s, {rate:.0f} series a minute, {measured.cpu_s:.0f} s of CPU")
        print(*memory_lines(measured, asked.series), sep="\n", flush=True)
        out.rename(asked.folder / f"out_{len(walls)}")
    if results[0] != results[1]:
        raise SystemExit("the results differ")
    print(
        f"{walls[0] / walls[1]:.2f} times as fast with {asked.workers} workers; {len(results[0])} files, the same bytes"
    )


if __name__ == "__main__":
    main()
