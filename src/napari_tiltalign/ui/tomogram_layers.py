"""Sections of the small tomogram beside the images, with the slab that was found, and what was followed, in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Layer, Points, Vectors
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.preview import Preview
from napari_tiltalign.ui.bead_table import follows_areas
from napari_tiltalign.ui.height_overlay import height_colours, heights_nm
from napari_tiltalign.ui.layer_data import AXIS_LABELS, METADATA_KEY, UNITS, contrast_limits
from napari_tiltalign.ui.layers import Layers
from napari_tiltalign.ui.own_layers import ROLE_KEY, insert_quietly

SECTION_XY, SECTION_XZ, SLAB, HEIGHTS_XZ = "tomogram XY", "tomogram XZ", "slab", "heights XZ"
"""Roles and names of the layers."""

SLAB_COLOUR = "#ffd23f"
_MARK_PX = 7.0
_APART = 0.03
"""Space between images and sections, part of the field."""


class TomogramLayers:
    """Shows the tomogram of the alignment in use, if one was made.

    Parameters
    ----------
    layers
        Layers of the viewer. This object must be kept alive as long as they are used.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._session = layers.session
        self._shown: Preview | None = None
        for signal in (self._session.judged.changed, self._session.alignment_changed, self._session.series_changed):
            signal.connect(self.refresh)

    def refresh(self) -> None:
        """Show the tomogram that there is now."""
        series, tomogram = self._session.series, self._session.judged.tomogram_of(self._session.alignment)
        if tomogram is self._shown and (tomogram is None or self._layers.layer(SECTION_XY) is not None):
            return
        self._shown = tomogram
        viewer = self._layers.viewer
        for role in (SECTION_XY, SECTION_XZ, SLAB, HEIGHTS_XZ):
            layer = self._layers.layer(role)
            if layer is not None:
                viewer.layers.remove(layer)
        alignment = self._session.alignment
        if tomogram is None or series is None or alignment is None:
            return
        for layer in tomogram_layers(series, alignment, tomogram):
            layer.metadata.update({METADATA_KEY: series})
            insert_quietly(viewer, layer, 0)
        viewer.reset_view()


def tomogram_layers(series: TiltSeries, alignment: Alignment, tomogram: Preview) -> list[Layer]:
    """Layers of the sections, to the right of the images of a series, xz below xy; the topmost first.

    The slab and the heights of beads, patches or tiles are drawn over the xz section.
    """
    sections, voxel = tomogram.slices(), tomogram.grid.voxel_angst
    field = np.array(series.image_shape_yx) * series.pixel_size_angst
    space = _APART * float(field.max())
    corner = np.array([0.0, field[1] + space])
    below = np.array([sections["xy"].shape[0] * voxel + space, corner[1]])
    slab = Vectors(
        slab_lines(tomogram), name=SLAB, edge_color=SLAB_COLOUR, edge_width=2.0, length=1.0, vector_style="line",
        **_placed(below, voxel), metadata={ROLE_KEY: SLAB},
    )  # fmt: skip
    return [
        *_heights(alignment, tomogram, below),
        slab,
        _section(SECTION_XZ, sections["xz"], below, voxel),
        _section(SECTION_XY, sections["xy"], corner, voxel),
    ]


def slab_lines(tomogram: Preview) -> FloatArray:
    """Two lines in the xz section, its lower and upper face: shape (2, 2, 2), start and difference, (z, x) voxels."""
    edges = tomogram.slab_edges_voxels()
    width = tomogram.volume.shape[2] - 1
    return np.array([[(first, 0.0), (last - first, float(width))] for first, last in edges.T])


def points_in_section(alignment: Alignment, tomogram: Preview) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Where tracks lie in the xz section, whatever their y: (z, x) in voxels, shape (p, 2), and which are in it."""
    points = alignment.tracks.points_zyx_angst if alignment.tracks is not None else np.zeros((0, 3))
    if tomogram.levelled:
        points = tomogram.slab.levelling().inverse().apply(points)
    index = tomogram.grid.index_of(points)
    inside = ((index >= 0) & (index <= np.array(tomogram.volume.shape) - 1)).all(axis=1)
    return index[:, [0, 2]], np.asarray(inside)


def _heights(alignment: Alignment, tomogram: Preview, corner_yx: FloatArray) -> list[Layer]:
    """The layer of what is followed, seen from the side; none where there are no tracks."""
    place, inside = points_in_section(alignment, tomogram)
    if alignment.tracks is None or not inside.any():
        return []
    heights = heights_nm(alignment)
    return [
        Points(
            place[inside], name=HEIGHTS_XZ, symbol="square" if follows_areas(alignment) else "disc", size=_MARK_PX,
            face_color=height_colours(heights)[inside], border_color="black", border_width=0.1,
            features=pd.DataFrame(
                {"track_id": alignment.tracks.track_ids[inside], "height_nm": heights[inside].round(1)}
            ),
            **_placed(corner_yx, tomogram.grid.voxel_angst), metadata={ROLE_KEY: HEIGHTS_XZ},
        )
    ]  # fmt: skip


def _section(name: str, pixels: NDArray[np.float32], corner_yx: FloatArray, voxel: float) -> Image:
    return Image(
        pixels, name=name, colormap="gray", contrast_limits=contrast_limits(pixels), **_placed(corner_yx, voxel),
        metadata={ROLE_KEY: name},
    )  # fmt: skip


def _placed(corner_yx: FloatArray, voxel: float) -> dict[str, Any]:
    return {
        "scale": (voxel, voxel),
        "translate": tuple(corner_yx),
        "units": UNITS[1:],
        "axis_labels": AXIS_LABELS[1:],
    }
