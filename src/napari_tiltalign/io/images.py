"""Images by name, whatever their format: ``path``, ``3@stack.mrcs``, ``file:mrcs``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.mrc import MrcHeader, MrcImage, mrc_header
from napari_tiltalign.io.tiff import TiffHeader, TiffImage, tiff_header
from napari_tiltalign.model import ImageSource

ImageHeader = MrcHeader | TiffHeader

MRC_SUFFIXES = frozenset({".mrc", ".mrcs", ".st", ".ali", ".preali", ".rec", ".map"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
_COMPRESSION_SUFFIXES = frozenset({".gz", ".bz2"})

_SECTION = re.compile(r"(\d+)@(.+)", re.DOTALL)
_TYPE = re.compile(r"(.+):(" + "|".join(sorted(s[1:] for s in MRC_SUFFIXES | TIFF_SUFFIXES)) + ")", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ImageName:
    """The name of an image in a STAR file, taken apart.

    Attributes
    ----------
    path
        The file, as written: usually relative to the project.
    section
        Which image of it, counted from 0 (the name counts from 1); None if not said.
    suffix
        Which format to read it as: what stands after the colon, else how the file's name ends.
    """

    path: str
    section: int | None
    suffix: str

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Take ``[N@]path[:type]`` apart.

        Raises
        ------
        BadInput
            If it is empty or counts images from 0.

        Examples
        --------
        >>> ImageName.parse("3@stacks/TS_01.img:mrcs")
        ImageName(path='stacks/TS_01.img', section=2, suffix='.mrcs')
        """
        section = None
        path = text
        if match := _SECTION.fullmatch(text):
            section, path = int(match[1]) - 1, match[2]
        suffix = ""
        if match := _TYPE.fullmatch(path):
            path, suffix = match[1], f".{match[2]}"
        if not path or section == -1:
            raise BadInput(f"{text!r} is no name of an image; images of a stack are counted from 1")
        return cls(path, section, suffix or format_suffix(path))

    @property
    def stem(self) -> str:
        """Name of the file without folders and format, with the section before it for stacks: ``3@TS_01``."""
        name = Path(self.path).name
        while Path(name).suffix.lower() in _COMPRESSION_SUFFIXES | MRC_SUFFIXES | TIFF_SUFFIXES:
            name = Path(name).stem
        return name if self.section is None else f"{self.section + 1}@{name}"

    def source(self, path: Path) -> ImageSource:
        """Return the image, once it is known where the file is; nothing is opened.

        Raises
        ------
        BadInput
            If the format is none of ours.
        """
        if self.suffix in MRC_SUFFIXES:
            return MrcImage(path, self.section)
        if self.suffix in TIFF_SUFFIXES:
            return TiffImage(path, self.section)
        raise BadInput(f"{path}: the format {self.suffix or 'without a suffix'} cannot be read; MRC and TIFF can")


def format_suffix(path: str) -> str:
    """Suffix that tells the format, in lower case and without that of a compression: ``TS.MRC.gz`` gives ``.mrc``."""
    name = Path(path)
    if name.suffix.lower() in _COMPRESSION_SUFFIXES:
        name = Path(name.stem)
    return name.suffix.lower()


def read_header(image: ImageSource) -> ImageHeader:
    """Read the header of the file an image lies in.

    Raises
    ------
    BadInput
        If it cannot be read.
    """
    if isinstance(image, TiffImage):
        return tiff_header(image.path)
    if isinstance(image, MrcImage):
        return mrc_header(image.path, byte_sign=image.byte_sign)
    raise BadInput(f"{image.name} is not an image in a file")
