"""Where exactly is each bead? Generalised least squares with a profile learned from the beads themselves.

A bead is fitted at every position the geometry predicts, so gaps that detection left are filled. The model of a view is
one radial profile (learned from all its beads, so the fringes of the contrast transfer are in it), times an amplitude
per bead, plus an offset; the noise has the covariance of the bead-free pixels around. That is the best linear unbiased
estimate of a position (Aitken 1936), and its Fisher information says how good it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.interpolate import CubicSpline
from scipy.linalg import lapack

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.prepare import ContrastImage, Image

PATCH_RADIUS = 1.1
"""Radius of the fitted patch, bead diameters; the first fringe carries information too."""

PROFILE_RADIUS = 1.3
"""Radius to which the profile is known, bead diameters."""

AMPLITUDE_SD = 0.3
"""Prior spread of a bead's amplitude around that of its view."""

_PROFILE_ROUNDS = 2
_FIT_ITERATIONS = 3
_LINEAR_PX = 0.3
"""A fit is linearised anew when a bead has moved further than this since."""
_TABLE_STEP_PX = 0.01
_NEIGHBOUR_VIEWS = 2
_NEIGHBOUR_WEIGHT = 0.5
_LARGEST_MOVE = 0.45
_MOST_MISSING = 0.35
_WHITE_FLOOR = 0.02
_NOISE_SAMPLE_PX = 288
"""The noise is learned from the middle of the view, this wide: enough pixels for every lag of the autocorrelation."""


@dataclass(frozen=True, slots=True, eq=False)
class Fits:
    """Fits of the beads of one view.

    Attributes
    ----------
    position_yx
        Shape (b, 2): pixel index.
    amplitude
        Shape (b,): relative to the view's typical bead.
    sd_yx
        Shape (b, 2): standard deviation by Fisher information, pixels.
    complete
        Shape (b,): whether enough of the patch lies inside the image and its mask.
    """

    position_yx: FloatArray
    amplitude: FloatArray
    sd_yx: FloatArray
    complete: NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class _View:
    """What is being fitted in one view; changed in place while fitting, private to this module."""

    image: ContrastImage
    start: FloatArray
    position: FloatArray
    amplitude: FloatArray
    offset: FloatArray
    profile: FloatArray
    pairs: NDArray[np.int64]
    noise_inverse: Image | None = None
    fits: Fits | None = None


def localise(images: Sequence[ContrastImage], positions_yx: Sequence[FloatArray], diameter_px: float) -> list[Fits]:
    """Fit beads in all views.

    Parameters
    ----------
    images
        n views of local contrast.
    positions_yx
        n arrays (b, 2): where the beads are expected, pixel index.
    diameter_px
        Bead diameter, pixels.

    Returns
    -------
    list of Fits
        One per view, in the same order.
    """
    step = 0.5 * max(1.0, diameter_px / 10.0)
    first = _first_profile(images, positions_yx, diameter_px, step)
    views = [
        _View(image, p, p.copy(), np.ones(len(p)), np.zeros(len(p)), first, _close_pairs(p, diameter_px))
        for image, p in zip(images, positions_yx, strict=True)
    ]
    patch = _Patch.of(diameter_px)
    for _ in range(_PROFILE_ROUNDS):
        _learn_profiles(views, diameter_px, step)
        map_views(lambda view: _fit_view(view, diameter_px, step, patch), views)
    return [view.fits if view.fits is not None else _no_fits() for view in views]


def _no_fits() -> Fits:
    return Fits(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)), np.zeros(0, dtype=bool))


def _first_profile(
    images: Sequence[ContrastImage], positions_yx: Sequence[FloatArray], diameter_px: float, step: float
) -> FloatArray:
    """A dark sphere as strong as the centres of the beads are dark."""
    depth = [
        float(np.median(image.contrast[tuple(_inside(np.round(p).astype(int), image.contrast.shape).T)]))
        for image, p in zip(images, positions_yx, strict=True)
        if len(p)
    ]
    radius = np.arange(int(PROFILE_RADIUS * diameter_px / step) + 1) * step
    sphere: FloatArray = np.sqrt(np.clip(1.0 - (2.0 * radius / diameter_px) ** 2, 0.0, None))
    return float(np.median(depth)) * sphere if depth else -sphere


