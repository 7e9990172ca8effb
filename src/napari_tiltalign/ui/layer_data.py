"""What napari is told about a tilt series: one Image layer whose images are read when they are looked at."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.images.prepare import bin_image
from napari_tiltalign.model import Dataset, TiltSeries
from napari_tiltalign.ui.lazy_stack import LazyStack
from napari_tiltalign.ui.preferences import preferences

METADATA_KEY = "tiltalign"
"""Where a layer keeps its `TiltSeries`: ``layer.metadata["tiltalign"]``."""

DATASET_KEY = "tiltalign_dataset"
"""Where a layer keeps the `Dataset` its series belongs to."""

AXIS_LABELS = ("tilt", "y", "x")
UNITS = ("pixel", "angstrom", "angstrom")

LARGEST_SIDE_PX = 2048
"""Larger images are binned for display, so that stepping through them stays fluent."""

_SAMPLED = 20_000
"""Enough for the grey values that a few in a thousand pixels exceed, in an image of any size."""

LayerData = tuple[Any, dict[str, Any], str]
"""What a napari reader returns for one layer: data, attributes, layer type."""


def display_binning(series: TiltSeries) -> int:
    """How much the images of a series are binned for display: 1, 2, 4, ..."""
    binning = 1
    while max(series.image_shape_yx) > binning * LARGEST_SIDE_PX:
        binning *= 2
    return binning


def series_stack(series: TiltSeries, binning: int = 1) -> LazyStack:
    """Stack of the images of a series, sorted by nominal tilt, binned by averaging.

    Parameters
    ----------
    series
        Excluded images are part of the stack.
    binning
        Pixels averaged on each axis; rows and columns left over at the end are cut off.
    """
    order = series.tilt_order()
    rows, columns = (side // binning for side in series.image_shape_yx)

    def load(view: int) -> NDArray[np.float32]:
        return bin_image(series.tilts[order[view]].image.read(), binning)

    return LazyStack(load, len(series), (rows, columns), cache_bytes=preferences().cache_mib * 2**20)


def contrast_limits(image: NDArray[np.float32]) -> tuple[float, float]:
    """Grey values to show as black and white: robust, from at most `_SAMPLED` pixels spread over one image."""
    step = max(1, math.ceil(math.sqrt(image.size / _SAMPLED)))
    sample = image[::step, ::step]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(sample, (0.3, 99.7)))
    return (low, high) if high > low else (low, low + 1.0)


def placement(series: TiltSeries, binning: int = 1) -> dict[str, Any]:
    """Layer attributes that put pixels of binned images where they belong.

    The world is (view, y, x) with y and x in Angstrom from the centre of the first pixel of the raw image, so that
    a layer in raw pixels needs no offset and layers of any binning lie on each other.
    """
    pixel = series.pixel_size_angst
    offset = 0.5 * (binning - 1) * pixel
    return {
        "scale": (1.0, pixel * binning, pixel * binning),
        "translate": (0.0, offset, offset),
        "units": UNITS,
        "axis_labels": AXIS_LABELS,
    }


def series_layer(series: TiltSeries, dataset: Dataset | None = None, visible: bool = True) -> LayerData:
    """Image layer of a series.

    Parameters
    ----------
    series
        It is kept in the layer's metadata under `METADATA_KEY`.
    dataset
        What the series belongs to, kept under `DATASET_KEY`; None for a dataset of this series alone.
    visible
        Whether the layer is shown at first.
    """
    binning = display_binning(series)
    stack = series_stack(series, binning)
    attributes = {
        "name": series.name,
        "visible": visible,
        "colormap": "gray",
        "contrast_limits": contrast_limits(stack.image(len(stack) // 2)),
        "metadata": {METADATA_KEY: series, DATASET_KEY: dataset or Dataset((series,), source=series.source)},
        **placement(series, binning),
    }
    return stack, attributes, "image"
