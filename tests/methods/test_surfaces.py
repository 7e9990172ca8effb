"""The slant of surfaces from beads: right, and with an error bar that holds, also where little can be known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.surfaces import Slant, find_slant

HALF_FIELD_ANGST = 2500.0
POINT_SD_ANGST = 5.0
N_SEEDS = 40


@dataclass(frozen=True)
class Case:
    """Beads of a specimen, at a random slant."""

    kind: str
    beads: int
    thickness_angst: float = 1200.0

    def draw(self, seed: int) -> tuple[FloatArray, FloatArray]:
        """Points, and the true angles about y and x in degrees."""
        rng = np.random.default_rng([seed, self.beads])
        p, half = self.beads, self.thickness_angst / 2
        y, x = rng.uniform(-HALF_FIELD_ANGST, HALF_FIELD_ANGST, (2, p))
        roughness = rng.normal(0, 10, p)
        if self.kind == "line":
            x = 0.5 * y + rng.normal(0, 20, p)
        if self.kind == "volume":
            z = rng.uniform(-half, half, p)
        elif self.kind == "one":
            z = half + roughness
        else:
            z = half * np.where(rng.permutation(p) < round(0.6 * p), 1, -1) + roughness
        if self.kind == "outliers":
            z[:2] = rng.uniform(-1500, 1500, 2)
        angles = np.array([rng.uniform(-12, 12), rng.uniform(-4, 4)])
        z += np.column_stack([x, y]) @ np.tan(np.deg2rad(angles))
        return np.column_stack([z + rng.normal(0, POINT_SD_ANGST, p), y, x]), angles

    def find(self, seed: int) -> tuple[Slant, FloatArray]:
        """What is found, and the true angles."""
        points, angles = self.draw(seed)
        slant = find_slant(points, np.full(self.beads, POINT_SD_ANGST))
        assert slant is not None
        return slant, angles


@cache
def repeated(case: Case) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Errors and error bars of both angles in degrees, and the probabilities of two surfaces, over the seeds."""
    errors, bars, two = [], [], []
    for seed in range(N_SEEDS):
        slant, true = case.find(seed)
        errors.append(np.array([slant.angle_x_deg, slant.angle_y_deg]) - true)
        bars.append([slant.sd_x_deg, slant.sd_y_deg])
        two.append(slant.two_surfaces)
    return np.array(errors), np.array(bars), np.array(two)


CASES = [
    Case("two", 20), Case("two", 8), Case("two", 5), Case("two", 4), Case("two", 60), Case("two", 20, 300.0),
    Case("one", 20), Case("one", 5), Case("volume", 20), Case("volume", 60), Case("outliers", 20), Case("line", 20),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_error_bars_hold(case: Case) -> None:
    errors, bars, _ = repeated(case)
    inside = np.abs(errors) / bars
    assert np.mean(inside < 1) > 0.55
    assert np.mean(inside < 2) > 0.88
    assert np.mean(inside < 3) > 0.95


@pytest.mark.parametrize(
    ("case", "limit_deg", "bar_deg"),
    [(Case("two", 20), 0.4, 0.2), (Case("one", 20), 0.4, 0.2), (Case("two", 60), 0.2, 0.1)],
    ids=str,
)
def test_clear_surfaces_give_the_angle(case: Case, limit_deg: float, bar_deg: float) -> None:
    errors, bars, _ = repeated(case)
    assert np.abs(errors).max() < limit_deg
    assert np.median(bars) < bar_deg


@pytest.mark.parametrize("case", [Case("volume", 20), Case("two", 4), Case("line", 20)], ids=str)
def test_where_little_can_be_known_the_error_bar_is_large(case: Case) -> None:
    _, bars, _ = repeated(case)
    assert np.median(bars.max(axis=1)) > 2.0


@pytest.mark.parametrize(
    ("case", "low", "high"),
    [(Case("two", 20), 0.99, 1.0), (Case("one", 20), 0.0, 0.01), (Case("volume", 60), 0.0, 0.05)],
    ids=str,
)
def test_number_of_surfaces(case: Case, low: float, high: float) -> None:
    _, _, two = repeated(case)
    assert low <= two.mean() <= high + 1e-9


def test_thickness_is_across_the_specimen() -> None:
    slant, _ = Case("two", 20).find(0)
    assert slant.thickness_angst == pytest.approx(1200.0, abs=3 * slant.thickness_sd_angst)
    assert slant.thickness_sd_angst < 20
    assert slant.scatter_angst == pytest.approx(11.0, abs=6.0)
    single, _ = Case("one", 20).find(0)
    assert np.isnan(single.thickness_angst)
    assert single.middle_angst == pytest.approx(600.0, abs=20.0)


def test_steep_specimen_keeps_its_thickness() -> None:
    rng = np.random.default_rng(0)
    y, x = rng.uniform(-2000, 2000, (2, 30))
    z = np.tan(np.deg2rad(20.0)) * x + np.where(np.arange(30) % 2, 600.0, -600.0) / np.cos(np.deg2rad(20.0))
    slant = find_slant(np.column_stack([z, y, x]), np.full(30, 1.0))
    assert slant is not None
    assert slant.angle_x_deg == pytest.approx(20.0, abs=0.1)
    assert slant.thickness_angst == pytest.approx(1200.0, abs=5.0)


def test_outliers_are_told() -> None:
    assert np.mean([Case("outliers", 20).find(seed)[0].outliers for seed in range(10)]) > 1.5


def test_two_beads_tell_nothing() -> None:
    assert find_slant(np.zeros((2, 3)), np.ones(2)) is None
    flat = find_slant(np.array([[0.0, 0, 0], [0, 1000, 0], [0, 0, 1000]]), np.ones(3))
    assert flat is not None
    assert abs(flat.angle_x_deg) < 3 * flat.sd_x_deg