def _inside(index: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    clipped: NDArray[np.int64] = np.clip(index, 0, np.array(shape) - 1)
    return clipped


def _disc(radius: float) -> NDArray[np.int64]:
    """Offsets (m, 2) of the pixels of a disc."""
    half = int(radius)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    return np.column_stack([y[y * y + x * x <= radius**2], x[y * y + x * x <= radius**2]])


def _close_pairs(position: FloatArray, diameter_px: float) -> NDArray[np.int64]:
    """Ordered pairs (k, 2) of beads whose patches see each other."""
    apart = np.linalg.norm(position[:, None] - position[None], axis=2)
    near = (apart < 2.0 * PROFILE_RADIUS * diameter_px + 2.0) & ~np.eye(len(position), dtype=bool)
    return np.argwhere(near)


def _patches(view: _View, disc: NDArray[np.int64]) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.bool_]]:
    """Pixel indices (b, m, 2), their values (b, m), and which of them exist and are not masked (b, m)."""
    pixels = np.round(view.position).astype(int)[:, None] + disc[None]
    clipped = _inside(pixels, view.image.contrast.shape)
    rows, columns = clipped[..., 0], clipped[..., 1]
    valid = (clipped == pixels).all(axis=2) & view.image.mask[rows, columns]
    return pixels, view.image.contrast[rows, columns].astype(np.float64), valid


def _neighbours_model(
    view: _View, pixels: NDArray[np.int64], step: float
) -> tuple[FloatArray, list[tuple[int, FloatArray]]]:
    """What the other beads contribute to every patch, and the distances of its pixels from each of them."""
    model = np.zeros(pixels.shape[:2])
    distances: list[tuple[int, FloatArray]] = []
    radius = np.arange(len(view.profile)) * step
    for bead, other in view.pairs:
        distance = np.linalg.norm(pixels[bead] - view.position[other], axis=1)
        model[bead] += view.amplitude[other] * np.interp(distance, radius, view.profile, right=0.0)
        distances.append((int(bead), distance))
    return model, distances


def _learn_profiles(views: Sequence[_View], diameter_px: float, step: float) -> None:
    """Learn the profile of every view from its own beads and, with less weight, from those of nearby views."""
    normal = map_views(lambda view: _profile_equations(view, diameter_px, step), views)
    for index, view in enumerate(views):
        near = range(max(0, index - _NEIGHBOUR_VIEWS), min(len(views), index + _NEIGHBOUR_VIEWS + 1))
        weights = [(1.0 if k == index else _NEIGHBOUR_WEIGHT, normal[k]) for k in near]
        matrix = np.sum([weight * system[0] for weight, system in weights], axis=0)
        right = np.sum([weight * system[1] for weight, system in weights], axis=0)
        view.profile = _solved_profile(matrix, right, view.profile)


def _profile_equations(view: _View, diameter_px: float, step: float) -> tuple[FloatArray, FloatArray]:
    """Normal equations of a profile that is linear between nodes `step` apart."""
    size = len(view.profile)
    if not len(view.position):
        return np.zeros((size, size)), np.zeros(size)
    pixels, values, valid = _patches(view, _disc(PROFILE_RADIUS * diameter_px + 1.0))
    others, distances = _neighbours_model(view, pixels, step)
    for bead, distance in distances:
        valid[bead] &= distance >= 0.75 * PROFILE_RADIUS * diameter_px
    distance = np.linalg.norm(pixels - view.position[:, None], axis=2) / step
    valid &= distance < size - 1
    amplitude = np.broadcast_to(view.amplitude[:, None], distance.shape)[valid]
    value = (values - view.offset[:, None] - others)[valid]
    node = distance[valid].astype(int)
    share = distance[valid] - node
    matrix = np.zeros((size, size))
    low, high = amplitude * (1.0 - share), amplitude * share
    diagonal = np.bincount(node, low * low, size) + np.bincount(node + 1, high * high, size)
    beside = np.bincount(node, low * high, size)[:-1]
    matrix[np.diag_indices(size)] = diagonal
    matrix[np.arange(size - 1), np.arange(1, size)] = matrix[np.arange(1, size), np.arange(size - 1)] = beside
    right = np.bincount(node, low * value, size) + np.bincount(node + 1, high * value, size)
    return matrix, right.astype(np.float64)


