"""Does the score rank alignments by their true error? Truth plus known errors, on simulated series.

    python -m benchmarks.judging [SCENARIO ...] [--seeds 101 202]

prints, for every series, the rank correlation (Spearman) of the score, and of its parts, with the true error: over all
alignments, over those with wrong shifts only, and over those with a wrong axis only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np
from scipy.stats import spearmanr

from napari_tiltalign import Alignment, difference
from napari_tiltalign.quality.scores import Judge
from napari_tiltalign.simulation import SCENARIOS, simulate

SERIES = ("easy", "sparse", "low-dose", "insitu", "thin", "lamella")
SHIFTS_PX = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
AXES_DEG = (0.5, 1.0, 2.0)
FIGURES = ("score", "gap_correlation", "kurtosis", "bead_residual_px")


def wrong_alignments(truth: Alignment, seed: int) -> Iterator[tuple[str, Alignment]]:
    """Wrong shifts first (the first is the truth), then wrong axes."""
    geometry = truth.geometry
    error = np.random.default_rng([seed, 7]).normal(0.0, np.sqrt(0.5), (len(truth), 2)) * truth.pixel_size_angst
    for rms in SHIFTS_PX:
        shift = geometry.shift_yx_angst + rms * error
        yield f"shift {rms:g} px", truth.replace(geometry=geometry.replace(shift_yx_angst=shift))
    for degrees in AXES_DEG:
        turned = geometry.replace(z_rot_deg=geometry.z_rot_deg + degrees)
        yield f"axis {degrees:g} deg", truth.replace(geometry=turned)


def ranked(scenario: str, seed: int) -> dict[str, list[float]]:
    """True error and figures of every alignment of one series."""
    sample = simulate(SCENARIOS[scenario].replace(seed=seed))
    judge = Judge(sample.series)
    found: dict[str, list[float]] = {name: [] for name in ("error_px", *FIGURES)}
    for name, alignment in wrong_alignments(sample.truth, seed):
        error = difference(alignment, sample.truth, thickness_angst=sample.options.thickness_angst).rms_px
        scores = judge(alignment)
        figures = {"error_px": error, "score": scores.score, **scores.parts}
        for figure in found:
            found[figure].append(figures[figure])
        told = "  ".join(f"{figure} {found[figure][-1]:.4g}" for figure in found)
        print(f"{scenario} {seed} {name}: {told}  {scores.grade}", flush=True)
    return found


def rank_correlations(found: dict[str, list[float]], figure: str) -> tuple[float, float, float]:
    """Over all alignments, over wrong shifts, over wrong axes; 1 is perfect."""
    sign = 1.0 if figure == "bead_residual_px" else -1.0
    error, value = np.array(found["error_px"]), sign * np.array(found[figure])
    n = len(SHIFTS_PX)
    parts = np.arange(len(error)), np.arange(n), np.r_[0, n : len(error)]
    everything, shifts, axes = (float(spearmanr(error[part], value[part]).statistic) for part in parts)
    return everything, shifts, axes


def main() -> None:
    """Judge all and print the rank correlations."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", nargs="*", default=SERIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[101, 202])
    asked = parser.parse_args(sys.argv[1:])
    for scenario in asked.scenarios:
        for seed in asked.seeds:
            found = ranked(scenario, seed)
            for figure in FIGURES:
                if np.isfinite(found[figure]).all():
                    told = "  ".join(f"{value:6.3f}" for value in rank_correlations(found, figure))
                    print(f"RANK {scenario:10s} {seed} {figure:18s} all, shifts, axes: {told}", flush=True)


if __name__ == "__main__":
    main()
