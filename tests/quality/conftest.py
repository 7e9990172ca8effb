"""Simulated series shared by the tests of judging."""

from __future__ import annotations

import pytest

from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

SMALL = Simulation(
    image_rows_px=208, image_columns_px=232, pixel_size_angst=14, tilt_step_deg=5, n_beads=12, texture="cytoplasm"
)
"""A series that is quick to judge: 25 images that are not square, a slab 120 nm thick with beads on it."""


@pytest.fixture(scope="session")
def beads() -> SimulatedSeries:
    """A small series with gold beads."""
    return simulate(SMALL)


@pytest.fixture(scope="session")
def no_beads() -> SimulatedSeries:
    """A thinner one without beads."""
    return simulate(SMALL.replace(n_beads=0, name="SIM_bare", thickness_nm=70, texture="particles"))
