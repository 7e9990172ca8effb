"""The layer that the images are compared with, blinking or in another colour."""

from __future__ import annotations

from napari.layers import Image
from qtpy.QtCore import QTimer

from napari_tiltalign.ui.aligned_stack import AlignedStack
from napari_tiltalign.ui.comparison import REPROJECTION, Comparison, How, in_common_frame, reprojected_stack
from napari_tiltalign.ui.contrast import FollowingContrast
from napari_tiltalign.ui.layer_data import METADATA_KEY, display_binning, placement
from napari_tiltalign.ui.layers import ALIGNED, Layers
from napari_tiltalign.ui.lazy_stack import LazyStack
from napari_tiltalign.ui.own_layers import ROLE_KEY, insert_quietly
from napari_tiltalign.ui.preload import Preload

COMPARED = "compared"
"""Role of the layer."""

BLINK_MS = 600
_REACH = 2
"""So many images to either side of the one that is compared are made ahead."""
_COLOURS = ("magenta", "green")
"""Of the images and of what they are compared with, in an overlay: grey where both agree."""


class ComparisonLayers:
    """Shows what the session compares with.

    Parameters
    ----------
    layers
        Layers of the viewer. This object must be kept alive as long as they are used.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._session = layers.session
        self._contrast, self._ahead = FollowingContrast(), Preload()
        self._shown: tuple[object, ...] = ()
        self._timer = QTimer()
        self._timer.setInterval(BLINK_MS)
        self._timer.timeout.connect(self._blink)
        session = self._session
        for signal in (
            session.comparison_changed, session.alignment_changed, session.display_changed, session.judged.changed,
            session.series_changed,
        ):  # fmt: skip
            signal.connect(self.refresh)
        session.view_changed.connect(self._on_view)

    @property
    def layer(self) -> Image | None:
        """The layer; None if nothing is compared."""
        return self._layers.layer(COMPARED)

    def refresh(self) -> None:
        """Show what is compared with now."""
        series, alignment, comparison = self._session.series, self._session.alignment, self._session.comparison
        tomogram = self._session.judged.tomogram_of(alignment)
        other = self._session.work.candidates.get(comparison.what)
        source = tomogram if comparison.what == REPROJECTION else other and other.alignment
        wanted = (series, alignment, comparison, source, self._session.shows_aligned)
        if _are_same(wanted, self._shown) and (self.layer is not None or source is None):
            return
        self._shown = wanted
        self._remove()
        if series is None or alignment is None or source is None or comparison.how is How.OFF:
            return
        stack, binning = self._stack()
        self._add(stack, binning)

    def _stack(self) -> tuple[LazyStack, int]:
        series, alignment, what = self._session.series, self._session.alignment, self._session.comparison.what
        if series is None or alignment is None:
            raise RuntimeError("nothing is shown")
        tomogram = self._session.judged.tomogram_of(alignment)
        if what == REPROJECTION and tomogram is not None:
            stack, binning = reprojected_stack(series, tomogram)
            if self._session.shows_aligned:
                stack = AlignedStack(series, stack, binning, alignment.geometry)
            return stack, binning
        binning = display_binning(series)
        geometry = in_common_frame(self._session.work.candidates[what].alignment, alignment)
        return AlignedStack(series, self._layers.raw_stack(), binning, geometry), binning

    def _add(self, stack: LazyStack, binning: int) -> None:
        series, comparison, base = self._session.series, self._session.comparison, self._base()
        if series is None or base is None:
            return
        overlaid = comparison.how is How.OVERLAY
        layer = Image(
            stack,
            name=f"compared: {comparison.what}",
            colormap=_COLOURS[1] if overlaid else "gray",
            blending="additive" if overlaid else "translucent",
            contrast_limits=(0.0, 1.0),
            metadata={ROLE_KEY: COMPARED, METADATA_KEY: series},
            **placement(series, binning),
        )
        self._follow(layer)
        viewer = self._layers.viewer
        insert_quietly(viewer, layer, viewer.layers.index(base) + 1)
        if overlaid:
            base.colormap = _COLOURS[0]
        else:
            self._timer.start()
        self._show_text()

    def _base(self) -> Image | None:
        return self._layers.layer(ALIGNED) if self._session.shows_aligned else self._layers.raw_layer()

    def _follow(self, layer: Image | None) -> None:
        """Set the contrast for the image that is compared now, and make those that come next.

        In colours, a prediction has the contrast of its view, whose grey values it is in; for blinking it has its own,
        because there is less in it than in a noisy view.
        """
        comparison, base = self._session.comparison, self._base()
        if layer is not None and base is not None and comparison == Comparison(REPROJECTION, How.OVERLAY):
            layer.contrast_limits_range = base.contrast_limits_range
            layer.contrast_limits = base.contrast_limits
        else:
            self._contrast.follow(layer, self._layers.current_rank())
        if layer is not None:
            self._ahead.start_around(layer.data, self._layers.current_rank(), _REACH)

    def _remove(self) -> None:
        self._timer.stop()
        self._ahead.stop()
        layer = self.layer
        if layer is not None:
            self._layers.viewer.layers.remove(layer)
        for base in (self._layers.layer(ALIGNED), self._layers.raw_layer()):
            if base is not None and base.colormap.name == _COLOURS[0]:
                base.colormap = "gray"
        self._show_text()

    def _blink(self) -> None:
        layer = self.layer
        if layer is None:
            self._timer.stop()
            return
        layer.visible = not layer.visible
        self._show_text()

    def _on_view(self) -> None:
        self._follow(self.layer)

    def _show_text(self) -> None:
        """Say which of the two is seen."""
        layer = self.layer
        if layer is None:
            note = ""
        elif self._session.comparison.how is How.OVERLAY:
            note = f"{_COLOURS[0]}: {self._seen()}   {_COLOURS[1]}: {layer.name[10:]}"
        else:
            note = layer.name[10:] if layer.visible else self._seen()
        self._layers.text.note(note)

    def _seen(self) -> str:
        """What the images themselves are called."""
        return self._session.work.current if self._session.shows_aligned else "raw image"


def _are_same(some: tuple[object, ...], others: tuple[object, ...]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
