"""From matter to electrons: absorption, the microscope's phase contrast, the detector.

The wave behind the specimen is ``exp(-mu / 2 + i phi)``; the microscope multiplies its spectrum by ``exp(-i chi)``
with ``chi = -pi lambda defocus k^2`` (underfocus positive), and the detector counts ``|wave|^2``. Waves are computed on
pixels half as large, because their square holds twice their spatial frequencies. Spherical aberration does nothing at
the pixel sizes of interest and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.simulation.acquisition import Fate
from napari_tiltalign.simulation.options import Simulation

OVERSAMPLING = 2
MARGIN_PX = 16
"""Least border computed and cut away, so that the two sides of an image do not see each other."""
WAVELENGTH_ANGST = 0.0197
"""Of electrons at 300 kV."""
HAND = -1
"""Sign with which the height of a point changes its defocus (RELION's ``rlnTomoHand``)."""
DEFOCUS_STEP_ANGST = 3000.0
"""Images are computed at defoci no further apart, and interpolated."""

ICE_MEAN_FREE_PATH_ANGST = 2500.0
"""Electrons that lose energy are filtered out."""
PROTEIN_PHASE_PER_ANGST = 2.0e-3
"""Phase of protein against ice, radians per Angstrom."""
PROTEIN_ABSORPTION_PER_ANGST = 4.0e-4
"""What protein scatters out of the beam against ice (amplitude contrast of 10 %)."""
GOLD_PHASE_PER_ANGST = 5.0e-3
GOLD_MEAN_FREE_PATH_ANGST = 25.0
HAADF_PER_ANGST = 2.0e-4
"""Part of the beam that matter of density 1 scatters onto a detector far off the axis; gold scatters more."""
HAADF_GOLD = 12.0
HAADF_BACKGROUND = 0.01
"""Part of the beam that arrives there through vacuum."""
GOLD_TRANSMISSION = 0.6
"""Gold of any thickness lets this much pass: real beads are evenly grey discs, not darkest in the middle."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The grid on which waves are computed: finer than the image, and larger by a border.

    Attributes
    ----------
    image_shape_yx
        (rows, columns) of the image.
    margin_yx_px
        Border on each side, image pixels.
    pixel_size_angst
        Of the image.
    """

    image_shape_yx: tuple[int, int]
    margin_yx_px: tuple[int, int]
    pixel_size_angst: float

    @classmethod
    def of(cls, options: Simulation) -> Frame:
        """Choose borders that make transforms fast."""
        rows, columns = options.image_shape_yx
        return cls((rows, columns), (_fast_margin(rows), _fast_margin(columns)), options.pixel_size_angst)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """(rows, columns) of the fine grid."""
        (rows, columns), (my, mx) = self.image_shape_yx, self.margin_yx_px
        return OVERSAMPLING * (rows + 2 * my), OVERSAMPLING * (columns + 2 * mx)

    @property
    def fine_pixel_angst(self) -> float:
        """Pixel size of the fine grid, Angstrom."""
        return self.pixel_size_angst / OVERSAMPLING

    def fine_index(self, position_yx_angst: FloatArray) -> FloatArray:
        """Index on the fine grid of positions about the image centre (pixel ``N // 2``), both (..., 2)."""
        centre = np.array([size // 2 for size in self.image_shape_yx]) + np.array(self.margin_yx_px)
        index: FloatArray = (position_yx_angst / self.pixel_size_angst + centre + 0.5) * OVERSAMPLING - 0.5
        return index

    def image_positions_angst(self) -> tuple[FloatArray, FloatArray]:
        """Rows and columns of the image's pixels, Angstrom from its centre."""
        rows, columns = ((np.arange(n) - n // 2) * self.pixel_size_angst for n in self.image_shape_yx)
        return rows, columns

    def to_image(self, fine: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average the fine pixels of every image pixel and cut the border away."""
        (rows, columns), (my, mx) = self.image_shape_yx, self.margin_yx_px
        image = np.zeros((rows, columns), np.float32)
        for a in range(OVERSAMPLING):
            for b in range(OVERSAMPLING):
                image += fine[a::OVERSAMPLING, b::OVERSAMPLING][my : my + rows, mx : mx + columns]
        image /= OVERSAMPLING**2
        return image


def _fast_margin(size: int) -> int:
    margin = MARGIN_PX
    while fft.next_fast_len(OVERSAMPLING * (size + 2 * margin)) != OVERSAMPLING * (size + 2 * margin):
        margin += 1
    return margin


def transmitted(
    protein_angst: NDArray[np.float32],
    gold_angst: NDArray[np.float32],
    height_angst: NDArray[np.float32],
    underfocus_angst: float,
    frame: Frame,
) -> NDArray[np.float32]:
    """Part of the beam that arrives in every image pixel, ice not counted.

    Parameters
    ----------
    protein_angst, gold_angst
        Projected thickness on the fine grid.
    height_angst
        Height of the specimen along the beam in every image pixel; it changes the defocus.
    underfocus_angst
        Underfocus at height 0.
    frame
        The grid.
    """
    spectrum = fft.fft2(_exit_wave(protein_angst, gold_angst), overwrite_x=True)
    underfocus = underfocus_angst + HAND * height_angst
    lowest, highest = float(underfocus.min()), float(underfocus.max())
    n_steps = round((highest - lowest) / DEFOCUS_STEP_ANGST)
    step = (highest - lowest) / n_steps if n_steps else np.inf
    image = np.zeros(frame.image_shape_yx, np.float32)
    for plane in np.linspace(lowest, highest, n_steps + 1) if n_steps else [(lowest + highest) / 2]:
        seen = fft.ifft2(spectrum * _microscope(plane, frame), overwrite_x=True)
        nearness = np.clip(1 - np.abs(underfocus - plane) / step, 0, None)
        image += nearness * frame.to_image(seen.real**2 + seen.imag**2)
    return image


def scattered_far(
    protein_angst: NDArray[np.float32], gold_angst: NDArray[np.float32], frame: Frame
) -> NDArray[np.float32]:
    """Part of the beam that an annular detector far off the axis catches in every image pixel: in proportion to mass.

    Parameters
    ----------
    protein_angst, gold_angst
        Projected thickness on the fine grid.
    frame
        The grid.
    """
    mass = frame.to_image(protein_angst + np.float32(HAADF_GOLD) * gold_angst)
    part: NDArray[np.float32] = np.float32(HAADF_BACKGROUND) - np.expm1(-np.float32(HAADF_PER_ANGST) * mass)
    return part


def _exit_wave(protein_angst: NDArray[np.float32], gold_angst: NDArray[np.float32]) -> NDArray[np.complex64]:
    """The wave behind the specimen."""
    through_gold = GOLD_TRANSMISSION + (1 - GOLD_TRANSMISSION) * np.exp(-gold_angst / GOLD_MEAN_FREE_PATH_ANGST)
    amplitude = np.sqrt(through_gold) * np.exp(-0.5 * PROTEIN_ABSORPTION_PER_ANGST * protein_angst)
    phase = PROTEIN_PHASE_PER_ANGST * protein_angst + GOLD_PHASE_PER_ANGST * gold_angst
    wave = np.empty(phase.shape, np.complex64)
    wave.real, wave.imag = amplitude * np.cos(phase), amplitude * np.sin(phase)
    return wave


def _microscope(underfocus_angst: float, frame: Frame) -> NDArray[np.complex64]:
    """What the microscope multiplies the spectrum of the wave by."""
    k_y, k_x = (fft.fftfreq(n, frame.fine_pixel_angst) for n in frame.shape_yx)
    chi = np.pi * WAVELENGTH_ANGST * -underfocus_angst
    rows, columns = (np.exp(-1j * chi * k**2).astype(np.complex64) for k in (k_y, k_x))
    transfer: NDArray[np.complex64] = np.multiply.outer(rows, columns)
    return transfer


def ice_transmission(path_angst: NDArray[np.float32]) -> NDArray[np.float32]:
    """Part of the beam that has lost no energy in ice of a given length along the beam."""
    part: NDArray[np.float32] = np.exp(-path_angst / np.float32(ICE_MEAN_FREE_PATH_ANGST))
    return part


def detect(
    transmission: NDArray[np.float32], fate: Fate, options: Simulation, random: np.random.Generator
) -> NDArray[np.float32]:
    """Count the electrons of one image.

    Parameters
    ----------
    transmission
        Part of the beam that arrives in every pixel.
    fate
        What becomes of the image.
    options
        Dose, noise, faults of the detector.
    random
        Random numbers for this image.
    """
    electrons = options.dose_per_view_e_per_A2 * options.pixel_size_angst**2
    expected = electrons * transmission * _illumination(options)
    if fate is Fate.DARK:
        expected *= 0.01
    elif fate is Fate.BLOCKED:
        expected *= _grid_bar(options, random)
    image = random.poisson(expected) if options.counting_noise else expected
    counts = image.astype(np.float32)
    n_hot = options.hot_pixels_per_view
    hot = tuple(random.integers(0, size, n_hot) for size in counts.shape)
    counts[hot] += random.uniform(0.5, 4, n_hot) * electrons
    if options.bright_beads:
        counts = 2 * np.median(counts) - counts
    return counts + np.float32(options.detector_offset_counts)


def _illumination(options: Simulation) -> NDArray[np.float32]:
    """The beam, a little brighter in its middle, which is not that of the image; the same in all images."""
    middle = options.random("illumination").uniform(-0.3, 0.3, 2)
    y, x = (np.linspace(-1, 1, n) - m for n, m in zip(options.image_shape_yx, middle, strict=True))
    beam: NDArray[np.float32] = (1.01 - 0.02 * np.add.outer(y**2, x**2)).astype(np.float32)
    return beam


def _grid_bar(options: Simulation, random: np.random.Generator) -> NDArray[np.float32]:
    """A bar of the grid that hides about half of the image from one side."""
    angle = random.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, n) for n in options.image_shape_yx)
    inwards = np.add.outer(np.sin(angle) * y, np.cos(angle) * x) - random.uniform(-0.1, 0.2)
    part: NDArray[np.float32] = (0.02 + 0.98 / (1 + np.exp(-inwards / 0.01))).astype(np.float32)
    return part
