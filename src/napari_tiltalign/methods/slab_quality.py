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
