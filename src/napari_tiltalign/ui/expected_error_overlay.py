"""How far off every place of the field is expected to be, as data of a napari layer, and in words."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import Alignment, ExpectedError, TiltSeries
from napari_tiltalign.ui.frame import Frame
from napari_tiltalign.ui.layer_data import LayerData, placement

EXPECTED_ERROR = "expected error"
"""Name of the layer."""

_ACROSS = 48
"""Pixels of the layer along the longer side of an image; the error is smooth."""
_LEAST_COSINE = 0.05
"""A view that sees the specimen more edge-on than this (87 degrees) shows no map."""


def known_error(alignment: Alignment) -> ExpectedError | None:
    """The expected error of an alignment; None where it was not estimated."""
    error = None if alignment.uncertainty is None else alignment.uncertainty.expected_error
    return error if error is not None and np.isfinite(error.rms_angst).any() else None


def expected_error_text(alignment: Alignment) -> str:
    """The expected error in pixels and how much it varies over the field, or why it is not known."""
    error = known_error(alignment)
    if error is not None:
        low, high = np.nanmin(error.rms_angst), np.nanmax(error.rms_angst)
        pixel = alignment.pixel_size_angst
        return (
            f"expected error {error.overall_angst / pixel:.2g} px, "
            f"{low / pixel:.2g} to {high / pixel:.2g} over the field"
        )
    if alignment.uncertainty is None:
        return "expected error not estimated: this alignment came without error bars, as those of other programs do"
    return "expected error not estimated: the method gave error bars of views only"


def expected_error_overlay(series: TiltSeries, alignment: Alignment, frame: Frame) -> LayerData:
    """Image layer, in raw pixels: the expected error (rms over the views) of the place that every view shows there.

    Places are those of the specimen plane at height 0. NaN, which is drawn transparent, where the error is not known:
    at high tilts a view shows more of the specimen than the field of the others.

    Raises
    ------
    ValueError
        If the expected error was not estimated.
    """
    error = known_error(alignment)
    if error is None:
        raise ValueError(f"the expected error of {alignment.series_name} was not estimated")
    pixel, shape = alignment.pixel_size_angst, np.array(series.image_shape_yx)
    size = np.maximum(np.round(_ACROSS * shape / shape.max()), 2).astype(int)
    step = shape / size  # raw pixels
    rows, columns = ((np.arange(n) + 0.5) * s - 0.5 for n, s in zip(size, step, strict=True))
    shown = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    edge_on = np.abs(np.cos(np.deg2rad(alignment.geometry.y_tilt_deg))) < _LEAST_COSINE
    stack = np.full((len(series), *size), np.nan, np.float32)
    for view, image in enumerate(frame.order.tolist()):
        if not edge_on[image]:
            raw = shown @ frame.to_raw[image, :2, :2].T + frame.to_raw[image, :2, 2]
            place = alignment.geometry.unproject(image, (raw - shape // 2) * pixel)[:, 1:]
            stack[view] = (_rms_at(error, place, 0.5 * shape * pixel) / pixel).reshape(size)
    attributes = {
        "name": EXPECTED_ERROR,
        "colormap": "magma",
        "contrast_limits": (0.0, float(np.nanmax(error.rms_angst)) / pixel),
        "opacity": 0.5,
        "blending": "translucent",
        "interpolation2d": "linear",
        "visible": False,
        **placement(series),
    }
    attributes["scale"] = (1.0, *(step * pixel))
    attributes["translate"] = (0.0, *(0.5 * (step - 1.0) * pixel))
    return stack, attributes, "image"


def _rms_at(error: ExpectedError, place_yx_angst: FloatArray, half_field_yx_angst: FloatArray) -> FloatArray:
    """Expected error, Angstrom, at places (k, 2) of the specimen plane; NaN outside of the field.

    Between the places at which it is known, and out to the edge of the field, its square is taken as linear.
    """
    square = RegularGridInterpolator(
        (error.y_angst, error.x_angst), error.rms_angst**2, bounds_error=False, fill_value=None
    )
    found: FloatArray = np.sqrt(np.maximum(square(place_yx_angst), 0.0))
    return np.where((np.abs(place_yx_angst) <= half_field_yx_angst).all(axis=1), found, np.nan)
