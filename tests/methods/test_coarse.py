"""Shifts between neighbouring views by correlating the images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_tiltalign.methods.coarse import cosine_stretch, neighbour_shifts

SHAPE_YX = (300, 360)


def blobs(seed, n=60):
    """Positions (n, 2) on a flat specimen, larger than the field, from its centre."""
    return np.random.default_rng(seed).uniform(-300, 300, (n, 2))


def flat_specimen(positions, tilt_deg, axis_deg, shift_yx):
    """Image of blobs on a flat specimen as a tilted view sees them."""
    seen = positions @ cosine_stretch(0.0, tilt_deg, axis_deg).T + shift_yx + np.array(SHAPE_YX) // 2
    image = np.zeros(SHAPE_YX, np.float32)
    inside = ((seen >= 0) & (seen < np.array(SHAPE_YX) - 1)).all(axis=1)
    rows, columns = np.floor(seen[inside]).astype(int).T
    np.add.at(image, (rows, columns), -1.0)
    return ndimage.gaussian_filter(image, 4.0)


@pytest.mark.parametrize("axis_deg", [0.0, -4.3, 85.0, 130.0])
@pytest.mark.parametrize("tilts_deg", [(0.0, 3.0), (-57.0, -60.0), (30.0, 24.0)], ids=str)
def test_known_shift_between_stretched_images(axis_deg, tilts_deg):
    shifts = np.array([[8.0, -12.0], [-20.0, 25.0]])
    images = [flat_specimen(blobs(1), tilt, axis_deg, shift) for tilt, shift in zip(tilts_deg, shifts, strict=True)]
    found = neighbour_shifts(images, np.array(tilts_deg), axis_deg)
    hint = found[frozenset((0, 1))]
    assert hint.trusted
    assert abs(tilts_deg[hint.outer]) > abs(tilts_deg[hint.inner])
    np.testing.assert_allclose(hint.outer_from(shifts[hint.inner]), shifts[hint.outer], atol=1.5)
    np.testing.assert_allclose(hint.inner_from(shifts[hint.outer]), shifts[hint.inner], atol=2.5)


def test_inner_from_undoes_outer_from():
    images = [flat_specimen(blobs(2), tilt, 10.0, [0.0, 0.0]) for tilt in (40.0, 50.0)]
    hint = neighbour_shifts(images, np.array([40.0, 50.0]), 10.0)[frozenset((0, 1))]
    np.testing.assert_allclose(hint.inner_from(hint.outer_from(np.array([3.0, -7.0]))), [3.0, -7.0])


@pytest.mark.parametrize("seed", range(4))
def test_noise_has_nothing_in_common(seed):
    rng = np.random.default_rng(seed)
    images = [rng.normal(size=SHAPE_YX).astype(np.float32) for _ in range(3)]
    found = neighbour_shifts(images, np.array([0.0, 3.0, 6.0]), 0.0)
    assert not any(hint.trusted for hint in found.values())


def test_pairs_are_next_and_next_but_one_in_tilt_whatever_the_order():
    tilts = np.array([0.0, 3.0, -3.0, 6.0, -6.0])
    images = [flat_specimen(blobs(4), tilt, 0.0, [0.0, 0.0]) for tilt in tilts]
    images[2] = None
    found = neighbour_shifts(images, tilts, 0.0)
    assert set(found) == {frozenset(pair) for pair in [(4, 0), (0, 1), (1, 3), (4, 1), (0, 3)]}


def test_row_48_jump_of_nearly_half_the_field():
    shifts = np.array([[0.0, 0.0], [-130.0, 60.0]])
    images = [flat_specimen(blobs(5, 120), tilt, 0.0, shift) for tilt, shift in zip((0.0, 3.0), shifts, strict=True)]
    hint = neighbour_shifts(images, np.array([0.0, 3.0]), 0.0)[frozenset((0, 1))]
    np.testing.assert_allclose(hint.offset_yx, shifts[1], atol=2.0)


def test_row_21_equal_angles_do_no_harm():
    images = [flat_specimen(blobs(6), 10.0, 0.0, shift) for shift in ([0.0, 0.0], [5.0, 9.0])]
    hint = neighbour_shifts(images, np.array([10.0, 10.0]), 0.0)[frozenset((0, 1))]
    np.testing.assert_allclose(hint.outer_from(np.zeros(2)), [5.0, 9.0] if hint.outer == 1 else [-5.0, -9.0], atol=0.5)


def test_cosine_stretch_shrinks_across_the_axis_only():
    stretch = cosine_stretch(0.0, 60.0, 30.0)
    along = np.array([np.cos(np.deg2rad(30)), -np.sin(np.deg2rad(30))])  # (y, x) of the axis
    across = np.array([np.sin(np.deg2rad(30)), np.cos(np.deg2rad(30))])
    np.testing.assert_allclose(stretch @ along, along)
    np.testing.assert_allclose(stretch @ across, across / 2)
