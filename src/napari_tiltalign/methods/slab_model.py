"""What a random slab predicts: how the Fourier coefficients of one tile go together in all views.

The specimen is a slab of thickness T filled with random density. Then the coefficients y_i of one tile at one frequency
k of the specimen plane, in the views i = 1 ... n, are jointly Gaussian of mean zero, and the volume never appears::

    K_ij = <y_i conj(y_j)> = delta_ij (1 - r_i^2) + r_i r_j C_ij
    C_ij = 2/T integral_0^{T/2} cos(2 pi k_x (a_i - a_j) z) G(|a_i - a_j| z) dz        a_i = tan(tilt_i)

Structure at height z shows displaced by ``z a_i``; G is the autocorrelation of the window, because what is displaced
leaves it. ``r_i^2`` is the part of the power that is signal: it falls with spatial frequency, and differs between views
and tiles. The coefficients have power 1, so the diagonal of K is 1. Derivation: docs/slab.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.arrays import map_parts, module_of, to_host
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.methods.inverses import inverses
from napari_tiltalign.methods.slab_tiles import Block, TileSpectra, plane_matrices

HIGHEST_SIGNAL = 0.65
"""Largest part of the power that is believed to be signal: a real specimen is never quite a random slab."""

_DEPTHS = 24
_CHUNK, _CHUNK_OF_GPU = 192, 4096
"""Frequencies worked on at a time by one thread, and by the GPU."""

Result = TypeVar("Result")
_Covariances = Callable[[slice], Any]


@dataclass(frozen=True, slots=True, eq=False)
class SlabModel:
    """Second moments of the specimen and of the noise.

    Attributes
    ----------
    thickness_angst
        Of the slab.
    ring_per_angst, signal
        Shape (b,): spatial frequencies of the raw images, and which part of the power is signal there.
    view_factor, tile_factor
        Shapes (n,) and (p,): how much more or less signal a view and a tile have; 1 is typical.
    """

    thickness_angst: float
    ring_per_angst: FloatArray
    signal: FloatArray
    view_factor: FloatArray
    tile_factor: FloatArray

    @classmethod
    def first_guess(cls, thickness_angst: float, n_views: int) -> SlabModel:
        """Model to begin with."""
        return cls(thickness_angst, np.array([0.0, 1.0]), np.full(2, 0.5), np.ones(n_views), np.ones(0))

    def replace(self, **changes: object) -> SlabModel:
        """Return a copy with some fields replaced."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """How the views at one geometry see k frequencies of the specimen plane.

    Attributes
    ----------
    raw_per_angst
        Shape (k, n): spatial frequency in the raw image.
    coherence
        Shape (u, n, n): C for every value of k_x.
    column
        Shape (k,): which of them belongs to a frequency.
    """

    raw_per_angst: FloatArray
    coherence: NDArray[np.float32]
    column: NDArray[np.intp]


def sight(spectra: TileSpectra, views: FloatArray, x_tilt_deg: float, thickness_angst: float) -> Sight:
    """How the views see the frequencies of tiles through a slab (see the module's docstring)."""
    inverse, slope = plane_matrices(views, x_tilt_deg)
    raw = np.einsum("nab,ka->knb", inverse, spectra.frequency_yx)
    columns, column = np.unique(np.round(spectra.frequency_yx[:, 1], 9), return_inverse=True)
    n = len(views)
    pairs = np.triu_indices(n)  # C is symmetric
    lag = np.abs(slope[pairs[0], 1] - slope[pairs[1], 1])
    height = (np.arange(_DEPTHS) + 0.5) / _DEPTHS * thickness_angst / 2
    way = lag[:, None] * height
    kept = _window_overlap(way, spectra.scale.size_angst) / _DEPTHS

    def one(k_x: float) -> NDArray[np.float32]:
        coherence = np.empty((n, n), np.float32)
        coherence[pairs] = np.einsum("pz,pz->p", np.cos(2 * np.pi * k_x * way), kept)
        coherence[pairs[::-1]] = coherence[pairs]
        return coherence

    return Sight(np.linalg.norm(raw, axis=2), np.stack(map_views(one, columns.tolist())), column)


def _window_overlap(displacement: FloatArray, size_angst: float) -> FloatArray:
    """Autocorrelation of a Hann window of a size along one axis, 1 without displacement."""
    samples = 64
    profile = np.sin(np.pi * (np.arange(samples) + 0.5) / samples) ** 2
    overlap = np.correlate(profile, profile, "full")[samples - 1 :]
    at = np.append(overlap / overlap[0], 0.0)
    kept: FloatArray = np.interp(displacement * samples / size_angst, np.arange(samples + 1), at)
    return kept


@dataclass(frozen=True, slots=True, eq=False)
class Precision:
    """Inverse covariances at k frequencies of the m views that show a block of tiles.

    Attributes
    ----------
    block
        Which views and tiles.
    matrices
        Shape (k, m, m), float32: Q = K^-1; on the GPU if the coefficients are.
    fisher
        Shape (m, m, 2, 2), per square Angstrom: expected second derivative of ``y^H Q y / 2`` of one tile by
        displacements of the views, ``4 pi^2 sum_k k k' (Q_ij K_ij - delta_ij)``.
    """

    block: Block
    matrices: NDArray[np.float32]
    fisher: FloatArray


def precisions(spectra: TileSpectra, seen: Sight, model: SlabModel, blocks: Sequence[Block]) -> list[Precision]:
    """Invert the covariances of a model, for every block one inversion per frequency."""
    return [_precision(spectra, seen, model, block) for block in blocks]


def _precision(spectra: TileSpectra, seen: Sight, model: SlabModel, block: Block) -> Precision:
    frequency, n = spectra.frequency_yx, len(block.views)
    covariance_of = _covariances(spectra, seen, model, block)
    xp = module_of(spectra.values)
    matrices = xp.empty((len(frequency), n, n), np.float32)
    own = xp.arange(n)
    squares = xp.asarray((frequency[:, :, None] * frequency[:, None, :]).reshape(len(frequency), 4))

    def invert(part: slice) -> FloatArray:
        covariance = covariance_of(part)
        matrices[part], _ = inverses(covariance)
        told = matrices[part] * covariance
        told[:, own, own] -= 1.0
        fisher: FloatArray = to_host(told.reshape(len(told), n * n).T.astype(np.float64) @ squares[part])
        return 4 * np.pi**2 * fisher

    fisher = sum(_by_chunks(invert, spectra), np.zeros((n * n, 4)))
    return Precision(block, matrices, fisher.reshape(n, n, 2, 2))


def _covariances(spectra: TileSpectra, seen: Sight, model: SlabModel, block: Block) -> _Covariances:
    """Return what gives the matrices K of a block at some of the frequencies."""
    views = block.views
    # one typical tile: classes of stronger and weaker ones cost more and gain nothing
    tile = float(np.median(model.tile_factor)) if model.tile_factor.size else 1.0
    raw = seen.raw_per_angst[:, views]
    power = np.interp(raw, model.ring_per_angst, model.signal) * model.view_factor[views]
    power *= raw < spectra.scale.highest
    xp = module_of(spectra.values)
    amplitude = xp.asarray(np.sqrt(np.clip(power * tile, 0.0, HIGHEST_SIGNAL)).astype(np.float32))
    coherence = xp.asarray(seen.coherence[:, views[:, None], views])
    column, own = xp.asarray(seen.column), xp.arange(len(views))

    def at(part: slice) -> Any:
        covariance = coherence[column[part]]
        covariance *= amplitude[part, :, None]
        covariance *= amplitude[part, None, :]
        covariance[:, own, own] = 1.0
        return covariance

    return at


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the tiles say at a geometry; 0 for tiles and views that no block uses.

    Attributes
    ----------
    energy
        Shape (p,): ``y^H Q y / 2`` of every tile.
    gradient_yx
        Shape (p, n, 2), per Angstrom: its derivative by displacing the content of a view.
    curvature
        Shape (p, n), per square Angstrom: trace of its own second derivative.
    """

    energy: FloatArray
    gradient_yx: FloatArray
    curvature: FloatArray


def evidence(spectra: TileSpectra, found: Sequence[Precision]) -> Evidence:
    """Energy of every tile and its derivatives; displacing by s multiplies a coefficient by exp(2 pi i k.s)."""
    _, n, p = spectra.values.shape
    energy, gradient, curvature = np.zeros(p), np.zeros((p, n, 2)), np.zeros((p, n))
    for one in found:
        tiles, views = one.block.tiles, one.block.views
        told = _block_evidence(spectra, one)
        energy[tiles] = told[0]
        gradient[np.ix_(tiles, views)] = told[1].transpose(1, 0, 2)
        curvature[np.ix_(tiles, views)] = told[2].T
    return Evidence(energy, gradient, curvature)


def _values(spectra: TileSpectra, block: Block, part: slice) -> Any:
    xp = module_of(spectra.values)
    return spectra.values[part][:, xp.asarray(block.views)[:, None], xp.asarray(block.tiles)]


def _block_evidence(spectra: TileSpectra, found: Precision) -> tuple[FloatArray, FloatArray, FloatArray]:
    frequency, n, p = spectra.frequency_yx, len(found.block.views), len(found.block.tiles)
    xp = module_of(spectra.values)
    diagonal = xp.arange(n)
    k_yx = xp.asarray(frequency.astype(np.float32))

    def part_of(part: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
        y = _values(spectra, found.block, part)
        q = _times(found.matrices[part], y)
        out_of_phase = y.real * q.imag - y.imag * q.real
        in_phase = _product(y, q)
        k = k_yx[part]
        gradient = 2 * np.pi * (out_of_phase.reshape(len(k), n * p).T @ k).reshape(n, p, 2)
        own = found.matrices[part][:, diagonal, diagonal][:, :, None] * (y.real**2 + y.imag**2) - in_phase
        curvature = 4 * np.pi**2 * xp.einsum("knp,k->np", own, xp.square(k).sum(axis=1))
        energy = 0.5 * in_phase.sum(axis=(0, 1), dtype=np.float64)
        return to_host(energy), to_host(gradient), to_host(curvature)

    energy, gradient, curvature = np.zeros(p), np.zeros((n, p, 2)), np.zeros((n, p))
    for one in _by_chunks(part_of, spectra):
        energy += one[0]
        gradient += one[1]
        curvature += one[2]
    return energy, gradient, curvature


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Views against what the others predict of them, sums over frequencies and tiles, shape (n,) each.

    Attributes
    ----------
    product
        Of a view and its prediction.
    own_power, predicted_power
        Of the view and of the prediction.
    """

    product: FloatArray
    own_power: FloatArray
    predicted_power: FloatArray


def residuals(spectra: TileSpectra, found: Sequence[Precision]) -> LeftOut:
    """Predict every view from the others where there is signal, ``y_i - (Q y)_i / Q_ii``."""
    sums = np.zeros((3, spectra.values.shape[1]))
    xp = module_of(spectra.values)
    for one in found:
        own = xp.arange(len(one.block.views))

        def part_of(part: slice, one: Precision = one, own: Any = own) -> FloatArray:
            y = _values(spectra, one.block, part)
            diagonal = one.matrices[part][:, own, own][:, :, None]
            predicted = y - _times(one.matrices[part], y) / diagonal
            told = diagonal > 1.0 + 1e-6  # where nothing is predicted, only noise would be added
            product = _product(y, predicted) * told
            powers = [(some.real**2 + some.imag**2) * told for some in (y, predicted)]
            return np.stack([to_host(some.sum(axis=(0, 2), dtype=np.float64)) for some in (product, *powers)])

        sums[:, one.block.views] += np.sum(_by_chunks(part_of, spectra), axis=0)
    return LeftOut(*sums)


def _times(matrices: Any, values: Any) -> Any:
    """Real matrices (k, n, n) times complex columns (k, n, p)."""
    k, n, p = values.shape
    product = matrices @ module_of(values).ascontiguousarray(values).view(np.float32).reshape(k, n, 2 * p)
    return product.view(np.complex64)


def _product(one: Any, other: Any) -> Any:
    """Real part of the product of one and the conjugate of the other."""
    return one.real * other.real + one.imag * other.imag


def _by_chunks(function: Callable[[slice], Result], spectra: TileSpectra) -> list[Result]:
    count, chunk = len(spectra.frequency_yx), _CHUNK if module_of(spectra.values) is np else _CHUNK_OF_GPU
    return map_parts(function, [slice(start, start + chunk) for start in range(0, count, chunk)], spectra.values)


def log_likelihood(spectra: TileSpectra, seen: Sight, model: SlabModel, blocks: Sequence[Block]) -> float:
    """Log likelihood of the tiles, per tile and view, over that of views that have nothing in common.

    ``sum (y^H y - y^H K^-1 y - log|K|)``; the first term makes different places of one specimen comparable.
    """
    gain, count = 0.0, 0
    for block in blocks:
        covariance_of = _covariances(spectra, seen, model, block)

        def part_of(part: slice, block: Block = block, covariance_of: _Covariances = covariance_of) -> float:
            covariance = covariance_of(part)
            y = _values(spectra, block, part)
            matrices, log_determinants = inverses(covariance)
            explained = y.real**2 + y.imag**2 - _product(y, _times(matrices, y))
            return float(explained.sum(dtype=np.float64) - len(block.tiles) * log_determinants.sum())

        gain += sum(_by_chunks(part_of, spectra))
        count += block.tiles.size * block.views.size
    return gain / max(count, 1)
