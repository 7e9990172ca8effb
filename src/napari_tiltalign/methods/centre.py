"""Put a position that a person pointed at onto the centre of the bead there."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.prepare import Image, bin_image
from napari_tiltalign.methods.beads import find_beads
from napari_tiltalign.methods.localise import localise

_WORKING_DIAMETER_PX = 9.0
_MARGIN = 4.0
"""Diameters of the neighbourhood looked at on each side: background and noise are learned from it."""


def centre_bead(
    image: Image, position_yx: FloatArray, diameter_px: float, *, reach: float = 1.0, bright: bool = False
) -> FloatArray | None:
    """Find the bead near a position.

    Parameters
    ----------
    image
        Shape (y, x), one view.
    position_yx
        Pixel index (y, x) near the bead.
    diameter_px
        Bead diameter, pixels of this image.
    reach
        How far away the bead may be, in diameters.
    bright
        Whether beads are brighter than their surroundings.

    Returns
    -------
    FloatArray or None
        Pixel index (2,) of its centre; None if there is no bead, or the image is unreadable here.
    """
    position = np.asarray(position_yx, dtype=np.float64)
    factor = max(1, int(diameter_px / _WORKING_DIAMETER_PX))
    half = int(np.ceil((_MARGIN + reach) * diameter_px))
    low = np.maximum(np.round(position).astype(int) - half, 0)
    high = np.minimum(np.round(position).astype(int) + half + 1, image.shape)
    crop = image[low[0] : high[0], low[1] : high[1]]
    if min(crop.shape) < 2 * factor * np.ceil(diameter_px / factor) + 1 or not np.isfinite(crop).all():
        return None
    working = diameter_px / factor
    found = find_beads(bin_image(crop, factor), [working], bright=bright)
    expected = (position - low + 0.5) / factor - 0.5
    near = np.linalg.norm(found.beads.position_yx - expected, axis=1) <= reach * working
    if not near.any():
        return None
    rough = found.beads.position_yx[near][np.argmax(found.beads.height[near])]
    [fit] = localise([found.image], [rough[None]], working)
    centre = fit.position_yx[0] if fit.complete[0] and np.isfinite(fit.position_yx).all() else rough
    result: FloatArray = (centre + 0.5) * factor - 0.5 + low
    return result
