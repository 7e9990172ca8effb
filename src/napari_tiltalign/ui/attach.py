"""Brings a viewer and its session together; every widget starts here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

from napari.components import ViewerModel
from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer

from napari_tiltalign.model import Dataset
from napari_tiltalign.ui import closing
from napari_tiltalign.ui.comparison_layers import ComparisonLayers
from napari_tiltalign.ui.journal import Journal
from napari_tiltalign.ui.keys import bind_keys
from napari_tiltalign.ui.layer_data import DATASET_KEY, METADATA_KEY
from napari_tiltalign.ui.layers import Layers
from napari_tiltalign.ui.mouse import Mouse
from napari_tiltalign.ui.saving import known_folder, restored_work
from napari_tiltalign.ui.session import Session
from napari_tiltalign.ui.tasks import in_thread
from napari_tiltalign.ui.tomogram_layers import TomogramLayers
from napari_tiltalign.ui.writers import ALIGNMENT_KEY

_LAYERS: WeakKeyDictionary[ViewerModel, Layers] = WeakKeyDictionary()
_JOURNALS: WeakKeyDictionary[ViewerModel, Journal] = WeakKeyDictionary()
_MICE: WeakKeyDictionary[ViewerModel, Mouse] = WeakKeyDictionary()
_BESIDE: WeakKeyDictionary[ViewerModel, tuple[ComparisonLayers, TomogramLayers]] = WeakKeyDictionary()
_PAUSES: WeakKeyDictionary[ViewerModel, QTimer] = WeakKeyDictionary()

PAUSE_MS = 1000
"""The user pauses if nothing was edited for this long."""


def layers_of(viewer: ViewerModel) -> Layers:
    """Return the layers of a viewer, which hold its session; both are made at the first call.

    Parameters
    ----------
    viewer
        The viewer, or the proxy of it that napari gives to plugins.
    """
    real = getattr(viewer, "__wrapped__", viewer)
    if real not in _LAYERS:
        session = _new_session()
        _report(real, session)
        _follow_folder(session)
        _JOURNALS[real] = Journal(session, _ask_repeat, later=_soon)
        _LAYERS[real] = Layers(real, session)
        _keep_alignment_with_layers(real, session)
        bind_keys(real, session, _LAYERS[real])
        _MICE[real] = Mouse(_LAYERS[real])
        _BESIDE[real] = ComparisonLayers(_LAYERS[real]), TomogramLayers(_LAYERS[real])
        _PAUSES[real] = _find_motion_in_pauses(session)
        _open_what_comes(real, session)
    return _LAYERS[real]


def session_of(viewer: ViewerModel) -> Session:
    """Return the session of a viewer, with its layers in step; see `layers_of`."""
    return layers_of(viewer).session


def _keep_alignment_with_layers(viewer: ViewerModel, session: Session) -> None:
    """Keep the alignment in use in the metadata of the layers it belongs to, for the writers."""
    watched, state = ref(viewer), ref(session)

    def keep() -> None:
        shown, alive = watched(), state()
        if shown is None or alive is None or alive.series is None:
            return
        for layer in shown.layers:
            series = layer.metadata.get(METADATA_KEY)
            if series is not None and series.name == alive.series.name:
                layer.metadata[ALIGNMENT_KEY] = alive.alignment

    session.alignment_changed.connect(keep)


def _new_session() -> Session:
    return Session(background=in_thread, restore=restored_work)


def _ask_repeat(name: str, n_steps: int) -> bool:
    return closing.ask_repeat(name, n_steps)


def _soon(function: Callable[[], None]) -> None:
    """Call a function when Qt comes to it, so that a question does not stand before the series it is about."""
    QTimer.singleShot(0, function)


def _follow_folder(session: Session) -> None:
    """Let results go where results of the dataset were saved before."""
    watched = ref(session)

    def follow() -> None:
        alive = watched()
        if alive is not None:
            alive.results_folder = known_folder(alive.dataset) if alive.dataset else None

    session.dataset_changed.connect(follow)


def _open_what_comes(viewer: ViewerModel, session: Session) -> None:
    """Open a dataset whose layers come while another is open, as when a file is dropped, if no work is lost by that."""
    state, known = ref(session), [session.dataset]

    def offer(event: Any) -> None:
        dataset, alive = event.value.metadata.get(DATASET_KEY), state()
        if alive is None or dataset is None or dataset is known[0]:
            return
        known[0] = dataset
        if alive.dataset is not None and alive.dataset is not dataset:
            name = event.value.metadata[METADATA_KEY].name
            _soon(lambda: take(dataset, name))  # when napari has added all layers

    def take(dataset: Dataset, name: str) -> None:
        alive = state()
        if alive is not None and alive.dataset is not dataset and closing.may_be_lost(alive):
            alive.open(dataset, name)

    viewer.layers.events.inserted.connect(offer)


def _find_motion_in_pauses(session: Session) -> QTimer:
    """Let local motion be looked for again when the user pauses; the timer must be kept."""
    timer, watched = QTimer(), ref(session)
    timer.setSingleShot(True)
    timer.setInterval(PAUSE_MS)

    def find() -> None:
        alive = watched()
        if alive is not None:
            alive.find_motion()

    def wait() -> None:
        alive = watched()
        if alive is not None and alive.candidate is not None and alive.candidate.motion_due:
            timer.start()

    timer.timeout.connect(find)
    session.alignment_changed.connect(wait)
    return timer


def _report(viewer: ViewerModel, session: Session) -> None:
    """Show the session's messages: in the status bar, or as a notification."""
    watched = ref(viewer)

    def tell(message: str) -> None:
        shown = watched()
        if shown is not None:
            shown.status = message

    session.told.connect(tell)
    session.warned.connect(show_warning)
