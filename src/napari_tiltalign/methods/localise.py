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
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.prepare import ContrastImage

PATCH_RADIUS = 1.1
"""Radius of the fitted patch, bead diameters; the first fringe carries information too."""

PROFILE_RADIUS = 1.3
"""Radius to which the profile is known, bead diameters."""

AMPLITUDE_SD = 0.3
"""Prior spread of a bead's amplitude around that of its view."""

_PROFILE_ROUNDS = 2
_FIT_ITERATIONS = 3
_NEIGHBOUR_VIEWS = 2
_NEIGHBOUR_WEIGHT = 0.5
_LARGEST_MOVE = 0.45
_MOST_MISSING = 0.35
_WHITE_FLOOR = 0.02
_NOISE_SAMPLE_PX = 384
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
    noise: _NoiseSolver | None = None
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
    disc = _disc(PATCH_RADIUS * diameter_px)
    for _ in range(_PROFILE_ROUNDS):
        _learn_profiles(views, diameter_px, step)
        map_views(lambda view: _fit_view(view, diameter_px, step, disc), views)
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


def _fit_view(view: _View, diameter_px: float, step: float, disc: NDArray[np.int64]) -> None:
    """Gauss-Newton on position, amplitude and offset of all beads of a view."""
    if not len(view.position):
        view.fits = _no_fits()
        return
    if view.noise is None:
        view.noise = _noise_solver(view, diameter_px, disc)
    radius = np.arange(len(view.profile)) * step
    even = CubicSpline(np.r_[-radius[:0:-1], radius], np.r_[view.profile[:0:-1], view.profile])
    fine = np.arange(0.0, radius[-1] + 0.05, 0.05)
    shape, slope = even(fine), even(fine, 1)
    for _ in range(_FIT_ITERATIONS):
        fisher, step_size, complete = _fit_step(view, disc, step, fine, shape, slope, view.noise)
        view.position[complete] += np.clip(step_size[complete, :2], -1.0, 1.0)
        view.amplitude[complete] = np.clip(view.amplitude[complete] + step_size[complete, 2], 0.05, 3.0)
        view.offset[complete] += step_size[complete, 3]
        moved = view.position - view.start
        far = np.maximum(np.linalg.norm(moved, axis=1) / (_LARGEST_MOVE * diameter_px), 1.0)
        view.position = view.start + moved / far[:, None]
    sd = np.sqrt(np.maximum(np.einsum("bii->bi", np.linalg.inv(fisher))[:, :2], 0.0))
    view.amplitude = view.amplitude / max(float(np.median(view.amplitude)), 0.1)
    view.fits = Fits(view.position.copy(), view.amplitude.copy(), sd, complete)


def _fit_step(
    view: _View, disc: NDArray[np.int64], step: float, fine: FloatArray, shape: FloatArray, slope: FloatArray,
    solve_noise: _NoiseSolver,
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:  # fmt: skip
    """Fisher information (b, 4, 4), Gauss-Newton step (b, 4) in (y, x, amplitude, offset), and complete patches."""
    pixels, values, valid = _patches(view, disc)
    others, _ = _neighbours_model(view, pixels, step)
    apart = pixels - view.position[:, None]
    distance = np.linalg.norm(apart, axis=2)
    model = np.interp(distance, fine, shape, right=0.0)
    slant = np.interp(distance, fine, slope, right=0.0) / np.maximum(distance, 1e-6)
    amplitude = view.amplitude[:, None]
    misfit = np.where(valid, values - view.offset[:, None] - amplitude * model - others, 0.0)
    columns = [-amplitude * slant * apart[..., 0], -amplitude * slant * apart[..., 1], model, np.ones_like(model)]
    design = np.stack(columns, axis=1) * valid[:, None]
    weighted = solve_noise(design)
    fisher = weighted @ design.transpose(0, 2, 1) + 1e-12 * np.eye(4)
    gradient = np.einsum("bam,bm->ba", weighted, misfit)
    fisher[:, 2, 2] += AMPLITUDE_SD**-2
    gradient[:, 2] -= (view.amplitude - 1.0) / AMPLITUDE_SD**2
    complete = valid.mean(axis=1) >= 1.0 - _MOST_MISSING
    return fisher, np.linalg.solve(fisher, gradient[:, :, None])[:, :, 0], complete


@dataclass(frozen=True, slots=True, eq=False)
class _NoiseSolver:
    """Multiplies rows of pixels (..., m) with the inverse of the noise covariance (m, m)."""

    inverse: FloatArray

    def __call__(self, rows: FloatArray) -> FloatArray:
        weighted: FloatArray = rows @ self.inverse
        return weighted


def _noise_solver(view: _View, diameter_px: float, disc: NDArray[np.int64]) -> _NoiseSolver:
    """Inverse covariance of the noise of a patch, from the autocorrelation of bead-free pixels of the view."""
    contrast, free = view.image.contrast, view.image.mask.copy()
    around = np.round(view.position).astype(int)[:, None] + _disc(0.9 * diameter_px)[None]
    around = _inside(around, contrast.shape)
    free[around[..., 0], around[..., 1]] = False
    middle = tuple(slice(max(0, (size - _NOISE_SAMPLE_PX) // 2), (size + _NOISE_SAMPLE_PX) // 2) for size in free.shape)
    if free[middle].sum() >= 0.25 * _NOISE_SAMPLE_PX**2:
        contrast, free = contrast[middle], free[middle]
    if free.sum() < 4 * len(disc):
        return _NoiseSolver(np.eye(len(disc)) / max(float(contrast.var()), 1e-12))
    values = contrast[free]
    limit = 8.0 * float(values.std())
    noise = np.where(free, np.clip(contrast - values.mean(), -limit, limit), 0.0).astype(np.float32)
    reach = 2 * int(np.abs(disc).max()) + 1
    padded = [fft.next_fast_len(size + reach, real=True) for size in contrast.shape]
    spectrum = fft.rfft2(np.stack([noise, free.astype(np.float32)]), padded)
    products, counts = fft.irfft2(np.abs(spectrum) ** 2, padded)
    correlation = products / np.maximum(counts, 1.0)
    lag = disc[:, None] - disc[None]
    covariance = correlation[lag[..., 0] % padded[0], lag[..., 1] % padded[1]].astype(np.float64)
    return _NoiseSolver(_positive_inverse(0.5 * (covariance + covariance.T)))


def _positive_inverse(covariance: FloatArray) -> FloatArray:
    """Inverse of a covariance with a white floor, so that no direction is trusted beyond reason."""
    size = len(covariance)
    floor = _WHITE_FLOOR * float(np.trace(covariance)) / size
    try:
        inverse: FloatArray = cho_solve(cho_factor(covariance + floor * np.eye(size)), np.eye(size))
    except LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        inverse = (vectors / np.maximum(values, floor)) @ vectors.T
    return inverse
