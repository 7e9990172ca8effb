"""One aligned view on demand: shifts, in-plane rotation and magnification taken out of an image.

An aligned view shows the tilted specimen with its tilt axis upright through the centre, as reconstruction programs
want it. A pixel of it lies at ``w`` (y, x; from the centre), the image has the same thing at::

    u = m R(z_rot) w + shift        R: rotation in the image plane, see `napari_tiltalign.geometry`
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.transform import warp

from napari_tiltalign.geometry import FloatArray, ViewGeometry

Image = NDArray[np.float32]


def aligned_to_raw(
    geometry: ViewGeometry,
    view: int,
    pixel_size_angst: float,
    image_shape_yx: tuple[int, int],
    aligned_shape_yx: tuple[int, int] | None = None,
    binning: int = 1,
) -> FloatArray:
    """Matrix that takes pixel indices of an aligned view to those of the raw image.

    Parameters
    ----------
    geometry, view
        The alignment and which of its images.
    pixel_size_angst, image_shape_yx
        Of the full raw image, not of the binned one.
    aligned_shape_yx
        Size of the aligned view in full pixels; None for that of the raw image.
    binning
        How much both images are binned (`images.prepare.bin_image`).

    Returns
    -------
    FloatArray
        Shape (3, 3): ``raw = matrix @ (y, x, 1)``, with indices of the binned images.
    """
    angle = np.deg2rad(geometry.z_rot_deg[view])
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.eye(3)
    matrix[:2, :2] = geometry.magnification[view] * np.array([[cosine, sine], [-sine, cosine]])
    raw_centre = centre_index(image_shape_yx, binning)
    aligned_centre = centre_index(aligned_shape_yx or image_shape_yx, binning)
    shift_px = geometry.shift_yx_angst[view] / (pixel_size_angst * binning)
    matrix[:2, 2] = raw_centre + shift_px - matrix[:2, :2] @ aligned_centre
    return matrix


def aligned_view(image: Image, matrix: FloatArray, aligned_shape_yx: tuple[int, int] | None = None) -> Image:
    """Resample an image (linear interpolation).

    Parameters
    ----------
    image
        Raw image, shape (y, x).
    matrix
        From `aligned_to_raw`.
    aligned_shape_yx
        Size of the result; None for that of the image.

    Returns
    -------
    Image
        NaN where the raw image shows nothing.
    """
    swapped = matrix[np.ix_([1, 0, 2], [1, 0, 2])]  # skimage counts (x, y)
    writable = np.require(image, requirements=["C", "W"])  # scikit-image refuses others, though it writes nothing
    resampled: Image = warp(  # type: ignore[no-untyped-call]
        writable, swapped, output_shape=aligned_shape_yx, order=1, cval=np.nan, preserve_range=True
    ).astype(np.float32, copy=False)
    return resampled


def map_positions(matrix: FloatArray, positions_yx_px: FloatArray) -> FloatArray:
    """Apply a (3, 3) matrix of `aligned_to_raw`, or its inverse, to positions of shape (..., 2)."""
    mapped: FloatArray = positions_yx_px @ matrix[:2, :2].T + matrix[:2, 2]
    return mapped


def centre_index(shape_yx: tuple[int, int], binning: int) -> FloatArray:
    """Index of the image centre (N // 2 of the full image) in a binned image."""
    centre: FloatArray = (np.array(shape_yx) // 2 + 0.5) / binning - 0.5
    return centre
