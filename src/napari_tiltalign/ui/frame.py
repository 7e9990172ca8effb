"""Where things are drawn: over the raw images, or over the aligned ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.transform import aligned_to_raw
from napari_tiltalign.model import Alignment, TiltSeries


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """How raw pixels of every image map to what is shown.

    napari's first axis counts *views*: the images sorted by nominal tilt. Everything else counts images in the order
    of the series; `order` and `rank` go between the two.

    Attributes
    ----------
    order
        Shape (n,): index in the series of every view.
    rank
        Shape (n,): view of every image of the series.
    to_shown, to_raw
        Shape (n, 3, 3), by index in the series: take (y, x, 1) in raw pixel indices to pixel indices of what is
        shown, and back.
    """

    order: NDArray[np.intp]
    rank: NDArray[np.intp]
    to_shown: FloatArray
    to_raw: FloatArray

    @classmethod
    def raw(cls, series: TiltSeries) -> Self:
        """Return the frame of the raw images."""
        return cls._of(series, np.broadcast_to(np.eye(3), (len(series), 3, 3)))

    @classmethod
    def aligned(cls, series: TiltSeries, alignment: Alignment) -> Self:
        """Return the frame of the aligned images."""
        shape, pixel = series.image_shape_yx, series.pixel_size_angst
        matrices = [aligned_to_raw(alignment.geometry, index, pixel, shape) for index in range(len(series))]
        return cls._of(series, np.array(matrices))

    @classmethod
    def _of(cls, series: TiltSeries, to_raw: FloatArray) -> Self:
        order = series.tilt_order()
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return cls(order, rank, np.linalg.inv(to_raw), to_raw)

    def shown(self, tilt: NDArray[np.integer], position_yx_px: FloatArray) -> FloatArray:
        """Return layer coordinates (view, y, x), shape (k, 3), of raw positions (k, 2) in images `tilt` (k,)."""
        return np.column_stack([self.rank[tilt], _mapped(self.to_shown[tilt], position_yx_px)])

    def shown_vectors(self, tilt: NDArray[np.integer], vectors_yx_px: FloatArray) -> FloatArray:
        """Return layer vectors (0, y, x), shape (k, 3), of differences of raw positions (k, 2)."""
        turned = np.einsum("kij,kj->ki", self.to_shown[tilt][:, :2, :2], vectors_yx_px)
        return np.column_stack([np.zeros(len(turned)), turned])

    def raw_position(self, view: int, position_yx_px: FloatArray) -> FloatArray:
        """Return the raw position (2,) of what is shown at a position (2,) in a view."""
        position: FloatArray = _mapped(self.to_raw[self.order[view]][None], np.asarray(position_yx_px)[None])[0]
        return position


def _mapped(matrices: FloatArray, position_yx: FloatArray) -> FloatArray:
    mapped: FloatArray = np.einsum("kij,kj->ki", matrices[:, :2, :2], position_yx) + matrices[:, :2, 2]
    return mapped
