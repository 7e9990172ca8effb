"""MRC files: pixel types, and every damage of rows 37-40, 44 and 47 of the fault table."""

from __future__ import annotations

import bz2
import gzip
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.mrc import MrcImage, mrc_header

Writer = Callable[..., Path]
Packer = Callable[[bytes], bytes]

NX, MODE, EXTENDED, MAP, STAMP, DMAX = 0, 12, 92, 208, 212, 80  # byte offsets in the header


def patch(path: Path, offset: int, data: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


def int32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


@pytest.fixture
def small(tmp_path: Path, mrc_writer: Writer) -> Path:
    """A file of 4 x 3 float32 pixels."""
    return mrc_writer(tmp_path / "image.mrc", np.arange(12, dtype=np.float32).reshape(3, 4))


STORED = {
    "row_47_mode_0_signed": (np.int8, [-128, -1, 0, 127]),
    "row_47_mode_1": (np.int16, [-32768, -1, 0, 32767]),
    "row_47_mode_2": (np.float32, [-1.5, 0, 1e-3, 1e6]),
    "row_47_mode_6": (np.uint16, [0, 1, 40000, 65535]),
    "row_47_mode_12": (np.float16, [-1.5, 0, 0.125, 6e4]),
}


@pytest.mark.parametrize("order", ["<", ">"], ids=["little_endian", "big_endian"])
@pytest.mark.parametrize(("dtype", "values"), STORED.values(), ids=STORED)
def test_pixel_types_read_as_float32(tmp_path: Path, dtype: type, values: list[float], order: str) -> None:
    stored = np.array([values, values[::-1]], dtype=np.dtype(dtype).newbyteorder(order))
    with mrcfile.new(tmp_path / "image.mrc", data=stored) as file:
        file.voxel_size = 2.5
    header = mrc_header(tmp_path / "image.mrc")
    image = MrcImage(tmp_path / "image.mrc").read()
    assert header.shape_nyx == (1, 2, 4)
    assert header.pixel_size_angst == 2.5
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, stored.astype(np.float32))


def byte_file(tmp_path: Path, mrc_writer: Writer, *, flags: int | None, dmax: float = 0.0) -> Path:
    """200 as a byte is -56 if it is signed."""
    path = mrc_writer(tmp_path / "bytes.st", np.full((2, 2), -56, np.int8))
    patch(path, DMAX, struct.pack("<f", dmax))
    return path if flags is None else patch(path, 152, int32(1146047817, flags))


@pytest.mark.parametrize(
    ("flags", "dmax", "byte_sign", "expected"),
    [
        (None, -56.0, "auto", -56),
        (1, -56.0, "auto", -56),
        (0, 200.0, "auto", 200),
        (None, 200.0, "auto", 200),
        (1, -56.0, "unsigned", 200),
        (0, 200.0, "signed", -56),
    ],
    ids=["standard", "imod_signed", "imod_unsigned", "maximum_above_127", "told_unsigned", "told_signed"],
)
def test_row_47_bytes(
    tmp_path: Path, mrc_writer: Writer, flags: int | None, dmax: float, byte_sign: str, expected: int
) -> None:
    path = byte_file(tmp_path, mrc_writer, flags=flags, dmax=dmax)
    assert MrcImage(path, byte_sign=byte_sign).read()[0, 0] == expected  # type: ignore[arg-type]


