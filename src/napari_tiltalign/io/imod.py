"""IMOD's alignment files: ``.xf``, ``.tlt``, ``.xtilt`` and ``.rawtlt``.

All have one line per section of the stack. We write all images of a series in the order of the input, those that
were excluded with interpolated geometry, so that the files fit the stack the user has; ``alignment.json`` says which
image each section is, and ``.rawtlt`` (nominal tilts) lets any reader find it out. Reading finds the order by angle,
because RELION gives IMOD a stack sorted by tilt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.io.edge_centre import HalfPixel
from napari_tiltalign.io.files import write_atomic
from napari_tiltalign.io.losses import NEGLIGIBLE_PX, Loss, geometry_loss, unwritten_losses
from napari_tiltalign.io.numbers import parse_number
from napari_tiltalign.io.row_order import tilts_of_lines
from napari_tiltalign.io.stack import read_angles_deg
from napari_tiltalign.io.xf_geometry import XfGeometry, geometry_from_xf, xf_from_geometry
from napari_tiltalign.model import Alignment, Flag, Provenance, TiltSeries


@dataclass(frozen=True, slots=True, eq=False)
class ImodFiles:
    """IMOD's description of one series as it stands in the files, n sections.

    Attributes
    ----------
    path
        The ``.xf`` file.
    xf
        Shape (n, 6): A11 A12 A21 A22 DX DY.
    y_tilt_deg
        Shape (n,): ``.tlt``, which includes any offset that levels the specimen.
    x_tilt_deg
        Shape (n,): ``.xtilt``; 0 if there is none.
    nominal_tilt_deg
        Shape (n,): ``.rawtlt``, or None if there is none.
    """

    path: Path
    xf: FloatArray
    y_tilt_deg: FloatArray
    x_tilt_deg: FloatArray
    nominal_tilt_deg: FloatArray | None


def read_xf(path: str | os.PathLike[str]) -> FloatArray:
    """Read a file of 2D transforms (``.xf``, ``.prexg``), shape (n, 6): A11 A12 A21 A22 DX DY.

    Raises
    ------
    BadInput
        If it cannot be read or a line does not hold six numbers.
    """
    return np.array(_lines_of_numbers(path, n_columns=6), dtype=np.float64)


def _lines_of_numbers(path: str | os.PathLike[str], n_columns: int) -> list[list[float]]:
    where = Path(path)
    try:
        text = where.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot read {where}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not text; is it the right file?") from error
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if cells := line.split():
            if len(cells) != n_columns:
                raise BadInput(f"{where}, line {number}: {len(cells)} values, expected {n_columns}; was it cut?")
            lines.append([parse_number(cell, f"{where}, line {number}") for cell in cells])
    if not lines:
        raise BadInput(f"{where} is empty; run the alignment again")
    return lines


def read_imod_files(xf_path: str | os.PathLike[str]) -> ImodFiles:
    """Read an ``.xf`` with the ``.tlt``, and ``.xtilt`` and ``.rawtlt`` if there are, of the same stem beside it.

    Raises
    ------
    BadInput
        If one cannot be read, or they do not have one line for every section each.
    """
    path = Path(xf_path)
    xf = read_xf(path)

    def angles(suffix: str) -> FloatArray:
        beside = path.with_suffix(suffix)
        read = np.array(read_angles_deg(beside), dtype=np.float64)
        if len(read) != len(xf):
            raise BadInput(f"{beside.name} has {len(read)} lines and {path.name} {len(xf)}; they are not of one run")
        return read

    return ImodFiles(
        path=path,
        xf=xf,
        y_tilt_deg=angles(".tlt"),
        x_tilt_deg=angles(".xtilt") if path.with_suffix(".xtilt").exists() else np.zeros(len(xf)),
        nominal_tilt_deg=angles(".rawtlt") if path.with_suffix(".rawtlt").exists() else None,
    )


def read_imod(
    xf_path: str | os.PathLike[str],
    series: TiltSeries,
    *,
    xf_pixel_size_angst: float | None = None,
    half_pixel: HalfPixel = "exact",
    angle_offset_deg: float = 0.0,
) -> Alignment:
    """Read IMOD's alignment of a series.

    Parameters
    ----------
    xf_path
        The ``.xf`` file; see `read_imod_files` for what belongs to it.
    series
        The series it is of. Lines may stand in the order of the input or by ascending tilt.
    xf_pixel_size_angst
        Pixel size of the images that IMOD aligned, Angstrom, if it is not that of the series.
    half_pixel
        See `edge_centre.HalfPixel`.
    angle_offset_deg
        Subtracted from the tilts. RELION does so with IMOD's total tilt angle change, which undoes the levelling of
        the specimen; 0 keeps IMOD's angles.

    Raises
    ------
    BadTiltSeries
        If the files cannot be used or do not fit the series.
    """
    try:
        files = read_imod_files(xf_path)
    except BadInput as error:
        raise BadTiltSeries(series.name, str(error)) from error
    line_of_tilt = np.argsort(_input_position_of_lines(files, series))
    try:
        found = geometry_from_xf(
            files.xf[line_of_tilt],
            files.y_tilt_deg[line_of_tilt] - angle_offset_deg,
            files.x_tilt_deg[line_of_tilt],
            series.image_shape_yx,
            series.pixel_size_angst,
            xf_pixel_size_angst,
            half_pixel,
        )
    except ValueError as error:
        raise BadTiltSeries(series.name, f"{files.path}: {error}") from error
    options = {"file": files.path.name, "half_pixel": half_pixel, "angle_offset_deg": angle_offset_deg}
    return Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=found.geometry,
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=series.included,
        reasons=tuple(tilt.reason for tilt in series.tilts),
        flags=tuple(_flags(found, series)),
        provenance=Provenance("IMOD .xf", options, version("napari-tiltalign")),
    )


def _input_position_of_lines(files: ImodFiles, series: TiltSeries) -> NDArray[np.intp]:
    """For each line the position of its image in the series."""
    if (n_lines := len(files.xf)) != len(series):
        problem = f"{files.path} has {n_lines} lines for {len(series)} images; use the series that IMOD aligned"
        raise BadTiltSeries(series.name, problem)
    listed = files.y_tilt_deg if files.nominal_tilt_deg is None else files.nominal_tilt_deg
    order = tilts_of_lines(listed, series.nominal_tilt_deg)
    if order is None:
        suffix = ".tlt" if files.nominal_tilt_deg is None else ".rawtlt"
        problem = "fit the series neither in the order of the input nor by ascending tilt; is it of another series?"
        raise BadTiltSeries(series.name, f"the angles in {files.path.with_suffix(suffix)} {problem}")
    return order


def _flags(found: XfGeometry, series: TiltSeries) -> Iterable[Flag]:
    pixel = series.pixel_size_angst
    bent = np.flatnonzero(found.beyond_angst > NEGLIGIBLE_PX * pixel)
    if bent.size:
        worst = found.beyond_angst.max()
        detail = (
            f"stretch and skew of the transforms, which move the corner of an image by up to {worst:.3g} Angstrom "
            f"({worst / pixel:.3g} px), are left out in {bent.size} images"
        )
        yield Flag("import_incomplete", detail, tuple(series.tilt_ids[i] for i in bent))
    field = np.array(series.image_shape_yx) * pixel
    away = np.flatnonzero((np.abs(found.geometry.shift_yx_angst) > field / 2).any(axis=1))
    if away.size:
        detail = f"{away.size} images; if they are many, the transforms may be for another pixel size"
        yield Flag("outlier_shift", detail, tuple(series.tilt_ids[i] for i in away))


def xf_text(xf: FloatArray) -> str:
    """Write transforms, shape (n, 6), with the columns and decimals of IMOD: good to 0.001 px."""
    return "".join("".join(f"{v:12.7f}" for v in row[:4]) + f"{row[4]:12.3f}{row[5]:12.3f}\n" for row in xf + 0.0)


def angles_text(angles_deg: FloatArray) -> str:
    """Write one angle a line, shape (n,). IMOD's own two decimals would cost 0.15 px at the edge of a 4k image."""
    return "".join(f"{angle:10.5f}\n" for angle in angles_deg + 0.0)


