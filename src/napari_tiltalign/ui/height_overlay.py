"""How high in the specimen lies what is followed - beads, patches, tiles - as data of napari layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from napari.utils.colormaps import Colormap

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.ui.bead_table import bead_diameter_px, follows_areas, predicted_yx_px
from napari_tiltalign.ui.frame import Frame
from napari_tiltalign.ui.layer_data import LayerData, placement

HEIGHTS = "heights"
"""Name of the layer."""

HEIGHT_COLOURS = Colormap([[0.25, 0.55, 1.0], [0.95, 0.95, 0.95], [1.0, 0.55, 0.1]], name="height")
"""Below the middle blue, above it orange, white at the middle."""

_QUANTILE = 0.95
_FLATTEST_NM = 1.0
_LARGER = 2.5
"""Marks are so much larger than the rings around beads, so that both are seen."""
_MOST_WRITTEN = 60
"""With more than this, the numbers would cover each other."""


def heights_nm(alignment: Alignment) -> FloatArray:
    """Height of every track above the middle of all, nm, shape (p,).

    Raises
    ------
    ValueError
        If the alignment has no tracks.
    """
    if alignment.tracks is None:
        raise ValueError(f"the alignment of {alignment.series_name} has no tracks")
    z = alignment.tracks.points_zyx_angst[:, 0]
    return (z - np.median(z)) / 10.0 if z.size else np.zeros(0)


def height_colours(height_nm: FloatArray) -> FloatArray:
    """RGBA colours of heights, shape (p, 4); the full colours are for the largest 5 %, and at least 1 nm."""
    if not height_nm.size:
        return np.zeros((0, 4))
    scale = max(float(np.quantile(np.abs(height_nm), _QUANTILE)), _FLATTEST_NM)
    colours: FloatArray = np.asarray(HEIGHT_COLOURS.map(np.clip(0.5 + 0.5 * height_nm / scale, 0.0, 1.0)), np.float64)
    return colours.reshape(-1, 4)


def heights_overlay(series: TiltSeries, alignment: Alignment, frame: Frame) -> LayerData:
    """Points layer: every track where a view should show it, coloured by its height, which is written on it, nm.

    Its features are ``track_id`` and ``height_nm``.
    """
    heights, seen = heights_nm(alignment), predicted_yx_px(alignment)
    inside = ((seen >= 0) & (seen <= np.array(alignment.image_shape_yx) - 1)).all(axis=2)
    tilt, track = np.nonzero(inside)
    track_ids = np.zeros(0, int) if alignment.tracks is None else alignment.tracks.track_ids
    colours = height_colours(heights)[track] * [1.0, 1.0, 1.0, 0.75]
    attributes: dict[str, Any] = {
        "name": HEIGHTS,
        "features": pd.DataFrame({"track_id": track_ids[track], "height_nm": heights[track].round(1)}),
        "face_color": colours if len(track) else np.ones(4),
        "border_color": np.array([0.0, 0.0, 0.0, 1.0]),
        "border_width": 0.06,
        "size": _LARGER * bead_diameter_px(alignment),
        "symbol": "square" if follows_areas(alignment) else "disc",
        "text": {
            "string": "{height_nm:+.1f}",
            "size": 7,
            "color": "black",
            "anchor": "center",
            "visible": len(heights) <= _MOST_WRITTEN,
        },
        "visible": False,
        **placement(series),
    }
    return frame.shown(tilt, seen[tilt, track]), attributes, "points"
