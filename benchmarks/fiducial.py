"""Alignment by gold beads: accuracy against simulated truth, and what it costs."""

from __future__ import annotations

import itertools
from pathlib import Path

from napari_tiltalign import Fiducial, TiltSeries, align, difference, read
from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.simulation import SCENARIOS, simulate

WITH_BEADS = ("easy", "sparse", "crowded", "low-dose", "big-shift", "bad-views", "wrong-axis", "few-views")
SEEDS = (101, 102, 103)
REAL_SERIES = Path(__file__).parents[2] / "shared" / "data" / "empiar-10499_TS_01" / "tilt_series.star"
OPTIONS = Fiducial(diameter_nm=10)


class Accuracy:
    """Every scenario with beads, three seeds, none chosen."""

    params = (WITH_BEADS, SEEDS)
    param_names = ("scenario", "seed")

    def setup_cache(self) -> dict[tuple[str, int], dict[str, float]]:
        return {case: judged(*case) for case in itertools.product(WITH_BEADS, SEEDS)}

    setup_cache.timeout = 1800

    def track_error_px(self, found: dict[tuple[str, int], dict[str, float]], scenario: str, seed: int) -> float:
        return found[scenario, seed]["error_px"]

    def track_good_views_lost(self, found: dict[tuple[str, int], dict[str, float]], scenario: str, seed: int) -> float:
        return found[scenario, seed]["good_views_lost"]

    def track_bad_views_kept(self, found: dict[tuple[str, int], dict[str, float]], scenario: str, seed: int) -> float:
        return found[scenario, seed]["bad_views_kept"]

    track_error_px.unit = "px"
    track_good_views_lost.unit = track_bad_views_kept.unit = "views"


def judged(scenario: str, seed: int) -> dict[str, float]:
    """Simulate, align, and compare with the truth; NaN where the method found nothing."""
    sample = simulate(SCENARIOS[scenario].replace(seed=seed))
    try:
        alignment = align(sample.series, OPTIONS)
    except MethodFailed:
        return dict.fromkeys(("error_px", "good_views_lost", "bad_views_kept"), float("nan"))
    return {
        "error_px": difference(alignment, sample.truth, thickness_angst=sample.options.thickness_angst).rms_px,
        "good_views_lost": int((sample.truth.included & ~alignment.included).sum()),
        "bad_views_kept": int((alignment.included & ~sample.truth.included).sum()),
    }


class Cost:
    """The easy series with images of 512 and 1024 px, in memory."""

    params = (512, 1024)
    param_names = ("size_px",)
    timeout = 300

    def setup(self, size_px: int) -> None:
        options = SCENARIOS["easy"].replace(
            image_rows_px=size_px, image_columns_px=size_px, pixel_size_angst=5120.0 / size_px
        )
        self.series = simulate(options).series

    def time_align(self, size_px: int) -> None:
        align(self.series, OPTIONS)

    def peakmem_align(self, size_px: int) -> None:
        align(self.series, OPTIONS)


class RealSeries:
    """A real series of 41 views, where the data lies beside the checkout; there is no truth, only residuals."""

    timeout = 300

    def setup(self) -> None:
        if not REAL_SERIES.is_file():
            raise NotImplementedError("the real data is not beside this checkout")
        self.series: TiltSeries = read(REAL_SERIES).series[0]

    def time_align(self) -> None:
        align(self.series, OPTIONS)

    def peakmem_align(self) -> None:
        align(self.series, OPTIONS)

    def track_residual_rms_px(self) -> float:
        return align(self.series, OPTIONS).statistics["residual_rms_px"]

    track_residual_rms_px.unit = "px"
