"""Images that are unusable or spoilt: rows 45 and 46 of the fault table (row 44 is in io and images)."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.images.prepare import remove_hot_pixels
from napari_tiltalign.methods.beads import bad_views, find_beads


def noisy(seed: int, shape: tuple[int, int] = (128, 128)) -> np.ndarray:
    return np.random.default_rng(seed).poisson(40.0, shape).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, 40.0, 65535.0], ids=["row_45_black", "row_45_constant", "row_45_saturated"])
def test_frame_without_contrast_is_found(level: float) -> None:
    images = [noisy(k) for k in range(5)]
    images[2] = np.full_like(images[2], level)
    views = [find_beads(image, [10.0]) for image in images]
    assert bad_views(views) == {2: "no_contrast"}


def test_row_46_hot_pixels_are_removed_and_counted() -> None:
    clean = noisy(0)
    spoilt = clean.copy()
    spoilt[[5, 60, 100], [7, 64, 3]] = [5000.0, 60000.0, 900.0]
    cleaned, n_removed = remove_hot_pixels(spoilt)
    assert n_removed == 3
    assert np.abs(cleaned - clean).max() < 40.0
    np.testing.assert_array_equal(np.delete(cleaned.ravel(), [5 * 128 + 7, 60 * 128 + 64, 100 * 128 + 3]),
                                  np.delete(clean.ravel(), [5 * 128 + 7, 60 * 128 + 64, 100 * 128 + 3]))  # fmt: skip
