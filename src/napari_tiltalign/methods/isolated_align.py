"""The course of projection matching for a specimen that stands alone in vacuum.

From the first geometry (`isolated_start`) every view is matched to what the others predict of it (`isolated_model`).
With the reconstruction eliminated, the displacements of all views are solved together: ``(y + D step)' Q (y + D step)``
is least, where the columns of D are the changes of the views with their parameters and ``Q = 1 - S`` couples views that
predict each other (variable projection, Golub and Pereyra 1973). A drift that neighbouring views share is thus seen as
faintly as it is, and not taken for truth. Priors are those of the bundle adjustment.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.methods.isolated_model import Matrix, Sections, sections
from napari_tiltalign.methods.isolated_start import centred, first_geometry, frame_axes
from napari_tiltalign.methods.isolated_views import MassSeries
from napari_tiltalign.methods.priors import ViewPriors, default_priors
from napari_tiltalign.methods.projection import (
    LOG_MAGNIFICATION,
    N_VIEW_PARAMETERS,
    ROTATION,
    SHIFT_X,
    SHIFT_Y,
    TILT,
    geometry_from_views,
    views_from_geometry,
)

MOST_SAMPLES = 4000
"""Views times samples across the axis: the matrices have so many rows and columns."""
LEAST_VIEWS = 5
_EDGE_SAMPLES = 3
_EXTENT = 99.5
_LEAST_VIEWS_OF_ROW = 0.5
_FILL_ROUNDS = 4
_FIRST_ROUNDS, _ROUNDS = 3, 4
_SETTLED_SAMPLES = 0.01
_LARGEST_STEP_SAMPLES = 2.0
_LEAST_AGREEMENT = 0.7
"""Views that correlate less with their prediction do not show the same specimen."""
_DATA_WEIGHT = 0.1
"""What information is multiplied with: errors of the model, unlike noise, are alike in neighbouring views and rows.
In simulated needles the gradients of groups of views vary up to ten times more than noise alone explains."""
_FIXED_AXIS_DEG = 1e-3
_FREE_AXIS_DEG = 8.0
_HOLD = 1e-6
_GAIN = (0.5, 2.0)
_SPECIMEN = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class IsolatedState:
    """How far the work is; n views in order of tilt, k of them used.

    Attributes
    ----------
    geometry
        Of the n views.
    used
        Shape (n,).
    v_angst, u_angst
        Places of the rows along the axis and of the m samples across it.
    seen, predicted, residual
        Shapes (k, rows, m): views, predictions from the others, and ``Q y``.
    shown
        Shape (k, rows): whether a view shows all of a row.
    slopes
        Shape (2, k, rows, m): change of the predictions along v and u, per Angstrom.
    normal
        Shape (5 k, 5 k): information about the parameters of the views, priors included.
    noise_variance
        Of a sample.
    agreement
        Shape (k,): correlation of the views with their predictions.
    model
        The matrices.
    moved
        Root mean square motion in the last round, Angstrom.
    """

    geometry: ViewGeometry
    used: NDArray[np.bool_]
    v_angst: FloatArray
    u_angst: FloatArray
    seen: Matrix
    predicted: Matrix
    residual: Matrix
    shown: NDArray[np.bool_]
    slopes: Matrix
    normal: FloatArray
    noise_variance: float
    agreement: FloatArray
    model: Sections
    moved: float

    @property
    def pitch_angst(self) -> float:
        """Distance of the samples."""
        return float(self.v_angst[1] - self.v_angst[0])


def align_isolated(
    masses: MassSeries, start: ViewGeometry, *, from_start: bool, refine_axis: bool, progress: Progress = silent
) -> IsolatedState:
    """Align the views of a specimen in vacuum.

    Parameters
    ----------
    masses
        The views.
    start
        Geometry of its n views in order of tilt to start from.
    from_start
        Whether the start is an alignment already.
    refine_axis
        Whether the axis may leave where it starts.
    progress
        Told from 0 to 1.
    """
    geometry = start if from_start else first_geometry(masses, start, find_axis=refine_axis)
    progress(0.3, "matching projections")
    geometry = centred(masses, geometry)
    work = _Work.of(masses, geometry, float(np.median(start.z_rot_deg)), refine_axis)
    state = work.state(geometry, masses.usable, None)
    for round_ in range(_FIRST_ROUNDS):
        progress(0.4 + 0.07 * round_, "matching projections")
        state = work.moved(state, level_too=True)
    known = masses.usable.copy()
    known[masses.usable] = state.agreement >= _LEAST_AGREEMENT
    if known.sum() >= LEAST_VIEWS and (known != masses.usable).any():
        state = work.state(state.geometry, known, None)
    for round_ in range(_ROUNDS):
        progress(0.65 + 0.07 * round_, "matching projections")
        state = work.moved(state, level_too=False)
        if state.moved < _SETTLED_SAMPLES * work.pitch:
            break
    return state


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    masses: MassSeries
    pitch: float
    v_angst: FloatArray
    u_angst: FloatArray
    axis_deg: float
    refine_axis: bool

    @classmethod
    def of(cls, masses: MassSeries, geometry: ViewGeometry, axis_deg: float, refine_axis: bool) -> _Work:
        """Choose the rows that most views show, and the width that holds the specimen."""
        v, u = frame_axes(masses)
        mass, _ = masses.sampled(geometry, v, u)
        used = np.flatnonzero(masses.usable)
        bright = mass[used] > max(_SPECIMEN, 4.0 * float(np.median(masses.noise[used])))
        _, inside = masses.sampled(geometry, v, u[len(u) // 2 : len(u) // 2 + 1])
        rows = inside[used].mean(axis=0) >= _LEAST_VIEWS_OF_ROW
        extent = [np.percentile(np.abs(u[np.nonzero(view[rows])[1]]), _EXTENT) for view in bright if view[rows].any()]
        half = float(np.percentile(extent, 90.0)) + _EDGE_SAMPLES * masses.pitch_angst if extent else float(u[-1])
        samples = 2.0 * half / masses.pitch_angst
        pitch = masses.pitch_angst * max(1.0, len(used) * samples / MOST_SAMPLES)
        across = np.arange(-round(half / pitch), round(half / pitch) + 1) * pitch
        shown = v[rows]
        along = np.arange(np.ceil(shown[0] / pitch), np.floor(shown[-1] / pitch) + 1) * pitch
        return cls(masses, pitch, along, across, axis_deg, refine_axis)

    def state(
        self, geometry: ViewGeometry, used: NDArray[np.bool_], model: Sections | None, moved: float = np.inf
    ) -> IsolatedState:
        """Look at all views in a geometry."""
        mass, shown = self.masses.sampled(geometry, self.v_angst, self.u_angst)
        mass, shown = mass[used], shown[used]
        k, _, m = mass.shape
        filled = _filled_by_mean(mass, shown)
        rows = _as_rows(filled)
        if model is None:
            model = sections(geometry.y_tilt_deg[used], m // 2, rows)
        for _ in range(_FILL_ROUNDS):
            residual = model.residuals(rows)
            predicted = model.predictions(rows, residual)
            filled = np.where(shown[:, :, None], mass, _as_views(predicted, k))
            gain = np.array([_gain(f, p) for f, p in zip(filled, _as_views(predicted, k), strict=True)], np.float32)
            rows = _as_rows(filled / gain[:, None, None])
        residual = model.residuals(rows)
        predicted = _as_views(model.predictions(rows, residual), k)
        seen, residual_views = _as_views(rows, k), _as_views(residual, k)
        variance = float(np.sum(seen * residual_views, dtype=np.float64)) / seen.size
        slopes = np.stack([np.gradient(predicted, self.pitch, axis=axis) for axis in (1, 2)])
        slopes *= shown[None, :, :, None]
        agreement = np.array([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(seen, predicted, strict=True)])
        size = k * N_VIEW_PARAMETERS
        return IsolatedState(
            geometry, used, self.v_angst, self.u_angst, seen, predicted, residual_views, shown, slopes,
            np.eye(size), max(variance, 1e-20), agreement, model, moved,
        )  # fmt: skip

    def moved(self, state: IsolatedState, *, level_too: bool) -> IsolatedState:
        """Solve once, and look again."""
        used = state.used
        views = views_from_geometry(state.geometry, 1.0)
        changes = self._changes(state)
        normal, right = _system(state, changes, level_too=level_too)
        normal *= _DATA_WEIGHT
        right *= _DATA_WEIGHT
        index = np.arange(int(used.sum())) * N_VIEW_PARAMETERS
        for kind, prior in enumerate(self._priors(state).take(np.flatnonzero(used))):
            precision = prior.precision()
            normal[np.ix_(index + kind, index + kind)] += precision
            right[index + kind] -= precision @ (views[used, kind] - prior.mean)
        diagonal = np.diag(normal).copy()
        for kind in (SHIFT_Y, SHIFT_X):
            normal[index + kind, index + kind] += _HOLD * float(np.median(diagonal[index + kind]))
        free = np.ones(len(normal), bool)
        free[index + TILT] = False  # a narrow specimen hardly shows tilts: they stay as they are
        found = np.zeros(len(normal))
        found[free] = cho_solve(cho_factor(normal[np.ix_(free, free)]), right[free])
        step = found.reshape(-1, N_VIEW_PARAMETERS)
        step[:, SHIFT_Y:] -= _common_displacement(step[:, SHIFT_Y:], state.geometry.take(used))
        motion = [np.einsum("akvu,ka->kvu", change, step) for change in changes]
        weight = np.square(state.slopes).sum(axis=0)
        size = float(np.sqrt(np.sum(weight * (motion[0] ** 2 + motion[1] ** 2)) / max(float(weight.sum()), 1e-30)))
        step *= min(1.0, _LARGEST_STEP_SAMPLES * self.pitch / max(size, 1e-12))
        views[used] += step
        geometry = geometry_from_views(views, state.geometry.x_tilt_deg, 1.0)
        after = self.state(geometry, used, state.model, size)
        return dataclasses.replace(after, normal=normal)

    def _priors(self, state: IsolatedState) -> ViewPriors:
        free = _FREE_AXIS_DEG if self.refine_axis else _FIXED_AXIS_DEG
        return default_priors(self.masses.nominal_tilt_deg, self.axis_deg, free)

    def _changes(self, state: IsolatedState) -> tuple[Matrix, Matrix]:
        """Displacements along v and u of all places by every parameter but the tilt, shape (5, k, rows, m) each."""
        k, rows, m = state.seen.shape
        v, u = np.broadcast_to(self.v_angst[:, None], (rows, m)), np.broadcast_to(self.u_angst, (rows, m))
        angle = np.deg2rad(state.geometry.z_rot_deg[state.used])
        along, across = (np.zeros((N_VIEW_PARAMETERS, k, rows, m), np.float32) for _ in range(2))
        along[ROTATION], across[ROTATION] = np.deg2rad(1.0) * u, -np.deg2rad(1.0) * v
        along[LOG_MAGNIFICATION], across[LOG_MAGNIFICATION] = v, u
        by_shift = {SHIFT_Y: (np.cos(angle), np.sin(angle)), SHIFT_X: (-np.sin(angle), np.cos(angle))}
        for kind, (by_v, by_u) in by_shift.items():
            along[kind], across[kind] = by_v[:, None, None], by_u[:, None, None]
        return along, across


def _system(state: IsolatedState, changes: tuple[Matrix, Matrix], *, level_too: bool) -> tuple[FloatArray, FloatArray]:
    """Normal matrix (5 k, 5 k) and right side.

    Without the level only changes along the specimen count: its brightness is not quite proportional to mass, so it
    changes slowly with the tilt, and on a specimen that tapers that would look like a displacement.
    """
    k, _, m = state.seen.shape
    columns = (changes[0] * state.slopes[0] + changes[1] * state.slopes[1]).astype(np.float32)
    blobs = state.model.reconstruct @ _as_rows(state.seen)
    columns[TILT] = -_as_views(state.model.by_tilt @ blobs, k) * state.shown[:, :, None]
    by_data = np.stack([np.gradient(state.seen, state.pitch_angst, axis=axis) for axis in (1, 2)])
    by_data *= state.shown[None, :, :, None]
    found = (changes[0] * by_data[0] + changes[1] * by_data[1]).astype(np.float32)
    found[TILT] = columns[TILT]
    residual, seen = state.residual, state.seen
    if not level_too:
        columns, found, residual, seen = (np.diff(of, axis=-2) for of in (columns, found, residual, seen))
    right = -np.einsum("akvu,kvu->ka", found, residual).ravel().astype(np.float64)
    flat = [_as_rows(column) for column in columns]
    variance = max(float(np.sum(seen * residual, dtype=np.float64)) / residual.size, 1e-20)
    normal = np.zeros((k, N_VIEW_PARAMETERS, k, N_VIEW_PARAMETERS))
    for a in range(N_VIEW_PARAMETERS):
        for b in range(a, N_VIEW_PARAMETERS):
            coupled = (state.model.residual * (flat[a] @ flat[b].T)).reshape(k, m, k, m).sum(axis=(1, 3))
            normal[:, a, :, b] = coupled
            normal[:, b, :, a] = coupled.T
    return normal.reshape(k * N_VIEW_PARAMETERS, -1) / variance, right / variance


def _common_displacement(shifts_yx: FloatArray, geometry: ViewGeometry) -> FloatArray:
    """What a displacement of the specimen explains of shifts, shape (k, 2): it changes nothing."""
    rows = geometry.rotations()[:, :2][:, ::-1].reshape(-1, 3)
    moved = np.linalg.lstsq(rows, shifts_yx.ravel(), rcond=None)[0]
    common: FloatArray = (rows @ moved).reshape(-1, 2)
    return common


def _as_rows(views: Matrix) -> Matrix:
    """From (k, rows, m) to (k m, rows)."""
    rows: Matrix = np.ascontiguousarray(views.transpose(0, 2, 1), np.float32).reshape(-1, views.shape[1])
    return rows


def _as_views(rows: Matrix, k: int) -> Matrix:
    """From (k m, rows) to (k, rows, m)."""
    views: Matrix = np.ascontiguousarray(rows.reshape(k, -1, rows.shape[1]).transpose(0, 2, 1))
    return views


def _filled_by_mean(mass: Matrix, shown: NDArray[np.bool_]) -> Matrix:
    """Rows that a view does not show filled with the mean of the others."""
    count = np.maximum(shown.sum(axis=0), 1)[:, None]
    mean = (mass * shown[:, :, None]).sum(axis=0) / count
    filled: Matrix = np.where(shown[:, :, None], mass, mean).astype(np.float32)
    return filled


def _gain(seen: Matrix, predicted: Matrix) -> float:
    """By how much a view is brighter than its prediction."""
    gain = float(np.vdot(predicted, seen)) / max(float(np.vdot(predicted, predicted)), 1e-30)
    return float(np.clip(gain, *_GAIN))
