"""Which views of a tilt series look bad, and why: measures of every image, and suggestions with their evidence.

Every measure is compared with what the neighbouring tilts let expect, because brightness and contrast change with the
tilt of a good series too. Nothing is excluded here: a suggestion is for a person to follow or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import theilslopes

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.prepare import Image, bin_image, noise_sd
from napari_tiltalign.model import Alignment, TiltSeries

MEASURED_SIDE_PX = 512
"""Images are binned to about this size before they are measured; faults of whole images need no more."""

DARK_PART, BRIGHT_PART = 0.6, 1.6
"""Brightness beyond these parts of what the neighbours let expect is suspicious."""

FLAT_PART = 0.5
"""So is contrast below this part of what they let expect,"""

BLURRED_PART = 0.75
"""and sharpness below this part."""

BLOCKED_PERCENT = 20.0
"""A view of which more than this is hidden is suspicious."""

SAME_TILT_DEG = 0.1
"""Views whose tilts differ by less were taken twice."""

RESIDUAL_FACTOR = 2.5
"""A view whose residual is this many times that of its neighbours is suspicious."""

JUMP_PERCENT = 8.0
"""So is one that is shifted against its neighbours by more than this part of the field."""

_OUTLIER_SIGMAS = 6.0
"""A measure must also stand out this far of the scatter of all views, robust standard deviations."""

_NEIGHBOURS = 8
"""How many of the nearest views say what is expected; two bad ones among them do not mislead."""

_BLOCKED_LEVEL = 0.35
"""An area darker than this part of the image's bright level is hidden by the grid or an aperture."""


@dataclass(frozen=True, slots=True)
class ViewMeasures:
    """What one image looks like.

    Attributes
    ----------
    brightness
        Mean grey value, in the units of the image; NaN if the image could not be read.
    contrast
        Standard deviation of the structures, in the same units.
    blocked_percent
        Part of the image that is much darker than the rest, percent.
    sharpness
        Fine structures relative to coarse ones; no unit.
    """

    brightness: float
    contrast: float
    blocked_percent: float
    sharpness: float


UNREADABLE = ViewMeasures(math.nan, math.nan, math.nan, math.nan)
"""What is known of an image without pixels."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A view that might be excluded.

    Attributes
    ----------
    tilt_id
        Which view.
    reason
        Why, in a word or two; kept as the reason of the exclusion.
    evidence
        The numbers behind it, for people.
    """

    tilt_id: str
    reason: str
    evidence: str


def measure_view(image: Image) -> ViewMeasures:
    """Measure one image.

    Parameters
    ----------
    image
        Shape (y, x), raw pixels, binned or not; NaN where there is none.

    Returns
    -------
    ViewMeasures
        `UNREADABLE` if the image has no finite pixel.
    """
    if not np.isfinite(image).all():
        if not np.isfinite(image).any():
            return UNREADABLE
        image = np.nan_to_num(image, nan=float(np.nanmedian(image)))
    small = bin_image(image, max(1, round(max(image.shape) / MEASURED_SIDE_PX)))
    low, high = np.percentile(small, (0.05, 99.95))  # X-rays and dead pixels are no structure
    small = np.clip(small, low, high)
    # the fine band lies where motion blurs first, the coarse one where it hardly does
    fine, coarse = _band(small, 1.0), _band(small, 3.0)
    level = ndimage.uniform_filter(small, 9)
    return ViewMeasures(
        brightness=float(small.mean()),
        contrast=float(coarse.std()),
        blocked_percent=100.0 * float((level < _BLOCKED_LEVEL * np.percentile(level, 90)).mean()),
        sharpness=_signal_sd(fine, small, 1.0) / max(float(coarse.std()), 1e-12),
    )


def _band(image: Image, radius_px: float) -> Image:
    """Structures of about a radius: the difference of two Gaussians."""
    band: Image = ndimage.gaussian_filter(image, radius_px) - ndimage.gaussian_filter(image, 2.0 * radius_px)
    return band


