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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.arrays import as_index, map_some, module_of, stack_some, to_host
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

    def amplitude(self, view: Any, radius: Any) -> Any:
        """Square root of the share of structure of one view, or several, at raw frequencies, cycles per Angstrom.

        Parameters
        ----------
        view
            A view or k of them.
        radius
            Shape (rows, columns) or (k, rows, columns), on the CPU or the GPU, where the result is too.
        """
        xp = module_of(radius)
        ring = xp.minimum((radius / self.ring_width).astype(np.int64), len(self.share) - 1)
        factor = xp.asarray(self.view_factor[view])[..., None, None]
        share = xp.clip(factor * xp.asarray(self.share)[ring], 0.0, _MOST_STRUCTURE)
        return xp.sqrt(xp.where(radius <= self.ring_width * len(self.share), share, 0.0))


def measure_structure(views: PlaneViews, thickness_angst: float) -> Structure:
    """Measure the share of structure from the products of views that are near in tilt.

    Parameters
    ----------
    views
        The views.
    thickness_angst
        Thickness of the slab.
    """
    xp, width = module_of(views.spectra), views.highest / _RINGS
    k_y, k_x = views.frequencies()
    weight_x = np.where(np.arange(len(k_x)) == 0, 1.0, 2.0)
    on_both_sides, there = xp.asarray(weight_x), (xp.asarray(k_y), xp.asarray(k_x))
    index = np.flatnonzero(views.used)
    matrices, slope = stretch_matrices(views.geometry)[index], views.slopes()[index, 1]
    m, samples = len(index), float(len(k_y) * len(k_x))
    rings = xp.empty((m, len(k_y), len(k_x)), np.int64)
    everywhere = xp.broadcast_to(on_both_sides, rings.shape)

    def power_of(part: Any) -> FloatArray:
        radius = raw_radius(matrices[part], *there)
        rings[part] = xp.minimum((radius / width).astype(np.int64), _RINGS)
        own = xp.square(xp.abs(views.spectra[as_index(index[part], rings)])) * on_both_sides
        return np.stack([_sums_over_rings(of, rings[part]) for of in (own, everywhere[part])], axis=-2)

    sums = stack_some(power_of, m, views.spectra, 100.0 * samples)
    # and none beyond the last ring
    power = xp.asarray(np.pad(sums[:, 0] / np.maximum(sums[:, 1], 1.0), ((0, 0), (0, 1))))
    first, second = np.array([(k, k + step) for step in _NEIGHBOURS for k in range(m - step)]).reshape(-1, 2).T
    overlap = np.sinc(thickness_angst * (k_x * (slope[second] - slope[first])[:, None]))
    weight = np.where(overlap > _LEAST_OVERLAP, overlap, 0.0) * weight_x

    def product_of(part: Any) -> FloatArray:
        i, j = (as_index(of[part], rings) for of in (first, second))
        mine, other = (views.spectra[as_index(index[of[part]], rings)] for of in (first, second))
        weighing = xp.asarray(weight[part])[..., None, :]
        found = (xp.conj(mine) * other).real * weighing
        expected = xp.sqrt(_of_ring(power[i], rings[i]) * _of_ring(power[j], rings[j]))
        expected *= xp.asarray(overlap[part])[..., None, :] * weighing
        middle = xp.maximum(rings[i], rings[j])
        return np.stack([_sums_over_rings(of, middle) for of in (found, expected)], axis=-2)

    told = stack_some(product_of, len(first), views.spectra, 100.0 * samples)
    pairs = [(int(index[i]), int(index[j])) for i, j in zip(first, second, strict=True)]
    return _fitted(len(views.used), width, pairs, told[:, 0], told[:, 1])


def _sums_over_rings(values: Any, ring: Any) -> FloatArray:
    """Sums of an image (rows, columns), or several, over rings, shape (..., rings), on the CPU."""
    if module_of(values) is np:
        return np.bincount(ring.ravel(), values.ravel(), _RINGS + 1)[:_RINGS].astype(np.float64)
    xp = module_of(values)
    # one after the other, because adding all at once comes out in another order every time
    sums = [xp.where(ring == k, values, 0.0).sum(axis=(-2, -1), dtype=np.float64) for k in range(_RINGS)]
    return to_host(xp.stack(sums, axis=-1))


