"""Pixels that are not finite: few are filled, many mean that there is no image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput

MAX_BAD_FRACTION = 0.5
"""An image with more than this part of its pixels NaN or infinite is refused."""


def finite_pixels(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Replace NaN and infinite pixels by the median of the others.

    Parameters
    ----------
    image
        Shape (y, x).

    Returns
    -------
    image, count
        The image itself if all its pixels are finite, else a filled copy; and how many pixels were replaced.

    Raises
    ------
    BadInput
        If more than `MAX_BAD_FRACTION` of the pixels are not finite.
    """
    finite = np.isfinite(image)
    n_bad = int(image.size - np.count_nonzero(finite))
    if n_bad == 0:
        return image, 0
    if n_bad > MAX_BAD_FRACTION * image.size:
        raise BadInput(f"{n_bad} of {image.size} pixels are NaN or infinite; exclude this image")
    return np.where(finite, image, np.median(image[finite])), n_bad
