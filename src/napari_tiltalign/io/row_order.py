"""Which image a line of a result file belongs to, found by tilt angle: section numbers cannot be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray

LARGEST_TILT_CHANGE_DEG = 5.0
"""How far an alignment may change a tilt relative to the others and still be one of the same series."""


def tilts_of_lines(line_tilt_deg: FloatArray, nominal_tilt_deg: FloatArray) -> NDArray[np.intp] | None:
    """Find out whether lines stand in the order of the input or by ascending tilt.

    Parameters
    ----------
    line_tilt_deg
        Shape (n,): tilts as listed; a common offset to the nominal ones is allowed.
    nominal_tilt_deg
        Shape (n,): nominal tilts in the order of the input.

    Returns
    -------
    indices
        Shape (n,): position in the input of each line, the order that fits better; the input's own if both do.
        None if neither fits.
    """
    best: NDArray[np.intp] | None = None
    smallest = np.inf
    for order in (np.arange(nominal_tilt_deg.size), np.argsort(nominal_tilt_deg, kind="stable")):
        change = line_tilt_deg - nominal_tilt_deg[order]
        apart = np.abs(change - np.median(change))
        if apart.max() <= LARGEST_TILT_CHANGE_DEG and apart.sum() < smallest:
            best, smallest = order, apart.sum()
    return best
