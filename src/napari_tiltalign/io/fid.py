"""Tracks as IMOD models (``.fid``): one open contour for each bead or patch, z is the section.

Points are in IMOD's pixel coordinates, where the first pixel's centre is at 0.5.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.io.files import write_atomic
from napari_tiltalign.io.imod import read_xf
from napari_tiltalign.io.losses import Loss
from napari_tiltalign.model import Alignment, TiltSeries, Tracks

_UNIT_NM = -9  # IMOD's code for a pixel size in 1e-9 m


def write_fid(path: str | os.PathLike[str], alignment: Alignment) -> tuple[Loss, ...]:
    """Write the tracks of an alignment as an IMOD model of its raw stack.

    Parameters
    ----------
    path
        Where to put it.
    alignment
        With tracks; sections count its images in their order. Rejected observations are left out.

    Returns
    -------
    tuple of Loss
        What the model does not hold.

    Raises
    ------
    BadTiltSeries
        If the alignment has no tracks.
    OSError
        If it cannot be written.
    """
    from imodmodel.writers import write_model  # brings pandas, which only this needs

    if alignment.tracks is None:
        raise BadTiltSeries(alignment.series_name, "this alignment rests on no tracks, so there is no .fid to write")
    buffer = io.BytesIO()
    write_model(buffer, _model(alignment, alignment.tracks))
    write_atomic(path, buffer.getvalue())
    n_rejected = int((~alignment.tracks.used).sum())
    detail = f"weights, residuals, 3D points and {n_rejected} rejected observations are kept in alignment.json only"
    return (Loss("track details", float("nan"), detail),)


def _model(alignment: Alignment, tracks: Tracks) -> object:
    from imodmodel.models import MINX, Contour, ImodModel, ModelFlags, ModelHeader, Object, ObjectHeader

    pixel, zero = alignment.pixel_size_angst, (0.0, 0.0, 0.0)
    contours = [Contour(points=points) for points in _contours_xyz_px(tracks)]
    bead = Object(header=ObjectHeader(name="tracks", green=1.0, symbol=0, symsize=7), contours=contours)
    bead.header.flags.open = True
    header = ModelHeader(
        name="tracks of napari-tiltalign",
        xmax=alignment.image_shape_yx[1],
        ymax=alignment.image_shape_yx[0],
        zmax=len(alignment),
        pixelsize=pixel / 10.0,
        units=_UNIT_NM,
        flags=ModelFlags(
            z_coordinates_start_from_negative_half=True,
            multiple_clip_planes_possible=True,
            mat1_and_mat3_are_bytes=True,
            otrans_has_image_origin_values=True,
            current_tilt_angles_are_stored_correctly=True,
        ),
    )
    to_stack = MINX(oscale=(1.0, 1.0, 1.0), otrans=zero, orot=zero, cscale=(pixel,) * 3, ctrans=zero, crot=zero)
    return ImodModel(header=header, objects=[bead], minx=to_stack)


def _contours_xyz_px(tracks: Tracks) -> list[FloatArray]:
    """Observations that are used, by track and then by image, each of shape (k, 3)."""
    contours = []
    for track in range(tracks.n_tracks):
        chosen = np.flatnonzero(tracks.used & (tracks.track == track))
        chosen = chosen[np.argsort(tracks.tilt[chosen])]
        contours.append(np.column_stack([tracks.position_yx_px[chosen, ::-1] + 0.5, tracks.tilt[chosen]]))
    return [contour for contour in contours if len(contour)]


def read_fid(
    path: str | os.PathLike[str], series: TiltSeries, *, prexg_path: str | os.PathLike[str] | None = None
) -> Tracks:
    """Read an IMOD model of tracks.

    Parameters
    ----------
    path
        The model. If it knows the pixel size of its stack, that may be binned.
    series
        The series it is of; sections count its images in their order.
    prexg_path
        The ``.prexg`` file, for the model of a pre-aligned stack (which is what IMOD tracks on); without it the
        points are taken as on the raw stack.

    Returns
    -------
    Tracks
        One for each contour that has points; positions in the specimen are not known yet (NaN).

    Raises
    ------
    BadTiltSeries
        If it is no model, was cut, or has points that no image of the series can have.
    """
    try:
        points, track = _points_of_model(Path(path), series.pixel_size_angst)
        position_xy_px: FloatArray = points[:, :2] - 0.5 * np.array(series.image_shape_yx[::-1])
        tilt = _sections(path, points[:, 2], len(series))
        if prexg_path is not None:
            position_xy_px = _before_prealignment(position_xy_px, tilt, prexg_path, len(series))
    except BadInput as error:
        raise BadTiltSeries(series.name, str(error)) from error
    position_xy_px += 0.5 * np.array(series.image_shape_yx[::-1]) - 0.5
    _check_one_point_per_image(path, series, track, tilt)
    unknown = np.full((int(track.max(initial=-1)) + 1, 3), np.nan)
    return Tracks.from_observations(series.tilt_ids, unknown, track, tilt, position_xy_px[:, ::-1])


class _WholeBytes(io.BytesIO):
    """Bytes that end with an error: without one, imodmodel looks for the end of a file that was cut forever."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise EOFError
        return data


