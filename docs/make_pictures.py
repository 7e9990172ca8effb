"""Make the pictures of the documentation: the widgets of the plugin at work, as PNG.

Run it where there is a display, or under Xvfb::

    xvfb-run -s "-screen 0 1280x800x24" python docs/make_pictures.py

It shows a simulated dataset, and, where it lies beside the checkout, a real series: TS_01 of EMPIAR-10499, binned to 10
Angstrom (pictures called ``real_...``). To look at the widgets with data of your own, give a STAR file and another
folder for the pictures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.utils.notifications import notification_manager
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_tiltalign.api import align, read
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.methods.base import method as method_named
from napari_tiltalign.methods.fiducial import Fiducial
from napari_tiltalign.model import Dataset
from napari_tiltalign.simulation import Simulation, simulate
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment, ExcludeViews, UseAlignment
from napari_tiltalign.ui.comparison import REPROJECTION, Comparison, How
from napari_tiltalign.ui.height_overlay import HEIGHTS

PLUGIN = "napari-tiltalign"
SIZE_PX = (1280, 800)
HERE = Path(__file__).parent
REAL_STAR = HERE.parents[1] / "shared/data/empiar-10499_TS_01/tilt_series.star"
COLOURS, GREYS, LEAST_CHROMA = 112, 24, 8


@dataclass(frozen=True)
class Scene:
    """One picture.

    Attributes
    ----------
    name
        Name of the file, without prefix and suffix.
    widget
        Display name of the widget that is docked.
    act
        What is done before the picture is taken, with the viewer and the widget.
    of_real
        Whether it is made of real data only.
    """

    name: str
    widget: str
    act: Callable[[napari.Viewer, QWidget], None] = lambda viewer, widget: None
    of_real: bool = False


def see_blocked_view(viewer: napari.Viewer, widget: QWidget) -> None:
    """Go to the view that was excluded."""
    session = layers_of(viewer).session
    session.select_view(session.series.tilt_ids[-1])
    wait_until(lambda: not widget.advice.text().startswith("looking"))


def see_aligned(viewer: napari.Viewer, widget: QWidget) -> None:
    """Show aligned images at a high tilt, with the paths of the beads."""
    session = layers_of(viewer).session
    series = session.series
    session.show_aligned(True)
    session.select_view(min(series.tilts, key=lambda tilt: abs(tilt.nominal_tilt_deg - 30)).tilt_id)


def see_raw(viewer: napari.Viewer, widget: QWidget) -> None:
    """Show raw images at zero tilt."""
    session = layers_of(viewer).session
    session.show_aligned(False)
    session.select_view(min(session.series.tilts, key=lambda tilt: abs(tilt.nominal_tilt_deg)).tilt_id)


def see_beads_over_views(viewer: napari.Viewer, widget: QWidget) -> None:
    """Show the residuals of all beads in all views."""
    see_raw(viewer, widget)
    widget.tabs.setCurrentIndex(1)


def see_tomogram(viewer: napari.Viewer, widget: QWidget) -> None:
    """Make the small tomogram and show it."""
    see_raw(viewer, widget)
    button = next(
        b for b in widget.candidates.findChildren(QWidget) if getattr(b, "text", str)().startswith("Tomogram")
    )
    button.click()
    wait_until(lambda: layers_of(viewer).session.judged.tomogram_of(layers_of(viewer).session.alignment) is not None)
    widget.tabs.setCurrentIndex(2)


def see_check(viewer: napari.Viewer, widget: QWidget) -> None:
    """Show what is odd about the series, and what to do about the first of it."""
    see_raw(viewer, widget)
    wait_until(lambda: not widget.is_busy)
    widget.list.setCurrentItem(widget.list.topLevelItem(0))


def see_scores(viewer: napari.Viewer, widget: QWidget) -> None:
    """Judge three alignments, and show their curves together."""
    for name in ("slab", "patch-tracking", "fiducial"):
        use(viewer, name)
    session = layers_of(viewer).session
    for row in range(widget.candidates.list.topLevelItemCount()):
        widget.candidates.list.topLevelItem(row).setCheckState(0, Qt.CheckState.Checked)
    widget.candidates.judge_button.click()
    every = [candidate.alignment for candidate in session.work.candidates.values()]
    wait_until(lambda: all(session.judged.scores_of(alignment) is not None for alignment in every), 600)


def see_tomograms(viewer: napari.Viewer, widget: QWidget) -> None:
    """Show tomograms of two alignments side by side."""
    for row in range(widget.candidates.list.topLevelItemCount()):
        item = widget.candidates.list.topLevelItem(row)
        item.setCheckState(0, Qt.CheckState.Checked if item.text(0) == "slab" else Qt.CheckState.Unchecked)
    widget.candidates.tomogram_button.click()
    wait_until(lambda: len(widget.tomograms.tomograms) == 2)
    widget.tabs.setCurrentIndex(2)


def see_reprojection(viewer: napari.Viewer, widget: QWidget) -> None:
    """Compare a view, in colours, with what the others predict of it."""
    see_aligned(viewer, widget)
    layers_of(viewer).session.compare(Comparison(REPROJECTION, How.OVERLAY))


def see_slab(viewer: napari.Viewer, widget: QWidget) -> None:
    """Show the tiles of a slab: how far each is from where it is predicted, and how high it lies."""
    see_raw(viewer, widget)
    use(viewer, "slab")
    layers_of(viewer).layer(HEIGHTS).visible = True


def see_patches(viewer: napari.Viewer, widget: QWidget) -> None:
    """Show patches and their residuals."""
    see_raw(viewer, widget)
    use(viewer, "patch-tracking")


SCENES = (
    Scene("dataset", "Dataset", see_raw),
    Scene("check", "Check", see_check),
    Scene("exclude_views", "Exclude views", see_blocked_view),
    Scene("align_by_gold_beads", "Align by gold beads", see_raw),
    Scene("curate_beads", "Curate beads", see_raw),
    Scene("aligned", "Inspect", see_aligned),
    Scene("inspect", "Inspect", see_raw),
    Scene("inspect_beads", "Inspect", see_beads_over_views),
    Scene("tomogram", "Inspect", see_tomogram),
    Scene("reprojection", "Inspect", see_reprojection, of_real=True),
    Scene("slab", "Align without beads", see_slab, of_real=True),
    Scene("patches", "Align by patches", see_patches, of_real=True),
    Scene("judge", "Inspect", see_scores, of_real=True),
    Scene("compare", "Inspect", see_tomograms, of_real=True),
)


def simulated_dataset(folder: Path) -> Dataset:
    """Write a small simulated project of three series and read it again."""
    series = [
        simulate(Simulation(name=f"TS_{number:02d}", seed=number, n_beads=20, image_rows_px=512, image_columns_px=512))
        for number in (1, 2, 3)
    ]
    return read(write_relion_project(folder / "project", [item.series for item in series]))


def prepare(viewer: napari.Viewer, dataset: Dataset) -> None:
    """Open a dataset, align its first series and select a bead, as a user would have done."""
    session = layers_of(viewer).session
    session.open(dataset)
    series = dataset.series[0]
    session.do(AddAlignment("fiducial", align(series, Fiducial())))
    session.do(ExcludeViews((series.tilt_ids[-1],), "too thick at this tilt"))
    alignment = session.alignment
    if alignment is not None and alignment.tracks is not None:
        session.select_bead(int(alignment.tracks.track_ids[0]))
    viewer.reset_view()


def use(viewer: napari.Viewer, method: str) -> None:
    """Use the alignment by a method, which is made if it is not there."""
    session = layers_of(viewer).session
    session.compare(Comparison())
    if (heights := layers_of(viewer).layer(HEIGHTS)) is not None:
        heights.visible = False
    if method in session.work.candidates:
        session.do(UseAlignment(method))
    else:
        session.do(AddAlignment(method, align(session.series, method_named(method).Options())))


def wait_until(condition: Callable[[], bool], seconds: int = 120) -> None:
    """Let Qt work until something is so."""
    for _ in range(10 * seconds):
        if condition():
            return
        QTest.qWait(100)
    raise TimeoutError("what the picture is of does not come about")


def picture(window: Any, path: Path) -> None:
    """Save what a window shows, with few colours, so that the file is small."""
    with_few_colours(window.screenshot(flash=False)[..., :3]).save(path, optimize=True)
    print(path, f"{path.stat().st_size / 1024:.0f} KiB", flush=True)


def with_few_colours(pixels: NDArray[np.uint8]) -> Image.Image:
    """Give every pixel one of a few colours; greys and colours have shares of their own, or noise would take all."""
    chroma = pixels.max(axis=2).astype(int) - pixels.min(axis=2)
    coloured = pixels[chroma > LEAST_CHROMA]
    row = Image.fromarray(np.concatenate([coloured, pixels[0]])[None])
    palette = np.array(row.quantize(COLOURS).getpalette(), np.uint8).reshape(-1, 3)
    greys = np.repeat(np.linspace(0, 255, GREYS).astype(np.uint8)[:, None], 3, axis=1)
    chosen = Image.new("P", (1, 1))
    chosen.putpalette(np.concatenate([palette[:COLOURS], greys]).tobytes())
    return Image.fromarray(pixels).quantize(palette=chosen, dither=Image.Dither.NONE)


@contextmanager
def viewer_with(dataset: Dataset, theme: str) -> Iterator[napari.Viewer]:
    """Show a dataset in a window that asks nothing when it is closed."""
    viewer = napari.Viewer(show=True)
    viewer.theme = theme
    viewer.window.resize(*SIZE_PX)
    prepare(viewer, dataset)
    yield viewer
    layers_of(viewer).session.give_up_changes()
    viewer.close()
    QApplication.processEvents()


def make_pictures(dataset: Dataset, prefix: str, real: bool, folder: Path, only: list[str], theme: str) -> None:
    """Make all pictures of a dataset, or those that are named."""
    with viewer_with(dataset, theme) as viewer:
        for scene in SCENES:
            if (only and scene.name not in only) or (scene.of_real and not real):
                continue
            dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, scene.widget)
            QTest.qWait(500)
            scene.act(viewer, getattr(widget, "native", widget))
            viewer.reset_view()
            QTest.qWait(4000)  # threads bring their results
            notification_manager.records.clear()
            picture(viewer.window, folder / f"{prefix}{scene.name}.png")
            viewer.window.remove_dock_widget(dock)


def main() -> None:
    """Make the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--star", type=Path, help="STAR file to show instead of the documentation's data")
    parser.add_argument("--output", type=Path, default=HERE / "pictures", help="folder for the pictures")
    parser.add_argument("--only", nargs="*", default=[], help="names of the pictures to make")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark", help="napari's theme")
    parser.add_argument("--data", choices=("both", "simulated", "real"), default="both", help="which data to show")
    arguments = parser.parse_args()
    if arguments.star and arguments.output == HERE / "pictures":
        parser.error("pictures of your own data do not belong into the documentation; give another --output")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # nothing of earlier sessions is offered, nothing is left behind
        asked = (arguments.output, arguments.only, arguments.theme)
        if arguments.star:
            make_pictures(read(arguments.star), "", True, *asked)
            return
        if arguments.data != "real":
            make_pictures(simulated_dataset(Path(folder)), "", False, *asked)
        if arguments.data != "simulated" and REAL_STAR.is_file():
            make_pictures(read(REAL_STAR), "real_", True, *asked)


if __name__ == "__main__":
    main()
