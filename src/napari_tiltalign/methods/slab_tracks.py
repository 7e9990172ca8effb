"""The tiles of a fitted slab as tracks: where every view has a tile, and at which height it lies.

With all other views as they are, the energy of a tile is least where a view is displaced by ``-F^-1 g``: g is the
gradient by that displacement and F its expected second derivative (one step of Fisher scoring). So what is left in a
view is seen tile by tile: local motion, a tile on another layer than its neighbours, or nothing but noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, RigidMotion, ViewGeometry, rotation_x, rotation_y
from napari_tiltalign.methods.slab_fit import SlabFit, Weights
from napari_tiltalign.methods.slab_model import Precision, evidence
from napari_tiltalign.methods.slab_tiles import TileSpectra, plane_matrices
from napari_tiltalign.model import REJECTION_REASONS, State, TiltSeries, Tracks

_FARTHEST = 0.5
"""Displacements beyond this part of the finest structure are not believed: a step knows only the nearest minimum."""
_MEDIAN_CHI_SQUARE = 2.0 * np.log(2.0)
"""Of the square of a normal error in two dimensions, in units of its variance."""


@dataclass(frozen=True, slots=True, eq=False)
class Displacements:
    """Where views have tiles, against where the slab has them; NaN where a view is not used for a tile.

    Attributes
    ----------
    plane_yx_angst
        Shape (p, n, 2): measured less predicted, in the specimen plane.
    sd_angst
        Shape (p, n): standard deviation of a coordinate, such that the displacements have the spread they have.
    weight
        Shape (p,): how far a tile is believed, at most 1.
    """

    plane_yx_angst: FloatArray
    sd_angst: FloatArray
    weight: FloatArray


def displacements(spectra: TileSpectra, found: list[Precision]) -> Displacements:
    """Measure every tile in every view against what the other views say of it."""
    told = evidence(spectra, found)
    weights = Weights.of(told, found)
    _, n, p = spectra.values.shape
    moved, variance, chi_square = np.full((p, n, 2), np.nan), np.full((p, n), np.nan), np.full((p, n), np.nan)
    for one in found:
        tiles, views = one.block.tiles, one.block.views
        own = one.fisher[np.arange(len(views)), np.arange(len(views))]
        information = weights.curvature[tiles, None, None, None] * own
        inverse = np.linalg.inv(information)
        gradient = told.gradient_yx[np.ix_(tiles, views)]
        step = -np.einsum("pnab,pnb->pna", inverse, gradient)
        at = np.ix_(tiles, views)
        moved[at], variance[at] = step, 0.5 * np.trace(inverse, axis1=2, axis2=3)
        chi_square[at] = np.einsum("pna,pnab,pnb->pn", step, information, step)
    known = chi_square[np.isfinite(chi_square)]
    scale = float(np.median(known)) / _MEDIAN_CHI_SQUARE if known.size else 1.0
    return Displacements(moved, np.sqrt(variance * scale), weights.weight)


def tile_tracks(
    fit: SlabFit, fitted: NDArray[np.intp], series: TiltSeries, geometry: ViewGeometry, turned_deg: float
) -> Tracks:
    """Return the tiles as tracks.

    Parameters
    ----------
    fit
        The last pass.
    fitted
        Index in the series of every view of the fit.
    series
        What was aligned.
    geometry
        The result, for all images of the series.
    turned_deg
        By how much its tilts exceed those of the fit.

    Returns
    -------
    Tracks
        One for every tile that is used, with its height as z. Where the displacement is larger than can be believed, it
        is listed as moved and not used.
    """
    found = displacements(fit.spectra, fit.found)
    tile, view = np.nonzero(np.isfinite(found.sd_angst))
    kept, tile = np.unique(tile, return_inverse=True)
    pose, image = fit.pose, fitted[view]
    turn = rotation_x(-pose.x_tilt_deg) @ rotation_y(-turned_deg) @ rotation_x(pose.x_tilt_deg)
    points = RigidMotion(turn, np.zeros(3)).apply(fit.centres_zyx[kept])
    to_image = np.linalg.inv(plane_matrices(pose.views, pose.x_tilt_deg)[0])
    plane = found.plane_yx_angst[kept[tile], view]
    pixel = series.pixel_size_angst
    left_px = np.einsum("kab,kb->ka", to_image[view], plane) / pixel
    position = geometry.project(points)[image, tile] / pixel + np.array(series.image_shape_yx) // 2 + left_px
    far = np.linalg.norm(plane, axis=1) > _FARTHEST * fit.spectra.scale.finest_angst
    stretch = np.sqrt(np.square(to_image[view]).sum(axis=(1, 2)) / 2.0)
    tracks = Tracks.from_observations(series.tilt_ids, points, tile, image, position)
    return tracks.replace(
        sd_px=found.sd_angst[kept[tile], view] * stretch / pixel,
        weight=np.where(far, 0.0, found.weight[kept[tile]]),
        state=np.where(far, int(State.REJECTED), int(State.MEASURED)),
        reason=np.where(far, REJECTION_REASONS.index("moved"), 0),
        residual_yx_px=left_px,
        leave_out_yx_px=left_px,  # a view is compared with what the others say of it
    )
