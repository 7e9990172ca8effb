"""Contrast that follows the view: images at high tilt are darker than those at low tilt, and would be seen as black."""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

from napari.layers import Image

from napari_tiltalign.ui.layer_data import contrast_limits
from napari_tiltalign.ui.lazy_stack import LazyStack

_SEEN = 0.03
"""A change of the limits by less than about this part of their range is not seen, and costs as much as drawing."""


class FollowingContrast:
    """Sets the grey values that are black and white for the image that is shown, until the user sets them."""

    def __init__(self) -> None:
        self._set: WeakKeyDictionary[Image, tuple[float, float]] = WeakKeyDictionary()

    def follow(self, layer: Image | None, view: int) -> None:
        """Adapt a layer to one of its images, unless the user has chosen its contrast."""
        if layer is None or not isinstance(layer.data, LazyStack) or not 0 <= view < len(layer.data):
            return
        now = (float(layer.contrast_limits[0]), float(layer.contrast_limits[1]))
        if self._set.setdefault(layer, now) != now:
            return
        low, high = _rounded(*contrast_limits(layer.data.image(view)))
        if (low, high) != now:
            ranged = layer.contrast_limits_range
            if low < ranged[0] or high > ranged[1]:
                layer.contrast_limits_range = (min(low, ranged[0]), max(high, ranged[1]))
            layer.contrast_limits = (low, high)
        self._set[layer] = (float(layer.contrast_limits[0]), float(layer.contrast_limits[1]))


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Limits to a power of two, so that those of similar images are the same, whatever was looked at before."""
    step = 2.0 ** math.floor(math.log2(_SEEN * (high - low)))
    return step * math.floor(low / step), step * math.ceil(high / step)
