"""Plots and what is plotted: values in the right places, clicks that arrive."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPointF

from napari_tiltalign.model import Uncertainty
from napari_tiltalign.ui.plots import Curve, Panel, ResidualMap, ViewPlots
from napari_tiltalign.ui.view_curves import PANELS, residual_grid, view_curves

pytestmark = pytest.mark.gui

TILTS_DEG = np.array([0.0, 30.0, -30.0, 60.0, -60.0])


@pytest.fixture
def plots(qtbot):
    """Two panels with five views in them, the second of which is not used."""
    plots = ViewPlots((Panel("one (px)", "One", ("a", "b")), Panel("two (°)", "Two")))
    qtbot.addWidget(plots)
    nan = np.full(5, np.nan)
    curve = Curve(np.arange(5.0), np.array([0.1, 0.1, np.nan, 0.1, 0.1]))
    used = np.array([True, False, True, True, True])
    plots.show_views(TILTS_DEG, used, [[curve, Curve(nan, nan)], [curve]], [[[curve], [curve]]])
    plots.resize(300, 300)
    shown(plots, qtbot)
    return plots


def shown(widget, qtbot) -> None:
    """Show a widget and wait until its plots have their places: a click before that misses them."""
    with qtbot.waitExposed(widget):
        widget.show()
    qtbot.waitUntil(lambda: all(p.sceneBoundingRect().height() > 40 for p in widget.ci.items))


class Click:
    """A mouse click as pyqtgraph tells it."""

    def __init__(self, plot, x: float, y: float) -> None:
        self._at = plot.vb.mapViewToScene(QPointF(x, y))

    def scenePos(self):  # noqa: N802 (Qt's name)
        """Where it was."""
        return self._at


def test_curves_are_drawn_in_order_of_tilt_and_through_used_views_only(plots):
    line = plots.plots[0].listDataItems()[0]
    np.testing.assert_array_equal(line.xData, [-60.0, -30.0, 0.0, 60.0])
    np.testing.assert_array_equal(line.yData, [4.0, 2.0, 0.0, 3.0])


@pytest.mark.parametrize(("x", "expected"), [(-58.0, 4), (-10.0, 0), (20.0, 1), (59.0, 3)])
def test_a_click_tells_the_nearest_view(plots, qtbot, x, expected):
    with qtbot.waitSignal(plots.view_clicked, timeout=5000) as told:
        plots._on_click(Click(plots.plots[1], x, 1.0))
    assert told.args == [expected]


def test_the_view_is_marked_in_all_panels(plots):
    plots.show_view(3)
    assert [mark.value() for mark in plots.marks] == [60.0, 60.0]
    plots.show_view(None)
    assert not any(mark.isVisible() for mark in plots.marks)


def test_empty_plots_tell_no_view(plots):
    plots.show_nothing()
    assert plots.view_at(0.0) is None
    assert plots.plots[0].listDataItems() == []


def test_names_of_curves_come_in_their_colours():
    assert Panel("shift (Å)", "").legend == ""
    assert Panel("shift (Å)", "", ("y", "x")).legend.count("<span") == 2


def test_plots_of_what_is_not_known_are_left_out(plots):
    nan, known = np.full(5, np.nan), np.arange(5.0)
    plots.show_views(TILTS_DEG, np.ones(5, bool), [[Curve(nan, nan)], [Curve(known, nan)]])
    assert [plot.scene() is not None and plot in plots.ci.items for plot in plots.plots] == [False, True]
    assert plots.plots[1].getAxis("bottom").label.isVisible()
    plots.show_views(TILTS_DEG, np.ones(5, bool), [[Curve(known, nan)], [Curve(known, nan)]])
    assert [plot in plots.ci.items for plot in plots.plots] == [True, True]


@pytest.fixture
def residual_map(qtbot) -> ResidualMap:
    """Three beads in two views."""
    residuals = ResidualMap()
    qtbot.addWidget(residuals)
    residuals.show_residuals(np.array([[2.0, np.nan], [0.5, 0.5], [0.1, 0.0]]), ["7", "1", "4"], ["-30", "30"])
    residuals.resize(200, 300)
    shown(residuals, qtbot)
    return residuals


def test_residuals_become_colours_and_gaps_stay_empty(residual_map):
    picture = residual_map.image.image
    assert picture.shape == (3, 2, 4)
    assert picture[0, 1, 3] == 0
    assert (picture[..., 3] == 255).sum() == 5
    worst, best = picture[0, 0], picture[2, 1]
    assert worst[0] > worst[2], "bad is red"
    assert best[2] > best[0], "good is cyan"


def test_a_click_tells_its_cell(residual_map, qtbot):
    with qtbot.waitSignal(residual_map.cell_clicked, timeout=5000) as told:
        residual_map._on_click(Click(residual_map.plot, 1.5, 2.2))
    assert told.args == [2, 1]
    with qtbot.assertNotEmitted(residual_map.cell_clicked):
        residual_map._on_click(Click(residual_map.plot, 2.2, 1.0))


def test_curves_of_an_alignment(series, truth):
    n = len(series)
    sd = Uncertainty(np.full(n, 0.1), np.full(n, 0.2), np.full((n, 2), 3.0), np.full(n, 0.01))
    shift, rotation, tilt, residual, motion, score = view_curves(series, truth.replace(uncertainty=sd))
    assert np.isnan(motion[0].values).all()
    assert np.isnan(score[0].values).all(), "it was not judged"
    assert len(PANELS) == 6
    np.testing.assert_array_equal(shift[1].values, truth.geometry.shift_yx_angst[:, 1])
    np.testing.assert_array_equal(shift[1].sd, 3.0)
    np.testing.assert_allclose(rotation[0].values, truth.geometry.z_rot_deg)
    np.testing.assert_array_equal(rotation[0].sd, 0.2)
    np.testing.assert_allclose(tilt[0].values, 0.0, atol=1e-12)
    np.testing.assert_array_equal(residual[0].values, 0.0)
    assert np.isnan(residual[1].values).all(), "nothing was left out"
    assert all(np.isnan(panel[0].sd).all() for panel in view_curves(series, truth)), "no error bars without estimates"


def test_rotations_do_not_jump_at_the_seam(series, truth):
    around = truth.geometry.replace(z_rot_deg=np.where(np.arange(len(series)) % 2, 179.5, -179.5))
    assert np.ptp(view_curves(series, truth.replace(geometry=around))[1][0].values) == pytest.approx(1.0)


def test_the_worst_bead_is_the_first_row(series, truth):
    tracks = truth.tracks
    residual = np.where(tracks.track == 5, 2.0, 0.1)[:, None] * [1.0, 0.0]
    state = np.where((tracks.track == 5) & (tracks.tilt == 0), 3, tracks.state)
    grid = residual_grid(series, truth.replace(tracks=tracks.replace(residual_yx_px=residual, state=state)))
    assert grid.track_ids[0] == 5
    np.testing.assert_array_equal(grid.tilt, series.tilt_order())
    at = grid.tilt.tolist().index(0)
    assert np.isnan(grid.residual_px[0, at])
    np.testing.assert_allclose(np.delete(grid.residual_px[0], at), 2.0)
    np.testing.assert_allclose(grid.residual_px[1:], 0.1)
    assert residual_grid(series, truth.replace(tracks=None)) is None
