"""The layers of one viewer, kept in step with the session."""

from __future__ import annotations

from contextlib import AbstractContextManager
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
from napari_tiltalign.ui.canvas_text import CanvasText
from napari_tiltalign.ui.contrast import FollowingContrast
from napari_tiltalign.ui.frame import Frame
from napari_tiltalign.ui.layer_data import DATASET_KEY, METADATA_KEY, display_binning
from napari_tiltalign.ui.lazy_stack import LazyStack
from napari_tiltalign.ui.overlay_layers import OverlayLayers
from napari_tiltalign.ui.own_layers import ROLE_KEY, insert_quietly, layer_of_role, remove_own
from napari_tiltalign.ui.preload import Preload
from napari_tiltalign.ui.raw_layers import RAW, RawLayers
from napari_tiltalign.ui.session import Session
from napari_tiltalign.ui.view_text import view_text

ALIGNED = "aligned"
"""Role and name of the layer of aligned images."""

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
        self.text = CanvasText(viewer)
        self._raw, self._overlays = RawLayers(viewer, session), OverlayLayers(viewer, session)
        self._preload, self._ahead = Preload(), Preload()
        self._contrast = FollowingContrast()
        self.frame: Frame | None = None
        self._is_other_dataset = False
        self._shown: tuple[TiltSeries, ViewGeometry, bool] | None = None
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
        return layer_of_role(self.viewer, role)

    @property
    def beads(self) -> Points | None:
        """The layer of beads."""
        return self.layer(overlays.BEADS)

    def raw_layer(self) -> Image | None:
        """The layer of the raw images that are shown now."""
        series = self.session.series
        return self._raw.of(series.name) if series else None

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

    def _forget_stacks(self) -> None:
        """Forget another dataset; its layers go when those of this one have come."""
        self._raw.forget()
        self._is_other_dataset = True

    def _show_series(self) -> None:
        """Show another series.

        Its layer comes before the others go: napari shows its welcome in an empty viewer, and where that appears for a
        moment only, drawing by Mesa has crashed. The slider keeps its place by that, too.
        """
        series, other = self.session.series, self._is_other_dataset
        self._preload.stop()
        self._ahead.stop()
        self.frame, self._is_other_dataset = None, False
        old = [layer for layer in self.viewer.layers if ROLE_KEY in layer.metadata]
        if series is not None and not other:
            old = [layer for layer in old if layer.metadata[METADATA_KEY].name != series.name]
        layer = self._raw.get(series) if series is not None else None
        remove_own(self.viewer, lambda own: own in old and own is not layer)
        self._raw.hide_all_but(series)
        if layer is not None and series is not None:
            if ROLE_KEY in layer.metadata:
                layer.name = series.name  # until now there may have been another one of that name
            layer.visible = True
            self._preload.start(layer.data)

    # --- alignment

    def _show_alignment(self) -> None:
        """Show the alignment in use.

        Between an edit and its solution the geometry is as it was, so only the beads are touched then.
        """
        series, candidate = self.session.series, self.session.candidate
        if series is None or candidate is None:
            self.frame, self._shown = Frame.raw(series) if series else None, None
            remove_own(self.viewer, lambda layer: layer.metadata[ROLE_KEY] != RAW)
            self._show_images()
            self._show_text()
            return
        alignment, before = candidate.alignment, self._shown
        self._shown = (series, alignment.geometry, self.session.shows_aligned)
        with self.refreshing():
            if _is_same(before, self._shown) and not candidate.solved:
                self._refresh_beads()
                return
            self.frame = Frame.aligned(series, alignment) if self.session.shows_aligned else Frame.raw(series)
            self._show_aligned_stack(series, alignment)
            self._overlays.show(overlays.roles_of(candidate), self.frame)
            self._show_images()
        self._show_text()

    def _show_images(self) -> None:
        """Show either the raw or the aligned images; raw ones that the user has deleted come back."""
        series, aligned = self.session.series, self.layer(ALIGNED)
        raw = self._raw.get(series) if series is not None else None
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
            insert_quietly(self.viewer, layer, self.viewer.layers.index(raw) + 1)

    def _show_selected_bead(self) -> None:
        alignment = self.session.alignment
        if alignment is not None and alignment.tracks is not None:
            self._refresh_beads()
        self._show_text()
        self._bring_into_sight()

    def _bring_into_sight(self) -> None:
        """Move the camera to the selected bead if the canvas does not show it."""
        series, alignment, frame, viewer = self.session.series, self.session.alignment, self.frame, self.viewer
        if series is None or alignment is None or frame is None or self.session.bead is None:
            return
        tilt = series.index_of(self.session.view)
        place_px = place_of(alignment, self.session.bead, tilt)
        if place_px is None or viewer.dims.ndisplay != 2:
            return
        place = frame.shown(np.array([tilt]), place_px[None])[0, 1:] * series.pixel_size_angst
        camera = viewer.scene.camera
        half = 0.5 * np.array(viewer.canvas.viewbox_size(viewer.layers)) / camera.zoom
        if (np.abs(place - np.array(camera.center[-2:])) > half).any():
            camera.center = (0.0, *place.tolist())

    def restore_beads(self) -> None:
        """Draw the beads as the session has them, whatever was done to the layer."""
        self._show_selected_bead()

    def _refresh_beads(self) -> None:
        if self.frame is not None:
            self._overlays.refresh((overlays.GAPS, overlays.BEADS), self.frame)

    def refreshing(self) -> AbstractContextManager[None]:
        """While this lasts, changes of layers come from the session and not from the user."""
        return self._overlays.refreshing()

    @property
    def is_refreshing(self) -> bool:
        """Whether layers are being changed from the session now."""
        return self._overlays.is_refreshing

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
        self.text.show(view_text(self.session))

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
