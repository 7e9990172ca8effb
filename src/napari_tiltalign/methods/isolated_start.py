"""First geometry of a specimen that stands alone in vacuum, by conservation of mass.

Along the tilt axis: the mass of every section across the axis is the same in all views (the common line at the tilt
axis), so a view is shifted until its profile of mass along the axis is that of the others.

Across the axis: the centre of mass of the section at y is seen at ``X(y) cos(tilt) + Z(y) sin(tilt)``, so all sections
together give the shift of every view, and, because a wrong tilt axis displaces every section by its place along the
axis, the tilt axis as well: a linear problem.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, RigidMotion, ViewGeometry
from napari_tiltalign.methods.isolated_views import MassSeries

_ROUNDS = 3
_LEAST_OVERLAP = 0.5
_SWEEPS = 10
_LEAST_VIEWS_OF_ROW = 0.5
_LEAST_MASS = 0.1
"""Sections lighter than that part of the heaviest do not count."""
_HOLD = 1e-6


def first_geometry(masses: MassSeries, start: ViewGeometry, *, find_axis: bool) -> ViewGeometry:
    """Shifts of all views, and the tilt axis if asked for.

    Parameters
    ----------
    masses
        The views.
    start
        Geometry of the n views in order of tilt; its tilts are kept.
    find_axis
        Whether the axis may be turned, by the same angle in all views.
    """
    geometry = start
    for _ in range(_ROUNDS):
        geometry = _along_axis(masses, geometry)
        geometry = _across_axis(masses, geometry, find_axis=find_axis)
    return geometry


def centred(masses: MassSeries, geometry: ViewGeometry) -> ViewGeometry:
    """The same geometry in a frame where the specimen's centre of mass lies on the tilt axis, not tilted about x."""
    geometry = geometry.replace(x_tilt_deg=np.zeros(len(geometry)))
    v, u = frame_axes(masses)
    mass, _ = masses.sampled(geometry, v, u)
    mass = np.maximum(mass, 0.0) * _specimen(mass, masses.noise)
    used = np.flatnonzero(masses.usable)
    centre = (mass[used].sum(axis=1) @ u) / np.maximum(mass[used].sum(axis=(1, 2)), 1e-12)
    tilt = np.deg2rad(geometry.y_tilt_deg[used])
    z, x = np.linalg.lstsq(np.column_stack([np.sin(tilt), np.cos(tilt)]), centre, rcond=None)[0]
    return geometry.compose(RigidMotion(np.eye(3), np.array([z, 0.0, x])))


def frame_axes(masses: MassSeries) -> tuple[FloatArray, FloatArray]:
    """Places along (every sample) and across the axis (every second one) that hold all of the field, Angstrom."""
    half = int(0.25 * float(np.hypot(*masses.field_yx_angst)) / masses.pitch_angst) + 1
    along = np.arange(-2 * half, 2 * half + 1) * masses.pitch_angst
    return along, along[::2]


def shifted_in_frame(geometry: ViewGeometry, vu_angst: FloatArray) -> ViewGeometry:
    """Geometry with shifts changed by (v, u) along and across the axis, shape (n, 2), Angstrom."""
    angle = np.deg2rad(geometry.z_rot_deg)
    c, s = np.cos(angle), np.sin(angle)
    v, u = vu_angst.T
    step = np.column_stack([s * u + c * v, c * u - s * v])
    return geometry.replace(shift_yx_angst=geometry.shift_yx_angst + step)


def _along_axis(masses: MassSeries, geometry: ViewGeometry) -> ViewGeometry:
    """Shift all views along the axis until their profiles of mass agree."""
    v, u = frame_axes(masses)
    profile, seen = _profiles(masses, geometry, v, u)
    used = np.flatnonzero(masses.usable)
    moved = np.zeros(len(masses))
    middle = int(np.argmin(np.abs(masses.nominal_tilt_deg[used])))
    # outwards from the middle, each against the mean of those that are placed
    placed: list[int] = [int(used[middle])]
    for view in sorted(used.tolist(), key=lambda k: abs(int(np.searchsorted(used, k)) - middle)):
        if view in placed:
            continue
        near = sorted(placed, key=lambda k: abs(k - view))[:5]
        moved[view] = _lag(profile[view], seen[view], *_mean_profile(profile[near], seen[near], moved[near]))
        placed.append(view)
    for _ in range(2):
        mean, known = _mean_profile(profile[used], seen[used], moved[used])
        moved[used] = [_lag(profile[view], seen[view], mean, known) for view in used]
    moved[used] -= np.median(moved[used])
    return shifted_in_frame(geometry, np.column_stack([moved * masses.pitch_angst, np.zeros(len(moved))]))


