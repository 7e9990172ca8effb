"""Two meanings of "the centre of an image", exact to the half pixel.

This package and RELION mean the pixel of index ``N // 2``. IMOD and AreTomo mean half the width from the edge of the
first pixel, ``N / 2``, where that pixel's centre is at 0.5: index ``(N - 1) / 2``. The two are the same place for
odd sizes and half a pixel apart for even ones.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from napari_tiltalign.geometry import FloatArray

HalfPixel = Literal["exact", "relion"]
"""How to read shifts about the edge centre: ``exact``, or like RELION, which takes them as about index ``N // 2``."""


def from_edge_centre_px(image_shape_yx: tuple[int, int], half_pixel: HalfPixel = "exact") -> FloatArray:
    """Position of our image centre as IMOD and AreTomo count it, (y, x) in pixels from their centre.

    Examples
    --------
    >>> from_edge_centre_px((4, 5)).tolist()
    [0.5, 0.0]
    """
    if half_pixel == "relion":
        return np.zeros(2)
    size = np.array(image_shape_yx, dtype=np.float64)
    return size // 2 - (size - 1) / 2
