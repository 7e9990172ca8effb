"""Simulated series shared by the tests of methods, and quiet linear algebra."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from napari_tiltalign.images.compute import single_threaded_algebra
from napari_tiltalign.methods.fiducial import FIDUCIAL, Fiducial
from napari_tiltalign.model import Alignment
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

SMALL = Simulation(
    image_rows_px=208, image_columns_px=232, pixel_size_angst=14, tilt_step_deg=6, n_beads=12, texture="particles"
)
"""A series that is easy and quick: 21 images that are not square, beads 7 px wide on two faces 120 nm apart."""


@pytest.fixture(autouse=True, scope="session")
def _calm_algebra() -> Iterator[None]:
    """Keep algebra on one thread, as the methods do: its own threads only cost time with matrices this small."""
    with single_threaded_algebra():
        yield


@pytest.fixture(scope="session")
def small() -> Simulation:
    """Options of the small series, to make variants of."""
    return SMALL


@pytest.fixture(scope="session")
def simulated() -> SimulatedSeries:
    """The small series."""
    return simulate(SMALL)


@pytest.fixture(scope="session")
def aligned(simulated: SimulatedSeries) -> Alignment:
    """The small series aligned by its beads."""
    return FIDUCIAL(simulated.series, Fiducial())
