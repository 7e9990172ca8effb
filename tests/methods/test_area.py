"""Areas as text, and which places they hold."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods.area import Area
from napari_tiltalign.methods.patch_tracking import PatchTracking


def test_a_rectangle_and_a_polygon():
    area = Area.of_text("10,20,30,40; 50,50 90,50 50,90")
    places = np.array([[20, 30], [20, 41], [55, 55], [89, 89], [9, 30]])
    assert area.holds(places).tolist() == [True, False, True, False, False]
    assert Area.of_text(area.to_text()).holds(places).tolist() == area.holds(places).tolist()
    assert area.narrowest() == pytest.approx(0.4)


def test_no_area_is_everything():
    assert Area.of_text("").holds(np.array([[5.0, 5.0], [200.0, 5.0]])).all()
    assert Area.of_text(" ").narrowest() == 1.0


def test_corners_in_any_order():
    assert Area.of_text("30,40,10,20").holds(np.array([[20.0, 30.0]])).all()


@pytest.mark.parametrize(
    "text", ["1,2,3", "a,b,c,d", "1,2 3,4", "10,10,10,90", "nan,0,50,50", "120,0,150,50", "-9,0,-1,5"]
)
def test_what_is_no_area_is_refused_with_how_to_write_one(text):
    with pytest.raises(ValidationError, match="an area is x0,y0,x1,y1"):
        PatchTracking(area=text)


def test_points_are_looked_up_in_the_view_with_the_lowest_tilt():
    geometry = ViewGeometry.nominal([-60.0, 0.0], 0.0).replace(shift_yx_angst=[[900.0, 900.0], [0.0, 100.0]])
    area = Area.of_text("50,0,100,50")  # the upper right quarter
    points = np.array([[0.0, -200.0, -50.0], [0.0, -200.0, -150.0], [0.0, 200.0, 50.0]])
    held = area.holds_points(points, geometry, 1, np.array([1000.0, 1000.0]))
    assert held.tolist() == [True, False, False]
