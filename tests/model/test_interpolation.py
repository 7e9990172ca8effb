"""Images without a geometry of their own get one from their neighbours in tilt."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.model.interpolation import interpolate_geometry

NOMINAL = np.array([0.0, 3.0, -3.0, 6.0, -6.0])


def smooth() -> ViewGeometry:
    """Everything runs linearly with the nominal tilt."""
    return ViewGeometry(
        0.01 * NOMINAL, NOMINAL * 1.001 + 2, 85 + 0.1 * NOMINAL, np.outer(NOMINAL, [5.0, -7.0]), 1 + 1e-4 * NOMINAL
    )


def test_linear_geometry_is_restored_between_known_images() -> None:
    known = np.array([False, True, False, True, True])
    wrong = ViewGeometry.nominal(np.full(5, 50.0), 0.0)
    mixed = ViewGeometry(
        *(np.where(known[:, None] if a.ndim == 2 else known, a, b) for a, b in (
            (getattr(smooth(), n), getattr(wrong, n))
            for n in ("x_tilt_deg", "y_tilt_deg", "z_rot_deg", "shift_yx_angst", "magnification")
        ))
    )  # fmt: skip
    filled = interpolate_geometry(mixed, known, NOMINAL)
    points = np.array([[100.0, 500.0, -300.0], [0.0, 0.0, 0.0]])
    assert filled.project(points) == pytest.approx(smooth().project(points), abs=1e-9)


def test_known_images_are_not_touched_and_ends_are_continued() -> None:
    known = np.array([True, True, True, False, False])
    filled = interpolate_geometry(smooth(), known, NOMINAL)
    for name in ("x_tilt_deg", "y_tilt_deg", "z_rot_deg", "shift_yx_angst", "magnification"):
        assert getattr(filled, name)[known].tolist() == getattr(smooth(), name)[known].tolist()
    assert filled.z_rot_deg[3] == pytest.approx(smooth().z_rot_deg[1])
    assert filled.y_tilt_deg[3] - 6.0 == pytest.approx(smooth().y_tilt_deg[1] - 3.0)


def test_axis_is_interpolated_across_the_seam() -> None:
    geometry = ViewGeometry.nominal(NOMINAL, [0.0, 179.5, -179.5, 179.5, -179.5])
    filled = interpolate_geometry(geometry, [False, True, True, True, True], NOMINAL)
    assert abs(filled.z_rot_deg[0]) == pytest.approx(180.0)


def test_images_of_equal_tilt_count_with_their_mean() -> None:
    geometry = ViewGeometry.nominal([0.0, 0.0, 0.0], 0.0).replace(shift_yx_angst=[[2.0, 0], [4.0, 0], [99.0, 0]])
    assert interpolate_geometry(geometry, [True, True, False], np.zeros(3)).shift_yx_angst[2].tolist() == [3.0, 0.0]


def test_nothing_to_do_and_nothing_to_go_by() -> None:
    assert interpolate_geometry(smooth(), np.ones(5, bool), NOMINAL).y_tilt_deg.tolist() == smooth().y_tilt_deg.tolist()
    with pytest.raises(ValueError, match="no image has a known geometry"):
        interpolate_geometry(smooth(), np.zeros(5, bool), NOMINAL)