def _points_of_model(path: Path, pixel_size_angst: float) -> tuple[FloatArray, NDArray[np.int64]]:
    """Points (k, 3) as x, y, section in raw pixels from the edge, and the number of the contour of each."""
    from imodmodel.parsers import parse_model

    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    if not data.startswith(b"IMODV1.2"):
        raise BadInput(f"{path} is not a binary IMOD model")
    try:
        model = parse_model(_WholeBytes(data))
    except (EOFError, struct.error, ValueError, IndexError, MemoryError) as error:
        raise BadInput(f"{path} is damaged or was cut; save it again in 3dmod") from error
    contours = [contour.points for item in model.objects for contour in item.contours if len(contour.points)]
    points: FloatArray = np.concatenate(contours) if contours else np.zeros((0, 3))
    if model.minx is not None and model.minx.cscale[0] not in (0.0, 1.0):  # those say nothing about the stack
        binning = _binning(path, model.minx.cscale[0], pixel_size_angst)
        points = points * np.array([binning, binning, 1.0])
    return points, np.repeat(np.arange(len(contours)), [len(contour) for contour in contours])


def _binning(path: Path, model_pixel_angst: float, pixel_size_angst: float) -> float:
    """Pixels of the series to one of the stack the model was made on: a whole number or one over a whole number.

    The pixel sizes in headers are rounded, which must not stretch the tracks.
    """
    ratio = model_pixel_angst / pixel_size_angst
    binning = float(round(ratio)) if ratio > 0.7 else 1.0 / round(1.0 / ratio)
    if abs(ratio / binning - 1.0) > 0.05:
        problem = f"was made on images of {model_pixel_angst:g} Angstrom per pixel, the series has {pixel_size_angst:g}"
        raise BadInput(f"{path} {problem}; correct the pixel size, or save the model on a stack of this series")
    return binning


def _sections(path: str | os.PathLike[str], z: FloatArray, n: int) -> NDArray[np.int64]:
    """Whole numbers of sections, all within a stack of n."""
    sections = np.rint(z).astype(np.int64)
    if sections.size and (sections.min() < 0 or sections.max() >= n):
        wrong = sections[(sections < 0) | (sections >= n)][0]
        raise BadInput(f"{path} has points on section {wrong + 1}, the series has {n} images; is it of another one?")
    return sections


def _before_prealignment(
    position_xy_px: FloatArray, tilt: NDArray[np.int64], prexg_path: str | os.PathLike[str], n: int
) -> FloatArray:
    """Undo the transforms that made the pre-aligned stack; positions are about the edge centre."""
    transforms = read_xf(prexg_path)
    if len(transforms) != n:
        raise BadInput(f"{prexg_path} has {len(transforms)} lines for {n} images; use the series that IMOD aligned")
    linear = transforms[tilt, :4].reshape(-1, 2, 2)
    if (np.abs(np.linalg.det(linear)) < 1e-6).any():
        raise BadInput(f"{prexg_path} has a transform that squeezes an image to a line")
    before: FloatArray = np.linalg.solve(linear, (position_xy_px - transforms[tilt, 4:])[..., None])[..., 0]
    return before


def _check_one_point_per_image(
    path: str | os.PathLike[str], series: TiltSeries, track: NDArray[np.int64], tilt: NDArray[np.int64]
) -> None:
    pairs, counts = np.unique(np.column_stack([track, tilt]), axis=0, return_counts=True)
    if (counts > 1).any():
        contour, section = pairs[counts > 1][0] + 1
        problem = f"contour {contour} of {path} (empty ones not counted) has two points on section {section}"
        raise BadTiltSeries(series.name, f"{problem}; delete one of them in 3dmod")
