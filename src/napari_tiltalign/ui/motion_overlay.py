"""Local motion over the images, as data of a napari layer, and how large it is in every view."""

from __future__ import annotations

import numpy as np
from napari.utils.colormaps import Colormap

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import Alignment, LocalMotion, TiltSeries
from napari_tiltalign.ui.frame import Frame
from napari_tiltalign.ui.layer_data import LayerData, placement

MOTION = "local motion"
"""Name of the layer."""

LENGTHS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""How many times longer than they are the vectors may be drawn at first: so that they do not reach each other."""

_COLOURS = Colormap([[0.72, 0.62, 1.0], [0.85, 0.35, 1.0], [1.0, 0.1, 0.75]], name="motion", controls=[0.0, 0.5, 1.0])
"""Violet to magenta, which no residual has and which is seen on grey."""
_ACROSS = 14
"""Vectors along the longer side of an image."""
_WIDTH = 0.005
"""Of the vectors, part of the longer side."""


def motion_overlay(series: TiltSeries, alignment: Alignment, frame: Frame) -> LayerData:
    """Vectors layer from where a rigid specimen would be seen to where it is seen, one of `LENGTHS` times longer.

    The points lie on a grid through the middle of the beads. Its feature ``motion_px`` is the length.
    """
    motion = alignment.local_motion
    nothing: tuple[FloatArray, FloatArray] = np.zeros((0, 2, 3)), np.zeros(0)
    data, length_px = nothing if motion is None else _vectors(series, alignment, motion, frame)
    scale = max(float(np.quantile(length_px, 0.98)), 1e-6) if length_px.size else 1.0
    attributes = {
        "name": MOTION,
        "features": {"motion_px": length_px},
        "edge_color": _COLOURS.map(np.clip(length_px / scale, 0.0, 1.0)) if length_px.size else "#b89eff",
        "edge_width": max(1.0, _WIDTH * max(series.image_shape_yx)),
        "length": _drawn_length(scale, max(series.image_shape_yx) / _ACROSS),
        "vector_style": "arrow",
        "visible": False,
        **placement(series),
    }
    return data, attributes, "vectors"


def _drawn_length(longest_px: float, apart_px: float) -> float:
    """How many times longer vectors are drawn whose starts are so far apart."""
    return max((length for length in LENGTHS if length * longest_px <= apart_px), default=LENGTHS[0])


def motion_rms_px(alignment: Alignment) -> FloatArray:
    """How far the beads move in every view, root mean square, shape (n,), raw pixels; NaN without local motion."""
    motion = alignment.local_motion
    if motion is None:
        return np.full(len(alignment), np.nan)
    moved = np.stack([motion.displacement_yx_angst(motion.support_zyx_angst, image) for image in range(len(motion))])
    rms: FloatArray = np.sqrt((moved**2).sum(axis=2).mean(axis=1)) / alignment.pixel_size_angst
    return rms


def _vectors(
    series: TiltSeries, alignment: Alignment, motion: LocalMotion, frame: Frame
) -> tuple[FloatArray, FloatArray]:
    """Layer vectors (k, 2, 3) and their lengths (k,) in raw pixels, of all views."""
    pixel, shape = alignment.pixel_size_angst, np.array(alignment.image_shape_yx)
    points = _grid(motion, shape * pixel)
    seen = alignment.geometry.project(points) / pixel + shape // 2
    moved = np.stack([motion.displacement_yx_angst(points, image) for image in range(len(series))]) / pixel
    inside = ((seen >= 0) & (seen <= shape - 1)).all(axis=2)
    tilt = np.nonzero(inside)[0]
    vectors = np.stack([frame.shown(tilt, seen[inside]), frame.shown_vectors(tilt, moved[inside])], axis=1)
    return vectors, np.linalg.norm(moved[inside], axis=1)


def _grid(motion: LocalMotion, field_angst: FloatArray) -> FloatArray:
    """Points (q, 3) of the specimen at the height of the beads, evenly over the part of the field where beads are."""
    support = motion.support_zyx_angst
    step = float(field_angst.max()) / _ACROSS
    low, high = support[:, 1:].min(axis=0) - 0.5 * step, support[:, 1:].max(axis=0) + 0.5 * step
    y, x = (np.arange(a, b + step, step) for a, b in zip(low, high, strict=True))
    height = float(np.median(support[:, 0]))
    return np.array([(height, b, c) for b in y for c in x])
