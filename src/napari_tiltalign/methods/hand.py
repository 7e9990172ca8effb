"""The hand of a specimen from the defocus gradient: what is higher along the beam is focused differently.

Bead positions are the same for a specimen and its mirror image. The fringes around the beads are not: the underfocus of
a bead at height h along the beam is that of the image plus ``hand * h``, with hand +1 or -1 (``rlnTomoHand``; Pfeffer
et al. 2015 use the same gradient for correcting the CTF). So the radial profiles of the beads are compared within and
between views:

1. A profile is modelled as that of a partly transparent ball, ``ball * (a cos chi + p sin chi)`` in Fourier space with
   ``chi = pi wavelength defocus k^2`` (spherical aberration does nothing at the scale of a bead); a and p are fitted to
   the mean profile, and the derivative by the defocus follows.
2. Every profile gives an estimate of its defocus against the others, by its share of that derivative. What a bead has
   in all views and a view in all beads is taken out, of the heights too: so neither beads that differ in size nor a
   view that is blurred looks like a gradient.
3. The slope of these estimates over the height is the hand, with an error from leaving out one bead after the other.

The slope is smaller than 1, because noise and an imperfect model of the ball dilute it, so only its sign is used, and
only if it is significant and the change of the profiles looks like a change of defocus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.prepare import Image
from napari_tiltalign.model import Alignment, Flag, TiltSeries

WAVELENGTH_ANGST = {300: 0.0197, 200: 0.0251, 120: 0.0335, 100: 0.0370}
"""Of electrons, by voltage in kV, relativistic."""
SIGNIFICANCE = 4.0
LEAST_LIKENESS = 0.4
"""Correlation between the change of the profiles with height and the derivative by the defocus, at least this."""
LARGEST_SLOPE = 2.0

_STEP_PX = 0.5
_RADIUS = 1.8
"""Profiles reach to this many bead diameters."""
_LEAST_VIEWS, _LEAST_BEADS, _LEAST_PER_VIEW = 8, 5, 3
_SIGMAS = 4.0
_CENTRING_ROUNDS = 20
_GRID = 256
_OVERSAMPLING = 2
_GOLD_MEAN_FREE_PATH_ANGST = 25.0


@dataclass(frozen=True, slots=True)
class Hand:
    """What the defocus gradient says.

    Attributes
    ----------
    slope, slope_sd
        Change of the defocus with the height along the beam, and its standard deviation; NaN if there was too little
        to measure it.
    likeness
        Correlation between how the profiles change with the height and how they would change with the defocus.
    beads
        How many beads took part.
    """

    slope: float
    slope_sd: float
    likeness: float
    beads: int

    @property
    def sign(self) -> int:
        """+1 or -1 as RELION's ``rlnTomoHand``; 0 if undetermined."""
        certain = abs(self.slope) > SIGNIFICANCE * self.slope_sd and abs(self.slope) < LARGEST_SLOPE
        alike = abs(self.likeness) >= LEAST_LIKENESS and self.likeness * self.slope > 0
        return int(np.sign(self.slope)) if certain and alike else 0

    def in_words(self) -> str:
        """What was found, for people."""
        if not np.isfinite(self.slope):
            return f"undetermined: positions cannot tell it, and {self.beads} beads are too few for their fringes to"
        figures = (
            f"the defocus changes by {self.slope:.2f} +- {self.slope_sd:.2f} of the height along the beam, by the "
            f"fringes of {self.beads} beads"
        )
        if not self.sign:
            return f"undetermined: positions cannot tell it, and {figures}, which is not certain"
        return f"{self.sign:+d} (rlnTomoHand): {figures}"


