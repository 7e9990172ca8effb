"""The projection model: its published vector, its inverse, and the motions no image can see."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_tiltalign import geometry
from napari_tiltalign.geometry import (
    RigidMotion,
    ViewGeometry,
    euler_angles_deg,
    rotation_x,
    rotation_y,
    rotation_z,
    wrap_deg,
)

steady = settings(max_examples=50, deadline=None, derandomize=True)

angles = st.floats(-180, 180)
tilts = st.floats(-90, 90)
lengths = st.floats(-1e4, 1e4)
triples = st.tuples(lengths, lengths, lengths)


def rotation(x_deg: float, y_deg: float, z_deg: float) -> NDArray[np.float64]:
    return rotation_z(z_deg) @ rotation_y(y_deg) @ rotation_x(x_deg)


motions = st.builds(
    lambda x, y, z, shift, scale: RigidMotion(rotation(x, y, z), np.array(shift), scale),
    angles, tilts, angles, triples, st.floats(0.5, 2.0),
)  # fmt: skip


@st.composite
def views(draw: st.DrawFn, n: int = 3) -> ViewGeometry:
    def column(values: st.SearchStrategy[float]) -> list[float]:
        return draw(st.lists(values, min_size=n, max_size=n))

    shift = np.transpose([column(lengths), column(lengths)])
    return ViewGeometry(column(angles), column(tilts), column(angles), shift, column(st.floats(0.5, 2.0)))


points = st.lists(triples, min_size=1, max_size=5).map(np.array)
CLOSE = {"abs": 1e-3, "rel": 0}  # Angstrom; coordinates reach 1e5


def test_examples_in_the_documentation() -> None:
    results = doctest.testmod(geometry, raise_on_error=True)
    assert results.attempted > 0


def test_matrix_that_relion_stored() -> None:
    """EMPIAR-10164: a row of a STAR file, W x H 3710 x 3838, tomogram 4000 x 4000 x 3000, 1.35 A per pixel."""
    view = ViewGeometry([0.0], [9.02], [85.267461], [[2.585551, -64.15332]], [1.0])
    image_centre_xy, volume_centre_xyz = np.array([1855, 1919]), np.array([2000, 2000, 1500])
    expected = np.array([[0.0814842, -0.9965907, 0.0129350, 3618.2894], [0.9842665, 0.0825045, 0.1562447, -446.9939]])
    assert view.rotations()[0, :2] == pytest.approx(expected[:, :3], abs=2e-7)
    assert view.rotations()[0, 2] == pytest.approx([-0.1567792, 0, 0.9876336], abs=2e-7)
    corners_xyz = np.array([[0, 0, 0], [3999, 0, 0], [0, 3999, 0], [0, 0, 2999], [2000, 2000, 1500], [17, 3003, 888]])
    centred_zyx = (corners_xyz - volume_centre_xyz)[:, ::-1] * 1.35
    seen_xy = view.project(centred_zyx)[0, :, ::-1] / 1.35 + image_centre_xy
    at_origin = seen_xy[0]
    assert at_origin == pytest.approx(expected[:, 3], abs=1e-3)
    assert seen_xy == pytest.approx(corners_xyz @ expected[:, :3].T + expected[:, 3], abs=1e-3)


def test_rotations_are_right_handed() -> None:
    x, y, z = np.eye(3)
    assert rotation_x(90.0) @ y == pytest.approx(z)
    assert rotation_y(90.0) @ z == pytest.approx(x)
    assert rotation_z(90.0) @ x == pytest.approx(y)
    assert rotation_z([0.0, 90.0]).shape == (2, 3, 3)


def test_axis_turns_counter_clockwise_with_rows_drawn_upwards() -> None:
    """At 85 degrees, a specimen point far along the tilt axis is seen at small x."""
    seen = ViewGeometry.nominal([40.0], 85.0).project([[0.0, 100.0, 0.0]])[0, 0]
    assert seen == pytest.approx([100 * np.cos(np.deg2rad(85)), -100 * np.sin(np.deg2rad(85))])


@steady
@given(angles, tilts, angles)
def test_euler_angles_give_the_rotation_back(x_deg: float, y_deg: float, z_deg: float) -> None:
    matrix = rotation(x_deg, y_deg, z_deg)
    assert rotation(*(float(a) for a in euler_angles_deg(matrix))) == pytest.approx(matrix, abs=3e-8)


@pytest.mark.parametrize("y_deg", [90.0, -90.0, 89.9999999])
def test_euler_angles_where_two_axes_coincide(y_deg: float) -> None:
    matrix = rotation(20.0, y_deg, 33.0)
    assert rotation(*(float(a) for a in euler_angles_deg(matrix))) == pytest.approx(matrix, abs=3e-8)


@steady
@given(views(), motions, points)
def test_composed_geometry_sees_moved_points(view: ViewGeometry, motion: RigidMotion, at: NDArray[np.float64]) -> None:
    assert view.compose(motion).project(at) == pytest.approx(view.project(motion.apply(at)), **CLOSE)


@steady
@given(views(), motions, points)
def test_inverse_motion_undoes_composition(view: ViewGeometry, motion: RigidMotion, at: NDArray[np.float64]) -> None:
    """The gauge: coordinates of the specimen may be chosen freely, images do not change."""
    moved_back = view.compose(motion).compose(motion.inverse())
    assert moved_back.project(at) == pytest.approx(view.project(at), **CLOSE)
    assert view.compose(motion).project(motion.inverse().apply(at)) == pytest.approx(view.project(at), **CLOSE)


@steady
@given(motions, motions, points)
def test_motions_form_a_group(first: RigidMotion, second: RigidMotion, at: NDArray[np.float64]) -> None:
    assert first.after(second).apply(at) == pytest.approx(first.apply(second.apply(at)), **CLOSE)
    assert first.inverse().apply(first.apply(at)) == pytest.approx(at, **CLOSE)
    assert first.after(first.inverse()).apply(at) == pytest.approx(at, **CLOSE)
    assert RigidMotion.identity().apply(at) == pytest.approx(at, abs=1e-9)


@steady
@given(views(), motions, motions, points)
def test_composition_is_associative(
    view: ViewGeometry, first: RigidMotion, second: RigidMotion, at: NDArray[np.float64]
) -> None:
    at_once, in_turn = view.compose(first.after(second)), view.compose(first).compose(second)
    assert at_once.project(at) == pytest.approx(in_turn.project(at), **CLOSE)


@steady
@given(views(), points)
def test_the_mirrored_hand_sees_the_mirrored_specimen(view: ViewGeometry, at: NDArray[np.float64]) -> None:
    mirrored = at * [-1, 1, 1]
    assert view.mirrored().project(mirrored) == pytest.approx(view.project(at), **CLOSE)
    assert view.mirrored().depth(mirrored) == pytest.approx(-view.depth(at), **CLOSE)
    assert view.mirrored().mirrored().project(at) == pytest.approx(view.project(at), abs=1e-9)


@steady
@given(views(), points, st.integers(0, 2))
def test_unprojected_points_are_seen_where_they_were(view: ViewGeometry, at: NDArray[np.float64], i: int) -> None:
    flat = view.replace(y_tilt_deg=view.y_tilt_deg * 0.8, x_tilt_deg=view.x_tilt_deg * 0.3)
    seen = flat.project(at)[i]
    for k, height in enumerate(at[:, 0]):
        assert flat.unproject(i, seen[k : k + 1], height)[0] == pytest.approx(at[k], abs=1e-2)


def test_unprojecting_along_the_specimen_is_refused() -> None:
    with pytest.raises(ValueError, match="edge-on"):
        ViewGeometry.nominal([90.0], 0.0).unproject(0, [[0.0, 0.0]])


def test_depth_is_the_third_row() -> None:
    view = ViewGeometry([5.0, 0.0], [30.0, 0.0], [85.0, 0.0], np.zeros((2, 2)), [1.1, 1.0])
    assert view.depth([[100.0, 20.0, 3.0]])[1] == pytest.approx([100.0])
    assert view.depth([[100.0, 20.0, 3.0]])[0] == pytest.approx([view.rotations()[0, 2] @ [3.0, 20.0, 100.0]])


@steady
@given(views(), points, st.floats(0.5, 2.0))
def test_rescaling_is_a_change_of_units(view: ViewGeometry, at: NDArray[np.float64], factor: float) -> None:
    assert view.rescaled_shifts(factor).project(factor * at) == pytest.approx(factor * view.project(at), **CLOSE)


@steady
@given(st.floats(-1e4, 1e4))
def test_wrapped_angles_are_the_same_direction(angle_deg: float) -> None:
    wrapped = float(wrap_deg(angle_deg))
    assert -180 <= wrapped < 180
    assert rotation_z(wrapped) == pytest.approx(rotation_z(angle_deg), abs=1e-9)


def test_taking_and_replacing_views() -> None:
    view = ViewGeometry.nominal([-3.0, 0.0, 3.0], [84.0, 85.0, 86.0])
    assert view.take([2, 0]).y_tilt_deg.tolist() == [3.0, -3.0]
    assert view.take(np.array([False, True, False])).z_rot_deg.tolist() == [85.0]
    assert view.replace(magnification=[1, 2, 3]).magnification.tolist() == [1.0, 2.0, 3.0]
    assert len(view) == 3


def test_geometry_cannot_be_changed_from_outside() -> None:
    tilt = np.zeros(2)
    view = ViewGeometry.nominal(tilt, 0.0)
    tilt[0] = 5.0
    assert view.y_tilt_deg.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="read-only"):
        view.y_tilt_deg[0] = 1.0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"z_rot_deg": [0.0]}, r"z_rot_deg has shape \(1,\), expected \(2,\)"),
        ({"shift_yx_angst": np.zeros(2)}, "shift_yx_angst has shape"),
        ({"x_tilt_deg": [0.0, np.nan]}, "x_tilt_deg holds values that are not finite"),
        ({"magnification": [1.0, 0.0]}, "magnification must be positive"),
    ],
)
def test_impossible_geometry_is_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ViewGeometry.nominal([0.0, 1.0], 0.0).replace(**changes)


@pytest.mark.parametrize(
    ("matrix", "shift", "scale", "problem"),
    [
        (2 * np.eye(3), np.zeros(3), 1.0, "orthogonal"),
        (np.eye(2), np.zeros(3), 1.0, "orthogonal"),
        (np.diag([1.0, 1.0, -1.0]), np.zeros(3), 1.0, "other hand"),
        (np.eye(3), np.zeros(2), 1.0, r"shape \(3,\)"),
        (np.eye(3), np.zeros(3), 0.0, "positive"),
    ],
)
def test_impossible_motion_is_refused(
    matrix: NDArray[np.float64], shift: NDArray[np.float64], scale: float, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        RigidMotion(matrix, shift, scale)
