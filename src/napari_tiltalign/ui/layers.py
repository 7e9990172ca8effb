"""The layers of one viewer, kept in step with the session."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import ref

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.ui import overlays
from napari_tiltalign.ui.aligned_stack import AlignedStack
from napari_tiltalign.ui.bead_table import place_of
from napari_tiltalign.ui.contrast import FollowingContrast
from napari_tiltalign.ui.frame import Frame
from napari_tiltalign.ui.layer_data import DATASET_KEY, METADATA_KEY, display_binning, series_layer
from napari_tiltalign.ui.layer_update import fits, looks, update_layer
from napari_tiltalign.ui.lazy_stack import LazyStack
from napari_tiltalign.ui.preload import Preload
from napari_tiltalign.ui.session import Session
from napari_tiltalign.ui.view_text import view_text

ALIGNED = "aligned"
ROLE_KEY = "tiltalign_role"
"""Marks layers that belong to the session; their metadata say which they are."""

_STACKS_KEPT = 3
_REACH = 5
"""So many aligned views to either side of the one that is looked at are made ahead."""

_PAUSE_S = 0.4
"""After an edit they wait for this long, so that they do not slow down the next one."""


class Layers:
    """Shows what the session holds, and tells the session which view is looked at.

    Parameters
    ----------
    viewer
        Held weakly: the layers live as long as their viewer, not the other way round.
    session
        What to show.
    """

    def __init__(self, viewer: ViewerModel, session: Session) -> None:
        self._viewer = ref(viewer)
        self.session = session
        self._stacks: dict[str, LazyStack] = {}
        self._preload, self._ahead = Preload(), Preload()
        self._contrast = FollowingContrast()
        self._refreshing = False
        self.frame: Frame | None = None
        self._shown: tuple[TiltSeries, ViewGeometry, bool] | None = None
        self._stale: set[str] = set()
        session.series_changed.connect(self._show_series)
        session.alignment_changed.connect(self._show_alignment)
        session.display_changed.connect(self._show_alignment)
        session.bead_changed.connect(self._show_selected_bead)
        session.view_changed.connect(self._show_view)
        session.exclusions_changed.connect(self._show_text)
        session.dataset_changed.connect(self._forget_stacks)
        viewer.dims.events.current_step.connect(self._on_step)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay, position="first")
        viewer.layers.events.inserted.connect(self._on_inserted)
        self._adopt_open_layers()

    @property
    def viewer(self) -> ViewerModel:
        """The viewer.

        Raises
        ------
        RuntimeError
            If it is gone.
        """
        viewer = self._viewer()
        if viewer is None:
            raise RuntimeError("the viewer is closed")
        return viewer

    def layer(self, role: str) -> Layer | None:
        """The layer that plays a role: `ALIGNED` or a name of `overlays`; None if it is not there."""
        return next((layer for layer in self.viewer.layers if layer.metadata.get(ROLE_KEY) == role), None)

    @property
    def beads(self) -> Points | None:
        """The layer of beads."""
        return self.layer(overlays.BEADS)

    def raw_layer(self) -> Image | None:
        """The layer of the raw images that are shown now."""
        series = self.session.series
        return self._layer_of(series.name) if series else None

    def raw_stack(self) -> LazyStack:
        """Raw images of the series that is shown, sorted by tilt, binned as they are displayed."""
        layer = self.raw_layer()
        if layer is None:
            raise RuntimeError("no series is shown")
        stack: LazyStack = layer.data
        return stack

    def wait_for_images(self, timeout_s: float) -> bool:
        """Wait until the images of this series are read; False if that takes too long."""
        return self._preload.wait(timeout_s)

    def wait_for_neighbours(self, timeout_s: float) -> bool:
        """Wait until the aligned views near the one that is shown are made; False if that takes too long."""
        return self._ahead.wait(timeout_s)

    # --- series

    def _on_inserted(self, event: Any) -> None:
        if self.session.dataset is None:
            self._adopt(event.value)

    def _adopt_open_layers(self) -> None:
        for layer in list(self.viewer.layers):
            if self.session.dataset is None:
                self._adopt(layer)

    def _adopt(self, layer: Layer) -> None:
        """Open the dataset of a layer that a reader has made."""
        dataset = layer.metadata.get(DATASET_KEY)
        if dataset is not None:
            self.session.open(dataset, layer.metadata[METADATA_KEY].name)

    def _layer_of(self, series_name: str) -> Image | None:
        """The raw layer of a series of the open dataset, shown or not."""
        dataset = self.session.dataset
        return next(
            (
                layer
                for layer in self.viewer.layers
                if layer.metadata.get(DATASET_KEY) is dataset
                and dataset is not None
                and layer.metadata[METADATA_KEY].name == series_name
            ),
            None,
        )

    def _forget_stacks(self) -> None:
        self._stacks.clear()
        self._remove_own(lambda layer: True)

    def _show_series(self) -> None:
        series = self.session.series
        self._preload.stop()
        self._ahead.stop()
        self._remove_own(lambda layer: series is None or layer.metadata[METADATA_KEY].name != series.name)
        self._hide_other_series(series)
        if series is None:
            return
        layer = self._layer_of(series.name) or self._add_raw(series)
        layer.visible = True
        self._keep_stack(series.name, layer.data)
        self._preload.start(layer.data)

    def _hide_other_series(self, series: TiltSeries | None) -> None:
        for layer in self.viewer.layers:
            other, owner = layer.metadata.get(METADATA_KEY), layer.metadata.get(DATASET_KEY, self.session.dataset)
            if other is not None and (series is None or other.name != series.name or owner is not self.session.dataset):
                layer.visible = False

    def _add_raw(self, series: TiltSeries) -> Image:
        data, attributes, _ = series_layer(series, self.session.dataset)
        attributes["metadata"][ROLE_KEY] = "raw"
        layer = Image(self._stacks.get(series.name, data), **attributes)
        self.viewer.layers.insert(0, layer)
        return layer

    def _keep_stack(self, name: str, stack: LazyStack) -> None:
        """Remember the images of the last few series, so that going back is quick."""
        self._stacks.pop(name, None)
        self._stacks[name] = stack
        while len(self._stacks) > _STACKS_KEPT:
            del self._stacks[next(iter(self._stacks))]

    def _remove_own(self, which: Callable[[Layer], bool]) -> None:
        for layer in list(self.viewer.layers):
            if ROLE_KEY in layer.metadata and which(layer):
                self.viewer.layers.remove(layer)

    # --- alignment

    def _show_alignment(self) -> None:
        """Show the alignment in use.

        Between an edit and its solution the geometry is as it was, so only the beads are touched then.
        """
        series, candidate = self.session.series, self.session.candidate
        if series is None or candidate is None:
            self.frame, self._shown = Frame.raw(series) if series else None, None
            self._remove_own(lambda layer: layer.metadata[ROLE_KEY] != "raw")
            self._show_images()
            return
        alignment, before = candidate.alignment, self._shown
        self._shown = (series, alignment.geometry, self.session.shows_aligned)
        with self.refreshing():
            if _is_same(before, self._shown) and not candidate.solved:
                self._refresh_overlays((overlays.GAPS, overlays.BEADS))
                return
            self.frame = Frame.aligned(series, alignment) if self.session.shows_aligned else Frame.raw(series)
            self._show_aligned_stack(series, alignment)
            roles = overlays.roles_of(candidate)
            self._remove_own(lambda layer: layer.metadata[ROLE_KEY] in set(overlays.ALL).difference(roles))
            self._refresh_overlays(roles)
            self._show_images()
        self._show_text()

    def _show_images(self) -> None:
        """Show either the raw or the aligned images; raw ones that the user has deleted come back."""
        series, raw, aligned = self.session.series, self.raw_layer(), self.layer(ALIGNED)
        if series is not None and raw is None:
            raw = self._add_raw(series)
        flat = self.viewer.dims.ndisplay == 2
        for layer, shown in ((aligned, self.session.shows_aligned), (raw, not self.session.shows_aligned)):
            wanted = shown and flat
            if layer is not None and layer.visible != wanted:
                layer.visible = wanted
        self._follow_contrast()
        self._make_neighbours(after_s=_PAUSE_S)

    def _follow_contrast(self) -> None:
        shown = self.layer(ALIGNED) if self.session.shows_aligned else self.raw_layer()
        self._contrast.follow(shown, self.current_rank())

    def _make_neighbours(self, after_s: float = 0.0) -> None:
        """Make the aligned views that will be looked at next."""
        layer = self.layer(ALIGNED)
        if layer is not None and self.session.shows_aligned:
            self._ahead.start_around(layer.data, self.current_rank(), _REACH, after_s)
        else:
            self._ahead.stop()

    def _show_aligned_stack(self, series: TiltSeries, alignment: Alignment) -> None:
        layer, raw = self.layer(ALIGNED), self.raw_layer()
        if layer is not None:
            if layer.data.geometry is not alignment.geometry:
                layer.data.align(alignment.geometry)
                if layer.visible:
                    layer.refresh()
        elif raw is not None:
            stack = AlignedStack(series, raw.data, display_binning(series), alignment.geometry)
            layer = Image(
                stack,
                name=ALIGNED,
                colormap="gray",
                contrast_limits=raw.contrast_limits,
                visible=False,
                scale=raw.scale,
                translate=raw.translate,
                units=raw.units,
                axis_labels=raw.axis_labels,
                metadata={ROLE_KEY: ALIGNED, METADATA_KEY: series},
            )
            active = self.viewer.layers.selection.active
            self.viewer.layers.insert(list(self.viewer.layers).index(raw) + 1, layer)
            self.viewer.layers.selection.active = active

    def _show_selected_bead(self) -> None:
        alignment = self.session.alignment
        if self.frame is not None and alignment is not None and alignment.tracks is not None:
            with self.refreshing():
                self._refresh_overlays((overlays.GAPS, overlays.BEADS))
        self._show_text()
        self._bring_into_sight()

    def _bring_into_sight(self) -> None:
        """Move the camera to the selected bead if the canvas does not show it."""
        series, alignment, frame, raw = self.session.series, self.session.alignment, self.frame, self.raw_layer()
        if series is None or alignment is None or frame is None or raw is None or self.session.bead is None:
            return
        tilt = series.index_of(self.session.view)
        shown = place_of(alignment, self.session.bead, tilt)
        layer = self.layer(ALIGNED) if self.session.shows_aligned else raw
        low, high = layer.corner_pixels[:, 1:] if layer is not None else raw.corner_pixels[:, 1:]
        if not (low < high).all() or shown is None:
            return  # there is no canvas, or no such place
        place = frame.shown(np.array([tilt]), shown[None])[0, 1:] * series.pixel_size_angst
        corners = raw.translate[1:] + np.array([low, high]) * raw.scale[1:]
        if not ((corners[0] <= place) & (place <= corners[1])).all():
            self.viewer.camera.center = (0.0, *place.tolist())

    def restore_beads(self) -> None:
        """Draw the beads as the session has them, whatever was done to the layer."""
        self._show_selected_bead()

    def _refresh_overlays(self, roles: Iterable[str]) -> None:
        """Bring layers up to date or make them; hidden ones later, when they are looked at."""
        for role in roles:
            layer = self.layer(role)
            if layer is None or layer.visible:
                self._refresh_overlay(role, layer)
            else:
                self._stale.add(role)

    def _refresh_overlay(self, role: str, layer: Layer | None) -> None:
        series, alignment, frame = self.session.series, self.session.alignment, self.frame
        if series is None or alignment is None or frame is None:
            return
        self._stale.discard(role)
        data, attributes, kind = overlays.overlay(role, series, alignment, frame, self.session.bead)
        attributes["metadata"] = {ROLE_KEY: role, METADATA_KEY: series}
        if layer is None:
            self._insert(Layer.create(data, attributes, kind), len(self.viewer.layers))
        elif fits(layer, data):
            update_layer(layer, data, attributes)
        else:
            at = self.viewer.layers.index(layer)
            self._insert(Layer.create(data, attributes | looks(layer), kind), at, instead_of=layer)

    def _insert(self, layer: Layer, at: int, instead_of: Layer | None = None) -> None:
        """Put an overlay into the list of layers, where what is selected stays so."""
        active = self.viewer.layers.selection.active
        if instead_of is not None:
            self.viewer.layers.remove(instead_of)
        self.viewer.layers.insert(at, layer)
        layer.events.visible.connect(self._on_visible)
        self.viewer.layers.selection.active = layer if active is not None and active is instead_of else active

    def _on_visible(self, event: Any) -> None:
        """Catch up on what a layer has missed while it was hidden."""
        role = event.source.metadata[ROLE_KEY]
        if event.source.visible and role in self._stale:
            with self.refreshing():
                self._refresh_overlay(role, event.source)

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

    # --- views

    def current_rank(self) -> int:
        """Which view is looked at, counted in order of tilt."""
        return int(self.viewer.dims.current_step[0])

    def _on_step(self) -> None:
        series = self.session.series
        if series is not None and self.frame is not None and self.viewer.dims.ndim >= 3:
            at = min(self.current_rank(), len(series) - 1)
            self.session.select_view(series.tilt_ids[self.frame.order[at]])

    def _show_view(self) -> None:
        series = self.session.series
        if series is not None and self.frame is not None and self.viewer.dims.ndim >= 3:
            rank = int(self.frame.rank[series.index_of(self.session.view)])
            if rank != self.current_rank():
                self.viewer.dims.set_current_step(0, rank)
        self._follow_contrast()
        self._make_neighbours()
        self._show_text()
        self._bring_into_sight()

    def _show_text(self) -> None:
        overlay = text_overlay(self.viewer)
        overlay.position = "top_left"
        overlay.text = view_text(self.session)
        overlay.visible = bool(overlay.text)

    def _on_ndisplay(self) -> None:
        """Hide the images in 3D: a stack of tilts is no volume, and all of it would have to be made."""
        flat = self.viewer.dims.ndisplay == 2
        for layer in self.viewer.layers:
            if isinstance(layer.data, LazyStack):
                layer.visible = flat and layer in (
                    self.layer(ALIGNED) if self.session.shows_aligned else self.raw_layer(),
                )
        if not flat:
            self.session.warned.emit("tilt images are not shown in 3D: press the 2D button to see them again")


def _is_same(one: tuple[object, ...] | None, other: tuple[object, ...]) -> bool:
    """Whether the same things are shown: series by name (its exclusions may differ), the rest as they are."""
    return one is not None and one[1] is other[1] and one[2] == other[2]


def text_overlay(viewer: ViewerModel) -> Any:
    """The text in the corner of the canvas, which napari 0.9 has moved."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.text_overlay if canvas is None else canvas.overlays.text
