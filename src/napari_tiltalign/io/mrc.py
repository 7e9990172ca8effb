"""MRC images and stacks: sizes checked before anything is allocated, one section read at a time.

``mrcfile`` 1.5.4 knows the header's layout, the data types of the modes and the machine stamps, and is used for
those. Its readers are not: they allocate an extended header of whatever size the file claims, decompress a whole
file to learn its length, take the unsigned bytes of IMOD for signed ones, and return no pixels at all for a cut file.

Pixels are read from their place in the file, so nothing but the wanted section is touched. They are not kept
memory-mapped: each image is converted to float32 anyway, and a mapped file that shrinks kills the process where
a plain read gives an error that names the file.
"""

from __future__ import annotations

import bz2
import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import byte_order_from_machine_stamp, dtype_from_mode
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput
from napari_tiltalign.images.finite import finite_pixels

ByteSign = Literal["auto", "signed", "unsigned"]

HEADER_BYTES = 1024
MAX_SIDE_PX = 1 << 17
"""No camera or montage has longer sides; a header that claims more is wrong."""

_READABLE_MODES = (0, 1, 2, 6, 12)
_KNOWN_BUT_UNUSABLE = {3: "complex integers", 4: "complex numbers", 16: "colours", 101: "4-bit numbers"}
_IMOD_STAMP = 1146047817
_SIGNED_BYTES_FLAG = 1
_IMOD_STAMP_OFFSET = 152
_CHUNK_BYTES = 1 << 20
_MAX_GZIP_RATIO = 1040
"""Deflate cannot pack tighter than 1032 to 1."""


@dataclass(frozen=True, slots=True)
class MrcHeader:
    """What the header of an MRC file says, checked against the file's length.

    Attributes
    ----------
    path
        The file.
    shape_nyx
        (sections, rows, columns).
    mode
        MRC mode of the data: 0, 1, 2, 6 or 12.
    dtype
        Type of a stored pixel with its byte order, IMOD's unsigned bytes told from signed ones.
    pixel_size_angst
        Angstrom per pixel along x; NaN if not set (zero, negative, not finite, or 1 exactly, which programs leave
        there when they do not know it).
    data_offset_bytes
        Where the pixels begin.
    """

    path: Path
    shape_nyx: tuple[int, int, int]
    mode: int
    dtype: np.dtype[Any]
    pixel_size_angst: float
    data_offset_bytes: int

    @property
    def section_bytes(self) -> int:
        """Length of one section in the (uncompressed) file."""
        return self.shape_nyx[1] * self.shape_nyx[2] * self.dtype.itemsize

    @property
    def total_bytes(self) -> int:
        """Length the (uncompressed) file must have at least."""
        return self.data_offset_bytes + self.shape_nyx[0] * self.section_bytes


def mrc_header(path: str | os.PathLike[str], *, byte_sign: ByteSign = "auto") -> MrcHeader:
    """Read and check the header of an MRC file, plain or compressed (gzip, bzip2), without its pixels.

    Parameters
    ----------
    path
        The file; what it is is told from its contents, not from its name.
    byte_sign
        How to read mode 0. ``auto`` follows IMOD's mark where there is one; without it bytes are signed, as the
        MRC2014 standard says, unless the header gives a maximum above 127.

    Raises
    ------
    BadInput
        If the file is missing, is no MRC file, is shorter than its header claims, or holds pixels that cannot be
        used. The message names the file and the sizes.
    """
    where = Path(path)
    with _opened(where) as (file, packed):
        raw = file.read(HEADER_BYTES)
        file_bytes = where.stat().st_size
    if len(raw) < HEADER_BYTES:
        raise BadInput(f"{where} has {len(raw)} bytes; the header of an MRC file alone takes {HEADER_BYTES}")
    header = _header_record(where, raw)
    shape = (int(header["nz"]), int(header["ny"]), int(header["nx"]))
    mode, extended_bytes = int(header["mode"]), int(header["nsymbt"])
    if min(shape) < 1 or max(shape) > MAX_SIDE_PX or extended_bytes < 0:
        raise BadInput(f"{where} is damaged or no MRC file: its header claims {_size_text(shape)} pixels "
                       f"and an extended header of {extended_bytes} bytes")  # fmt: skip
    dtype = _pixel_dtype(where, mode, header, raw, byte_sign)
    result = MrcHeader(where, shape, mode, dtype, _pixel_size_angst(header), HEADER_BYTES + extended_bytes)
    _check_length(result, file_bytes, packed)
    return result


