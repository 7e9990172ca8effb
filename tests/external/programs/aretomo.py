"""Fake AreTomo, which is the one that its name says; it checks what it is given as the real one would."""

import os
import struct
import sys
from pathlib import Path

from faulty import after_work, before_work, deliver, record, refuse

RESULTS = Path(os.environ["FAKE_RESULTS"])
NAME = Path(sys.argv[0]).name
SAYS = {
    "AreTomo3": "AreTomo3 2.1.10\nBuilt on Mar 01 2025 10:00:00\n",
    "AreTomo2": "\nAreTomo2 version 1.1.3\nBuilt on Aug 19 2024\n",
    "AreTomo": "\nUsage: AreTomo Tags\n  AreTomo_1.3.4_Cuda118_Feb22_2023\n",
}
ONE_VALUE = {"-InMrc", "-AngFile", "-OutMrc", "-ImgDose", "-AlignZ", "-VolZ", "-OutImod", "-DarkTol", "-InPrefix",
             "-InSuffix", "-OutDir", "-TmpDir", "-Cmd", "-Serial", "-PixSize", "-ExtZ"}  # fmt: skip


def tags() -> dict[str, list[str]]:
    """Tags with their values. A value may begin with a dash if it is a number."""
    found: dict[str, list[str]] = {}
    for word in sys.argv[1:]:
        if word.startswith("-") and word[1:2].isalpha():
            found[word] = values = []
        else:
            values.append(word)
    return found


def stack_and_angles(stack: Path, angles: Path) -> tuple[int, list[list[str]]]:
    """Number of sections, and the lines of the file of angles, which must fit."""
    with stack.open("rb") as file:
        nx, ny, nz, mode = struct.unpack("<4i", file.read(16))
    lines = [line.split() for line in angles.read_text().splitlines()]
    if mode != 2 or stack.stat().st_size != 1024 + 4 * nx * ny * nz or len(lines) != nz:
        refuse(NAME, "stack and angles do not fit")
    return nz, lines


if __name__ == "__main__":
    if sys.argv[1:] in (["--version"], ["--help"]):
        print(SAYS[NAME])
        sys.exit(0)
    given = tags()
    before_work(NAME)
    for tag, values in given.items():
        if tag in ONE_VALUE and len(values) != 1:
            refuse(NAME, f"{tag} has {len(values)} values")
    if not 0 < float(given["-DarkTol"][0]) < 1:
        refuse(NAME, "angles would be written as zero")
    if NAME == "AreTomo3":
        prefix, suffix = given["-InPrefix"][0], given["-InSuffix"][0]
        stack, angles, out = Path(prefix + suffix), Path(prefix + ".rawtlt"), Path(given["-OutDir"][0])
        if len(os.path.realpath(stack)) > 255:
            refuse(NAME, "stack smashing detected")
        target = out / "series.aln"
    else:
        stack, angles = Path(given["-InMrc"][0]), Path(given["-AngFile"][0])
        target = Path(given["-OutMrc"][0]).parent / f"{stack.stem}.aln"
    n, lines = stack_and_angles(stack, angles)
    record(NAME, sections=n, angles=lines, tags=given)
    print("Best tilt axis:    3, Score:   0.75123\nBest tilt axis:    4, Score:   0.81000")
    if os.environ.get("FAKE_PROGRAM") == "overflow":
        print("Error: Fail to allocate device memory, GPU 0")
        sys.exit(1)
    deliver(RESULTS / "series.aln", target)
    if "-Kv" in given:
        kept = [line for line in (RESULTS / "series.aln").read_text().splitlines() if line and not line.startswith("#")]
        rows = [f"{k} {30000 + k}.0 {29000 + k}.0 51.5 1.570796 0.1 10.0" for k in range(1, len(kept) + 1)]
        if os.environ.get("FAKE_PROGRAM") == "cut-ctf":
            rows.pop()
        target.with_name("series_ctf.txt").write_text("# Columns: #1 micrograph number\n" + "\n".join(rows) + "\n")
    after_work(NAME)
