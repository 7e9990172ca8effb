"""Predict every view from the others: regularised reconstruction of a slab without the view, projected along it.

With the views stretched into the specimen plane (`match_plane`), the transforms of all views at one frequency are
linear in the slab. Where a share r^2 of a view's power is structure and the rest noise, they have the covariance::

    K_ij = r_i r_j sinc(T k.(a_i - a_j))   for i != j,     K_ii = 1

and the reconstruction of least squares with the regularisation that suits this noise, made without view i and
projected along view i, is ``-sum_j!=i Q_ij y_j / Q_ii`` with ``Q = K^-1`` (the leave-one-out formula of Gaussian
processes, Dubrule 1983). Its error has the variance ``1 / Q_ii``, which weighs frequencies when the view is matched
to its prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.methods.inverses import inverses
from napari_tiltalign.methods.match_plane import PlaneViews, Spectra, raw_radius
from napari_tiltalign.methods.pair_graph import stretch_matrices

_ROWS_PER_BIN = 4
_RINGS = 24
_MOST_STRUCTURE = 0.65
"""Share of structure is never believed to be higher: the slab is a model."""
_LEAST_OVERLAP = 0.3
_NEIGHBOURS = (1, 2, 3)
_ROUNDS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """How much of the power of n views is structure of the specimen.

    Attributes
    ----------
    ring_width
        Width of a ring in the Fourier transform of the raw images, cycles per Angstrom.
    share
        Shape (rings,): mean share of structure at each distance from zero.
    view_factor
        Shape (n,): relative share of every view, about 1.
    """

    ring_width: float
    share: FloatArray
    view_factor: FloatArray

    def amplitude(self, view: int, radius: FloatArray) -> FloatArray:
        """Square root of the share of structure of a view at raw frequencies, cycles per Angstrom."""
        ring = np.minimum((radius / self.ring_width).astype(np.intp), len(self.share) - 1)
        share = np.clip(self.view_factor[view] * self.share[ring], 0.0, _MOST_STRUCTURE)
        amplitude: FloatArray = np.sqrt(np.where(radius <= self.ring_width * len(self.share), share, 0.0))
        return amplitude


def measure_structure(views: PlaneViews, thickness_angst: float) -> Structure:
    """Measure the share of structure from the products of views that are near in tilt.

    Parameters
    ----------
    views
        The views.
    thickness_angst
        Thickness of the slab.
    """
    n, width = len(views.used), views.highest / _RINGS
    power = np.zeros((n, _RINGS))
    k_y, k_x = views.frequencies()
    matrices, slopes = stretch_matrices(views.geometry), views.slopes()
    weight_x = np.where(np.arange(len(k_x)) == 0, 1.0, 2.0)
    index = np.flatnonzero(views.used)
    rings = {int(i): _ring(raw_radius(matrices[i], k_y, k_x), width) for i in index}

    def power_of(i: int) -> None:
        own = np.square(np.abs(views.spectra[i])) * weight_x
        power[i] = np.bincount(rings[i].ravel(), own.ravel(), _RINGS + 1)[:_RINGS]

    map_views(power_of, index.tolist())
    pairs = [(int(index[k]), int(index[k + s])) for s in _NEIGHBOURS for k in range(len(index) - s)]

    def product_of(pair: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        i, j = pair
        overlap = np.sinc(thickness_angst * (k_x * (slopes[j] - slopes[i])[1]))
        weight = np.where(overlap > _LEAST_OVERLAP, overlap, 0.0) * weight_x
        found = (np.conj(views.spectra[i]) * views.spectra[j]).real * weight
        middle = np.maximum(rings[i], rings[j]).ravel()
        expected = np.sqrt(_per_ring(power[i])[rings[i]] * _per_ring(power[j])[rings[j]]) * (overlap * weight)
        sums = [np.bincount(middle, of.ravel(), _RINGS + 1)[:_RINGS].astype(np.float64) for of in (found, expected)]
        return sums[0], sums[1]

    ones = np.broadcast_to(weight_x, (len(k_y), len(k_x))).ravel()
    counts = {i: np.bincount(ring.ravel(), ones, _RINGS + 1) for i, ring in rings.items()}
    for i in rings:
        power[i] /= np.maximum(counts[i][:_RINGS], 1.0)
    found = map_views(product_of, pairs)
    return _fitted(n, width, pairs, np.array([f for f, _ in found]), np.array([e for _, e in found]))


def _per_ring(power: FloatArray) -> FloatArray:
    """Power of every ring, and none beyond the last."""
    return np.append(power, 0.0)


def _ring(radius: FloatArray, width: float) -> NDArray[np.intp]:
    ring: NDArray[np.intp] = np.minimum((radius / width).astype(np.intp), _RINGS)
    return ring


def _fitted(n: int, width: float, pairs: list[tuple[int, int]], found: FloatArray, expected: FloatArray) -> Structure:
    """Least squares of ``found = c_i c_j share expected``, for the share of every ring and the factors c^2 in turn."""
    first, second = np.array(pairs).T
    compared = np.unique(pairs)
    factor = np.ones(n)
    share = np.zeros(found.shape[1])
    for _ in range(_ROUNDS):
        both = np.sqrt(factor[first] * factor[second])[:, None] * expected
        share = np.maximum((found * both).sum(axis=0) / np.maximum((both**2).sum(axis=0), 1e-30), 0.0)
        model = share * expected
        top, bottom = np.zeros(n), np.full(n, 1e-30)
        for mine, other in ((first, second), (second, first)):
            lever = np.sqrt(factor[other])[:, None] * model
            np.add.at(top, mine, (found * lever).sum(axis=1))
            np.add.at(bottom, mine, (lever**2).sum(axis=1))
        factor = np.clip(top / bottom, 0.1, 2.0) ** 2
        factor /= max(float(np.median(factor[compared])), 1e-6)
    return Structure(width, share, np.clip(factor, 0.05, 4.0))


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """Matrices that predict views from each other, for every column and bin of rows of their transforms.

    Attributes
    ----------
    precision
        Shape (columns, bins, n, n): Q = K^-1; unit rows for views that take no part.
    information_yx
        Shape (2, n, n): sums over all frequencies of ``(2 pi k)^2 (Q_ij K_ij - delta_ij)`` for k along y and x, per
        sample of the plane: the information about displacements of the views, per square Angstrom.
    log_determinant
        Sum of log|K| over all frequencies.
    bin_of_row
        Shape (rows,).
    """

    precision: NDArray[np.float32]
    information_yx: FloatArray
    log_determinant: float
    bin_of_row: NDArray[np.intp]


def predictor(views: PlaneViews, structure: Structure, thickness_angst: float) -> Predictor:
    """Make the matrices for a slab of some thickness.

    Parameters
    ----------
    views
        The views.
    structure
        How much of them is structure.
    thickness_angst
        Thickness of the slab.
    """
    k_x = views.frequencies()[1]
    row_number = np.abs(np.fft.fftfreq(views.size) * views.size)[views.row_index].round().astype(np.intp)
    bin_of_row = row_number // _ROWS_PER_BIN
    n_bins = int(bin_of_row.max()) + 1
    bin_k = (np.arange(n_bins) * _ROWS_PER_BIN + 0.5 * (_ROWS_PER_BIN - 1)) / (views.size * views.step_angst)
    rows_in_bin = np.bincount(bin_of_row, minlength=n_bins)
    n = len(views.used)
    matrices, slopes = stretch_matrices(views.geometry), views.slopes()
    amplitude = np.zeros((len(k_x), n_bins, n), np.float32)
    for i in np.flatnonzero(views.used):
        amplitude[:, :, i] = structure.amplitude(int(i), raw_radius(matrices[i], bin_k, k_x)).T
    apart = slopes[:, None, 1] - slopes[None, :, 1]
    precision = np.empty((len(k_x), n_bins, n, n), np.float32)

    def one(column: int) -> tuple[FloatArray, float]:
        r = amplitude[column]
        covariance = (r[:, :, None] * r[:, None, :]) * np.sinc(thickness_angst * k_x[column] * apart).astype(np.float32)
        covariance[:, np.arange(n), np.arange(n)] = 1.0
        inverse, log_determinants = inverses(covariance)
        precision[column] = inverse
        twice = 1.0 if column == 0 else 2.0
        informed = inverse * covariance
        informed[:, np.arange(n), np.arange(n)] -= 1.0
        weight = twice * rows_in_bin * (2 * np.pi) ** 2 / views.size**2
        y_x = np.stack([(weight * bin_k**2) @ informed.reshape(n_bins, -1),
                        (weight * k_x[column] ** 2) @ informed.reshape(n_bins, -1)])  # fmt: skip
        return y_x.reshape(2, n, n), float(twice * rows_in_bin @ log_determinants)

    found = map_views(one, range(len(k_x)))
    information = np.sum([f for f, _ in found], axis=0)
    return Predictor(precision, information, sum(d for _, d in found), bin_of_row)


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """Views and their leave-one-out predictions, weighted by the square root of Q_ii.

    Attributes
    ----------
    seen, predicted
        Shape (n, rows, columns), transforms as in `PlaneViews`.
    expectation
        The same prediction as it is, not weighted.
    gain
        ``y^H (1 - Q) y`` summed over all frequencies, for views that cover all of the plane with a power of 1: what
        the views tell of each other.
    """

    seen: Spectra
    predicted: Spectra
    expectation: Spectra
    gain: float


def predict(views: PlaneViews, by: Predictor) -> Predicted:
    """Predict all views, each from the others."""
    n = len(views.used)
    seen, predicted, expectation = (np.zeros_like(views.spectra) for _ in range(3))
    diagonal = np.sqrt(by.precision[:, :, np.arange(n), np.arange(n)])
    sums = np.zeros((by.precision.shape[1], 3))

    def one(bin_: int) -> None:
        rows = np.flatnonzero(by.bin_of_row == bin_)
        data = np.ascontiguousarray(views.spectra[:, rows].transpose(2, 0, 1))
        weighted = _times(by.precision[:, bin_], data)
        root = diagonal[:, bin_, :, None]
        twice = np.where(np.arange(len(data)) == 0, 1.0, 2.0)[:, None, None]
        gained = (np.conj(data) * (data - weighted)).real
        sums[bin_] = [np.sum(of * twice, dtype=np.float64) for of in (gained, np.square(np.abs(data)), data != 0)]
        own = root * data
        seen[:, rows] = own.transpose(1, 2, 0)
        predicted[:, rows] = (own - weighted / root).transpose(1, 2, 0)
        expectation[:, rows] = (data - weighted / root**2).transpose(1, 2, 0)

    map_views(one, range(by.precision.shape[1]))
    gain, power, terms = sums.sum(axis=0)
    return Predicted(seen, predicted, expectation, float(gain * terms / max(power, 1e-30)))


def score(views: PlaneViews, thickness_angst: float) -> float:
    """How well the views agree with a slab of some thickness: their log likelihood over that of unrelated views.

    The shares of structure are fitted anew, so that what is compared is the thickness and the geometry alone.
    """
    by = predictor(views, measure_structure(views, thickness_angst), thickness_angst)
    return 0.5 * (predict(views, by).gain - by.log_determinant)


def _times(matrices: NDArray[np.float32], data: Spectra) -> Spectra:
    """Products of real matrices (c, n, n) with complex data (c, n, m)."""
    real = data.view(np.float32).reshape(*data.shape[:2], -1)
    product: Spectra = np.ascontiguousarray(matrices @ real).view(np.complex64)
    return product
