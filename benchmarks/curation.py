"""Curation: how long a user waits for the layers after an edit, and for the next aligned view.

``python -m benchmarks.curation`` measures a drawn step five times, where there is a display or under Xvfb.
"""

from __future__ import annotations

import os
import sys
import time

import napari
import numpy as np
from napari.components import ViewerModel
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import Alignment, ArrayImage, Dataset, Tilt, TiltSeries, Tracks
from napari_tiltalign.ui import actions
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment
from napari_tiltalign.ui.layers import ALIGNED, Layers
from napari_tiltalign.ui.session import Session

N_VIEWS, N_BEADS, SIDE_PX, PIXEL_ANGST = 61, 50, 1024, 5.0


def curated_series() -> tuple[TiltSeries, Alignment]:
    """Build a series of equal images, and a solved alignment with every bead in every view."""
    rng = np.random.default_rng(0)
    tilt_deg = np.linspace(-60.0, 60.0, N_VIEWS)
    geometry = ViewGeometry.nominal(tilt_deg, 5.0).replace(shift_yx_angst=rng.normal(0.0, 30.0, (N_VIEWS, 2)))
    points = rng.uniform(-0.3, 0.3, (N_BEADS, 3)) * np.array([0.3, 1.0, 1.0]) * SIDE_PX * PIXEL_ANGST
    seen = geometry.project(points) / PIXEL_ANGST + SIDE_PX // 2 + rng.normal(0.0, 0.3, (N_VIEWS, N_BEADS, 2))
    tilt, track = (index.ravel() for index in np.indices((N_VIEWS, N_BEADS)))
    tilt_ids = tuple(f"view_{number:02d}" for number in range(N_VIEWS))
    tracks = Tracks.from_observations(tilt_ids, points, track, tilt, seen.reshape(-1, 2))
    pixels: NDArray[np.float32] = rng.normal(100.0, 10.0, (SIDE_PX, SIDE_PX)).astype(np.float32)
    tilts = tuple(
        Tilt(tilt_id, ArrayImage(pixels), nominal_tilt_deg=float(angle), nominal_axis_deg=5.0)
        for tilt_id, angle in zip(tilt_ids, tilt_deg, strict=True)
    )
    series = TiltSeries("TS", tilts, PIXEL_ANGST, (SIDE_PX, SIDE_PX))
    start = Alignment("TS", tilt_ids, geometry, PIXEL_ANGST, (SIDE_PX, SIDE_PX), np.ones(N_VIEWS, bool), tracks=tracks)
    return series, resolve(start, tracks)


class Curation:
    """61 views of 1024 px with 50 beads, in the viewer's model; drawing on the screen is not in it."""

    def setup(self) -> None:
        series, alignment = curated_series()
        self.viewer = ViewerModel()
        session = Session()  # solves right here
        self.layers = Layers(self.viewer, session)
        session.open(Dataset((series,)))
        session.do(AddAlignment("bench", alignment))
        self.layers.wait_for_images(60.0)
        session.select_bead(3)
        session.select_view("view_30")
        tracks = alignment.tracks
        if tracks is None:
            raise RuntimeError("the solver must give tracks")
        row = np.flatnonzero((tracks.track == 3) & (tracks.tilt == 30))[0]
        self.place = tracks.position_yx_px[row]
        self.step = 0

    def time_edit_to_layers(self) -> None:
        """Move a bead: both passes over the layers, with the solver in between."""
        self.step += 1
        y, x = (self.place + 0.1 * (self.step % 7)).tolist()
        actions.place_bead(self.layers.session, 3, "view_30", (y, x))

    def time_select_bead(self) -> None:
        self.step += 1
        self.layers.session.select_bead(self.step % N_BEADS)

    def setup_aligned(self) -> None:
        """Look at aligned views, and let all of them be made, as happens while one is looked at."""
        if not self.layers.session.shows_aligned:
            self.layers.session.show_aligned(True)
            stack = self.layers.layer(ALIGNED).data
            for view in range(N_VIEWS):
                stack.image(view)

    def time_aligned_step(self) -> None:
        """Look at the next aligned view, which was made while the one before was looked at."""
        self.setup_aligned()
        self.step += 1
        self.viewer.dims.set_current_step(0, self.step % N_VIEWS)

    def time_aligned_step_unforeseen(self) -> None:
        """Jump to an aligned view that was never made before."""
        self.layers.session.show_aligned(True)
        self.step += N_VIEWS // 2
        self.layers.layer(ALIGNED).data.clear()
        self.viewer.dims.set_current_step(0, self.step % N_VIEWS)


class DrawnCuration:
    """The same series in a window of 1280 x 800 with napari's own panels, drawn on the screen."""

    unit = "ms of the processor"

    def setup(self) -> None:
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise NotImplementedError("there is no display; run it under xvfb-run")
        series, alignment = curated_series()
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1280, 800)
        self.layers = layers_of(self.viewer)
        session = self.layers.session
        session.open(Dataset((series,)))
        session.do(AddAlignment("bench", alignment))
        self.layers.wait_for_images(60.0)
        session.show_aligned(True)
        stack = self.layers.layer(ALIGNED).data
        for view in range(N_VIEWS):
            stack.image(view)
        self.step = 0
        for _ in range(10):
            self._step()

    def teardown(self) -> None:
        self.layers.session.give_up_changes()
        self.viewer.close()
        QApplication.processEvents()

    def _step(self) -> None:
        self.step += 1
        self.viewer.dims.set_current_step(0, self.step % N_VIEWS)
        QApplication.processEvents()

    def track_aligned_step_cpu_ms(self) -> float:
        """Time of the processor for the next aligned view, which was made before; median of all views."""
        taken_s = []
        for _ in range(N_VIEWS):
            begun = time.process_time()
            self._step()
            taken_s.append(time.process_time() - begun)
        return 1000.0 * float(np.median(taken_s))


def main() -> None:
    """Print the time of a drawn step, five times."""
    drawn = DrawnCuration()
    drawn.setup()
    print("drawn step, CPU ms:", *(f"{drawn.track_aligned_step_cpu_ms():.1f}" for _ in range(5)))
    drawn.teardown()


if __name__ == "__main__":
    main()
