"""Real bead tracks: those of IMOD's tutorial, beside IMOD's own solution of them.

IMOD leaves residuals of 0.360 px rms and of 0.313 px mean length; ours are 0.383 px rms and 0.324 px, so by either
measure ours are larger. IMOD's solution also stretches and skews the images (its matrices have singular values up to
1 % apart), which ours does not; whether that is the whole difference is not known. The bounds below keep ours from
getting worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from napari_tiltalign.methods.bundle import Bundle, Estimate, Observations, Solution, expected_information, solve
from napari_tiltalign.methods.learning import learn
from napari_tiltalign.methods.posterior import Posterior
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import ROTATION, view_matrices

IMOD_RMS_PX = 0.360
NOMINAL_DEG = 60.0 - 2.0 * np.arange(61)
IMAGE_CENTRE_PX = 256.0


@dataclass(frozen=True)
class Result:
    """Our solution of the tracks, and IMOD's residuals (k, 2)."""

    bundle: Bundle
    solution: Solution
    sure: Posterior
    imod_residual_px: np.ndarray

    def effective_parameters(self) -> float:
        """How many parameters the observations determine: sum of their leverages."""
        estimate, observations = self.solution.estimate, self.bundle.observations
        sd = estimate.noise_sd[observations.view] * observations.relative_sd
        information = expected_information(self.bundle.student_t_degrees) * self.solution.weight / sd**2
        return float(np.einsum("kii,k->", self.sure.prediction, information))


@pytest.fixture(scope="module", params=[-11.0, 5.0], ids=["axis known", "axis off by 16 deg"])
def result(request, shared_data) -> Result:
    """Solved from positions and nominal angles alone, every point starting at z = 0 in its lowest view."""
    rows = np.loadtxt(shared_data / "formats" / "imod_tutorial_BBa" / "BBa.resid", skiprows=1)
    view = rows[:, 2].astype(int)
    point = np.r_[0, np.cumsum(np.diff(view) < 0)]
    position = rows[:, [1, 0]] - IMAGE_CENTRE_PX
    n, p = len(NOMINAL_DEG), int(point.max()) + 1
    views = np.column_stack([np.full(n, request.param), NOMINAL_DEG, np.zeros((n, 3))])
    matrices = view_matrices(views, np.zeros(n))
    points = np.zeros((p, 3))
    for k in np.argsort(-np.abs(NOMINAL_DEG[view]), kind="stable"):  # the lowest tilt comes last and stays
        points[point[k], 1:] = np.linalg.solve(matrices[view[k]][:, 1:], position[k])
    bundle = Bundle(
        Observations(view, point, position, np.ones(len(view))),
        default_priors(NOMINAL_DEG, request.param),
        np.zeros(n),
        height_sd=0.3 * 512,
    )
    rough = solve(bundle, Estimate(views, points, np.full(n, 2.0)), max_iterations=100).estimate
    learned = learn(bundle, Estimate(rough.views, rough.points_zyx, np.full(n, 0.3)))
    return Result(*learned, imod_residual_px=rows[:, 3:])


def lengths(residual):
    return np.linalg.norm(residual, axis=1)


def test_tracks_are_read_as_imod_wrote_them(result):
    imod = lengths(result.imod_residual_px)
    assert len(imod) == 1403
    assert len(result.solution.estimate.points_zyx) == 23
    assert np.sqrt(np.mean(imod**2)) == pytest.approx(IMOD_RMS_PX, abs=5e-4)
    assert imod.mean() == pytest.approx(0.313, abs=5e-4)


def test_residuals_come_near_imods_without_stretch_and_skew(result, record_property):
    assert result.solution.converged
    residual, leave_out = lengths(result.solution.residual_yx), lengths(result.sure.leave_out_yx)
    for name, value in {
        "mean_residual_px": residual.mean(),
        "rms_residual_px": np.sqrt(np.mean(residual**2)),
        "mean_leave_out_px": leave_out.mean(),
        "effective_parameters": result.effective_parameters(),
    }.items():
        record_property(name, round(float(value), 4))
    imod = lengths(result.imod_residual_px)
    assert residual.mean() < 1.06 * imod.mean()
    assert np.sqrt(np.mean(residual**2)) < 1.08 * np.sqrt(np.mean(imod**2))
    assert np.sqrt(np.mean(leave_out**2)) < 0.43


def test_the_priors_hold_the_number_of_free_parameters_down(result):
    """61 views of 5 parameters and 23 points of 3 are 374; the data of 2806 coordinates pay for fewer."""
    assert 200 < result.effective_parameters() < 280


def test_the_axis_is_imods(result):
    """IMOD's matrices turn by 11.0 to 12.2 deg, skew apart."""
    assert np.median(result.solution.estimate.views[:, ROTATION]) == pytest.approx(-11.5, abs=0.5)
