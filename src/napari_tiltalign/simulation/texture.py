"""What is in the ice besides gold: macromolecules, membranes, a cell with its edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.simulation.balls import Balls, Box
from napari_tiltalign.simulation.options import Simulation

PROTEINS_PER_UM3 = 90_000.0
RIBOSOMES_PER_UM3 = 5_000.0
COMPLEXES_PER_UM3 = 25_000.0
VESICLES_PER_UM3 = 30.0
PROTEINS_IN_BUFFER_PER_UM3 = 9_000.0
LOBE_DENSITY = {"cell": 0.2, "cytoplasm": 0.45, "particles": 0.5}
"""Density of the lobes of molecules against solid protein in ice: lobes overlap and are not solid, and cytoplasm hides
contrast. In a cell, structure then stands to noise as in EMPIAR-10499, and little of it looks like gold."""
MEMBRANE_SPACING_ANGST = 30.0
MEMBRANE_BALL_ANGST = 40.0
MEMBRANE_DENSITY = 0.15
NEEDLE_GRAIN_ANGST = 75.0
"""Radius of the balls that make the body of a needle: they overlap so much that it is even to a few percent."""
NEEDLE_TIP = 0.35
"""Thickness of a needle at its tip, parts of that at its base."""
NEEDLE_FLATNESS = 0.8
"""A needle is not round: its smaller diameter, parts of the larger one."""
PRECIPITATES_PER_UM3 = 60_000.0
PRECIPITATE_DENSITY = 1.5


def draw_texture(options: Simulation, box: Box) -> Balls:
    """Fill the slab with structure, seen or not; densities are relative to protein in ice."""
    if options.texture == "none":
        return Balls.none()
    if options.texture == "needle":
        return _needle(options)
    random, density = options.random("texture"), LOBE_DENSITY[options.texture]
    if options.texture == "particles":
        return _molecules(box.scatter(COMPLEXES_PER_UM3, random), 70.0, 9, density, random)
    cytoplasm = Balls.joined(
        _molecules(box.scatter(PROTEINS_PER_UM3, random), 30.0, 2, density, random),
        _molecules(box.scatter(RIBOSOMES_PER_UM3, random), 95.0, 10, density, random),
        _vesicles(box, random),
    )
    return cytoplasm if options.texture == "cytoplasm" else _cell(cytoplasm, box, options, random)


def _needle(options: Simulation) -> Balls:
    """A needle that comes in at one side of the field and ends within it, with denser precipitates in it."""
    random = options.random("texture")
    field_angst = float(options.field_yx_angst[0])
    base, tip = (-0.5 - 0.3) * field_angst, random.uniform(0.3, 0.42) * field_angst
    side = random.choice([-1.0, 1.0])
    lean_zx = np.tan(np.deg2rad(random.uniform(-4.0, 4.0, 2)))
    middle_zx = random.uniform(-0.04, 0.04, 2) * field_angst
    roll = random.uniform(0, np.pi)

    def inside(points_zyx: FloatArray) -> NDArray[np.bool_]:
        along = side * points_zyx[:, 1]
        part = np.clip((along - base) / (tip - base), 0.0, 1.0)
        radius = 0.5 * options.thickness_angst * (1.0 - (1.0 - NEEDLE_TIP) * part)
        z, x = (points_zyx[:, [0, 2]] - middle_zx - lean_zx * points_zyx[:, 1:2]).T
        wide, narrow = np.cos(roll) * x + np.sin(roll) * z, np.cos(roll) * z - np.sin(roll) * x
        within: NDArray[np.bool_] = (np.hypot(wide, narrow / NEEDLE_FLATNESS) < radius) & (along > base) & (along < tip)
        return within

    reach = 0.5 * options.thickness_angst + 0.15 * field_angst
    low, high = np.array([-reach, 1.05 * base, -reach]), np.array([reach, -1.05 * base, reach])
    axes = [np.arange(a, b, 0.8 * NEEDLE_GRAIN_ANGST) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    grid += random.normal(0, 0.15 * NEEDLE_GRAIN_ANGST, grid.shape)
    grid = grid[inside(grid)]
    body = Balls(grid, np.full(len(grid), NEEDLE_GRAIN_ANGST), np.full(len(grid), 0.5))
    spots = Box(low, high).scatter(PRECIPITATES_PER_UM3, random)
    spots = spots[inside(spots)]
    size = random.uniform(20.0, 70.0, len(spots))
    return Balls.joined(body, Balls(spots, size, np.full(len(spots), PRECIPITATE_DENSITY)))


def _molecules(
    centres: FloatArray, radius_angst: float, n_lobes: int, density: float, random: np.random.Generator
) -> Balls:
    """Make molecules of a few lobes each, no two alike, of about the radius given."""
    size = radius_angst * random.uniform(0.7, 1.3, len(centres))
    direction = random.normal(size=(len(centres), n_lobes, 3))
    direction /= np.linalg.norm(direction, axis=2, keepdims=True)
    distance = 0.65 * size[:, None, None] * random.uniform(0, 1, (len(centres), n_lobes, 1)) ** (1 / 3)
    lobes = centres[:, None] + direction * distance
    radius = size[:, None] * random.uniform(0.4, 0.7, (len(centres), n_lobes))
    return Balls(lobes.reshape(-1, 3), radius.ravel(), np.full(radius.size, density))


def _vesicles(box: Box, random: np.random.Generator) -> Balls:
    """Closed membranes, flattened where the slab is too thin for them."""
    parts = [Balls.none()]
    for centre in box.scatter(VESICLES_PER_UM3, random):
        radius = random.uniform(200.0, 600.0)
        height = min(radius, 0.45 * box.size_zyx_angst[0])
        n = round(4 * np.pi * radius * height / MEMBRANE_SPACING_ANGST**2)
        on_sphere = random.normal(size=(n, 3))
        on_sphere /= np.linalg.norm(on_sphere, axis=1, keepdims=True)
        centre[0] = np.clip(centre[0], box.low_zyx_angst[0] + height, box.high_zyx_angst[0] - height)
        parts.append(_membrane(centre + on_sphere * [height, radius, radius], random))
    return Balls.joined(*parts)


def _membrane(points: FloatArray, random: np.random.Generator) -> Balls:
    """Balls on a surface, which is a little rough."""
    points = points + random.normal(0, 0.3 * MEMBRANE_BALL_ANGST, points.shape)
    return Balls(points, np.full(len(points), MEMBRANE_BALL_ANGST), np.full(len(points), MEMBRANE_DENSITY))


def _cell(cytoplasm: Balls, box: Box, options: Simulation, random: np.random.Generator) -> Balls:
    """Keep the cytoplasm within a band across the field, close it with membranes, add a few proteins outside."""
    field_angst = float(options.field_yx_angst.min())
    direction = random.uniform(0, np.pi)
    across = np.array([np.cos(direction), -np.sin(direction)])
    along = np.array([np.sin(direction), np.cos(direction)])
    phases = random.uniform(0, 2 * np.pi, (2, 2))
    half_width = field_angst * random.uniform(0.28, 0.4)

    def edge(side: int, points_zyx: FloatArray) -> FloatArray:
        """Distance of one edge from the middle of the band; it waves and bulges."""
        s = points_zyx[:, 1:] @ along * (2 * np.pi / field_angst)
        waves = np.sin(0.6 * s + phases[side, 0]) + 0.4 * np.sin(1.7 * s + phases[side, 1])
        bulge = 1 - (2 * points_zyx[:, 0] / box.size_zyx_angst[0]) ** 2
        distance: FloatArray = half_width + 0.04 * field_angst * waves + 0.25 * options.thickness_angst * bulge
        return distance

    def inside(points_zyx: FloatArray) -> NDArray[np.bool_]:
        position = points_zyx[:, 1:] @ across
        within: NDArray[np.bool_] = (position < edge(0, points_zyx)) & (position > -edge(1, points_zyx))
        return within

    reach = float(np.linalg.norm(box.size_zyx_angst[1:]))
    n = round(reach * box.size_zyx_angst[0] / MEMBRANE_SPACING_ANGST**2)
    parts = [cytoplasm.take(inside(cytoplasm.centre_zyx_angst))]
    for side, sign in ((0, 1.0), (1, -1.0)):
        height = random.uniform(box.low_zyx_angst[0], box.high_zyx_angst[0], n)
        wall = np.column_stack([height, random.uniform(-reach / 2, reach / 2, n)[:, None] * along])
        wall[:, 1:] += (sign * edge(side, wall))[:, None] * across
        parts.append(_membrane(wall, random))
    outside = box.scatter(PROTEINS_IN_BUFFER_PER_UM3, random)
    parts.append(_molecules(outside[~inside(outside)], 35.0, 3, LOBE_DENSITY["cell"], random))
    return Balls.joined(*parts)
