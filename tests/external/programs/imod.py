"""Fake programs of IMOD, told apart by their names; each checks what it is given as the real one would.

Results are those in the folder ``FAKE_RESULTS``.
"""

import os
import re
import struct
import sys
from pathlib import Path

from faulty import after_work, before_work, deliver, record, refuse

RESULTS = Path(os.environ["FAKE_RESULTS"])
NAME = Path(sys.argv[0]).name
FLAGS_WITHOUT_VALUE = {"-AdjustSizes", "-surfaces"}


def sections(stack: Path) -> int:
    """Number of sections of an MRC file of 32-bit floats, which must be as long as its header says."""
    if not stack.is_file():
        refuse(NAME, f"OPENING {stack}")
    with stack.open("rb") as file:
        nx, ny, nz, mode = struct.unpack("<4i", file.read(16))
    if mode != 2 or stack.stat().st_size != 1024 + 4 * nx * ny * nz:
        refuse(NAME, f"READING {stack}")
    return nz


def arguments() -> tuple[dict[str, str], list[str]]:
    """Flags with their values, those of a parameter file too; and the other arguments."""
    flags, others, words = {}, [], sys.argv[1:]
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            others.append(word)
        else:
            flags[word[1:]] = "" if word in FLAGS_WITHOUT_VALUE else words.pop(0)
    if file := flags.pop("ParameterFile", ""):
        for line in Path(file).read_text().splitlines():
            name, _, value = line.partition(" ")
            if not re.fullmatch(r"[A-Za-z0-9]+", name):
                refuse(NAME, f"ILLEGAL OPTION: {name}")
            flags[name] = value
    return flags, others


def need(*names: str) -> None:
    """End with an error if a file is not there."""
    for name in names:
        if not Path(name).is_file() or not Path(name).stat().st_size:
            refuse(NAME, f"OPENING {name}")


def batchruntomo(flags: dict[str, str]) -> None:
    """Check stack, angles and directives, and leave what the alignment leaves."""
    folder, root = Path(flags["CurrentLocation"]), flags["RootName"]
    need(flags["DirectiveFile"])
    n = sections(folder / f"{root}.mrc")
    angles = [float(line) for line in (folder / f"{root}.rawtlt").read_text().split()]
    if len(angles) != n or angles != sorted(angles):
        refuse(NAME, "TILT ANGLES DO NOT FIT")
    record(NAME, directives=Path(flags["DirectiveFile"]).read_text(), sections=n, angles=angles)
    for suffix in (".tlt", ".xtilt", ".prexg", ".fid", ".edf", ".xf"):
        if (RESULTS / f"series{suffix}").is_file():
            (deliver if suffix == ".xf" else copy)(RESULTS / f"series{suffix}", folder / f"{root}{suffix}")
    copy(RESULTS / "align.log", folder / "align.log")


def copy(source: Path, target: Path) -> None:
    """Copy a file."""
    target.write_bytes(source.read_bytes())


def single(flags: dict[str, str], others: list[str]) -> None:
    """One of the programs of which batchruntomo is made."""
    record(NAME, flags=flags, others=others)
    if NAME == "tiltxcorr":
        need(flags["InputFile"], flags["TiltFile"])
        Path(flags["OutputFile"]).write_text("shifts\n")
    elif NAME == "xftoxg":
        need(others[0])
        copy(RESULTS / "series.prexg", Path(others[1]))
    elif NAME == "newstack":
        need(flags["TransformFile"])
        sections(Path(flags["InputFile"]))
        Path(flags["OutputFile"]).write_text("images\n")
    elif NAME == "autofidseed":
        need(flags["TrackCommandFile"])
        seed = re.search(r"^InputSeedModel (\S+)$", Path(flags["TrackCommandFile"]).read_text(), re.MULTILINE)
        Path(seed[1]).write_text("seeds\n")
    elif NAME == "beadtrack":
        need(flags["ImageFile"], flags["InputSeedModel"], flags["TiltFile"])
        copy(RESULTS / "series.fid", Path(flags["OutputModel"]))
    elif NAME == "imodchopconts":
        need(others[0])
        copy(RESULTS / "series.fid", Path(others[1]))
    elif NAME == "tiltalign":
        need(flags["ModelFile"], flags["ImageFile"], flags["TiltFile"])
        print(
            (RESULTS / "align.log").read_text().replace("AngleOffset = 9.02", f"AngleOffset = {flags['AngleOffset']}")
        )
        copy(RESULTS / "series.tlt", Path(flags["OutputTiltFile"]))
        copy(RESULTS / "series.xtilt", Path(flags["OutputXAxisTiltFile"]))
        Path(flags["OutputTransformFile"]).write_text("transforms\n")
    elif NAME == "xfproduct":
        need(flags["InputFile1"], flags["InputFile2"])
        deliver(RESULTS / "series.xf", Path(flags["OutputFile"]))
    else:
        refuse(NAME, "NO SUCH PROGRAM")


if __name__ == "__main__":
    given, rest = arguments()
    before_work(NAME)
    if NAME == "batchruntomo":
        batchruntomo(given)
    else:
        single(given, rest)
    after_work(NAME)
