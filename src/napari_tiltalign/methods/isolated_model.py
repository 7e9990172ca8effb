"""Predict every view of a specimen in vacuum from the others: regularised reconstruction without the view, projected.

A section across the tilt axis is seen by every view as one row, and all rows by the same matrix A: blobs (Gaussians,
which look the same from all sides) on a grid that fills the disc in which the specimen can be, projected. With blobs of
independent weights the reconstruction of least squares, regularised by lambda, gives the views back as ``S y``,
``S = A (A'A + lambda)^-1 A'``, and without view i it predicts it as (leaving out a block, Cook and Weisberg 1982)::

    prediction_i = y_i - (1 - S_ii)^-1 (y_i - (S y)_i)

lambda is the one under which the views are most likely. No prediction knows the view it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from napari_tiltalign.geometry import FloatArray

Matrix = NDArray[np.float32]

BLOB_SAMPLES = 0.7
"""Standard deviation of a blob, samples."""
_PENALTIES = np.exp(np.linspace(np.log(0.1), np.log(300.0), 7))
_TURN_DEG = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Sections:
    """What n views of m samples tell about each other in a section.

    Attributes
    ----------
    residual
        Shape (n m, n m): 1 - S.
    left_out
        Shape (n, m, m): ``(1 - S_ii)^-1`` of every view.
    reconstruct
        Shape (blobs, n m): from a row of all views to the weights of the blobs.
    by_tilt
        Shape (n m, blobs): how projections change, per degree of tilt.
    penalty
        The lambda chosen.
    """

    residual: Matrix
    left_out: Matrix
    reconstruct: Matrix
    by_tilt: Matrix
    penalty: float

    def residuals(self, rows: Matrix) -> Matrix:
        """Views (n m, rows) less what all views together, the view itself included, say of them."""
        product: Matrix = self.residual @ rows
        return product

    def predictions(self, rows: Matrix, residuals: Matrix) -> Matrix:
        """Every view predicted from the others, shape (n m, rows)."""
        n, m, _ = self.left_out.shape
        predicted: Matrix = rows - (self.left_out @ residuals.reshape(n, m, -1)).reshape(rows.shape)
        return predicted


def sections(tilt_deg: FloatArray, half_width: int, rows: Matrix) -> Sections:
    """Make the matrices for the tilts given.

    Parameters
    ----------
    tilt_deg
        Shape (n,).
    half_width
        The specimen lies within so many samples of the tilt axis, and so wide is a row: m = 2 half_width + 1.
    rows
        Shape (n m, rows): the views, to choose the regularisation by.
    """
    blobs = _disc(half_width)
    matrix = projection(tilt_deg, half_width, blobs)
    normal = matrix.T @ matrix
    seen = matrix.T @ rows
    power = float(np.sum(np.square(rows, dtype=np.float64)))
    scores = [_likelihood(normal, seen, power, rows.size, rows.shape[1], penalty) for penalty in _PENALTIES]
    penalty = float(_PENALTIES[int(np.argmax(scores))])
    lower = cholesky(normal.astype(np.float64) + penalty * np.eye(len(normal)), lower=True)
    half = solve_triangular(lower, matrix.T.astype(np.float64), lower=True).astype(np.float32)
    residual = -(half.T @ half)
    residual[np.diag_indices(len(residual))] += 1.0
    n, m = len(tilt_deg), 2 * half_width + 1
    own = residual.reshape(n, m, n, m)[np.arange(n), :, np.arange(n)]
    turned = [projection(tilt_deg + turn, half_width, blobs) for turn in (-_TURN_DEG, _TURN_DEG)]
    return Sections(
        residual, np.linalg.inv(own), cho_solve((lower, True), matrix.T.astype(np.float64)).astype(np.float32),
        (turned[1] - turned[0]) / np.float32(2.0 * _TURN_DEG), penalty,
    )  # fmt: skip


def projection(tilt_deg: FloatArray, half_width: int, blobs_zx: FloatArray) -> Matrix:
    """Project blobs: shape (n m, blobs); each adds up to 1 in every view that sees it whole."""
    angle = np.deg2rad(tilt_deg)
    places = np.arange(-half_width, half_width + 1)
    seen = np.outer(np.cos(angle), blobs_zx[:, 1]) + np.outer(np.sin(angle), blobs_zx[:, 0])
    apart = (places[None, :, None] - seen[:, None, :]).astype(np.float32)
    weight = np.exp(-0.5 * np.square(apart / np.float32(BLOB_SAMPLES))) / np.float32(BLOB_SAMPLES * np.sqrt(2 * np.pi))
    matrix: Matrix = weight.reshape(-1, len(blobs_zx)).astype(np.float32)
    return matrix


def _disc(half_width: int) -> FloatArray:
    z, x = np.mgrid[-half_width : half_width + 1, -half_width : half_width + 1]
    inside = np.hypot(z, x) <= half_width
    return np.column_stack([z[inside], x[inside]]).astype(np.float64)


def _likelihood(normal: Matrix, seen: Matrix, power: float, n_samples: int, n_rows: int, penalty: float) -> float:
    """Log likelihood of the views for one penalty, with the variance of the noise that suits it best."""
    lower = cholesky(normal.astype(np.float64) + penalty * np.eye(len(normal)), lower=True)
    explained = solve_triangular(lower, seen.astype(np.float64), lower=True)
    left = max(power - float(np.sum(explained**2)), 1e-12 * power + 1e-30)
    log_determinant = 2.0 * float(np.log(np.diag(lower)).sum()) - len(normal) * float(np.log(penalty))
    return -0.5 * (n_samples * float(np.log(left / n_samples)) + n_rows * log_determinant)
