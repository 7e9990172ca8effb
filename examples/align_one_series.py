"""Align one series by its gold beads, say how sure the result is, and write it for RELION, IMOD and AreTomo.

python align_one_series.py tilt_series.star [NAME] [--diameter-nm 10] [--output aligned]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from napari_tiltalign import Alignment, Fiducial, align, read, write


def main() -> None:
    """Align the series that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path, help="RELION's STAR file, or a stack with its angles beside it")
    parser.add_argument("name", nargs="?", help="name of the series; the first one without it")
    parser.add_argument("--diameter-nm", type=float, default=10.0, help="diameter of the beads")
    parser.add_argument("--output", type=Path, default=Path("aligned"), help="folder for the results")
    arguments = parser.parse_args()

    dataset = read(arguments.input)
    series = dataset[arguments.name] if arguments.name else dataset.series[0]
    alignment = align(series, Fiducial(diameter_nm=arguments.diameter_nm))
    tell(alignment)
    losses = write(dataset.only([series.name]), {series.name: alignment}, arguments.output)
    for loss in losses[series.name][".star"]:
        print(f"RELION's file does not hold {loss}")


def tell(alignment: Alignment) -> None:
    """Print what a person wants to know first."""
    figures = alignment.statistics
    print(f"{alignment.series_name}: {int(alignment.included.sum())} of {len(alignment)} images took part")
    print(f"tilt axis {alignment.axis_deg:.2f} degrees")
    print(f"{figures['tracks']:.0f} beads, leave-out error {figures['leave_out_rms_px']:.2f} px rms")
    if alignment.uncertainty is not None:
        sd = alignment.uncertainty.shift_yx_angst[alignment.included]
        print(f"shifts are known to {np.median(sd):.2f} Angstrom (median over the images)")
    for flag in alignment.flags:
        print(f"{flag.name}: {flag.meaning} {flag.detail}")


if __name__ == "__main__":
    main()
