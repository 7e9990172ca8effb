"""What the images of a series look like: measured in a thread, with a thumbnail each, and what they suggest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from napari.utils.notifications import show_error
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_tiltalign.images.prepare import bin_image
from napari_tiltalign.methods.base import Progress
from napari_tiltalign.model import TiltSeries
from napari_tiltalign.quality.views import UNREADABLE, Suggestion, ViewMeasures, measure_view, suggestions
from napari_tiltalign.ui.layer_data import display_binning, series_stack
from napari_tiltalign.ui.layers import Layers
from napari_tiltalign.ui.lazy_stack import LazyStack
from napari_tiltalign.ui.preload import middle_out
from napari_tiltalign.ui.tasks import Running, Task

THUMBNAIL_SIDE_PX = 40


@dataclass(frozen=True, slots=True, eq=False)
class SeenView:
    """What is known of one image after looking at it.

    Attributes
    ----------
    measures
        Its brightness and so on.
    thumbnail
        Shape (y, x), uint8, at most `THUMBNAIL_SIDE_PX` on a side.
    """

    measures: ViewMeasures
    thumbnail: NDArray[np.uint8]


NOT_SEEN = SeenView(UNREADABLE, np.zeros((1, 1), np.uint8))


def thumbnail(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a small picture of an image, shape (y, x), black to white from the 1st to the 99th percentile."""
    small = np.nan_to_num(bin_image(image, -(-max(image.shape) // THUMBNAIL_SIDE_PX)))
    low, high = np.percentile(small, (1.0, 99.0))
    grey: NDArray[np.uint8] = np.clip((small - low) / max(high - low, 1e-12) * 255.0, 0, 255).astype(np.uint8)
    return grey


class ViewSurvey(QObject):
    """Looks at the images of the series that is shown, and says which look bad.

    What was seen is kept until another dataset is opened.

    Parameters
    ----------
    layers
        Images are taken from their raw stack, which keeps them for display anyway.

    Attributes
    ----------
    seen
        Emitted with the tilt_id of an image that was looked at.
    suggested
        Emitted when `suggestions` are new.
    """

    seen = Signal(str)
    suggested = Signal()

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self._layers = layers
        self._session = layers.session
        self._by_series: dict[str, dict[str, SeenView]] = {}
        self._reading = Running()
        self._judging = Running()
        self._judge_again = False
        self.suggestions: tuple[Suggestion, ...] = ()
        self._session.dataset_changed.connect(self._forget)
        self._session.series_changed.connect(self._look)
        self._session.exclusions_changed.connect(self._judge)
        self._session.alignment_changed.connect(self._judge)
        self._look()

    @property
    def views(self) -> dict[str, SeenView]:
        """What was seen of the series that is shown, by tilt_id."""
        series = self._session.series
        return self._by_series.setdefault(series.name, {}) if series else {}

    @property
    def complete(self) -> bool:
        """Whether all images of the series that is shown were looked at."""
        series = self._session.series
        return series is not None and len(self.views) == len(series)

    @property
    def is_busy(self) -> bool:
        """Whether images are being looked at, or judged."""
        return self._reading.is_busy or self._judging.is_busy

    def stop(self) -> None:
        """Stop looking, and let nobody hear of it."""
        self._reading.stop()
        self._judging.stop()
        self._judge_again = False

    def stop_with(self, widget: QObject) -> None:
        """Stop looking when a widget is destroyed."""
        self._reading.stop_with(widget)
        self._judging.stop_with(widget)

    def _forget(self) -> None:
        self.stop()
        self._by_series.clear()

    def _look(self) -> None:
        """Look at the images of the series that have not been seen yet."""
        self.stop()
        self.suggestions = ()
        self.suggested.emit()
        series = self._session.series
        if series is None or self.complete:
            self._judge()
            return
        raw = self._layers.raw_layer()
        stack = series_stack(series, display_binning(series)) if raw is None else raw.data
        views = self.views
        task = self._reading.task = Task(lambda progress: _look_at(series, stack, views, progress))
        task.progressed.connect(self._announce_seen)
        task.failed.connect(lambda error: show_error(str(error)))
        task.finished.connect(self._after_looking)
        task.start()

    def _announce_seen(self, fraction: float, tilt_id: str) -> None:
        self.seen.emit(tilt_id)

    def _after_looking(self) -> None:
        self._reading.task = None
        self._judge()

    def _judge(self) -> None:
        """Ask for suggestions; one question at a time, so that quick edits do not pile up."""
        series, alignment = self._session.series, self._session.alignment
        if series is None or not self.complete:
            return
        if self._judging.is_busy:
            self._judge_again = True
            return
        measures = [self.views[tilt_id].measures for tilt_id in series.tilt_ids]
        task = self._judging.task = Task(lambda progress: suggestions(series, measures, alignment))
        task.done.connect(self._keep)
        task.failed.connect(lambda error: show_error(str(error)))
        task.finished.connect(self._after_judging)
        task.start()

    def _keep(self, found: list[Suggestion]) -> None:
        self.suggestions = tuple(found)

    def _after_judging(self) -> None:
        self._judging.task = None
        if self._judge_again:
            self._judge_again = False
            self._judge()
        self.suggested.emit()


def _look_at(series: TiltSeries, stack: LazyStack, views: dict[str, SeenView], progress: Progress) -> None:
    """Look at the images of a stack sorted by tilt that are not among `views`, and put them there."""
    order = series.tilt_order()
    for count, rank in enumerate(middle_out(len(series))):
        tilt_id = series.tilt_ids[order[rank]]
        if tilt_id not in views:
            image = stack.image(rank)
            views[tilt_id] = SeenView(measure_view(image), thumbnail(image))
        progress((count + 1) / len(series), tilt_id)
