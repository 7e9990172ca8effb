"""Align all the series of a dataset, so that one bad series never stops the others.

A series is on the disk as soon as it is done, and the tables of the dataset are written last. Whatever happens, the
same command goes on where it was.

- `run`: `align_dataset`, the door to all of it
- `plan`: what there is to do, and what it takes
- `job`: one series, in whatever process
- `engine`, `clusters`: where the jobs are done: in this process, in local ones, on a cluster (Dask)
- `live`, `arrivals`: series that are still being collected
- `outcome`, `record`: what came of it
"""

from napari_tiltalign.batch.arrivals import Place
from napari_tiltalign.batch.live import Patience, watch
from napari_tiltalign.batch.outcome import SeriesOutcome, Summary, Watcher
from napari_tiltalign.batch.placement import Placement, Slurm
from napari_tiltalign.batch.plan import Existing, Plan
from napari_tiltalign.batch.run import align_dataset, plan_dataset

__all__ = [
    "Existing",
    "Patience",
    "Place",
    "Placement",
    "Plan",
    "SeriesOutcome",
    "Slurm",
    "Summary",
    "Watcher",
    "align_dataset",
    "plan_dataset",
    "watch",
]
