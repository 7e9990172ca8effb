"""Make an image fit for measuring: binning, hot pixels, blocked areas, local contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

HOT_PIXEL_SIGMAS = 5.0
"""How far a pixel must stand out of its 8 neighbours to count as hot, robust standard deviations."""

_BLOCKED_LEVEL = 0.35
"""An area darker than this part of the image's bright level is blocked (grid bar, aperture, beam edge)."""


@dataclass(frozen=True, slots=True, eq=False)
class ContrastImage:
    """Local contrast of an image, (I - background) / background.

    Attributes
    ----------
    contrast
        Shape (y, x), dimensionless; 0 where masked.
    mask
        Shape (y, x): False where the image is blocked.
    """

    contrast: Image
    mask: Mask


def bin_image(image: Image, factor: int) -> Image:
    """Average blocks of factor x factor pixels; what does not fill a block at the far edges is dropped.

    A position with index q in the result has index ``(q + 0.5) factor - 0.5`` in the image.
    """
    if factor <= 1:
        return image
    rows, columns = (size // factor * factor for size in image.shape)
    blocks = image[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor)
    binned: Image = blocks.mean(axis=(1, 3), dtype=np.float32)
    return binned


def noise_sd(image: Image) -> float:
    """Robust standard deviation of the pixel noise, from differences of neighbouring columns."""
    difference = np.abs(image[::3, 1:] - image[::3, :-1])
    return float(1.4826 * np.median(difference) / np.sqrt(2.0))


def remove_hot_pixels(image: Image) -> tuple[Image, int]:
    """Replace isolated outliers (hot and dead pixels, X-rays) by the mean of their neighbours.

    A pixel is replaced if it lies beyond the second most extreme of its 8 neighbours by `HOT_PIXEL_SIGMAS`, so that
    real features, which have at least two pixels, survive.

    Returns
    -------
    image, count
        The cleaned copy (the image itself if nothing was found), and how many pixels were replaced.
    """
    limit = HOT_PIXEL_SIGMAS * max(noise_sd(image), 1e-6)
    padded = np.pad(image, 1, mode="reflect")
    left, up = padded[1:-1, :-2], padded[:-2, 1:-1]
    above = (image > left + limit) & (image > up + limit)
    below = (image < left - limit) & (image < up - limit)
    rows, columns = np.nonzero(above | below)
    if not rows.size:
        return image, 0
    neighbours = np.stack(
        [padded[rows + dy, columns + dx] for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)], axis=1
    )
    neighbours.sort(axis=1)
    value = image[rows, columns]
    hot = (value > neighbours[:, 6] + limit) | (value < neighbours[:, 1] - limit)
    cleaned = image.copy()
    cleaned[rows[hot], columns[hot]] = neighbours[hot, 1:7].mean(axis=1)
    return cleaned, int(hot.sum())


def contrast_image(image: Image, feature_px: float, *, bright: bool = False) -> ContrastImage:
    """Divide an image by its local background, with blocked areas masked.

    Parameters
    ----------
    image
        Shape (y, x), hot pixels removed. An image without a positive level (one that was normalised to zero mean) is
        given one first.
    feature_px
        Size of the features of interest, such as the diameter of a bead; the background is taken over five times
        that, without what deviates by more than 3 standard deviations.
    bright
        Whether the features are brighter than the background; the contrast changes sign, so that they always come
        out dark.
    """
    image = _with_positive_level(image)
    step = max(1, int(feature_px / 3))
    coarse = _bin_padded(image, step)
    everywhere = np.ones_like(coarse)
    radius = feature_px / step
    level = _box(coarse, radius) / _box(everywhere, radius)
    blocked = level < _BLOCKED_LEVEL * np.percentile(level, 75)
    clear = ~ndimage.binary_dilation(blocked, iterations=max(1, round(1.5 * radius))) if blocked.any() else ~blocked
    weight = clear.astype(np.float32)
    background = _local_mean(coarse, weight, 2.5 * radius)
    deviation = coarse / np.maximum(background, 1e-6) - 1.0
    spread = 1.4826 * np.median(np.abs(deviation[clear])) + 1e-9 if clear.any() else 1.0
    plain = (clear & (np.abs(deviation) < 3.0 * spread)) + 1e-3 * weight
    background = _enlarge(_local_mean(coarse, plain.astype(np.float32), 2.5 * radius), step, image.shape)
    contrast = np.clip(image / np.maximum(background, 1e-6) - 1.0, -1.5, 3.0)
    mask = np.ones(image.shape, dtype=bool)
    if not clear.all():
        mask = np.repeat(np.repeat(clear, step, 0), step, 1)[: image.shape[0], : image.shape[1]]
        contrast = contrast * mask
    return ContrastImage((-contrast if bright else contrast).astype(np.float32, copy=False), mask)


def _with_positive_level(image: Image) -> Image:
    level = float(np.median(image[::3]))
    if level > 0 and image.min() > -2.0 * level:
        return image
    shifted: Image = image - np.percentile(image, 0.1) + 3.0 * image.std()
    return shifted.astype(np.float32)


def _bin_padded(image: Image, factor: int) -> Image:
    rows, columns = (-size % factor for size in image.shape)
    return bin_image(np.pad(image, ((0, rows), (0, columns)), mode="edge"), factor)


def _box(image: Image, radius: float) -> Image:
    """Two passes of a box mean: nearly a Gaussian, at a cost that does not grow with the radius."""
    size = 2 * int(radius) + 1
    once: Image = ndimage.uniform_filter(image, size, mode="constant")
    twice: Image = ndimage.uniform_filter(once, size, mode="constant")
    return twice


def _local_mean(image: Image, weight: Image, radius: float) -> Image:
    mean: Image = _box(image * weight, radius) / np.maximum(_box(weight, radius), 1e-3)
    return mean


def _enlarge(image: Image, factor: int, shape: tuple[int, ...]) -> Image:
    """Enlarge a binned image by linear interpolation between the middles of its blocks."""
    if factor == 1:
        return image
    for axis in (0, 1):
        place = np.clip((np.arange(shape[axis]) + 0.5) / factor - 0.5, 0, image.shape[axis] - 1)
        low = place.astype(int)
        share = (place - low).astype(np.float32)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        share = share[:, None] if axis == 0 else share
        image = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return image