def hand_from_defocus(
    images: Sequence[Image | None],
    positions_yx: FloatArray,
    height_angst: FloatArray,
    underfocus_angst: FloatArray,
    *,
    diameter_px: float,
    pixel_size_angst: float,
    voltage_kv: float = 300.0,
) -> Hand:
    """Determine the hand from the fringes of beads.

    Parameters
    ----------
    images
        n images of local contrast; None for those that take no part.
    positions_yx
        Shape (n, p, 2): pixel index of every bead, NaN where it was not seen.
    height_angst
        Shape (n, p): height of the beads along the beam (`ViewGeometry.depth`).
    underfocus_angst
        Shape (n,), positive; images without one take no part.
    diameter_px, pixel_size_angst
        Of the beads, and of these images.
    voltage_kv
        Of the microscope.
    """
    profiles = _profiles(images, positions_yx, diameter_px)
    seen = np.isfinite(profiles).all(axis=2) & np.isfinite(underfocus_angst)[:, None]
    beads, views = seen.sum(axis=0) >= _LEAST_VIEWS, seen.sum(axis=1) >= _LEAST_PER_VIEW
    seen = seen[views][:, beads]
    n_beads = int(beads.sum())
    if n_beads < _LEAST_BEADS or views.sum() < _LEAST_VIEWS:
        return Hand(np.nan, np.nan, 0.0, n_beads)
    profiles = np.where(seen[..., None], profiles[views][:, beads], np.nan)
    wavelength = WAVELENGTH_ANGST[min(WAVELENGTH_ANGST, key=lambda kv: abs(kv - voltage_kv))]
    ball = _Ball.of(diameter_px, pixel_size_angst, wavelength, float(np.median(underfocus_angst[views])), profiles)
    height = _centred(np.where(seen, height_angst[views][:, beads], np.nan))
    defocus = _centred(np.where(seen, ball.defocus_angst(profiles), np.nan))
    limit = _SIGMAS * 1.4826 * np.nanmedian(np.abs(defocus))
    products = np.nansum(np.clip(defocus, -limit, limit) * height, axis=0)
    squares = np.nansum(height**2, axis=0)
    without = (products.sum() - products) / (squares.sum() - squares)
    sd = float(np.sqrt((n_beads - 1) / n_beads * ((without - without.mean()) ** 2).sum()))
    change = np.nansum(_centred(profiles) * height[..., None], axis=(0, 1))
    return Hand(float(products.sum() / squares.sum()), sd, ball.likeness(change), n_beads)


def _profiles(images: Sequence[Image | None], positions_yx: FloatArray, diameter_px: float) -> FloatArray:
    """Radial profiles (n, p, k) of beads that stand apart from the others and from the edge; NaN elsewhere."""
    reach, size = _RADIUS * diameter_px, int(_RADIUS * diameter_px / _STEP_PX)
    half = int(reach) + 2
    profiles = np.full((*positions_yx.shape[:2], size), np.nan)
    for view, image in enumerate(images):
        position = positions_yx[view]
        there = np.flatnonzero(np.isfinite(position).all(axis=1))
        if image is None or not there.size:
            continue
        apart = np.linalg.norm(position[there, None] - position[None, there], axis=2)
        apart[np.diag_indices(len(there))] = np.inf
        for bead, nearest in zip(there.tolist(), apart.min(axis=1), strict=True):
            y, x = np.round(position[bead]).astype(int)
            inside = half <= y < image.shape[0] - half and half <= x < image.shape[1] - half
            if inside and nearest > 1.5 * reach:
                patch = image[y - half : y + half + 1, x - half : x + half + 1]
                profiles[view, bead] = _radial(patch, position[bead] - (y - half, x - half), size, _STEP_PX)
    return profiles


def _radial(patch: FloatArray | Image, centre_yx: FloatArray, size: int, step_px: float) -> FloatArray:
    """Radial profile about a pixel index, linear between radii `step_px` apart."""
    y, x = (np.arange(length) - centre for length, centre in zip(patch.shape, centre_yx, strict=True))
    radius = np.hypot(y[:, None], x).ravel() / step_px
    node = radius.astype(int)
    near = node < size
    node, share, value = node[near], radius[near] - node[near], patch.ravel()[near]
    weight = np.bincount(node, 1 - share, size + 1) + np.bincount(node + 1, share, size + 1)
    total = np.bincount(node, (1 - share) * value, size + 1) + np.bincount(node + 1, share * value, size + 1)
    profile: FloatArray = (total / np.maximum(weight, 1e-6))[:size]
    return profile


