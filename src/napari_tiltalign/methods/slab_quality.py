"""How good a fitted slab is, without a truth: every view predicted from the others."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.slab_fit import SlabFit
from napari_tiltalign.methods.slab_model import residuals


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
    ``H^-1 times its score`` (infinitesimal jackknife, Jaeckel 1972), and the products of that add up. Where priors
    decide more than tiles the posterior's own variance is larger, and holds: with ``H^-1 = L L'`` and the eigenvalues
    and vectors of the disagreement seen in its units, ``L^-1 S L'^-1 = U D U'``, it is ``L U max(D, 1) U' L'``.
    """
    size = fit.pose.views.size
    covariance = fit.covariance()
    moves = fit.scores @ covariance[:size, :size] + fit.height_scores[:, None] * covariance[size:, :size]
    moves = moves[np.abs(fit.scores).sum(axis=1) > 0]
    moves = moves - moves.mean(axis=0)
    own = covariance[:size, :size]
    unit = np.sqrt(np.diag(own))
    lower = np.linalg.cholesky(own / np.outer(unit, unit)) * unit[:, None]
    seen = np.linalg.solve(lower, moves.T)
    values, vectors = np.linalg.eigh(seen @ seen.T * len(moves) / max(len(moves) - 1, 1))
    root = lower @ vectors * np.sqrt(np.maximum(values, 1.0))
    larger: FloatArray = root @ root.T
    return larger
