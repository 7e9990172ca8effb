"""Where patches lie: a grid in the specimen plane, of patches that enough views show whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry

WINDOW = 2.0
"""Full width of the window of a patch over the size of the patch: it fades out smoothly and is half as high there."""

_MARGIN = 0.32
"""How far inside a view the middle of a patch must lie, parts of its window; the rest of the energy is small."""

_LEAST_SHARE = 0.3
"""A patch is used if so many of the views show it: at high tilt they show more of the specimen."""


def patch_grid(
    geometry: ViewGeometry,
    field_yx_angst: FloatArray,
    window_angst: float,
    spacing_angst: float,
    allowed: Callable[[FloatArray], NDArray[np.bool_]] = lambda points: np.ones(len(points), bool),
) -> FloatArray:
    """Middles of patches at height 0, shape (p, 3): of four places of the grid the one that holds most.

    Parameters
    ----------
    geometry
        Of the n views.
    field_yx_angst
        Size of the images.
    window_angst, spacing_angst
        Full width of the window, and distance of neighbours.
    allowed
        Given middles, shape (p, 3), tells which patches may be used.
    """
    reach = float(np.hypot(*field_yx_angst)) / 2
    steps = np.arange(-int(reach / spacing_angst) - 1, int(reach / spacing_angst) + 2) * spacing_angst
    best = np.zeros((0, 3))
    for begin in np.ndindex(2, 2):
        y, x = np.meshgrid(*(steps + 0.5 * spacing_angst * b for b in begin), indexing="ij")
        points = np.column_stack([np.zeros(y.size), y.ravel(), x.ravel()])
        inside = (np.abs(geometry.project(points)) < field_yx_angst / 2 - _MARGIN * window_angst).all(axis=2)
        kept = points[(inside.mean(axis=0) >= _LEAST_SHARE) & allowed(points)]
        if len(kept) > len(best):
            best = kept
    return best


def redundancy(window_angst: float, spacing_angst: float) -> float:
    """How many patches of a grid tell as much as one alone: the sum of the correlations of their errors.

    The errors of two displacements measured in Hann windows correlate like the windows' energies.
    """
    profile = np.sin(np.pi * (np.arange(256) + 0.5) / 256) ** 4
    correlation = np.correlate(profile, profile, "full")[255:] / float(profile @ profile)
    lags = np.arange(1, int(window_angst / spacing_angst) + 1) * spacing_angst / window_angst * 256
    along = 1.0 + 2.0 * float(np.interp(lags, np.arange(256), correlation, right=0.0).sum())
    return along**2
