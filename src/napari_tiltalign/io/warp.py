"""Alignments of Warp and M: the ``.xml`` file of a tilt series.

Warp sees a point X of its volume at ``Rz(AxisAngle) Ry(-(Angles + LevelAngleY)) Rx(LevelAngleX) X + AxisOffset``, in
Angstrom about ``N / 2``. That is our model with ``z_rot = AxisAngle``, ``y_tilt = -(Angles + LevelAngleY)`` and
``x_tilt = LevelAngleX``; images of an odd size have half a pixel between the two centres.

Sources: what ``TiltSeries.GetPositionInAllTilts`` of Warp 2 and its twin in ``warpylib`` compute.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.io.files import write_atomic
from napari_tiltalign.io.losses import (
    NEGLIGIBLE_PX,
    Loss,
    geometry_loss,
    magnification_loss,
    unit_magnification_geometry,
    unwritten_losses,
)
from napari_tiltalign.io.warp_file import ALIGNED_GRIDS, WarpFile, open_warp, read_warp_file, warp_file, warp_library
from napari_tiltalign.io.warp_rows import Known, Rows, files_of, rows_of
from napari_tiltalign.model import Alignment, Flag, Provenance, TiltSeries
from napari_tiltalign.model.interpolation import interpolate_geometry

_SAME_SIZE = 0.01
"""Relative difference up to which images have the same size: pixel sizes are rounded."""


def read_warp(path: str | os.PathLike[str], series: TiltSeries, rows: Rows | None = None) -> Alignment:
    """Read the alignment that Warp or M has of a series.

    Rows are matched to images by the names of the movies, or else by tilt. Images that Warp does not use, or does not
    list, are marked as not included. What M has found of motion is kept as far as it moves whole images.

    Parameters
    ----------
    path
        The ``.xml`` file.
    series
        The series it is of. Its stage tilts decide the hand: if Warp's tilts have the same sign, its volumes are mirror
        images of ours, and the alignment is given in the hand of the series, with the flag ``hand_undetermined``.
    rows
        Which row is which image, if that is known.

    Raises
    ------
    BadTiltSeries
        If the file cannot be used, or does not fit the series.
    ProgramMissing
        If the package ``warpxmlfile`` is not installed.
    """
    try:
        file = read_warp_file(path)
    except BadInput as error:
        raise BadTiltSeries(series.name, str(error)) from error
    _check_size(file, series)
    rows = rows or rows_of(file, Known.of(series))
    if not rows.listed.any():
        raise BadTiltSeries(series.name, f"{file.path} lists none of its images")
    geometry = _geometry(file, series.image_shape_yx, series.pixel_size_angst).take(np.maximum(rows.row, 0))
    if rows.sign > 0:
        geometry = geometry.mirrored()
    used = rows.listed & file.used[rows.row]
    return Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=interpolate_geometry(geometry, rows.listed, series.nominal_tilt_deg),
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=series.included & used,
        reasons=tuple(_reasons(file, series, rows)),
        flags=tuple(_flags(file, rows, series.pixel_size_angst)),
        provenance=Provenance("Warp .xml", {"file": file.path.name}, version("napari-tiltalign")),
    )


def _check_size(file: WarpFile, series: TiltSeries) -> None:
    if file.image_size_xy_angst is None:
        return
    ours = np.array(series.image_shape_yx[::-1]) * series.pixel_size_angst
    if (np.abs(np.array(file.image_size_xy_angst) / ours - 1.0) > _SAME_SIZE).any():
        size, own = (" x ".join(f"{v:.0f}" for v in values) for values in (file.image_size_xy_angst, ours))
        problem = f"{file.path} is of images of {size} Angstrom (x, y), and those of the series have {own}"
        raise BadTiltSeries(series.name, f"{problem}; use the images that Warp was given, or correct the pixel size")


def _geometry(file: WarpFile, image_shape_yx: tuple[int, int], pixel_size_angst: float) -> ViewGeometry:
    """Geometry of all rows of a file, in Warp's own hand."""
    n = len(file)
    level_x, level_y = file.level_xy_deg
    centre = half_pixel_yx_angst(image_shape_yx, pixel_size_angst)
    still = ViewGeometry(
        np.full(n, level_x),
        -(file.tilt_deg + level_y),
        file.axis_deg,
        (file.offset_xy_angst - file.image_motion_xy_angst)[:, ::-1] + centre,
        np.ones(n),
    )
    moved_xy = np.einsum("nij,nj->ni", still.rotations()[:, :2], file.volume_motion_xyz_angst)
    return still.replace(shift_yx_angst=still.shift_yx_angst + moved_xy[:, ::-1])


