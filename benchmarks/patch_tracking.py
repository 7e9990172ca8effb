"""Alignment by patches: accuracy against simulated truth, and what it costs."""

from __future__ import annotations

import itertools
from pathlib import Path

from napari_tiltalign import PatchTracking, TiltSeries, align, difference, read
from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.simulation import SCENARIOS, simulate

WITHOUT_BEADS = ("insitu", "thin", "lamella")
SEEDS = (101, 202, 303)
FAULTS = {
    "none": {},
    "axis": {"axis_error_deg": 6},
    "jumps": {"n_jumps": 4, "jump_percent": 30},
    "bad_views": {"n_dark_views": 2, "n_blocked_views": 1, "n_duplicated_views": 1},
}
REAL_SERIES = Path(__file__).parents[2] / "shared" / "data" / "empiar-10499_TS_01" / "tilt_series.star"
OPTIONS = PatchTracking()


def error_px(scenario: str, seed: int, fault: str = "none") -> float:
    """Simulate, align, and compare with the truth; NaN where the method found nothing."""
    sample = simulate(SCENARIOS[scenario].replace(seed=seed, **FAULTS[fault]))
    try:
        alignment = align(sample.series, OPTIONS)
    except MethodFailed:
        return float("nan")
    return difference(alignment, sample.truth, thickness_angst=sample.options.thickness_angst).rms_px


class Accuracy:
    """Every scenario without beads, three seeds, none chosen."""

    params = (WITHOUT_BEADS, SEEDS)
    param_names = ("scenario", "seed")

    def setup_cache(self) -> dict[tuple[str, int], float]:
        return {case: error_px(*case) for case in itertools.product(WITHOUT_BEADS, SEEDS)}

    setup_cache.timeout = 1800

    def track_error_px(self, found: dict[tuple[str, int], float], scenario: str, seed: int) -> float:
        return found[scenario, seed]

    track_error_px.unit = "px"


class Faults:
    """Thin and thick specimens with a wrong axis, jumps of the stage, and bad views."""

    params = (("insitu", "thin"), tuple(FAULTS))
    param_names = ("scenario", "fault")
    timeout = 600

    def track_error_px(self, scenario: str, fault: str) -> float:
        return error_px(scenario, 101, fault)

    track_error_px.unit = "px"


class Cost:
    """The thin specimen with images of 512 and 1024 px, in memory."""

    params = (512, 1024)
    param_names = ("size_px",)
    timeout = 300

    def setup(self, size_px: int) -> None:
        options = SCENARIOS["thin"].replace(
            image_rows_px=size_px, image_columns_px=size_px, pixel_size_angst=5120.0 / size_px
        )
        self.series = simulate(options).series

    def time_align(self, size_px: int) -> None:
        align(self.series, OPTIONS)

    def peakmem_align(self, size_px: int) -> None:
        align(self.series, OPTIONS)


class RealSeries:
    """A real series of 41 views, where the data lies beside the checkout; there is no truth."""

    timeout = 300

    def setup(self) -> None:
        if not REAL_SERIES.is_file():
            raise NotImplementedError("the real data is not beside this checkout")
        self.series: TiltSeries = read(REAL_SERIES).series[0]

    def time_align(self) -> None:
        align(self.series, OPTIONS)

    def track_views_aligned(self) -> float:
        return align(self.series, OPTIONS).statistics["views_aligned"]

    track_views_aligned.unit = "views"
