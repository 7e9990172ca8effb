"""What is drawn over the images for an alignment, as data of napari layers. No layer is touched here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from napari.utils.colormaps import Colormap

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.ui.bead_table import bead_diameter_px, gaps, used_beads
from napari_tiltalign.ui.expected_error_overlay import EXPECTED_ERROR, expected_error_overlay, known_error
from napari_tiltalign.ui.frame import Frame
from napari_tiltalign.ui.height_overlay import HEIGHTS, heights_overlay
from napari_tiltalign.ui.layer_data import LayerData, placement
from napari_tiltalign.ui.motion_overlay import MOTION, motion_overlay
from napari_tiltalign.ui.work import Candidate

BEADS, GAPS, PATHS, RESIDUALS, AXIS = "beads", "gaps", "bead paths", "residuals", "tilt axis"
"""Names of the layers."""

ALL = (EXPECTED_ERROR, AXIS, PATHS, HEIGHTS, MOTION, RESIDUALS, GAPS, BEADS)
"""All of them, the lowest first."""

_OF_TRACKS = frozenset({BEADS, GAPS, PATHS, RESIDUALS, HEIGHTS})

RESIDUAL_COLOURS = Colormap(
    [[0.10, 0.85, 0.95], [1.0, 0.90, 0.20], [1.0, 0.15, 0.25]], name="residual", controls=[0.0, 0.5, 1.0]
)
"""Good to bad: cyan, yellow, red, which are told apart on grey and by colour-blind people."""

WORST_SHOWN_PX = 3.0
"""Residuals from here on have the last colour; smaller alignments' worst residuals set it lower."""

RESIDUAL_LENGTH = 10.0
"""How many times longer than they are the residual vectors are drawn at first."""

_LONGEST = 0.1
"""No residual is drawn longer than this part of an image: one wild match must not be all that is seen."""

_SAME_PX = 0.05
"""Lines whose ends are not further apart than this are one line."""

_SELECTED_COLOUR = np.array([1.0, 1.0, 1.0, 1.0])
_UNKNOWN_COLOUR = np.array([0.6, 0.6, 0.6, 1.0])


def residual_scale_px(residual_px: FloatArray) -> float:
    """Residual that gets the last colour, pixels: three times the median, within 0.5 to `WORST_SHOWN_PX`."""
    known = residual_px[np.isfinite(residual_px)]
    return float(np.clip(3.0 * np.median(known), 0.5, WORST_SHOWN_PX)) if known.size else WORST_SHOWN_PX


def residual_colours(residual_px: FloatArray) -> FloatArray:
    """RGBA colours of residuals, shape (k, 4); grey where the residual is unknown."""
    parts = np.nan_to_num(residual_px) / residual_scale_px(residual_px)
    colours = np.asarray(RESIDUAL_COLOURS.map(np.clip(parts, 0.0, 1.0)), dtype=np.float64).reshape(-1, 4)
    colours[~np.isfinite(residual_px)] = _UNKNOWN_COLOUR
    return colours


def roles_of(candidate: Candidate) -> tuple[str, ...]:
    """Layers that an alignment has: those of tracks, local motion and expected error only where there are any.

    The layer of local motion stays, empty, while it is looked for again.
    """
    alignment = candidate.alignment
    lacking = set() if alignment.tracks is not None else set(_OF_TRACKS)
    if alignment.local_motion is None and not candidate.motion_due:
        lacking.add(MOTION)
    if known_error(alignment) is None:
        lacking.add(EXPECTED_ERROR)
    return tuple(role for role in ALL if role not in lacking)


def overlay(role: str, series: TiltSeries, alignment: Alignment, frame: Frame, selected: int | None) -> LayerData:
    """Return the layer of one of `ALL`."""
    match role:
        case "beads":
            return beads_overlay(series, alignment, frame, selected)
        case "gaps":
            return gaps_overlay(series, alignment, frame, selected)
        case "bead paths":
            return paths_overlay(series, alignment, frame)
        case "residuals":
            return residuals_overlay(series, alignment, frame)
        case "heights":
            return heights_overlay(series, alignment, frame)
        case "local motion":
            return motion_overlay(series, alignment, frame)
        case "expected error":
            return expected_error_overlay(series, alignment, frame)
        case "tilt axis":
            return axis_overlay(series, alignment, frame)
        case _:
            raise ValueError(f"there is no layer {role!r}")


def beads_overlay(series: TiltSeries, alignment: Alignment, frame: Frame, selected: int | None) -> LayerData:
    """Points layer of the beads that are used: rings coloured by residual, the selected bead in white.

    Its features are the table of `bead_table.used_beads`.
    """
    table = used_beads(alignment)
    colours = residual_colours(table["residual_px"].to_numpy())
    chosen = (table["track_id"] == selected).to_numpy()
    border = np.where(chosen[:, None], _SELECTED_COLOUR, colours)
    face = colours * [1.0, 1.0, 1.0, 0.15]
    attributes = {
        "features": table,
        "border_color": _each(border),
        "face_color": _each(face),
        "border_width": _each(np.where(chosen, 0.14, 0.09)),
        "size": _ring_px(alignment),
        "symbol": "disc",
        "text": _labels(),
        **_common(series, BEADS),
    }
    return _points(table, frame), attributes, "points"


