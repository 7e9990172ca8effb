"""The bundle adjustment alone, on exact positions with noise added."""

from __future__ import annotations

import dataclasses

import numpy as np

from napari_tiltalign.methods.bundle import Bundle, Estimate, Observations, solve
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import project

NOISE_PX = 0.3
FIELD_PX = 512.0


class BundleAdjustment:
    """Views x beads; what an interactive edit has to wait for is the re-solve."""

    params = ([41, 61], [20, 50])
    param_names = ("views", "beads")

    def setup(self, n_views: int, n_beads: int) -> None:
        rng = np.random.default_rng(0)
        tilt = np.linspace(-60.0, 60.0, n_views)
        nominal = np.column_stack([np.zeros(n_views), tilt, np.zeros((n_views, 3))])
        true = nominal + rng.normal(0.0, (0.2, 0.2, 3e-4, 2.0, 2.0), nominal.shape)
        points = rng.uniform(-0.5, 0.5, (n_beads, 3)) * (0.2 * FIELD_PX, FIELD_PX, FIELD_PX)
        view, point = (index.ravel() for index in np.indices((n_views, n_beads)))
        x_tilt = np.zeros(n_views)
        seen = project(true, points, x_tilt)[view, point] + rng.normal(0.0, NOISE_PX, (view.size, 2))
        observations = Observations(view, point, seen, np.ones(view.size))
        self.bundle = Bundle(observations, default_priors(tilt, 0.0), x_tilt, height_sd=0.12 * FIELD_PX)
        self.start = Estimate(nominal, points, np.full(n_views, NOISE_PX))
        self.solved = solve(self.bundle, self.start).estimate
        self.edited = self._with_one_bead_pulled()

    def _with_one_bead_pulled(self) -> Bundle:
        positions = self.bundle.observations.position_yx.copy()
        positions[0] += 2.0
        return self.bundle.replace(observations=dataclasses.replace(self.bundle.observations, position_yx=positions))

    def time_solve(self, n_views: int, n_beads: int) -> None:
        solve(self.bundle, self.start)

    def time_resolve_after_one_edit(self, n_views: int, n_beads: int) -> None:
        solve(self.edited, self.solved)
