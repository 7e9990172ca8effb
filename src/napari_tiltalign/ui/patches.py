"""Small pictures of one bead, one from every view; no Qt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import Alignment, State, TiltSeries
from napari_tiltalign.ui.bead_table import predicted_yx_px
from napari_tiltalign.ui.edits import find_track

_BLACK_AND_WHITE = (1.0, 99.5)
"""Percentiles of a patch that are shown black and white."""


@dataclass(frozen=True, slots=True)
class Place:
    """A bead in one view.

    Attributes
    ----------
    tilt_id, tilt_deg
        The view, and its nominal tilt.
    view
        Its number in order of tilt.
    predicted_yx_px
        Where the geometry expects the bead, raw pixel index.
    measured_yx_px
        Where it is; None for a gap.
    residual_px
        Distance between the two in the last solution; NaN if it was edited since, or for a gap.
    included
        Whether the view takes part.
    """

    tilt_id: str
    tilt_deg: float
    view: int
    predicted_yx_px: tuple[float, float]
    measured_yx_px: tuple[float, float] | None
    residual_px: float
    included: bool


def places_of(series: TiltSeries, alignment: Alignment, track_id: int) -> list[Place]:
    """All views of a bead in order of tilt; those outside whose image the bead is predicted are left out."""
    tracks = alignment.tracks
    if tracks is None:
        raise ValueError(f"the alignment of {alignment.series_name} has no tracks")
    track = find_track(tracks, track_id)
    predicted = predicted_yx_px(alignment)[:, track]
    rows = np.flatnonzero((tracks.track == track) & (tracks.state != State.REJECTED))
    row_of = dict(zip(tracks.tilt[rows].tolist(), rows.tolist(), strict=True))
    outside = (predicted < 0) | (predicted > np.array(alignment.image_shape_yx) - 1)
    inside = ~np.any(outside, axis=1)
    places = []
    for view, tilt in enumerate(series.tilt_order().tolist()):
        row = row_of.get(tilt)
        if row is None and not inside[tilt]:
            continue
        places.append(
            Place(
                series.tilt_ids[tilt],
                float(series.nominal_tilt_deg[tilt]),
                view,
                _pair(predicted[tilt]),
                None if row is None else _pair(tracks.position_yx_px[row]),
                float("nan") if row is None else float(np.linalg.norm(tracks.residual_yx_px[row])),
                bool(alignment.included[tilt]),
            )
        )
    return places


def _pair(position: FloatArray) -> tuple[float, float]:
    return float(position[0]), float(position[1])


def cut_patch(
    image: NDArray[np.float32], centre_yx: tuple[float, float], half_px: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Cut a square out of an image and stretch its grey values.

    Parameters
    ----------
    image
        Shape (y, x).
    centre_yx
        Pixel index of the centre, rounded to whole pixels.
    half_px
        The square has 2 half_px + 1 pixels on a side; what lies outside the image is black.

    Returns
    -------
    patch, corner_yx
        Grey values 0 to 255, and the pixel index of the first pixel of the patch in the image.
    """
    size = 2 * half_px + 1
    corner = (round(centre_yx[0]) - half_px, round(centre_yx[1]) - half_px)
    patch = np.full((size, size), np.nan, np.float32)
    low = [max(0, c) for c in corner]
    high = [min(c + size, side) for c, side in zip(corner, image.shape, strict=True)]
    if low[0] < high[0] and low[1] < high[1]:
        inside = image[low[0] : high[0], low[1] : high[1]]
        patch[low[0] - corner[0] : high[0] - corner[0], low[1] - corner[1] : high[1] - corner[1]] = inside
    known = patch[np.isfinite(patch)]
    if not known.size:
        return np.zeros(patch.shape, np.uint8), corner
    black, white = np.percentile(known, _BLACK_AND_WHITE)
    grey = np.clip((patch - black) / max(white - black, 1e-6), 0.0, 1.0)
    return (255.0 * np.nan_to_num(grey)).astype(np.uint8), corner
