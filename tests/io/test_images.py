"""Names of images as they stand in STAR files."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.images import ImageName
from napari_tiltalign.io.mrc import MrcImage
from napari_tiltalign.io.tiff import TiffImage

NAMES = {
    "frames/TS_01_002_-0_0.mrc": ("frames/TS_01_002_-0_0.mrc", None, ".mrc", "TS_01_002_-0_0"),
    "003@stacks/TS_01.mrcs": ("stacks/TS_01.mrcs", 2, ".mrcs", "3@TS_01"),
    "1@TS_01.st:mrcs": ("TS_01.st", 0, ".mrcs", "1@TS_01"),
    "job/TS_PS.ctf:mrc": ("job/TS_PS.ctf", None, ".mrc", "TS_PS.ctf"),
    "/data/a@b/image.TIF": ("/data/a@b/image.TIF", None, ".tif", "image"),
    "image.mrc.gz": ("image.mrc.gz", None, ".mrc", "image"),
    "12:30/image.mrc": ("12:30/image.mrc", None, ".mrc", "image"),
}


@pytest.mark.parametrize(("text", "expected"), NAMES.items(), ids=list(NAMES))
def test_name_is_taken_apart(text: str, expected: tuple[str, int | None, str, str]) -> None:
    name = ImageName.parse(text)
    assert (name.path, name.section, name.suffix, name.stem) == expected


def test_source_follows_the_type_not_the_file_name() -> None:
    assert ImageName.parse("2@a.img:mrcs").source(Path("x/a.img")) == MrcImage(Path("x/a.img"), 1)
    assert ImageName.parse("a.tiff").source(Path("a.tiff")) == TiffImage(Path("a.tiff"))


@pytest.mark.parametrize("text", ["", "0@stack.mrcs"])
def test_impossible_name_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is no name of an image"):
        ImageName.parse(text)


def test_unknown_format_is_refused() -> None:
    with pytest.raises(BadInput, match=r"movie\.eer: the format \.eer cannot be read"):
        ImageName.parse("movie.eer").source(Path("movie.eer"))
