"""Views of a specimen that stands alone in vacuum: how much mass every place shows.

Vacuum carries no information about shifts but gives the level from which mass is counted. Where the whole width of the
specimen is seen, its mass in every section across the tilt axis is the same in all views, and so is where its centre of
mass lies (`isolated_start`).

A specimen is isolated if in most rows across the tilt axis it is one piece with vacuum on both sides, far outside of
the noise of the vacuum. Whether it is bright (dark field) or dark (bright field) does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_tiltalign.errors import MethodFailed, TiltAlignError
from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.finite import finite_pixels
from napari_tiltalign.images.prepare import Image, Mask, bin_image, remove_hot_pixels
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.methods.read_views import read_views
from napari_tiltalign.model import TiltSeries

SAMPLES = 128
"""Samples along the longer side of the field."""

_LEAST_CONTRAST = 6.0
"""Mean of the specimen over the vacuum, standard deviations of the vacuum; splitting noise in two gives 2.7."""
_LEAST_ROWS, _LEAST_ALONE = 0.3, 0.75
"""Part of the rows that show the specimen, and part of those where it is one piece between vacuum."""
_ONE_PIECE = 0.85
_NARROWEST, _WIDEST = 0.02, 0.7
"""Median width of the specimen, parts of the field across the axis."""
_PEEKED = 7
_SURE = 0.75
_MASS_RANGE = 4.0
"""A view that shows so much less or more mass than the others does not show the same specimen."""


@dataclass(frozen=True, slots=True, eq=False)
class MassSeries:
    """Mass that n views show, in order of nominal tilt; 0 in vacuum, the brightest view's scale.

    Attributes
    ----------
    order
        Shape (n,): index in the series of every view.
    nominal_tilt_deg
        Shape (n,), ascending.
    images
        Shape (y, x) each, cubic B-spline coefficients; None for a view that takes no part.
    noise
        Shape (n,): standard deviation of a sample of vacuum.
    pitch_angst, origin_yx
        Distance of the samples, and the index of the image centre.
    field_yx_angst
        Size of the raw images.
    bad
        View to the reason why it was left out here.
    filled_pixels
        tilt_id to how many pixels were not finite and were filled.
    """

    order: NDArray[np.intp]
    nominal_tilt_deg: FloatArray
    images: tuple[Image | None, ...]
    noise: FloatArray
    pitch_angst: float
    origin_yx: FloatArray
    field_yx_angst: FloatArray
    bad: Mapping[int, str]
    filled_pixels: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which views take part, shape (n,)."""
        return np.array([image is not None for image in self.images])

    @property
    def clear(self) -> Mapping[int, float]:
        """View that takes part to the part of it that is not blocked: all, because a blocked one has a strange mass."""
        return dict.fromkeys(np.flatnonzero(self.usable).tolist(), 1.0)

    def sampled(self, geometry: ViewGeometry, v_angst: FloatArray, u_angst: FloatArray) -> tuple[Image, Mask]:
        """Views in the frame of the tilt axis.

        Parameters
        ----------
        geometry
            Of the n views: its axis, shifts and magnifications.
        v_angst, u_angst
            Places along the axis (rows) and across it (columns).

        Returns
        -------
        mass, seen
            Shapes (n, rows, columns) and (n, rows): whether a view shows all of a row.
        """
        mass = np.zeros((len(self), len(v_angst), len(u_angst)), np.float32)
        seen = np.zeros((len(self), len(v_angst)), bool)
        angle = np.deg2rad(geometry.z_rot_deg)
        v, u = np.meshgrid(v_angst, u_angst, indexing="ij")

        def one(view: int) -> None:
            image = self.images[view]
            if image is None:
                return
            c, s = (turn(angle[view]) * geometry.magnification[view] for turn in (np.cos, np.sin))
            place = np.stack([s * u + c * v, c * u - s * v]) + geometry.shift_yx_angst[view][:, None, None]
            index = place / self.pitch_angst + self.origin_yx[:, None, None]
            inside = np.all((index >= 0) & (index <= np.array(image.shape)[:, None, None] - 1), axis=0)
            mass[view] = ndimage.map_coordinates(image, index, order=3, mode="nearest", prefilter=False) * inside
            seen[view] = inside.all(axis=1)

        map_views(one, np.flatnonzero(self.usable).tolist())
        return mass, seen


@dataclass(frozen=True, slots=True)
class _Split:
    """One view split into vacuum and specimen."""

    vacuum: float
    noise: float
    contrast: float
    alone: float
    rows: float
    width: float

    @property
    def isolated(self) -> bool:
        return (
            abs(self.contrast) > _LEAST_CONTRAST
            and self.alone > _LEAST_ALONE
            and self.rows > _LEAST_ROWS
            and _NARROWEST < self.width < _WIDEST
        )


def shows_isolated_specimen(series: TiltSeries) -> bool:
    """Whether most of a few views, spread over the tilts, show a specimen that stands alone in vacuum."""
    included = [int(i) for i in series.tilt_order() if series.tilts[int(i)].included]
    chosen = sorted({included[round(k)] for k in np.linspace(0, len(included) - 1, min(_PEEKED, len(included)))})

    def one(index: int) -> bool | None:
        try:
            image, _ = finite_pixels(series.tilts[index].image.load()[0])
        except TiltAlignError:
            return None
        return split(working_image(image), series.nominal_axis_deg).isolated

    found = [answer for answer in map_views(one, chosen) if answer is not None]
    return len(found) >= 3 and float(np.mean(found)) >= _SURE


