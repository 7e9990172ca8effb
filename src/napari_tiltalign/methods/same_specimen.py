"""Whether the views of a series show one specimen that tilts, before anything is made of them.

Two things look like a specimen to a correlation and are none. Views of different specimens, or of nothing, agree with
few others by chance. And one picture that is the same in every view (a pattern of the camera, copies of an image)
agrees with all of them, better than any specimen: but it does not tilt. Stretched as the tilts say, a specimen agrees
about twice as well as unstretched; a picture agrees best unstretched.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.methods.flat_series import Level
from napari_tiltalign.methods.pair_graph import find_shifts, score_orientations

LEAST_SHARE = 1.0 / 3.0
"""Fewer of the usable views than this, and it is by chance that these agree."""

_STILL = 1.2
"""A picture is taken to stand still where it agrees so many times better unstretched.

In simulated series and a real one specimens have 0.35 to 0.6, pictures that stand still 1.4 to 1.7.
"""


def check_enough(tied: NDArray[np.bool_], usable: NDArray[np.bool_], least_views: int) -> None:
    """Refuse a series of which too few views show the same.

    Parameters
    ----------
    tied, usable
        Shape (n,): views that look like each other, and those that could.
    least_views
        How many views the method needs.

    Raises
    ------
    MethodFailed
        With what can be done.
    """
    found, needed = int((tied & usable).sum()), max(least_views, int(np.ceil(LEAST_SHARE * usable.sum())))
    if found < needed:
        raise MethodFailed(
            f"only {found} of {usable.sum()} views look like each other when correlated, {needed} are needed; exclude "
            "bad views, check the tilt angles and the tilt axis (--axis), or give an alignment to start from (--start)"
        )


def check_not_still(level: Level, geometry: ViewGeometry, thickness_angst: float) -> None:
    """Refuse a series whose views agree best as one picture that does not tilt.

    Parameters
    ----------
    level
        From `pair_graph.coarse_level`.
    geometry
        Of its views in order of tilt, with shifts found.
    thickness_angst
        Thickness of the specimen.

    Raises
    ------
    MethodFailed
        With what may be wrong.
    """
    still = geometry.replace(y_tilt_deg=np.zeros(len(geometry)), x_tilt_deg=np.zeros(len(geometry)))
    still = find_shifts(
        level, still.replace(shift_yx_angst=np.zeros_like(still.shift_yx_angst)), 0.0, rounds=2
    ).geometry
    tilting, standing = (_agreement(level, of, thickness_angst) for of in (geometry, still))
    if standing > _STILL * max(tilting, 0.0):
        raise MethodFailed(
            f"the views agree {standing / max(tilting, 1e-9):.1f} times better as one picture that does not tilt than "
            "as a specimen that does: a pattern of the camera, or copies of one image; or tilt angles or the tilt axis "
            "(--axis) are far off"
        )


def _agreement(level: Level, geometry: ViewGeometry, thickness_angst: float) -> float:
    nothing: FloatArray = np.zeros(1)
    scores = score_orientations(level, geometry, thickness_angst, tilt_offsets_deg=nothing, turns_deg=nothing)
    return float(scores[0])
