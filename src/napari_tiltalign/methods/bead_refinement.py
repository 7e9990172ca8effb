"""From linked beads to the final geometry: learn priors, localise every bead at its predicted place, solve again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.prepare import ContrastImage
from napari_tiltalign.methods.bundle import Bundle, Estimate, Observations, Solution
from napari_tiltalign.methods.constellation import Constellation
from napari_tiltalign.methods.learning import learn
from napari_tiltalign.methods.localise import Fits, localise
from napari_tiltalign.methods.posterior import Posterior
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import project
from napari_tiltalign.methods.ties import tied_together
from napari_tiltalign.model import REJECTION_REASONS

_SAME_BEAD = 0.3
"""Tracks nearer than this in over 90 % of their shared views are one bead, bead diameters."""

_LEAST_VIEWS = 3
_LEAST_PER_VIEW = 2
_LEAST_SHARE_SEEN = 0.4
_FIRST_ROUNDS = 3
"""Rounds of learning before the beads are localised: good enough to predict where they are."""

_DOUBTFUL_NOISE = 4.0
_FEW_BEADS = 6
_OUTLIER_WEIGHT = 0.25
_MOST_OUTLIERS = 0.5
_AMPLITUDES = (0.4, 2.0)
_NEIGHBOUR = 0.45
_MOVED = 0.4
_CLOSE_NEIGHBOUR, _CLOSE_NEIGHBOUR_SD = 1.1, 1.5
_MARGIN = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What refinement works on, at the working scale.

    Attributes
    ----------
    images
        n views of local contrast.
    nominal_tilt_deg
        Shape (n,).
    centre_yx
        Image centre as pixel index.
    diameters_px
        Diameters of the beads there may be, pixels; the first is the common one.
    height_sd
        Prior spread of the beads in z, pixels.
    """

    images: Sequence[ContrastImage]
    nominal_tilt_deg: FloatArray
    centre_yx: FloatArray
    diameters_px: tuple[float, ...]
    height_sd: float

    @property
    def diameter_px(self) -> float:
        """Diameter of the common beads, pixels."""
        return self.diameters_px[0]

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Size of the images, pixels."""
        rows, columns = self.images[0].contrast.shape
        return rows, columns


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """Every place where a bead was looked for, whether it is used or not.

    Attributes
    ----------
    view, point, size
        Shape (k,); the size is an index into the diameters of the scene.
    position_yx
        Shape (k, 2), pixels from the image centre.
    sd
        Shape (k,): standard deviation of a coordinate by Fisher information, pixels.
    reason
        Shape (k,): index into `REJECTION_REASONS`, 0 for one that is used.
    detected
        Shape (k,): whether detection had found it (otherwise it was filled in).
    close
        Shape (k,): whether another bead is so close that the position is less certain.
    """

    view: NDArray[np.int64]
    point: NDArray[np.int64]
    size: NDArray[np.int64]
    position_yx: FloatArray
    sd: FloatArray
    reason: NDArray[np.int64]
    detected: NDArray[np.bool_]
    close: NDArray[np.bool_]

    def take_points(self, keep: NDArray[np.bool_]) -> Measurements:
        """Return the measurements of some of the points, renumbered."""
        number = np.cumsum(keep) - 1
        chosen = keep[self.point]
        kept = _rows(self, np.flatnonzero(chosen))
        return replace(kept, point=number[kept.point])

    def used(self) -> NDArray[np.intp]:
        """Indices of the measurements that are used."""
        return np.flatnonzero(self.reason == 0)


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """The refined geometry; arrays of bundle and solution cover the views `joined` only.

    Attributes
    ----------
    joined
        Indices of the views that are solved, ascending.
    bundle, solution, posterior
        The final problem, with learned priors, and what came out.
    measurements
        Where beads were looked for; the used ones are the bundle's observations, in the same order.
    """

    joined: NDArray[np.intp]
    bundle: Bundle
    solution: Solution
    posterior: Posterior
    measurements: Measurements


def refine(scene: Scene, linked: Constellation, priors: ViewPriors, sizes: Sequence[NDArray[np.int64]]) -> Refined:
    """Refine linked beads to the final geometry.

    Parameters
    ----------
    scene
        The images.
    linked
        Beads linked by their constellation.
    priors
        Priors of all n views, before learning.
    sizes
        Which of the diameters every detection of every view has.

    Raises
    ------
    MethodFailed
        If the beads do not tie three views together.
    """
    least = 3 if len(linked.joined) < 20 else 4
    first, points, joined = _tied(_from_links(linked, sizes), linked.points_zyx, least)
    start = _full(linked.views, points, len(linked.views), 0.3)
    current = _solve(scene, first, start, priors, joined, rounds=_FIRST_ROUNDS)

    distinct = _distinct(scene, current, first)
    first, points = _keep(first, current.solution.estimate.points_zyx, distinct)
    estimate = _full(_all_views(current, linked.views), points, len(linked.views), 0.15)
    found, points, joined = _tied(measure(scene, estimate, np.array(linked.joined), first), points, least)
    current = _solve(scene, found, replace(estimate, points_zyx=points), priors, joined)

    good = _consistent(scene, current) & (_share_seen(scene, current) > _LEAST_SHARE_SEEN)
    doubtful = _doubtful_views(current)
    if not good.all() or doubtful.size:
        found = _rows(found, np.flatnonzero(~np.isin(found.view, doubtful)))
        found, points = _keep(found, current.solution.estimate.points_zyx, good)
        views = _all_views(current, linked.views)
        found, points, joined = _tied(found, points, least)
        current = _solve(scene, found, _full(views, points, len(views), 0.15), priors, joined)
    return current


def measure(scene: Scene, estimate: Estimate, joined: NDArray[np.intp], known: Measurements) -> Measurements:
    """Localise every bead in every joined view, starting where it was seen, or where it is predicted.

    Parameters
    ----------
    scene
        The images.
    estimate
        Geometry of all n views, and the points.
    joined
        Views to measure in.
    known
        Positions found before.
    """
    predicted = project(estimate.views, estimate.points_zyx, np.zeros(len(estimate.views))) + scene.centre_yx
    seen = {(v, p): k for k, (v, p) in enumerate(zip(known.view.tolist(), known.point.tolist(), strict=True))}
    margin = _MARGIN * scene.diameter_px
    limit = np.array(scene.shape_yx) - 1 + margin
    ids: list[NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)] * len(predicted)
    starts: list[FloatArray] = [np.zeros((0, 2))] * len(predicted)
    for view in joined.tolist():
        inside = ((predicted[view] > -margin) & (predicted[view] < limit)).all(axis=1)
        ids[view] = np.flatnonzero(inside)
        starts[view] = np.array(
            [
                known.position_yx[seen[view, p]] + scene.centre_yx if (view, p) in seen else predicted[view, p]
                for p in ids[view].tolist()
            ]
        ).reshape(-1, 2)
    size = _size_of_points(known, len(estimate.points_zyx))
    parts: list[Measurements] = []
    for kind, diameter in enumerate(scene.diameters_px):
        own = [size[points] == kind for points in ids]
        fits = localise(scene.images, [start[keep] for start, keep in zip(starts, own, strict=True)], diameter)
        parts += [
            _judged(view, ids[view][own[view]], starts[view][own[view]], fits[view], seen, kind, scene)
            for view in joined.tolist()
        ]
    return Measurements(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in Measurements.__dataclass_fields__}
    )


def _size_of_points(known: Measurements, p: int) -> NDArray[np.int64]:
    """The size that most detections of every point have, shape (p,)."""
    votes = np.zeros((p, int(known.size.max(initial=0)) + 1))
    np.add.at(votes, (known.point, known.size), 1.0)
    size: NDArray[np.int64] = votes.argmax(axis=1)
    return size


def _judged(
    view: int,
    points: NDArray[np.intp],
    start: FloatArray,
    fits: Fits,
    seen: dict[tuple[int, int], int],
    size: int,
    scene: Scene,
) -> Measurements:
    """Which fits of beads of one size in one view to use, and why not the others; a later reason is more telling."""
    d = scene.diameters_px[size]
    apart = np.linalg.norm(fits.position_yx[:, None] - fits.position_yx[None], axis=2) + 1e9 * np.eye(len(points))
    nearest = apart.min(axis=1, initial=1e9)
    moved = np.linalg.norm(fits.position_yx - start, axis=1)
    reason = np.zeros(len(points), dtype=np.int64)
    reason[moved >= _MOVED * d] = REJECTION_REASONS.index("moved")
    reason[(fits.amplitude <= _AMPLITUDES[0]) | (fits.amplitude >= _AMPLITUDES[1])] = REJECTION_REASONS.index(
        "amplitude"
    )
    reason[nearest <= _NEIGHBOUR * d] = REJECTION_REASONS.index("neighbour")
    reason[~fits.complete] = REJECTION_REASONS.index("outside")
    return Measurements(
        np.full(len(points), view),
        points,
        np.full(len(points), size),
        fits.position_yx - scene.centre_yx,
        np.hypot(*fits.sd_yx.T) / np.sqrt(2.0),
        reason,
        np.array([(view, p) in seen for p in points.tolist()], dtype=bool),
        nearest <= _CLOSE_NEIGHBOUR * d,
    )


def relative_sd(found: Measurements, chosen: NDArray[np.intp]) -> FloatArray:
    """How certain an observation is compared with its view's typical one, by Fisher information, 0.7 to 3."""
    sd = found.sd[chosen] * np.where(found.close[chosen], _CLOSE_NEIGHBOUR_SD, 1.0)
    relative = np.ones(len(chosen))
    for view in np.unique(found.view[chosen]):
        own = found.view[chosen] == view
        typical = float(np.median(sd[own]))
        if typical > 0:
            relative[own] = np.clip(sd[own] / typical, 0.7, 3.0)
    return relative


