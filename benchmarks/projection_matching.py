"""Alignment by projection matching: accuracy against simulated truth, and what it costs."""

from __future__ import annotations

import itertools

from napari_tiltalign import ProjectionMatching, align, difference
from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.simulation import SCENARIOS, Simulation, simulate

SEEDS = (101, 102, 103)
OPTIONS = ProjectionMatching()
WITHOUT_BEADS: dict[str, Simulation] = {
    "insitu": SCENARIOS["insitu"],
    "thin": SCENARIOS["thin"],
    "lamella": SCENARIOS["lamella"],
    "insitu, axis 6 deg off": SCENARIOS["insitu"].replace(axis_error_deg=6),
    "insitu, jumps": SCENARIOS["insitu"].replace(n_jumps=6, jump_percent=30),
    "insitu, bad views": SCENARIOS["insitu"].replace(n_dark_views=2, n_blocked_views=1, n_duplicated_views=1),
    "needle": SCENARIOS["needle"],
    "needle, axis 6 deg off": SCENARIOS["needle"].replace(axis_error_deg=6),
}


class Accuracy:
    """Every scenario without beads, three seeds, none chosen; the thickness is guessed the same for all."""

    params = (tuple(WITHOUT_BEADS), SEEDS)
    param_names = ("scenario", "seed")

    def setup_cache(self) -> dict[tuple[str, int], dict[str, float]]:
        return {case: judged(*case) for case in itertools.product(WITHOUT_BEADS, SEEDS)}

    setup_cache.timeout = 3600

    def track_error_px(self, found: dict[tuple[str, int], dict[str, float]], scenario: str, seed: int) -> float:
        return found[scenario, seed]["error_px"]

    def track_axis_error_deg(self, found: dict[tuple[str, int], dict[str, float]], scenario: str, seed: int) -> float:
        return found[scenario, seed]["axis_error_deg"]

    def track_offset_error_deg(self, found: dict[tuple[str, int], dict[str, float]], scenario: str, seed: int) -> float:
        return found[scenario, seed]["offset_error_deg"]

    track_error_px.unit = "px"
    track_axis_error_deg.unit = track_offset_error_deg.unit = "deg"


def judged(scenario: str, seed: int) -> dict[str, float]:
    """Simulate, align, and compare with the truth; NaN where the method found nothing."""
    options = WITHOUT_BEADS[scenario].replace(seed=seed)
    sample = simulate(options)
    try:
        alignment = align(sample.series, OPTIONS)
    except MethodFailed:
        return dict.fromkeys(("error_px", "axis_error_deg", "offset_error_deg"), float("nan"))
    found = difference(alignment, sample.truth, thickness_angst=options.thickness_angst)
    return {
        "error_px": found.rms_px,
        "axis_error_deg": abs(found.axis_difference_deg),
        "offset_error_deg": abs(alignment.statistics.get("tilt_angle_offset_deg", float("nan")) - options.pretilt_deg),
    }


class Cost:
    """A series without beads with images of 512 and 1024 px, in memory."""

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
