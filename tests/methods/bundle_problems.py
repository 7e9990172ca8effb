"""Bundle adjustment problems whose answer is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from napari_tiltalign.methods.bundle import Bundle, Estimate, Observations
from napari_tiltalign.methods.priors import ViewPriors, default_priors
from napari_tiltalign.methods.projection import SHIFT_Y, project

FIELD_PX = 500.0
HEIGHT_SD_PX = 60.0
AXIS_DEG = -4.3
NOISE_PX = 0.2


@dataclass(frozen=True)
class Problem:
    """Exact positions of p points in n views, and where they come from."""

    true: Estimate
    bundle: Bundle
    start: Estimate

    def with_noise(self, rng: np.random.Generator, noise: np.ndarray | None = None) -> Bundle:
        """The bundle with errors added to its observations: normal ones of the true size, or given ones (k, 2)."""
        observations = self.bundle.observations
        if noise is None:
            noise = rng.normal(0.0, 1.0, observations.position_yx.shape)
        scaled = noise * self.true.noise_sd[observations.view, None]
        return self.bundle.replace(observations=replace(observations, position_yx=observations.position_yx + scaled))


def drawn_from_priors(priors: ViewPriors, rng: np.random.Generator) -> np.ndarray:
    """View parameters (n, 5): rotation, tilt and magnification from their priors, shifts of some pixels."""
    n = len(priors.tilt_deg.mean)
    values = [rng.multivariate_normal(prior.mean, prior.covariance()) for prior in priors]
    return np.column_stack([*values, rng.normal(0.0, 20.0, (n, 2))])


def make_problem(
    seed: int = 0, *, n: int = 15, p: int = 8, share_seen: float = 1.0, x_tilt_deg: float = 0.0,
    points_zyx: np.ndarray | None = None, student_t_degrees: float = 4.0, axis_sd_deg: float = 0.5,
) -> Problem:  # fmt: skip
    """Draw a problem from its own priors; some observations are missing, each point and view keeps some."""
    rng = np.random.default_rng(seed)
    tilt = np.linspace(-60.0, 60.0, n)
    priors = default_priors(tilt, AXIS_DEG, axis_sd_deg)
    views = drawn_from_priors(priors, rng)
    if points_zyx is None:
        points_zyx = np.column_stack(
            [rng.normal(0.0, HEIGHT_SD_PX, p), rng.uniform(-FIELD_PX / 2, FIELD_PX / 2, (p, 2))]
        )
    view, point = (index.ravel() for index in np.indices((n, len(points_zyx))))
    seen = (rng.random(view.size) < share_seen) | (view == point % n)
    view, point = view[seen], point[seen]
    x_tilt = np.full(n, x_tilt_deg)
    position = project(views, points_zyx, x_tilt)[view, point]
    noise = NOISE_PX * np.linspace(0.8, 1.2, n)
    bundle = Bundle(
        Observations(view, point, position, np.ones(len(view))), priors, x_tilt, HEIGHT_SD_PX,
        student_t_degrees=student_t_degrees,
    )  # fmt: skip
    nominal = np.column_stack([np.full(n, AXIS_DEG), tilt, np.zeros((n, 3))])
    nominal[:, SHIFT_Y:] = views[:, SHIFT_Y:] + rng.normal(0.0, 2.0, (n, 2))
    flat = points_zyx + rng.normal(0.0, 5.0, points_zyx.shape)
    return Problem(Estimate(views, points_zyx, noise), bundle, Estimate(nominal, flat, noise))
