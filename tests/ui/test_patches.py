"""Patches are cut where the bead is expected."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.ui.edits import remove_bead
from napari_tiltalign.ui.patches import cut_patch, places_of


def test_places_come_in_order_of_tilt_with_gaps(series, truth):
    alignment = truth.replace(tracks=remove_bead(truth.tracks, 2, "view_04"))
    places = places_of(series, alignment, 2)
    assert [place.tilt_deg for place in places] == sorted(place.tilt_deg for place in places)
    [gap] = [place for place in places if place.measured_yx_px is None]
    assert gap.tilt_id == "view_04"
    assert np.isnan(gap.residual_px)
    for place in places:
        if place is not gap:
            np.testing.assert_allclose(place.measured_yx_px, place.predicted_yx_px, atol=1e-9)


def test_an_excluded_view_says_so(series, truth):
    included = truth.included.copy()
    included[3] = False
    places = places_of(series, truth.replace(included=included), 1)
    assert [place.tilt_id for place in places if not place.included] == ["view_03"]


def test_a_patch_has_its_centre_in_the_middle():
    image = np.zeros((20, 30), np.float32)
    image[7, 11] = 1.0
    patch, corner = cut_patch(image, (7.3, 10.8), 4)
    assert patch.shape == (9, 9)
    assert corner == (3, 7)
    assert patch[4, 4] == patch.max() == 255


@pytest.mark.parametrize("centre", [(0.0, 0.0), (19.0, 29.0), (-3.0, 10.0), (500.0, 500.0)])
def test_patches_at_the_edge_are_black_outside(centre):
    patch, corner = cut_patch(np.random.default_rng(0).random((20, 30), dtype=np.float32) + 1.0, centre, 6)
    rows, columns = np.indices(patch.shape) + np.array(corner)[:, None, None]
    outside = (rows < 0) | (rows >= 20) | (columns < 0) | (columns >= 30)
    assert outside.any()
    assert not patch[outside].any()
    assert patch[~outside].any() == (~outside).any()


def test_an_unreadable_image_gives_a_black_patch():
    assert not cut_patch(np.full((20, 30), np.nan, np.float32), (10.0, 10.0), 3)[0].any()