def gaps_overlay(series: TiltSeries, alignment: Alignment, frame: Frame, selected: int | None) -> LayerData:
    """Points layer of predicted places where a bead is not used: hollow squares.

    Its features are the table of `bead_table.gaps`.
    """
    table = gaps(alignment)
    chosen = (table["track_id"] == selected).to_numpy(dtype=bool)
    attributes = {
        "features": table,
        "border_color": _each(np.where(chosen[:, None], _SELECTED_COLOUR, [1.0, 0.55, 0.9, 0.8])),
        "face_color": np.zeros(4),
        "border_width": _each(np.where(chosen, 0.10, 0.06)),
        "size": _ring_px(alignment),
        "symbol": "square",
        "text": _labels(),
        **_common(series, GAPS),
    }
    return _points(table, frame), attributes, "points"


def paths_overlay(series: TiltSeries, alignment: Alignment, frame: Frame) -> LayerData:
    """Tracks layer of the beads' ways through the views."""
    table = used_beads(alignment)
    points = np.column_stack([table["track_id"], _points(table, frame)])
    order = np.lexsort([points[:, 1], points[:, 0]])
    features = {"residual_px": np.nan_to_num(table["residual_px"].to_numpy()[order])}
    attributes = {
        "features": features,
        "color_by": "residual_px",
        "colormaps_dict": {"residual_px": RESIDUAL_COLOURS},
        "tail_length": 8,
        "head_length": 0,
        "tail_width": 2,
        "visible": False,
        **_common(series, PATHS),
    }
    return points[order], attributes, "tracks"


def residuals_overlay(series: TiltSeries, alignment: Alignment, frame: Frame) -> LayerData:
    """Vectors layer from every bead towards where it is predicted, drawn `RESIDUAL_LENGTH` times longer.

    Those that would be longer than `_LONGEST` are cut.
    """
    table = used_beads(alignment)
    table = table[np.isfinite(table["residual_px"])]
    longest_px = _LONGEST * max(series.image_shape_yx) / RESIDUAL_LENGTH
    shown = np.minimum(1.0, longest_px / np.maximum(table["residual_px"].to_numpy(), 1e-9))
    towards_prediction = -table[["residual_y_px", "residual_x_px"]].to_numpy() * shown[:, None]
    vectors = np.stack([_points(table, frame), frame.shown_vectors(table["tilt"].to_numpy(), towards_prediction)], 1)
    attributes = {
        "edge_color": _each(residual_colours(table["residual_px"].to_numpy())),
        "edge_width": 0.12 * _ring_px(alignment),
        "length": RESIDUAL_LENGTH,
        "vector_style": "arrow",
        **_common(series, RESIDUALS),
    }
    return vectors, attributes, "vectors"


def axis_overlay(series: TiltSeries, alignment: Alignment, frame: Frame) -> LayerData:
    """Vectors layer with the tilt axis as a line through every image.

    Where that is the same line in all of them, as in aligned images, the layer has two dimensions, so that it need not
    be made again for every view.
    """
    pixel, rows = series.pixel_size_angst, series.image_shape_yx[0]
    half = np.array([0.0, 0.5 * rows * pixel, 0.0])  # y is the tilt axis
    ends = alignment.geometry.project(np.stack([-half, half])) / pixel + np.array(series.image_shape_yx) // 2
    tilt = np.arange(len(series))
    vectors = np.stack([frame.shown(tilt, ends[:, 0]), frame.shown_vectors(tilt, ends[:, 1] - ends[:, 0])], axis=1)
    attributes = {
        "edge_color": "#4aa3ff",
        "edge_width": max(1.0, 0.003 * rows),
        "length": 1.0,
        "vector_style": "line",
        "opacity": 0.6,
        **_common(series, AXIS),
    }
    if np.ptp(vectors[:, :, 1:], axis=0).max() < _SAME_PX:
        attributes |= {name: attributes[name][1:] for name in ("scale", "translate", "units", "axis_labels")}
        return vectors[:1, :, 1:], attributes, "vectors"
    return vectors, attributes, "vectors"


def _points(table: pd.DataFrame, frame: Frame) -> FloatArray:
    return frame.shown(table["tilt"].to_numpy(dtype=np.intp), table[["y_px", "x_px"]].to_numpy(dtype=np.float64))


def _ring_px(alignment: Alignment) -> float:
    """Diameter of the rings around beads: wide enough to leave the gold and its rim visible."""
    return 1.8 * bead_diameter_px(alignment)


def _each(values: FloatArray) -> FloatArray:
    """Values for every point; for no points one that is not used, because napari refuses an empty array."""
    return values if len(values) else np.ones_like(values, shape=values.shape[1:])


def _labels() -> dict[str, Any]:
    return {"string": {"feature": "track_id"}, "size": 8, "color": "white", "anchor": "upper_left", "visible": False}


def _common(series: TiltSeries, name: str) -> dict[str, Any]:
    return {"name": name, **placement(series)}
