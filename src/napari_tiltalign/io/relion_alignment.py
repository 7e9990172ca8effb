"""The alignment in RELION's tables: read from a series' columns, and put into tables to write.

Angles and shifts of RELION 5 are those of `napari_tiltalign.geometry`, so they are copied, not converted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.geometry import FloatArray, ViewGeometry, euler_angles_deg
from napari_tiltalign.io.files import safe_name
from napari_tiltalign.io.numbers import format_number, parse_number
from napari_tiltalign.io.relion_tables import NAME, SERIES_FILE
from napari_tiltalign.model import Table, TiltSeries

X_TILT, Y_TILT, Z_ROT = "rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot"
X_SHIFT, Y_SHIFT = "rlnTomoXShiftAngst", "rlnTomoYShiftAngst"
ALIGNMENT_COLUMNS = (X_TILT, Y_TILT, Z_ROT, X_SHIFT, Y_SHIFT)

_MATRIX_ROWS = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ", "rlnTomoProjW")
_TOMOGRAM_SIZE = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")


def read_alignment_columns(series: TiltSeries) -> ViewGeometry | None:
    """Return the alignment that a series' STAR file holds, or None if it holds none.

    RELION 5 writes angles and shifts (`ALIGNMENT_COLUMNS`; the x tilt may be absent, then it is 0). RELION 4 wrote
    matrices (``rlnTomoProjX`` ...), which RELION 5 prefers where both are there; they refer to the corner of the
    tomogram, whose size then has to be in the global table.

    Parameters
    ----------
    series
        As read by `read_relion`; the geometry has all its images, in its order.

    Raises
    ------
    BadTiltSeries
        If a cell is no number or no rotation, or the size of the tomogram is not given.
    """
    columns = set.intersection(*(set(tilt.columns) for tilt in series.tilts))
    try:
        if columns.issuperset(_MATRIX_ROWS):
            return _from_matrices(series)
        if columns.issuperset(set(ALIGNMENT_COLUMNS) - {X_TILT}):
            return _from_angles(series)
    except BadInput as error:
        raise BadTiltSeries(series.name, f"{series.source}: {error}") from None
    return None


def _from_angles(series: TiltSeries) -> ViewGeometry:
    limits = {X_TILT: 180.0, Y_TILT: 180.0, Z_ROT: 360.0, X_SHIFT: math.inf, Y_SHIFT: math.inf}
    values = {
        column: np.array(
            [parse_number(t.columns.get(column, "0"), f"{column} of {t.tilt_id}", limit=limit) for t in series.tilts]
        )
        for column, limit in limits.items()
    }
    shift_yx = np.column_stack([values[Y_SHIFT], values[X_SHIFT]])
    return ViewGeometry(values[X_TILT], values[Y_TILT], values[Z_ROT], shift_yx, np.ones(len(series)))


def _from_matrices(series: TiltSeries) -> ViewGeometry:
    missing = [column for column in _TOMOGRAM_SIZE if column not in series.columns]
    if missing:
        raise BadInput(f"{', '.join(_MATRIX_ROWS)} need the size of the tomogram, but the global table has no "
                       f"{', '.join(missing)}")  # fmt: skip
    volume_centre_px = np.array([parse_number(series.columns[c], c) // 2 for c in _TOMOGRAM_SIZE])
    image_centre_px = np.array([side // 2 for side in series.image_shape_yx[::-1]])
    rows_px = np.array([[_vector(t.columns[c], f"{c} of {t.tilt_id}") for c in _MATRIX_ROWS[:2]] for t in series.tilts])
    magnification = np.linalg.norm(rows_px[:, :, :3], axis=2)
    if not np.isclose(magnification[:, 0], magnification[:, 1], rtol=1e-3).all() or (magnification < 1e-3).any():
        raise BadInput(f"{_MATRIX_ROWS[0]} and {_MATRIX_ROWS[1]} differ in length: not a projection")
    axes = rows_px[:, :, :3] / magnification[:, :, None]
    if np.abs(np.einsum("ni,ni->n", axes[:, 0], axes[:, 1])).max() > 1e-3:
        raise BadInput(f"{_MATRIX_ROWS[0]} and {_MATRIX_ROWS[1]} are not perpendicular: not a projection")
    rotation = np.stack([axes[:, 0], axes[:, 1], np.cross(axes[:, 0], axes[:, 1])], axis=1)
    shift_xy_px = rows_px[:, :, :3] @ volume_centre_px + rows_px[:, :, 3] - image_centre_px
    shift_yx_angst = shift_xy_px[:, ::-1] * series.pixel_size_angst
    return ViewGeometry(*euler_angles_deg(rotation), shift_yx_angst, magnification.mean(axis=1))


def _vector(cell: str, what: str) -> FloatArray:
    """Read ``[a,b,c,d]``."""
    parts = cell.strip("[]").split(",")
    if len(parts) != 4:
        raise BadInput(f"{what} is {cell!r}, not four numbers in brackets")
    return np.array([parse_number(part.strip(), what) for part in parts])


def star_blocks_with_alignment(
    series: TiltSeries,
    geometry: ViewGeometry,
    rows: Sequence[int] | None = None,
    measured: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> dict[str, Table]:
    """Return the tables of a series' STAR file with an alignment in them, as RELION's own job would write them.

    All columns and further tables of the input are kept. The alignment columns are overwritten where they are and
    appended where they are not; the matrices of RELION 4, which would win over them, are left out.

    Parameters
    ----------
    series
        The series.
    geometry
        One view for each of its images, in its order. Magnifications must be 1: the format has no place for them.
    rows
        Which images to list, in this order; by default those included, by ascending nominal tilt.
    measured
        Further columns to write over those of the input, with the cell of each image by its identity.

    Raises
    ------
    ValueError
        If the geometry does not belong to the series, or holds magnifications.
    """
    if len(geometry) != len(series):
        raise ValueError(f"{len(geometry)} views for the {len(series)} images of {series.name}")
    if (geometry.magnification != 1.0).any():
        raise ValueError("a STAR file cannot hold magnifications; write the best geometry without them")
    if rows is None:
        rows = [int(i) for i in series.tilt_order() if series.tilts[i].included]
    values = (geometry.x_tilt_deg, geometry.y_tilt_deg, geometry.z_rot_deg, *geometry.shift_yx_angst.T[::-1])
    table_rows = []
    for i in rows:
        kept = {name: cell for name, cell in series.tilts[i].columns.items() if name not in _MATRIX_ROWS}
        aligned = {name: format_number(column[i]) for name, column in zip(ALIGNMENT_COLUMNS, values, strict=True)}
        tilt_id = series.tilts[i].tilt_id
        more = {column: cells.get(tilt_id, kept.get(column, "")) for column, cells in measured.items()}
        table_rows.append(kept | more | aligned)
    return {series.name: Table.from_rows(table_rows), **series.extra_blocks}


def series_star_file(series_name: str, directory: str) -> str:
    """Path of a series' STAR file in an output folder: ``DIR/tilt_series/NAME.star``.

    That is what RELION's rule gives (the part of the input's path after ``jobNNN/``, behind the new folder) for
    whatever its jobs wrote. Where its rule would give something else, the path would leave the folder.

    Parameters
    ----------
    series_name
        Any name; it is made safe.
    directory
        Output folder as it should stand in the table: relative to the project for RELION.
    """
    return f"{directory.rstrip('/')}/tilt_series/{safe_name(series_name)}.star"


def global_table(rows: Iterable[Mapping[str, str]], directory: str) -> Table:
    """Return a global table whose series lie in another folder.

    Parameters
    ----------
    rows
        One row of the input's global table for each series (`TiltSeries.columns`), perhaps with columns added. A
        column that only some have is empty for the others.
    directory
        Output folder as it should stand in the table.
    """
    listed = [dict(row) for row in rows]
    names = dict.fromkeys(name for row in listed for name in row)
    moved = [
        {name: row.get(name, "") for name in names} | {SERIES_FILE: series_star_file(row[NAME], directory)}
        for row in listed
    ]
    return Table.from_rows(moved)
