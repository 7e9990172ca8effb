"""``check``: what is odd about a tilt series before it is aligned. Each finding says what, where, and what to do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.finite import finite_pixels
from napari_tiltalign.images.prepare import Image, bin_image, remove_hot_pixels
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.model import Dataset, Flag, TiltSeries
from napari_tiltalign.quality.axis_check import AXIS_OFF_DEG, AxisCheck, check_axis, flat_tilt_deg
from napari_tiltalign.quality.views import UNREADABLE, ViewMeasures, measure_view, suggestions

Level = Literal["problem", "warning", "note"]
"""Problems keep a series from being aligned well, warnings may, notes are for information."""

SATURATED_PERCENT = 0.5
"""An image is saturated if more than this part of its pixels has its largest value."""
SAME_IMAGE = 0.9
"""Two images are the same if their noise correlates by more than this."""
PRETILT_DEG = 5.0

_SPOILT = ("dark", "blocked", "too_bright", "no_contrast", "same_image")
"""Views of these kinds say nothing about the axis and the pretilt."""

_COARSE_PX = 160
_FINGERPRINT_PX = 256

_WHAT_TO_DO = {
    "pixel_size_disagrees": "Find out which one is right; give it with --pixel-size-angst.",
    "duplicate_angle": "Exclude the worse one of each pair, usually the one taken later.",
    "angle_gap": "Check that no images are missing. Views on both sides of a gap are tied together weakly.",
    "one_sided": "Check the angles; give the right ones with --tilt-angles.",
    "pretilt_suspected": "Nothing, if the specimen is a lamella. Level it afterwards.",
    "dose_order_inconsistent": "Check the dose column or the mdoc file; the dose is not used for aligning.",
    "images_missing": "Restore the files, or go on without these images.",
    "images_elsewhere": "Nothing, if they belong to this project.",
    "nan_pixels_filled": "Repeat motion correction if there are many.",
    "name_collision_ignoring_case": "Rename one of the series.",
    "metadata_repaired": "Check the value.",
}
_NO_CAUSE_FOR_WORRY = frozenset({"pretilt_suspected", "metadata_repaired", "images_elsewhere"})
_TO_DO_ABOUT_VIEWS = {
    "unreadable": "Restore the file, or exclude the view.",
    "duplicate": "Exclude it, unless the first one is worse.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something odd.

    Attributes
    ----------
    level
        How bad it is.
    name
        What kind, for programs: ``axis``, ``dark``, ``duplicate_angle``.
    what
        What is odd, with numbers.
    where
        Series, or views by their identity; empty for the dataset as a whole.
    to_do
        What to do about it.
    """

    level: Level
    name: str
    what: str
    where: tuple[str, ...]
    to_do: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**dataclasses.asdict(self), "where": list(self.where)}


@dataclass(frozen=True, slots=True, eq=False)
class SeriesCheck:
    """What was found about one series.

    Attributes
    ----------
    name
        Of the series.
    findings
        The worst first.
    axis
        How axes agree with the images; None if they do not tell.
    flat_deg
        Tilt at which the specimen lies flat by its brightness; NaN if that is not clear.
    """

    name: str
    findings: tuple[Finding, ...]
    axis: AxisCheck | None
    flat_deg: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        axis = self.axis
        return {
            "series": self.name,
            "findings": [finding.to_dict() for finding in self.findings],
            "axis": None if axis is None else {
                "nominal_deg": axis.nominal_deg,
                "best_deg": round(axis.best_deg, 2),
                "clear": axis.clear,
                "score_nominal": axis.score_of(axis.nominal_deg),
                "score_nominal_plus_90": axis.score_of(axis.nominal_deg + 90.0),
                "hypotheses": axis.hypotheses(),
                "scores": [
                    {"axis_deg": float(a), "score": float(s)} for a, s in zip(axis.axes_deg, axis.scores, strict=True)
                ],
            },
            "flat_at_tilt_deg": None if math.isnan(self.flat_deg) else round(self.flat_deg, 2),
        }  # fmt: skip


def check_dataset(dataset: Dataset) -> tuple[Finding, ...]:
    """Findings about a dataset as a whole, and about series that could not be read. No image is looked at."""
    failed = [
        Finding("problem", "not_read", why, (name,), "Repair what is wrong, or go on without this series.")
        for name, why in dataset.failed.items()
    ]
    return (*failed, *_from_flags(dataset.flags, ""), *_outliers(dataset))


