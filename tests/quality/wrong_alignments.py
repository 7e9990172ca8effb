"""Alignments made from the truth plus a known error."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.model import Alignment
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import SimulatedSeries


def shifted(truth: Alignment, rms_px: float, seed: int = 7) -> Alignment:
    """Every view displaced at random, `rms_px` long on average (root mean square)."""
    error = np.random.default_rng(seed).normal(0.0, rms_px / np.sqrt(2.0), (len(truth), 2))
    shift = truth.geometry.shift_yx_angst + error * truth.pixel_size_angst
    return truth.replace(geometry=truth.geometry.replace(shift_yx_angst=shift))


def turned(truth: Alignment, axis_error_deg: float) -> Alignment:
    """The tilt axis wrong in all views."""
    return truth.replace(geometry=truth.geometry.replace(z_rot_deg=truth.geometry.z_rot_deg + axis_error_deg))


def error_px(alignment: Alignment, sample: SimulatedSeries) -> float:
    """True error of an alignment, pixels rms."""
    return difference(alignment, sample.truth, thickness_angst=sample.options.thickness_angst).rms_px
