"""How good a fitted slab is, without a truth: every view predicted from the others."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.projection import LOG_MAGNIFICATION, N_VIEW_PARAMETERS, SHIFT_Y, TILT, view_matrices
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


def view_sd(fit: SlabFit) -> FloatArray:
    """Standard deviations of the view parameters, shape (n, 5): degrees, log magnification, Angstrom.

    What one tile says is not independent over views: its content is no uniform density, and its middle wanders through
    the depth of the slab with the tilt. So how far tiles disagree decides: a tile moves the solution by
    ``H^-1 times its score`` (infinitesimal jackknife, Jaeckel 1972), and the squares of that add up. Where priors
    decide more than tiles the posterior's own variance is larger, and holds.

    What the specimen as a whole may do is not counted: displacements, a turn about the tilt axis, a change of size.
    """
    n = len(fit.pose.views)
    size = n * N_VIEW_PARAMETERS
    covariance = fit.covariance()
    moves = fit.scores @ covariance[:size, :size] + fit.height_scores[:, None] * covariance[size:, :size]
    used = np.abs(fit.scores).sum(axis=1) > 0
    moves = moves[used] - moves[used].mean(axis=0)
    relative = _without_common_motion(fit, n)
    count = max(int(used.sum()), 2)
    disagreement = np.square(moves @ relative.T).sum(axis=0) * count / (count - 1)
    posterior = np.einsum("ij,jk,ik->i", relative, covariance[:size, :size], relative, optimize=True)
    sd: FloatArray = np.sqrt(np.maximum(np.maximum(disagreement, posterior), 0.0)).reshape(n, N_VIEW_PARAMETERS)
    return sd


def _without_common_motion(fit: SlabFit, n: int) -> FloatArray:
    """Projector (5 n, 5 n) that takes common motions of the specimen out of changes of view parameters."""
    matrices = view_matrices(fit.pose.views, fit.pose.x_tilts_deg)
    common = []
    for axis in range(3):
        displaced = np.zeros((n, N_VIEW_PARAMETERS))
        displaced[:, SHIFT_Y:] = matrices[:, :, axis]
        common.append(displaced.ravel())
    for kind in (TILT, LOG_MAGNIFICATION):
        turned = np.zeros((n, N_VIEW_PARAMETERS))
        turned[:, kind] = 1.0
        common.append(turned.ravel())
    basis = np.linalg.qr(np.array(common).T).Q
    projector: FloatArray = np.eye(n * N_VIEW_PARAMETERS) - basis @ basis.T
    return projector
