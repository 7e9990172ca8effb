"""How good a fitted slab is, without a truth: every view predicted from the others."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.slab_fit import SlabFit
from napari_tiltalign.methods.slab_model import residuals
from napari_tiltalign.methods.slab_pose import prior_terms

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
    the depth of the slab with the tilt. So how far tiles disagree decides: a tile moves the solution by
    ``H^-1 times its score`` (infinitesimal jackknife, Jaeckel 1972), and the products of that add up to J. Parameters
    differ from what the priors expect by P^-1, with P the Hessian of the priors, and are drawn there by ``H^-1 P``.
    Together that is the variance of a regularised estimate, ``J + H^-1 P H^-1`` (Huber 1967, with a prior); it is the
    posterior's own where tiles disagree as much as the likelihood expects.
    """
    size = fit.pose.views.size
    covariance = fit.covariance()
    moves = fit.scores @ covariance[:size, :size] + fit.height_scores[:, None] * covariance[size:, :size]
    moves = moves[np.abs(fit.scores).sum(axis=1) > 0]
    moves = moves - moves.mean(axis=0)
    of_others = len(moves) / max(len(moves) - 1, 1)  # a tile draws the solution, and its own score towards zero
    disagreement = _TOLD_TWICE * of_others**2 * moves.T @ moves
    prior_hessian, _ = prior_terms(fit.pose, fit.centres_zyx, fit.priors)
    drawn = (covariance @ prior_hessian @ covariance)[:size, :size]
    total: FloatArray = disagreement + drawn
    return total
