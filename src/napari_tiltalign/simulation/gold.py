"""Gold beads on the two faces of the slab, and dirt that looks like them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, frozen_array
from napari_tiltalign.simulation.balls import Balls, Box
from napari_tiltalign.simulation.options import Simulation

UPPER_FACE_PART = 0.6
"""Part of the beads on the face that more of them settle on."""
SIZE_SPREAD = 0.05
"""Relative standard deviation of the diameter of beads of one kind."""
CLEARANCE = 1.6
"""Distance between beads that do not stand in a cluster, in diameters."""
MEAN_CLUSTER_SIZE = 3
"""Beads in a cluster; there are 2 to 5."""


@dataclass(frozen=True, slots=True, eq=False)
class Beads:
    """The gold beads of a specimen.

    Attributes
    ----------
    centre_zyx_angst
        Shape (p, 3): centres in the specimen, before it deforms.
    diameter_angst
        Shape (p,).
    in_cluster
        Shape (p,): whether it stands in a cluster, where neighbours may touch.
    """

    centre_zyx_angst: FloatArray
    diameter_angst: FloatArray
    in_cluster: NDArray[np.bool_]

    def __post_init__(self) -> None:
        object.__setattr__(self, "centre_zyx_angst", frozen_array(self.centre_zyx_angst))
        object.__setattr__(self, "diameter_angst", frozen_array(self.diameter_angst))
        object.__setattr__(self, "in_cluster", frozen_array(self.in_cluster, bool))

    def __len__(self) -> int:
        return len(self.diameter_angst)

    def take(self, keep: NDArray[np.bool_]) -> Beads:
        """Return some of the beads (mask over p)."""
        return Beads(self.centre_zyx_angst[keep], self.diameter_angst[keep], self.in_cluster[keep])

    def balls(self) -> Balls:
        """Return them as balls of solid gold."""
        return Balls(self.centre_zyx_angst, self.diameter_angst / 2, np.ones(len(self)))


def draw_beads(options: Simulation, box: Box) -> Beads:
    """Put the beads down: about as many as asked for in the untilted field of view, as densely around it."""
    random = options.random("beads")
    diameter = options.bead_diameter_nm * 10
    largest = max(diameter, options.second_bead_diameter_nm * 10)
    n_clustered = round(options.n_beads * options.clustered_percent / 100)
    points: list[FloatArray] = []
    for place in _spread(n_clustered // MEAN_CLUSTER_SIZE, options, box, 6 * largest, [], random):
        points += _cluster(place, largest, points, random)
    n_in_clusters = len(points)
    points += _spread(options.n_beads - n_clustered, options, box, CLEARANCE * largest, points, random)
    sizes = np.full(len(points), diameter)
    if options.second_bead_diameter_nm:
        sizes[1::2] = options.second_bead_diameter_nm * 10
    sizes *= 1 + SIZE_SPREAD * np.clip(random.normal(size=len(points)), -2, 2)
    return Beads(np.array(points).reshape(-1, 3), sizes, np.arange(len(points)) < n_in_clusters)


def draw_dirt(options: Simulation, box: Box) -> Balls:
    """Irregular lumps of ice or salt on the faces: about as large as a bead, less dense than gold."""
    random = options.random("dirt")
    diameter = options.bead_diameter_nm * 10
    parts = [Balls.none()]
    for centre in _spread(options.n_dirt, options, box, 2 * diameter, [], random):
        n = random.integers(4, 9)
        places = centre + random.normal(0, 0.3, (n, 3)) * diameter * random.uniform(0.5, 1.5, 3)
        parts.append(Balls(places, diameter * random.uniform(0.15, 0.35, n), random.uniform(0.15, 0.6, n)))
    return Balls.joined(*parts)


def _spread(
    n_in_field: int,
    options: Simulation,
    box: Box,
    spacing_angst: float,
    taken: list[FloatArray],
    random: np.random.Generator,
) -> list[FloatArray]:
    """Points on the faces, exactly so many in the untilted field, none closer in the plane to another or to one taken.

    Where there is no more room the spacing shrinks rather than the number.
    """
    half_angst = options.field_yx_angst / 2
    surroundings = float(np.prod(box.size_zyx_angst[1:]) / np.prod(options.field_yx_angst)) - 1
    n_left = {True: n_in_field, False: round(n_in_field * max(surroundings, 0.0))}
    points: list[FloatArray] = []
    spacing = spacing_angst
    while any(n_left.values()):
        place = random.uniform(box.low_zyx_angst[1:], box.high_zyx_angst[1:])
        in_field = bool(np.all(np.abs(place) < half_angst))
        if not n_left[in_field]:
            continue
        if _is_free(place, [*taken, *points], spacing):
            face = 0.5 if random.uniform() < UPPER_FACE_PART else -0.5
            points.append(np.array([face * options.thickness_angst, *place]))
            n_left[in_field] -= 1
        else:
            spacing *= 0.999
    return points


def _is_free(place_yx_angst: FloatArray, points: list[FloatArray], spacing_angst: float) -> bool:
    """Whether a place is further than a spacing from all points, seen from above."""
    if not points:
        return True
    apart = np.linalg.norm(np.array(points)[:, 1:] - place_yx_angst, axis=1)
    return bool(apart.min() > spacing_angst)


def _cluster(
    place_zyx_angst: FloatArray, diameter_angst: float, taken: list[FloatArray], random: np.random.Generator
) -> list[FloatArray]:
    """A few beads round a place, touching or nearly so, on the same face."""
    members = [place_zyx_angst]
    size = random.integers(2, 2 * MEAN_CLUSTER_SIZE)
    for _ in range(100):
        if len(members) == size:
            break
        angle = random.uniform(0, 2 * np.pi)
        step = diameter_angst * random.uniform(1.05, 1.6) * np.array([0, np.sin(angle), np.cos(angle)])
        place = members[random.integers(len(members))] + step
        if _is_free(place[1:], [*taken, *members], 1.05 * diameter_angst):
            members.append(place)
    return members
