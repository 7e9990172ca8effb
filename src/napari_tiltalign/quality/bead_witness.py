"""Gold beads as witnesses: how well an alignment predicts beads that were found without it.

Beads are found in every view by themselves, so they depend on the series alone and can judge any alignment of it, also
one that was made without beads. A bead of a view near tilt zero is looked for in the others: its height is the one at
which most views show a bead where the alignment predicts one; then its position is refined, and what is left between
predicted and found positions is the residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_tiltalign.errors import BadTiltSeries, MethodFailed
from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.methods.bead_search import Search, estimate_diameter_px, search
from napari_tiltalign.model import TiltSeries

LEAST_BEADS = 4
"""Fewer beads in a view, or fewer that can be followed, say nothing of an alignment."""

REACH = 0.025
"""A bead is looked for within this part of the shorter side of the field of where it is predicted."""

GOLD_CONTRAST = 0.16
"""Matched-filter response over the diameter in pixels, about the mean contrast, that gold exceeds.

Gold has 0.26 to 0.30 in simulated series and a real one, proteins and ice have 0.05 to 0.11.
"""

ROUND = 0.7
"""Median similarity to a sphere above which detections are taken for gold where the contrast is not known."""

_SMALLEST_PX = 3.0
_SEED_VIEWS = 3
_ROUNDS = 6
_HEIGHT = 0.5
"""Heights searched, part of the shorter side of the field."""
_FOLLOWED = 0.5
"""A bead counts if it is found in at least this part of the views that should show it."""
_MIXTURE_ROUNDS = 20
_LEAST_VARIANCE = 0.05**2
"""Square pixels; nothing is found more exactly."""
_LOST = 0.3
"""A view in which fewer of the beads are found where they are predicted is off by at least the reach."""


@dataclass(frozen=True, slots=True, eq=False)
class BeadDetections:
    """Beads found in the n views of a series, without any alignment.

    Attributes
    ----------
    positions_yx_px
        For every view of the series, shape (k, 2): raw pixel indices; none for views that take no part.
    diameter_px
        Of the beads, raw pixels.
    """

    positions_yx_px: Sequence[FloatArray]
    diameter_px: float


@dataclass(frozen=True, slots=True, eq=False)
class BeadWitness:
    """What beads say of an alignment.

    Attributes
    ----------
    residual_px
        Root mean square distance between predicted and found positions, raw pixels, corrected for the fitted
        positions of the beads. The largest that can be found, if too few beads could be followed.
    n_beads
        How many beads could be followed.
    n_seeds
        How many there are to follow.
    per_view_px
        Shape (n,): the same for every view, the reach where hardly any is found; NaN where it shows none of the beads.
    """

    residual_px: float
    n_beads: int
    n_seeds: int
    per_view_px: FloatArray

    @property
    def followed(self) -> bool:
        """Whether enough beads could be followed to measure the residual."""
        return self.n_beads >= LEAST_BEADS


def detect_beads(series: TiltSeries, *, progress: Progress = silent) -> BeadDetections | None:
    """Find the beads of a series; None if there are none, or too few.

    Their diameter is estimated. Dark beads are looked for first, then bright ones.
    """
    for bright in (False, True):
        try:
            diameter = estimate_diameter_px(series, bright=bright)
            found = search(series, (max(diameter, _SMALLEST_PX),), bright=bright, progress=progress)
        except (MethodFailed, BadTiltSeries):
            continue
        if _are_gold(found):
            return BeadDetections(_in_series_order(found, len(series)), diameter)
    return None


def _are_gold(found: Search) -> bool:
    """Whether what was found is enough, and stands out of the ice as only gold does."""
    views = [view for view in found.views if view is not None]
    if np.median([len(view.beads) for view in views]) < LEAST_BEADS:
        return False
    if np.median([view.level - view.spread for view in views]) < 0:  # normalised to zero mean: no contrast to measure
        return float(np.median(np.concatenate([view.beads.similarity for view in views]))) > ROUND
    strength = float(np.median(np.concatenate([view.beads.height for view in views])))
    return strength / found.diameters_px[0] > GOLD_CONTRAST


def _in_series_order(found: Search, n: int) -> list[FloatArray]:
    positions: list[FloatArray] = [np.zeros((0, 2))] * n
    for index, view in zip(found.order.tolist(), found.views, strict=True):
        if view is not None:
            positions[index] = (view.beads.position_yx + 0.5) * found.factor - 0.5
    return positions


def bead_witness(
    detections: BeadDetections,
    geometry: ViewGeometry,
    used: NDArray[np.bool_],
    *,
    pixel_size_angst: float,
    image_shape_yx: tuple[int, int],
) -> BeadWitness:
    """Follow the beads of a series through an alignment.

    Parameters
    ----------
    detections
        Of the n views.
    geometry, used
        The alignment of the n views, and which of them count, shape (n,).
    pixel_size_angst, image_shape_yx
        Of the raw images.
    """
    centre = np.array([side // 2 for side in image_shape_yx])
    seen = [
        (p - centre) * pixel_size_angst if use else np.zeros((0, 2))
        for p, use in zip(detections.positions_yx_px, used, strict=True)
    ]
    field = np.array(image_shape_yx) * pixel_size_angst
    hunt = _Hunt(geometry, [cKDTree(p) if len(p) else None for p in seen], REACH * float(field.min()), field)
    points = hunt.refined(_seeds(hunt, seen, used, _HEIGHT * float(field.min())))
    distance, shown = hunt.distances(points, hunt.reach)
    found = np.isfinite(distance)
    enough = found.sum(axis=0) >= np.maximum(LEAST_BEADS, _FOLLOWED * shown.sum(axis=0))
    kept = _best_of_each(
        points, np.where(enough, np.nan_to_num(found.sum(axis=0)), 0), detections.diameter_px * pixel_size_angst
    )
    points = hunt.refined(points[kept], each_once=True)
    distance, shown = hunt.distances(points, hunt.reach, each_once=True)
    distance, found = distance / pixel_size_angst, np.isfinite(distance)
    lost = (shown.sum(axis=1) > 0) & (found.sum(axis=1) < _LOST * shown.sum(axis=1))
    clutter = [max(len(p) - int(f.sum()), 1) / np.prod(image_shape_yx) for p, f in zip(seen, found, strict=True)]
    weight = _its_own(distance, np.array(clutter))
    unseen = lost[:, None] & shown & ~found
    distance, weight = np.where(unseen, hunt.reach / pixel_size_angst, distance), np.where(unseen, 1.0, weight)
    n_seeds = int(np.median([len(p) for p, use in zip(seen, used, strict=True) if use] or [0]))
    per_view = np.full(len(geometry), np.nan)
    some = weight.any(axis=1)
    squares = weight * np.nan_to_num(distance) ** 2
    per_view[some] = np.sqrt(squares[some].sum(axis=1) / weight[some].sum(axis=1))
    if len(kept) < LEAST_BEADS:
        return BeadWitness(hunt.reach / pixel_size_angst, len(kept), n_seeds, per_view)
    freedom = weight.sum() - 1.5 * len(kept)
    return BeadWitness(float(np.sqrt(squares.sum() / max(freedom, 1.0))), len(kept), n_seeds, per_view)


@dataclass(frozen=True, slots=True, eq=False)
class _Hunt:
    """Beads of every view, to be looked for around predicted positions; lengths in Angstrom."""

    geometry: ViewGeometry
    trees: Sequence[cKDTree | None]
    reach: float
    field_yx: FloatArray

    def distances(
        self, points: FloatArray, reach: float, *, each_once: bool = False
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Distance (n, p) to the nearest bead, NaN beyond `reach`; and which views should show which points.

        With `each_once` points are beads of their own: one that was found in a view is that of the nearest point only,
        so where a bead is hidden its neighbour is not taken for it.
        """
        seen = self.geometry.project(points)
        distance = np.full(seen.shape[:2], np.nan)
        shown = np.all(np.abs(seen) < self.field_yx / 2.0 - reach, axis=2)
        for view, tree in enumerate(self.trees):
            if tree is None:
                shown[view] = False
                continue
            near, which = tree.query(seen[view], distance_upper_bound=reach)
            hit = _nearest_only(near, which) if each_once else np.isfinite(near)
            distance[view] = np.where(hit, near, np.nan)
        return np.where(shown, distance, np.nan), shown

    def support(self, points: FloatArray) -> FloatArray:
        """How many views show a bead near every point, near ones counting more; shape (p,)."""
        distance, _ = self.distances(points, self.reach)
        total: FloatArray = np.nan_to_num(1.0 - (distance / self.reach) ** 2, nan=0.0).sum(axis=0)
        return total

    def refined(self, points: FloatArray, *, each_once: bool = False) -> FloatArray:
        """Points that fit the beads nearest to their projections best (Tukey's weights within a shrinking reach).

        `each_once` as in `distances`.
        """
        rows = (self.geometry.rotations()[:, :2] * self.geometry.magnification[:, None, None])[:, ::-1, ::-1]
        for reach in np.linspace(1.0, 0.75, _ROUNDS) * self.reach:
            seen = self.geometry.project(points)
            apart = np.zeros_like(seen)
            weight = np.zeros(seen.shape[:2])
            for view, tree in enumerate(self.trees):
                if tree is None:
                    continue
                near, which = tree.query(seen[view], distance_upper_bound=reach)
                hit = _nearest_only(near, which) if each_once else np.isfinite(near)
                apart[view, hit] = tree.data[which[hit]] - seen[view, hit]
                weight[view, hit] = (1.0 - (near[hit] / reach) ** 2) ** 2
            normal = np.einsum("np,nki,nkj->pij", weight, rows, rows)
            right = np.einsum("np,nki,npk->pi", weight, rows, apart)
            normal += 1e-6 * np.eye(3) * max(float(np.trace(normal.sum(axis=0))), 1e-12)
            points = points + np.linalg.solve(normal, right[..., None])[..., 0]
        return points


