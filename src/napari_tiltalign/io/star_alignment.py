"""Alignments read from RELION's STAR files. No image is opened where the series is known already."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadTiltSeries, listed
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.io.relion_alignment import ALIGNMENT_COLUMNS, read_alignment_columns
from napari_tiltalign.io.relion_tables import NAME, SERIES_FILE, require_columns, tilts_from_table
from napari_tiltalign.io.star import read_star
from napari_tiltalign.model import Alignment, Provenance, Table, TiltSeries
from napari_tiltalign.model.interpolation import interpolate_geometry

_GLOBAL = "global"


def alignment_of_star_series(series: TiltSeries) -> Alignment:
    """Return the alignment that is part of a series as read from a STAR file.

    Raises
    ------
    BadTiltSeries
        If there is none.
    """
    geometry = _geometry(series)
    return _alignment(series, geometry, series.included, tuple(tilt.reason for tilt in series.tilts), series.source)


def alignment_of_star(path: Path, series: TiltSeries) -> Alignment:
    """Read the alignment of a series from a global STAR file or that of the series.

    Rows are found by the identity of their images. An image that the file does not list (RELION deletes the rows of
    images that are excluded) gets an interpolated geometry and counts as not included.

    Parameters
    ----------
    path
        The STAR file.
    series
        The series, from wherever it was read.

    Raises
    ------
    BadInput
        If the file cannot be used.
    BadTiltSeries
        If it holds no alignment of this series.
    """
    blocks = read_star(path)
    columns: Mapping[str, str] = series.columns
    star = path
    if _GLOBAL in blocks:
        columns = _global_row(blocks[_GLOBAL], path, series)
        star = _series_file(path, columns[SERIES_FILE], series)
        blocks = read_star(star)
    if series.name not in blocks:
        raise BadTiltSeries(series.name, f"{star} holds data_{', data_'.join(blocks)} and not data_{series.name}")
    listed = series.replace(
        tilts=tilts_from_table(series.name, blocks[series.name], source=str(star)), columns=columns, source=str(star)
    )
    return _matched(_geometry(listed), listed, series)


def _global_row(table: Table, path: Path, series: TiltSeries) -> dict[str, str]:
    require_columns(table, (NAME, SERIES_FILE), str(path))
    for row in table.rows():
        if row[NAME] == series.name:
            return row
    raise BadTiltSeries(series.name, f"{path} does not list it; there are {listed(table.columns[NAME], series.name)}")


def _series_file(path: Path, name: str, series: TiltSeries) -> Path:
    """File of a series, whose name is relative to the project: the folder of the global file or one above."""
    folder = path.absolute().parent
    for candidate in (folder, *folder.parents):
        if (candidate / name).is_file():
            return candidate / name
    raise BadTiltSeries(series.name, f"{name} is neither in {folder} nor in a folder above it")


def _geometry(series: TiltSeries) -> ViewGeometry:
    geometry = read_alignment_columns(series)
    if geometry is None:
        raise BadTiltSeries(
            series.name,
            f"{series.source} holds no alignment (columns "
            f"{', '.join(ALIGNMENT_COLUMNS)}); give the STAR file of a later job, or align first",
        )
    return geometry


def _matched(geometry: ViewGeometry, listed: TiltSeries, series: TiltSeries) -> Alignment:
    row_of = {tilt_id: row for row, tilt_id in enumerate(listed.tilt_ids)}
    found = np.array([tilt_id in row_of for tilt_id in series.tilt_ids])
    if not found.any():
        problem = f"no image of {listed.source} is one of the series: {listed.tilt_ids[0]} and {series.tilt_ids[0]}"
        raise BadTiltSeries(series.name, f"{problem} are the first; use the series that was aligned")
    rows = np.array([row_of.get(tilt_id, 0) for tilt_id in series.tilt_ids])
    filled = interpolate_geometry(geometry.take(rows), found, series.nominal_tilt_deg)
    absent = f"not listed in {Path(listed.source).name}"
    reasons = tuple(
        tilt.reason if here or not tilt.included else absent for tilt, here in zip(series.tilts, found, strict=True)
    )
    return _alignment(series, filled, series.included & found, reasons, listed.source)


def _alignment(
    series: TiltSeries, geometry: ViewGeometry, included: NDArray[np.bool_], reasons: tuple[str, ...], source: str
) -> Alignment:
    return Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=geometry,
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=included,
        reasons=reasons,
        provenance=Provenance("RELION STAR", {"file": Path(source).name}, version("napari-tiltalign")),
    )
