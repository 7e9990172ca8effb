"""Dock widget *Curate beads*: a list of the beads, what can be done with the selected one, and all its views."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.components import ViewerModel
from napari.layers import Points
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QPushButton, QScrollArea, QSplitter, QVBoxLayout, QWidget

from napari_tiltalign.ui import actions, link_actions
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.bead_info import BeadInfo
from napari_tiltalign.ui.bead_list import BeadList
from napari_tiltalign.ui.bead_strip import BeadStrip
from napari_tiltalign.ui.centring import recentre
from napari_tiltalign.ui.closing import guard_when_shown
from napari_tiltalign.ui.docking import gather_when_shown
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.keys import IMAGE_KEYS, attempt, key_of

_NAVIGATION: tuple[tuple[str, Callable[[Any], None]], ...] = (
    ("‹ Back", actions.previous_worst),
    ("Worst ›", actions.next_worst),
    ("Gap ›", actions.next_gap),
    ("Unsure ›", link_actions.next_unsure),
)
_ACTIONS: tuple[tuple[str, Callable[[Any], None]], ...] = (
    ("Fill gap", actions.accept_gap),
    ("Centre", recentre),
    ("Not here", actions.remove_bead),
    ("Delete", actions.delete_bead),
    ("Lock", actions.toggle_lock),
    ("Merge", link_actions.merge_nearest),
    ("Split", link_actions.split_from_here),
    ("Swap", link_actions.swap_from_here),
    ("Undo", actions.undo),
    ("Redo", actions.redo),
)
_COLUMNS = 4


class CurateWidget(QWidget):
    """Look through the beads, worst first, and put them right.

    Parameters
    ----------
    napari_viewer
        The viewer whose session is used.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._layers = layers_of(napari_viewer)
        self._session = self._layers.session
        guard_when_shown(self, self._session)
        gather_when_shown(self, napari_viewer)
        self.buttons: dict[str, QPushButton] = {}
        self.list = BeadList(self._session)
        self.info = BeadInfo(self._session)
        self.strip = BeadStrip(napari_viewer)
        self.add_button = self._mode_button("Add beads", "add", "Click on gold to add it: where the selected bead has "
                                            "a gap it is placed there, else a new bead is started")  # fmt: skip
        self.move_button = self._mode_button("Move beads", "select", "Drag a bead, or a gap, onto the gold; it is "
                                             "centred when you let go. Delete removes it from this view")  # fmt: skip
        self._build()
        self.list.merge_asked.connect(self._merge)
        hear(self._session.history_changed, self._update_buttons)
        hear(self._session.bead_changed, self._update_buttons)
        hear(self._session.alignment_changed, self._update_buttons)
        self._update_buttons()

    def _build(self) -> None:
        navigation = QHBoxLayout()
        for text, action in _NAVIGATION:
            navigation.addWidget(self._button(text, action))
        grid = QGridLayout()
        for index, (text, action) in enumerate(_ACTIONS):
            grid.addWidget(self._button(text, action), *divmod(index, _COLUMNS))
        row, column = divmod(len(_ACTIONS), _COLUMNS)
        grid.addWidget(self.add_button, row, column)
        grid.addWidget(self.move_button, row, column + 1)
        navigation.setSpacing(3)
        grid.setSpacing(3)

        upper = QWidget()
        column_layout = QVBoxLayout(upper)
        column_layout.setContentsMargins(0, 0, 0, 0)
        column_layout.addWidget(self.list, 1)
        column_layout.addLayout(navigation)
        column_layout.addWidget(self.info)
        column_layout.addLayout(grid)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setWidget(self.strip)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(upper)
        splitter.addWidget(scroll)
        splitter.setChildrenCollapsible(False)
        splitter.setStretchFactor(1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(splitter)
        self.setMinimumWidth(300)

    def _button(self, text: str, action: Callable[[Any], None]) -> QPushButton:
        key = key_of(action)
        subject = self._layers if key in IMAGE_KEYS else self._session
        button = QPushButton(text)
        button.setToolTip(f"{key.what[0].upper()}{key.what[1:]} ({key.key.replace('Control', 'Ctrl')})")
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys go on to the viewer
        button.clicked.connect(lambda: attempt(subject, action))
        self.buttons[text] = button
        return button

    def _mode_button(self, text: str, mode: str, tooltip: str) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tooltip)
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        button.clicked.connect(partial(self._use_mode, mode))
        return button

    def _use_mode(self, mode: str) -> None:
        """Let the mouse act on the layer of beads."""
        layer = self._layers.beads
        if not isinstance(layer, Points):
            self._session.told.emit("there are no beads; align with a method that follows them first")
            return
        layer.visible = True
        self._layers.viewer.layers.selection.active = layer
        layer.mode = mode

    def _merge(self, track_id: int, other_id: int) -> None:
        attempt(self._session, lambda session: link_actions.merge_beads(session, track_id, other_id))

    def _update_buttons(self) -> None:
        session, candidate = self._session, self._session.candidate
        for name, label in (("Undo", session.undo_label), ("Redo", session.redo_label)):
            self.buttons[name].setEnabled(bool(label))
            self.buttons[name].setToolTip(f"{name} {label} ({'Ctrl-Z' if name == 'Undo' else 'Ctrl-Shift-Z'})")
        locked = candidate is not None and session.bead in candidate.locked
        self.buttons["Lock"].setText("Release" if locked else "Lock")
        has_tracks = session.alignment is not None and session.alignment.tracks is not None
        for button in (self.add_button, self.move_button, *(self.buttons[text] for text, _ in _NAVIGATION)):
            button.setEnabled(has_tracks)
        for text, action in _ACTIONS:
            if action not in (actions.undo, actions.redo):
                self.buttons[text].setEnabled(has_tracks and session.bead is not None)