def _from_links(linked: Constellation, sizes: Sequence[NDArray[np.int64]]) -> Measurements:
    seen = linked.observations
    size = np.array([sizes[view][found] for view, found in zip(seen.view, linked.detection, strict=True)])
    k = len(seen)
    nothing, ones = np.zeros(k, dtype=np.int64), np.ones(k, dtype=bool)
    return Measurements(seen.view, seen.point, size, seen.position_yx, np.zeros(k), nothing, ones, ~ones)


def _keep(found: Measurements, points: FloatArray, keep: NDArray[np.bool_]) -> tuple[Measurements, FloatArray]:
    return found.take_points(keep), points[keep]


def _full(views: FloatArray, points: FloatArray, n: int, noise: float) -> Estimate:
    return Estimate(views.copy(), points, np.full(n, noise))


def _all_views(current: Refined, otherwise: FloatArray) -> FloatArray:
    views = otherwise.copy()
    views[current.joined] = current.solution.estimate.views
    return views


def _tied(found: Measurements, points: FloatArray, least: int) -> tuple[Measurements, FloatArray, NDArray[np.intp]]:
    """What can be solved together: beads seen in `least` views, in views that see two of them; and these views.

    With fewer the shift of a view would rest on a single bead, or on none.
    """
    used = found.used()
    view, point = found.view[used], found.point[used]
    kept = tied_together(view, point, least_per_view=_LEAST_PER_VIEW, least_per_point=least)
    joined = np.unique(view[kept])
    seen = np.isin(np.arange(len(points)), point[kept])
    if len(joined) < _LEAST_VIEWS:
        raise MethodFailed(
            f"the beads found tie only {len(joined)} views together, {_LEAST_VIEWS} are needed: {seen.sum()} of "
            f"{len(points)} beads are seen in {least} views or more; check the bead diameter, or align without beads"
        )
    found, points = _keep(_rows(found, np.flatnonzero(np.isin(found.view, joined))), points, seen)
    return found, points, joined