def _signal_sd(band: Image, image: Image, radius_px: float) -> float:
    """Standard deviation of a band without the part that white pixel noise has in it."""
    gain = (1.0 / (4.0 * math.pi * radius_px**2)) * (1.0 - 2.0 * 2.0 / 5.0 + 0.25)
    return math.sqrt(max(float(band.var()) - gain * noise_sd(image) ** 2, 0.0))


def view_residual_px(alignment: Alignment, *, left_out: bool = False) -> FloatArray:
    """Residual of every image: rms distance between measured and predicted positions, raw pixels.

    Parameters
    ----------
    alignment
        Rejected observations of its tracks do not count.
    left_out
        Whether every observation is predicted without itself.

    Returns
    -------
    numpy.ndarray
        Shape (n,); NaN where nothing is known.
    """
    squares, count = np.zeros(len(alignment)), np.zeros(len(alignment))
    tracks = alignment.tracks
    if tracks is not None:
        distance = np.linalg.norm(tracks.leave_out_yx_px if left_out else tracks.residual_yx_px, axis=1)
        known = tracks.used & np.isfinite(distance)
        np.add.at(squares, tracks.tilt[known], distance[known] ** 2)
        np.add.at(count, tracks.tilt[known], 1.0)
    mean_square = np.divide(squares, count, out=np.full(len(alignment), np.nan), where=count > 0)
    rms: FloatArray = np.sqrt(mean_square)
    return rms


def suggestions(
    series: TiltSeries, measures: Sequence[ViewMeasures], alignment: Alignment | None = None
) -> list[Suggestion]:
    """Suggest views to exclude.

    Parameters
    ----------
    series
        Views it excludes already are neither suggested nor asked about the others.
    measures
        Of every image, in the order of the series.
    alignment
        Adds what an alignment knows: residuals, jumps of the shift, views it could not tie to the others.

    Returns
    -------
    list of Suggestion
        At most one for each view, the first cause that applies, sorted by tilt.
    """
    if len(measures) != len(series):
        raise ValueError(f"{len(measures)} measures for {len(series)} images")
    found: dict[int, tuple[str, str]] = {}
    causes = [_from_images(series, measures)]
    if alignment is not None:
        causes.append(_from_alignment(series, alignment))
    for cause in causes:
        for index, reason, evidence in cause:
            found.setdefault(index, (reason, evidence))
    for index, reason, evidence in _duplicates(series, set(found)):
        found.setdefault(index, (reason, evidence))
    order = [int(index) for index in series.tilt_order()]
    return [Suggestion(series.tilt_ids[i], *found[i]) for i in order if i in found and series.tilts[i].included]


_Cause = tuple[int, str, str]
"""Index of a view, reason, evidence."""


def _from_images(series: TiltSeries, measures: Sequence[ViewMeasures]) -> Iterator[_Cause]:
    """Causes that the images show."""
    brightness, contrast, blocked, sharpness = np.array(
        [(m.brightness, m.contrast, m.blocked_percent, m.sharpness) for m in measures]
    ).T
    for index in np.flatnonzero(~np.isfinite(brightness)):
        yield int(index), "unreadable", "the image has no pixels"
    if not np.isfinite(brightness).any():
        return
    # images that were normalised to zero mean say nothing by their brightness
    has_level = bool(np.nanmedian(brightness) > np.nanmedian(contrast))
    if has_level:
        for index in np.flatnonzero(blocked > BLOCKED_PERCENT):
            yield int(index), "blocked", f"{blocked[index]:.0f} % of the image is hidden"
        yield from _unusual(series, brightness, "dark", "brightness {value:.3g}", below=DARK_PART)
        yield from _unusual(series, brightness, "too bright", "brightness {value:.3g}", above=BRIGHT_PART)
        contrast = contrast / np.maximum(brightness, 1e-12)
    yield from _unusual(series, contrast, "no contrast", "contrast {value:.3g}", below=FLAT_PART)
    yield from _unusual(series, sharpness, "blurred", "sharpness {value:.3g}", below=BLURRED_PART)


