"""The slab in two reconstructions: found where it is, as sure as it is right, and not found where there is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_tiltalign.images.project import Grid
from napari_tiltalign.quality.grading import _about_the_slab
from napari_tiltalign.quality.slab import Slab, find_slab

SHAPE_ZYX = (60, 80, 72)
VOXEL_ANGST = 40.0
GRID = Grid(SHAPE_ZYX, VOXEL_ANGST)
SURE = {"contrast": 30.0, "height_sd_angst": 20.0, "thickness_sd_angst": 40.0, "tilt_sd_deg": 1.0, "reach": 0.5}


def halves(signal, *, thickness=20.0, height=0.0, slope_yx=(0.0, 0.0), faces_only=False, seed=0):
    """Two reconstructions of random density in a slab (voxels), with noise of 1 of their own."""
    random = np.random.default_rng(seed)
    z, y, x = (np.arange(size) - size // 2 for size in SHAPE_ZYX)
    above = z[:, None, None] - height - slope_yx[0] * y[:, None] - slope_yx[1] * x
    inside = np.abs(above) < thickness / 2
    if faces_only:
        inside &= np.abs(above) > thickness / 2 - 2
    # uneven in its plane, as what is in cells is
    strength = 1.0 + 0.5 * np.sin(y[:, None] / 9.0) * np.cos(x / 7.0)
    common = random.normal(size=SHAPE_ZYX) * inside * strength * signal
    return tuple((common + random.normal(size=SHAPE_ZYX)).astype(np.float32) for _ in range(2))


def off_by_sd(slab, thickness, height, tilt_y, tilt_x):
    return np.array(
        [
            (slab.thickness_angst - thickness) / slab.thickness_sd_angst,
            (slab.height_angst - height) / slab.height_sd_angst,
            (slab.tilt_about_y_deg - tilt_y) / slab.tilt_sd_deg,
            (slab.tilt_about_x_deg - tilt_x) / slab.tilt_sd_deg,
        ]
    )


@pytest.mark.parametrize("signal", [1.0, 0.3])
def test_a_slab_is_found_within_its_error_bars(signal):
    slope = np.tan(np.deg2rad([5.0, 8.0]))
    errors = []
    for seed in range(4):
        slab = find_slab(*halves(signal, slope_yx=slope, height=3.0, seed=seed), GRID)
        assert slab.is_certain, slab.doubt
        upright = 20.0 * np.cos(np.arctan(np.hypot(*slope)))
        errors.append(off_by_sd(slab, upright * VOXEL_ANGST, 3.0 * VOXEL_ANGST, 8.0, -5.0))
    assert np.abs(errors).max() < 3.5
    assert slab.thickness_sd_angst < 0.2 * slab.thickness_angst


@pytest.mark.parametrize("seed", range(3))
def test_less_signal_is_less_sure(seed):
    """And so little that it is not known."""
    sure, less, least = (find_slab(*halves(signal, seed=seed), GRID) for signal in (1.0, 0.2, 0.08))
    assert sure.contrast > 2 * less.contrast > 2 * least.contrast
    assert less.tilt_sd_deg > sure.tilt_sd_deg
    assert not least.is_certain


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_no_slab(seed):
    slab = find_slab(*halves(0.0, seed=seed), GRID)
    assert not slab.is_certain
    assert slab.doubt


def test_what_is_on_the_faces_only_tells_both():
    """Gold lies on the faces of ice in which nothing else is seen."""
    slab = find_slab(*halves(1.5, thickness=26.0, faces_only=True), GRID)
    assert slab.is_certain, slab.doubt
    assert slab.thickness_angst == pytest.approx(26.0 * VOXEL_ANGST, rel=0.15)
    assert slab.height_angst == pytest.approx(0.0, abs=1.5 * VOXEL_ANGST)


def test_empty_planes_at_an_end_are_no_evidence():
    even, odd = halves(0.6, slope_yx=(0.0, 0.2))
    for half in (even, odd):
        half[-1] = 0.0
    assert find_slab(even, odd, GRID).tilt_about_y_deg == pytest.approx(np.rad2deg(np.arctan(0.2)), abs=2.5)


def test_a_slab_that_fills_what_was_searched_is_not_known():
    slab = find_slab(*halves(0.7, thickness=100.0), GRID)
    assert not slab.is_certain


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"contrast": 2.0}, "by chance"),
        ({"tilt_about_y_deg": 29.5}, "tilted by 30"),
        ({"reach": 1.2}, "reach beyond"),
        ({"thickness_sd_angst": 310.0}, "120 ± 31 nm thick"),
        ({"thickness_angst": 1000.0, "height_sd_angst": 300.0}, "disagree"),
        ({"tilt_sd_deg": 9.0}, "its level"),
        ({"thickness_sd_angst": np.nan}, "disagree"),
    ],
)
def test_every_doubt_has_its_reason(change, words):
    slab = Slab(0.0, 1200.0, 1.0, 2.0, **SURE)
    assert slab.is_certain
    doubtful = dataclasses.replace(slab, **change)
    assert not doubtful.is_certain
    assert words in doubtful.doubt
    (told,) = _about_the_slab(doubtful, 200.0)
    assert doubtful.doubt in told


def test_the_summary_says_how_sure_the_slab_is():
    level = Slab(0.0, 1200.0, 1.0, 2.0, **SURE)
    assert _about_the_slab(level, 200.0) == ["the slab is 120 ± 4 nm thick and level as far as can be told (± 1.0°)"]
    (tilted,) = _about_the_slab(dataclasses.replace(level, tilt_about_y_deg=6.0), 200.0)
    assert "not level: +6.0° about the tilt axis" in tilted
    thick = _about_the_slab(level, 100.0)
    assert "only 100 nm of its height were reconstructed" in thick[1]
    assert "144 nm (--height-nm)" in thick[1]
