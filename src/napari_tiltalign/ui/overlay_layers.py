"""The layers over the images - beads, gaps, residuals and so on - kept in step with the alignment in use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import ref

from napari.components import ViewerModel
from napari.layers import Layer, Vectors

from napari_tiltalign.ui import overlays
from napari_tiltalign.ui.frame import Frame
from napari_tiltalign.ui.layer_data import METADATA_KEY
from napari_tiltalign.ui.layer_update import fits, looks, update_layer
from napari_tiltalign.ui.own_layers import ROLE_KEY, insert_quietly, layer_of_role, remove_own
from napari_tiltalign.ui.session import Session


class OverlayLayers:
    """Makes the layers over the images and brings them up to date; hidden ones when they are looked at.

    Parameters
    ----------
    viewer
        Held weakly.
    session
        What to show.
    """

    def __init__(self, viewer: ViewerModel, session: Session) -> None:
        self._viewer = ref(viewer)
        self._session = session
        self._frame: Frame | None = None
        self._stale: set[str] = set()
        self._length: dict[str, float] = {}
        self._refreshing = False

    def show(self, roles: Iterable[str], frame: Frame) -> None:
        """Show these layers of the alignment in use and no others."""
        viewer = self._viewer()
        if viewer is not None:
            others = set(overlays.ALL).difference(roles)
            remove_own(viewer, lambda layer: layer.metadata[ROLE_KEY] in others)
            self.refresh(roles, frame)

    def refresh(self, roles: Iterable[str], frame: Frame) -> None:
        """Bring layers up to date or make them; hidden ones later, when they are looked at."""
        viewer = self._viewer()
        if viewer is None:
            return
        self._frame = frame
        with self.refreshing():
            for role in roles:
                layer = layer_of_role(viewer, role)
                if layer is None or layer.visible:
                    self._refresh(viewer, role, layer)
                else:
                    self._stale.add(role)

    def _refresh(self, viewer: ViewerModel, role: str, layer: Layer | None) -> None:
        series, alignment, frame = self._session.series, self._session.alignment, self._frame
        if series is None or alignment is None or frame is None:
            return
        self._stale.discard(role)
        data, attributes, kind = overlays.overlay(role, series, alignment, frame, self._session.bead)
        attributes["metadata"] = {ROLE_KEY: role, METADATA_KEY: series}
        if layer is None:
            self._insert(viewer, Layer.create(data, attributes, kind), _place_for(role, viewer))
        elif fits(layer, data):
            update_layer(layer, data, attributes)
            self._set_length(role, layer, attributes)
        else:
            at = viewer.layers.index(layer)
            self._insert(viewer, Layer.create(data, attributes | looks(layer), kind), at, instead_of=layer)
        self._length[role] = attributes.get("length", 1.0)

    def _set_length(self, role: str, layer: Layer, attributes: dict[str, Any]) -> None:
        """Draw vectors as long as is right for this alignment, unless the user has chosen a length."""
        if isinstance(layer, Vectors) and layer.length == self._length.get(role) != attributes["length"]:
            layer.length = attributes["length"]

    def _insert(self, viewer: ViewerModel, layer: Layer, at: int, instead_of: Layer | None = None) -> None:
        insert_quietly(viewer, layer, at, instead_of)
        layer.events.visible.connect(self._on_visible)

    def _on_visible(self, event: Any) -> None:
        """Catch up on what a layer has missed while it was hidden."""
        role, viewer = event.source.metadata[ROLE_KEY], self._viewer()
        if event.source.visible and role in self._stale and viewer is not None:
            with self.refreshing():
                self._refresh(viewer, role, event.source)

    @contextlib.contextmanager
    def refreshing(self) -> Iterator[None]:
        """While this lasts, changes of layers come from the session and not from the user."""
        before, self._refreshing = self._refreshing, True
        try:
            yield
        finally:
            self._refreshing = before

    @property
    def is_refreshing(self) -> bool:
        """Whether layers are being changed from the session now."""
        return self._refreshing


def _place_for(role: str, viewer: ViewerModel) -> int:
    """Where a new layer comes in the list: below those that are drawn over it, on top if there are none."""
    higher = overlays.ALL[overlays.ALL.index(role) + 1 :]
    taken = [index for index, layer in enumerate(viewer.layers) if layer.metadata.get(ROLE_KEY) in higher]
    return min(taken, default=len(viewer.layers))
