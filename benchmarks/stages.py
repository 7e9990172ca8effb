"""Print where the time of an alignment goes: what a method says it is doing, and for how long.

    python benchmarks/stages.py fiducial --scenario easy
    python benchmarks/stages.py slab --scenario insitu --set sample_thickness_nm=150

The second of two alignments in one process is timed, so that nothing is compiled; reading and writing are left out.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict

from napari_tiltalign import align
from napari_tiltalign.methods.base import method
from napari_tiltalign.simulation import SCENARIOS, simulate


class Stopwatch:
    """Progress that adds up the time after each message until the next; numbers in messages are left out."""

    def __init__(self) -> None:
        self.wall_s: dict[str, float] = defaultdict(float)
        self.cpu_s: dict[str, float] = defaultdict(float)
        self._stage = "before the first message"
        self._since = time.perf_counter(), time.process_time()

    def __call__(self, fraction: float, message: str) -> None:
        """Close the last stage and begin one."""
        now = time.perf_counter(), time.process_time()
        self.wall_s[self._stage] += now[0] - self._since[0]
        self.cpu_s[self._stage] += now[1] - self._since[1]
        self._stage, self._since = re.sub(r"\s*\(?[-\d.]+( of \d+)?\)?", "", message).strip(), now


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("--scenario", default="easy", choices=sorted(SCENARIOS))
    parser.add_argument("--size", type=int, default=512, help="pixels along an edge of the images")
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="options, by their Python names")
    given = parser.parse_args()
    options = method(given.method).Options(**dict(setting.split("=", 1) for setting in given.set))
    size = {"image_rows_px": given.size, "image_columns_px": given.size, "pixel_size_angst": 5120.0 / given.size}
    series = simulate(SCENARIOS[given.scenario].replace(**size)).series
    align(series, options)
    stopwatch = Stopwatch()
    align(series, options, progress=stopwatch)
    stopwatch(1.0, "")
    print("| stage | wall s | CPU s |\n| --- | --- | --- |")
    for stage, seconds in stopwatch.wall_s.items():
        print(f"| {stage} | {seconds:.2f} | {stopwatch.cpu_s[stage]:.2f} |")
    print(f"| all | {sum(stopwatch.wall_s.values()):.2f} | {sum(stopwatch.cpu_s.values()):.2f} |")


if __name__ == "__main__":
    main()
