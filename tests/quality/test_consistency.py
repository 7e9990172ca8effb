"""What is odd about a geometry by itself is named; what a stage may do is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.model import Alignment, ArrayImage, Tilt, TiltSeries
from napari_tiltalign.quality.consistency import consistency

TILTS_DEG = np.arange(-60.0, 61.0, 4.0)
ODD = 9
"""The view that something is done to."""


def series(axis_deg: float = 85.0) -> TiltSeries:
    image = ArrayImage(np.zeros((64, 80), np.float32))
    return TiltSeries("TS", tuple(Tilt(f"v{t:g}", image, float(t), axis_deg) for t in TILTS_DEG), 10.0, (64, 80))


def alignment(change: Callable[[ViewGeometry], ViewGeometry] = lambda geometry: geometry) -> Alignment:
    rng = np.random.default_rng(4)
    n = len(TILTS_DEG)
    geometry = ViewGeometry.nominal(TILTS_DEG, 85.0).replace(
        z_rot_deg=85.0 + rng.normal(0.0, 0.1, n), shift_yx_angst=rng.normal(0.0, 15.0, (n, 2))
    )
    ids = tuple(f"v{t:g}" for t in TILTS_DEG)
    return Alignment("TS", ids, change(geometry), 10.0, (64, 80), np.ones(n, bool))


def one_more(values: np.ndarray, by: float) -> np.ndarray:
    changed = values.copy()
    changed[ODD] += by
    return changed


def test_a_plausible_geometry_has_no_remarks():
    found = consistency(series(), alignment())
    assert found.remarks == ()
    assert not any(found.view_remarks)
    assert abs(found.axis_from_nominal_deg) < 0.1
    assert found.axis_scatter_deg < 0.3
    assert found.tilt_scatter_deg == pytest.approx(0.0)
    assert np.nanmax(found.jump_percent) < 8.0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda g: g.replace(z_rot_deg=one_more(g.z_rot_deg, 2.0)), "its axis is turned by"),
        (lambda g: g.replace(y_tilt_deg=one_more(g.y_tilt_deg, 4.0)), "its tilt is 4.0° from that of the stage"),
        (lambda g: g.replace(magnification=one_more(g.magnification, 0.03)), "its magnification is 3.0 % off"),
    ],
)
def test_an_odd_view_is_named(change, text):
    found = consistency(series(), alignment(change))
    assert [i for i, remarks in enumerate(found.view_remarks) if remarks] == [ODD]
    assert text in found.view_remarks[ODD][0]


def test_a_jump_is_measured_and_not_remarked_on():
    def jump(geometry: ViewGeometry) -> ViewGeometry:
        shift = geometry.shift_yx_angst.copy()
        shift[ODD, 0] += 0.3 * 640.0
        return geometry.replace(shift_yx_angst=shift)

    found = consistency(series(), alignment(jump))
    assert int(np.argmax(found.jump_percent)) == ODD
    assert found.jump_percent[ODD] == pytest.approx(30.0, abs=5.0)
    assert not any(found.view_remarks)


def test_an_axis_far_from_the_nominal_one_is_remarked_on_but_not_its_direction():
    far = consistency(series(axis_deg=75.0), alignment())
    assert far.axis_from_nominal_deg == pytest.approx(10.0, abs=0.1)
    assert "the tilt axis is +10.0° from the nominal one" in far.remarks[0]
    assert consistency(series(axis_deg=-95.0), alignment()).remarks == ()


def test_tilts_of_the_opposite_sign_are_remarked_on():
    found = consistency(series(), alignment(lambda g: g.replace(y_tilt_deg=-g.y_tilt_deg)))
    assert "opposite sign" in found.remarks[0]
    assert not any(found.view_remarks), "they are not all named as well"


def test_a_common_offset_of_the_tilts_is_no_fault():
    found = consistency(series(), alignment(lambda g: g.replace(y_tilt_deg=g.y_tilt_deg + 11.0)))
    assert found.remarks == ()
    assert not any(found.view_remarks)