@dataclass(frozen=True, slots=True)
class MrcImage:
    """One image of an MRC file; an `ImageSource` that opens the file only while it reads.

    Attributes
    ----------
    path
        The file.
    section
        Which section, counted from 0; None for a file that holds just one.
    byte_sign
        See `mrc_header`.
    """

    path: Path
    section: int | None = None
    byte_sign: ByteSign = "auto"

    @property
    def name(self) -> str:
        """The path; for a section of a stack as RELION writes it, ``1@path`` for the first."""
        return str(self.path) if self.section is None else f"{self.section + 1}@{self.path}"

    def read(self) -> NDArray[np.float32]:
        """Return the image, shape (y, x), float32; pixels that are not finite are filled, see `load`.

        Raises
        ------
        BadInput
            If it cannot be read; the message names the file.
        """
        return self.load()[0]

    def load(self) -> tuple[NDArray[np.float32], int]:
        """Return the image, and how many pixels were not finite and hold the median of the others instead.

        Raises
        ------
        BadInput
            If it cannot be read, or most of it is not finite; the message names the file.
        """
        pixels = self.stored().astype(np.float32)
        try:
            return finite_pixels(pixels)
        except BadInput as error:
            raise BadInput(f"{self.name}: {error}") from None

    def stored(self) -> NDArray[Any]:
        """Return the pixels as they are in the file, shape (y, x), in the file's own type.

        Raises
        ------
        BadInput
            If they cannot be read; the message names the file.
        """
        header = mrc_header(self.path, byte_sign=self.byte_sign)
        section = checked_section(self.section, header.shape_nyx[0], self.path)
        with _opened(self.path) as (file, packed):
            data = _packed_section(file, header, section) if packed else _plain_section(file, header, section)
        if len(data) != header.section_bytes:
            raise BadInput(
                f"{self.name} is truncated: {len(data)} of the image's {header.section_bytes} bytes are there"
            )
        return np.frombuffer(data, header.dtype).reshape(header.shape_nyx[1:])


def checked_section(section: int | None, n_sections: int, path: Path) -> int:
    """Return the section to read from a file of n sections.

    Raises
    ------
    BadInput
        If there is no such section, or none was named although there are several.
    """
    if section is None and n_sections > 1:
        raise BadInput(f"{path} holds {n_sections} images; say which one, as in 1@{path}")
    if not 0 <= (section or 0) < n_sections:
        raise BadInput(f"{path} has no image {(section or 0) + 1}; it holds {n_sections}")
    return section or 0


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Literal["", "gzip", "bzip2"]]]:
    """Open a file, through a decompressor if it is packed, and turn whatever goes wrong into `BadInput`."""
    try:
        with path.open("rb") as raw:
            magic = raw.read(3)
            raw.seek(0)
            if magic == b"\x1f\x8b\x08":
                with gzip.open(raw) as file:
                    yield file, "gzip"  # type: ignore[misc]
            elif magic == b"BZh":
                with bz2.open(raw) as file:
                    yield file, "bzip2"  # type: ignore[misc]
            else:
                yield raw, ""
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _plain_section(file: BinaryIO, header: MrcHeader, section: int) -> bytes:
    file.seek(header.data_offset_bytes + section * header.section_bytes)
    return file.read(header.section_bytes)