def _centred(values: FloatArray) -> FloatArray:
    """Take what a row and what a column have in common out of values (n, p, ...) with gaps (NaN), by turns."""
    known = np.isfinite(values)
    centred: FloatArray = np.where(known, values, 0.0)
    counts = [np.maximum(known.sum(axis=axis, keepdims=True), 1) for axis in (0, 1)]
    for _ in range(_CENTRING_ROUNDS):
        for axis in (1, 0):
            centred -= np.where(known, centred.sum(axis=axis, keepdims=True) / counts[axis], 0.0)
    return np.where(known, centred, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class _Ball:
    """How the profile of a bead changes with the defocus.

    Attributes
    ----------
    derivative
        Shape (k,): by the defocus in Angstrom, without what an offset or another amplitude would do too.
    nuisance
        Shape (k, 2): offset and mean profile.
    weight
        Shape (k,): how many pixels a radius has.
    """

    derivative: FloatArray
    nuisance: FloatArray
    weight: FloatArray

    @classmethod
    def of(
        cls, diameter_px: float, pixel_size_angst: float, wavelength: float, underfocus: float, profiles: FloatArray
    ) -> _Ball:
        mean = np.nanmean(profiles, axis=(0, 1))
        size = len(mean)
        weight = np.arange(size, dtype=np.float64)
        weight[:2] = 0.0  # too few pixels for a mean
        fine = pixel_size_angst / _OVERSAMPLING
        place = (np.arange(_GRID) - _GRID // 2) * fine
        thickness = np.sqrt(
            np.clip((diameter_px * pixel_size_angst) ** 2 - 4 * np.add.outer(place**2, place**2), 0.0, None)
        )
        k = fft.fftfreq(_GRID, fine)
        k2, pixel = np.add.outer(k**2, k**2), np.sinc(k * pixel_size_angst)
        ball = fft.fft2(fft.ifftshift(1 - np.exp(-thickness / _GOLD_MEAN_FREE_PATH_ANGST))) * np.outer(pixel, pixel)
        chi, rate = np.pi * wavelength * underfocus * k2, np.pi * wavelength * k2
        parts = (np.cos(chi), np.sin(chi), -rate * np.sin(chi), rate * np.cos(chi))
        absorbed, shifted, by_absorbed, by_shifted = (
            _radial(fft.fftshift(fft.ifft2(ball * part).real), np.full(2, _GRID // 2), size, _STEP_PX * _OVERSAMPLING)
            for part in parts
        )
        root = np.sqrt(weight)[:, None]
        design = np.column_stack([absorbed, shifted, np.ones(size)])
        a, p, _ = np.linalg.lstsq(design * root, mean * root[:, 0])[0]
        nuisance = np.column_stack([np.ones(size), mean])
        derivative = _without(a * by_absorbed + p * by_shifted, nuisance, weight)
        return cls(derivative, nuisance, weight)

    def defocus_angst(self, profiles: FloatArray) -> FloatArray:
        """Least-squares estimate of the defocus of every profile (..., k), against the mean."""
        weighted = self.weight * self.derivative
        estimate: FloatArray = profiles @ weighted / (weighted @ self.derivative)
        return estimate

    def likeness(self, change: FloatArray) -> float:
        """Correlation of a change of the profile with the derivative."""
        change = _without(change, self.nuisance, self.weight)
        norm = np.sqrt((self.weight * change**2).sum() * (self.weight * self.derivative**2).sum())
        return float((self.weight * change * self.derivative).sum() / max(norm, 1e-30))


def _without(profile: FloatArray, nuisance: FloatArray, weight: FloatArray) -> FloatArray:
    """What is left of a profile after the best combination of others is taken away."""
    root = np.sqrt(weight)[:, None]
    left: FloatArray = profile - nuisance @ np.linalg.lstsq(nuisance * root, profile * root[:, 0])[0]
    return left


def tell_hand(
    alignment: Alignment, series: TiltSeries, images: Sequence[Image | None], binning: int, diameter_px: float
) -> Alignment:
    """Say what the defocus gradient tells about the hand, and warn where the input says otherwise.

    Parameters
    ----------
    alignment
        By beads, with tracks.
    series
        What was aligned. Where the defocus of an image was measured that is used, else the nominal one.
    images
        Local contrast of every image of the series; None for those that take no part.
    binning
        Of these images.
    diameter_px
        Of the beads in these images.

    Returns
    -------
    Alignment
        With ``details["hand"]``, in words, and figures in the statistics. Its geometry is not changed.
    """
    tracks = alignment.tracks
    measured, nominal = (
        np.array([-1e4 * value for value in values])
        for values in zip(*((tilt.defocus_um, tilt.nominal_defocus_um) for tilt in series.tilts), strict=True)
    )
    underfocus = np.where(np.isfinite(measured), measured, nominal)
    if tracks is None or not (underfocus > 0).any():
        return alignment
    used = tracks.used & np.isfinite(tracks.residual_yx_px).all(axis=1)
    position = np.full((len(series), tracks.n_tracks, 2), np.nan)
    position[tracks.tilt[used], tracks.track[used]] = (tracks.position_yx_px[used] + 0.5) / binning - 0.5
    hand = hand_from_defocus(
        images,
        position,
        alignment.geometry.depth(tracks.points_zyx_angst),
        np.where(underfocus > 0, underfocus, np.nan),
        diameter_px=diameter_px,
        pixel_size_angst=series.pixel_size_angst * binning,
        voltage_kv=series.voltage_kv if np.isfinite(series.voltage_kv) else 300.0,
    )
    figures = {"hand_slope": hand.slope, "hand_slope_sd": hand.slope_sd} if np.isfinite(hand.slope) else {}
    alignment = alignment.replace(
        details={**alignment.details, "hand": hand.in_words()}, statistics={**alignment.statistics, **figures}
    )
    if hand.sign * series.hand == -1:
        words = f"{hand.in_words()}; the input says {series.hand:+d}: check rlnTomoHand and the sign of the tilts"
        alignment = alignment.replace(flags=(*alignment.flags, Flag("hand_contradicted", words)))
    return alignment
