"""Find gold beads in every view: cleaning, matched filter with the projection of a sphere, peaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.correlate import Peaks, find_peaks, matched_filter
from napari_tiltalign.images.prepare import ContrastImage, Image, contrast_image, remove_hot_pixels

DETECTION_SIGMAS = 6.0
"""Lowest matched-filter response of a bead, robust standard deviations of the response."""

LOWEST_SIMILARITY = 0.35
"""Lowest normalised correlation of a bead with the projection of a sphere."""

BEADLIKE = 0.55
"""Similarity that most gold beads exceed (0.6 to 0.9) and most proteins and ice do not (0.3 to 0.5)."""

MOST_BEADS_PER_VIEW = 400
"""Only so many of the strongest candidates are used, so that textured carbon costs bounded time."""

_TEMPLATE_RADIUS = 0.95
"""Radius of the template, bead diameters: the bead and a ring of background."""

_TEMPLATE_BLUR = 0.08
_SEPARATION = 0.45
_ONE_BEAD = 0.6
_LOWEST_CLEAR_PART = 0.6
_DARK_LEVEL = 0.15
_FLAT_CONTRAST = 0.02
_NEIGHBOURS = 5
_LEAST_GOLD_PER_VIEW = 0.5
_HISTOGRAM_STEP = 0.02
_LEAST_FACTOR = 1.5
_EMPTY = 0.25
_LESS_ROUND = 0.8
_MOSTLY = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class BeadView:
    """One view prepared for bead tracking.

    Attributes
    ----------
    image
        Local contrast and mask; beads are dark.
    beads
        Candidates.
    size
        Shape (k,): which of the diameters looked for each candidate has.
    level
        Median of the image, in its own units.
    spread
        Robust standard deviation of the image, in its own units.
    hot_pixels
        How many were replaced.
    """

    image: ContrastImage
    beads: Peaks
    size: NDArray[np.int64]
    level: float
    spread: float
    hot_pixels: int


def bead_template(diameter_px: float) -> tuple[Image, Image]:
    """Projection of a sphere, dark, of zero mean and unit norm, with its support.

    The mass thickness of a sphere of diameter d seen at distance r from its centre is proportional to
    sqrt(1 - (2 r / d)^2); a blur of 0.08 d stands for the microscope.
    """
    half = int(np.ceil(diameter_px))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    distance = np.hypot(x, y)
    profile = np.sqrt(np.clip(1.0 - (2.0 * distance / diameter_px) ** 2, 0.0, None))
    profile = ndimage.gaussian_filter(profile, _TEMPLATE_BLUR * diameter_px)
    support = distance <= _TEMPLATE_RADIUS * diameter_px
    template = np.where(support, profile - profile[support].mean(), 0.0)
    return (-template / np.linalg.norm(template)).astype(np.float32), support.astype(np.float32)


def find_beads(image: Image, diameters_px: Sequence[float], *, bright: bool = False) -> BeadView:
    """Clean one view and find candidate beads in it.

    Parameters
    ----------
    image
        Shape (y, x), at the working scale (a bead is about 9 to 18 pixels wide).
    diameters_px
        Diameters of the beads there may be, pixels of this image.
    bright
        Whether beads are brighter than their surroundings.
    """
    cleaned, hot_pixels = remove_hot_pixels(np.ascontiguousarray(image, dtype=np.float32))
    sample = cleaned[::4, ::4]
    level = float(np.median(sample))
    spread = float(1.4826 * np.median(np.abs(sample - level)))
    contrast = contrast_image(cleaned, max(diameters_px), bright=bright)
    beads, size = _most_similar([_candidates(contrast, diameter) for diameter in diameters_px], diameters_px)
    return BeadView(contrast, beads, size, level, spread, hot_pixels)


def _candidates(contrast: ContrastImage, diameter_px: float) -> Peaks:
    response, similarity = matched_filter(contrast.contrast, *bead_template(diameter_px))
    response, similarity = response * contrast.mask, similarity * contrast.mask
    return find_peaks(
        response,
        similarity,
        lowest_response=DETECTION_SIGMAS * _robust_sd(response, contrast.mask),
        lowest_similarity=LOWEST_SIMILARITY,
        separation_px=_SEPARATION * diameter_px,
        edge_px=int(diameter_px / 2),
        most=MOST_BEADS_PER_VIEW,
    )


def _most_similar(found: Sequence[Peaks], diameters_px: Sequence[float]) -> tuple[Peaks, NDArray[np.int64]]:
    """Merge candidates of several diameters; of those at one place the one that is most like its template stays."""
    size = np.repeat(np.arange(len(found)), [len(peaks) for peaks in found])
    merged = Peaks(
        np.concatenate([peaks.position_yx for peaks in found]),
        np.concatenate([peaks.height for peaks in found]),
        np.concatenate([peaks.similarity for peaks in found]),
    )
    if len(found) == 1 or not len(merged):
        return merged, size
    apart = np.linalg.norm(merged.position_yx[:, None] - merged.position_yx[None], axis=2)
    reach = _ONE_BEAD * np.maximum.outer(np.array(diameters_px)[size], np.array(diameters_px)[size])
    beaten = (apart < reach) & (merged.similarity[None] > merged.similarity[:, None])
    alone = ~beaten.any(axis=1)
    return merged.take(alone), size[alone]


def _robust_sd(response: Image, mask: NDArray[np.bool_]) -> float:
    values = response[::2, ::2][mask[::2, ::2]]
    if values.size < 100:
        return float("inf")
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) + 1e-12


def keep_the_gold(views: Sequence[BeadView | None]) -> tuple[list[BeadView | None], bool]:
    """Drop candidates that are much fainter than the beads of the same series, where there is a clear divide.

    Proteins and ice look like faint beads; gold is several times stronger. If the strengths of the candidates of one
    diameter fall into two groups with almost nothing between them, the upper group is gold. Without a divide all are
    kept, which is right where nearly all are gold.

    Parameters
    ----------
    views
        Searched views; None for those that take no part.

    Returns
    -------
    views, gold
        The views with the candidates that are kept, and whether there is gold: either a divide was found, or most
        candidates are as round as beads are.
    """
    searched = [view for view in views if view is not None]
    size = np.concatenate([view.size for view in searched])
    height = np.concatenate([view.beads.height for view in searched])
    similarity = np.concatenate([view.beads.similarity for view in searched])
    divides = np.zeros(int(size.max(initial=0)) + 1)
    for kind in range(len(divides)):
        own = size == kind
        divide = strength_divide(height[own], least_above=_LEAST_GOLD_PER_VIEW * len(searched))
        # where the weaker ones are as round as the strong ones, they are beads too
        if divide > 0 and _roundness(similarity[own & (height <= divide)]) < _LESS_ROUND * _roundness(
            similarity[own & (height > divide)]
        ):
            divides[kind] = divide
    kept = [
        None if view is None else replace(view, beads=view.beads.take(keep), size=view.size[keep])
        for view in views
        for keep in [np.zeros(0, dtype=bool) if view is None else view.beads.height > divides[view.size]]
    ]
    round_ones = similarity > BEADLIKE
    mostly_gold = round_ones.sum() >= _LEAST_GOLD_PER_VIEW * len(searched) and round_ones.mean() >= _MOSTLY
    return kept, bool((divides > 0).any() or mostly_gold)


def _roundness(similarity: FloatArray) -> float:
    return float(np.percentile(similarity, 75)) if similarity.size else 0.0


def strength_divide(height: FloatArray, *, least_above: float) -> float:
    """The emptiest place between two groups of strengths, or 0 if there is none.

    A divide is a minimum of the smoothed histogram of log strength with less than a quarter of the density of the modes
    on both sides, which lie a factor of 1.5 or more apart. Of several the one between the modes furthest apart counts.

    Parameters
    ----------
    height
        Shape (k,), positive.
    least_above
        How many the upper group must have.
    """
    if len(height) < 20:
        return 0.0
    logs = np.log(height)
    edges = np.arange(logs.min() - 6 * _HISTOGRAM_STEP, logs.max() + 7 * _HISTOGRAM_STEP, _HISTOGRAM_STEP)
    density = ndimage.gaussian_filter1d(np.histogram(logs, edges)[0].astype(float), 3.0)
    centre = (edges[1:] + edges[:-1]) / 2
    best, widest = 0.0, np.log(_LEAST_FACTOR)
    for k in range(1, len(density) - 1):
        if not (density[k] <= density[k - 1] and density[k] <= density[k + 1]):
            continue
        low, high = int(np.argmax(density[:k])), k + int(np.argmax(density[k:]))
        empty = density[k] < _EMPTY * min(density[low], density[high])
        apart = centre[high] - centre[low]
        if empty and apart > widest and (logs > centre[k]).sum() >= least_above:
            best, widest = float(np.exp(centre[k])), apart
    return best


def bad_views(views: Sequence[BeadView | None]) -> dict[int, str]:
    """Find views that cannot be used: black, without contrast, or almost entirely blocked.

    Parameters
    ----------
    views
        In the order of their tilt; None for one that is excluded already.

    Returns
    -------
    dict
        Index of the view to the reason: ``no_contrast``, ``dark``, ``blocked``.
    """
    found: dict[int, str] = {}
    level = np.array([np.nan if view is None else view.level for view in views])
    spread = np.array([np.nan if view is None else view.spread for view in views])
    counts_electrons = np.nanmin(level) >= 0
    for index, view in enumerate(views):
        if view is None:
            continue
        near = slice(max(0, index - _NEIGHBOURS), index + _NEIGHBOURS + 1)
        if view.spread <= _FLAT_CONTRAST * np.nanmedian(spread[near]):
            found[index] = "no_contrast"
        elif counts_electrons and view.level < _DARK_LEVEL * np.nanmedian(level[near]):
            found[index] = "dark"
        elif view.image.mask.mean() < _LOWEST_CLEAR_PART:
            found[index] = "blocked"
    return found
