"""Measure patches, solve, look again in the better geometry: the rounds of patch tracking."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.methods.area import Area
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.methods.flat_series import Level
from napari_tiltalign.methods.patch_coherence import (
    Coherence,
    Spectra,
    fitted,
    log_likelihood,
    pair_filters,
    slab_coherence,
)
from napari_tiltalign.methods.patch_grid import patch_grid, redundancy
from napari_tiltalign.methods.patch_linear import PatchErrors, PatchProblem
from napari_tiltalign.methods.patch_measure import cut_spectra, displacements
from napari_tiltalign.methods.patch_solve import PatchStep, first_errors, independent_sd, solve_step
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, SHIFT_Y, TILT, geometry_from_views, view_matrices

LEAST_PATCHES = 3

_HEIGHT_SD = 0.03
"""Spread of the patches' heights around a plane, parts of the thickness: a patch is a mean over many things."""
_LARGEST_STEP = 0.3
"""A step moves patches at most by this part of the shortest wave used; beyond, phases are ambiguous."""
_SETTLED = 0.02
_THICKNESSES = np.array([0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.12, 1.3, 1.6, 2.1])
_THINNEST, _THICKEST = 100.0, 10000.0


@dataclass(frozen=True, slots=True, eq=False)
class PatchState:
    """Where patch tracking stands; n views that take part, lengths in Angstrom.

    Attributes
    ----------
    used
        Shape (n,): which views of the flat series.
    views
        Shape (n, 5), see `projection`, in a frame where the specimen is level.
    x_tilt_deg
        Shape (n,).
    tilt_offset_deg, x_tilt_offset_deg
        What was added to all tilts and x tilts to make it level.
    priors
        Of the views without the offset.
    coherence
        Signal, noise and thickness.
    """

    used: NDArray[np.intp]
    views: FloatArray
    x_tilt_deg: FloatArray
    tilt_offset_deg: float
    x_tilt_offset_deg: float
    priors: ViewPriors
    coherence: Coherence

    def replace(self, **changes: object) -> PatchState:
        """Return a copy with some fields replaced."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @property
    def geometry(self) -> ViewGeometry:
        """Geometry of the n views."""
        return geometry_from_views(self.views, self.x_tilt_deg, 1.0)

    @property
    def priors_here(self) -> ViewPriors:
        """Priors in the frame of the views."""
        tilt = self.priors.tilt_deg
        return ViewPriors(
            self.priors.rotation_deg,
            dataclasses.replace(tilt, mean=tilt.mean + self.tilt_offset_deg),
            self.priors.log_magnification,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """How finely to look.

    Attributes
    ----------
    level
        The images.
    window_angst, spacing_angst
        Of the patches.
    highest
        Highest frequency, cycles per Angstrom in the views.
    area
        Where patches may lie, in the view with the lowest tilt.
    """

    level: Level
    window_angst: float
    spacing_angst: float
    highest: float
    area: Area = Area()  # noqa: RUF009 (frozen)


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """Patches as measured in the last round.

    Attributes
    ----------
    state
        Where it stands, after the last step.
    points_zyx
        Shape (p, 3): patches in the frame of the state.
    seen
        Shape (p, n): whether a view shows a patch.
    step
        The last step, and the tracks.
    measured_at
        State that the last round measured in.
    measured_points_zyx
        Patches that it measured, in the frame of that state.
    errors
        How the patches err.
    sd_angst
        Shape (p, n): standard deviation of a coordinate of the tracks, for a bundle of independent observations.
    strength
        Shape (p,): structure of every patch against the typical one, in what it tells.
    likelihood
        Log likelihood per patch.
    moved_angst
        How far the last step moved the patches, root mean square.
    shortest_wave_angst
        Of those that patches were compared by.
    """

    state: PatchState
    points_zyx: FloatArray
    seen: NDArray[np.bool_]
    step: PatchStep
    measured_at: PatchState
    measured_points_zyx: FloatArray
    errors: PatchErrors
    sd_angst: FloatArray
    strength: FloatArray
    likelihood: float
    moved_angst: float
    shortest_wave_angst: float


def track(
    state: PatchState,
    scale: Scale,
    field_yx_angst: FloatArray,
    rounds: int,
    *,
    learn_priors: bool = False,
    progress: Progress = silent,
) -> Tracked:
    """Measure and solve patches in rounds, until nothing moves.

    Parameters
    ----------
    state
        Where to start.
    scale
        How finely to look.
    field_yx_angst
        Size of the images.
    rounds
        How often at most.
    learn_priors
        Whether to learn how freely rotation, tilt and magnification vary from view to view.
    progress
        Told how far it is.

    Raises
    ------
    MethodFailed
        If too few patches are seen, or they do not determine the views.
    """
    lowest = int(np.argmin(np.abs(state.priors.tilt_deg.mean)))
    points = patch_grid(
        state.geometry, field_yx_angst, scale.window_angst, scale.spacing_angst,
        lambda grid: scale.area.holds_points(grid, state.geometry, lowest, field_yx_angst),
    )  # fmt: skip
    if len(points) < LEAST_PATCHES:
        where, larger = (" and the area", ", or a larger area") if scale.area.polygons_xy_percent else ("", "")
        raise MethodFailed(
            f"only {len(points)} patches of this size lie within most views{where}, {LEAST_PATCHES} are needed; "
            f"choose smaller patches (--patch-size-nm){larger}"
        )
    shared = redundancy(scale.window_angst, scale.spacing_angst)
    filters = result = None
    errors: PatchErrors | None = None
    for round_ in range(rounds):
        progress(round_ / rounds, "measuring patches")
        spectra, seen = cut_spectra(
            scale.level, state.used, state.geometry, points, scale.window_angst, scale.highest
        )  # fmt: skip
        if filters is None:
            slab = slab_coherence(spectra, state.coherence.thickness_angst)
            coherence = fitted(spectra, state.coherence, slab)
            state = state.replace(coherence=coherence)
            filters = pair_filters(spectra, coherence, slab)
        measured = displacements(spectra, seen, filters)
        problem = PatchProblem(
            state.views, state.x_tilt_deg, points, measured, state.priors_here,
            _HEIGHT_SD * state.coherence.thickness_angst, shared,
        )  # fmt: skip
        step, errors = solve_step(problem, errors or first_errors(measured), learn=round_ > 0)
        likelihood = log_likelihood(spectra, filters)
        if learn_priors and round_ > 0:
            state = state.replace(priors=_learned_priors(state, step))
        measured_at, measured_points = state, points
        state, points, moved = _stepped(state, points, step, seen, _LARGEST_STEP / scale.highest)
        state, points = levelled(state, points)
        result = Tracked(
            state, points, seen, step, measured_at, measured_points, errors, step.observation_sd, measured.strength,
            likelihood, moved, 1.0 / scale.highest,
        )  # fmt: skip
        if round_ > 2 and moved < _SETTLED / scale.highest:
            break
    if result is None or errors is None:
        raise ValueError("at least one round is needed")
    return dataclasses.replace(result, sd_angst=independent_sd(problem, errors, step))


def _learned_priors(state: PatchState, step: PatchStep) -> ViewPriors:
    """One round of learning of the priors (the M step of empirical Bayes), about nominal tilts again."""
    n = len(state.views)
    covariance = step.view_covariance.reshape(n, N_VIEW_PARAMETERS, n, N_VIEW_PARAMETERS)
    values = state.views + step.view_step
    learned = ViewPriors(*(p.learned(values[:, k], covariance[:, k, :, k]) for k, p in enumerate(state.priors_here)))
    tilt = dataclasses.replace(learned.tilt_deg, mean=state.priors.tilt_deg.mean)
    return ViewPriors(learned.rotation_deg, tilt, learned.log_magnification)


def _stepped(
    state: PatchState, points: FloatArray, step: PatchStep, seen: NDArray[np.bool_], largest: float
) -> tuple[PatchState, FloatArray, float]:
    size = np.linalg.norm(step.moved_by_views_yx[seen], axis=1)
    part = min(1.0, largest / max(float(np.percentile(size, 98)), 1e-9))
    moved = points.copy()
    moved[:, 0] += np.clip(step.height_step, -2 * largest, 2 * largest)
    views = state.views + part * step.view_step
    return state.replace(views=views), moved, float(np.sqrt(np.mean(size**2)))


def levelled(state: PatchState, points_zyx: FloatArray) -> tuple[PatchState, FloatArray]:
    """Turn and move the frame so that the plane through the patches is level and at height 0; images see the same.

    What a plane cannot take up exactly (a slope changes lengths in second order) the next round measures anew.
    """
    plane, heights = _robust_plane(points_zyx)
    views = state.views.copy()
    views[:, SHIFT_Y:] += view_matrices(views, state.x_tilt_deg)[:, :, 0] * plane[2]
    tilt, x_tilt = (float(np.rad2deg(np.arctan(slope))) for slope in (-plane[1], plane[0]))
    views[:, TILT] += tilt
    flat = points_zyx.copy()
    flat[:, 0] = heights
    level = state.replace(
        views=views,
        x_tilt_deg=state.x_tilt_deg + x_tilt,
        tilt_offset_deg=state.tilt_offset_deg + tilt,
        x_tilt_offset_deg=state.x_tilt_offset_deg + x_tilt,
    )
    return level, flat


def _robust_plane(points_zyx: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slopes along y and x and height of a plane through points (Cauchy weights), and the heights above it."""
    basis = np.column_stack([points_zyx[:, 1:], np.ones(len(points_zyx))])
    root = np.ones(len(points_zyx))
    for _ in range(8):
        plane = np.linalg.lstsq(basis * root[:, None], points_zyx[:, 0] * root, rcond=None)[0]
        apart = points_zyx[:, 0] - basis @ plane
        sd = 1.4826 * float(np.median(np.abs(apart))) + 1.0
        root = np.sqrt(1.0 / (1.0 + (apart / (2.0 * sd)) ** 2))
    return plane, apart


