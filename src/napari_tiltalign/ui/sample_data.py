"""Sample data for napari's File menu: simulated tilt series with known truth, and one of the user's own."""

from __future__ import annotations

from pathlib import Path

from napari_tiltalign.errors import BadInput
from napari_tiltalign.ui.layer_data import LayerData, series_layer
from napari_tiltalign.ui.preferences import preferences
from napari_tiltalign.ui.readers import read_layers

SIDE_PX = 384
"""Side of the images: small, because napari waits while they are made."""

TRUTH_KEY = "tiltalign_truth"
"""Where the layer's metadata keep the true `Alignment`."""


def with_beads() -> list[LayerData]:
    """A tilt series of a cell with 20 gold beads of 10 nm in the untilted field, more at its sides."""
    return _simulated("simulated_with_beads", n_beads=20)


def without_beads() -> list[LayerData]:
    """The same cell without beads, for the methods that need none."""
    return _simulated("simulated_without_beads", n_beads=0)


def of_your_own() -> list[LayerData]:
    """The series in the file that the preferences name, so that it can be shown and taught with.

    Raises
    ------
    BadInput
        If they name none, or the file cannot be read.
    """
    path = preferences().sample_path.strip()
    if not path:
        raise BadInput("name a STAR file or a stack in File > Preferences > Tilt-series alignment > Sample of your own")
    return read_layers(str(Path(path).expanduser()))


def _simulated(name: str, n_beads: int) -> list[LayerData]:
    from napari_tiltalign.simulation import Simulation, simulate  # heavy, and not needed to start napari

    simulated = simulate(Simulation(name=name, n_beads=n_beads, image_rows_px=SIDE_PX, image_columns_px=SIDE_PX))
    stack, attributes, kind = series_layer(simulated.series)
    attributes["metadata"][TRUTH_KEY] = simulated.truth
    return [(stack, attributes, kind)]
