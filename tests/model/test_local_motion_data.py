"""Local motion as data: displacements by hand, and what makes no sense is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.model import Alignment, LocalMotion
from napari_tiltalign.model.local_motion import matern_3_2, matern_5_2


def motion(n: int = 3, p: int = 2, **changes: Any) -> LocalMotion:
    random = np.random.default_rng(0)
    fields = {
        "reference_tilt_id": "a", "support_zyx_angst": [[5.0, 0.0, 0.0], [-5.0, 300.0, 400.0]][:p],
        "coefficients_yx_angst": random.normal(size=(n, p, 2)), "common_yx": random.normal(size=(n, 2, 4)),
        "length_angst": 500.0, "time_steps": 4.0, "amplitude_angst": 3.0,
        "left_out_rms_px": 0.3, "rigid_left_out_rms_px": 0.5,
    }  # fmt: skip
    return LocalMotion(**{**fields, **changes})


def test_displacement_is_the_common_part_and_the_beads() -> None:
    item = motion()
    far = np.array([[10.0, 1e7, 0.0]])
    expected = item.common_yx[1] @ [1.0, 10.0, 1e7, 0.0]
    np.testing.assert_allclose(item.displacement_yx_angst(far, 1), [expected], rtol=1e-12)
    # at the first bead the second one is 500 Angstrom away, at whatever height
    near = np.array([[77.0, 0.0, 0.0]])
    correlation = (1 + np.sqrt(3)) * np.exp(-np.sqrt(3))
    first, second = item.coefficients_yx_angst[1]
    expected = item.common_yx[1] @ [1.0, 77.0, 0.0, 0.0] + first + correlation * second
    np.testing.assert_allclose(item.displacement_yx_angst(near, 1), [expected], rtol=1e-12)


def test_many_points_at_once_are_as_one_by_one() -> None:
    points = np.random.default_rng(1).normal(0, 500, (4, 3))
    together = motion().displacement_yx_angst(points, 2)
    assert together.shape == (4, 2)
    alone = np.vstack([motion().displacement_yx_angst(point[None], 2) for point in points])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("matern", [matern_3_2, matern_5_2])
def test_correlation_falls_smoothly_from_one(matern: Any) -> None:
    distance = np.linspace(0, 5, 200)
    values = matern(distance)
    assert values[0] == 1.0
    assert (np.diff(values) < 0).all()
    assert values[1] > 0.999  # no kink at 0
    assert values[-1] < 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"support_zyx_angst": np.zeros((2, 2))}, "support_zyx_angst"),
        ({"coefficients_yx_angst": np.zeros((3, 4, 2))}, "3 images and 2 beads"),
        ({"common_yx": np.zeros((2, 2, 4))}, "common_yx"),
        ({"length_angst": 0.0}, "positive"),
        ({"time_steps": np.nan}, "positive"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        motion(**changes)


def test_arrays_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        motion().common_yx[0] = 0.0


def test_alignment_takes_the_motion_of_its_images() -> None:
    geometry = ViewGeometry.nominal([3.0, 0.0, -3.0], 85.0)
    alignment = Alignment("TS", ("a", "b", "c"), geometry, 1.35, (10, 12), np.ones(3, bool), local_motion=motion())
    some = alignment.take(("c", "a")).local_motion
    assert some is not None
    np.testing.assert_array_equal(some.coefficients_yx_angst, motion().coefficients_yx_angst[[2, 0]])
    np.testing.assert_array_equal(some.common_yx, motion().common_yx[[2, 0]])
    with pytest.raises(ValueError, match="local_motion must have 3 images"):
        alignment.replace(local_motion=motion(n=2))
