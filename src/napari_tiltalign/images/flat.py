"""Flat images: illumination, outliers and the colour of the noise taken out, kept as Fourier transforms.

Everything that compares whole views without beads begins here, once per series. A flat image has zero mean, its bright
level and its blocked parts do not show, and its power is 1 per pixel at every spatial frequency, so that a sum over
frequencies weighs them by what they tell and not by how strong they are.

The transform is kept only up to the frequency that is needed (a Fourier crop), which makes any pixel size and any size
of image the same work. A sample of a flat image with index j lies at ``(j - origin) pitch`` from the image centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_tiltalign.geometry import FloatArray, frozen_array
from napari_tiltalign.images.arrays import module_of, transforms_of
from napari_tiltalign.images.prepare import Image, Mask, bin_image, contrast_image, remove_hot_pixels

_FEATURE = 1.0 / 40.0
"""Size of the largest features that stay, parts of the image: the background is a mean over five times that."""
_EDGE = 1.0 / 24.0
"""Width of the edge that is faded out, parts of the image."""
_SMOOTH_BINS = 1.5
_LOWPASS_BEGINS, _LOWPASS_ENDS = 0.44, 0.5
"""Cycles per sample between which a level is faded out, so that interpolation does not ring."""


@dataclass(frozen=True, slots=True, eq=False)
class FlatImage:
    """One flat image.

    Attributes
    ----------
    spectrum
        Shape (rows, columns // 2 + 1), complex64: its discrete Fourier transform on the cropped grid.
    mask
        Shape (rows, columns): False where the image is blocked.
    level, spread
        Median and robust standard deviation of the image in its own units.
    clear
        Part of the image that is not blocked, 0 to 1.
    """

    spectrum: NDArray[np.complex64]
    mask: Mask
    level: float
    spread: float
    clear: float


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the samples of flat images lie.

    Attributes
    ----------
    shape_yx
        Rows and columns, both even.
    pitch_yx_angst, origin_yx
        Shape (2,): distance of the samples, and the index of the image centre (index ``N // 2`` of the raw image).
    binning
        By how much raw images are binned first.
    """

    shape_yx: tuple[int, int]
    pitch_yx_angst: FloatArray
    origin_yx: FloatArray
    binning: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "pitch_yx_angst", frozen_array(self.pitch_yx_angst))
        object.__setattr__(self, "origin_yx", frozen_array(self.origin_yx))

    @classmethod
    def of(cls, raw_shape_yx: tuple[int, int], pixel_size_angst: float, pitch_angst: float) -> Grid:
        """Grid of about the pitch asked for, never finer than the raw pixels.

        Parameters
        ----------
        raw_shape_yx, pixel_size_angst
            Of the raw images.
        pitch_angst
            Distance of samples wanted, Angstrom.
        """
        binning = max(1, int(0.5 * pitch_angst / pixel_size_angst))  # twice finer at least: binning blurs
        binned = [size // binning for size in raw_shape_yx]
        wanted = [size * binning * pixel_size_angst / pitch_angst for size in binned]
        shape = [max(2, min(2 * round(w / 2), size // 2 * 2)) for w, size in zip(wanted, binned, strict=True)]
        ratio = np.array(binned) / np.array(shape)
        centre = (np.array(raw_shape_yx) // 2 + 0.5) / binning - 0.5
        return cls((shape[0], shape[1]), ratio * binning * pixel_size_angst, centre / ratio, binning)

    def coarser(self, pitch_angst: float) -> Grid:
        """Return the grid of about a larger pitch that covers the same area."""
        shape = [
            max(2, min(2 * round(size * own / pitch_angst / 2), size))
            for size, own in zip(self.shape_yx, self.pitch_yx_angst, strict=True)
        ]
        ratio = np.array(self.shape_yx) / np.array(shape)
        return Grid((shape[0], shape[1]), self.pitch_yx_angst * ratio, self.origin_yx / ratio, self.binning)


def flatten(image: Image, grid: Grid, *, clip_sigmas: float = 4.0) -> FlatImage:
    """Make one raw image flat.

    Parameters
    ----------
    image
        Shape (y, x), raw, all pixels finite.
    grid
        What to sample it on.
    clip_sigmas
        Contrast beyond so many robust standard deviations is cut off, which tames gold and dirt.
    """
    cleaned, _ = remove_hot_pixels(np.ascontiguousarray(image, dtype=np.float32))
    sample = cleaned[::4, ::4]
    level = float(np.median(sample))
    spread = float(1.4826 * np.median(np.abs(sample - level)))
    binned = bin_image(cleaned, grid.binning)
    flat = contrast_image(binned, _FEATURE * max(binned.shape))
    limit = clip_sigmas * (1.4826 * float(np.median(np.abs(flat.contrast[::3, ::3]))) + 1e-9)
    contrast = np.clip(flat.contrast, -limit, limit)
    edge = np.outer(*(_edge(size) for size in contrast.shape))
    spectrum = _whitened(fft.rfft2((contrast * edge).astype(np.float32)), contrast.shape, edge * flat.mask)
    mask = _nearest(flat.mask, grid.shape_yx)
    return FlatImage(cropped(spectrum, contrast.shape, grid.shape_yx), mask, level, spread, float(flat.mask.mean()))


def _edge(size: int) -> Image:
    width = max(4, round(size * _EDGE))
    rise = np.sin(0.5 * np.pi * (np.arange(width) + 0.5) / width) ** 2
    window = np.ones(size, np.float32)
    window[:width], window[-width:] = rise, rise[::-1]
    return window


def _whitened(spectrum: NDArray[np.complex64], shape: tuple[int, ...], window: Image) -> NDArray[np.complex64]:
    """Divide by the square root of the smoothed radial power: power 1 per pixel where the window is 1."""
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    ring = (radius * min(shape)).astype(np.intp)
    power = np.bincount(ring.ravel(), np.square(np.abs(spectrum)).ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    # ring 0 is the mean, which the background has taken out
    power[0] = power[1]
    smooth = np.exp(ndimage.gaussian_filter1d(np.log(power + 1e-12), _SMOOTH_BINS, mode="nearest"))
    gain = np.sqrt(spectrum_size(shape) * max(float(np.mean(window**2)), 1e-3) / smooth)
    whitened: NDArray[np.complex64] = (spectrum * gain[ring]).astype(np.complex64)
    return whitened


def spectrum_size(shape: tuple[int, ...]) -> int:
    """Sum of the squared moduli of the transform of an image of this shape whose pixels have variance 1, per term."""
    return int(np.prod(shape))


def cropped(spectrum: NDArray[np.complex64], shape: tuple[int, ...], wanted: tuple[int, int]) -> NDArray[np.complex64]:
    """Keep low frequencies, so that the inverse transform of shape `wanted` has the same power per sample.

    Parameters
    ----------
    spectrum
        Of an image (``rfft2``).
    shape, wanted
        Shape of the image, and a smaller one with even sides.
    """
    rows, columns = wanted[0] // 2, wanted[1] // 2
    kept = np.concatenate([spectrum[:rows, : columns + 1], spectrum[spectrum.shape[0] - rows :, : columns + 1]])
    scale = np.sqrt(spectrum_size(wanted) / spectrum_size(shape))
    made: NDArray[np.complex64] = (kept * scale).astype(np.complex64)
    return made


def _nearest(mask: Mask, shape_yx: tuple[int, int]) -> Mask:
    rows, columns = (np.arange(n) * size // n for n, size in zip(shape_yx, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


def spline_coefficients(spectra: Any, shape_yx: tuple[int, int]) -> Any:
    """Cubic B-spline coefficients of flat images, on the CPU or the GPU.

    Parameters
    ----------
    spectra
        Shape (..., rows, columns // 2 + 1): transforms, from `cropped`.
    shape_yx
        Rows and columns.

    Returns
    -------
    array
        Shape (..., rows, columns), float32; what ``images.tiles.sample_tiles`` interpolates. The prefilter
        (4 + 2 cos(2 pi f)) / 6 per axis is divided out in Fourier space (Unser 1999).
    """
    f_y = np.fft.fftfreq(shape_yx[0])[:, None]
    f_x = np.fft.rfftfreq(shape_yx[1])[None]
    spline = (4.0 + 2.0 * np.cos(2 * np.pi * f_y)) * (4.0 + 2.0 * np.cos(2 * np.pi * f_x)) / 36.0
    fade = np.clip((_LOWPASS_ENDS - np.hypot(f_y, f_x)) / (_LOWPASS_ENDS - _LOWPASS_BEGINS), 0.0, 1.0)
    kept = module_of(spectra).asarray((fade / spline).astype(np.float32))
    coefficients = transforms_of(spectra).irfft2(spectra * kept, shape_yx)
    return coefficients.astype(np.float32, copy=False)
