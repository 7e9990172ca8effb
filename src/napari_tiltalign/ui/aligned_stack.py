"""The aligned images of a series as a stack that resamples only what is looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.images.transform import aligned_to_raw, aligned_view
from napari_tiltalign.model import TiltSeries
from napari_tiltalign.ui.lazy_stack import LazyStack


class AlignedStack(LazyStack):
    """Aligned images, sorted by nominal tilt.

    Parameters
    ----------
    series
        What is aligned.
    raw
        Its raw images, sorted by nominal tilt, binned by `binning`; they are taken from here, so what was read stays
        in memory once.
    binning
        Of the raw and the aligned images.
    geometry
        The alignment, in the order of the series.
    """

    def __init__(self, series: TiltSeries, raw: LazyStack, binning: int, geometry: ViewGeometry) -> None:
        super().__init__(self._aligned, len(raw), (raw.shape[1], raw.shape[2]))
        self._series = series
        self._raw = raw
        self._binning = binning
        self._geometry = geometry
        self._order = series.tilt_order()

    @property
    def geometry(self) -> ViewGeometry:
        """The alignment in use."""
        return self._geometry

    def align(self, geometry: ViewGeometry) -> None:
        """Use another geometry from now on."""
        self._geometry = geometry
        self.clear()

    def _aligned(self, view: int) -> NDArray[np.float32]:
        matrix = aligned_to_raw(
            self._geometry,
            int(self._order[view]),
            self._series.pixel_size_angst,
            self._series.image_shape_yx,
            binning=self._binning,
        )
        return aligned_view(self._raw.image(view), matrix)