def check_series(series: TiltSeries, *, progress: Progress = silent) -> SeriesCheck:
    """Look at a series before it is aligned: what reading found, every image, the tilt axis, the pretilt.

    Parameters
    ----------
    series
        The series; views it excludes are not looked at.
    progress
        Told from 0 to 1; may raise `Cancelled`.
    """
    looked = _look_at_all(series, lambda f, text: progress(0.7 * f, text))
    measures = [view.measures for view in looked]
    findings = [*_from_flags(series.flags, series.name), *_excluded(series), *_unreadable(series, looked)]
    unread = {finding.where for finding in findings if finding.name == "unreadable"}
    for found in suggestions(series, measures):
        if (found.tilt_id,) not in unread:
            to_do = _TO_DO_ABOUT_VIEWS.get(found.reason, "Look at it, and exclude it if it is bad.")
            name = found.reason.replace(" ", "_")
            findings.append(Finding("warning", name, f"{found.reason}: {found.evidence}", (found.tilt_id,), to_do))
    findings += [*_saturated(series, looked), *_same_images(series, looked)]
    progress(0.7, "trying tilt axes")
    named = {finding.where[0] for finding in findings if finding.name in _SPOILT}
    spoilt = np.array([tilt_id in named for tilt_id in series.tilt_ids])
    coarse = [None if bad else view.coarse for view, bad in zip(looked, spoilt, strict=True)]
    axis = check_axis(coarse, series.nominal_tilt_deg, series.nominal_axis_deg)
    findings += _about_axis(series, axis)
    brightness = np.where(spoilt, np.nan, [m.brightness for m in measures])
    flat = flat_tilt_deg(series.nominal_tilt_deg, brightness) if np.isfinite(brightness).any() else math.nan
    findings += _about_pretilt(series, flat)
    progress(1.0, "checked")
    order = ("problem", "warning", "note")
    return SeriesCheck(series.name, tuple(sorted(findings, key=lambda f: order.index(f.level))), axis, flat)


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What is kept of an image."""

    measures: ViewMeasures = UNREADABLE
    problem: str = ""
    coarse: Image | None = None
    fingerprint: Image | None = None
    saturated_percent: float = 0.0


def _look_at_all(series: TiltSeries, progress: Progress) -> list[_Look]:
    def one(index: int) -> _Look:
        tilt = series.tilts[index]
        if not tilt.included:
            return _Look()
        try:
            image, _ = finite_pixels(tilt.image.load()[0])
        except TiltAlignError as error:
            return _Look(problem=str(error))
        return _looked_at(image)

    return map_views(one, range(len(series)), on_done=lambda n: progress(n / len(series), "looking at images"))


def _looked_at(image: Image) -> _Look:
    largest = float(image.max())
    saturated = 100.0 * float((image >= largest).mean()) if largest > image.min() else 0.0
    small = bin_image(remove_hot_pixels(image)[0], max(1, round(max(image.shape) / _COARSE_PX)))
    flat = small - ndimage.gaussian_filter(small, max(small.shape) / 10.0, mode="nearest")
    spread = 1.4826 * float(np.median(np.abs(flat - np.median(flat))))
    coarse = np.clip(flat / spread, -6.0, 6.0).astype(np.float32) if spread > 0 else None
    middle = [slice(max(0, (size - _FINGERPRINT_PX) // 2), (size + _FINGERPRINT_PX) // 2) for size in image.shape]
    noise = image[middle[0], middle[1]]
    noise = (noise - ndimage.uniform_filter(noise, 3)).astype(np.float32)
    norm = float(np.linalg.norm(noise))
    return _Look(measure_view(image), "", coarse, noise / norm if norm > 0 else None, saturated)


def _from_flags(flags: Sequence[Flag], name: str) -> Iterator[Finding]:
    for flag in flags:
        what = f"{flag.meaning} {flag.detail[:1].upper()}{flag.detail[1:]}".strip()
        level: Level = "note" if flag.name in _NO_CAUSE_FOR_WORRY else "warning"
        where = flag.tilt_ids or ((name,) if name else ())
        yield Finding(level, flag.name, what, where, _WHAT_TO_DO.get(flag.name, "Check it."))


def _excluded(series: TiltSeries) -> Iterator[Finding]:
    out = [tilt for tilt in series.tilts if not tilt.included]
    if out:
        reasons = "; ".join(sorted({tilt.reason for tilt in out}))
        ids = tuple(tilt.tilt_id for tilt in out)
        yield Finding("note", "excluded", f"{len(out)} of {len(series)} views are excluded: {reasons}", ids,
                      "Nothing, if that is meant.")  # fmt: skip


def _unreadable(series: TiltSeries, looked: Sequence[_Look]) -> Iterator[Finding]:
    for tilt, view in zip(series.tilts, looked, strict=True):
        if view.problem:
            yield Finding("problem", "unreadable", view.problem, (tilt.tilt_id,), _TO_DO_ABOUT_VIEWS["unreadable"])


def _saturated(series: TiltSeries, looked: Sequence[_Look]) -> Iterator[Finding]:
    for tilt, view in zip(series.tilts, looked, strict=True):
        if view.saturated_percent > SATURATED_PERCENT and view.measures.contrast > 0:
            what = f"saturated: {view.saturated_percent:.1f} % of the pixels have the largest value"
            yield Finding("warning", "saturated", what, (tilt.tilt_id,), "Check the conversion; exclude it if need be.")


def _same_images(series: TiltSeries, looked: Sequence[_Look]) -> Iterator[Finding]:
    known = [(i, view.fingerprint) for i, view in enumerate(looked) if view.fingerprint is not None]
    for (i, one), (k, other) in combinations(known, 2):
        if one.shape == other.shape and float((one * other).sum()) > SAME_IMAGE:
            ids = series.tilt_ids[i], series.tilt_ids[k]
            angles = series.nominal_tilt_deg[[i, k]]
            what = f"the same image twice, listed at {angles[0]:+.1f}° and {angles[1]:+.1f}°"
            yield Finding("problem", "same_image", what, ids, "Find out which angle is right, and exclude the other.")


def _about_axis(series: TiltSeries, axis: AxisCheck | None) -> Iterator[Finding]:
    given = np.isfinite([tilt.nominal_axis_deg for tilt in series.tilts]).any()
    if not given:
        best = f"; the images speak for {axis.best_deg:.0f}°" if axis is not None and axis.clear else ""
        to_do = "Give it with --tilt-axis-deg, in degrees from the image's y axis, counter-clockwise."
        yield Finding("warning", "axis_missing", f"no tilt axis is given, 0° is taken{best}", (series.name,), to_do)
    if axis is None or not axis.clear:
        what = "the images do not tell the tilt axis: neighbouring views at high tilts are not alike enough for that"
        yield Finding("note", "axis_unclear", what, (series.name,), "Make sure that the nominal axis is right.")
    elif given and abs(axis.off_deg) > AXIS_OFF_DEG:
        ninety = " (that is 90° off: rows and columns, or x and y, may be exchanged)" if abs(axis.off_deg) > 75 else ""
        what = (
            f"the images speak for a tilt axis of {axis.best_deg:.0f}° and not {axis.nominal_deg:.0f}°{ninety}: "
            f"neighbours correlate by {axis.scores.max():.3f} and not {axis.score_of(axis.nominal_deg):.3f}"
        )
        yield Finding("problem", "axis", what, (series.name,),
                      f"Give the right one: --tilt-axis-deg {axis.best_deg:.0f}. Its direction (180° more, or the sign "
                      "of the tilts) cannot be told from this.")  # fmt: skip


def _about_pretilt(series: TiltSeries, flat_deg: float) -> Iterator[Finding]:
    if abs(flat_deg) > PRETILT_DEG:
        what = f"by its brightness the specimen lies flat at a tilt of {flat_deg:+.0f}° and not at 0°"
        yield Finding("note", "pretilt", what, (series.name,), "Nothing before aligning. Level it afterwards.")


def _outliers(dataset: Dataset) -> Iterator[Finding]:
    """Series that differ from the others of the dataset in what they usually have in common."""
    if len(dataset) < 4:
        return
    columns: dict[str, FloatArray] = {
        "pixel size (Angstrom)": np.array([series.pixel_size_angst for series in dataset]),
        "tilt axis (degrees)": np.array([series.nominal_axis_deg for series in dataset]),
        "number of views": np.array([float(len(series)) for series in dataset]),
    }
    limits = {"pixel size (Angstrom)": 0.005, "tilt axis (degrees)": 3.0, "number of views": 0.3}
    for name, values in columns.items():
        usual = float(np.median(values))
        limit = limits[name] if "axis" in name else limits[name] * usual
        for series, value in zip(dataset, values, strict=True):
            if abs(value - usual) > limit:
                what = f"{name}: {value:g}, where most series have {usual:g}"
                yield Finding("warning", "differs", what, (series.name,), "Check that it is right for this series.")
