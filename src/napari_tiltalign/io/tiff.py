"""TIFF images: one page at a time, upside down as everybody in the field reads them.

A TIFF file begins with the top row of the image, an MRC file with the bottom row. RELION, IMOD, SerialEM, MotionCor2
and EMAN2 all reverse the rows of a TIFF file whatever its orientation tag says, so that the same picture has the same
coordinates in both formats (RELION documentation, "Conventions", image formats); so does this.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput
from napari_tiltalign.images.finite import finite_pixels
from napari_tiltalign.io.mrc import checked_section

if TYPE_CHECKING:
    from tifffile import TiffFile


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """What is known of a TIFF file without its pixels.

    Attributes
    ----------
    path
        The file.
    shape_nyx
        (pages, rows, columns).
    dtype
        Type of a stored pixel.
    pixel_size_angst
        Always NaN: the resolution tags of microscopes cannot be trusted.
    """

    path: Path
    shape_nyx: tuple[int, int, int]
    dtype: np.dtype[Any]
    pixel_size_angst: float = math.nan


def tiff_header(path: str | os.PathLike[str]) -> TiffHeader:
    """Read what a TIFF file says of itself, without its pixels.

    Raises
    ------
    BadInput
        If it cannot be read, or holds colours or complex numbers. The message names the file.
    """
    where = Path(path)
    with _opened(where) as file:
        page = file.pages.first
        shape, dtype = tuple(page.shape), page.dtype
        n_pages = len(file.pages)
    if len(shape) != 2 or min(shape) < 1 or dtype is None or dtype.kind not in "iuf":
        raise BadInput(f"{where} holds pages of shape {shape} and type {dtype}; images must be grey and real")
    return TiffHeader(where, (n_pages, shape[0], shape[1]), dtype)


@dataclass(frozen=True, slots=True)
class TiffImage:
    """One page of a TIFF file; an `ImageSource` that opens the file only while it reads.

    Attributes
    ----------
    path
        The file.
    section
        Which page, counted from 0; None for a file that holds just one.
    """

    path: Path
    section: int | None = None

    @property
    def name(self) -> str:
        """The path; for one of several pages as RELION writes it, ``1@path`` for the first."""
        return str(self.path) if self.section is None else f"{self.section + 1}@{self.path}"

    def read(self) -> NDArray[np.float32]:
        """Return the image, shape (y, x), float32, bottom row first; pixels that are not finite are filled.

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
        header = tiff_header(self.path)
        section = checked_section(self.section, header.shape_nyx[0], self.path)
        with _opened(self.path) as file:
            pixels = file.pages[section].asarray()
        if pixels.shape != header.shape_nyx[1:]:
            raise BadInput(f"{self.name} has shape {pixels.shape}, the first page {header.shape_nyx[1:]}")
        try:
            return finite_pixels(np.ascontiguousarray(pixels[::-1], dtype=np.float32))
        except BadInput as error:
            raise BadInput(f"{self.name}: {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[TiffFile]:
    """Open a TIFF file and turn whatever goes wrong into `BadInput`."""
    from tifffile import TiffFile  # half a second that most inputs can do without

    try:
        with TiffFile(path) as file:
            yield file
    except BadInput:
        raise
    except Exception as error:  # damaged files make tifffile raise almost anything
        hint = "; install imagecodecs to unpack it" if "imagecodecs" in str(error) else ""
        raise BadInput(f"cannot read {path}: {getattr(error, 'strerror', None) or error}{hint}") from error
