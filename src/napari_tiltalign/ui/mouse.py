"""Keys of layers, and editing with the mouse: what is done to the points of beads and gaps becomes commands.

The layers are only a picture of the session. Whatever the mouse has done to them, they are drawn again from the session
afterwards, so a refused edit leaves no trace and undo works as for every other step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Layer, Points
from napari.layers.base import ActionType

from napari_tiltalign.ui import actions, overlays
from napari_tiltalign.ui.bead_table import follows_areas, gaps
from napari_tiltalign.ui.centring import bead_at, centred
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.keys import bind_keys
from napari_tiltalign.ui.layer_data import METADATA_KEY
from napari_tiltalign.ui.layers import Layers
from napari_tiltalign.ui.own_layers import ROLE_KEY


class Mouse:
    """Listens to the layers of beads and gaps of one viewer, and gives all layers of the session its keys.

    Parameters
    ----------
    layers
        Layers of the viewer. The mouse must be kept alive as long as they are used.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._session = layers.session
        self._going: list[tuple[int, str]] = []
        self._used = self._session.work.current
        layers.viewer.layers.events.inserted.connect(self._on_inserted)
        self._session.alignment_changed.connect(self._put_down)
        for layer in layers.viewer.layers:
            self._attach(layer)

    def _on_inserted(self, event: Any) -> None:
        self._attach(event.value)

    def _attach(self, layer: Layer) -> None:
        role = layer.metadata.get(ROLE_KEY)
        if role is not None or METADATA_KEY in layer.metadata:
            bind_keys(layer, self._session, self._layers)  # napari's own keys of this kind of layer would come first
        if role not in (overlays.BEADS, overlays.GAPS):
            return
        layer.events.data.connect(self._on_beads if role == overlays.BEADS else self._on_gaps)
        chosen = layer.selected_data.events.items_changed
        chosen.connect(self._on_beads_chosen if role == overlays.BEADS else self._on_gaps_chosen)

    def _put_down(self) -> None:
        """Let the mouse move the camera when another alignment is in use: nobody wants to add beads to that."""
        current, before = self._session.work.current, self._used
        self._used = current
        for role in (overlays.BEADS, overlays.GAPS) if current != before else ():
            layer = self._layers.layer(role)
            if layer is not None and layer.mode != "pan_zoom":
                layer.mode = "pan_zoom"

    # --- selection

    def _on_beads_chosen(self) -> None:
        self._choose(self._layers.layer(overlays.BEADS))

    def _on_gaps_chosen(self) -> None:
        self._choose(self._layers.layer(overlays.GAPS))

    def _choose(self, layer: Layer | None) -> None:
        if self._layers.is_refreshing or not isinstance(layer, Points):
            return
        if len(layer.selected_data) == 1:
            row = next(iter(layer.selected_data))
            if row < len(layer.features):
                self._session.select_bead(int(layer.features["track_id"].iloc[row]))

    # --- edits

    def _on_gaps(self, event: Any) -> None:
        """Gaps are predictions: dragging one places its bead there, anything else is undone."""
        if event.action == ActionType.CHANGED:
            self._edit(lambda: self._move(event))
        elif event.action in (ActionType.ADDED, ActionType.REMOVED):
            self._edit(lambda: None)

    def _on_beads(self, event: Any) -> None:
        if event.action == ActionType.REMOVING:
            self._going = [self._place_of(event.source, row) for row in event.data_indices]
        elif event.action == ActionType.CHANGED:
            self._edit(lambda: self._move(event))
        elif event.action == ActionType.ADDED:
            self._edit(lambda: self._add(event))
        elif event.action == ActionType.REMOVED:
            self._edit(self._remove)

    def _edit(self, act: Callable[[], None]) -> None:
        """Do something, unless the session itself has changed the layers, and draw what came of it."""
        if self._layers.is_refreshing:
            return
        try:
            act()
        except EditRefused as refused:
            self._session.told.emit(str(refused))
        finally:
            self._layers.restore_beads()

    def _place_of(self, layer: Points, row: int) -> tuple[int, str]:
        features = layer.features.iloc[row]
        return int(features["track_id"]), str(features["tilt_id"])

    def _move(self, event: Any) -> None:
        """Put points where they were dragged to; a single one onto the gold nearby."""
        moved = [
            (*self._place_of(event.source, row), self._raw(event.source.data[row])[1]) for row in event.data_indices
        ]
        for bead, tilt_id, position in moved:
            target = self._centred(tilt_id, position, bead) if len(moved) == 1 else position
            actions.place_bead(self._session, bead, tilt_id, _pair(target))
        if len(moved) == 1:
            self._session.select_bead(moved[0][0])

    def _add(self, event: Any) -> None:
        """Put the selected bead where it has a gap, or start a new bead."""
        if len(event.data_indices) != 1:
            raise EditRefused("beads cannot be pasted; add them one by one")
        tilt_id, position = self._raw(event.source.data[event.data_indices[0]])
        alignment, bead = actions.aligned_tracks(self._session), self._session.bead
        if (there := bead_at(alignment, tilt_id, position)) is not None:
            raise EditRefused(f"bead {there} is here already")
        target, missing = self._centred(tilt_id, position), gaps(alignment)
        if bead is not None and ((missing["track_id"] == bead) & (missing["tilt_id"] == tilt_id)).any():
            actions.place_bead(self._session, bead, tilt_id, _pair(target))
        else:
            actions.add_bead(self._session, tilt_id, _pair(target))

    def _remove(self) -> None:
        for bead, tilt_id in self._going:
            actions.edit(self._session, "remove", track_id=bead, tilt_id=tilt_id)

    def _raw(self, point: Any) -> tuple[str, Any]:
        """Image and raw position of a point of a layer."""
        series, frame = self._session.series, self._layers.frame
        if series is None or frame is None:
            raise EditRefused("open a tilt series first")
        view = int(np.clip(round(float(point[0])), 0, len(series) - 1))
        return series.tilt_ids[frame.order[view]], frame.raw_position(view, np.asarray(point[1:], dtype=np.float64))

    def _centred(self, tilt_id: str, position: Any, bead: int | None = None) -> Any:
        centre = centred(self._layers, tilt_id, position, bead)
        alignment = self._session.alignment
        if centre is None:
            if alignment is not None and not follows_areas(alignment):
                self._session.told.emit("no free gold was found here: the bead is where you put it")
            return position
        return centre


def _pair(position: Any) -> tuple[float, float]:
    return float(position[0]), float(position[1])
