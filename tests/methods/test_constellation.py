"""Linking beads through the tilts by their constellation, on points alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from napari_tiltalign.methods.coarse import NeighbourShift, cosine_stretch
from napari_tiltalign.methods.constellation import Constellation, Problem, grow
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.projection import SHIFT_Y, project

FIELD_PX = 512.0
AXIS_DEG = -4.3
DIAMETER_PX = 10.0


@dataclass(frozen=True)
class Scene:
    """Where beads are seen, and which."""

    problem: Problem
    views: np.ndarray
    points: np.ndarray
    beads: list[np.ndarray]
    """For every view the true bead of each detection, -1 for a false one."""


def make_scene(
    seed: int, *, n_beads: int = 20, tilt_deg: np.ndarray | None = None, max_shift: float = 0.1, n_jumps: int = 0,
    jump: float = 0.3, missing: float = 0.04, n_false: int = 2, thickness_px: float = 120.0,
    axis_error_deg: float = 1.0, with_hints: bool = False, order_seed: int | None = None,
) -> Scene:  # fmt: skip
    """Beads on two faces, more of them around the field; views shifted, noisy, incomplete."""
    rng = np.random.default_rng(seed)
    tilt = np.linspace(-60.0, 60.0, 41) if tilt_deg is None else np.asarray(tilt_deg, dtype=float)
    n = len(tilt)
    many = round(2.2 * n_beads)
    points = np.column_stack(
        [rng.choice([-0.5, 0.5], many) * thickness_px, rng.uniform(-0.5, 0.5, many) * FIELD_PX,
         rng.uniform(-1.1, 1.1, many) * FIELD_PX]
    )  # fmt: skip
    views = np.column_stack(
        [np.full(n, AXIS_DEG + axis_error_deg) + rng.normal(0, 0.1, n), tilt + rng.normal(0, 0.2, n),
         rng.normal(0, 3e-4, n), rng.uniform(-1, 1, (n, 2)) * max_shift * FIELD_PX / np.sqrt(2)]
    )  # fmt: skip
    for when in rng.choice(n, n_jumps, replace=False):
        angle = rng.uniform(0, 2 * np.pi)
        views[when:, SHIFT_Y:] += jump * FIELD_PX * np.array([np.sin(angle), np.cos(angle)]) * rng.choice([-1, 1])
        views[when:, SHIFT_Y:] -= np.round(views[when:, SHIFT_Y:] / FIELD_PX / 0.4) * 0.3 * FIELD_PX  # stay in reach
    seen = project(views, points, np.zeros(n))
    detections, beads = [], []
    for view in seen:
        inside = (np.abs(view) < FIELD_PX / 2 - 5).all(axis=1) & (rng.random(many) >= missing)
        position = np.vstack(
            [view[inside] + rng.normal(0, 0.15, (inside.sum(), 2)),
             rng.uniform(-0.5, 0.5, (n_false, 2)) * FIELD_PX]
        )  # fmt: skip
        bead = np.concatenate([np.flatnonzero(inside), np.full(n_false, -1)])
        mixed = rng.permutation(len(bead))
        detections.append(position[mixed])
        beads.append(bead[mixed])
    order = np.arange(n) if order_seed is None else np.random.default_rng(order_seed).permutation(n)
    hints = hints_of(views[order], tilt[order]) if with_hints else {}
    problem = Problem(
        [detections[k] for k in order], tilt[order], AXIS_DEG, (FIELD_PX, FIELD_PX), DIAMETER_PX, 0.3 * FIELD_PX,
        default_priors, hints,
    )  # fmt: skip
    return Scene(problem, views[order], points, [beads[k] for k in order])


def hints_of(views: np.ndarray, tilt: np.ndarray) -> dict[frozenset[int], NeighbourShift]:
    """What image correlation would say: right to a few pixels."""
    order = np.argsort(tilt)
    hints = {}
    for a, b in pairwise(order):
        inner, outer = sorted((int(a), int(b)), key=lambda k: abs(tilt[k]))
        stretch = cosine_stretch(tilt[inner], tilt[outer], AXIS_DEG)
        offset = views[outer, SHIFT_Y:] - stretch @ views[inner, SHIFT_Y:] + [2.0, -1.0]
        hints[frozenset((inner, outer))] = NeighbourShift(inner, outer, offset, stretch, significance=30.0)
    return hints


def wrong_links(scene: Scene, linked: Constellation) -> float:
    """Share of links whose detection is of another bead than most of their point's."""
    bead = np.array(
        [scene.beads[v][q] for v, q in zip(linked.observations.view, linked.detection, strict=True)], dtype=int
    )
    point, wrong, total = linked.observations.point, 0, 0
    for own in (point == p for p in np.unique(point)):
        if own.sum() >= 3:
            values, counts = np.unique(bead[own], return_counts=True)
            wrong += own.sum() - counts.max() if values[counts.argmax()] >= 0 else own.sum()
            total += own.sum()
    return wrong / max(total, 1)


def wrong_views(scene: Scene, linked: Constellation) -> list[int]:
    """Joined views most of whose links are to another bead than their point's."""
    bead = np.array(
        [scene.beads[v][q] for v, q in zip(linked.observations.view, linked.detection, strict=True)], dtype=int
    )
    point, view = linked.observations.point, linked.observations.view
    counts = np.bincount(point)
    typical = np.array([np.bincount(bead[point == p] + 1).argmax() - 1 for p in range(len(counts))])
    long = counts[point] >= 3
    return [v for v in linked.joined if ((view == v) & long).any()
            and np.mean(bead[(view == v) & long] != typical[point[(view == v) & long]]) > 0.5]  # fmt: skip


