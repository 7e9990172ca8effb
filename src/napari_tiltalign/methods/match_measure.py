"""Match views with their predictions: how far structure is displaced, in every view as a whole and tile by tile.

The whole view is matched by the highest point of its correlation with the prediction, which catches large errors. Then
every tile of the plane gives the slope of the correlation there, which is the slope of the log likelihood of its
displacement: a Newton step with the information that the model expects is its maximum. Tiles are windows that add up to
1 everywhere, and where a view shows nothing nothing is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.arrays import as_index, map_some, module_of, to_host, transforms_of
from napari_tiltalign.images.correlate import highest_points, spread_of
from napari_tiltalign.images.prepare import Image
from napari_tiltalign.methods.match_plane import PlaneViews, Spectra
from napari_tiltalign.methods.match_predict import Predicted, Predictor

_LEAST_COVERED = 0.02
"""Tiles of which a view covers less say nothing about it."""
_LEAST_STRENGTH = 0.2
_BYTES_PER_SAMPLE = 150.0
"""Of memory that a GPU needs for intermediate results, for every sample of a view."""
_QUALITY = (0.02, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """Overlapping windows over the plane that add up to 1.

    Attributes
    ----------
    profiles
        Shape (t, size): the windows along one side; a tile is the product of two.
    centres_angst
        Shape (t,): where they are centred, Angstrom from the middle.
    """

    profiles: Image
    centres_angst: FloatArray

    @classmethod
    def over(cls, size: int, step_angst: float, spacing_angst: float) -> Tiling:
        """Tiles about `spacing_angst` apart, each twice as wide, with one in the middle."""
        half = max(1, round((size * step_angst / 2) / spacing_angst - 0.5))
        centres = np.arange(-half, half + 1) * spacing_angst
        place = (np.arange(size) - (size - 1) / 2) * step_angst
        distance = np.abs(place - centres[:, None]) / spacing_angst
        profiles = np.where(distance < 1.0, np.cos(0.5 * np.pi * np.minimum(distance, 1.0)) ** 2, 0.0)
        return cls(profiles.astype(np.float32), centres)

    def sums(self, image: Any) -> FloatArray:
        """Sums of an image (size, size), or several, over every tile, shape (..., t * t), on the CPU."""
        profiles = module_of(image).asarray(self.profiles)
        summed = (profiles @ image @ profiles.T).reshape(*image.shape[:-2], -1)
        return to_host(summed).astype(np.float64)

    def points_zyx(self) -> FloatArray:
        """Middles of the tiles at height 0, shape (t * t, 3), Angstrom."""
        y, x = np.meshgrid(self.centres_angst, self.centres_angst, indexing="ij")
        return np.stack([np.zeros(y.size), y.ravel(), x.ravel()], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """What matching n views with their predictions in p tiles gave; all in the plane, Angstrom.

    Attributes
    ----------
    displacement_yx
        Shape (n, 2): of the whole view, by the highest point of its correlation.
    slope_yx
        Shape (n, p, 2): of the log likelihood of a tile's displacement at 0.
    samples
        Shape (n, p): how many samples of the plane a tile has in a view.
    quality
        Shape (p,): information found over information expected, at most 1.
    agreement
        Shape (n,): correlation of a view with its prediction.
    significance
        Shape (n,): height of the correlation's peak, standard deviations.
    """

    displacement_yx: FloatArray
    slope_yx: FloatArray
    samples: FloatArray
    quality: FloatArray
    agreement: FloatArray
    significance: FloatArray


def match(views: PlaneViews, predicted: Predicted, by: Predictor, tiling: Tiling, reach_angst: float) -> Matched:
    """Match all views.

    Parameters
    ----------
    views, predicted, by
        The views, their predictions and what made them.
    tiling
        The tiles.
    reach_angst
        How far a whole view is looked for; 0 matches it where it is.
    """
    n, p = len(views.used), len(tiling.centres_angst) ** 2
    displacement, slope, samples = np.zeros((n, 2)), np.zeros((n, p, 2)), np.zeros((n, p))
    agreement, significance = np.zeros(n), np.zeros(n)
    curvature = np.zeros((n, p, 2))
    xp, index = module_of(views.spectra), np.flatnonzero(views.used)
    turn_y, turn_x = (2j * np.pi * k for k in views.frequencies())
    factors = xp.asarray(turn_y)[:, None], xp.asarray(turn_x)[None]
    per_sample = np.stack([np.diagonal(by.information_yx[axis]) for axis in (0, 1)], axis=1)
    strength = _strength(views, by)

    def some(part: Any) -> None:
        view = index[part]
        of = as_index(view, views.spectra)
        seen, expected = predicted.seen[of], predicted.predicted[of]
        agreement[view] = _correlation(seen, expected)
        place, significance[view] = _peak(views, seen, expected, reach_angst)
        if reach_angst > 0:
            displacement[view] = place
            back_y, back_x = np.exp(turn_y * place[..., :1]), np.exp(turn_x * place[..., 1:])
            seen = (seen * xp.asarray(back_y)[..., None] * xp.asarray(back_x)[..., None, :]).astype(np.complex64)
        image, prediction, strong = views.image(seen), views.image(expected), strength[of]
        prediction /= strong
        weight = views.core[of] * strong
        samples[view] = tiling.sums(weight)
        fading = xp.gradient(strong, views.step_angst, axis=(-2, -1))
        for axis, factor in enumerate(factors):
            change = views.image((seen * factor).astype(np.complex64))
            change_expected = views.image((expected * factor).astype(np.complex64)) - prediction * fading[axis]
            change_expected /= strong
            slope[view, :, axis] = tiling.sums(weight * 0.5 * (change * prediction - image * change_expected))
            curvature[view, :, axis] = tiling.sums(weight * change * change_expected)
            # the slope at the place where the view is, if the model is right
            slope[view, :, axis] += (displacement[view, axis] * per_sample[view, axis])[..., None] * samples[view]

    map_some(some, len(index), views.spectra, _BYTES_PER_SAMPLE * views.size**2)
    expected_curvature = samples[:, :, None] * per_sample[:, None]
    quality = curvature.sum(axis=(0, 2)) / np.maximum(expected_curvature.sum(axis=(0, 2)), 1e-30)
    seen_enough = samples > _LEAST_COVERED * samples.max()
    samples = np.where(seen_enough, samples, 0.0)
    slope[~seen_enough] = 0.0
    return Matched(displacement, slope, samples, np.clip(quality, *_QUALITY), agreement, significance)


def _strength(views: PlaneViews, by: Predictor) -> Any:
    """How much of its full strength a prediction has at every place, because not all views see all of the plane.

    Shape (n, size, size). Without taking this out, a prediction that fades towards the edge of the field looks as if
    it were displaced: all of the specimen would seem to shrink.
    """
    xp = module_of(views.coverage)
    springs = np.maximum(-by.information_yx.sum(axis=0), 0.0)
    np.fill_diagonal(springs, 0.0)
    share = springs / np.maximum(springs.sum(axis=1, keepdims=True), 1e-30)
    seen = views.coverage + views.filled * (1.0 - views.coverage)
    return xp.maximum(xp.tensordot(xp.asarray(share.astype(np.float32)), seen, 1), _LEAST_STRENGTH)


def _correlation(seen: Spectra, expected: Spectra) -> FloatArray:
    """Correlation coefficient of transforms (..., rows, columns)."""
    xp = module_of(seen)
    twice = xp.asarray(np.where(np.arange(seen.shape[-1]) == 0, 1.0, 2.0))
    product, own, other = (
        to_host(xp.sum(a * twice, axis=(-2, -1), dtype=np.float64))
        for a in ((xp.conj(seen) * expected).real, xp.square(xp.abs(seen)), xp.square(xp.abs(expected)))
    )
    correlation: FloatArray = product / np.sqrt(own * other + 1e-30)
    return correlation


def _peak(views: PlaneViews, seen: Spectra, expected: Spectra, reach_angst: float) -> tuple[FloatArray, FloatArray]:
    """Where the correlation of one view, or several, is highest within reach, and its significance."""
    surface = views.image(module_of(seen).conj(expected) * seen)
    surface = transforms_of(surface).fftshift(surface, axes=(-2, -1))
    middle, reach = views.size // 2, max(2, round(reach_angst / views.step_angst))
    window = slice(middle - reach, middle + reach + 1)
    place, height = highest_points(surface[..., window, window])
    noise = spread_of(surface[..., ::3, ::3])[1] + 1e-30
    return (place - reach) * views.step_angst, height / noise