def _of_ring(power: Any, ring: Any) -> Any:
    """Power at every place of an image, from that of its rings; or of several images."""
    if ring.ndim == 2:  # of numpy's ways the fast one
        return power[ring]
    return power[module_of(ring).arange(len(ring))[:, None, None], ring]


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
        Shape (columns, bins, n, n): Q = K^-1; unit rows for views that take no part. On the GPU if the views are.
    information_yx
        Shape (2, n, n): sums over all frequencies of ``(2 pi k)^2 (Q_ij K_ij - delta_ij)`` for k along y and x, per
        sample of the plane: the information about displacements of the views, per square Angstrom.
    log_determinant
        Sum of log|K| over all frequencies.
    bin_of_row
        Shape (rows,).
    """

    precision: Any
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
    xp, k_x = module_of(views.spectra), views.frequencies()[1]
    row_number = np.abs(np.fft.fftfreq(views.size) * views.size)[views.row_index].round().astype(np.intp)
    bin_of_row = row_number // _ROWS_PER_BIN
    n_bins = int(bin_of_row.max()) + 1
    bin_k = (np.arange(n_bins) * _ROWS_PER_BIN + 0.5 * (_ROWS_PER_BIN - 1)) / (views.size * views.step_angst)
    n, index = len(views.used), np.flatnonzero(views.used)
    matrices, slopes = stretch_matrices(views.geometry), views.slopes()
    amplitude = xp.zeros((len(k_x), n_bins, n), np.float32)
    there = xp.asarray(bin_k), xp.asarray(k_x)

    def fill(part: Any) -> None:
        view = index[part]
        amplitude[:, :, as_index(view, amplitude)] = structure.amplitude(view, raw_radius(matrices[view], *there)).T

    map_some(fill, len(index), amplitude, 100.0 * len(k_x) * n_bins)
    apart, own = xp.asarray(slopes[:, None, 1] - slopes[None, :, 1]), xp.arange(n)
    precision = xp.empty((len(k_x), n_bins, n, n), np.float32)
    frequencies = np.where(np.arange(len(k_x)) == 0, 1.0, 2.0)[:, None] * np.bincount(bin_of_row, minlength=n_bins)
    squares = np.stack(np.broadcast_arrays(bin_k**2, k_x[:, None] ** 2))
    weights = (2 * np.pi) ** 2 / views.size**2 * frequencies * squares

    def some(column: Any) -> tuple[FloatArray, float]:
        r = amplitude[column]
        kept = xp.sinc(xp.asarray(thickness_angst * k_x[column])[..., None, None] * apart).astype(np.float32)
        covariance = (r[..., :, None] * r[..., None, :]) * kept[..., None, :, :]
        covariance[..., own, own] = 1.0
        covariance = covariance.reshape(-1, n, n)
        inverse, log_determinants = inverses(covariance)
        precision[column] = inverse.reshape(precision[column].shape)
        informed = inverse * covariance
        informed[:, own, own] -= 1.0
        y_x = xp.asarray(weights[:, column].reshape(2, -1)) @ informed.reshape(len(informed), -1)
        return to_host(y_x).reshape(2, n, n), float(frequencies[column].ravel() @ to_host(log_determinants))

    found = map_some(some, len(k_x), precision, 40.0 * n_bins * n**2)
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
    xp = module_of(views.spectra)
    own = xp.arange(len(views.used))
    seen, predicted, expectation = (xp.zeros_like(views.spectra) for _ in range(3))
    diagonal = xp.sqrt(by.precision[:, :, own, own])

    def of_bin(bin_: int) -> FloatArray:
        rows = np.flatnonzero(by.bin_of_row == bin_)
        data = views.spectra[:, rows].transpose(2, 0, 1)
        made, sums = _made_of(data, by.precision[:, bin_], diagonal[:, bin_, :, None])
        for into, what in zip((seen, predicted, expectation), made, strict=True):
            into[:, rows] = what.transpose(1, 2, 0)
        return sums

    def of_rows(rows: slice) -> FloatArray:
        bins = as_index(by.bin_of_row[rows], diagonal)
        data = views.spectra[:, rows].transpose(2, 1, 0)[..., None]
        made, sums = _made_of(data, by.precision[:, bins], diagonal[:, bins][..., None])
        for into, what in zip((seen, predicted, expectation), made, strict=True):
            into[:, rows] = what[..., 0].transpose(2, 1, 0)
        return sums[None]

    if xp is np:
        sums = stack_some(of_bin, by.precision.shape[1], diagonal, 0.0)
    else:
        columns, _, n = diagonal.shape
        sums = stack_some(of_rows, len(by.bin_of_row), diagonal, 8.0 * columns * n**2)
    gain, power, terms = sums.sum(axis=0)
    return Predicted(seen, predicted, expectation, float(gain * terms / max(power, 1e-30)))


def _made_of(data: Any, matrices: Any, root: Any) -> tuple[tuple[Any, Any, Any], FloatArray]:
    """Views and predictions as in `Predicted`, and sums for the gain.

    Parameters
    ----------
    data, matrices, root
        Shapes (columns, ..., n, m), (columns, ..., n, n) and (columns, ..., n, 1): transforms, Q, and the root of its
        diagonal.
    """
    xp = module_of(data)
    data = xp.ascontiguousarray(data)
    weighted = _times(matrices, data)
    twice = xp.asarray(np.where(np.arange(len(data)) == 0, 1.0, 2.0)).reshape(-1, *[1] * (data.ndim - 1))
    gained = (xp.conj(data) * (data - weighted)).real
    sums = [to_host(xp.sum(of * twice, dtype=np.float64)) for of in (gained, xp.square(xp.abs(data)), data != 0)]
    own = root * data
    return (own, own - weighted / root, data - weighted / root**2), np.array(sums)


def score(views: PlaneViews, thickness_angst: float) -> float:
    """How well the views agree with a slab of some thickness: their log likelihood over that of unrelated views.

    The shares of structure are fitted anew, so that what is compared is the thickness and the geometry alone.
    """
    by = predictor(views, measure_structure(views, thickness_angst), thickness_angst)
    return 0.5 * (predict(views, by).gain - by.log_determinant)


def _times(matrices: Any, data: Any) -> Any:
    """Products of real matrices (..., n, n) with complex data (..., n, m)."""
    real = data.view(np.float32).reshape(*data.shape[:-1], -1)
    return module_of(data).ascontiguousarray(matrices @ real).view(np.complex64)
