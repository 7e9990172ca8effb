"""Views stretched into the specimen plane, where projecting a slab is one multiplication per spatial frequency.

A view is resampled so that it shows the plane of height 0 as if seen from above: across the tilt axis it is stretched
by ``1 / cos(tilt)``. What lies at height z is then displaced by ``a z``, with ``a = (0, tan(tilt))`` in (y, x), in all
of the view alike. So back-projection of view j into the slab of thickness T and re-projection along view i multiplies
its transform at the frequency k with the integral of ``exp(2 pi i z k.(a_j - a_i))`` over the slab,
``sinc(T k.(a_j - a_i))``: no volume is made, nothing is interpolated a second time, and what a view itself has given
can be left out exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.images.arrays import to_host
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.prepare import Image
from napari_tiltalign.methods.flat_series import Level
from napari_tiltalign.methods.pair_graph import stretch_matrices

_WINDOW = 1.25
"""Size of the plane that is looked at, parts of the longer side of the field: tilted views see more than one field."""
_TAPER = 0.08
FADE = 1.0 / 24.0
"""Flat images fade out over this part of their size at every edge."""
_HIGHPASS_CYCLES = 6.0
"""Features larger than a sixth of the field are left over from the illumination."""
SUPPORT = (0.35, 0.65)
"""Part of the views that must see a place for it to count at all, and to count in full: where few do, predictions of
the others would be taken for data, and confirm themselves."""
_STRENGTH_OF_PREDICTIONS = 0.6
"""About how strong structure is in a prediction, relative to the view itself."""

Spectra = NDArray[np.complex64]


@dataclass(frozen=True, slots=True, eq=False)
class PlaneViews:
    """Transforms of n views stretched into the specimen plane.

    Noise of variance 1 per pixel of a flat image has variance 1 per sample here too (what stretching does to its
    spectrum is made up for).

    Attributes
    ----------
    geometry
        The geometry they were stretched with.
    used
        Shape (n,): views that take part; the others are 0.
    spectra
        Shape (n, rows, columns): the part of the discrete Fourier transform (``rfft2``) within the band; the rows are
        those of `row_index`, the columns the first of ``rfft2``.
    row_index
        Shape (rows,): which rows of ``rfft2`` these are.
    size
        Number of samples along each side of the plane.
    step_angst
        Their distance.
    coverage, core
        Shape (n, size, size), 0 to 1: where a view sees the plane, falling as the image fades out at its edges; and
        where it is far enough from edges and blocked parts for its contrast to be that of the specimen.
    filled
        Shape (size, size): strength of what was filled in where a view does not see the plane; 0 if nothing was.
    highest
        Upper end of the band, cycles per Angstrom in the raw images.
    """

    geometry: ViewGeometry
    used: NDArray[np.bool_]
    spectra: Spectra
    row_index: NDArray[np.intp]
    size: int
    step_angst: float
    coverage: Image
    core: Image
    filled: Image
    highest: float

    def frequencies(self) -> tuple[FloatArray, FloatArray]:
        """Frequencies (k_y of every row, k_x of every column), cycles per Angstrom in the specimen plane."""
        k_y = np.fft.fftfreq(self.size)[self.row_index] / self.step_angst
        k_x = np.arange(self.spectra.shape[2]) / (self.size * self.step_angst)
        return k_y, k_x

    def slopes(self) -> FloatArray:
        """How far (y, x) every view sees structure displaced per unit of its height, shape (n, 2)."""
        rows = self.geometry.rotations()[:, :2]
        slopes: FloatArray = np.linalg.solve(rows[:, :, :2], rows[:, :, 2:])[:, ::-1, 0]
        return slopes

    def image(self, spectrum: Spectra) -> Image:
        """Turn a transform within the band, shape (rows, columns), into an image (size, size)."""
        full = np.zeros((self.size, self.size // 2 + 1), np.complex64)
        full[self.row_index, : spectrum.shape[1]] = spectrum
        made: Image = fft.irfft2(full, (self.size, self.size))
        return made


def plane_views(
    level: Level,
    geometry: ViewGeometry,
    used: NDArray[np.bool_],
    highest: float,
    beyond: Image | None = None,
    support: tuple[float, float] = SUPPORT,
) -> PlaneViews:
    """Stretch views of a level into the specimen plane.

    Parameters
    ----------
    level
        The series at the resolution wanted.
    geometry
        Geometry of the n views in order of tilt.
    used
        Shape (n,): which views take part.
    highest
        Upper end of the band, cycles per Angstrom.
    beyond
        Shape (n, size, size): what the parts of the plane that a view does not see are filled with, from a prediction
        of it; None leaves them empty. A prediction from views that end somewhere ends there too, and looks displaced.
    support
        See `SUPPORT`.
    """
    step = float(level.grid.pitch_yx_angst.max())
    field = float(level.series.field_yx_angst.max())
    size = int(fft.next_fast_len(round(_WINDOW * field / step), real=True))
    profile = np.clip((size / 2 - np.abs(np.arange(size) - (size - 1) / 2)) / (size * _TAPER), 0.0, 1.0)
    window = np.outer(*[np.sin(0.5 * np.pi * profile) ** 2] * 2).astype(np.float32)
    matrices = stretch_matrices(geometry)
    tiles, _ = level.tiles(geometry.shift_yx_angst[:, None], matrices, step, window)
    tiles = to_host(tiles)
    shrink = np.sqrt(np.abs(np.linalg.det(matrices)))
    rows = np.fft.fftfreq(size)
    row_index = np.flatnonzero(np.abs(rows) <= highest * step)
    columns = int(min(highest * step, 0.5) * size) + 1
    lowest = _HIGHPASS_CYCLES / field
    k_y, k_x = rows[row_index] / step, np.arange(columns) / (size * step)
    spectra = np.zeros((len(geometry), len(row_index), columns), np.complex64)
    coverage, core = (np.zeros((len(geometry), size, size), np.float32) for _ in range(2))

    views = np.flatnonzero(used).tolist()

    def cover(view: int) -> None:
        shift = geometry.shift_yx_angst[view]
        coverage[view], core[view] = _coverage(tiles[view, 0], matrices[view], shift, level, step)

    map_views(cover, views)
    seen_by = coverage[views].mean(axis=0) if views else coverage.sum(axis=0)
    trusted = np.clip((seen_by - support[0]) / (support[1] - support[0]), 0.0, 1.0)
    filled = (0.0 if beyond is None else _STRENGTH_OF_PREDICTIONS) * trusted

    def one(view: int) -> None:
        tile = tiles[view, 0]
        core[view] *= trusted
        if beyond is not None:
            tile = tile + window * (1.0 - coverage[view]) * trusted * beyond[view] / np.float32(shrink[view])
        radius = raw_radius(matrices[view], k_y, k_x)
        band = np.where(radius <= highest, -np.expm1(-0.5 * (radius / lowest) ** 2), 0.0) * shrink[view]
        spectra[view] = fft.rfft2(tile)[row_index, :columns] * band.astype(np.float32)

    map_views(one, views)
    return PlaneViews(geometry, used, spectra, row_index, size, step, coverage, core, filled, highest)


def _coverage(tile: Image, matrix_yx: FloatArray, shift: FloatArray, level: Level, step: float) -> tuple[Image, Image]:
    """Coverage and core of one view, see `PlaneViews`."""
    size = len(tile)
    place = (np.arange(size) - (size - 1) / 2) * step
    fade = FADE * float(level.series.field_yx_angst.max())
    inside = np.inf
    for axis in (0, 1):
        seen = np.add.outer(matrix_yx[axis, 0] * place, matrix_yx[axis, 1] * place) + shift[axis]
        inside = np.minimum(inside, 0.5 * level.series.field_yx_angst[axis] - np.abs(seen))
    clear = tile != 0
    if (~clear & (inside > fade)).any():
        clear = ndimage.minimum_filter(clear, 2 * max(1, round(0.25 * fade / step)) + 1)
    coverage = clear * np.sin(0.5 * np.pi * np.clip(inside / fade, 0.0, 1.0)) ** 2
    core = clear * np.clip(2.0 * (inside / fade - 1.0), 0.0, 1.0)
    return coverage.astype(np.float32), core.astype(np.float32)


def raw_radius(matrix_yx: FloatArray, k_y: FloatArray, k_x: FloatArray) -> FloatArray:
    """Length of the frequency in the raw image that a frequency of the plane stems from, shape (rows, columns)."""
    inverse = np.linalg.inv(matrix_yx)
    raw_y = inverse[0, 0] * k_y[:, None] + inverse[1, 0] * k_x
    raw_x = inverse[0, 1] * k_y[:, None] + inverse[1, 1] * k_x
    radius: FloatArray = np.hypot(raw_y, raw_x)
    return radius
