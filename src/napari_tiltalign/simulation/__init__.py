"""Simulated tilt series whose true alignment is known, for tests, the demo and benchmarks."""

from napari_tiltalign.simulation.options import Simulation
from napari_tiltalign.simulation.scenarios import SCENARIOS
from napari_tiltalign.simulation.series import SimulatedSeries, simulate

__all__ = ["SCENARIOS", "SimulatedSeries", "Simulation", "simulate"]
