"""Which observations hang together, so that a bundle adjustment of them has one answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def tied_together(
    view: NDArray[np.int64], point: NDArray[np.int64], *, least_per_view: int, least_per_point: int
) -> NDArray[np.bool_]:
    """Find the largest group of observations that can be solved together.

    In the group every view sees enough points, every point is seen in enough views, and a chain of views with common
    points leads from each view to any other. Without that the shift of one part against the rest could be anything.

    Parameters
    ----------
    view, point
        Shape (k,): which view sees which point.
    least_per_view, least_per_point
        How many observations a view and a point need.

    Returns
    -------
    NDArray
        Shape (k,): which observations belong to the group.
    """
    kept = np.ones(len(view), dtype=bool)
    while kept.any():
        enough = np.bincount(view[kept])[view[kept]] >= least_per_view
        enough &= np.bincount(point[kept])[point[kept]] >= least_per_point
        part = _part(view[kept], point[kept])
        stays = enough & (part == np.bincount(part).argmax())
        if stays.all():
            break
        kept[np.flatnonzero(kept)[~stays]] = False
    return kept


def _part(view: NDArray[np.int64], point: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the connected part that every observation belongs to."""
    n = int(view.max()) + 1
    size = n + int(point.max()) + 1
    links = coo_array((np.ones(len(view)), (view, n + point)), shape=(size, size))
    labels: NDArray[np.int64] = connected_components(links, directed=False)[1][view]
    return labels
