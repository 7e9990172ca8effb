"""Make the pictures of the documentation: every widget of the plugin on a tilt series, as PNG.

Run it where there is a display, or under Xvfb::

    xvfb-run -s "-screen 0 1280x800x24" python docs/make_pictures.py

Pictures that are committed are made from simulated data, which is the default. To look at the widgets with data of your
own, give a STAR file and another folder for the pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import napari
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from qtpy.QtWidgets import QApplication, QDockWidget, QWidget

from napari_tiltalign.api import align, read
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.methods.fiducial import Fiducial
from napari_tiltalign.model import Dataset
from napari_tiltalign.simulation import Simulation, simulate
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment, ExcludeViews

PLUGIN = "napari-tiltalign"
SIZE_PX = (1280, 800)
HERE = Path(__file__).parent


def simulated_dataset(folder: Path) -> Dataset:
    """Write a small simulated project of three series and read it again."""
    series = [
        simulate(Simulation(name=f"TS_{number:02d}", seed=number, n_beads=20, image_rows_px=512, image_columns_px=512))
        for number in (1, 2, 3)
    ]
    return read(write_relion_project(folder / "project", [item.series for item in series]))


def prepare(viewer: napari.Viewer, dataset: Dataset) -> None:
    """Open a dataset, align its first series and select a bead, as a user would have done."""
    layers = layers_of(viewer)
    session = layers.session
    session.open(dataset)
    series = dataset.series[0]
    session.do(AddAlignment("fiducial", align(series, Fiducial())))
    session.do(ExcludeViews((series.tilt_ids[-1],), "blocked by the grid bar"))
    alignment = session.alignment
    if alignment is not None and alignment.tracks is not None:
        session.select_bead(int(alignment.tracks.track_ids[0]))
    viewer.reset_view()


def settle(milliseconds: int = 5000) -> None:
    """Let Qt draw, and threads bring their results."""
    from qtpy.QtTest import QTest

    QTest.qWait(milliseconds)


def picture(window: Any, path: Path) -> None:
    """Save what a window shows, with few colours, so that the file is small."""
    from PIL import Image

    pixels = window.screenshot(flash=False)[..., :3]
    Image.fromarray(pixels).quantize(128).save(path, optimize=True)
    print(path, f"{path.stat().st_size / 1024:.0f} KiB")


def show_widget(viewer: napari.Viewer, name: str) -> tuple[QDockWidget, QWidget]:
    """Dock a widget of the plugin as the menu does."""
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    return dock, widget


def widget_names() -> list[str]:
    """Names of all widgets of the plugin, from its manifest."""
    manifest = PluginManifest.from_distribution(PLUGIN)
    return [widget.display_name for widget in manifest.contributions.widgets or ()]


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--star", type=Path, help="STAR file to show instead of simulated data")
    parser.add_argument("--output", type=Path, default=HERE / "pictures", help="folder for the pictures")
    arguments = parser.parse_args()
    if arguments.star and arguments.output == HERE / "pictures":
        parser.error("pictures of your own data do not belong into the documentation; give another --output")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        dataset = read(arguments.star) if arguments.star else simulated_dataset(Path(folder))
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*SIZE_PX)
        prepare(viewer, dataset)
        for name in widget_names():
            dock, _ = show_widget(viewer, name)
            settle()
            notification_manager.records.clear()
            picture(viewer.window, arguments.output / f"{name.lower().replace(' ', '_')}.png")
            viewer.window.remove_dock_widget(dock)
        layers_of(viewer).session.give_up_changes()
        viewer.close()
        QApplication.processEvents()


if __name__ == "__main__":
    main()