DAMAGE = {
    "row_37_zero_bytes": (lambda p: p.write_bytes(b""), "has 0 bytes; the header of an MRC file alone takes 1024"),
    "row_37_cut_in_header": (lambda p: p.write_bytes(p.read_bytes()[:500]), "has 500 bytes; the header"),
    "row_37_cut_in_data": (
        lambda p: p.write_bytes(p.read_bytes()[:-5]),
        "header claims 4 x 3 pixels, 1072 bytes, but it has 1067: it is truncated",
    ),
    "row_38_huge": (lambda p: patch(p, NX, int32(100_000, 100_000, 100_000)), "claims 100000 x 100000 x 100000"),
    "row_38_huge_extended_header": (lambda p: patch(p, EXTENDED, int32(2**31 - 1)), "bytes, but it has 1072"),
    "row_39_negative_size": (lambda p: patch(p, NX, int32(-4)), "damaged or no MRC file: its header claims -4 x 3"),
    "row_39_negative_extended_header": (lambda p: patch(p, EXTENDED, int32(-8)), "extended header of -8 bytes"),
    "row_39_mode_101": (lambda p: patch(p, MODE, int32(101)), r"4-bit numbers \(MRC mode 101\); convert"),
    "row_39_mode_77": (lambda p: patch(p, MODE, int32(77)), r"an unknown type \(MRC mode 77\)"),
    "row_47_complex": (lambda p: patch(p, MODE, int32(4)), r"complex numbers \(MRC mode 4\)"),
    "row_47_complex_integers": (lambda p: patch(p, MODE, int32(3)), r"complex integers \(MRC mode 3\)"),
    "no_mrc_file": (lambda p: p.write_bytes(b"PixelSpacing = 5.4\n" * 100), "no MRC file"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_file_is_refused_before_allocating(small: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(small)
    tracemalloc.start()
    try:
        for use in (mrc_header, lambda path: MrcImage(path).read()):
            with pytest.raises(BadInput, match=message) as caught:
                use(small)
            assert str(small) in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.mrc", tmp_path):
        with pytest.raises(BadInput, match=f"cannot read {path}"):
            mrc_header(path)


def test_old_header_without_stamp_and_map(small: Path) -> None:
    patch(small, MAP, bytes(8))
    np.testing.assert_array_equal(MrcImage(small).read(), np.arange(12).reshape(3, 4))


def test_extended_header_is_skipped(small: Path) -> None:
    content = small.read_bytes()
    small.write_bytes(content[:1024] + b"SERI" * 10 + content[1024:])
    patch(small, EXTENDED, int32(40))
    assert mrc_header(small).data_offset_bytes == 1064
    np.testing.assert_array_equal(MrcImage(small).read(), np.arange(12).reshape(3, 4))


@pytest.mark.parametrize("size", [0.0, -1.0, np.nan, np.inf, 1.0])
def test_row_19_pixel_size_that_says_nothing(small: Path, size: float) -> None:
    patch(small, 40, struct.pack("<f", size * 4))
    assert np.isnan(mrc_header(small).pixel_size_angst)


def test_pixel_size_is_not_spoilt_by_single_precision(tmp_path: Path, mrc_writer: Writer) -> None:
    path = mrc_writer(tmp_path / "image.mrc", np.zeros((924, 958), np.int8), 1.35)
    assert mrc_header(path).pixel_size_angst == 1.35


packings = pytest.mark.parametrize(
    ("pack", "suffix"), [(gzip.compress, ".gz"), (bz2.compress, ".bz2")], ids=["gzip", "bzip2"]
)


@packings
def test_packed_sections_are_read(tmp_path: Path, mrc_writer: Writer, pack: Packer, suffix: str) -> None:
    stack = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = tmp_path / f"stack.mrc{suffix}"
    path.write_bytes(pack(mrc_writer(tmp_path / "stack.mrc", stack).read_bytes()))
    assert mrc_header(path).shape_nyx == (2, 3, 4)
    for k in range(2):
        np.testing.assert_array_equal(MrcImage(path, k).read(), stack[k])


@packings
def test_row_40_bomb_is_refused(tmp_path: Path, small: Path, pack: Packer, suffix: str) -> None:
    path = tmp_path / f"bomb.mrc{suffix}"
    path.write_bytes(pack(small.read_bytes() + bytes(50_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="unpacks to more than the 1072 bytes its header promises"):
            MrcImage(path).read()
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


@packings
def test_row_40_header_promises_more(tmp_path: Path, small: Path, pack: Packer, suffix: str) -> None:
    path = tmp_path / f"short.mrc{suffix}"
    path.write_bytes(pack(patch(small, NX, int32(30_000, 30_000)).read_bytes()))
    with pytest.raises(BadInput, match=r"cannot hold: it is damaged|is truncated: 48 of"):
        MrcImage(path).read()


@packings
def test_row_37_cut_when_packed(tmp_path: Path, small: Path, pack: Packer, suffix: str) -> None:
    path = tmp_path / f"cut.mrc{suffix}"
    noise = np.random.default_rng(0).bytes(5000)
    path.write_bytes(pack(patch(small, NX, int32(40, 30)).read_bytes() + noise)[:-50])
    with pytest.raises(BadInput, match=r"cut\.mrc"):
        MrcImage(path).read()


def test_row_44_few_bad_pixels_are_filled_and_counted(tmp_path: Path, mrc_writer: Writer) -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    pixels[0, :2] = np.nan, np.inf
    image, n_filled = MrcImage(mrc_writer(tmp_path / "image.mrc", pixels)).load()
    assert n_filled == 2
    assert image[0].tolist() == [6.5, 6.5, 2.0, 3.0]
    assert np.isnan(MrcImage(tmp_path / "image.mrc").stored()[0, 0])


def test_row_44_frame_of_nan_is_refused(tmp_path: Path, mrc_writer: Writer) -> None:
    path = mrc_writer(tmp_path / "image.mrc", np.full((3, 4), np.nan, np.float32))
    with pytest.raises(BadInput, match=r"image\.mrc: 12 of 12 pixels are NaN"):
        MrcImage(path).read()


def test_section_is_read_alone(tmp_path: Path) -> None:
    """A sparse file of 8 GB: reading one section must not touch the others."""
    header = np.zeros((), HEADER_DTYPE)
    header["nx"] = header["ny"] = header["mx"] = 1000
    header["nz"], header["mode"], header["machst"] = 2000, 2, [0x44, 0x44, 0, 0]
    path = tmp_path / "big.st"
    with path.open("wb") as file:
        file.write(header.tobytes())
        file.seek(1024 + 1700 * 4_000_000)
        file.write(struct.pack("<f", 7.0))
        file.truncate(1024 + 2000 * 4_000_000)
    tracemalloc.start()
    try:
        image = MrcImage(path, 1700).read()
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert image[0, 0] == 7.0
    assert not image.ravel()[1:].any()


def test_section_must_exist_and_be_named(tmp_path: Path, mrc_writer: Writer) -> None:
    path = mrc_writer(tmp_path / "stack.mrcs", np.zeros((3, 2, 2), np.int16))
    with pytest.raises(BadInput, match="holds 3 images; say which one, as in 1@"):
        MrcImage(path).read()
    with pytest.raises(BadInput, match="has no image 4; it holds 3"):
        MrcImage(path, 3).read()


def test_image_opens_lazily_pickles_and_is_thread_safe(tmp_path: Path, mrc_writer: Writer) -> None:
    image = MrcImage(tmp_path / "later.mrcs", 1)
    assert image.name == f"2@{tmp_path / 'later.mrcs'}"
    stack = np.random.default_rng(1).normal(size=(2, 64, 64)).astype(np.float32)
    mrc_writer(image.path, stack)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: pickle.loads(pickle.dumps(image)).read(), range(16)):  # noqa: S301
            np.testing.assert_array_equal(result, stack[1])
