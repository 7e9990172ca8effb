"""Link beads through the tilts by their constellation, without correlating images.

Starting from one view, the next in tilt is joined by the shift under which most known points meet a detection, if that
many meetings are unlikely by chance. With every view joined the 3D points and the geometry are refined by bundle
adjustment, so predictions get sharper as the model grows; a view that does not fit yet is tried again later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.bundle import Bundle, Estimate, Observations, normal_equations, solve
from napari_tiltalign.methods.coarse import NeighbourShift
from napari_tiltalign.methods.matching import GATE, best_shift, refined_match
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import ROTATION, SHIFT_Y, TILT, project, view_matrices

_NEEDED_EVIDENCE = -2.0
"""log10 of the chance at which a view is joined."""

_TORN = 0.6
"""With less continuity tracks are torn, most likely because the axis is wrong (0.2 to 0.6; else 0.65 to 1)."""

_FLAT = 0.4
"""Part of the spread of heights that is tried next: in a thinner specimen predictions are sharper, and weaker evidence
will do."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What growth works on.

    Attributes
    ----------
    detections_yx
        n arrays (k, 2): candidate positions from the image centre, pixels; empty for views not to use.
    nominal_tilt_deg
        Shape (n,).
    axis_deg
        Tilt axis to start with, degrees.
    field_yx
        Size of the images, pixels.
    diameter_px
        Bead diameter, pixels.
    height_sd
        Expected spread of the beads in z, pixels.
    priors
        (tilts of some views, axis) -> their priors.
    hints
        Shifts between neighbouring views by image correlation.
    """

    detections_yx: Sequence[FloatArray]
    nominal_tilt_deg: FloatArray
    axis_deg: float
    field_yx: tuple[float, float]
    diameter_px: float
    height_sd: float
    priors: Callable[[FloatArray, float], ViewPriors]
    hints: Mapping[frozenset[int], NeighbourShift]

    @property
    def matching_radius(self) -> float:
        """How far a detection may lie from where it belongs, pixels (one sigma)."""
        return max(0.12 * self.diameter_px, 1.0)

    @property
    def usable(self) -> list[int]:
        """Views with at least two candidates."""
        return [i for i, found in enumerate(self.detections_yx) if len(found) >= 2]


@dataclass(frozen=True, slots=True, eq=False)
class Constellation:
    """Linked beads.

    Attributes
    ----------
    views
        Shape (n, 5): parameters of all views; those not joined hold nominal values.
    points_zyx
        Shape (p, 3).
    observations
        Links; views are numbered as in the problem.
    detection
        Shape (k,): which detection of its view each link is.
    joined
        Views that were joined.
    evidence
        View to log10 of the chance that its match is accidental.
    axis_deg
        Tilt axis that growth started with.
    continuity
        Of all places where a linked bead should be seen, the share where it was.
    """

    views: FloatArray
    points_zyx: FloatArray
    observations: Observations
    detection: NDArray[np.int64]
    joined: tuple[int, ...]
    evidence: Mapping[int, float]
    axis_deg: float
    continuity: float

    def rank(self) -> tuple[int, int]:
        """How much was linked: views, and observations of points seen three times or more."""
        counts = np.bincount(self.observations.point)
        return len(self.joined), int(counts[counts >= 3].sum())

    def found_axis_deg(self) -> float:
        """Tilt axis that growth ended with, degrees."""
        return float(np.median(self.views[list(self.joined), ROTATION]))


def grow(problem: Problem) -> Constellation | None:
    """Link beads through all views; other starting views and axes are tried while too few join or tracks are torn.

    Returns
    -------
    Constellation or None
        The best attempt; None if there are fewer than three usable views.
    """
    usable = sorted(problem.usable, key=lambda i: abs(problem.nominal_tilt_deg[i]))
    if len(usable) < 3:
        return None
    references = [usable[k] for k in (0, 2, 4, 7, 10) if k < len(usable)]
    flat = replace(problem, height_sd=_FLAT * problem.height_sd)
    best: Constellation | None = None
    for reference in references:
        best = _better(best, _Growth(problem, problem.axis_deg, reference).run())
        if len(best.joined) == len(usable):
            break
        best = _better(best, _Growth(flat, problem.axis_deg, reference).run())
        if len(best.joined) >= 0.9 * len(usable):
            break
    if best is None or (len(best.joined) >= 0.7 * len(usable) and best.continuity > _TORN):
        return best
    for reference in references[:2]:
        for turn_deg in (45.0, -45.0, 90.0):
            best = _better(best, _Growth(problem, problem.axis_deg + turn_deg, reference).run())
        # once more from the axis that was found: with a better start fewer tracks are torn
        best = _better(best, _Growth(problem, best.found_axis_deg(), reference).run())
        if len(best.joined) >= 0.9 * len(usable) and best.continuity > _TORN:
            break
    return best


def _better(first: Constellation | None, second: Constellation) -> Constellation:
    """The attempt with more observations in tracks; views count less, because wrong ones join too, with torn tracks."""
    return second if first is None or second.rank()[::-1] > first.rank()[::-1] else first


@dataclass(slots=True, eq=False)
class _Growth:
    """One attempt: a growing model, mutable and private to this module."""

    problem: Problem
    axis_deg: float
    reference: int
    views: FloatArray = field(init=False)
    points: FloatArray = field(init=False)
    point_covariance: FloatArray = field(init=False)
    links: list[tuple[int, int, int]] = field(init=False)
    joined: list[int] = field(init=False)
    evidence: dict[int, float] = field(default_factory=dict)
    tried_at: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = self.problem
        n = len(problem.nominal_tilt_deg)
        self.views = np.zeros((n, 5))
        self.views[:, 0] = self.axis_deg
        self.views[:, TILT] = problem.nominal_tilt_deg
        self.points = np.zeros((0, 3))
        self.point_covariance = np.zeros((0, 3, 3))
        self.links, self.joined = [], [self.reference]
        self._add_points(self.reference, np.arange(len(problem.detections_yx[self.reference])))

    def run(self) -> Constellation:
        """Join views until none that is left can be joined."""
        while (view := self._next_view()) is not None:
            if not self._join(view):
                self.tried_at[view] = len(self.joined)
        self._adjust(20)
        observations = self._observations(np.arange(len(self.views)))
        detection = np.array([found for _, _, found in self.links])
        return Constellation(
            self.views, self.points, observations, detection, tuple(sorted(self.joined)), self.evidence, self.axis_deg,
            self._continuity(),
        )  # fmt: skip

    def _continuity(self) -> float:
        counts = np.bincount([point for _, point, _ in self.links], minlength=len(self.points))
        tracks = counts >= 3
        seen = project(self.views[self.joined], self.points[tracks], np.zeros(len(self.joined)))
        expected = (np.abs(seen) < np.array(self.problem.field_yx) / 2).all(axis=2).sum()
        return float(counts[tracks].sum() / max(expected, 1))

    def _next_view(self) -> int | None:
        """The view nearest in tilt to a joined one that was not tried since the model last grew."""
        tilt = self.problem.nominal_tilt_deg
        todo = [i for i in self.problem.usable if i not in self.joined and self.tried_at.get(i, -1) < len(self.joined)]
        if not todo:
            return None
        return min(todo, key=lambda i: (np.abs(tilt[i] - tilt[self.joined]).min(), abs(tilt[i])))

    def _join(self, view: int) -> bool:
        problem, radius = self.problem, self.problem.matching_radius
        neighbour = min(self.joined, key=lambda j: abs(problem.nominal_tilt_deg[view] - problem.nominal_tilt_deg[j]))
        self.views[view] = self.views[neighbour]
        self.views[view, TILT] = problem.nominal_tilt_deg[view]
        self.views[view, SHIFT_Y:] = 0.0
        usable = self._points_to_use(view)
        if not usable.size:
            return False
        matrix = view_matrices(self.views[view : view + 1], np.zeros(1))[0]
        predicted = self.points[usable] @ matrix.T
        covariance = matrix @ self.point_covariance[usable] @ matrix.T
        detections = problem.detections_yx[view]
        expected = self._expected_shifts(view, neighbour)
        shift = best_shift(predicted, covariance, detections, expected, problem.field_yx, radius)
        if shift is None:
            return False
        links, shift = refined_match(predicted, covariance, detections, shift, 1.3 * radius)
        chance, share = self._chance(predicted + shift, covariance, detections, len(links), expected - shift)
        self.evidence[view] = chance
        if not (chance < _NEEDED_EVIDENCE or (len(links) >= 3 and share > 0.7 and chance < 0)):
            return False
        self.views[view, SHIFT_Y:] = shift
        self.joined.append(view)
        self.links += [(view, int(usable[point]), int(found)) for point, found in links]
        unmatched = np.setdiff1d(np.arange(len(detections)), [found for _, found in links])
        self._add_points(view, unmatched)
        # the first views bend the model most; later on it is refined now and then
        if len(self.joined) < 8 or len(self.joined) % 3 == 0:
            self._adjust(12 if len(self.joined) < 8 else 6)
        if len(self.joined) % 6 == 0:
            self._drop_gross_outliers()
        return True

    def _expected_shifts(self, view: int, neighbour: int) -> FloatArray:
        """Where the shift of a view is expected: that of its neighbour, and what image correlation says, (s, 2)."""
        expected = [self.views[neighbour, SHIFT_Y:]]
        for other in self.joined:
            hint = self.problem.hints.get(frozenset((view, other)))
            if hint is not None and hint.trusted:
                known = self.views[other, SHIFT_Y:]
                expected.append(hint.outer_from(known) if hint.outer == view else hint.inner_from(known))
        return np.array(expected)

    def _points_to_use(self, view: int) -> NDArray[np.intp]:
        """Points whose position in the view can be predicted: seen often, or seen in a nearby view."""
        tilt = self.problem.nominal_tilt_deg
        seen = np.array([(point, other) for other, point, _ in self.links])
        counts = np.bincount(seen[:, 0], minlength=len(self.points))
        nearest = np.full(len(self.points), np.inf)
        np.minimum.at(nearest, seen[:, 0], np.abs(tilt[seen[:, 1]] - tilt[view]))
        gaps = np.sort(np.abs(tilt[self.problem.usable] - tilt[view]))
        reach = max(float(gaps[min(3, len(gaps) - 1)]) + 0.5, 3.5)
        use = (counts >= 4) | ((counts >= 2) & (nearest < 25.0)) | ((counts == 1) & (nearest <= reach))
        return np.flatnonzero(use)

    def _chance(
        self, predicted: FloatArray, covariance: FloatArray, detections: FloatArray, matched: int, miss: FloatArray
    ) -> tuple[float, float]:
        """log10 of the chance of so many matches, and the share of what could match that did."""
        radius, (height, width) = self.problem.matching_radius, self.problem.field_yx
        inside = (np.abs(predicted) < np.array([height, width]) / 2).all(axis=1)
        area = np.pi * GATE * np.sqrt(np.linalg.det(covariance[inside] + (1.3 * radius) ** 2 * np.eye(2)))
        by_chance = float(min(len(detections) / (height * width) * area.sum(), 0.9 * len(detections)))
        competitors = float(np.log10(1.0 + (miss**2).sum(axis=1).min() / radius**2))
        # P(Poisson(L) >= s) is the regularised incomplete gamma function; scipy.stats would take a second to import
        by_accident = max(float(gammainc(matched, max(by_chance, 1e-12))), 1e-300)
        chance = float(np.log10(by_accident)) + competitors
        return chance, matched / max(1, min(int(inside.sum()), len(detections)))

    def _add_points(self, view: int, detections: NDArray[np.intp]) -> None:
        """Start new points at z = 0 from detections that match no known one."""
        if not len(detections):
            return
        radius, height_sd = self.problem.matching_radius, self.problem.height_sd
        matrix = view_matrices(self.views[view : view + 1], np.zeros(1))[0]
        seen = self.problem.detections_yx[view][detections] - self.views[view, SHIFT_Y:]
        plane = np.linalg.solve(matrix[:, 1:], seen.T).T
        along_ray = np.r_[1.0, np.linalg.solve(matrix[:, 1:], -matrix[:, 0])]
        covariance = radius**2 * np.eye(3) + height_sd**2 * np.outer(along_ray, along_ray)
        first = len(self.points)
        self.points = np.vstack([self.points, np.column_stack([np.zeros(len(plane)), plane])])
        self.point_covariance = np.concatenate([self.point_covariance, np.tile(covariance, (len(plane), 1, 1))])
        self.links += [(view, first + k, int(found)) for k, found in enumerate(detections)]

    def _observations(self, number: NDArray[np.intp]) -> Observations:
        view, point, found = np.array(self.links).T
        position = np.array([self.problem.detections_yx[v][q] for v, q in zip(view, found, strict=True)])
        return Observations(number[view], point, position, np.ones(len(view)))

    def _adjust(self, iterations: int) -> None:
        """Bundle adjustment of the joined views."""
        joined = np.sort(self.joined)
        number = np.full(len(self.views), -1)
        number[joined] = np.arange(len(joined))
        bundle = Bundle(
            self._observations(number),
            self.problem.priors(self.problem.nominal_tilt_deg[joined], self.axis_deg),
            np.zeros(len(joined)),
            self.problem.height_sd,
        )
        noise = np.full(len(joined), 0.5 if iterations > 6 else 1.0)
        solution = solve(
            bundle, Estimate(self.views[joined], self.points, noise), max_iterations=iterations, tolerance=1e-2
        )
        self.views[joined] = solution.estimate.views
        self.points = solution.estimate.points_zyx
        # given the cameras: the full covariance would hold the common motion, which moves prediction and points alike
        self.point_covariance = np.linalg.inv(normal_equations(bundle, solution.estimate).v_matrix)

    def _drop_gross_outliers(self) -> None:
        view, point, found = np.array(self.links).T
        predicted = project(self.views, self.points, np.zeros(len(self.views)))[view, point]
        position = np.array([self.problem.detections_yx[v][q] for v, q in zip(view, found, strict=True)])
        distance = np.linalg.norm(position - predicted, axis=1)
        good = distance <= max(4.0 * np.median(distance), 3.0 * self.problem.matching_radius)
        if good.all():
            return
        kept = np.unique(point[good])
        number = np.full(len(self.points), -1)
        number[kept] = np.arange(len(kept))
        self.links = [(v, int(number[p]), q) for (v, p, q), keep in zip(self.links, good, strict=True) if keep]
        self.points, self.point_covariance = self.points[kept], self.point_covariance[kept]