def binning_of(shape_yx: tuple[int, int]) -> int:
    """By how much raw images are binned."""
    return max(1, max(shape_yx) // SAMPLES)


def working_image(image: Image) -> Image:
    """Hot pixels removed, and binned."""
    return bin_image(remove_hot_pixels(np.ascontiguousarray(image, np.float32))[0], binning_of(image.shape[:2]))


def split(image: Image, axis_deg: float) -> _Split:
    """Split a working image into vacuum and specimen by the threshold that parts it best (Otsu 1979)."""
    smooth = ndimage.gaussian_filter(image, 1.0)
    if np.ptp(smooth) <= 1e-6 * (1.0 + abs(float(smooth.mean()))):
        return _Split(float(smooth.mean()), 0.0, 0.0, 0.0, 0.0, 0.0)
    upright = ndimage.rotate(smooth, -axis_deg, reshape=False, order=1, mode="nearest")
    bright = upright > threshold_otsu(upright)  # type: ignore[no-untyped-call]
    flanks = np.concatenate([bright[:, :2].ravel(), bright[:, -2:].ravel()])
    specimen = bright if flanks.mean() < 0.5 else ~bright
    vacuum = ~ndimage.binary_dilation(specimen, iterations=2)
    if vacuum.sum() < 20 or specimen.sum() < 20:
        return _Split(float(np.median(image)), 0.0, 0.0, 0.0, 0.0, 0.0)
    level = float(np.median(upright[vacuum]))
    noise = 1.4826 * float(np.median(np.abs(upright[vacuum] - level)))
    spread = max(noise, 0.2 * float(upright[vacuum].std()), 1e-12 * (abs(level) + 1.0))
    width = specimen.sum(axis=1)
    shown = width > 1
    return _Split(
        level, noise, float(upright[specimen].mean() - level) / spread,
        float(np.mean([_alone(row) for row in specimen[shown]])) if shown.any() else 0.0,
        float(shown.mean()), float(np.median(width[shown])) / specimen.shape[1] if shown.any() else 0.0,
    )  # fmt: skip


def _alone(row: NDArray[np.bool_]) -> bool:
    """Whether most of what a row shows is one piece, with vacuum on both sides."""
    labels, count = ndimage.label(row)
    sizes = np.bincount(labels)[1:]
    return count > 0 and sizes.max() > _ONE_PIECE * sizes.sum() and not (row[:2].any() or row[-2:].any())


def mass_series(series: TiltSeries, *, progress: Progress = silent) -> MassSeries:
    """Read every included image of a series as the mass it shows.

    Parameters
    ----------
    series
        The series; its specimen is taken to stand alone in vacuum.
    progress
        Told from 0 to 1.

    Raises
    ------
    BadTiltSeries
        If fewer than 80 % of the included images can be read.
    MethodFailed
        If fewer than three views show the specimen alone.
    """

    def parted(index: int, image: Image) -> tuple[Image, _Split]:
        working = working_image(image)
        return working, split(working, series.tilts[index].nominal_axis_deg)

    found = read_views(series, parted, progress=progress)
    order = found.order
    images: list[Image | None] = []
    noise, bad = np.zeros(len(order)), {}
    for view, result in enumerate(found.made):
        images.append(None)
        if isinstance(result, TiltAlignError):
            bad[view] = "unreadable"
        elif result is not None:
            working, parts = result
            if parts.isolated:
                images[view] = (working - np.float32(parts.vacuum)) * np.float32(np.sign(parts.contrast))
            else:
                bad[view] = "not_aligned"
    _drop_strange_masses(images, bad)
    if (usable := sum(image is not None for image in images)) < 3:
        raise MethodFailed(
            f"{series.name}: only {usable} views show a specimen that stands alone in vacuum; 3 are needed. "
            "If it fills the field, say so (--specimen slab)"
        )
    for view, image in enumerate(images):
        if image is not None:
            scaled = image / np.float32(max(float(np.percentile(image, 99.0)), 1e-12))
            noise[view] = float(np.median(np.abs(np.diff(scaled, axis=1)))) * 1.4826 / np.sqrt(2.0)
            images[view] = ndimage.spline_filter(scaled, 3, output=np.float32, mode="nearest")
    binning = binning_of(series.image_shape_yx)
    centre = (np.array(series.image_shape_yx) // 2 + 0.5) / binning - 0.5
    return MassSeries(
        order, series.nominal_tilt_deg[order], tuple(images), noise, series.pixel_size_angst * binning, centre,
        np.array(series.image_shape_yx) * series.pixel_size_angst, bad, found.filled_pixels,
    )  # fmt: skip


def _drop_strange_masses(images: list[Image | None], bad: dict[int, str]) -> None:
    total = np.array([np.nan if image is None else max(float(image.sum()), 0.0) for image in images])
    if not np.isfinite(total).any():
        return
    typical = float(np.nanmedian(total))
    for view, mass in enumerate(total):
        if np.isfinite(mass) and not typical / _MASS_RANGE < mass < typical * _MASS_RANGE:
            images[view], bad[view] = None, "no_contrast" if mass < typical else "not_aligned"