def estimate_thickness(state: PatchState, scale: Scale, points_zyx: FloatArray) -> tuple[float, float]:
    """Most likely thickness of the slab in the current geometry, Angstrom, and its log likelihood per patch."""
    spectra, _ = cut_spectra(scale.level, state.used, state.geometry, points_zyx, scale.window_angst, scale.highest)
    tried = np.clip(_THICKNESSES * state.coherence.thickness_angst, _THINNEST, _THICKEST)
    scores = np.array([_likelihood(spectra, state.coherence, thickness) for thickness in tried])
    best = int(np.argmax(scores))
    if 0 < best < len(tried) - 1:
        x, y = np.log(tried[best - 1 : best + 2]), scores[best - 1 : best + 2]
        a, b, _ = np.polyfit(x - x[1], y - y[1], 2)
        if a < 0:
            return float(np.exp(x[1] - 0.5 * b / a)), float(scores[best])
    return float(tried[best]), float(scores[best])


def _likelihood(spectra: Spectra, coherence: Coherence, thickness_angst: float) -> float:
    slab = slab_coherence(spectra, thickness_angst)
    adapted = fitted(spectra, coherence.replace(thickness_angst=thickness_angst), slab)
    return log_likelihood(spectra, pair_filters(spectra, adapted, slab))
