"""The map of the expected error: where it is drawn, how it follows what is solved, and what is said where it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_tiltalign.model import ExpectedError, Uncertainty
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment, EditTracks, UseAlignment
from napari_tiltalign.ui.expected_error_overlay import (
    EXPECTED_ERROR,
    expected_error_overlay,
    expected_error_text,
    known_error,
)
from napari_tiltalign.ui.frame import Frame
from napari_tiltalign.ui.inspect_widget import InspectWidget


def known(truth, square=lambda y, x: 1.0 + 1e-5 * y**2 + 4e-5 * x**2):
    """The alignment with an expected error whose square (Angstrom^2) is a function of the place."""
    y, x = (((np.arange(5) + 0.5) / 5 - 0.5) * n * truth.pixel_size_angst for n in truth.image_shape_yx)
    rms = np.sqrt(square(y[:, None], x))
    n = len(truth)
    bars = Uncertainty(
        np.ones(n), np.ones(n), np.ones((n, 2)), np.ones(n), 0.1, ExpectedError(y, x, rms, float(rms.mean()))
    )
    return truth.replace(uncertainty=bars)


def shown_at(stack, attributes, view: int, place_yx_px: np.ndarray) -> float:
    """What the layer shows at a pixel of what is shown, from its own scale and offset."""
    pixel = 10.0
    scale, offset = np.array(attributes["scale"])[1:], np.array(attributes["translate"])[1:]
    row, column = np.round((place_yx_px * pixel - offset) / scale).astype(int)
    return float(stack[view, row, column])


@pytest.mark.parametrize("is_aligned", [False, True])
def test_every_view_shows_the_error_of_the_place_that_it_shows_there(series, truth, is_aligned):
    alignment = known(truth, lambda y, x: 4.0 + 0.005 * y + 0.003 * x)  # so that linear is exact
    frame = Frame.aligned(series, alignment) if is_aligned else Frame.raw(series)
    stack, attributes, kind = expected_error_overlay(series, alignment, frame)
    assert kind == "image"
    assert stack.shape == (13, 48, 40)
    places = np.array([[0.0, 150.0, -100.0], [0.0, -200.0, 120.0], [0.0, 0.0, 0.0]])
    seen_px = alignment.geometry.project(places) / 10.0 + np.array(series.image_shape_yx) // 2
    for image in range(len(series)):
        drawn = frame.shown(np.full(3, image), seen_px[image])
        for place, (view, *at) in zip(places, drawn, strict=True):
            expected_px = np.sqrt(4.0 + 0.005 * place[1] + 0.003 * place[2]) / 10.0
            assert shown_at(stack, attributes, int(view), np.array(at)) == pytest.approx(expected_px, abs=0.012)


def test_outside_of_the_field_nothing_is_claimed(series, truth):
    stack, _, _ = expected_error_overlay(series, known(truth), Frame.aligned(series, truth))
    assert np.isfinite(stack[6]).mean() > 0.9, "untilted"
    for view in (0, 12):
        assert 0.35 < np.isfinite(stack[view]).mean() < 0.6, "at 60 degrees half of a view is outside of the field"


def test_colours_reach_from_nothing_to_the_largest_error(series, truth):
    alignment = known(truth)
    _, attributes, _ = expected_error_overlay(series, alignment, Frame.raw(series))
    low, high = attributes["contrast_limits"]
    assert low == 0.0
    assert high == pytest.approx(alignment.uncertainty.expected_error.rms_angst.max() / 10.0)
    assert not attributes["visible"]


def test_an_edge_on_view_shows_nothing(series, truth):
    edge_on = truth.geometry.replace(y_tilt_deg=np.where(np.arange(13) == 0, 90.0, truth.geometry.y_tilt_deg))
    stack, _, _ = expected_error_overlay(series, known(truth).replace(geometry=edge_on), Frame.raw(series))
    assert np.isnan(stack[Frame.raw(series).rank[0]]).all()


def test_what_is_not_estimated_is_said_with_the_reason(series, truth):
    views_only = truth.replace(uncertainty=replace(known(truth).uncertainty, expected_error=None))
    assert known_error(truth) is None
    assert expected_error_text(truth).startswith("expected error not estimated: this alignment came without error bars")
    assert "error bars of views only" in expected_error_text(views_only)
    for alignment in (truth, views_only):
        with pytest.raises(ValueError, match="not estimated"):
            expected_error_overlay(series, alignment, Frame.raw(series))


def test_the_layer_is_there_only_where_the_error_is_known(dataset, truth):
    viewer = ViewerModel()  # the layers hold it weakly
    layers = layers_of(viewer)
    layers.session.open(dataset)
    layers.session.do(AddAlignment("by others", truth))
    assert layers.layer(EXPECTED_ERROR) is None
    layers.session.do(AddAlignment("ours", known(truth)))
    layer = layers.layer(EXPECTED_ERROR)
    assert not layer.visible, "it would cover the images"
    layers.session.do(UseAlignment("by others"))
    assert layers.layer(EXPECTED_ERROR) is None
    layers.session.undo()
    assert layers.layer(EXPECTED_ERROR) is not None


def test_it_is_drawn_anew_when_an_edit_is_solved_and_in_the_other_frame(dataset, truth):
    viewer = ViewerModel()  # the layers hold it weakly
    layers = layers_of(viewer)
    layers.session.solving.background = lambda work, done, failed: done(work())
    layers.session.open(dataset)
    layers.session.do(AddAlignment("ours", known(truth)))
    layer = layers.layer(EXPECTED_ERROR)
    layer.visible = True
    before, limits = layer.data.copy(), layer.contrast_limits
    layers.session.do(EditTracks("delete", {"track_id": 2}))
    solved = layers.session.alignment.uncertainty.expected_error
    assert known(truth).uncertainty.expected_error.overall_angst != pytest.approx(solved.overall_angst, rel=0.01)
    assert layer.contrast_limits[1] == pytest.approx(np.nanmax(solved.rms_angst) / 10.0)
    assert layer.contrast_limits != limits
    after = layer.data.copy()
    assert not np.allclose(np.nan_to_num(after), np.nan_to_num(before), rtol=0.05)
    assert layer.visible
    layers.session.show_aligned(True)
    assert not np.array_equal(layer.data, after, equal_nan=True)


@pytest.mark.gui
def test_inspect_says_it_and_shows_the_map(qtbot, dataset, truth):
    viewer = ViewerModel()
    widget = InspectWidget(viewer)
    qtbot.addWidget(widget)
    row, layers = widget.expected_error, layers_of(viewer)
    layers.session.open(dataset)
    assert row.isHidden()
    layers.session.do(AddAlignment("by others", truth))
    assert not row.isHidden()
    assert "not estimated" in row.text.text()
    assert not row.button.isEnabled()
    layers.session.do(AddAlignment("ours", known(truth)))
    assert row.text.text() == expected_error_text(known(truth))
    row.button.click()
    assert layers.layer(EXPECTED_ERROR).visible
    row.button.click()
    assert not layers.layer(EXPECTED_ERROR).visible
