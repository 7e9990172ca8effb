"""Images of gold beads at known places, drawn without any code under test."""

from __future__ import annotations

import numpy as np

LEVEL = 300.0


def ball(distance_px: np.ndarray, diameter_px: float) -> np.ndarray:
    """Projected thickness of a ball, 1 in its middle, averaged over 5 x 5 points of a pixel by a soft edge."""
    return np.sqrt(np.clip(1.0 - (2.0 * distance_px / diameter_px) ** 2, 0.0, None))


def bead_image(
    positions_yx: np.ndarray, shape_yx: tuple[int, int], diameter_px: float, rng: np.random.Generator, *,
    depth: float = 0.45, noise: float = 0.05, smooth_noise: float = 0.0, amplitudes: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Float32 image of dark balls with noise relative to the level; each pixel is the mean of 5 x 5 points."""
    part = np.ones(shape_yx)
    amplitudes = np.ones(len(positions_yx)) if amplitudes is None else amplitudes
    reach = int(diameter_px) + 2
    fine = (np.arange(5) - 2) / 5.0
    for (y, x), amplitude in zip(positions_yx, amplitudes, strict=True):
        rows = np.arange(max(0, int(y) - reach), min(shape_yx[0], int(y) + reach + 1))
        columns = np.arange(max(0, int(x) - reach), min(shape_yx[1], int(x) + reach + 1))
        if not (rows.size and columns.size):
            continue
        dy = (rows[:, None] + fine).ravel() - y
        dx = (columns[:, None] + fine).ravel() - x
        thick = ball(np.hypot(dy[:, None], dx[None]), diameter_px).reshape(rows.size, 5, columns.size, 5)
        part[np.ix_(rows, columns)] -= amplitude * depth * thick.mean(axis=(1, 3))
    part += rng.normal(0.0, noise, shape_yx)
    if smooth_noise:
        part += smooth_noise * correlated_noise(shape_yx, rng)
    return (LEVEL * part).astype(np.float32)


def correlated_noise(shape_yx: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise of unit sd that is correlated over about 2 px."""
    spectrum = np.fft.rfft2(rng.normal(size=shape_yx))
    ky, kx = np.fft.fftfreq(shape_yx[0])[:, None], np.fft.rfftfreq(shape_yx[1])[None]
    noise = np.fft.irfft2(spectrum * np.exp(-2 * (np.pi * 1.5) ** 2 * (ky**2 + kx**2)), shape_yx)
    return noise / noise.std()


def spread_positions(
    n: int, shape_yx: tuple[int, int], spacing_px: float, margin_px: float, rng: np.random.Generator
) -> np.ndarray:
    """Random sub-pixel positions (n, 2) that keep apart from each other and from the edge."""
    size = np.array(shape_yx) - 1.0
    kept: list[np.ndarray] = []
    while len(kept) < n:
        place = rng.uniform(margin_px, size - margin_px)
        if all(np.linalg.norm(place - other) > spacing_px for other in kept):
            kept.append(place)
    return np.array(kept)
