"""Match projected points to detections when the shift between them is unknown.

The evidence for a shift is a Poisson test: with L meetings expected by chance, s or more are seen with probability
P(L, s); a shift far from the expected one has had more competitors, which costs log10(1 + distance^2 / radius^2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.optimize import linear_sum_assignment
from scipy.special import gammainc

from napari_tiltalign.geometry import FloatArray

GATE = 9.0
"""Squared Mahalanobis distance beyond which a point and a detection are not matched (3 sigma)."""

_MOST_HYPOTHESES = 300


def best_shift(
    predicted: FloatArray,
    covariance: FloatArray,
    detections: FloatArray,
    expected: FloatArray,
    field_yx: tuple[float, float],
    radius: float,
) -> FloatArray | None:
    """The shift that chance explains least.

    Parameters
    ----------
    predicted, covariance
        Points as the view would see them without a shift, shape (p, 2), with covariances (p, 2, 2).
    detections
        Shape (q, 2).
    expected
        Shape (s, 2): where the shift is expected.
    field_yx
        Size of the image, pixels.
    radius
        Matching radius, pixels.

    Returns
    -------
    FloatArray or None
        Shape (2,), or None if no shift brings a point to a detection.
    """
    candidates = (detections[None] - predicted[:, None]).reshape(-1, 2)
    candidates = candidates[(np.abs(candidates) < 1.2 * max(field_yx)).all(axis=1)]
    if not len(candidates):
        return None
    distance2 = ((candidates[:, None] - expected[None]) ** 2).sum(axis=2).min(axis=1)
    if len(candidates) > _MOST_HYPOTHESES:
        kept = _most_popular(candidates, np.sqrt(distance2), 3.0 * radius)
        candidates, distance2 = candidates[kept], distance2[kept]
    spread = covariance + radius**2 * np.eye(2)
    count = _soft_matches(predicted, np.linalg.inv(spread), detections, candidates)
    area = 2.0 * np.pi * np.sqrt(np.linalg.det(2.0 * spread)) / (field_yx[0] * field_yx[1])
    seen = predicted[None] + candidates[:, None]
    inside = (np.abs(seen) < np.array(field_yx) / 2 + 5.0).all(axis=2)
    by_chance = len(detections) * (inside @ area)
    chance = gammainc(np.maximum(count, 0.5), np.maximum(by_chance, 1e-9))
    score = np.log10(np.maximum(chance, 1e-300)) + np.log10(1.0 + distance2 / radius**2)
    best: FloatArray = candidates[np.argmin(score)]
    return best


def _most_popular(candidates: FloatArray, distance: FloatArray, cell: float) -> NDArray[np.intp]:
    """Indices of candidates that lie where many others do, or near the expected shift."""
    key = np.floor(candidates / cell).astype(int)
    key -= key.min(axis=0) - 1
    histogram = np.zeros(key.max(axis=0) + 2)
    np.add.at(histogram, tuple(key.T), 1.0)
    popularity = uniform_filter(histogram, 3, mode="constant")[tuple(key.T)] * 9.0
    return np.argsort(-popularity + 1e-3 * distance / cell, kind="stable")[:_MOST_HYPOTHESES]


def _soft_matches(
    predicted: FloatArray, precision: FloatArray, detections: FloatArray, shifts: FloatArray
) -> FloatArray:
    """Soft number of one-to-one meetings of points and detections under every shift, shape (s,).

    The Mahalanobis distance is a quadratic polynomial of the shift, so all pairs and shifts are one matrix product.
    """
    apart = detections[None] - predicted[:, None]
    pulled = np.einsum("pij,pqj->pqi", precision, apart)
    constant = np.einsum("pqi,pqi->pq", pulled, apart)
    shape = constant.shape
    terms = np.stack(
        [
            constant, -2.0 * pulled[..., 0], -2.0 * pulled[..., 1],
            *(np.broadcast_to(precision[:, i, j, None] * f, shape) for i, j, f in ((0, 0, 1), (0, 1, 2), (1, 1, 1))),
        ],
        axis=-1,
    ).reshape(-1, 6)  # fmt: skip
    y, x = shifts.T
    powers = np.stack([np.ones_like(y), y, x, y * y, y * x, x * x])
    count = np.empty(len(shifts))
    block = max(1, int(4e6 / max(len(terms), 1)))
    for start in range(0, len(shifts), block):
        half = 0.5 * (terms @ powers[:, start : start + block])
        meeting = np.where(half < GATE, np.exp(-np.minimum(half, GATE)), 0.0).reshape(*shape, -1)
        count[start : start + block] = np.minimum(meeting.max(axis=1).sum(axis=0), meeting.max(axis=0).sum(axis=0))
    return count


def refined_match(
    predicted: FloatArray, covariance: FloatArray, detections: FloatArray, shift: FloatArray, radius: float
) -> tuple[list[tuple[int, int]], FloatArray]:
    """One-to-one links of points and detections, and the shift that suits them best."""
    precision = np.linalg.inv(covariance + radius**2 * np.eye(2))
    links: list[tuple[int, int]] = []
    for _ in range(3):
        links = one_to_one(predicted + shift, precision, detections)
        if not links:
            break
        point, found = np.array(links).T
        apart = detections[found] - predicted[point]
        shift = np.linalg.solve(precision[point].sum(axis=0), np.einsum("kij,kj->i", precision[point], apart))
    return one_to_one(predicted + shift, precision, detections), shift


def one_to_one(predicted: FloatArray, precision: FloatArray, detections: FloatArray) -> list[tuple[int, int]]:
    """Pairs (point, detection) of least total Mahalanobis distance, within the gate."""
    apart = detections[None] - predicted[:, None]
    distance2 = np.einsum("pqi,pij,pqj->pq", apart, precision, apart)
    rows, columns = linear_sum_assignment(np.minimum(distance2, GATE))
    near = distance2[rows, columns] < GATE
    return list(zip(rows[near].tolist(), columns[near].tolist(), strict=True))