def _rows(found: Measurements, chosen: NDArray[np.intp]) -> Measurements:
    return Measurements(**{name: getattr(found, name)[chosen] for name in Measurements.__dataclass_fields__})


def _solve(
    scene: Scene,
    found: Measurements,
    start: Estimate,
    priors: ViewPriors,
    joined: NDArray[np.intp],
    rounds: int = 8,
) -> Refined:
    """Learn priors and solve the joined views from the used measurements."""
    found = _rows(found, np.flatnonzero(np.isin(found.view, joined)))
    used = found.used()
    number = np.full(len(start.views), -1)
    number[joined] = np.arange(len(joined))
    observations = Observations(
        number[found.view[used]], found.point[used], found.position_yx[used], relative_sd(found, used)
    )
    bundle = Bundle(observations, priors.take(joined), np.zeros(len(joined)), scene.height_sd)
    first = Estimate(start.views[joined], start.points_zyx, start.noise_sd[joined])
    bundle, solution, sure = learn(bundle, first, rounds=rounds)
    return Refined(joined, bundle, solution, sure, found)


def _visible(scene: Scene, current: Refined, margin: float) -> NDArray[np.bool_]:
    """Which joined view (n) should see which point (p)."""
    estimate = current.solution.estimate
    seen = project(estimate.views, estimate.points_zyx, current.bundle.x_tilt_deg) + scene.centre_yx
    inside = (seen > margin) & (seen < np.array(scene.shape_yx) - 1 - margin)
    visible: NDArray[np.bool_] = np.all(inside, axis=2)
    return visible


