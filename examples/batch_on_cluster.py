"""Align a dataset on this machine, on Slurm or on a Dask cluster; run it again to go on where it was.

python batch_on_cluster.py tilt_series.star AlignTiltSeries/job007                            # this machine
python batch_on_cluster.py tilt_series.star AlignTiltSeries/job007 --scheduler slurm          # jobs of Slurm
python batch_on_cluster.py tilt_series.star AlignTiltSeries/job007 --scheduler tcp://HOST:PORT
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from napari_tiltalign import Fiducial, read
from napari_tiltalign.batch import Placement, SeriesOutcome, Slurm, Watcher, align_dataset


class Lines(Watcher):
    """Prints a line for every series when it is done."""

    def ended(self, outcome: SeriesOutcome) -> None:
        """Tell what became of a series."""
        print(f"{outcome.name}: {outcome.failure or 'aligned'}", flush=True)


def main() -> int:
    """Align all series of the dataset that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path, help="RELION's STAR file")
    parser.add_argument("output", type=Path, help="folder for the results")
    parser.add_argument("--scheduler", default="local", help="local, serial, slurm or tcp://HOST:PORT")
    parser.add_argument("--queue", default="", help="Slurm's partition")
    arguments = parser.parse_args()

    dataset = read(arguments.input)
    placement = Placement(
        scheduler=arguments.scheduler,
        slurm=Slurm(queue=arguments.queue, cores=4, memory_gb=16, walltime="04:00:00", jobs=10),
    )
    summary = align_dataset(dataset, Fiducial(), arguments.output, placement=placement, watcher=Lines())
    print(f"{len(summary.aligned)} aligned, {len(summary.failed)} failed; see {arguments.output}")
    return 2 if summary.failed else 0


if __name__ == "__main__":  # workers on this machine import this file, and must not start it all again
    sys.exit(main())
