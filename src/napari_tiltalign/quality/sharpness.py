"""How sharp a reconstruction is: the excess kurtosis of its voxels, box by box.

Where views are brought together correctly, structures are concentrated into few voxels of strong contrast; where they
are not, they are smeared into many of weak contrast, which look like noise. The kurtosis tells one from the other
without knowing what the structures are. It compares reconstructions of one series only.
"""

from __future__ import annotations

import numba
import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.project import Volume

BOX_VOXELS = 32
"""Edge of a box across the beam; along it, a box has the whole height."""


def box_kurtosis(volume: Volume, box: int = BOX_VOXELS) -> FloatArray:
    """Excess kurtosis of the voxels of every box; 0 for Gaussian noise.

    Parameters
    ----------
    volume
        Shape (z, y, x). What does not fill a box at the far edges is not counted.
    box
        Edge of a box along y and x, voxels; a volume smaller than a box is one.

    Returns
    -------
    FloatArray
        Shape (boxes along y, boxes along x); NaN for an empty box.
    """
    edge_y, edge_x = (min(box, size) for size in volume.shape[1:])
    result = np.empty((volume.shape[1] // edge_y, volume.shape[2] // edge_x))

    def row(index: int) -> None:
        _row_of_boxes(volume, index * edge_y, edge_y, edge_x, result[index])

    map_views(row, range(len(result)))
    return result


@numba.njit(nogil=True, cache=True)
def _row_of_boxes(volume, first, edge_y, edge_x, result):  # type: ignore[no-untyped-def]
    """Fill one row of boxes; sums of a line are small enough for single precision, the total is not."""
    for column in range(result.size):
        count, total, second, third, fourth = 0, 0.0, 0.0, 0.0, 0.0
        for layer in range(volume.shape[0]):
            for line in range(first, first + edge_y):
                voxels = volume[layer, line, column * edge_x : (column + 1) * edge_x]
                a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                for value in voxels:
                    square = value * value
                    a += value
                    b += square
                    c += square * value
                    d += square * square
                total += float(a)
                second += float(b)
                third += float(c)
                fourth += float(d)
                count += edge_x
        mean = total / count
        variance = second / count - mean**2
        if variance <= 1e-12 * second / count or second == 0.0:
            result[column] = np.nan
            continue
        moment = fourth / count - 4 * mean * third / count + 6 * mean**2 * second / count - 3 * mean**4
        result[column] = moment / variance**2 - 3.0