def _solved_profile(matrix: FloatArray, right: FloatArray, previous: FloatArray) -> FloatArray:
    size, trace = len(right), float(np.trace(matrix))
    if trace == 0.0:
        return previous
    second_difference = np.diff(np.eye(size), 2, axis=0)
    matrix = matrix + 1e-3 * trace / size * (second_difference.T @ second_difference) + 1e-9 * np.eye(size)
    matrix[-1, -1] += 1e6 * trace / size  # the profile ends at zero; what is beyond belongs to the offset
    profile: FloatArray = np.linalg.solve(matrix, right)
    return profile


@dataclass(frozen=True, slots=True, eq=False)
class _Patch:
    """The pixels around a bead that are fitted.

    Attributes
    ----------
    disc
        Shape (m, 2): their offsets from the middle.
    lag
        Shape (m, m): index of the lag between two of them in a flat autocorrelation of side ``4 half + 1``.
    half
        Largest offset.
    """

    disc: NDArray[np.int64]
    lag: NDArray[np.int64]
    half: int

    @classmethod
    def of(cls, diameter_px: float) -> _Patch:
        disc = _disc(PATCH_RADIUS * diameter_px)
        half = int(np.abs(disc).max())
        lag = disc[:, None] - disc[None] + 2 * half
        return cls(disc, lag[..., 0] * (4 * half + 1) + lag[..., 1], half)


@dataclass(frozen=True, slots=True, eq=False)
class _RadialTable:
    """A profile and its slope at distances `_TABLE_STEP_PX` apart; zero beyond the last."""

    shape: FloatArray
    slope: FloatArray

    @classmethod
    def of(cls, profile: FloatArray, step: float) -> _RadialTable:
        radius = np.arange(len(profile)) * step
        even = CubicSpline(np.r_[-radius[:0:-1], radius], np.r_[profile[:0:-1], profile])
        fine = np.arange(0.0, radius[-1], _TABLE_STEP_PX)
        return cls(np.r_[even(fine), 0.0], np.r_[even(fine, 1), 0.0])

    def index(self, distance_px: FloatArray) -> NDArray[np.int64]:
        """Where in the table the values for some distances are."""
        nearest = (distance_px * (1.0 / _TABLE_STEP_PX) + 0.5).astype(np.int64)
        return np.minimum(nearest, len(self.shape) - 1, out=nearest)


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    """The fits of a view, linearised.

    Attributes
    ----------
    position
        Shape (b, 2): where.
    pixels, values, valid
        Shapes (b, m, 2), (b, m) and (b, m): the patches around there.
    weighted
        Shape (b, 4, m): design of (y, x, amplitude, offset) times the inverse covariance of the noise.
    fisher
        Shape (b, 4, 4), prior of the amplitude included.
    """

    position: FloatArray
    pixels: NDArray[np.int64]
    values: FloatArray
    valid: NDArray[np.bool_]
    weighted: FloatArray
    fisher: FloatArray


def _fit_view(view: _View, diameter_px: float, step: float, patch: _Patch) -> None:
    """Gauss-Newton on position, amplitude and offset of all beads of a view; the design is kept while it holds."""
    if not len(view.position):
        view.fits = _no_fits()
        return
    if view.noise_inverse is None:
        view.noise_inverse = _noise_inverse(view, diameter_px, patch)
    table = _RadialTable.of(view.profile, step)
    linear = _linearise(view, patch, table, view.noise_inverse)
    complete = linear.valid.mean(axis=1) >= 1.0 - _MOST_MISSING
    for _ in range(_FIT_ITERATIONS):
        if np.abs(view.position - linear.position).max() > _LINEAR_PX:
            linear = _linearise(view, patch, table, view.noise_inverse)
            complete = linear.valid.mean(axis=1) >= 1.0 - _MOST_MISSING
        change = _fit_step(view, linear, table, step)
        view.position[complete] += np.clip(change[complete, :2], -1.0, 1.0)
        view.amplitude[complete] = np.clip(view.amplitude[complete] + change[complete, 2], 0.05, 3.0)
        view.offset[complete] += change[complete, 3]
        moved = view.position - view.start
        far = np.maximum(np.linalg.norm(moved, axis=1) / (_LARGEST_MOVE * diameter_px), 1.0)
        view.position = view.start + moved / far[:, None]
    sd = np.sqrt(np.maximum(np.einsum("bii->bi", np.linalg.inv(linear.fisher))[:, :2], 0.0))
    view.amplitude = view.amplitude / max(float(np.median(view.amplitude)), 0.1)
    view.fits = Fits(view.position.copy(), view.amplitude.copy(), sd, complete)


