"""The layers of raw images of a viewer: one is seen at a time, and the images of the last few series are kept."""

from __future__ import annotations

from weakref import ref

from napari.components import ViewerModel
from napari.layers import Image

from napari_tiltalign.model import TiltSeries
from napari_tiltalign.ui.layer_data import DATASET_KEY, METADATA_KEY, series_layer
from napari_tiltalign.ui.lazy_stack import LazyStack
from napari_tiltalign.ui.own_layers import ROLE_KEY
from napari_tiltalign.ui.session import Session

RAW = "raw"
"""Role of the layers."""

_STACKS_KEPT = 3


class RawLayers:
    """Finds and makes the layers of raw images.

    Parameters
    ----------
    viewer
        Held weakly.
    session
        Whose dataset they belong to.
    """

    def __init__(self, viewer: ViewerModel, session: Session) -> None:
        self._viewer = ref(viewer)
        self._session = session
        self._stacks: dict[str, LazyStack] = {}

    def of(self, series_name: str) -> Image | None:
        """The raw layer of a series of the open dataset, shown or not; None if there is none."""
        dataset, viewer = self._session.dataset, self._viewer()
        if dataset is None or viewer is None:
            return None
        return next(
            (
                layer
                for layer in viewer.layers
                if layer.metadata.get(DATASET_KEY) is dataset and layer.metadata[METADATA_KEY].name == series_name
            ),
            None,
        )

    def get(self, series: TiltSeries) -> Image | None:
        """The raw layer of a series, which is made if there is none; its images are remembered."""
        viewer = self._viewer()
        if viewer is None:
            return None
        layer = self.of(series.name)
        if layer is None:
            data, attributes, _ = series_layer(series, self._session.dataset)
            attributes["metadata"][ROLE_KEY] = RAW
            layer = Image(self._stacks.get(series.name, data), **attributes)
            viewer.layers.insert(0, layer)
        self._keep(series.name, layer.data)
        return layer

    def hide_all_but(self, series: TiltSeries | None) -> None:
        """Hide whatever belongs to another series than this one of the open dataset."""
        viewer, dataset = self._viewer(), self._session.dataset
        for layer in viewer.layers if viewer is not None else ():
            other, owner = layer.metadata.get(METADATA_KEY), layer.metadata.get(DATASET_KEY, dataset)
            if other is not None and (series is None or other.name != series.name or owner is not dataset):
                layer.visible = False

    def forget(self) -> None:
        """Forget the images of all series."""
        self._stacks.clear()

    def _keep(self, name: str, stack: LazyStack) -> None:
        """Remember the images of the last few series, so that going back is quick."""
        self._stacks.pop(name, None)
        self._stacks[name] = stack
        while len(self._stacks) > _STACKS_KEPT:
            del self._stacks[next(iter(self._stacks))]
