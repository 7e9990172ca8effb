"""Small files to read: MRC images, and RELION projects of a few of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_tiltalign.io.relion import read_relion
from napari_tiltalign.model import TiltSeries

Row = Mapping[str, object]

ANGLES_DEG = (0.0, 3.0, -3.0, -6.0, 6.0)
"""Nominal tilts of the projects here, in the order of acquisition (dose-symmetric)."""


def write_mrc(path: Path, pixels: NDArray[np.generic], pixel_size_angst: float = 10.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Data array contains", RuntimeWarning)  # NaN is what some tests are about
        file = mrcfile.new(path, data=pixels, overwrite=True)
    with file:
        if pixels.ndim == 3:
            file.set_image_stack()
        file.voxel_size = pixel_size_angst
    return path


def star_table(name: str, rows: Sequence[Row]) -> str:
    """Text of a STAR file with one table, written here without any code under test."""
    header = "".join(f"_{column} #{k}\n" for k, column in enumerate(rows[0], start=1))
    body = "".join("\t".join(str(cell) for cell in row.values()) + "\n" for row in rows)
    return f"\n# version 50001\n\ndata_{name}\n\nloop_\n{header}{body}\n"


def tilt_rows(
    name: str, angles_deg: Sequence[float] = ANGLES_DEG, drop: str = "", **columns: object
) -> list[dict[str, object]]:
    """Rows of a series as MotionCorr leaves them, images in ``frames``; perhaps without a column, or with more."""
    rows: list[dict[str, object]] = [
        {
            "rlnTomoNominalStageTiltAngle": f"{angle:.6f}",
            "rlnTomoNominalTiltAxisAngle": "85.000000",
            "rlnMicrographPreExposure": f"{3.0 * k:.6f}",
            "rlnMicrographName": f"frames/{name}_{k:03d}.mrc",
            **columns,
        }
        for k, angle in enumerate(angles_deg)
    ]
    return [{column: cell for column, cell in row.items() if column != drop} for row in rows]


@dataclass
class Project:
    """A RELION project in a folder."""

    folder: Path

    @property
    def star(self) -> Path:
        """The global STAR file."""
        return self.folder / "tilt_series.star"

    def add_series(self, name: str, rows: Sequence[Row] | None = None, shape_yx: tuple[int, int] = (6, 8)) -> Path:
        """Write a series' STAR file and those of its images that are missing."""
        rows = tilt_rows(name) if rows is None else rows
        for row in rows:
            image = self.folder / str(row["rlnMicrographName"]).rpartition("@")[2].rpartition(":")[2]
            if not image.exists():
                write_mrc(image, np.ones(shape_yx, np.float32))
        return self.write_series(name, star_table(name, rows))

    def write_series(self, name: str, text: str) -> Path:
        """Write a series' STAR file as it is given."""
        path = self.folder / "tilt_series" / f"{name}.star"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def list_series(self, *names: str, **columns: object) -> Path:
        """Write the global STAR file."""
        rows = [
            {
                "rlnTomoName": name,
                "rlnTomoTiltSeriesStarFile": f"tilt_series/{name}.star",
                "rlnTomoTiltSeriesPixelSize": "10.000000",
                **columns,
            }
            for name in names
        ]
        self.star.write_text(star_table("global", rows))
        return self.star

    def series_with(self, rows: Sequence[Row]) -> TiltSeries:
        """Write a project with one series, ``TS_01``, and read it."""
        self.add_series("TS_01", rows)
        self.list_series("TS_01")
        return self.only_series()

    def only_series(self) -> TiltSeries:
        """Read the only series, which must be a good one."""
        dataset = read_relion(self.star)
        assert not dataset.failed
        (series,) = dataset
        return series

    def failure(self, name: str = "TS_01") -> str:
        """Read the project, and say why a series of it could not be read."""
        dataset = read_relion(self.star)
        assert dataset.failed_columns[name]["rlnTomoName"] == name
        return dataset.failed[name]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty RELION project."""
    return Project(tmp_path)


@pytest.fixture
def one_series(project: Project) -> Project:
    """A RELION project with one series of five images, ``TS_01``."""
    project.add_series("TS_01")
    project.list_series("TS_01")
    return project


@pytest.fixture
def mrc_writer() -> Callable[..., Path]:
    """Function that writes an MRC file."""
    return write_mrc


@pytest.fixture
def make_rows() -> Callable[..., list[dict[str, object]]]:
    """Function that makes rows of a series' table."""
    return tilt_rows


@pytest.fixture
def make_table() -> Callable[[str, Sequence[Row]], str]:
    """Function that makes the text of a STAR file."""
    return star_table