def _from_alignment(series: TiltSeries, alignment: Alignment) -> Iterator[_Cause]:
    """Causes that an alignment knows."""
    for index in np.flatnonzero(~alignment.included & series.included):
        yield int(index), "not aligned", alignment.reasons[index] or "the method left it out"
    residual = np.where(alignment.included, view_residual_px(alignment), np.nan)
    yield from _unusual(series, residual, "large residual", "residual {value:.2f} px", above=RESIDUAL_FACTOR)
    shift = np.where(alignment.included[:, None], alignment.geometry.shift_yx_angst, np.nan)
    expected = np.column_stack([expected_from_neighbours(series, shift[:, axis]) for axis in (0, 1)])
    jump = np.linalg.norm(shift - expected, axis=1)
    field = min(series.image_shape_yx) * series.pixel_size_angst
    limit = max(JUMP_PERCENT / 100.0 * field, _OUTLIER_SIGMAS * float(np.nanmedian(jump)))
    for index in np.flatnonzero(jump > limit):
        percent = 100.0 * jump[index] / field
        text = f"shifted by {jump[index] / 10:.0f} nm ({percent:.0f} % of the field) against its neighbours"
        yield int(index), "shift jump", text


def _duplicates(series: TiltSeries, suspect: set[int]) -> Iterator[_Cause]:
    """Views that were taken again at the same tilt: all but the first that is not suspect."""
    good = [i for i in series.tilt_order().tolist() if series.tilts[i].included and i not in suspect]
    for one, other in pairwise(good):
        tilts = series.tilts[one], series.tilts[other]
        if abs(tilts[0].nominal_tilt_deg - tilts[1].nominal_tilt_deg) < SAME_TILT_DEG:
            first, later = (one, other) if not _dose(series, other) < _dose(series, one) else (other, one)
            text = f"same tilt ({series.tilts[later].nominal_tilt_deg:+.1f}°) as {series.tilts[first].tilt_id}"
            if math.isfinite(_dose(series, later)):
                text += f", dose before it {_dose(series, later):.0f} and not {_dose(series, first):.0f} e/Å²"
            yield later, "duplicate", text


def _dose(series: TiltSeries, index: int) -> float:
    return series.tilts[index].pre_exposure_e_per_A2


def expected_from_neighbours(series: TiltSeries, values: FloatArray) -> FloatArray:
    """What the neighbours of every view let expect.

    Parameters
    ----------
    series
        Its tilts say who is whose neighbour; views it excludes are nobody's.
    values
        Shape (n,), a measure of every image; NaN where it is not known.

    Returns
    -------
    numpy.ndarray
        Shape (n,): value at the view's tilt of a robust straight line (Theil 1950, Sen 1968) through the
        `_NEIGHBOURS` nearest views, without the view itself; NaN where fewer than three are known.
    """
    tilt = series.nominal_tilt_deg
    order = np.array([i for i in series.tilt_order() if series.tilts[i].included and np.isfinite(values[i])], dtype=int)
    expected = np.full(len(series), np.nan)
    for index in range(len(series)):
        others = order[order != index]
        at = int(np.searchsorted(tilt[others], tilt[index]))
        first = max(0, min(at - _NEIGHBOURS // 2, len(others) - _NEIGHBOURS))
        near = others[first : first + _NEIGHBOURS]
        if len(np.unique(tilt[near])) >= 3:
            slope, intercept, *_ = theilslopes(values[near], tilt[near])
            expected[index] = intercept + slope * tilt[index]
    return expected


def _unusual(
    series: TiltSeries, values: FloatArray, reason: str, text: str, below: float = 0.0, above: float = math.inf
) -> Iterator[_Cause]:
    """Views of which a positive measure lies beyond parts of what is expected, and beyond the scatter of all."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(values >= 0, np.log(np.maximum(values, 1e-12)), np.nan)
    expected = expected_from_neighbours(series, logs)
    deviation = logs - expected
    chosen: NDArray[np.bool_] = series.included & np.isfinite(deviation)
    if not chosen.any():
        return
    limit = _OUTLIER_SIGMAS * 1.4826 * float(np.median(np.abs(deviation[chosen])))
    part = np.exp(deviation)
    strange = chosen & (np.abs(deviation) > limit) & ((part < below) | (part > above))
    for index in np.flatnonzero(strange):
        evidence = text.format(value=values[index])
        yield int(index), reason, f"{evidence}, {part[index]:.2g} times what its neighbours let expect"
