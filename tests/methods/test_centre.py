"""A click near a bead finds its centre."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.images.prepare import bin_image
from napari_tiltalign.methods.centre import centre_bead

OVERSAMPLING = 4


def picture(centres_yx: list[tuple[float, float]], diameter: float, *, noise: float = 4.0, bright: bool = False):
    """Spheres in noise, 160 x 160 pixels, drawn finely and binned."""
    fine = 160 * OVERSAMPLING
    axis = (np.arange(fine) + 0.5) / OVERSAMPLING - 0.5
    depth = np.zeros((fine, fine), np.float32)
    for y, x in centres_yx:
        distance = np.hypot(axis[:, None] - y, axis[None] - x)
        depth += np.sqrt(np.clip(1.0 - (2.0 * distance / diameter) ** 2, 0.0, None))
    image = 100.0 + (40.0 if bright else -40.0) * bin_image(depth, OVERSAMPLING)
    return (image + np.random.default_rng(2).normal(0.0, noise, image.shape)).astype(np.float32)


@pytest.mark.parametrize("diameter", [8.0, 12.0, 30.0])
@pytest.mark.parametrize("bright", [False, True], ids=["dark", "bright"])
@pytest.mark.parametrize("off", [(0.0, 0.0), (0.5, -0.4), (-0.6, -0.6)])
def test_the_centre_is_found(diameter, bright, off):
    true = np.array([81.3, 76.8])
    image = picture([tuple(true)], diameter, bright=bright)
    found = centre_bead(image, true + diameter * np.array(off), diameter, bright=bright)
    np.testing.assert_allclose(found, true, atol=0.15)


def test_the_bead_that_was_meant_is_found():
    image = picture([(60.0, 60.0), (60.0, 84.0)], 12.0)
    np.testing.assert_allclose(centre_bead(image, np.array([63.0, 80.0]), 12.0), (60.0, 84.0), atol=0.2)


def test_a_bead_near_the_edge_is_found():
    image = picture([(12.0, 60.0)], 12.0)
    np.testing.assert_allclose(centre_bead(image, np.array([15.0, 62.0]), 12.0), (12.0, 60.0), atol=0.3)


@pytest.mark.parametrize(
    ("image", "position"),
    [
        (picture([], 12.0), (80.0, 80.0)),
        (picture([(60.0, 60.0)], 12.0), (60.0, 84.0)),
        (np.full((160, 160), np.nan, np.float32), (80.0, 80.0)),
        (picture([(60.0, 60.0)], 12.0), (-500.0, 60.0)),
    ],
    ids=["no bead", "too far", "unreadable", "outside"],
)
def test_where_there_is_no_bead_nothing_is_found(image, position):
    assert centre_bead(image, np.array(position), 12.0) is None
