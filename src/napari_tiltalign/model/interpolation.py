"""The geometry of images that no alignment covers, interpolated from their neighbours in tilt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry


def interpolate_geometry(geometry: ViewGeometry, known: ArrayLike, nominal_tilt_deg: ArrayLike) -> ViewGeometry:
    """Replace the geometry of some images by interpolation between those that are known.

    Parameters
    ----------
    geometry
        Geometry of n images; where it is not known the values do not matter.
    known
        Shape (n,), bool: which images keep theirs.
    nominal_tilt_deg
        Shape (n,), degrees, any order: what the interpolation runs along. The tilt itself is interpolated as its
        difference to this one. Beyond the ends the outermost known image is continued.

    Raises
    ------
    ValueError
        If no image is known.
    """
    sure: NDArray[np.bool_] = np.asarray(known, dtype=bool)
    nominal = np.asarray(nominal_tilt_deg, dtype=np.float64)
    if not sure.any():
        raise ValueError("no image has a known geometry to interpolate from")
    if sure.all():
        return geometry

    def fill(values: FloatArray) -> FloatArray:
        filled = np.where(sure, values, _at(nominal, nominal[sure], values[sure]))
        return filled

    tilt_change = fill(geometry.y_tilt_deg - nominal)
    return ViewGeometry(
        x_tilt_deg=fill(geometry.x_tilt_deg),
        y_tilt_deg=np.where(sure, geometry.y_tilt_deg, nominal + tilt_change),
        z_rot_deg=np.where(sure, geometry.z_rot_deg, fill(_near_first_known(geometry.z_rot_deg, sure))),
        shift_yx_angst=np.column_stack([fill(component) for component in geometry.shift_yx_angst.T]),
        magnification=fill(geometry.magnification),
    )


def _at(wanted: FloatArray, tilt_deg: FloatArray, values: FloatArray) -> FloatArray:
    """Linear interpolation; images of equal tilt count with their mean."""
    tilts, group = np.unique(tilt_deg, return_inverse=True)
    means = np.bincount(group, weights=values) / np.bincount(group)
    return np.interp(wanted, tilts, means)


def _near_first_known(angle_deg: FloatArray, sure: NDArray[np.bool_]) -> FloatArray:
    """Bring angles to the same side of the +-180 seam as the first known one."""
    reference = angle_deg[sure][0]
    near: FloatArray = reference + (angle_deg - reference + 180.0) % 360.0 - 180.0
    return near
