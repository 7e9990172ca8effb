"""First shifts between neighbouring views by correlating the images themselves.

The view at the higher tilt is stretched across the tilt axis by the ratio of the cosines, which makes a flat specimen
look alike in both (Guckenberger 1982). The result is a hint with a significance, not a geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.correlate import shift_between
from napari_tiltalign.images.prepare import Image, bin_image

_SIZE_PX = 160
"""Images are binned to about this size; a hint needs no more."""

_LOWPASS_PX = 1.3
_TRUSTED_SIGNIFICANCE = 14.0
"""Two images of nothing but noise reach 7 to 13, neighbouring views of a specimen 14 to 60."""


@dataclass(frozen=True, slots=True)
class NeighbourShift:
    """How two neighbouring views are shifted against each other.

    Attributes
    ----------
    inner, outer
        Indices of the views; `outer` has the higher tilt.
    offset_yx
        Shape (2,), pixels: shift of `outer` = stretch (shift of `inner`) + offset.
    stretch
        Shape (2, 2), acting on (y, x): the shrinking across the axis from `inner` to `outer`.
    significance
        Height of the correlation peak over the rest, standard deviations.
    """

    inner: int
    outer: int
    offset_yx: FloatArray
    stretch: FloatArray
    significance: float

    @property
    def trusted(self) -> bool:
        """Whether the correlation is clear enough to be a hint."""
        return self.significance > _TRUSTED_SIGNIFICANCE

    def outer_from(self, inner_shift_yx: FloatArray) -> FloatArray:
        """Shift (2,) of the outer view, given that of the inner one."""
        return self.stretch @ inner_shift_yx + self.offset_yx

    def inner_from(self, outer_shift_yx: FloatArray) -> FloatArray:
        """Shift (2,) of the inner view, given that of the outer one."""
        inner: FloatArray = np.linalg.solve(self.stretch, outer_shift_yx - self.offset_yx)
        return inner


def neighbour_shifts(
    contrasts: Sequence[Image | None], tilt_deg: FloatArray, axis_deg: float
) -> dict[frozenset[int], NeighbourShift]:
    """Shifts between views that are next or next but one in tilt.

    Parameters
    ----------
    contrasts
        n images of local contrast, same shape (y, x); None for views that take no part.
    tilt_deg, axis_deg
        Nominal tilts (n,) and tilt axis, degrees.

    Returns
    -------
    dict
        The unordered pair of views to its shift, in pixels of `contrasts`.
    """
    order = [int(i) for i in np.argsort(tilt_deg, kind="stable") if contrasts[int(i)] is not None]
    pairs = [(order[k], order[k + step]) for step in (1, 2) for k in range(len(order) - step)]
    factor = max(1, round(max(next(c for c in contrasts if c is not None).shape) / _SIZE_PX))
    small = {i: _prepared(contrasts[i], factor) for i in order}

    def measure(pair: tuple[int, int]) -> NeighbourShift:
        inner, outer = sorted(pair, key=lambda i: abs(tilt_deg[i]))
        stretch = cosine_stretch(tilt_deg[inner], tilt_deg[outer], axis_deg)
        seen_flat = _stretched(small[outer], stretch)
        shift, significance = shift_between(_tapered(small[inner]), _tapered(seen_flat))
        return NeighbourShift(inner, outer, stretch @ shift * factor, stretch, significance)

    found = map_views(measure, pairs)
    return {frozenset((item.inner, item.outer)): item for item in found}


def neighbour_correlations(
    contrasts: Sequence[Image | None], tilt_deg: FloatArray, axis_deg: float, pairs: Sequence[tuple[int, int]]
) -> FloatArray:
    """Normalised correlation of pairs of views, each at its best shift, if the tilt axis were at `axis_deg`.

    Parameters
    ----------
    contrasts
        n images of local contrast, same shape (y, x); those of the pairs must be there.
    tilt_deg, axis_deg
        Nominal tilts (n,), and the axis to try, degrees.
    pairs
        k pairs of views.

    Returns
    -------
    FloatArray
        Shape (k,).
    """
    factor = max(1, round(max(next(c for c in contrasts if c is not None).shape) / _SIZE_PX))

    def measure(pair: tuple[int, int]) -> float:
        inner, outer = sorted(pair, key=lambda i: abs(tilt_deg[i]))
        stretch = cosine_stretch(tilt_deg[inner], tilt_deg[outer], axis_deg)
        one = _tapered(_prepared(contrasts[inner], factor))
        other = _tapered(_stretched(_prepared(contrasts[outer], factor), stretch))
        product = fft.irfft2(fft.rfft2(one) * np.conj(fft.rfft2(other)), one.shape)
        return float(product.max()) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12)

    return np.array(map_views(measure, pairs))


def cosine_stretch(inner_deg: float, outer_deg: float, axis_deg: float) -> FloatArray:
    """Matrix (2, 2) on (y, x) that shrinks across the tilt axis by cos(outer) / cos(inner)."""
    ratio = np.cos(np.deg2rad(outer_deg)) / np.cos(np.deg2rad(inner_deg))
    sine, cosine = np.sin(np.deg2rad(axis_deg)), np.cos(np.deg2rad(axis_deg))
    across = np.array([sine, cosine])
    stretch: FloatArray = np.eye(2) + (ratio - 1.0) * np.outer(across, across)
    return stretch


def _prepared(contrast: Image | None, factor: int) -> Image:
    if contrast is None:
        raise ValueError("a view that takes no part cannot be correlated")
    small: Image = ndimage.gaussian_filter(bin_image(contrast, factor), _LOWPASS_PX)
    return small - np.float32(small.mean())


def _stretched(image: Image, stretch: FloatArray) -> Image:
    """Sample the image so that what was shrunk by `stretch` looks unshrunk, about the image centre."""
    centre = np.array(image.shape) // 2
    flat: Image = ndimage.affine_transform(image, stretch, offset=centre - stretch @ centre, order=1)
    return flat


def _tapered(image: Image) -> Image:
    windows = [np.hanning(size + 2)[1:-1] for size in image.shape]
    window = np.sqrt(np.outer(*windows))
    tapered: Image = ((image - np.average(image, weights=window)) * window).astype(np.float32)
    return tapered
