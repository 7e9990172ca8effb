"""AreTomo's ``.aln`` files as they stand, versions 1.0 to 3: the text, without what it means."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.io.numbers import parse_number

_GLOBAL_COLUMNS = 10
_LOCAL_COLUMNS = 7
_KEY_VALUE = re.compile(r"#\s*(RawSize|NumPatches|DarkFrame|AlphaOffset|BetaOffset|Thickness)\s*=\s*(.*\S)\s*")


@dataclass(frozen=True, slots=True, eq=False)
class AlnFile:
    """An ``.aln`` file: k images that were aligned and those that AreTomo dropped as dark.

    Attributes
    ----------
    path
        The file.
    section
        Shape (k,): SEC. Counts from 0 (AreTomo 1 and 2), from 1 (AreTomo 3), or only kept images, so it says no more
        than an order.
    rot_deg, magnification, tilt_deg
        Shape (k,): ROT, GMAG and TILT, which includes the offset if AreTomo was told to correct it.
    shift_xy_px
        Shape (k, 2): TX, TY.
    dark_section
        Shape (d,): section of the dark images, on its own base.
    dark_tilt_deg
        Shape (d,): their tilts, without any offset.
    raw_size_xyz
        Size of the stack, or None in files of AreTomo 1.2 and before.
    headers
        What else the comments say: ``AlphaOffset``, ``BetaOffset``, ``Thickness``.
    local
        Shape (m, 7): tilt index, patch index, x, y, dx, dy, good; empty without local alignment.
    """

    path: Path
    section: NDArray[np.int64]
    rot_deg: FloatArray
    magnification: FloatArray
    shift_xy_px: FloatArray
    tilt_deg: FloatArray
    dark_section: NDArray[np.int64]
    dark_tilt_deg: FloatArray
    raw_size_xyz: tuple[int, int, int] | None
    headers: dict[str, float]
    local: FloatArray

    @property
    def n_sections(self) -> int:
        """How many images the file speaks of."""
        return self.section.size + self.dark_section.size

    @property
    def first_section(self) -> int | None:
        """What sections count from, if kept and dark ones together number the stack without a gap; else None."""
        numbers = np.sort(np.concatenate([self.section, self.dark_section]))
        first = int(numbers[0])
        counts = first in (0, 1) and np.array_equal(numbers, np.arange(first, first + numbers.size))
        return first if counts else None


@dataclass(slots=True)
class _Parts:
    """What has been read so far."""

    rows: list[list[float]]
    local: list[list[float]]
    dark: list[list[float]]
    headers: dict[str, list[float]]
    in_local: bool = False


def read_aln_file(path: str | os.PathLike[str]) -> AlnFile:
    """Read an ``.aln`` file.

    Raises
    ------
    BadInput
        If it cannot be read, a line has the wrong number of values, or it holds fewer images than it says.
    """
    where = Path(path)
    try:
        text = where.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot read {where}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not text; is it the right file?") from error
    parts = _Parts([], [], [], {})
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#"):
            _take_comment(parts, line.strip(), f"{where}, line {number}")
        elif line.strip():
            _take_row(parts, line, f"{where}, line {number}")
    return _checked(where, parts)


def _take_comment(parts: _Parts, line: str, place: str) -> None:
    if "Local Alignment" in line:
        parts.in_local = True
    elif match := _KEY_VALUE.fullmatch(line):
        values = [parse_number(word, place) for word in match[2].split()]
        if match[1] == "DarkFrame":
            if len(values) != 3:
                raise BadInput(f"{place}: DarkFrame has {len(values)} values, expected 3")
            parts.dark.append(values)
        else:
            parts.headers[match[1]] = values


def _take_row(parts: _Parts, line: str, place: str) -> None:
    values = [parse_number(word, place) for word in line.split()]
    expected = _LOCAL_COLUMNS if parts.in_local else _GLOBAL_COLUMNS
    if len(values) != expected:
        kind = "local alignment" if parts.in_local else "an image"
        raise BadInput(f"{place}: {len(values)} values, expected {expected} for {kind}; was the file cut?")
    (parts.local if parts.in_local else parts.rows).append(values)


def _checked(where: Path, parts: _Parts) -> AlnFile:
    if not parts.rows:
        raise BadInput(f"{where} lists no image; is it an .aln file of AreTomo?")
    rows, dark = np.array(parts.rows), np.array(parts.dark).reshape(-1, 3)
    size = parts.headers.pop("RawSize", None)
    if size is not None and len(size) != 3:
        raise BadInput(f"{where}: RawSize has {len(size)} values, expected 3")
    if size is not None and size[2] != len(rows) + len(dark):
        problem = f"{len(rows)} images and {len(dark)} dark ones are listed, but the stack had {size[2]:.0f}"
        raise BadInput(f"{where}: {problem}; was the file cut?")
    angles = np.abs(np.concatenate([rows[:, 1], rows[:, 9], dark[:, 2]]))
    if angles.max() > 360:
        raise BadInput(f"{where}: an angle of {angles.max():g} degrees; AreTomo has failed, run it again")
    if (rows[:, 2] <= 0).any():
        raise BadInput(f"{where}: GMAG must be positive")
    return AlnFile(
        path=where,
        section=rows[:, 0].astype(np.int64),
        rot_deg=rows[:, 1],
        magnification=rows[:, 2],
        shift_xy_px=rows[:, 3:5],
        tilt_deg=rows[:, 9],
        dark_section=dark[:, 1].astype(np.int64),
        dark_tilt_deg=dark[:, 2],
        raw_size_xyz=None if size is None else (int(size[0]), int(size[1]), int(size[2])),
        headers={name: values[0] for name, values in parts.headers.items() if len(values) == 1},
        local=np.array(parts.local).reshape(-1, _LOCAL_COLUMNS),
    )


def aln_text(
    section: NDArray[np.int64],
    rot_deg: FloatArray,
    magnification: FloatArray,
    shift_xy_px: FloatArray,
    tilt_deg: FloatArray,
    dark: list[tuple[int, int, float]],
    raw_size_xyz: tuple[int, int, int],
) -> str:
    """Write an ``.aln`` file in the layout of AreTomo 1.3 and 2.

    The layout is free, and AreTomo's own decimals would cost 0.15 px at the edge of a 4k image, so some columns have
    more.

    Parameters
    ----------
    section, rot_deg, magnification, shift_xy_px, tilt_deg
        One entry for each of the k images; sections count from 0.
    dark
        Rank by tilt (from 0), section (from 0) and tilt in degrees of each image that is left out.
    raw_size_xyz
        Size of the stack.
    """
    lines = ["# AreTomo Alignment / Priims bprmMn", "# RawSize = {} {} {}".format(*raw_size_xyz), "# NumPatches = 0"]
    lines += [f"# DarkFrame =  {rank:4d} {sec:4d} {tilt:8.2f}" for rank, sec, tilt in dark]
    lines.append("# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT")
    unused = "     1.00     1.00     1.00     0.00"
    for sec, rot, mag, (x, y), tilt in zip(section, rot_deg, magnification, shift_xy_px, tilt_deg, strict=True):
        lines.append(f"{sec:5d} {rot:10.5f}  {mag:9.7f} {x:10.3f} {y:10.3f}{unused} {tilt:9.4f}")
    return "\n".join(lines) + "\n"
