"""A part of the field, drawn by a person: rectangles and polygons in percent of an image.

As text, so that a command line, a form and a record in JSON can hold it: shapes are separated by semicolons. A
rectangle is ``x0,y0,x1,y1``, a polygon is its corners ``x,y x,y x,y ...``. x runs along the columns and y along the
rows, from 0 to 100 percent of the image in the view with the lowest tilt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry, frozen_array

_HOW = "an area is x0,y0,x1,y1 or x,y x,y x,y ..., in percent of the image, several separated by ;"


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """Parts of the field; without any shape all of it.

    Attributes
    ----------
    polygons_xy_percent
        Shape (k, 2) each: corners.
    """

    polygons_xy_percent: tuple[FloatArray, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "polygons_xy_percent", tuple(frozen_array(p) for p in self.polygons_xy_percent))

    @classmethod
    def of_text(cls, text: str) -> Area:
        """Read an area; empty text is all of the field.

        Raises
        ------
        ValueError
            If the text is no area; it says what one looks like.
        """
        return cls(tuple(_polygon(shape) for shape in text.split(";") if shape.strip()))

    def to_text(self) -> str:
        """Return the area as text, to a tenth of a percent."""
        return "; ".join(
            " ".join(f"{x:.1f},{y:.1f}" for x, y in polygon.tolist()) for polygon in self.polygons_xy_percent
        )

    def holds(self, places_xy_percent: FloatArray) -> NDArray[np.bool_]:
        """Which places, shape (p, 2), lie in one of the shapes; all if there is none."""
        if not self.polygons_xy_percent:
            return np.ones(len(places_xy_percent), bool)
        held: NDArray[np.bool_] = np.any([_inside(p, places_xy_percent) for p in self.polygons_xy_percent], axis=0)
        return held

    def holds_points(
        self, points_zyx_angst: FloatArray, geometry: ViewGeometry, lowest: int, field_yx_angst: FloatArray
    ) -> NDArray[np.bool_]:
        """Which points of the specimen, shape (p, 3), the view `lowest` sees within the area."""
        seen = geometry.take([lowest]).project(points_zyx_angst)[0]
        return self.holds(100.0 * (seen / field_yx_angst + 0.5)[:, ::-1])

    def narrowest(self) -> float:
        """Smaller side of the box around the largest shape, parts of the field; 1 without any shape."""
        sizes = [np.ptp(polygon, axis=0).clip(0.0, 100.0) / 100.0 for polygon in self.polygons_xy_percent]
        return float(max((size.min() for size in sizes), default=1.0))


def _polygon(text: str) -> FloatArray:
    try:
        corners = [[float(number) for number in corner.split(",")] for corner in text.split()]
    except ValueError:
        raise ValueError(f"{_HOW}; not {text.strip()!r}") from None
    if len(corners) == 1 and len(corners[0]) == 4:
        x0, y0, x1, y1 = corners[0]
        corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    if len(corners) < 3 or any(len(corner) != 2 for corner in corners):
        raise ValueError(f"{_HOW}; not {text.strip()!r}")
    polygon = np.array(corners)
    if not all(math.isfinite(number) for number in polygon.ravel().tolist()) or _size(polygon) <= 0:
        raise ValueError(f"{_HOW}; {text.strip()!r} holds nothing")
    if (polygon.max(axis=0) <= 0).any() or (polygon.min(axis=0) >= 100).any():
        raise ValueError(f"{_HOW}; {text.strip()!r} lies outside of the image")
    return polygon


def _size(polygon: FloatArray) -> float:
    """Area of a polygon by the trapezoids under its sides."""
    after = np.roll(polygon, -1, axis=0)
    return abs(float(np.sum(polygon[:, 0] * after[:, 1] - after[:, 0] * polygon[:, 1]))) / 2.0


def _inside(polygon: FloatArray, places: FloatArray) -> NDArray[np.bool_]:
    """Even-odd rule: a ray from an inner place crosses the sides an odd number of times."""
    x, y = places.T
    inside = np.zeros(len(places), bool)
    for (x0, y0), (x1, y1) in zip(polygon.tolist(), np.roll(polygon, -1, axis=0).tolist(), strict=True):
        if y0 == y1:
            continue
        crosses = ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        inside ^= crosses
    return inside