def half_pixel_yx_angst(image_shape_yx: tuple[int, int], pixel_size_angst: float) -> FloatArray:
    """Warp's centre of an image, N / 2, from ours, the pixel of index N // 2; shape (2,), Angstrom.

    Examples
    --------
    >>> half_pixel_yx_angst((4, 5), 2.0).tolist()
    [0.0, 1.0]
    """
    size = np.array(image_shape_yx)
    centre: FloatArray = (size / 2 - size // 2) * pixel_size_angst
    return centre


def _reasons(file: WarpFile, series: TiltSeries, rows: Rows) -> Iterable[str]:
    for tilt, row in zip(series.tilts, rows.row, strict=True):
        if tilt.reason:
            yield tilt.reason
        elif row < 0:
            yield f"not listed by Warp ({file.path.name})"
        else:
            yield "" if file.used[row] else f"not used by Warp ({file.path.name})"


def _flags(file: WarpFile, rows: Rows, pixel_size_angst: float) -> Iterable[Flag]:
    if file.local_angst > NEGLIGIBLE_PX * pixel_size_angst:
        detail = f"motion within images and volume, up to {file.local_angst:.3g} Angstrom beyond its mean, is left out"
        yield Flag("import_incomplete", detail)
    if rows.sign > 0:
        detail = (
            "Warp's tilts have the sign of the stage's, so its volumes are mirror images of what this alignment gives"
        )
        yield Flag("hand_undetermined", detail)


def write_warp(
    path: str | os.PathLike[str], alignment: Alignment, series: TiltSeries | None = None
) -> tuple[Loss, ...]:
    """Write an alignment as Warp does; a file of Warp that is there keeps everything else that it holds.

    Parameters
    ----------
    path
        Where to put it. If this is a file of Warp, only its alignment is replaced, in its own order and hand; images
        that the alignment does not have are marked as not used, and what M has refined on top of the old alignment is
        removed.
    alignment
        What to write.
    series
        The series it is of: gives names and doses, which find the rows of a file that is there, or go into a new one.

    Returns
    -------
    tuple of Loss
        What the file does not hold: magnifications, X tilts that differ between images, tracks, uncertainty.

    Raises
    ------
    BadInput
        If there is another file at this place.
    BadTiltSeries
        If the file that is there is not of this series.
    ProgramMissing
        If the package ``warpxmlfile`` is not installed.
    OSError
        If it cannot be written.
    """
    where = Path(path)
    chosen = alignment.included if alignment.included.any() else np.ones(len(alignment), dtype=bool)
    level_x = float(alignment.star_geometry.x_tilt_deg[chosen].mean())
    if where.exists():
        warp, losses = _updated(where, alignment, _known(alignment, series), level_x)
    else:
        warp, losses = _new(alignment, series, level_x)
    write_atomic(where, warp_library().to_string(warp))
    return (
        *magnification_loss(alignment),
        *_x_tilt_loss(alignment, level_x),
        *losses,
        *unwritten_losses(alignment),
    )


def _known(alignment: Alignment, series: TiltSeries | None) -> Known:
    if series is not None:
        return Known.of(series)
    names = tuple(frozenset({tilt_id}) for tilt_id in alignment.tilt_ids)
    return Known(alignment.series_name, names, alignment.geometry.y_tilt_deg, np.full(len(alignment), nan))


def _values(alignment: Alignment, sign: int) -> Mapping[str, NDArray[Any]]:
    """Warp's numbers for every image of an alignment."""
    geometry = unit_magnification_geometry(alignment)
    offset = geometry.shift_yx_angst - half_pixel_yx_angst(alignment.image_shape_yx, alignment.pixel_size_angst)
    return {
        "angles": sign * geometry.y_tilt_deg,
        "axis_angle": geometry.z_rot_deg,
        "axis_offset_x": offset[:, 1],
        "axis_offset_y": offset[:, 0],
        "use_tilt": alignment.included,
    }


def _updated(path: Path, alignment: Alignment, known: Known, level_x_deg: float) -> tuple[Any, tuple[Loss, ...]]:
    """A file of Warp that is there, with another alignment in it."""
    warp = open_warp(path)
    rows = rows_of(warp_file(path, warp), known)
    losses: list[Loss] = []
    warp.use_tilt = np.zeros(warp.n_tilts, dtype=bool)
    for name, values in _values(alignment, rows.sign).items():
        changed = np.array(getattr(warp, name))
        changed[rows.row[rows.listed]] = values[rows.listed]
        setattr(warp, name, changed)
    level_x = -rows.sign * level_x_deg
    warp.attributes |= {"LevelAngleX": _text(level_x), "LevelAngleY": "0"}
    if removed := sorted(name for name in ALIGNED_GRIDS if warp.grids.pop(name, None) is not None):
        detail = f"{', '.join(removed)} in {path} belonged to the alignment that was replaced and are removed"
        losses.append(Loss("Warp's own motion", nan, detail))
    if missing := int((~rows.listed).sum()):
        losses.append(Loss("images", nan, f"{missing} images are not listed in {path}"))
    return warp, tuple(losses)


def _new(alignment: Alignment, series: TiltSeries | None, level_x_deg: float) -> tuple[Any, tuple[Loss, ...]]:
    """A file of its own, with what Warp needs to read it and nothing that is not known."""
    pixel = alignment.pixel_size_angst
    size = ", ".join(_text(n * pixel) for n in alignment.image_shape_yx[::-1])
    dose = np.array([nan] if series is None else [t.pre_exposure_e_per_A2 for t in series.tilts])
    dose_known = bool(np.isfinite(dose).all())
    warp = warp_library().WarpTiltSeries(
        attributes={
            "AreAnglesInverted": "False",
            "LevelAngleX": _text(level_x_deg),
            "LevelAngleY": "0",
            "ImageDimensionsAngstrom": size,
        },
        dose=dose if dose_known else None,
        movie_path=list(_movie_names(alignment, series)),
        ctf={"PixelSize": _text(pixel)},
        **_values(alignment, sign=-1),
    )
    detail = (
        "the file holds the alignment only; to hand it to Warp, write it to a copy of Warp's own file of this series"
    )
    losses = [Loss("CTF and paths", nan, detail)]
    if not dose_known:
        losses.append(Loss("dose", nan, "the dose before each image is not known"))
    return warp, tuple(losses)


def _movie_names(alignment: Alignment, series: TiltSeries | None) -> Iterable[str]:
    """A name for every image without blanks, which Warp's lists cannot hold."""
    for k, tilt_id in enumerate(alignment.tilt_ids):
        files = [] if series is None else files_of(series.tilts[k].columns)
        yield "_".join((files or [tilt_id])[0].split())


def _x_tilt_loss(alignment: Alignment, common_deg: float) -> tuple[Loss, ...]:
    geometry = alignment.geometry
    detail = f"Warp has one for all images (LevelAngleX), {common_deg:.3g} degrees is written"
    kept = geometry.replace(x_tilt_deg=np.full(len(geometry), common_deg))
    return geometry_loss("X tilt of each image", alignment, kept, detail)


def _text(value: float) -> str:
    return f"{value + 0.0:.9g}"
