"""Alignments: one entry for each image, and what is derived from them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.model import Alignment, Tracks, Uncertainty


def alignment(**changes: Any) -> Alignment:
    geometry = ViewGeometry.nominal([3.0, 0.0, -3.0], [84.0, 85.0, 89.0])
    fields = {
        "series_name": "TS", "tilt_ids": ("a", "b", "c"), "geometry": geometry, "pixel_size_angst": 1.35,
        "image_shape_yx": (10, 12), "included": [True, True, False], "reasons": ("", "", "dark"),
    }  # fmt: skip
    return Alignment(**{**fields, **changes})


def uncertainty(n: int = 3) -> Uncertainty:
    column = np.arange(float(n))
    return Uncertainty(column, column + 10, np.column_stack([column, column]), column * math.nan)


def test_defaults_are_filled_in() -> None:
    plain = alignment(reasons=())
    assert plain.reasons == ("", "", "")
    assert plain.included.dtype == bool
    assert len(plain) == 3
    assert plain.star_geometry is plain.geometry


def test_star_geometry_is_the_one_without_magnification() -> None:
    unit = ViewGeometry.nominal([1.0, 2.0, 3.0], 0.0)
    assert alignment(unit_magnification_geometry=unit).star_geometry is unit


@pytest.mark.parametrize(
    ("axis_deg", "included", "expected"),
    [
        ([84.0, 85.0, 89.0], [True, True, False], 84.5),
        ([84.0, 85.0, 89.0], [True, True, True], 85.0),
        ([179.0, -179.0, -178.0], [True, True, True], 181.0),
        ([1.0, 2.0, 3.0], [False, False, False], math.nan),
    ],
)
def test_axis_is_the_median_of_what_took_part(axis_deg: list[float], included: list[bool], expected: float) -> None:
    item = alignment(geometry=ViewGeometry.nominal(np.zeros(3), axis_deg), included=included)
    assert item.axis_deg == pytest.approx(expected, nan_ok=True)


def test_taking_images_by_identity_takes_everything_that_is_theirs() -> None:
    tracks = Tracks.from_observations(("a", "b", "c"), np.zeros((1, 3)), np.array([0]), np.array([2]), np.zeros((1, 2)))
    unit = ViewGeometry.nominal([1.0, 2.0, 3.0], 0.0)
    full = alignment(uncertainty=uncertainty(), unit_magnification_geometry=unit, tracks=tracks)
    part = full.take(("c", "a"))
    assert part.tilt_ids == ("c", "a")
    assert part.geometry.z_rot_deg.tolist() == [89.0, 84.0]
    assert part.star_geometry.y_tilt_deg.tolist() == [3.0, 1.0]
    assert part.included.tolist() == [False, True]
    assert part.reasons == ("dark", "")
    assert part.uncertainty is not None
    assert part.uncertainty.z_rot_deg.tolist() == [12.0, 10.0]
    assert part.tracks is None
    with pytest.raises(KeyError, match="x"):
        full.take(("a", "x"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tilt_ids": ("a", "a", "b")}, "tilt_ids must be unique"),
        ({"tilt_ids": ("a", "b")}, "one entry for each of 2 images"),
        ({"included": [True]}, "one entry for each of 3 images"),
        ({"reasons": ("",)}, "one entry for each of 3 images"),
        ({"unit_magnification_geometry": ViewGeometry.nominal([0.0], 0.0)}, "must have 3 images"),
        ({"pixel_size_angst": 0.0}, "pixel_size_angst must be positive"),
        ({"pixel_size_angst": math.nan}, "pixel_size_angst must be positive"),
        (
            {"tracks": Tracks.from_observations(
                ("a", "b"), np.zeros((0, 3)), np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2)))},
            "tracks belong to other images",
        ),
    ],
)  # fmt: skip
def test_impossible_alignment_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        alignment(**changes)


def test_uncertainty_has_one_shape() -> None:
    assert len(uncertainty().y_tilt_deg) == 3
    with pytest.raises(ValueError, match=r"shift_yx_angst has shape \(3,\) for 3 images"):
        Uncertainty(np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3))


def test_alignment_cannot_be_changed_in_place() -> None:
    item = alignment()
    with pytest.raises(dataclasses.FrozenInstanceError):
        item.series_name = "x"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        item.included[0] = False
