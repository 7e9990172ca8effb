"""TIFF files: types, pages, orientation, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.tiff import TiffImage, tiff_header

TYPES = [np.uint8, np.int8, np.uint16, np.int16, np.float16, np.float32]


@pytest.mark.parametrize("dtype", TYPES, ids=[f"row_47_{t.__name__}" for t in TYPES])
def test_pixel_types_read_as_float32_bottom_row_first(tmp_path: Path, dtype: type) -> None:
    stored = np.arange(12).reshape(3, 4).astype(dtype)
    tifffile.imwrite(tmp_path / "image.tif", stored)
    image = TiffImage(tmp_path / "image.tif").read()
    assert tiff_header(tmp_path / "image.tif").shape_nyx == (1, 3, 4)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, stored[::-1])


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pages_of_a_stack(tmp_path: Path, byteorder: str) -> None:
    stored = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stored, photometric="minisblack", byteorder=byteorder)
    np.testing.assert_array_equal(TiffImage(path, 1).read(), stored[1, ::-1])
    assert TiffImage(path, 1).name == f"2@{path}"
    with pytest.raises(BadInput, match="holds 2 images; say which one"):
        TiffImage(path).read()


def test_row_44_bad_pixels_are_filled_and_counted(tmp_path: Path) -> None:
    stored = np.array([[np.nan, 1.0, 3.0]], dtype=np.float32)
    tifffile.imwrite(tmp_path / "image.tif", stored)
    image, n_filled = TiffImage(tmp_path / "image.tif").load()
    assert (image[0, 0], n_filled) == (2.0, 1)


@pytest.mark.parametrize("content", [b"", b"II*\x00", b"no image at all" * 10], ids=["empty", "cut", "text"])
def test_row_37_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.tif"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"image\.tif"):
        TiffImage(path).read()


def test_row_36_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read .*absent\.tif: No such file"):
        tiff_header(tmp_path / "absent.tif")


def test_colours_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((4, 5, 3), np.uint8), photometric="rgb")
    with pytest.raises(BadInput, match="images must be grey"):
        tiff_header(tmp_path / "image.tif")