def _packed_section(file: BinaryIO, header: MrcHeader, section: int) -> bytes:
    """Decompress as far as the section, in pieces, and never more than the header promises."""
    _read_in_pieces(file, header.data_offset_bytes + section * header.section_bytes, keep=False)
    data = _read_in_pieces(file, header.section_bytes, keep=True)
    if section == header.shape_nyx[0] - 1 and file.read(1):
        raise BadInput(f"{header.path} unpacks to more than the {header.total_bytes} bytes its header promises")
    return data


def _read_in_pieces(file: BinaryIO, n_bytes: int, *, keep: bool) -> bytes:
    data = bytearray()
    while n_bytes > 0 and (piece := file.read(min(n_bytes, _CHUNK_BYTES))):
        n_bytes -= len(piece)
        if keep:
            data += piece
    return bytes(data)


def _header_record(path: Path, raw: bytes) -> np.void:
    """Interpret the header in the byte order that its stamp gives, or, for files without one, that makes sense."""
    little, big = (np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0] for order in "<>")
    try:
        stamped = byte_order_from_machine_stamp(little["machst"])
    except ValueError:
        stamped = ""
    if stamped:
        return little if stamped == "<" else big  # type: ignore[no-any-return]
    for record in (little, big):
        if 0 <= record["mode"] < 128 and all(0 < record[side] <= MAX_SIDE_PX for side in ("nx", "ny", "nz")):
            return record  # type: ignore[no-any-return]
    raise BadInput(f"{path} is no MRC file, or its header is damaged")


def _pixel_dtype(path: Path, mode: int, header: np.void, raw: bytes, byte_sign: ByteSign) -> np.dtype[Any]:
    if mode not in _READABLE_MODES:
        what = _KNOWN_BUT_UNUSABLE.get(mode, "an unknown type")
        raise BadInput(f"{path} holds {what} (MRC mode {mode}); convert it to mode 0, 1, 2, 6 or 12")
    if mode == 0:
        return np.dtype(np.int8 if _bytes_are_signed(header, raw, byte_sign) else np.uint8)
    dtype: np.dtype[Any] = dtype_from_mode(mode)
    return dtype.newbyteorder(header.dtype["mode"].byteorder)


def _bytes_are_signed(header: np.void, raw: bytes, byte_sign: ByteSign) -> bool:
    if byte_sign != "auto":
        return byte_sign == "signed"
    words = np.frombuffer(raw, header.dtype["mode"], count=2, offset=_IMOD_STAMP_OFFSET)
    if words[0] == _IMOD_STAMP:
        return bool(words[1] & _SIGNED_BYTES_FLAG)
    return not header["dmax"] > np.iinfo(np.int8).max


def _pixel_size_angst(header: np.void) -> float:
    n_cells, length = int(header["mx"]), float(header["cella"]["x"])
    if n_cells <= 0 or not math.isfinite(length) or length <= 0:
        return math.nan
    size = float(f"{length / n_cells:.7g}")  # the header has single precision: 1.35, not 1.35000002
    return size if size != 1.0 else math.nan


def _check_length(header: MrcHeader, file_bytes: int, packed: str) -> None:
    """Compare what the header promises with the length of the file, before anybody allocates it."""
    claim = f"{header.path}: its header claims {_size_text(header.shape_nyx)} pixels, {header.total_bytes} bytes"
    if not packed and header.total_bytes > file_bytes:
        raise BadInput(f"{claim}, but it has {file_bytes}: it is truncated; copy it again")
    if packed == "gzip" and header.total_bytes > file_bytes * _MAX_GZIP_RATIO:
        raise BadInput(f"{claim}, which its {file_bytes} packed bytes cannot hold: it is damaged")


def _size_text(shape: tuple[int, int, int]) -> str:
    """Size as microscopists write it, columns first."""
    n_sections, rows, columns = shape
    return f"{columns} x {rows}" + (f" x {n_sections}" if n_sections != 1 else "")
