"""How good a fitted slab is, without a truth: every view predicted from the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, linearise
from napari_tiltalign.methods.slab_fit import SlabFit
from napari_tiltalign.methods.slab_model import residuals
from napari_tiltalign.methods.slab_pose import prior_terms
from napari_tiltalign.methods.slab_tiles import plane_matrices

_TOLD_TWICE = 1.1
"""Tiles that overlap by half tell a tenth twice (Welch 1967)."""


def prediction(fit: SlabFit) -> FloatArray:
    """Correlation of every view with what the other views predict of it, shape (n,), -1 to 1.

    The prediction of one Gaussian variable from the others is ``y_i - (Q y)_i / Q_ii`` (leave-one-out in closed form).
    It sees errors of a view against the others from about a third of a pixel, and hardly any smooth drift.
    """
    told = residuals(fit.spectra, fit.found)
    n = len(told.predicted_power)
    correlation: FloatArray = told.product / np.sqrt(
        np.maximum(told.predicted_power * told.own_power, np.full(n, 1e-30))
    )
    return correlation


def view_covariance(fit: SlabFit) -> FloatArray:
    """Covariance of the view parameters, shape (5 n, 5 n): degrees, log magnification, Angstrom.

    What one tile says is not independent over views: its content is no uniform density, and its middle wanders through
    the depth of the slab with the tilt. So how far tiles disagree decides: without a tile the solution moves by
    ``(H - H_p)^-1 times its score``, and the products of these moves add up to J (jackknife, Tukey 1958). A tile that
    decides much of a parameter, as those in the corners do of the axis, draws the solution to itself, so its score is
    small; H_p, its own part of the Hessian, makes up for that. Parameters differ from what the priors expect by P^-1,
    with P the Hessian of the priors, and are drawn there by ``H^-1 P``. Together that is the variance of a regularised
    estimate, ``J + H^-1 P H^-1`` (Huber 1967, with a prior); it is the posterior's own where tiles disagree as much as
    the likelihood expects.
    """
    size = fit.pose.views.size
    telling = np.flatnonzero(np.abs(fit.scores).sum(axis=1) > 0)
    moves = moves_without_tiles(fit, telling)[:, :size]
    moves = moves - moves.mean(axis=0)
    left = (len(moves) - 1) / max(len(moves), 1)
    disagreement = _TOLD_TWICE * left * moves.T @ moves
    covariance = fit.covariance()
    prior_hessian, _ = prior_terms(fit.pose, fit.centres_zyx, fit.priors)
    drawn = (covariance @ prior_hessian @ covariance)[:size, :size]
    total: FloatArray = disagreement + drawn
    return total


def moves_without_tiles(fit: SlabFit, tiles: NDArray[np.intp]) -> FloatArray:
    """How far all parameters move if one of some tiles is left out, to first order, shape (tiles, 5 n + p)."""
    size = fit.pose.views.size
    scale = 1.0 / np.sqrt(np.diag(fit.hessian))
    scaled = fit.hessian * np.outer(scale, scale)
    moves = np.zeros((len(tiles), len(scale)))
    for k, (tile, own) in enumerate(zip(tiles.tolist(), tile_hessians(fit, tiles), strict=True)):
        told = np.append(np.arange(size), size + tile)
        score = np.append(fit.scores[tile], fit.height_scores[tile])
        rest = scaled.copy()
        rest[np.ix_(told, told)] -= own * np.outer(scale[told], scale[told])
        right = np.zeros(len(scale))
        right[told] = scale[told] * score
        moves[k] = scale * np.linalg.solve(rest, right)
    return moves


def tile_hessians(fit: SlabFit, tiles: NDArray[np.intp]) -> Iterator[FloatArray]:
    """Parts of the Hessian that are of single tiles, over the view parameters and the tile's own height.

    Yields
    ------
    FloatArray
        Shape (5 n + 1, 5 n + 1). They and the Hessian of the priors add up to that of the fit, but for how far the
        last step has moved the views.
    """
    pose, n = fit.pose, len(fit.pose.views)
    size = n * N_VIEW_PARAMETERS
    inverse, slope = plane_matrices(pose.views, pose.x_tilt_deg)
    by_view = np.einsum("nab,ncpb->npac", inverse, linearise(pose.views, fit.centres_zyx, pose.x_tilts_deg)[1])
    prior_hessian, _ = prior_terms(pose, fit.centres_zyx, fit.priors)
    by_height = np.diag(fit.hessian - prior_hessian)[size:]
    block_of = {tile: one for one in fit.found for tile in one.block.tiles.tolist()}
    for tile in tiles.tolist():
        seen, fisher = block_of[tile].block.views, block_of[tile].fisher
        pull = np.einsum("ijab,jb->ia", fisher, slope[seen])
        # what the height is told says how far the tile was believed
        believed = max(float(by_height[tile]), 0.0) / max(float(np.einsum("ia,ia->", slope[seen], pull)), 1e-30)
        lever = by_view[seen, tile]
        own = (seen[:, None] * N_VIEW_PARAMETERS + np.arange(N_VIEW_PARAMETERS)).ravel()
        of_views = np.einsum("iac,ijab,jbd->icjd", lever, fisher, lever, optimize=True).reshape(len(own), len(own))
        mixed = np.einsum("iac,ia->ic", lever, pull).ravel()
        hessian = np.zeros((size + 1, size + 1))
        hessian[np.ix_(own, own)] = believed * of_views
        hessian[own, size] = hessian[size, own] = believed * mixed
        hessian[size, size] = by_height[tile]
        yield hessian