def _profiles(
    masses: MassSeries, geometry: ViewGeometry, v: FloatArray, u: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Mass of every row, and whether its middle is within the view; shapes (n, rows)."""
    mass, _ = masses.sampled(geometry, v, u)
    _, seen = masses.sampled(geometry, v, u[len(u) // 2 : len(u) // 2 + 1])
    return mass.sum(axis=2).astype(np.float64), seen


def _mean_profile(
    profile: FloatArray, seen: NDArray[np.bool_], moved: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    place = np.arange(profile.shape[1])
    total, count = np.zeros(len(place)), np.zeros(len(place))
    for row, known, by in zip(profile, seen, moved, strict=True):
        here = np.interp(place + by, place, known.astype(float), left=0.0, right=0.0) > 0.99
        total += np.where(here, np.interp(place + by, place, row), 0.0)
        count += here
    return total / np.maximum(count, 1.0), count >= max(1.0, 0.3 * count.max())


def _lag(profile: FloatArray, seen: NDArray[np.bool_], mean: FloatArray, known: NDArray[np.bool_]) -> float:
    """By how many samples a profile lies after the mean: where they are most alike, up to a factor."""
    mine, other = seen.astype(float), known.astype(float)
    both = np.correlate(mine, other, "full")
    product = np.correlate(profile * mine, mean * other, "full")
    power = np.correlate(profile**2 * mine, other, "full") * np.correlate(mine, mean**2 * other, "full")
    enough = both > max(_LEAST_OVERLAP * min(mine.sum(), other.sum()), 3.0) - 0.5
    alike = np.where(enough, product / np.sqrt(np.maximum(power, 1e-30)), -np.inf)
    best = int(np.argmax(alike))
    offset = 0.0
    if 0 < best < len(alike) - 1 and np.isfinite(alike[[best - 1, best + 1]]).all():
        before, top, after = alike[best - 1 : best + 2]
        curvature = before - 2.0 * top + after
        offset = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return best - (len(mean) - 1) + offset


def _across_axis(masses: MassSeries, geometry: ViewGeometry, *, find_axis: bool) -> ViewGeometry:
    """Shift all views across the axis, and turn the axis, until the sections' centres of mass turn about it."""
    v, u = frame_axes(masses)
    mass, _ = masses.sampled(geometry, v, u)
    _, seen = masses.sampled(geometry, v, u[len(u) // 2 : len(u) // 2 + 1])
    mass = np.maximum(mass, 0.0) * _specimen(mass, masses.noise)
    heavy = mass.sum(axis=2).astype(np.float64)
    enough = seen & (heavy > _LEAST_MASS * np.max(heavy))
    rows = np.flatnonzero(enough.sum(axis=0) >= _LEAST_VIEWS_OF_ROW * masses.usable.sum())
    centre = (mass[:, rows] @ u) / np.maximum(heavy[:, rows], 1e-12)
    used = np.flatnonzero(masses.usable)
    weight = (enough[:, rows] * heavy[:, rows])[used] / np.max(heavy)
    shift, turn, mean_zx = _sections(centre[used], weight, geometry.y_tilt_deg[used], v[rows], find_axis=find_axis)
    tilt = np.deg2rad(geometry.y_tilt_deg)
    across = mean_zx[1] * np.cos(tilt) + mean_zx[0] * np.sin(tilt)
    across[used] += shift
    moved = shifted_in_frame(geometry, np.column_stack([np.zeros(len(tilt)), across]))
    return moved.replace(z_rot_deg=moved.z_rot_deg + np.rad2deg(turn))


def _specimen(mass: NDArray[np.float32], noise: FloatArray) -> NDArray[np.bool_]:
    """Where there is more than noise: vacuum far from the specimen would pull the centre of mass."""
    specimen: NDArray[np.bool_] = mass > np.maximum(3.0 * noise, 0.02).astype(np.float32)[:, None, None]
    return specimen


def _sections(
    centre: FloatArray, weight: FloatArray, tilt_deg: FloatArray, v: FloatArray, *, find_axis: bool
) -> tuple[FloatArray, float, FloatArray]:
    """Fit ``centre = X cos(tilt) + Z sin(tilt) + shift - turn v``; returns shifts, turn (rad) and mean (Z, X)."""
    n, rows = centre.shape
    cos, sin = np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))
    design = np.zeros((n, rows, 2 * rows + n + 1))
    k = np.arange(rows)
    design[:, k, k], design[:, k, rows + k] = cos[:, None], sin[:, None]
    design[np.arange(n), :, 2 * rows + np.arange(n)] = 1.0
    design[:, :, -1] = -v / np.abs(v).max() if find_axis else 0.0
    design = design.reshape(n * rows, -1)
    robust = np.ones(n * rows)
    found: FloatArray = np.zeros(design.shape[1])
    for _ in range(_SWEEPS):
        w = weight.ravel() * robust
        normal = design.T @ (design * w[:, None])
        normal[np.diag_indices(len(normal))] += _HOLD * float(np.median(np.diag(normal)))
        found = np.linalg.solve(normal, design.T @ (w * centre.ravel()))
        apart = np.abs(design @ found - centre.ravel())
        scale = 3.0 * 1.4826 * float(np.median(apart[w > 0])) + 1e-9
        robust = 1.0 / (1.0 + (apart / scale) ** 2)
    total = np.maximum(weight.sum(axis=0), 1e-12)
    mean_zx = np.array([(found[rows : 2 * rows] * total).sum(), (found[:rows] * total).sum()]) / total.sum()
    turn = float(found[-1]) / float(np.abs(v).max()) if find_axis else 0.0
    return found[2 * rows : 2 * rows + n], turn, mean_zx
