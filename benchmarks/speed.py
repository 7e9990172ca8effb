"""Time whole commands, start of the program, reading and writing included, and print a Markdown table.

    python benchmarks/speed.py fiducial slab --sizes 512 1024 4096
    python benchmarks/speed.py fiducial --views 21 41 61 --beads 20 100
    python benchmarks/speed.py preview judge --sizes 512 1024
    python benchmarks/speed.py slab patch-tracking projection-matching preview --sizes 512 --device cuda

The last one needs a GPU, and says how far apart the alignments made there and on the CPU lie. Its first run ever on a
machine is slow, because CuPy compiles its kernels then.

Every size shows the same field of 5 x 5 um (512 px of 10 Angstrom). The images of 4096 px are those of 1024 px with
every pixel four by four times and noise on it, written as one stack of 16-bit integers, because simulating them would
take longer than all the rest. The first run of each command is told apart: it compiles what is not compiled yet and
finds nothing in the disk's cache.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import mrcfile
import numpy as np

from napari_tiltalign import difference, read, read_alignment

FIELD_ANGST = 5120.0
LARGEST_SIMULATED_PX = 1024
DEVICES = "cpu", "cuda"
THICKNESS_ANGST = 1500.0
"""Of the slab over which alignments are compared."""
WITHOUT_BEADS = {"slab", "patch-tracking", "projection-matching"}
"""Methods that are timed on cytoplasm without gold."""
OF_THE_TRUTH = {"preview", "judge"}
"""Commands that are timed on the true alignment, for images that are simulated at their size."""


@dataclass(frozen=True, slots=True)
class Case:
    """One series to align."""

    size_px: int
    n_views: int
    n_beads: int
    has_beads: bool

    @property
    def name(self) -> str:
        """A folder's name."""
        return f"{self.size_px}px_{self.n_views}views_{self.n_beads if self.has_beads else 'no'}beads"


def prepared(case: Case, folder: Path) -> list[str]:
    """Make the input of a case if it is not there; the arguments that name it."""
    project = folder / case.name
    simulated_px = min(case.size_px, LARGEST_SIMULATED_PX)
    if not project.exists():
        beads = ["--n-beads", str(case.n_beads)] if case.has_beads else ["--n-beads", "0", "--texture", "cytoplasm"]
        step = f"{120.0 / (case.n_views - 1):.4f}"
        size = ["--image-rows-px", str(simulated_px), "--image-columns-px", str(simulated_px)]
        pixel = ["--pixel-size-angst", f"{FIELD_ANGST / simulated_px:g}"]
        tilts = ["--tilt-min-deg", "-60", "--tilt-max-deg", "60", "--tilt-step-deg", step]
        run(["simulate", str(project), "--scenario", "easy", *beads, *size, *pixel, *tilts])
    if simulated_px == case.size_px:
        return [str(project / "tilt_series.star")]
    stack = project / "enlarged.mrc"
    axis = str(write_enlarged(project / "tilt_series.star", stack, case.size_px // simulated_px))
    return [str(stack), "--pixel-size-angst", f"{FIELD_ANGST / case.size_px:g}", "--tilt-axis-deg", axis]


def write_enlarged(star: Path, stack: Path, factor: int) -> float:
    """Write a series as one stack of larger 16-bit images with its angles beside it; its nominal axis."""
    series = read(star).series[0]
    order = np.argsort(series.nominal_tilt_deg)
    rng = np.random.default_rng(0)
    if not stack.exists():
        shape = (len(series), *(factor * size for size in series.image_shape_yx))
        with mrcfile.new_mmap(stack, shape, mrc_mode=1, overwrite=True) as file:
            for section, view in enumerate(order):
                image = series.tilts[view].image.read().astype(np.float32)
                scale = 100.0 / image.std()
                large = np.kron((image - image.mean()) * scale, np.ones((factor, factor), np.float32))
                file.data[section] = 1000.0 + large + rng.normal(0.0, 200.0, large.shape)
            file.voxel_size = series.pixel_size_angst / factor
        np.savetxt(stack.with_suffix(".rawtlt"), series.nominal_tilt_deg[order], fmt="%.2f")
    return float(np.mean(series.nominal_axis_deg))


def run(arguments: Sequence[str]) -> tuple[float, float, float]:
    """Run the program; seconds of wall time, seconds of CPU time, and the largest memory in MB."""
    began = time.perf_counter()
    program = Path(sys.executable).with_name("napari-tiltalign")
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"napari-tiltalign {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024.0


def aligning(method: str, given: list[str], folder: Path, device: str) -> list[str]:
    """Arguments of the program for an alignment."""
    output = ["--output", str(folder / device), "--overwrite", "--quiet", "--scheduler", "serial", "--device", device]
    return ["align", method, *given, *output]


def apart(method: str, given: list[str], folder: Path) -> str:
    """Align on the CPU too; how far the result of the GPU lies from that, root mean square."""
    run(aligning(method, given, folder, "cpu"))
    here, there = (read_alignment(next((folder / device).glob("external/*/alignment.json"))) for device in DEVICES)
    return f"{difference(there, here, thickness_angst=THICKNESS_ANGST).rms_px:.4f} px"


def of_the_truth(command: str, case: Case, folder: Path, device: str) -> list[str]:
    """Arguments of the program for what is done with an alignment, the true one."""
    if case.size_px > LARGEST_SIMULATED_PX:
        raise SystemExit(f"{command} is timed up to {LARGEST_SIMULATED_PX} px: there is no truth for enlarged images")
    project = folder / case.name
    truth = next((project / "truth").glob("*.json"))
    output = ["--output", str(folder / "seen"), "--device", device] if command == "preview" else []
    return [command, str(project / "tilt_series.star"), str(truth), *output]


def row(method: str, case: Case, folder: Path, repeats: int, device: str) -> str:
    """Time one method on one case; the table's line about it."""
    # in a process of its own: on Linux the memory that a program is said to have had includes that of who started it
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as another:
        given = another.submit(prepared, case, folder).result()
    of_truth = method in OF_THE_TRUTH
    command = of_the_truth(method, case, folder, device) if of_truth else aligning(method, given, folder, device)
    first, *others = (run(command) for _ in range(repeats + 1))
    wall, cpu, memory = (statistics.median(column) for column in zip(*others, strict=True))
    spread = f"{min(o[0] for o in others):.1f}-{max(o[0] for o in others):.1f}"
    beads = str(case.n_beads) if case.has_beads else "none"
    compared = apart(method, given, folder) if device == "cuda" and not of_truth else ""
    return (
        f"| {method} | {case.size_px} | {case.n_views} | {beads} | {wall:.1f} ({spread}) | {first[0]:.1f} | {cpu:.1f} "
        f"| {memory:.0f} | {compared} |"
    )


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--sizes", nargs="+", type=int, default=[512])
    parser.add_argument("--views", nargs="+", type=int, default=[41])
    parser.add_argument("--beads", nargs="+", type=int, default=[20])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--folder", type=Path, help="where inputs are kept for the next time; a temporary one without")
    given = parser.parse_args()
    columns = (
        "method",
        "size px",
        "views",
        "beads",
        "wall s, median (range)",
        "first run s",
        "CPU s",
        "memory MB",
        "apart",
    )
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        for method, size, views, beads in itertools.product(given.methods, given.sizes, given.views, given.beads):
            case = Case(size, views, beads, method not in WITHOUT_BEADS)
            print(row(method, case, folder, given.repeats, given.device), flush=True)


if __name__ == "__main__":
    main()
