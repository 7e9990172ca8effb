"""Simulated tilt series whose true alignment is known, for tests, the demo and benchmarks."""

from napari_tiltalign.simulate.options import Simulation
from napari_tiltalign.simulate.scenarios import SCENARIOS
from napari_tiltalign.simulate.series import SimulatedSeries, simulate

__all__ = ["SCENARIOS", "SimulatedSeries", "Simulation", "simulate"]
