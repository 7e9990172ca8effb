"""Erase gold beads from images, for methods that compare images as they are.

A bead is so dense that it outweighs everything else in its neighbourhood, and a few of them are no random density. The
pixels of a disc around every bead are replaced by the plane through the pixels around the disc, plus what is left over
from such a plane in a disc beside it: the texture goes on, and nothing in it follows the bead from view to view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.correlate import Peaks
from napari_tiltalign.images.finite import finite_pixels
from napari_tiltalign.images.prepare import Image, bin_image
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.methods.bead_search import WORKING_DIAMETER_PX
from napari_tiltalign.methods.beads import BEADLIKE, find_beads, strength_divide
from napari_tiltalign.model import TiltSeries

LEAST_PER_VIEW = 2
"""Fewer beads per view (median) are taken for something else, and nothing is erased."""
SMALLEST_DIAMETER_PX = 3.0
"""Smaller beads cannot be told from noise."""
DISC = 1.6
"""Diameter of the disc that is replaced, bead diameters."""

_FIRST_LOOK = 5
_AS_STRONG, _LESS_ROUND = 0.5, 0.4
_LEAST_STRENGTH, _FULL_STRENGTH_NM = 0.14, 10.0
"""Gold of 10 nm gives 0.2 to 0.3 in the matched filter per pixel of its diameter, proteins at most 0.09; smaller beads
take less of the beam."""
_RING = 1.5
"""Outer diameter of the ring around a disc, disc diameters."""
_DONOR_DISTANCES = (1.1, 1.6, 2.2)
_DIRECTIONS = 8


@dataclass(frozen=True, slots=True, eq=False)
class FoundGold:
    """Beads found in the images of a series.

    Attributes
    ----------
    position_yx
        Index of an image in the series to pixel indices (k, 2) in the raw image.
    diameter_px
        Diameter of the beads, raw pixels.
    """

    position_yx: Mapping[int, FloatArray]
    diameter_px: float

    @property
    def per_view(self) -> float:
        """Beads per view, median."""
        return float(np.median([len(found) for found in self.position_yx.values()])) if self.position_yx else 0.0

    def erase(self, index: int, image: Image) -> Image:
        """Return an image of the series without its beads."""
        found = self.position_yx.get(index)
        if found is None or not len(found):
            return image
        return erase_discs(image, found, DISC * self.diameter_px, np.random.default_rng(index))


def find_gold(
    series: TiltSeries, diameter_nm: float, *, bright: bool = False, progress: Progress = silent
) -> FoundGold:
    """Find what is surely gold in every included image.

    A few of the least tilted images are looked at first; where they hold no gold, the others are not read.

    Parameters
    ----------
    series, diameter_nm
        The series, and the diameter of the beads; 30 % off costs little.
    bright
        Whether beads are brighter than their surroundings.
    progress
        Told how far it is.

    Returns
    -------
    FoundGold
        Without any positions if there is no gold: fewer than `LEAST_PER_VIEW` per view, which chance also gives.
    """
    diameter_px = diameter_nm * 10.0 / series.pixel_size_angst
    factor = max(1, int(diameter_px / WORKING_DIAMETER_PX))
    least = _LEAST_STRENGTH * min(1.0, diameter_nm / _FULL_STRENGTH_NM) * diameter_px / factor

    def one(index: int) -> Peaks:
        try:
            image, _ = finite_pixels(series.tilts[index].image.load()[0])
        except TiltAlignError:  # whoever reads the series for good says so
            return _NONE
        found = find_beads(bin_image(image, factor), (diameter_px / factor,), bright=bright).beads
        found = found.take(found.height > least)
        return Peaks((found.position_yx + 0.5) * factor - 0.5, found.height, found.similarity)

    included = [k for k, tilt in enumerate(series.tilts) if tilt.included]
    flattest = sorted(included, key=lambda k: abs(series.tilts[k].nominal_tilt_deg))[:_FIRST_LOOK]
    found = dict(zip(flattest, map_views(one, flattest), strict=True))
    if np.median([(peaks.similarity > BEADLIKE).sum() for peaks in found.values()]) < LEAST_PER_VIEW:
        return FoundGold({}, diameter_px)
    rest = [k for k in included if k not in found]
    done = map_views(one, rest, on_done=lambda n: progress(n / len(included), "finding gold"))
    gold = FoundGold(_gold_of({**found, **dict(zip(rest, done, strict=True))}), diameter_px)
    return gold if gold.per_view >= LEAST_PER_VIEW else FoundGold({}, diameter_px)


_NONE = Peaks(np.zeros((0, 2)), np.zeros(0), np.zeros(0))


def _gold_of(candidates: Mapping[int, Peaks]) -> dict[int, FloatArray]:
    """Positions of those candidates that are as strong and as round as gold.

    Where strengths fall into two groups only the upper one is gold; beads that touch others or the edge are less round,
    and as strong.
    """
    heights = np.concatenate([peaks.height for peaks in candidates.values()])
    similarity = np.concatenate([peaks.similarity for peaks in candidates.values()])
    divide = strength_divide(heights, least_above=LEAST_PER_VIEW / 2 * len(candidates))
    sure = heights[(similarity > BEADLIKE) & (heights > divide)]
    strong = max(divide, _AS_STRONG * float(np.median(sure))) if sure.size else np.inf
    return {
        k: peaks.position_yx[
            ((peaks.similarity > BEADLIKE) & (peaks.height > divide))
            | ((peaks.similarity > _LESS_ROUND) & (peaks.height > strong))
        ]
        for k, peaks in candidates.items()
    }


def erase_discs(image: Image, centres_yx: FloatArray, diameter_px: float, random: np.random.Generator) -> Image:
    """Replace discs in an image by what is around them.

    Parameters
    ----------
    image
        Shape (y, x).
    centres_yx, diameter_px
        Pixel indices (k, 2), and diameter of the discs.
    random
        Chooses where texture is taken from.
    """
    erased = image.copy()
    taken = np.zeros(image.shape, dtype=bool)
    for centre in centres_yx:
        window, distance = _window(image.shape, centre, diameter_px)
        taken[window] |= distance <= diameter_px / 2
    for centre in centres_yx:
        window, distance = _window(image.shape, centre, diameter_px * _RING)
        disc = distance <= diameter_px / 2
        clear = ~taken[window] & (distance <= diameter_px * _RING / 2)
        if disc.any() and clear.any():
            texture = _texture(image, taken, centre, diameter_px, disc.shape, distance, random)
            level = _plane(erased[window], clear)
            patch = erased[window]
            patch[disc] = (level + texture)[disc]
    return erased


_Window = tuple[slice, slice]


def _window(shape: tuple[int, ...], centre: FloatArray, diameter: float) -> tuple[_Window, FloatArray]:
    """Part of an image around a place, and the distance of its pixels from there."""
    low = [max(0, int(np.floor(c - diameter / 2))) for c in centre]
    high = [min(size, int(np.ceil(c + diameter / 2)) + 1) for c, size in zip(centre, shape, strict=True)]
    axes = [np.arange(a, max(a, b)) - c for a, b, c in zip(low, high, centre, strict=True)]
    return (slice(low[0], max(low[0], high[0])), slice(low[1], max(low[1], high[1]))), np.hypot(*np.ix_(*axes))


def _plane(pixels: Image, clear: NDArray[np.bool_]) -> Image:
    """Plane through the clear pixels, evaluated at all of them."""
    y, x = (axis - np.mean(axis[clear]) for axis in np.indices(pixels.shape))
    values = pixels[clear].astype(np.float64)
    design = np.column_stack([np.ones(len(values)), y[clear], x[clear]])
    mean, slope_y, slope_x = np.linalg.lstsq(design, values, rcond=None)[0]
    plane: Image = (mean + slope_y * y + slope_x * x).astype(np.float32)
    return plane


def _texture(
    image: Image, taken: NDArray[np.bool_], centre: FloatArray, diameter: float, shape: tuple[int, ...],
    distance: FloatArray, random: np.random.Generator,
) -> Image:  # fmt: skip
    """What is left over from the plane in a clear place nearby; noise of the surroundings if there is none."""
    corner = np.array([int(np.floor(c - diameter * _RING / 2)) for c in centre]).clip(min=0)
    disc = distance <= diameter / 2
    turn = random.uniform(0, 2 * np.pi)
    for away in _DONOR_DISTANCES:
        for angle in turn + 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS:
            place = corner + np.round(away * diameter * np.array([np.sin(angle), np.cos(angle)])).astype(int)
            end = place + np.array(shape)
            if (place < 0).any() or (end > np.array(image.shape)).any():
                continue
            there = slice(place[0], end[0]), slice(place[1], end[1])
            if not taken[there][disc].any():
                texture: Image = image[there] - _plane(image[there], ~taken[there])
                return texture
    window, _ = _window(image.shape, centre, diameter * _RING)
    around = image[window][~taken[window]]
    spread = 1.4826 * float(np.median(np.abs(around - np.median(around)))) if around.size else 0.0
    return random.normal(0.0, spread, shape).astype(np.float32)
