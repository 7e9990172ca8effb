"""What a format cannot hold, and how much that matters in the image."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.model import Alignment, LocalMotion

SLAB_THICKNESS_ANGST = 2000.0
"""Thickness of the slab over which losses are measured: 200 nm, a usual lamella."""

NEGLIGIBLE_PX = 0.01
"""Displacements below this are not worth a word."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Something of an alignment that a written file does not hold.

    Attributes
    ----------
    what
        What is lost: ``magnification``, ``tracks``, ``local motion``.
    size_angst
        Largest displacement in an image that this causes, Angstrom, over a slab of 200 nm that fills the field;
        NaN if the loss is not one of geometry.
    detail
        What exactly, and where it is kept or what to do.
    """

    what: str
    size_angst: float
    detail: str

    def __str__(self) -> str:
        size = "" if math.isnan(self.size_angst) else f" (up to {self.size_angst:.3g} Angstrom)"
        return f"{self.what}{size}: {self.detail}"


def slab_points_zyx_angst(
    image_shape_yx: tuple[int, int], pixel_size_angst: float, thickness_angst: float = SLAB_THICKNESS_ANGST
) -> FloatArray:
    """Corners, edges and centres of a slab as large as the image, shape (27, 3), about the rotation centre."""
    half = 0.5 * np.array([thickness_angst, *(n * pixel_size_angst for n in image_shape_yx)])
    return np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3))) * half


def worst_displacement_angst(alignment: Alignment, kept: ViewGeometry) -> float:
    """How far `kept` puts a point of the slab from where the alignment's geometry puts it, at worst.

    Parameters
    ----------
    alignment
        The true one, n images.
    kept
        What is left of its geometry, n images.

    Returns
    -------
    float
        Angstrom; over the images that took part, or all if none did.
    """
    points = slab_points_zyx_angst(alignment.image_shape_yx, alignment.pixel_size_angst)
    chosen = alignment.included if alignment.included.any() else np.ones(len(alignment), dtype=bool)
    if not chosen.size:
        return 0.0
    apart = kept.take(chosen).project(points) - alignment.geometry.take(chosen).project(points)
    return float(np.linalg.norm(apart, axis=-1).max())


def geometry_loss(what: str, alignment: Alignment, kept: ViewGeometry, detail: str) -> tuple[Loss, ...]:
    """Return the loss of geometry if it is more than `NEGLIGIBLE_PX`, otherwise nothing."""
    size = worst_displacement_angst(alignment, kept)
    return (Loss(what, size, detail),) if size > NEGLIGIBLE_PX * alignment.pixel_size_angst else ()


def unit_magnification_geometry(alignment: Alignment) -> ViewGeometry:
    """Return the geometry for a format without magnification, such as RELION's STAR: all magnifications are 1.

    It is the one that the method solved for that purpose, if it did. Otherwise magnifications are set to 1 and nothing
    else changes: bending the tilts to make up for them would spoil the third dimension.
    """
    geometry = alignment.star_geometry
    return geometry.replace(magnification=np.ones(len(geometry)))


def magnification_loss(alignment: Alignment) -> tuple[Loss, ...]:
    """Return what is lost where `unit_magnification_geometry` is written."""
    magnification = alignment.geometry.magnification[alignment.included]
    if not magnification.size:
        return ()
    detail = (
        f"magnifications of {magnification.min():.5f} to {magnification.max():.5f} are written as 1; their mean of "
        f"{magnification.mean():.5f} only scales the specimen; alignment.json keeps them"
    )
    return geometry_loss("magnification", alignment, unit_magnification_geometry(alignment), detail)


def unwritten_losses(alignment: Alignment, exclusions: str = "") -> tuple[Loss, ...]:
    """Return what a format that only holds geometry leaves out.

    Parameters
    ----------
    alignment
        What is written.
    exclusions
        What becomes of images that took no part; empty if the format marks them.
    """
    losses: list[Loss] = []
    if alignment.tracks is not None:
        n = alignment.tracks.n_tracks
        losses.append(Loss("tracks", math.nan, f"{n} tracks with their 3D points are kept in alignment.json only"))
    if alignment.local_motion is not None:
        losses.append(_local_motion_loss(alignment, alignment.local_motion))
    if alignment.uncertainty is not None:
        losses.append(Loss("uncertainty", math.nan, "standard deviations are kept in alignment.json only"))
    n_excluded = int((~alignment.included).sum())
    if n_excluded and exclusions:
        losses.append(Loss("exclusions", math.nan, f"{n_excluded} images that took no part {exclusions}"))
    return tuple(losses)


def _local_motion_loss(alignment: Alignment, motion: LocalMotion) -> Loss:
    points = slab_points_zyx_angst(alignment.image_shape_yx, alignment.pixel_size_angst)
    used = np.flatnonzero(alignment.included)
    places = np.concatenate([points, motion.support_zyx_angst])
    moved = [np.linalg.norm(motion.displacement_yx_angst(places, i), axis=1).max() for i in used]
    detail = f"motion of the specimen in itself since {motion.reference_tilt_id} is kept in alignment.json only"
    return Loss("local motion", float(max(moved, default=0.0)), detail)
