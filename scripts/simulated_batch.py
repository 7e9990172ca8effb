"""Small simulated projects for the scripts that test runs over many series."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from napari_tiltalign.io.project import GLOBAL_STAR, write_relion_project
from napari_tiltalign.model import ArrayImage, TiltSeries
from napari_tiltalign.simulation import SCENARIOS, simulate

SMALL = {
    "image_rows_px": 128,
    "image_columns_px": 128,
    "tilt_step_deg": 10.0,
    "n_beads": 8,
    "texture": "none",
}
METHOD = ("fiducial", "--fiducial-diameter-nm", "10")


def small_project(folder: Path, n_series: int, n_broken: int = 0) -> Path:
    """Write a project of small series, the last of which hold nothing; return the file that lists them."""
    if (folder / GLOBAL_STAR).exists():
        return folder / GLOBAL_STAR
    series = []
    for number in range(n_series):
        options = SCENARIOS["easy"].replace(**SMALL, seed=1000 + number, name=f"TS_{number + 1:03d}")
        series.append(simulate(options).series)
    for number in range(n_series - n_broken, n_series):
        series[number] = without_beads(series[number])
    return write_relion_project(folder, series)


def without_beads(series: TiltSeries) -> TiltSeries:
    """Return a series of noise."""
    noise = np.random.default_rng(1)
    images = [ArrayImage(noise.normal(size=series.image_shape_yx).astype(np.float32)) for _ in series.tilts]
    tilts = (dataclasses.replace(tilt, image=image) for tilt, image in zip(series.tilts, images, strict=True))
    return series.replace(tilts=tuple(tilts))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an output folder but those that tell of the run itself."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    relative = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in sorted(relative.items()) if not name.startswith("cluster/")}
