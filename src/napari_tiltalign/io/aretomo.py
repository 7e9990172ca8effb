"""Alignments of AreTomo, AreTomo2 and AreTomo3: the ``.aln`` file.

AreTomo maps an aligned position to a raw one, ``raw = GMAG R(ROT) aligned + (TX, TY)``, in pixels about the edge centre
(see `edge_centre`), which is our model with ``z_rot = ROT``, ``y_tilt = TILT`` and no x tilt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.io.aln_text import AlnFile, aln_text, read_aln_file
from napari_tiltalign.io.aretomo_local import local_motion_of
from napari_tiltalign.io.edge_centre import HalfPixel, from_edge_centre_px
from napari_tiltalign.io.files import write_atomic
from napari_tiltalign.io.losses import Loss, geometry_loss, unwritten_losses
from napari_tiltalign.io.row_order import tilts_of_lines
from napari_tiltalign.model import Alignment, Flag, LocalMotion, Provenance, TiltSeries
from napari_tiltalign.model.interpolation import interpolate_geometry

_SAME_ANGLE_DEG = 0.02  # AreTomo writes two decimals
_DARK_ANGLE_DEG = 1.0  # the table of angles that AreTomo was given may be coarser than ours


def read_aretomo(aln_path: str | os.PathLike[str], series: TiltSeries, *, half_pixel: HalfPixel = "exact") -> Alignment:
    """Read AreTomo's alignment of a series.

    Lines are matched to images by tilt angle and order, with SEC as a hint only. Images that AreTomo dropped as dark
    get an interpolated geometry and are marked as not included. Local alignment becomes motion of the specimen.

    Parameters
    ----------
    aln_path
        The ``.aln`` file.
    series
        The series it is of, with or without the images that AreTomo dropped.
    half_pixel
        See `edge_centre.HalfPixel`.

    Raises
    ------
    BadTiltSeries
        If the file cannot be used, does not fit the series, or does not tell two images of equal tilt apart.
    """
    try:
        file = read_aln_file(aln_path)
    except BadInput as error:
        raise BadTiltSeries(series.name, str(error)) from error
    _check_size(file, series)
    position = _positions_in_series(file, series)
    aligned = np.zeros(len(series), dtype=bool)
    aligned[position] = True
    geometry = interpolate_geometry(
        _scattered(_geometry(file, series.image_shape_yx, series.pixel_size_angst, half_pixel), position, len(series)),
        aligned,
        series.nominal_tilt_deg,
    )
    motion = local_motion_of(file, position, series.tilt_ids, series.pixel_size_angst)
    dropped = f"dropped by AreTomo ({file.path.name})"
    reasons = (t.reason if seen or not t.included else dropped for t, seen in zip(series.tilts, aligned, strict=True))
    return Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=geometry,
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=series.included & aligned,
        reasons=tuple(reasons),
        local_motion=motion,
        details={"aretomo": dict(file.headers)} if file.headers else {},
        flags=tuple(_flags(file, motion)),
        provenance=Provenance(
            "AreTomo .aln", {"file": file.path.name, "half_pixel": half_pixel}, version("napari-tiltalign")
        ),
    )


def _check_size(file: AlnFile, series: TiltSeries) -> None:
    if file.raw_size_xyz is not None and file.raw_size_xyz[1::-1] != series.image_shape_yx:
        nx, ny, _ = file.raw_size_xyz
        y, x = series.image_shape_yx
        problem = f"{file.path} was made from images of {nx} x {ny} px and those of the series have {x} x {y}"
        raise BadTiltSeries(series.name, f"{problem}; use the images that AreTomo was given")


def _positions_in_series(file: AlnFile, series: TiltSeries) -> NDArray[np.intp]:
    """Return the position in the series of every line."""
    n_lines, n_dark = file.section.size, file.dark_section.size
    if len(series) not in (n_lines, n_lines + n_dark):
        problem = f"{file.path} lists {n_lines} images and {n_dark} dark ones, the series has {len(series)}"
        raise BadTiltSeries(series.name, f"{problem}; use the series that AreTomo aligned")
    dark = _dark_positions(file, series) if len(series) > n_lines else np.array([], dtype=np.intp)
    kept = np.setdiff1d(np.arange(len(series)), dark)
    nominal = series.nominal_tilt_deg[kept]
    by_section = np.argsort(file.section, kind="stable")  # whatever SEC counts from, its order is that of the stack
    order = tilts_of_lines(file.tilt_deg[by_section], nominal)
    if order is None:
        problem = f"the tilt angles in {file.path} do not fit those of the series; is it of another one?"
        raise BadTiltSeries(series.name, problem)
    resorted = not np.array_equal(order, np.arange(order.size)) or np.unique(file.section).size != n_lines
    if resorted and (np.diff(np.sort(nominal)) < _SAME_ANGLE_DEG).any():
        problem = f"{file.path} is not in the order of the series, and some images have the same tilt"
        raise BadTiltSeries(series.name, f"{problem}, so they cannot be told apart; give the stack in its own order")
    position = np.empty(n_lines, dtype=np.intp)
    position[by_section] = kept[order]
    return position


def _dark_positions(file: AlnFile, series: TiltSeries) -> NDArray[np.intp]:
    """Position in the series of every dark image, by angle; SEC only decides between equal ones."""
    first = file.first_section
    bases = [0, 1] if first is None else [first]
    free = np.ones(len(series), dtype=bool)
    positions = []
    for tilt, section in zip(file.dark_tilt_deg, file.dark_section, strict=True):
        apart = np.where(free, np.abs(series.nominal_tilt_deg - tilt), np.inf)
        if apart.min() > _DARK_ANGLE_DEG:
            problem = f"the dark image at {tilt:g} degrees in {file.path} is not in the series"
            raise BadTiltSeries(series.name, f"{problem}; use the series that AreTomo aligned")
        nearest = np.flatnonzero(apart < apart.min() + _SAME_ANGLE_DEG)
        if nearest.size > 1:
            nearest = np.intersect1d(nearest, [section - base for base in bases])
        if nearest.size != 1:
            problem = f"{file.path} does not say which of the images at {tilt:g} degrees is the dark one"
            raise BadTiltSeries(series.name, f"{problem}; exclude it and align again without it")
        free[nearest[0]] = False
        positions.append(nearest[0])
    return np.array(positions, dtype=np.intp)


def _geometry(
    file: AlnFile, image_shape_yx: tuple[int, int], pixel_size_angst: float, half_pixel: HalfPixel = "exact"
) -> ViewGeometry:
    """Geometry of the k images of the file, in its order."""
    centre_px = file.shift_xy_px[:, ::-1] - from_edge_centre_px(image_shape_yx, half_pixel)
    return ViewGeometry(
        np.zeros_like(file.tilt_deg),
        file.tilt_deg,
        file.rot_deg,
        centre_px * pixel_size_angst,
        file.magnification,
    )


def _scattered(geometry: ViewGeometry, position: NDArray[np.intp], n: int) -> ViewGeometry:
    """Geometry of n images, that of the k given ones at their positions, any elsewhere."""
    line = np.zeros(n, dtype=np.intp)
    line[position] = np.arange(position.size)
    return geometry.take(line)


def _flags(file: AlnFile, motion: LocalMotion | None) -> Iterable[Flag]:
    if file.local.size and motion is None:
        rms_px = float(np.sqrt((file.local[:, 4:6] ** 2).sum(axis=1).mean()))
        detail = f"local alignment of {len(np.unique(file.local[:, 1]))} patches, {rms_px:.3g} px rms, is left out"
        yield Flag("import_incomplete", detail)
    if beta := file.headers.get("BetaOffset", 0.0):
        yield Flag("import_incomplete", f"BetaOffset of {beta:g} degrees is not part of the tilts and is left out")


def write_aretomo(
    aln_path: str | os.PathLike[str], alignment: Alignment, nominal_tilt_deg: FloatArray | None = None
) -> tuple[Loss, ...]:
    """Write an alignment as AreTomo2 does: images by ascending tilt, excluded ones as dark, sections from 0.

    Parameters
    ----------
    aln_path
        Where to put it.
    alignment
        What to write; sections count its n images in their order.
    nominal_tilt_deg
        Shape (n,): tilts of the dark images as AreTomo writes them; without them, the aligned ones are written.

    Returns
    -------
    tuple of Loss
        What the file does not hold: an x tilt, tracks, uncertainty.

    Raises
    ------
    BadTiltSeries
        If no image is included, because AreTomo's format cannot say that.
    OSError
        If it cannot be written.
    """
    if not alignment.included.any():
        raise BadTiltSeries(alignment.series_name, "no image is included, so there is nothing to write as .aln")
    geometry, pixel = alignment.geometry, alignment.pixel_size_angst
    shift_px = geometry.shift_yx_angst / pixel + from_edge_centre_px(alignment.image_shape_yx)
    dark_tilt = geometry.y_tilt_deg if nominal_tilt_deg is None else nominal_tilt_deg
    by_tilt = np.argsort(geometry.y_tilt_deg, kind="stable")
    kept = by_tilt[alignment.included[by_tilt]]
    text = aln_text(
        kept,
        geometry.z_rot_deg[kept],
        geometry.magnification[kept],
        shift_px[kept, ::-1],
        geometry.y_tilt_deg[kept],
        [(rank, int(i), float(dark_tilt[i])) for rank, i in enumerate(by_tilt) if not alignment.included[i]],
        (alignment.image_shape_yx[1], alignment.image_shape_yx[0], len(alignment)),
    )
    write_atomic(aln_path, text)
    return (
        *_x_tilt_loss(alignment),
        *_rounding_loss(alignment, read_aln_file(aln_path)),
        *unwritten_losses(alignment),
    )


def _x_tilt_loss(alignment: Alignment) -> tuple[Loss, ...]:
    geometry = alignment.geometry
    common = float(geometry.x_tilt_deg[alignment.included].mean())
    detail = f".aln has no x tilt; {common:.3g} degrees are common to all images and only turn the specimen"
    return geometry_loss("x tilt", alignment, geometry.replace(x_tilt_deg=np.zeros(len(geometry))), detail)


def _rounding_loss(alignment: Alignment, written: AlnFile) -> tuple[Loss, ...]:
    lines = _geometry(written, alignment.image_shape_yx, alignment.pixel_size_angst)
    kept = _scattered(lines, written.section, len(alignment)).replace(x_tilt_deg=alignment.geometry.x_tilt_deg)
    return geometry_loss("rounding", alignment, kept, "decimals of the .aln file")
