"""Shifts between predicted points and detections, found among clutter."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.methods.matching import GATE, best_shift, one_to_one, refined_match

FIELD = (500.0, 400.0)
RADIUS = 1.2


def scene(seed, *, n_points=12, share_found=0.8, n_false=10, shift=(35.0, -60.0), sd=0.3, height_sd=0.0):
    """Points (p, 2), their covariances, and detections: some of them shifted, and false ones."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.4, 0.4, (n_points, 2)) * FIELD
    covariance = np.tile(np.diag([0.01, 0.01 + height_sd**2]), (n_points, 1, 1))
    found = np.flatnonzero(rng.random(n_points) < share_found)
    seen = points[found] + np.array(shift) + rng.normal(0, sd, (len(found), 2))
    seen[:, 1] += rng.normal(0, 1, len(found)) * height_sd
    false = rng.uniform(-0.5, 0.5, (n_false, 2)) * FIELD
    order = rng.permutation(len(seen) + n_false)
    detections = np.concatenate([seen, false])[order]
    links = {int(point): int(np.flatnonzero(order == k)[0]) for k, point in enumerate(found)}
    return points, covariance, detections, links


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_points": 30, "n_false": 60, "share_found": 0.6},
        {"n_points": 5, "share_found": 1.0, "n_false": 4},
        {"height_sd": 3.0, "n_points": 20},
        {"shift": (150.0, 120.0)},
    ],
    ids=["clutter", "crowd", "few", "unknown heights", "row_48 far"],
)
def test_a_planted_shift_is_found(seed, changes):
    points, covariance, detections, _ = scene(seed, **changes)
    shift = best_shift(points, covariance, detections, np.zeros((1, 2)), FIELD, RADIUS)
    _, refined = refined_match(points, covariance, detections, shift, RADIUS)
    assert np.linalg.norm(refined - np.array(changes.get("shift", (35.0, -60.0)))) < 1.0


@pytest.mark.parametrize("seed", range(5))
def test_links_are_the_true_ones(seed):
    points, covariance, detections, links = scene(seed)
    found, shift = refined_match(points, covariance, detections, np.array([35.5, -60.5]), RADIUS)
    assert dict(found).items() >= links.items()
    assert len(found) <= len(links) + 1  # a false detection may lie where a missed point would be
    np.testing.assert_allclose(shift, [35.0, -60.0], atol=0.3)


def test_of_two_equal_shifts_the_expected_one_wins():
    """Two points 40 px apart meet two detections equally well one step aside, with one of them."""
    points = np.array([[0.0, 0.0], [0.0, 40.0], [0.0, 80.0]])
    detections = np.array([[0.0, 0.0], [0.0, 40.0], [0.0, 80.0], [0.0, 120.0]])
    covariance = np.tile(0.01 * np.eye(2), (3, 1, 1))
    for expected in (0.0, 40.0):
        shift = best_shift(points, covariance, detections, np.array([[0.0, expected]]), FIELD, RADIUS)
        np.testing.assert_allclose(shift, [0.0, expected], atol=1e-9)


def test_one_of_several_hints_is_enough():
    points, covariance, detections, _ = scene(0, n_points=3, share_found=1.0, n_false=12, shift=(150.0, 120.0))
    hints = np.array([[0.0, 0.0], [149.0, 121.0]])
    shift = best_shift(points, covariance, detections, hints, FIELD, RADIUS)
    assert np.linalg.norm(shift - [150.0, 120.0]) < 1.5


@pytest.mark.parametrize("detections", [np.zeros((0, 2)), np.full((1, 2), 5000.0)], ids=["none", "out of reach"])
def test_no_shift_without_detections(detections):
    points, covariance, _, _ = scene(0)
    assert best_shift(points, covariance, detections, np.zeros((1, 2)), FIELD, RADIUS) is None


@pytest.mark.parametrize("seed", range(3))
def test_row_51_crowds_of_false_detections_hide_no_shift(seed):
    points, covariance, detections, _ = scene(seed, n_points=40, n_false=350, share_found=0.9)
    shift = best_shift(points, covariance, detections, np.zeros((1, 2)), FIELD, RADIUS)
    assert np.linalg.norm(shift - [35.0, -60.0]) < 1.5


def test_one_to_one_uses_nothing_twice_and_prefers_the_nearest():
    predicted = np.array([[0.0, 0.0], [0.0, 1.0], [50.0, 50.0]])
    detections = np.array([[0.0, 0.9], [0.0, 0.1], [80.0, 80.0]])
    precision = np.tile(np.eye(2), (3, 1, 1))
    assert sorted(one_to_one(predicted, precision, detections)) == [(0, 1), (1, 0)]


def test_one_to_one_respects_the_gate_along_every_direction():
    predicted = np.zeros((1, 2))
    precision = np.linalg.inv(np.diag([1.0, 25.0]))[None]
    limit = np.sqrt(GATE)
    assert one_to_one(predicted, precision, np.array([[0.0, 5 * limit - 0.01]]))
    assert not one_to_one(predicted, precision, np.array([[0.0, 5 * limit + 0.01]]))
    assert not one_to_one(predicted, precision, np.array([[limit + 0.01, 0.0]]))


def test_refining_without_a_match_keeps_the_shift():
    links, shift = refined_match(
        np.zeros((1, 2)), np.zeros((1, 2, 2)), np.array([[100.0, 100.0]]), np.array([1.0, 2.0]), RADIUS
    )
    assert links == []
    np.testing.assert_array_equal(shift, [1.0, 2.0])
