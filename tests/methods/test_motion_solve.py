"""The shortcuts of the model of local motion against the long way: dense matrices, and beads really left out."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from moving_tracks import moving_beads
from scipy.linalg import block_diag

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods import motion_kernel
from napari_tiltalign.methods.motion_evidence import (
    COMPONENTS,
    BeadGrid,
    Evidence,
    learn_scales,
    refit_positions,
)
from napari_tiltalign.methods.motion_kernel import (
    ACROSS,
    Modes,
    MotionBasis,
    MotionScales,
    space_covariance,
    time_covariance,
)
from napari_tiltalign.methods.motion_problem import motion_problem
from napari_tiltalign.methods.motion_solve import ViewTerms, solve_motion

SCALES = MotionScales(0.6, 150.0, 6.0, 0.1)


@cache
def moving_grid(n: int = 11, p: int = 9) -> tuple[BeadGrid, ViewTerms]:
    scene = moving_beads(1.0, n=n, p=p)
    found = motion_problem(scene.alignment, scene.series)
    assert found is not None
    return found[0].linearised(found[1])


def covariance(grid: BeadGrid, scales: MotionScales, component: int) -> FloatArray:
    """Covariance of the motion over all beads and images, bead by bead."""
    angle = np.deg2rad(grid.tilt_deg)
    in_time = time_covariance(grid.time_steps, grid.time_steps, scales)
    in_time = in_time * np.cos(angle[:, None] - angle) if component == ACROSS else in_time
    in_space = space_covariance(grid.points_yx_px, grid.points_yx_px, scales)
    full: FloatArray = scales.amplitude_px**2 * np.kron(in_space, in_time)
    return full


def dense_cost(grid: BeadGrid, scales: MotionScales) -> float:
    """Negative log evidence with the static positions as unknowns without a prior, by the textbook."""
    seen = grid.precision.ravel() > 0
    cost = 0.0
    for component in COMPONENTS:
        noise = np.diag(scales.noise_px**2 / grid.precision.ravel()[seen])
        total = covariance(grid, scales, component)[np.ix_(seen, seen)] + noise
        design = block_diag(*[grid.static(component)] * len(grid.precision))[seen]
        residual = grid.residual_px[component].ravel()[seen]
        solved = np.linalg.solve(total, np.column_stack([design, residual]))
        normal = design.T @ solved[:, :-1]
        pull = design.T @ solved[:, -1]
        misfit = residual @ solved[:, -1] - pull @ np.linalg.solve(normal, pull)
        cost += 0.5 * (np.linalg.slogdet(total)[1] + np.linalg.slogdet(normal)[1] + misfit)
    return float(cost)


def test_modes_make_up_the_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_kernel, "_FAINTEST", 1e-9)
    grid, _ = moving_grid()
    for component in COMPONENTS:
        in_space, in_time = grid.basis(SCALES).modes(component)
        modes = (in_space[:, None] * in_time).reshape(-1, in_space.shape[1])
        np.testing.assert_allclose(modes @ modes.T, covariance(grid, SCALES, component), atol=1e-6)


def test_modes_that_noise_drowns_are_left_out() -> None:
    grid, _ = moving_grid(21, 24)
    for component in COMPONENTS:
        in_space, in_time = grid.basis(SCALES).modes(component)
        modes = (in_space[:, None] * in_time).reshape(-1, in_space.shape[1])
        missing = np.diag(covariance(grid, SCALES, component)) - (modes**2).sum(axis=1)
        assert in_space.shape[1] < 0.8 * grid.precision.size
        assert missing.max() < 0.1 * SCALES.noise_px**2


def test_there_is_always_a_mode() -> None:
    faint = dataclasses.replace(SCALES, amplitude_px=1e-6)
    basis: MotionBasis = moving_grid()[0].basis(faint)
    assert [len(pairs) for pairs in basis.pairs] == [1, 1]
    assert Modes.of(np.eye(3), 10.0).values.shape == (3, 1)


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(SCALES, amplitude_px=0.1),
        dataclasses.replace(SCALES, length_px=400.0),
        dataclasses.replace(SCALES, time_steps=2.0),
        dataclasses.replace(SCALES, noise_px=0.2),
    ],
)
def test_evidence_is_that_of_the_dense_matrices(other: MotionScales, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_kernel, "_FAINTEST", 1e-9)
    grid, _ = moving_grid()
    evidence = Evidence(grid)
    expected = dense_cost(grid, other) - dense_cost(grid, SCALES)
    assert evidence(other) - evidence(SCALES) == pytest.approx(expected, abs=1e-3)


def test_evidence_of_a_rigid_specimen_is_the_limit_of_no_motion() -> None:
    grid, _ = moving_grid()
    evidence = Evidence(grid)
    still = MotionScales(1e-9, 150.0, 6.0, evidence.rigid_noise_px)
    assert evidence(still) == pytest.approx(evidence.rigid(), abs=1e-6)
    for noise in (0.9, 1.1):
        assert evidence(dataclasses.replace(still, noise_px=noise * still.noise_px)) > evidence.rigid()


def test_learned_scales_have_more_evidence_than_any_neighbour() -> None:
    grid, _ = moving_grid(21, 24)
    scales = learn_scales(grid, 500.0)
    assert scales is not None
    evidence = Evidence(grid)
    for name in ("amplitude_px", "noise_px"):
        for factor in (0.5, 2.0):
            other = dataclasses.replace(scales, **{name: factor * getattr(scales, name)})
            assert evidence(other) > evidence(scales)


@pytest.mark.parametrize("moves", [True, False])
def test_bead_left_out_is_predicted_as_if_it_had_never_been_seen(moves: bool) -> None:
    grid, views = moving_grid()
    basis = grid.basis(SCALES) if moves else None
    bead = 4
    quick = solve_motion(grid, views, SCALES.noise_px, basis, np.array([bead])).left_out_px[:, bead]

    precision = grid.precision.copy()
    precision[bead] = 0.0
    without = dataclasses.replace(grid, precision=precision)
    rest = solve_motion(without, views, SCALES.noise_px, basis, np.zeros(0, dtype=np.intp))
    missed = grid.residual_px[:, bead] - np.einsum("cna,na->cn", views.jacobian[:, bead], rest.view_change)
    if basis is not None:
        for component in COMPONENTS:
            in_space, in_time = basis.modes(component)
            missed[component] -= (in_time * in_space[bead]) @ rest.amplitudes[component]
    refitted = refit_positions(grid.take(np.array([bead])), missed[:, None])[1][:, 0]
    seen = grid.precision[bead] > 0
    np.testing.assert_allclose(quick[:, seen], refitted[:, seen], atol=1e-5)
    assert np.isnan(quick[:, ~seen]).all()


def test_solution_is_where_the_posterior_is_flat() -> None:
    """Against the normal equations of everything at once, static positions included."""
    grid, views = moving_grid()
    basis = grid.basis(SCALES)
    solution = solve_motion(grid, views, SCALES.noise_px, basis, np.zeros(0, dtype=np.intp))
    p, n = grid.precision.shape
    rows, residual, weight = [], [], []
    sizes = [len(views.held), *(len(pairs) for pairs in basis.pairs), 2 * p, p]
    for component in COMPONENTS:
        in_space, in_time = basis.modes(component)
        by_view = np.stack([block_diag(*views.jacobian[component, b][:, None]) for b in range(p)]).reshape(p * n, -1)
        parts = [by_view, *(np.zeros((p * n, size)) for size in sizes[1:])]
        parts[1 + component] = (in_space[:, None] * in_time).reshape(p * n, -1)
        parts[3 + component] = np.kron(np.eye(p), grid.static(component))
        rows.append(np.hstack(parts))
        residual.append(grid.residual_px[component].ravel())
        weight.append(grid.precision.ravel() / SCALES.noise_px**2)
    design, seen = np.vstack(rows), np.concatenate(weight)
    free = np.concatenate([~views.held, np.ones(sum(sizes[1:]), bool)])
    prior = block_diag(views.prior_precision, np.eye(sizes[1] + sizes[2]), np.zeros((3 * p, 3 * p)))
    pull = np.concatenate([views.prior_pull, np.zeros(sum(sizes[1:]))])
    normal = ((design.T * seen) @ design + prior)[np.ix_(free, free)]
    expected = np.zeros(len(free))
    expected[free] = np.linalg.solve(normal, (design.T @ (seen * np.concatenate(residual)) + pull)[free])
    np.testing.assert_allclose(solution.view_change.ravel(), expected[: sizes[0]], atol=1e-5)
    left = (np.concatenate(residual) - design @ expected).reshape(2, p, n)
    used = grid.precision > 0
    np.testing.assert_allclose(solution.residual_px[:, used], left[:, used], atol=1e-5)
