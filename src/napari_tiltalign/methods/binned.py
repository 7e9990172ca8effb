"""Align a series with its images binned, where they are too much for the memory, and say so at full size."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.images.prepare import bin_image
from napari_tiltalign.model import Alignment, ImageSource, LocalMotion, TiltSeries, Tracks


@dataclass(frozen=True, slots=True)
class BinnedImage:
    """An image whose pixels are averaged in blocks when it is read.

    Attributes
    ----------
    image
        The image at full size.
    factor
        Side of a block, pixels.
    """

    image: ImageSource
    factor: int

    @property
    def name(self) -> str:
        """What the image at full size is called."""
        return self.image.name

    def read(self) -> NDArray[np.float32]:
        """Return the binned image, shape (y, x), float32."""
        return self.load()[0]

    def load(self) -> tuple[NDArray[np.float32], int]:
        """Return the binned image, and how many of the pixels at full size had to be filled."""
        pixels, n_filled = self.image.load()
        return bin_image(pixels, self.factor), n_filled


def binned_series(series: TiltSeries, factor: int) -> TiltSeries:
    """Return a series whose images are binned when they are read.

    Raises
    ------
    BadTiltSeries
        If nothing of the images would be left.
    """
    if factor == 1:
        return series
    tilts = (dataclasses.replace(tilt, image=BinnedImage(tilt.image, factor)) for tilt in series.tilts)
    rows, columns = series.image_shape_yx
    return series.replace(
        tilts=tuple(tilts),
        pixel_size_angst=series.pixel_size_angst * factor,
        image_shape_yx=(rows // factor, columns // factor),
    )


def start_for_binned(start: Alignment, series: TiltSeries, factor: int) -> Alignment:
    """Return the geometry of an alignment at full size, for the series with its images binned."""
    if factor == 1:
        return start
    small = binned_series(series, factor)
    return start.replace(
        geometry=_moved(start.geometry, -_centre_angst(series, factor)),
        unit_magnification_geometry=None,
        pixel_size_angst=small.pixel_size_angst,
        image_shape_yx=small.image_shape_yx,
        tracks=None,
    )


def at_full_size(alignment: Alignment, series: TiltSeries, factor: int) -> Alignment:
    """Return an alignment of binned images as one of the images at full size.

    Parameters
    ----------
    alignment
        Of `binned_series(series, factor)`.
    series
        At full size.
    factor
        What was binned.
    """
    if factor == 1:
        return alignment
    centre_angst = _centre_angst(series, factor)
    unit, tracks, motion = alignment.unit_magnification_geometry, alignment.tracks, alignment.local_motion
    numbers = alignment.statistics.items()
    return alignment.replace(
        geometry=_moved(alignment.geometry, centre_angst),
        unit_magnification_geometry=None if unit is None else _moved(unit, centre_angst),
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        tracks=None if tracks is None else _tracks_at_full_size(tracks, factor),
        local_motion=None if motion is None else _motion_at_full_size(motion, factor),
        statistics={name: value * factor if name.endswith("_px") else value for name, value in numbers},
    )


def _centre_angst(series: TiltSeries, factor: int) -> FloatArray:
    """Where the centre of binned images (index n // 2) lies from that of the images, shape (2,), Angstrom.

    Index q of a binned image is index ``(q + 0.5) factor - 0.5`` of the image.
    """
    shape = np.array(series.image_shape_yx)
    centre = (shape // factor // 2 + 0.5) * factor - 0.5
    offset: FloatArray = (centre - shape // 2) * series.pixel_size_angst
    return offset


def _moved(geometry: ViewGeometry, offset_yx_angst: FloatArray) -> ViewGeometry:
    return geometry.replace(shift_yx_angst=geometry.shift_yx_angst + offset_yx_angst)


def _tracks_at_full_size(tracks: Tracks, factor: int) -> Tracks:
    return dataclasses.replace(
        tracks,
        position_yx_px=(tracks.position_yx_px + 0.5) * factor - 0.5,
        sd_px=tracks.sd_px * factor,
        residual_yx_px=tracks.residual_yx_px * factor,
        leave_out_yx_px=tracks.leave_out_yx_px * factor,
    )


def _motion_at_full_size(motion: LocalMotion, factor: int) -> LocalMotion:
    return dataclasses.replace(
        motion,
        left_out_rms_px=motion.left_out_rms_px * factor,
        rigid_left_out_rms_px=motion.rigid_left_out_rms_px * factor,
    )
