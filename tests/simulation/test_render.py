"""Projected balls: right mass, right place."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.simulation.render import add_sharp_balls, add_soft_balls

CENTRES = [(20.0, 20.0), (20.3, 19.6), (17.5, 23.25)]
VOLUME = {add_sharp_balls: 4 / 3 * np.pi, add_soft_balls: 8 / 15 * np.pi}  # of a ball of radius 1


def drawn(add, centre, radius, density=1.0, shape=(40, 44)):
    thickness = np.zeros(shape, np.float32)
    add(thickness, np.array([centre]), np.array([radius]), np.array([density]))
    return thickness


@pytest.mark.parametrize(("add", "tolerance_px"), [(add_sharp_balls, 0.005), (add_soft_balls, 0.02)])
@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("radius", [4.0, 7.7, 12.0])
def test_a_ball_has_its_mass_and_its_place(add, tolerance_px, centre, radius):
    thickness = drawn(add, centre, radius, density=0.5)
    y, x = np.mgrid[: thickness.shape[0], : thickness.shape[1]]
    mass = thickness.sum()
    assert mass == pytest.approx(0.5 * VOLUME[add] * radius**3, rel=0.005)
    assert (thickness * y).sum() / mass == pytest.approx(centre[0], abs=tolerance_px)
    assert (thickness * x).sum() / mass == pytest.approx(centre[1], abs=tolerance_px)


@pytest.mark.parametrize("add", VOLUME)
@pytest.mark.parametrize("centre", [(-3.0, 10.0), (39.0, 43.9), (-100.0, 5.0), (20.0, 500.0)])
def test_a_ball_at_or_over_the_edge_is_cut(add, centre):
    small = drawn(add, centre, 6.0)
    large = drawn(add, np.array(centre) + 120, 6.0, shape=(280, 700))[120:160, 120:164]
    np.testing.assert_array_equal(small, large)


def test_balls_add_up():
    thickness = drawn(add_sharp_balls, CENTRES[0], 5.0)
    both = drawn(add_sharp_balls, CENTRES[2], 3.0)
    expected = thickness + both
    add_sharp_balls(thickness, np.array([CENTRES[2]]), np.array([3.0]), np.array([1.0]))
    np.testing.assert_allclose(thickness, expected, rtol=1e-6)
