"""Tiles of the slab seen by every view, as Fourier coefficients.

The specimen plane is covered with overlapping square tiles under a Hann window. Every view is sampled along the axes of
the specimen plane, so that a tile shows the same place in all views, and its Fourier transform is taken. Coefficients
are scaled so that noise of power 1 per pixel of the image has power 1 here, whatever the tilt.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.arrays import map_some, module_of, to_device, to_host
from napari_tiltalign.images.tiles import band_of_tiles, hann_window
from napari_tiltalign.methods.flat_series import Level
from napari_tiltalign.methods.projection import TILT, project, view_matrices

OVERLAP = 0.5
LEAST_COVERAGE = 0.85
"""A view shows a tile if it shows this part of the energy of its window."""
LEAST_PART, LEAST_VIEWS = 0.15, 4
"""A tile is used if this part of the views, and at least so many, show it."""
ENOUGH_BLOCKS, MOST_BLOCKS = 6, 16
"""Tiles are sorted by the views that show them into so many blocks, or more where views jump far aside;"""
_CHEAP = 1.0
"""then two become one only if all views together lose less than this, as `_cheapest_merger` counts."""

_RINGS = 6
_POWER_RANGE = (0.2, 8.0)
_OWN_POWER_RANGE = (0.2, 20.0)
_MARGIN = 0.25
"""A tile is laid out where its centre is this part of its size inside of views."""
_LOWEST_CYCLES = 1.5
"""Structures larger than this part of a tile are not used: the window blurs them."""


@dataclass(frozen=True, slots=True)
class TileScale:
    """Size of tiles and resolution.

    Attributes
    ----------
    size_angst
        Side of a tile.
    pitch_angst
        Distance of samples.
    finest_angst
        Structures finer than this are not used.
    """

    size_angst: float
    pitch_angst: float
    finest_angst: float

    @property
    def highest(self) -> float:
        """Highest spatial frequency used, cycles per Angstrom."""
        return 1.0 / self.finest_angst

    @property
    def samples(self) -> int:
        """Samples along the side of a tile."""
        return max(16, 2 * round(self.size_angst / self.pitch_angst / 2))


@dataclass(frozen=True, slots=True, eq=False)
class TileSpectra:
    """Fourier coefficients of p tiles in n views.

    Attributes
    ----------
    frequency_yx
        Shape (k, 2), cycles per Angstrom in the specimen plane; one of each pair of opposite frequencies.
    values
        Shape (k, n, p), complex64; 0 where a view does not show a tile. On the GPU where `on_device` has put them.
    shown
        Shape (n, p): which views show a tile.
    scale
        What tiles they are.
    """

    frequency_yx: FloatArray
    values: NDArray[np.complex64]
    shown: NDArray[np.bool_]
    scale: TileScale

    def thinned(self, count: int) -> TileSpectra:
        """Return a fixed random choice of so many of the frequencies."""
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.frequency_yx))[:count])
        xp = module_of(self.values)
        values = xp.ascontiguousarray(self.values[xp.asarray(chosen)])
        return TileSpectra(self.frequency_yx[chosen], values, self.shown, self.scale)

    def on_device(self) -> TileSpectra:
        """Return the same with the coefficients on the GPU, if that is to be used."""
        return dataclasses.replace(self, values=to_device(self.values))

    def displaced(self, displacement_yx: FloatArray) -> TileSpectra:
        """Return the coefficients of tiles a little beside, without cutting them (Fourier's shift theorem).

        Parameters
        ----------
        displacement_yx
            Shape (n, p, 2), Angstrom in the specimen plane: how far beside, for every view and tile. The content of the
            window is taken to be the same, so it should be a small part of the tile.
        """
        xp = module_of(self.values)
        axes = [np.unique(axis, return_inverse=True) for axis in self.frequency_yx.T]
        steps = [xp.asarray(2j * np.pi * frequency) for frequency, _ in axes]
        rows = [xp.asarray(index) for _, index in axes]
        values, ways = xp.empty_like(self.values), xp.asarray(displacement_yx)

        def turn(view: Any) -> None:
            moved = ways[view]
            along_y, along_x = (
                xp.exp(step.reshape(-1, *[1] * (moved.ndim - 1)) * moved[..., axis]).astype(np.complex64)[index]
                for axis, (step, index) in enumerate(zip(steps, rows, strict=True))
            )
            values[:, view] = self.values[:, view] * (along_y * along_x)

        k, n, p = values.shape
        map_some(turn, n, values, 32.0 * k * p)
        return dataclasses.replace(self, values=values)


def tile_centres(
    views: FloatArray, x_tilt_deg: float, field_yx_angst: FloatArray, size_angst: float, *, spacing: float = 1 - OVERLAP
) -> FloatArray:
    """Centres of tiles on a square grid that lie inside of enough views.

    Steep views show more of the specimen, and there the slab ties views least, so every place that some views share is
    worth having.

    Parameters
    ----------
    views, x_tilt_deg
        Geometry (see `methods.projection`), shifts in Angstrom.
    field_yx_angst
        Shape (2,): size of the images.
    size_angst
        Side of a tile.
    spacing
        Distance of the centres, tile sizes.

    Returns
    -------
    FloatArray
        Shape (p, 3), (z, y, x) with z = 0: of four phases of the grid the one that fits most tiles in.
    """
    step = size_angst * spacing
    stretched = np.hypot(*field_yx_angst) / np.cos(np.deg2rad(min(np.abs(views[:, TILT]).max(), 75.0)))
    reach = int(stretched / 2 / step) + 2
    index = np.arange(-reach, reach + 1) * step
    limit = field_yx_angst / 2 - size_angst * _MARGIN
    least = max(LEAST_VIEWS, LEAST_PART * len(views))
    best = np.zeros((0, 3))
    for phase_y in (0.0, 0.5):
        for phase_x in (0.0, 0.5):
            y, x = np.meshgrid(index + phase_y * step, index + phase_x * step, indexing="ij")
            centres = np.column_stack([np.zeros(y.size), y.ravel(), x.ravel()])
            seen = project(views, centres, np.full(len(views), x_tilt_deg))
            inside = (np.abs(seen) < limit).all(axis=2).sum(axis=0) >= least
            if inside.sum() > len(best):
                best = centres[inside]
    return best


def plane_matrices(views: FloatArray, x_tilt_deg: float) -> tuple[FloatArray, FloatArray]:
    """How steps in the image and heights show in the specimen plane.

    Returns
    -------
    inverse, slope
        Shapes (n, 2, 2) and (n, 2): ``inverse @ step`` takes a step (y, x) in the image to the specimen plane; a point
        at height z appears at ``z * slope`` of it. With x tilt 0 the slope is tan(tilt) along x.
    """
    matrices = view_matrices(views, np.full(len(views), x_tilt_deg))
    inverse = np.linalg.inv(matrices[:, :, 1:])
    slope: FloatArray = np.einsum("nab,nb->na", inverse, matrices[:, :, 0])
    return inverse, slope


def tile_spectra(
    level: Level, scale: TileScale, views: FloatArray, x_tilt_deg: float, centres_zyx: FloatArray
) -> TileSpectra:
    """Cut tiles out of all views and transform them.

    Parameters
    ----------
    level
        The series at a resolution of about ``scale.pitch_angst``; all of its views are usable.
    scale
        Size and resolution.
    views, x_tilt_deg
        Geometry (n, 5), shifts in Angstrom.
    centres_zyx
        Shape (p, 3), Angstrom.
    """
    size, step = scale.samples, scale.size_angst / scale.samples
    tilts = np.full(len(views), x_tilt_deg)
    matrices = view_matrices(views, tilts)[:, :, 1:]
    tiles, coverage = level.tiles(project(views, centres_zyx, tilts), matrices, step, hann_window(size))
    rows, columns, frequency = _band(size, step, scale)
    gain = np.sqrt(np.abs(np.linalg.det(matrices)) * step**2 / np.prod(level.grid.pitch_yx_angst)) / size

    shown = coverage >= LEAST_COVERAGE
    values = band_of_tiles(tiles, np.arange(len(views)), rows, columns, gain[:, None] * shown)
    return TileSpectra(frequency, equally_strong(values, shown, np.linalg.norm(frequency, axis=1)), shown, scale)


def equally_strong(values: Any, shown: NDArray[np.bool_], frequency: FloatArray) -> Any:
    """Give all tiles, and all frequencies of a tile, the power of a typical one.

    Some places of a specimen hold much more than others, and edges and membranes put it into few frequencies. In a
    random slab the power is 1 everywhere, so what is strong would count for more than the model can know, and a few
    lines would decide the tilt axis. The scale of each is estimated over the views that show it and divided out, which
    is what a likelihood with heavy tails would do (an elliptical distribution, Tyler 1987).

    Parameters
    ----------
    values, shown
        Shape (k, n, p), and (n, p): which views show a tile.
    frequency
        Shape (k,).
    """
    power = to_host((values.real**2 + values.imag**2).sum(axis=1, dtype=np.float64)) / np.maximum(shown.sum(axis=0), 1)
    ring = np.minimum((frequency / frequency.max() * _RINGS).astype(int), _RINGS - 1)
    gain = np.ones(power.shape, np.float32)
    for k in np.unique(ring):
        of_tiles = power[ring == k].mean(axis=0)
        relative = of_tiles / max(float(np.median(of_tiles)), 1e-12)
        gain[ring == k] = 1.0 / np.sqrt(np.clip(relative, *_POWER_RANGE))
    own = power * gain**2
    gain /= np.sqrt(np.clip(own, *_OWN_POWER_RANGE)).astype(np.float32)
    return values * module_of(values).asarray(gain)[:, None]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Tiles that the same views show.

    Attributes
    ----------
    views, tiles
        Indices.
    """

    views: NDArray[np.intp]
    tiles: NDArray[np.intp]


def blocks_of(shown: NDArray[np.bool_]) -> list[Block]:
    """Sort tiles by the views that show them.

    Parameters
    ----------
    shown
        Shape (n, p): which views show a tile.

    Returns
    -------
    list of Block
        At most `MOST_BLOCKS`. Where there are more kinds of tiles, two kinds become one that uses what they share,
        again and again: the two that cost views the smallest parts of the tiles that each has left. A kind with too few
        views is not used.
    """
    least = max(LEAST_VIEWS, LEAST_PART * len(shown))
    kinds, kind = np.unique(shown[:, shown.sum(axis=0) >= least], axis=1, return_inverse=True)
    tiles = np.flatnonzero(shown.sum(axis=0) >= least)
    found = [(kinds[:, k], tiles[kind.ravel() == k]) for k in range(kinds.shape[1])]
    while len(found) > ENOUGH_BLOCKS:
        one, other, cost = _cheapest_merger(found)
        if cost > _CHEAP and len(found) <= MOST_BLOCKS:
            break
        merged = found[one][0] & found[other][0], np.concatenate([found[one][1], found[other][1]])
        found = [item for k, item in enumerate(found) if k not in (one, other)] + [merged]
    return [Block(np.flatnonzero(mask), np.sort(own)) for mask, own in found if mask.sum() >= least]


def _cheapest_merger(found: list[tuple[NDArray[np.bool_], NDArray[np.intp]]]) -> tuple[int, int, float]:
    """Two kinds (views, tiles) that cost least as one, and how much: sum over views of log(tiles before / tiles after).

    So a view that jumped aside, and shows few of the tiles, is not what is given up first.
    """
    masks = np.array([mask for mask, _ in found], np.float64)
    counts = np.array([len(own) for _, own in found], np.float64)
    left = counts @ masks
    given_up = masks[:, None] * (1.0 - masks[None]) * counts[:, None, None]
    given_up += given_up.transpose(1, 0, 2)
    cost = -np.log((left - given_up + 0.5) / (left + 0.5)).sum(axis=2)
    cost[np.tril_indices(len(found))] = np.inf
    one, other = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return int(one), int(other), float(cost[one, other])


def _band(size: int, step: float, scale: TileScale) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
    """Indices into a real transform, and frequencies (k, 2), of what lies in the band of a scale."""
    f_y, f_x = np.meshgrid(np.fft.fftfreq(size, step), np.fft.rfftfreq(size, step), indexing="ij")
    radius = np.hypot(f_y, f_x)
    one_of_each = (f_x > 0) | (f_y > 0)
    nyquist = 0.5 / step
    inside = (radius <= scale.highest) & (radius >= _LOWEST_CYCLES / scale.size_angst)
    inside &= one_of_each & (f_x < nyquist) & (np.abs(f_y) < nyquist)
    rows, columns = np.nonzero(inside)
    return rows, columns, np.column_stack([f_y[inside], f_x[inside]])
