"""Pixels that are not finite: row 44 of the fault table."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.errors import BadInput
from napari_tiltalign.images.finite import finite_pixels


def test_row_44_few_bad_pixels_get_the_median_of_the_others() -> None:
    image = np.arange(25, dtype=np.float32).reshape(5, 5)
    image[0, 0], image[4, 4], image[2, 2] = np.nan, np.inf, -np.inf
    filled, n_bad = finite_pixels(image)
    assert n_bad == 3
    assert filled.dtype == np.float32
    assert filled[0, 0] == filled[4, 4] == filled[2, 2] == 12.0
    assert np.isnan(image[0, 0])


def test_row_44_whole_frame_is_refused() -> None:
    with pytest.raises(BadInput, match="25 of 25 pixels are NaN or infinite"):
        finite_pixels(np.full((5, 5), np.nan, np.float32))


def test_finite_image_is_not_copied() -> None:
    image = np.ones((3, 3), np.float32)
    assert finite_pixels(image) == (image, 0)
