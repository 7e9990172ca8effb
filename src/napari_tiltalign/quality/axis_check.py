"""Which tilt axis the images speak for, before anything is aligned; and at which tilt the specimen lies flat.

Between neighbouring views at high tilts a specimen shrinks noticeably across the axis and not along it. Undoing that
about the right axis makes the views alike (Guckenberger, Ultramicroscopy 9, 167-174, 1982), so how well they correlate
tells the axis, up to its direction: an axis and its opposite, which is a flipped sign of the tilts, look the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from napari_tiltalign.geometry import FloatArray, wrap_deg
from napari_tiltalign.images.prepare import Image
from napari_tiltalign.methods.coarse import neighbour_correlations

STEP_DEG = 10.0
"""Axes are tried in steps of this."""

_LEAST_SHRINKING = 0.03
"""Pairs of views tell something if the specimen shrinks by this part between them."""
_LEAST_PAIRS = 3
_CLEAR = 3.0
"""The axis is clear if the scores follow a wave whose amplitude is this many times the misfit,"""
_LEAST_AMPLITUDE = 0.002
"""and no less than this."""
AXIS_OFF_DEG = 12.0
"""The images speak against the nominal axis if theirs is further than this from it,"""
_SURE = 2.5
"""and if neighbouring views agree better with theirs, by so many standard errors over the pairs: edges of a specimen
can move the best axis far away, and not all pairs gain by it."""
_STEEPEST_DEG = 35.0
_LEAST_EXPLAINED = 0.8
_LEAST_FALL = 0.01
"""Brightness that changes by less than this part of itself tells nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class AxisCheck:
    """How well axes agree with the images.

    Attributes
    ----------
    axes_deg
        Shape (k,): axes tried, degrees, from the nominal one on over half a turn.
    scores
        Shape (k,): mean correlation of neighbouring views at high tilts.
    best_deg
        The best axis between them.
    nominal_deg
        The nominal one.
    clear
        Whether the best one stands out, and is near the nominal one or surely better.
    """

    axes_deg: FloatArray
    scores: FloatArray
    best_deg: float
    nominal_deg: float
    clear: bool

    @property
    def off_deg(self) -> float:
        """Best minus nominal axis, within 90 degrees."""
        return float(wrap_deg(2.0 * (self.best_deg - self.nominal_deg)) / 2.0)

    def score_of(self, axis_deg: float) -> float:
        """Score of the tried axis that is nearest."""
        apart = np.abs(wrap_deg(2.0 * (self.axes_deg - axis_deg)))
        return float(self.scores[int(np.argmin(apart))])

    def hypotheses(self) -> dict[str, float]:
        """Score of each thing that may be true of the axis that was given, by what it is."""
        right, turned = self.score_of(self.nominal_deg), self.score_of(self.nominal_deg + 90.0)
        return {
            "nominal": right,
            "nominal + 90": turned,
            "nominal + 180": right,
            "nominal, tilts of the opposite sign": right,
        }

    def scores_text(self) -> str:
        """The same for people; three of the four look the same to positions."""
        return (
            f"neighbouring views correlate by {self.score_of(self.nominal_deg):.3f}, and by "
            f"{self.score_of(self.nominal_deg + 90.0):.3f} with the axis 90° off; 180° off, or with tilts of the "
            "opposite sign, they would look the same"
        )


def check_axis(contrasts: list[Image | None], tilt_deg: FloatArray, nominal_deg: float) -> AxisCheck | None:
    """Try tilt axes over half a turn.

    Parameters
    ----------
    contrasts
        n images of local contrast; None for those that take no part.
    tilt_deg
        Shape (n,), nominal tilts.
    nominal_deg
        Nominal axis; the first one tried.

    Returns
    -------
    AxisCheck
        Or None if too few pairs of neighbouring views shrink enough to tell.
    """
    order = [int(i) for i in np.argsort(tilt_deg, kind="stable") if contrasts[int(i)] is not None]
    cosine = np.cos(np.deg2rad(tilt_deg))
    pairs = [
        (order[k], order[k + 1])
        for k in range(len(order) - 1)
        if abs(np.log(cosine[order[k]] / cosine[order[k + 1]])) > _LEAST_SHRINKING
    ]
    if len(pairs) < _LEAST_PAIRS:
        return None
    axes = nominal_deg + np.arange(0.0, 180.0, STEP_DEG)
    by_pair = np.array([neighbour_correlations(contrasts, tilt_deg, float(axis), pairs) for axis in axes])
    scores = by_pair.mean(axis=1)
    best_deg, amplitude, left = _wave(axes, scores)
    stands_out = amplitude > max(_CLEAR * left, _LEAST_AMPLITUDE)
    found = AxisCheck(axes, scores, best_deg, nominal_deg, stands_out)
    if not stands_out or abs(found.off_deg) <= AXIS_OFF_DEG:
        return found
    gains = np.asarray(neighbour_correlations(contrasts, tilt_deg, best_deg, pairs)) - by_pair[0]
    return replace(found, clear=bool(gains.mean() > _SURE * gains.std(ddof=1) / np.sqrt(len(pairs))))


def _wave(axes_deg: FloatArray, scores: FloatArray) -> tuple[float, float, float]:
    """Crest, amplitude and rms misfit of the wave of period 180 degrees that fits the scores best.

    Scores change like ``cos(2 (axis - best))`` to first order, and fitting all of them is steadier than the highest.
    """
    double = 2.0 * np.deg2rad(axes_deg)
    design = np.column_stack([np.ones_like(double), np.cos(double), np.sin(double)])
    _, cosine, sine = solution = np.linalg.lstsq(design, scores)[0]
    left = float(np.sqrt(np.mean((scores - design @ solution) ** 2)))
    return float(np.rad2deg(np.arctan2(sine, cosine)) / 2.0), float(np.hypot(cosine, sine)), left


def flat_tilt_deg(tilt_deg: FloatArray, brightness: FloatArray) -> float:
    """Tilt at which the specimen lies flat, by the absorption in the slab; NaN if that is not clear.

    The path through a slab is longest at high tilts, so the logarithm of the brightness falls as
    ``1 / cos(tilt - flat)`` (Lambert and Beer's law).

    Parameters
    ----------
    tilt_deg, brightness
        Shape (n,): tilts, and mean counts of the images; NaN for those that take no part.
    """
    good = np.isfinite(brightness) & (brightness > 0)
    if good.sum() < 8 or np.ptp(tilt_deg[good]) < 40.0:
        return float("nan")
    tilt, logs = tilt_deg[good], np.log(brightness[good])
    if logs.std() < _LEAST_FALL:
        return float("nan")

    def fit(flat: float) -> tuple[float, float]:
        path = 1.0 / np.maximum(np.cos(np.deg2rad(tilt - flat)), 0.1)
        slope, offset = np.polyfit(path, logs, 1)
        return float(((logs - slope * path - offset) ** 2).mean()), float(slope)

    found = minimize_scalar(lambda flat: fit(flat)[0], bounds=(-_STEEPEST_DEG, _STEEPEST_DEG), method="bounded")
    left, slope = fit(float(found.x))
    explained = 1.0 - left / max(float(logs.var()), 1e-12)
    at_the_end = abs(found.x) > _STEEPEST_DEG - 1.0
    return float("nan") if slope >= 0 or explained < _LEAST_EXPLAINED or at_the_end else float(found.x)