def write_imod(
    xf_path: str | os.PathLike[str], alignment: Alignment, nominal_tilt_deg: FloatArray | None = None
) -> tuple[Loss, ...]:
    """Write an alignment as ``.xf`` with ``.tlt``, ``.xtilt`` and ``.rawtlt`` beside it, one line for every image.

    Parameters
    ----------
    xf_path
        Where to put the ``.xf``; the others get its stem. It is written last.
    alignment
        What to write, all n images in its order.
    nominal_tilt_deg
        Shape (n,): for ``.rawtlt``, which is left out without them.

    Returns
    -------
    tuple of Loss
        What the files do not hold.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    path = Path(xf_path)
    geometry, shape, pixel = alignment.geometry, alignment.image_shape_yx, alignment.pixel_size_angst
    xf = xf_from_geometry(geometry, shape, pixel)
    if nominal_tilt_deg is not None:
        write_atomic(path.with_suffix(".rawtlt"), angles_text(nominal_tilt_deg))
    write_atomic(path.with_suffix(".xtilt"), angles_text(geometry.x_tilt_deg))
    write_atomic(path.with_suffix(".tlt"), angles_text(geometry.y_tilt_deg))
    write_atomic(path, xf_text(xf))
    files = read_imod_files(path)
    written = geometry_from_xf(files.xf, files.y_tilt_deg, files.x_tilt_deg, shape, pixel).geometry
    rounding = geometry_loss("rounding", alignment, written, "decimals of the .xf and .tlt files")
    return (*rounding, *unwritten_losses(alignment, "are written like the others, interpolated"))
