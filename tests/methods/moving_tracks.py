"""Beads on a specimen that moves in itself, tracked without any image, and the alignment solved from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.methods.learned_model import DETAILS_KEY, LearnedModel
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import Alignment, ArrayImage, Tilt, TiltSeries, Tracks

PIXEL_SIZE_ANGST = 8.0
SHAPE_YX = (500, 460)
NOISE_PX = 0.08


@dataclass(frozen=True)
class Scene:
    """What is true, and what was made of it."""

    series: TiltSeries
    alignment: Alignment
    geometry: ViewGeometry
    amplitude_px: float
    seed: int

    def seen_px(self, points_zyx_angst: FloatArray) -> FloatArray:
        """Where points, as they were at first, are seen, shape (n, p, 2), pixels from the image centre."""
        dose = np.array([tilt.pre_exposure_e_per_A2 for tilt in self.series.tilts])
        moved = [points_zyx_angst + self._motion_angst(points_zyx_angst, d / dose.max()) for d in dose]
        seen = [self.geometry.take([i]).project(points)[0] for i, points in enumerate(moved)]
        return np.array(seen) / PIXEL_SIZE_ANGST

    def _motion_angst(self, points_zyx_angst: FloatArray, progress: float) -> FloatArray:
        """Three waves as long as the field or longer, slowing down while it is exposed."""
        rng = np.random.default_rng([self.seed, 2])
        angle, length = rng.uniform(0, 2 * np.pi, 3), rng.uniform(1.0, 2.0, 3) * min(SHAPE_YX) * PIXEL_SIZE_ANGST
        wave = 2 * np.pi / length[:, None] * np.column_stack([np.sin(angle), np.cos(angle)])
        crest = np.cos(points_zyx_angst[:, 1:] @ wave.T + rng.uniform(0, 6, 3))
        motion: FloatArray = crest @ rng.normal(size=(3, 3)) * np.sqrt(progress) * self.amplitude_px * PIXEL_SIZE_ANGST
        return motion


def moving_beads(
    amplitude_px: float,
    *,
    seed: int = 0,
    n: int = 21,
    p: int = 24,
    pretilt_deg: float = 0.0,
    x_tilt_deg: float = 0.0,
) -> Scene:
    """Solve the tracks of p beads in n images of a slanted specimen that moves by about `amplitude_px`."""
    rng = np.random.default_rng([seed, 1])
    size = np.array(SHAPE_YX) * PIXEL_SIZE_ANGST
    nominal = np.linspace(-60.0, 60.0, n)[np.argsort(np.abs(np.arange(n) - n // 2), kind="stable")]
    geometry = ViewGeometry(
        x_tilt_deg=np.full(n, x_tilt_deg),
        y_tilt_deg=nominal + pretilt_deg + rng.normal(0, 0.1, n),
        z_rot_deg=-4.3 + rng.normal(0, 0.05, n),
        shift_yx_angst=rng.normal(0, 10 * PIXEL_SIZE_ANGST, (n, 2)),
        magnification=np.exp(rng.normal(0, 2e-4, n)),
    )
    ids = tuple(f"image_{k:02d}" for k in range(n))
    pixels = np.zeros((2, 2), np.float32)
    tilts = [
        Tilt(i, ArrayImage(pixels), float(t), -4.0, 3.0 * k) for k, (i, t) in enumerate(zip(ids, nominal, strict=True))
    ]
    series = TiltSeries("TS", tuple(tilts), PIXEL_SIZE_ANGST, SHAPE_YX)
    points = np.column_stack([rng.choice([-600.0, 600.0], p), rng.uniform(-0.5, 0.5, (p, 2)) * size])
    start = ViewGeometry.nominal(nominal, -4.0).replace(shift_yx_angst=geometry.shift_yx_angst)
    model = LearnedModel(default_priors(nominal, -4.0), np.full(n, NOISE_PX), 0.0, 0.2 * max(SHAPE_YX))
    unsolved = Alignment(
        "TS", ids, start, PIXEL_SIZE_ANGST, SHAPE_YX, np.ones(n, bool), details={DETAILS_KEY: model.to_details()}
    )
    scene = Scene(series, unsolved, geometry, amplitude_px, seed)
    tilt, track = (index.ravel() for index in np.indices((n, p)))
    position = scene.seen_px(points)
    inside = (np.abs(position) < np.array(SHAPE_YX) / 2).all(axis=2).ravel() & (rng.random(n * p) < 0.95)
    position = position.reshape(-1, 2)[inside] + np.array(SHAPE_YX) // 2 + rng.normal(0, NOISE_PX, (inside.sum(), 2))
    tracks = Tracks.from_observations(ids, points, track[inside], tilt[inside], position)
    often = np.bincount(track[inside], minlength=p) >= 4
    tracks = tracks.take_tracks(often)
    return Scene(series, resolve(unsolved, tracks), geometry, amplitude_px, seed)
