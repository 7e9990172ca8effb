"""napari readers: STAR files of RELION 5, stacks with their angles beside them, and etomo's ``.edf``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from napari.utils.notifications import show_info

from napari_tiltalign.errors import BadInput
from napari_tiltalign.model import Dataset
from napari_tiltalign.ui.layer_data import LayerData, series_layer

SUFFIXES = frozenset({".star", ".mrc", ".mrcs", ".st", ".edf"})

MOST_LAYERS = 10
"""So many series become layers at once."""

Paths = str | Sequence[str]


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Return the reader for a path, or None if this plugin cannot read it.

    Parameters
    ----------
    path
        One file. Several files opened as one stack are left to other readers.
    """
    if not isinstance(path, str):
        return None
    return read_layers if Path(path).suffix.lower() in SUFFIXES else None


def read_layers(path: Paths) -> list[LayerData]:
    """Read a file and return one Image layer for every tilt series; only the first is shown.

    Raises
    ------
    BadInput
        If the file holds no tilt series that can be read; the message says what to do.
    """
    if not isinstance(path, str):
        raise BadInput(f"open one file at a time, not {len(path)} as a stack")
    from napari_tiltalign.io import read  # heavy, and not needed to start napari

    return dataset_layers(read(Path(path)))


def dataset_layers(dataset: Dataset) -> list[LayerData]:
    """One Image layer for every tilt series of a dataset; only the first is shown.

    Of more than `MOST_LAYERS` only the first has one, or napari would stand still for long; the widgets, which know the
    dataset from it, show the others.

    Raises
    ------
    BadInput
        If there is no series.
    """
    if not len(dataset):
        why = "; ".join(f"{name}: {problem}" for name, problem in dataset.failed.items())
        raise BadInput(f"{dataset.source} holds no tilt series that can be read. {why}".strip())
    shown = dataset.series if len(dataset) <= MOST_LAYERS else dataset.series[:1]
    if len(shown) < len(dataset):
        others = f"the other {len(dataset) - 1} series are in Plugins > Tilt-series alignment > Dataset"
        show_info(f"{shown[0].name} is shown; {others}")
    return [series_layer(series, dataset, visible=number == 0) for number, series in enumerate(shown)]