def _its_own(distance: FloatArray, clutter: FloatArray) -> FloatArray:
    """How likely what was found near a predicted place is the bead itself and not another, shape (n, p).

    Distances of beads in a view are those of a normal error, others lie anywhere; both shares and the error are found
    by expectation maximisation (a mixture; Dempster, Laird and Rubin 1977). So a few wrong ones in a crowd do not make
    the residual, and where all are far off they still do.

    Parameters
    ----------
    distance
        Shape (n, p), pixels; NaN where nothing was found.
    clutter
        Shape (n,): other beads per square pixel of every view.
    """
    found = np.isfinite(distance)
    squares = np.where(found, distance, 0.0) ** 2
    weight = found.astype(float)
    typical = np.array([np.median(d[f]) if f.any() else 1.0 for d, f in zip(distance, found, strict=True)])
    variance = np.maximum(typical**2 / (2.0 * np.log(2.0)), _LEAST_VARIANCE)
    for _ in range(_MIXTURE_ROUNDS):
        share = (weight.sum(axis=1) + 1.0) / (found.sum(axis=1) + 2.0)
        own = (share / (2.0 * np.pi * variance))[:, None] * np.exp(-0.5 * squares / variance[:, None])
        weight = np.where(found, own / (own + ((1.0 - share) * clutter)[:, None]), 0.0)
        variance = 0.5 * (weight * squares).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
        variance = np.maximum(variance, _LEAST_VARIANCE)
    return weight


