"""What napari is told about a series, checked in the viewer's own model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_tiltalign.model import ArrayImage, TiltSeries
from napari_tiltalign.ui import layer_data
from napari_tiltalign.ui.layer_data import contrast_limits, display_binning, series_layer, series_stack


def test_views_are_sorted_by_tilt(series):
    stack = series_stack(series)
    assert stack.shape == (13, 96, 80)
    assert series.nominal_tilt_deg.tolist() != sorted(series.nominal_tilt_deg)
    for view, index in enumerate(np.argsort(series.nominal_tilt_deg)):
        np.testing.assert_array_equal(stack[view], series.tilts[index].image.read())


def test_excluded_views_are_shown_too(series):
    assert len(series_stack(series.with_exclusions({"view_03": "dark"}))) == len(series)


def test_layer_carries_scale_units_labels_and_series(series):
    layer = Layer.create(*series_layer(series))
    assert layer.name == "TS_1"
    assert layer.scale.tolist() == [1.0, 10.0, 10.0]
    assert [str(unit) for unit in layer.units] == ["pixel", "angstrom", "angstrom"]
    assert layer.axis_labels == ("tilt", "y", "x")
    assert layer.metadata["tiltalign"] is series


def test_viewer_starts_in_the_middle_and_reads_only_what_it_shows(series):
    reads = []

    class Watched(ArrayImage):
        def read(self):
            reads.append(self.name)
            return super().read()

    tilts = tuple(dataclasses.replace(t, image=Watched(t.image.pixels, t.tilt_id)) for t in series.tilts)
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(*series_layer(series.replace(tilts=tilts))))
    assert viewer.dims.axis_labels == ("tilt", "y", "x")
    assert viewer.dims.current_step[0] == 6
    assert "view_00" in reads
    assert len(reads) <= 2, "napari itself looks at the first view before it goes to the middle"


@pytest.mark.parametrize(("side", "binning"), [(80, 1), (2048, 1), (2049, 2), (4096, 2), (5760, 4), (8193, 8)])
def test_large_images_are_binned(series, side, binning):
    assert display_binning(series.replace(image_shape_yx=(96, side))) == binning


def test_binned_pixels_stay_where_they_are(series, monkeypatch):
    """A blob is seen at the same world position whether the layer is binned or not."""
    rows, columns = np.indices((96, 80))
    blob = np.exp(-((rows - 40.3) ** 2 + (columns - 31.6) ** 2) / 18.0).astype(np.float32)
    tilts = tuple(dataclasses.replace(tilt, image=ArrayImage(blob)) for tilt in series.tilts)
    series = TiltSeries("blob", tilts, 10.0, (96, 80))
    monkeypatch.setattr(layer_data, "LARGEST_SIDE_PX", 30)
    layer = Layer.create(*series_layer(series))
    assert layer.data.shape == (13, 24, 20)
    image = layer.data[0].astype(float)
    centre_px = [(image * index).sum() / image.sum() for index in np.indices(image.shape)]
    np.testing.assert_allclose(layer.data_to_world((0, *centre_px)), (0.0, 403.0, 316.0), atol=0.5)


@pytest.mark.parametrize(
    ("image", "limits"),
    [
        (np.full((8, 8), 3.0), (3.0, 4.0)),
        (np.full((8, 8), np.nan), (0.0, 1.0)),
        (np.where(np.arange(64).reshape(8, 8) % 2, np.nan, 5.0), (5.0, 6.0)),
    ],
    ids=["constant", "empty", "partly empty"],
)
def test_contrast_limits_of_odd_images(image, limits):
    assert contrast_limits(image.astype(np.float32)) == limits


def test_contrast_limits_ignore_hot_pixels():
    image = np.random.default_rng(0).normal(10.0, 1.0, (200, 200)).astype(np.float32)
    image[0, 0] = 1e6
    low, high = contrast_limits(image)
    assert 6.0 < low < 8.0
    assert 12.0 < high < 14.0
