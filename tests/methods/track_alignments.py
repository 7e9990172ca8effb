"""Alignments that rest on simulated tracks, without any image."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods.learned_model import DETAILS_KEY, LearnedModel
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import Alignment, Tracks

PIXEL_SIZE_ANGST = 8.0
SHAPE_YX = (401, 520)
NOISE_PX = 0.1


def true_geometry(n: int, seed: int) -> ViewGeometry:
    """Geometry of n images in the order of a dose-symmetric scheme."""
    rng = np.random.default_rng(seed)
    order = np.argsort(np.abs(np.arange(n) - n // 2), kind="stable")
    tilt = np.linspace(-60.0, 60.0, n)[order]
    return ViewGeometry(
        x_tilt_deg=np.zeros(n),
        y_tilt_deg=tilt + rng.normal(0, 0.2, n),
        z_rot_deg=-4.3 + rng.normal(0, 0.1, n),
        shift_yx_angst=rng.normal(0, 20 * PIXEL_SIZE_ANGST, (n, 2)),
        magnification=np.exp(rng.normal(0, 3e-4, n)),
    )


def nominal_tilts(n: int) -> np.ndarray:
    """Stage tilts that belong to `true_geometry`."""
    return np.linspace(-60.0, 60.0, n)[np.argsort(np.abs(np.arange(n) - n // 2), kind="stable")]


def aligned_tracks(n: int = 21, p: int = 12, seed: int = 0, noise_px: float = NOISE_PX) -> Alignment:
    """Tracks of p beads with some gaps, solved; the true geometry is in ``details["truth"]`` of no alignment."""
    rng = np.random.default_rng([seed, 1])
    geometry = true_geometry(n, seed)
    size = np.array(SHAPE_YX) * PIXEL_SIZE_ANGST
    points = np.column_stack([rng.uniform(-600, 600, p), rng.uniform(-0.45, 0.45, (p, 2)) * size])
    tilt, track = (index.ravel() for index in np.indices((n, p)))
    kept = rng.random(tilt.size) < 0.9
    tilt, track = tilt[kept], track[kept]
    position = geometry.project(points)[tilt, track] / PIXEL_SIZE_ANGST + np.array(SHAPE_YX) // 2
    ids = tuple(f"image_{k:02d}" for k in range(n))
    tracks = Tracks.from_observations(ids, points, track, tilt, position + rng.normal(0, noise_px, position.shape))
    model = LearnedModel(default_priors(nominal_tilts(n), -4.0), np.full(n, noise_px), 0.0, 0.3 * max(SHAPE_YX))
    start = ViewGeometry.nominal(nominal_tilts(n), -4.0).replace(shift_yx_angst=geometry.shift_yx_angst)
    unsolved = Alignment(
        "TS", ids, start, PIXEL_SIZE_ANGST, SHAPE_YX, np.ones(n, bool), tracks=tracks,
        details={DETAILS_KEY: model.to_details()},
    )  # fmt: skip
    return resolve(unsolved, tracks)
