"""Part of the widget *Inspect*: how far off the field is expected to be, and whether a map of it is drawn."""

from __future__ import annotations

from napari.components import ViewerModel
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.expected_error_overlay import EXPECTED_ERROR, expected_error_text, known_error
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.wrapped import let_wrap


class ExpectedErrorRow(QWidget):
    """The expected error in words, and a button that shows or hides its layer.

    Parameters
    ----------
    napari_viewer
        Where the layer is.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._layers = layers_of(napari_viewer)
        self.text = QLabel()
        let_wrap(self.text)
        self.button = QPushButton("Map")
        self.button.setToolTip(f'Show or hide the layer "{EXPECTED_ERROR}": pixels, over the specimen')
        self.button.clicked.connect(self._toggle)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.text, 1)
        row.addWidget(self.button)
        hear(self._layers.session.series_changed, self._update)
        hear(self._layers.session.alignment_changed, self._update)
        self._update()

    def _update(self) -> None:
        alignment = self._layers.session.alignment
        self.setVisible(alignment is not None)
        if alignment is not None:
            self.text.setText(expected_error_text(alignment))
            self.button.setEnabled(known_error(alignment) is not None)

    def _toggle(self) -> None:
        layer = self._layers.layer(EXPECTED_ERROR)
        if layer is not None:
            layer.visible = not layer.visible
