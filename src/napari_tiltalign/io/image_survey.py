"""What the headers of a series' images say, before any pixel is read."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io.images import ImageHeader, read_header
from napari_tiltalign.io.mrc import MrcImage, checked_section
from napari_tiltalign.io.tiff import TiffImage
from napari_tiltalign.model import Flag, ImageSource, Tilt

MIN_READABLE_FRACTION = 0.8
"""A series of which less than this part of the images can be read is refused."""

PIXEL_SIZE_TOLERANCE = 0.01
"""Pixel sizes that differ by more than this part of themselves are different."""


@dataclass(frozen=True, slots=True)
class ImageSurvey:
    """What the headers of a series' images agree on.

    Attributes
    ----------
    tilts
        The images, in the order given; those that cannot be read are excluded with the reason.
    shape_yx
        (rows, columns) of every image.
    pixel_size_angst
        As given, or else from the headers.
    flags
        What is odd.
    """

    tilts: tuple[Tilt, ...]
    shape_yx: tuple[int, int]
    pixel_size_angst: float
    flags: tuple[Flag, ...]


def survey_images(series_name: str, tilts: Sequence[Tilt], pixel_size_angst: float) -> ImageSurvey:
    """Read the headers of all images of a series and check that they fit together.

    Parameters
    ----------
    series_name
        For messages.
    tilts
        The images; each must lie in a file.
    pixel_size_angst
        What the tables say; NaN to take it from the headers.

    Raises
    ------
    BadTiltSeries
        If too few images can be read, if they differ in size or pixel size, or if nobody says the pixel size.
    """
    headers, problems = _read_headers(tilts)
    if len(headers) < MIN_READABLE_FRACTION * len(tilts) or not headers:
        raise BadTiltSeries(series_name, _unreadable_text(problems, len(tilts)))
    shape_yx = _common_shape(series_name, tilts, headers)
    header_size_angst = _common_pixel_size(series_name, tilts, headers)
    flags = []
    if problems:
        listed = "; ".join(problems.values())
        flags.append(Flag("images_missing", listed, tuple(problems)))
    if math.isnan(pixel_size_angst):
        pixel_size_angst = header_size_angst
        if math.isnan(pixel_size_angst):
            problem = "no pixel size in the tables or the images (1 Angstrom in a header counts as none)"
            raise BadTiltSeries(series_name, f"{problem}; give --pixel-size-angst")
    elif _differ(pixel_size_angst, header_size_angst):
        detail = f"{pixel_size_angst:g} Angstrom in the tables is used, the images say {header_size_angst:g}"
        flags.append(Flag("pixel_size_disagrees", detail))
    checked = tuple(t.excluded(problems[t.tilt_id]) if t.tilt_id in problems else t for t in tilts)
    return ImageSurvey(checked, shape_yx, pixel_size_angst, tuple(flags))


def _read_headers(tilts: Sequence[Tilt]) -> tuple[dict[str, ImageHeader], dict[str, str]]:
    """Header of every image that can be read, by tilt_id, and what is wrong with the others."""
    by_file: dict[Path, ImageHeader | BadInput] = {}
    headers: dict[str, ImageHeader] = {}
    problems: dict[str, str] = {}
    for tilt in tilts:
        try:
            headers[tilt.tilt_id] = _checked_header(tilt.image, by_file)
        except BadInput as error:
            problems[tilt.tilt_id] = str(error)
    return headers, problems


def _checked_header(image: ImageSource, by_file: dict[Path, ImageHeader | BadInput]) -> ImageHeader:
    """Header of an image's file, read once for all images of a stack."""
    if not isinstance(image, MrcImage | TiffImage):
        raise BadInput(f"{image.name} is not an image in a file")
    if image.path not in by_file:
        try:
            by_file[image.path] = read_header(image)
        except BadInput as error:
            by_file[image.path] = error
    header = by_file[image.path]
    if isinstance(header, BadInput):
        raise header
    checked_section(image.section, header.shape_nyx[0], image.path)
    return header


def _unreadable_text(problems: dict[str, str], n_images: int) -> str:
    if not problems:
        return "no images are listed"
    first = next(iter(problems.values()))
    return (f"{len(problems)} of {n_images} images cannot be read, the first: {first}. "
            "Check that the project is complete and that the paths are relative to its folder")  # fmt: skip


def _common_shape(name: str, tilts: Sequence[Tilt], headers: dict[str, ImageHeader]) -> tuple[int, int]:
    groups: dict[tuple[int, int], list[str]] = {}
    for tilt in tilts:
        if tilt.tilt_id in headers:
            groups.setdefault(headers[tilt.tilt_id].shape_nyx[1:], []).append(tilt.image.name)
    if len(groups) == 1:
        return next(iter(groups))
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    listed = ", ".join(f"{columns} x {rows} ({_some(names)})" for (rows, columns), names in ordered)
    (rows, columns), _names = ordered[0]
    hint = " (some look transposed)" if (columns, rows) in groups and rows != columns else ""
    raise BadTiltSeries(name, f"images of different sizes{hint}: {listed}; remove the rows of those that do not "
                        "belong, or repeat motion correction")  # fmt: skip


def _common_pixel_size(name: str, tilts: Sequence[Tilt], headers: dict[str, ImageHeader]) -> float:
    """Pixel size the headers agree on, Angstrom; NaN if none gives one."""
    sizes = {t.image.name: headers[t.tilt_id].pixel_size_angst for t in tilts if t.tilt_id in headers}
    given = {image: size for image, size in sizes.items() if math.isfinite(size)}
    if not given:
        return math.nan
    smallest, largest = min(given, key=given.__getitem__), max(given, key=given.__getitem__)
    if _differ(given[smallest], given[largest]):
        found = f"{given[smallest]:g} Angstrom ({smallest}), {given[largest]:g} Angstrom ({largest})"
        raise BadTiltSeries(name, f"images of different pixel sizes: {found}; use one binning for all")
    return statistics.median(given.values())


def _differ(one_angst: float, other_angst: float) -> bool:
    """Whether two pixel sizes are different; an unknown one (NaN) differs from nothing."""
    return abs(one_angst - other_angst) > PIXEL_SIZE_TOLERANCE * one_angst


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} images"
