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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.images.arrays import as_index, filters_of, map_some, module_of, to_host, transforms_of
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
_BYTES_PER_SAMPLE = 100.0
"""Of memory that a GPU needs for intermediate results, for every sample of a view."""
_STRENGTH_OF_PREDICTIONS = 0.6
"""About how strong structure is in a prediction, relative to the view itself."""

Spectra = Any
"""Transforms, complex64; on the GPU if the images are."""


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

    Transforms and images are on the GPU if the level is.
    """

    geometry: ViewGeometry
    used: NDArray[np.bool_]
    spectra: Spectra
    row_index: NDArray[np.intp]
    size: int
    step_angst: float
    coverage: Any
    core: Any
    filled: Any
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

    def image(self, spectrum: Spectra) -> Any:
        """Turn transforms within the band, shape (..., rows, columns), into images (..., size, size)."""
        full = module_of(spectrum).zeros((*spectrum.shape[:-2], self.size, self.size // 2 + 1), np.complex64)
        full[..., as_index(self.row_index, full), : spectrum.shape[-1]] = spectrum
        return transforms_of(full).irfft2(full, (self.size, self.size))

    def images(self, spectra: Spectra) -> Any:
        """Turn the transforms of all views into images, shape (n, size, size)."""
        made = module_of(spectra).empty((len(spectra), self.size, self.size), np.float32)

        def some(part: Any) -> None:
            made[part] = self.image(spectra[part])

        map_some(some, len(spectra), spectra, _BYTES_PER_SAMPLE * self.size**2)
        return made


def plane_views(
    level: Level,
    geometry: ViewGeometry,
    used: NDArray[np.bool_],
    highest: float,
    beyond: Any = None,
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
    matrices, shift = stretch_matrices(geometry), geometry.shift_yx_angst
    tiles, _ = level.tiles(shift[:, None], matrices, step, window)
    xp, transforms = module_of(tiles), transforms_of(tiles)
    shrink = np.sqrt(np.abs(np.linalg.det(matrices)))
    rows = np.fft.fftfreq(size)
    row_index = np.flatnonzero(np.abs(rows) <= highest * step)
    columns = int(min(highest * step, 0.5) * size) + 1
    lowest = _HIGHPASS_CYCLES / field
    k_y, k_x = xp.asarray(rows[row_index] / step), xp.asarray(np.arange(columns) / (size * step))
    spectra = xp.zeros((len(geometry), len(row_index), columns), np.complex64)
    coverage, core = (xp.zeros((len(geometry), size, size), np.float32) for _ in range(2))
    views, window, kept_rows = np.flatnonzero(used), xp.asarray(window), as_index(row_index, tiles)
    memory = _BYTES_PER_SAMPLE * size**2

    def cover(part: Any) -> None:
        view = views[part]
        of = as_index(view, tiles)
        coverage[of], core[of] = _coverage(tiles[of, 0], matrices[view], shift[view], level, step)

    map_some(cover, len(views), tiles, memory)
    seen_by = coverage[as_index(views, tiles)].mean(axis=0) if len(views) else coverage.sum(axis=0)
    trusted = xp.clip((seen_by - support[0]) / (support[1] - support[0]), 0.0, 1.0)
    filled = (0.0 if beyond is None else _STRENGTH_OF_PREDICTIONS) * trusted

    def one(part: Any) -> None:
        view = views[part]
        of = as_index(view, tiles)
        tile, shrunk = tiles[of, 0], xp.asarray(shrink[view].astype(np.float32))[..., None, None]
        core[of] *= trusted
        if beyond is not None:
            tile = tile + window * (1.0 - coverage[of]) * trusted * beyond[of] / shrunk
        radius = raw_radius(matrices[view], k_y, k_x)
        band = xp.where(radius <= highest, -xp.expm1(-0.5 * (radius / lowest) ** 2), 0.0) * shrunk
        spectra[of] = transforms.rfft2(tile)[..., kept_rows, :columns] * band.astype(np.float32)

    map_some(one, len(views), tiles, memory)
    return PlaneViews(geometry, used, spectra, row_index, size, step, coverage, core, filled, highest)


def _coverage(tiles: Any, matrices_yx: FloatArray, shift: FloatArray, level: Level, step: float) -> tuple[Any, Any]:
    """Coverage and core of one view, or of several, see `PlaneViews`."""
    xp = module_of(tiles)
    size = tiles.shape[-1]
    place = (np.arange(size) - (size - 1) / 2) * step
    fade = FADE * float(level.series.field_yx_angst.max())
    distances = []
    for axis in (0, 1):
        down, right = (xp.asarray(matrices_yx[..., axis, k, None] * place) for k in (0, 1))
        seen = down[..., None] + right[..., None, :] + xp.asarray(shift[..., axis, None, None])
        distances.append(0.5 * float(level.series.field_yx_angst[axis]) - xp.abs(seen))
    inside = xp.minimum(*distances)
    clear = _without_fringes(tiles != 0, inside > fade, 2 * max(1, round(0.25 * fade / step)) + 1)
    coverage = clear * xp.sin(0.5 * np.pi * xp.clip(inside / fade, 0.0, 1.0)) ** 2
    core = clear * xp.clip(2.0 * (inside / fade - 1.0), 0.0, 1.0)
    return coverage.astype(np.float32), core.astype(np.float32)


def _without_fringes(clear: Any, inside: Any, width: int) -> Any:
    """Make blocked parts larger, in views that have some inside."""
    blocked = (~clear & inside).any(axis=(-2, -1))
    if module_of(clear) is np:
        return ndimage.minimum_filter(clear, width) if blocked else clear
    for view in np.flatnonzero(to_host(blocked)).tolist():
        clear[view] = filters_of(clear).minimum_filter(clear[view].astype(np.float32), width) > 0
    return clear


def raw_radius(matrices_yx: FloatArray, k_y: Any, k_x: Any) -> Any:
    """Length of the frequency in a raw image that a frequency of the plane stems from.

    Parameters
    ----------
    matrices_yx
        Shape (..., 2, 2): steps in the plane to steps in the views.
    k_y, k_x
        Frequencies along both sides, on the CPU or the GPU.

    Returns
    -------
    array
        Shape (..., rows, columns), where the frequencies are.
    """
    xp = module_of(k_y)
    inverse = xp.asarray(np.linalg.inv(matrices_yx))[..., None, None]
    raw_y = inverse[..., 0, 0, :, :] * k_y[:, None] + inverse[..., 1, 0, :, :] * k_x
    raw_x = inverse[..., 0, 1, :, :] * k_y[:, None] + inverse[..., 1, 1, :, :] * k_x
    return xp.hypot(raw_y, raw_x)