def _linearise(view: _View, patch: _Patch, table: _RadialTable, noise_inverse: Image) -> _Linear:
    """Take the patches around the beads where they are now, and what every parameter does to their pixels."""
    pixels, values, valid = _patches(view, patch.disc)
    apart = pixels - view.position[:, None]
    distance = np.sqrt((apart**2).sum(axis=2))
    index = table.index(distance)
    slant = view.amplitude[:, None] * table.slope[index] / np.maximum(distance, 1e-6)
    columns = [-slant * apart[..., 0], -slant * apart[..., 1], table.shape[index], np.ones_like(distance)]
    design = np.stack(columns, axis=1) * valid[:, None]
    weighted = (design.astype(np.float32).reshape(-1, len(patch.disc)) @ noise_inverse).reshape(design.shape)
    fisher = (weighted @ design.transpose(0, 2, 1)).astype(np.float64) + 1e-12 * np.eye(4)
    fisher[:, 2, 2] += AMPLITUDE_SD**-2
    return _Linear(view.position.copy(), pixels, values, valid, weighted, fisher)


def _fit_step(view: _View, linear: _Linear, table: _RadialTable, step: float) -> FloatArray:
    """Step (b, 4) in (y, x, amplitude, offset)."""
    others, _ = _neighbours_model(view, linear.pixels, step)
    distance = np.sqrt(((linear.pixels - view.position[:, None]) ** 2).sum(axis=2))
    model = view.amplitude[:, None] * table.shape[table.index(distance)]
    misfit = np.where(linear.valid, linear.values - view.offset[:, None] - model - others, 0.0)
    gradient = (linear.weighted @ misfit[:, :, None])[:, :, 0]
    gradient[:, 2] -= (view.amplitude - 1.0) / AMPLITUDE_SD**2
    return np.linalg.solve(linear.fisher, gradient[:, :, None])[:, :, 0]


def _noise_inverse(view: _View, diameter_px: float, patch: _Patch) -> Image:
    """Inverse covariance of the noise of a patch, from the autocorrelation of bead-free pixels of the view."""
    contrast, free, size = view.image.contrast, view.image.mask.copy(), len(patch.disc)
    around = np.round(view.position).astype(int)[:, None] + _disc(0.9 * diameter_px)[None]
    around = _inside(around, contrast.shape)
    free[around[..., 0], around[..., 1]] = False
    middle = tuple(slice(max(0, (side - _NOISE_SAMPLE_PX) // 2), (side + _NOISE_SAMPLE_PX) // 2) for side in free.shape)
    if free[middle].sum() >= 0.25 * _NOISE_SAMPLE_PX**2:
        contrast, free = contrast[middle], free[middle]
    if free.sum() < 4 * size:
        return (np.eye(size) / max(float(contrast.var()), 1e-12)).astype(np.float32)
    values = contrast[free]
    limit = 8.0 * float(values.std())
    noise = np.where(free, np.clip(contrast - values.mean(), -limit, limit), 0.0).astype(np.float32)
    reach = 2 * patch.half
    padded = [fft.next_fast_len(side + reach, real=True) for side in contrast.shape]
    spectrum = fft.rfft2(np.stack([noise, free.astype(np.float32)]), padded)
    products, counts = fft.irfft2(np.abs(spectrum) ** 2, padded)
    lags = np.ix_(*(np.arange(-reach, reach + 1) % side for side in padded))
    correlation = products[lags].astype(np.float64) / np.maximum(counts[lags], 1.0)
    return _positive_inverse(correlation.ravel()[patch.lag]).astype(np.float32)


def _positive_inverse(covariance: FloatArray) -> FloatArray:
    """Inverse of a covariance with a white floor, so that no direction is trusted beyond reason."""
    size = len(covariance)
    covariance = 0.5 * (covariance + covariance.T)
    floor = _WHITE_FLOOR * float(np.trace(covariance)) / size
    lower, failed = lapack.dpotrf(covariance + floor * np.eye(size), lower=1)
    if not failed:
        half, _ = lapack.dpotri(lower, lower=1)
        symmetric: FloatArray = np.tril(half) + np.tril(half, -1).T
        return symmetric
    values, vectors = np.linalg.eigh(covariance)
    inverse: FloatArray = (vectors / np.maximum(values, floor)) @ vectors.T
    return inverse