def _nearest_only(near: FloatArray, which: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which points (p,) have a bead within reach that is not nearer to another one."""
    order = np.argsort(near, kind="stable")
    first = np.zeros(len(near), dtype=bool)
    first[order[np.unique(which[order], return_index=True)[1]]] = True
    alone: NDArray[np.bool_] = first & np.isfinite(near)
    return alone


def _seeds(hunt: _Hunt, seen: Sequence[FloatArray], used: NDArray[np.bool_], height: float) -> FloatArray:
    """Beads of the views of lowest tilt, at the height where most other views show them; shape (p, 3)."""
    lowest = [i for i in np.argsort(np.abs(hunt.geometry.y_tilt_deg), kind="stable") if used[i] and len(seen[i])]
    heights = np.arange(-height / 2.0, height / 2.0, 0.7 * hunt.reach)
    points = [np.zeros((0, 3))]
    for view in lowest[:_SEED_VIEWS]:
        tried = np.stack([hunt.geometry.unproject(int(view), seen[view], float(z)) for z in heights])
        support = hunt.support(tried.reshape(-1, 3)).reshape(tried.shape[:2])
        best = np.argmax(support, axis=0)
        points.append(tried[best, np.arange(len(best))])
    return np.concatenate(points)


def _best_of_each(points: FloatArray, support: NDArray[np.int64], apart: float) -> NDArray[np.intp]:
    """Of points nearer to each other than a bead's diameter only the one that most views support."""
    kept: list[int] = []
    for point in np.argsort(-support, kind="stable"):
        if support[point] > 0 and all(np.linalg.norm(points[point] - points[k]) > apart for k in kept):
            kept.append(int(point))
    return np.array(kept, dtype=np.intp)
