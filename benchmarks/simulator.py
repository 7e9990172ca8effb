"""How long the simulator takes: it is what the tests, the demo and the other benchmarks wait for."""

from __future__ import annotations

from napari_tiltalign.simulation import Simulation, simulate


class Simulator:
    """An easy series with beads; the parameter is the width and height of its images, px."""

    params = (256, 512)
    param_names = ("size_px",)

    def time_simulate(self, size_px: int) -> None:
        simulate(Simulation(image_rows_px=size_px, image_columns_px=size_px))