def _distinct(scene: Scene, current: Refined, found: Measurements) -> NDArray[np.bool_]:
    """Which tracks to keep so that no bead is followed twice; the longer track stays."""
    estimate = current.solution.estimate
    seen = project(estimate.views, estimate.points_zyx, current.bundle.x_tilt_deg)
    visible = _visible(scene, current, 0.0)
    keep = np.ones(len(estimate.points_zyx), dtype=bool)
    for point in np.argsort(-np.bincount(found.point, minlength=len(keep)), kind="stable"):
        if not keep[point]:
            continue
        shared = visible & visible[:, point : point + 1]
        near = np.linalg.norm(seen - seen[:, point : point + 1], axis=2) < _SAME_BEAD * scene.diameter_px
        same = ((near & shared).sum(axis=0) > 0.9 * np.maximum(shared.sum(axis=0), 1)) & (shared.sum(axis=0) > 0)
        same[point] = False
        keep[same] = False
    return keep


def _consistent(scene: Scene, current: Refined) -> NDArray[np.bool_]:
    """Which tracks agree with the geometry in at least half of their observations."""
    point = current.bundle.observations.point
    p = len(current.solution.estimate.points_zyx)
    outliers = np.bincount(point, current.solution.weight < _OUTLIER_WEIGHT, p)
    good: NDArray[np.bool_] = outliers < _MOST_OUTLIERS * np.maximum(np.bincount(point, minlength=p), 1)
    return good


def _doubtful_views(current: Refined) -> NDArray[np.intp]:
    """Views that few beads tie to the others and that fit badly: most likely they were joined by accident."""
    noise = current.solution.estimate.noise_sd
    counts = np.bincount(current.bundle.observations.view, minlength=len(noise))
    return current.joined[(noise > _DOUBTFUL_NOISE * np.median(noise)) & (counts <= _FEW_BEADS)]


def _share_seen(scene: Scene, current: Refined) -> FloatArray:
    """In what share of the views that should see it a bead was measured, shape (p,)."""
    visible = _visible(scene, current, 0.1 * scene.diameter_px).sum(axis=0)
    counts = np.bincount(current.bundle.observations.point, minlength=len(visible))
    share: FloatArray = counts / np.maximum(visible, 1)
    return share
