"""Align simulated series and print how far from the truth each is: every seed, none chosen.

    python benchmarks/accuracy.py fiducial --scenarios easy sparse --seeds 101 202 303
    python benchmarks/accuracy.py slab --scenarios insitu thin lamella --set sample_thickness_nm=75

Prints one line for each series, as a Markdown table: error (rms over the slab, and of the worst view), good views lost,
bad views kept, and, for methods with tracks, how many error bars of isolated observations hold the truth.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial import cKDTree

from napari_tiltalign import Alignment, align, difference
from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.methods.base import MethodOptions, method
from napari_tiltalign.simulation import SCENARIOS, SimulatedSeries, simulate

SEEDS = (101, 202, 303)
NEAR_DIAMETERS = 0.5
"""An observation belongs to a true bead within this distance, in bead diameters."""
ISOLATED_DIAMETERS = 2.0
"""A bead is isolated if none other is seen within this distance, in bead diameters."""


def share_of_truths_within_error_bars(alignment: Alignment, sample: SimulatedSeries) -> float:
    """Share of coordinates of isolated beads that lie within one standard deviation of the truth; NaN without any."""
    found, true = alignment.tracks, sample.truth.tracks
    if found is None or true is None or not true.n_tracks:
        return float("nan")
    diameter_px = sample.options.bead_diameter_nm * 10.0 / alignment.pixel_size_angst
    within = []
    for view, tilt_id in enumerate(alignment.tilt_ids):
        of_view = (found.tilt == view) & (found.weight > 0.0) & np.isfinite(found.sd_px)
        places = true.position_yx_px[true.tilt == sample.truth.tilt_ids.index(tilt_id)]
        if not of_view.any() or len(places) < 2:
            continue
        tree = cKDTree(places)
        distance, nearest = tree.query(found.position_yx_px[of_view])
        to_neighbour = tree.query(places, k=2)[0][:, 1]
        counted = (distance < NEAR_DIAMETERS * diameter_px) & (to_neighbour[nearest] > ISOLATED_DIAMETERS * diameter_px)
        off = np.abs(found.position_yx_px[of_view] - places[nearest])[counted]
        within.append((off < found.sd_px[of_view][counted, None]).ravel())
    return float(np.concatenate(within).mean()) if within else float("nan")


def row(options: MethodOptions, scenario: str, seed: int) -> str:
    """Align one series; the table's line about it."""
    sample = simulate(SCENARIOS[scenario].replace(seed=seed))
    began = time.process_time()
    try:
        found = align(sample.series, options)
    except TiltAlignError as error:
        return f"| {scenario} | {seed} | {type(error).__name__}: {error} | | | | | |"
    seconds = time.process_time() - began
    off = difference(found, sample.truth, thickness_angst=sample.options.thickness_angst)
    lost = int((sample.truth.included & ~found.included).sum())
    kept = int((found.included & ~sample.truth.included).sum())
    share = share_of_truths_within_error_bars(found, sample)
    flags = " ".join(sorted({flag.name for flag in found.flags}))
    numbers = f"{off.rms_px:.3f} | {off.worst_view_rms_px:.3f} | {lost} | {kept}"
    return (
        f"| {scenario} | {seed} | {numbers} | {'' if np.isnan(share) else f'{share:.2f}'} | {seconds:.1f} | {flags} |"
    )


def table(options: MethodOptions, scenarios: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    """Yield the lines of the table as they come."""
    yield "| scenario | seed | rms px | worst view px | good views lost | bad views kept | bars | CPU s | flags |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for scenario, seed in itertools.product(scenarios, seeds):
        yield row(options, scenario, seed)


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("--scenarios", nargs="+", default=["easy"], choices=sorted(SCENARIOS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="options, by their Python names")
    given = parser.parse_args()
    settings = dict(setting.split("=", 1) for setting in given.set)
    for line in table(method(given.method).Options(**settings), given.scenarios, given.seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