@pytest.mark.parametrize(
    ("seed", "changes"),
    [
        (0, {}),
        (1, {"n_jumps": 6}),
        (0, {"missing": 0.3, "n_false": 10}),
        (1, {"missing": 0.3, "n_false": 10, "n_jumps": 6}),
        (1, {"n_beads": 30, "n_false": 20, "missing": 0.15}),
        (2, {"tilt_deg": np.arange(-60.0, 61.0, 10.0)}),
        (3, {"tilt_deg": np.arange(0.0, 61.0, 3.0)}),
        (4, {"tilt_deg": np.r_[-60:-20:3, 0:61:3]}),
        (5, {"tilt_deg": np.repeat(np.arange(-60.0, 61.0, 6.0), 2)}),
        (6, {"thickness_px": 300.0}),
        (7, {"axis_error_deg": 15.0}),
    ],
    ids=["easy", "row_48_jumps", "holes and dirt", "holes, dirt and jumps", "crowd", "ten degree steps",
         "row_27_one_side", "row_28_gap", "row_21_every_angle_twice", "thick", "axis 15 deg off"],
)  # fmt: skip
def test_all_views_join_and_all_links_are_right(seed, changes):
    scene = make_scene(seed, **changes)
    linked = grow(scene.problem)
    assert len(linked.joined) >= len(scene.views) - 1
    assert wrong_views(scene, linked) == []
    assert wrong_links(scene, linked) < 0.03


@pytest.mark.parametrize("axis_error_deg", [90.0, 180.0], ids=["axis_wrong_by_90", "axis_wrong_by_180"])
def test_row_25_a_far_axis_is_found(axis_error_deg):
    """Up to the half turn that changes the hand."""
    scene = make_scene(1, axis_error_deg=axis_error_deg)
    linked = grow(scene.problem)
    assert len(linked.joined) >= 0.9 * len(scene.views)
    found = linked.views[list(linked.joined), 0].mean()
    assert (found - (AXIS_DEG + axis_error_deg) + 45) % 180 == pytest.approx(45, abs=3)


def test_row_48_hints_help_few_beads_over_big_jumps():
    lost = {True: 0, False: 0}
    for with_hints in lost:
        for seed in range(4):
            scene = make_scene(seed, n_beads=5, n_jumps=6, with_hints=with_hints)
            linked = grow(scene.problem)
            lost[with_hints] += len(scene.views) - len(linked.joined) + len(wrong_views(scene, linked))
    assert lost[True] <= lost[False]
    assert lost[True] <= 4


def test_row_20_order_of_views_does_not_matter():
    scenes = [make_scene(3, order_seed=order) for order in (None, 0)]
    linked = [grow(scene.problem) for scene in scenes]
    assert [len(one.joined) for one in linked] == [41, 41]
    order = np.random.default_rng(0).permutation(41)
    apart = (linked[0].views[order] - linked[1].views)[:, :SHIFT_Y]
    assert np.abs(apart).max() < 0.01  # growth solves roughly; the end is exact


@pytest.mark.parametrize("n_usable", [0, 2])
def test_row_27_fewer_than_three_views_with_beads(n_usable):
    scene = make_scene(4, tilt_deg=np.arange(-6.0, 7.0, 3.0))
    detections = [found if k < n_usable else found[:1] for k, found in enumerate(scene.problem.detections_yx)]
    problem = Problem(detections, *(getattr(scene.problem, name) for name in list(Problem.__dataclass_fields__)[1:]))
    assert grow(problem) is None


def test_false_detections_alone_tie_hardly_anything():
    rng = np.random.default_rng(5)
    scene = make_scene(5)
    detections = [rng.uniform(-0.5, 0.5, (20, 2)) * FIELD_PX for _ in scene.views]
    problem = Problem(detections, *(getattr(scene.problem, name) for name in list(Problem.__dataclass_fields__)[1:]))
    linked = grow(problem)
    assert len(linked.joined) < 0.5 * len(scene.views)


@pytest.mark.timeout(60)
def test_row_51_five_thousand_false_peaks_take_bounded_time():
    """122 in each of 41 views, besides 20 beads: too many to be sure, but nothing wrong is joined for that."""
    scene = make_scene(6, n_beads=20, n_false=122)
    assert wrong_views(scene, grow(scene.problem)) == []


def test_beads_on_both_faces_are_linked_where_the_specimen_is_thick_and_the_steps_are_large():
    """Faces 300 px apart move 52 px against each other in a step of 10 degrees."""
    scene = make_scene(8, thickness_px=300.0, tilt_deg=np.arange(-60.0, 61.0, 10.0), n_beads=25)
    linked = grow(scene.problem)
    assert len(linked.joined) == len(scene.views)
    counts = np.bincount(linked.observations.point)
    assert counts[counts >= 4].sum() > 0.7 * counts.sum()
    assert wrong_links(scene, linked) < 0.05


def test_evidence_is_strong_where_views_join():
    linked = grow(make_scene(7).problem)
    assert np.median(list(linked.evidence.values())) < -5
    assert linked.rank()[0] == len(linked.joined)
