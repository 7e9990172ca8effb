"""A painted mask as polygons: what a method takes as a part of the field is text, and pixels would be too many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import approximate_polygon, find_contours, points_in_poly

from napari_tiltalign.geometry import FloatArray

TOLERANCE = 0.003
"""Outlines are followed to this part of the longer side of the image."""

SMALLEST = 1e-4
"""Parts and holes smaller than this part of the image are slips of the brush and left out."""


def outlines(mask: NDArray[np.bool_]) -> list[FloatArray]:
    """Polygons around the parts of a mask.

    A hole is kept: it is joined to the outline around it by a cut that is run through twice, so that the even-odd rule
    finds it empty. An island in a hole is a part of its own.

    Parameters
    ----------
    mask
        Shape (rows, columns).

    Returns
    -------
    polygons
        Shape (k, 2) each: corners (y, x) in pixel indices, along the edges of pixels; no corner is repeated at the end.
    """
    padded = np.pad(mask, 1).astype(np.float32)
    rings = [ring - 1.0 for ring in find_contours(padded, 0.5)]  # type: ignore[no-untyped-call]
    rings = [ring for ring in rings if abs(_size(ring)) >= SMALLEST * mask.size]
    parts = [ring for ring in rings if _size(ring) > 0]
    holes: list[list[FloatArray]] = [[] for _ in parts]
    for hole in (ring for ring in rings if _size(ring) < 0):
        around = [i for i, part in enumerate(parts) if _holds(part, hole[0])]
        if around:
            holes[min(around, key=lambda i: _size(parts[i]))].append(hole)
    tolerance_px = TOLERANCE * max(mask.shape)
    return [
        _cut(_simple(part, tolerance_px), [_simple(hole, tolerance_px) for hole in inside])
        for part, inside in zip(parts, holes, strict=True)
    ]


def _size(ring: FloatArray) -> float:
    """Pixels inside of a closed ring of `find_contours`; negative for a hole."""
    (y0, x0), (y1, x1) = ring[:-1].T, ring[1:].T
    return float(np.sum(y1 * x0 - y0 * x1)) / 2.0


def _holds(ring: FloatArray, point: FloatArray) -> bool:
    return bool(points_in_poly(point[None], ring)[0])  # type: ignore[no-untyped-call]


def _simple(ring: FloatArray, tolerance_px: float) -> FloatArray:
    """Corners of a closed ring, without those that hardly matter; the last one is not the first again."""
    corners: FloatArray = approximate_polygon(ring, tolerance_px)[:-1]  # type: ignore[no-untyped-call]
    return corners if len(corners) >= 3 else ring[:-1]


def _cut(outline: FloatArray, holes: list[FloatArray]) -> FloatArray:
    """One polygon of an outline and its holes."""
    for hole in holes:
        apart = np.linalg.norm(outline[:, None] - hole[None], axis=2)
        i, j = np.unravel_index(int(apart.argmin()), apart.shape)
        outline = np.concatenate([outline[: i + 1], hole[j:], hole[: j + 1], outline[i:]])
    return outline
