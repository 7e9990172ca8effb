"""napari writers: the aligned STAR file of a series, and its beads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_tiltalign.errors import BadInput
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.ui.layer_data import METADATA_KEY

ALIGNMENT_KEY = "tiltalign_alignment"
"""Where layers of an alignment keep it: ``layer.metadata["tiltalign_alignment"]``."""


def write_star(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the STAR file of the series that an Image layer shows, with the alignment in use.

    Raises
    ------
    BadInput
        If the layer shows no tilt series, or one that is not aligned.
    BadTiltSeries
        If the alignment does not fit the series, or includes no image.
    """
    return _write(path, *_aligned(attributes))


def write_beads(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the beads that a Points layer shows: an IMOD model (``.fid``), or everything that is known (``.json``).

    Raises
    ------
    BadInput
        If the layer shows no beads of a tilt series.
    """
    return _write(path, *_aligned(attributes))


def _write(path: str, series: TiltSeries, alignment: Alignment) -> list[str]:
    from napari_tiltalign.io.convert import write_alignment  # heavy, and not needed to start napari

    write_alignment(Path(path), alignment, series)
    return [path]


def _aligned(attributes: dict[str, Any]) -> tuple[TiltSeries, Alignment]:
    metadata = attributes.get("metadata", {})
    series, alignment = metadata.get(METADATA_KEY), metadata.get(ALIGNMENT_KEY)
    if not isinstance(series, TiltSeries):
        raise BadInput(f"the layer {attributes.get('name', '')!r} shows no tilt series")
    if not isinstance(alignment, Alignment):
        raise BadInput(f"{series.name} is not aligned yet; run a method, then save the layer again")
    return series, alignment
