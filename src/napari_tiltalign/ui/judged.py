"""What was found out about alignments beside themselves: small tomograms and scores, kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeVar

from psygnal import Signal

from napari_tiltalign.model import Alignment
from napari_tiltalign.quality.preview import Preview
from napari_tiltalign.quality.scores import Scores

T = TypeVar("T")

_TOMOGRAMS_KEPT = 4
"""A tomogram takes some 50 MB."""
_SCORES_KEPT = 64


class Kept(OrderedDict[int, tuple[Alignment, Any]]):
    """Something about each of the last few alignments; an alignment that was edited is another one."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity

    def of(self, alignment: Alignment | None) -> Any:
        """What is known of an alignment; None if nothing is."""
        found = self.get(id(alignment))
        return found[1] if found is not None and found[0] is alignment else None

    def keep(self, alignment: Alignment, value: Any) -> None:
        """Remember something of an alignment, and forget the oldest if there are too many."""
        self[id(alignment)] = (alignment, value)
        self.move_to_end(id(alignment))
        while len(self) > self._capacity:
            self.popitem(last=False)


class Judged:
    """What was found out about alignments.

    Attributes
    ----------
    changed
        Emitted when something was found out, or all was forgotten.
    """

    changed = Signal()

    def __init__(self) -> None:
        self._tomograms = Kept(_TOMOGRAMS_KEPT)
        self._scores = Kept(_SCORES_KEPT)
        self._last: dict[tuple[str, str], Scores] = {}

    def tomogram_of(self, alignment: Alignment | None) -> Preview | None:
        """Small tomogram of an alignment; None if there is none."""
        found: Preview | None = self._tomograms.of(alignment)
        return found

    def keep_tomogram(self, alignment: Alignment, tomogram: Preview) -> None:
        """Remember the tomogram of an alignment."""
        self._tomograms.keep(alignment, tomogram)
        self.changed.emit()

    def scores_of(self, alignment: Alignment | None) -> Scores | None:
        """How good an alignment is; None if it was not judged."""
        found: Scores | None = self._scores.of(alignment)
        return found

    def keep_scores(self, alignment: Alignment, scores: Scores) -> None:
        """Remember how good an alignment is."""
        self._scores.keep(alignment, scores)
        self.changed.emit()

    def last_scores_of(self, name: tuple[str, str], alignment: Alignment | None) -> tuple[Scores | None, bool]:
        """How good an alignment is, or was before it was edited, and which of the two.

        Parameters
        ----------
        name
            Of the series, and of the alignment among those of the series.
        alignment
            The alignment as it is now.

        Returns
        -------
        scores, are_old
            None and False if neither is known.
        """
        now = self.scores_of(alignment)
        if now is not None:
            self._last[name] = now
            return now, False
        before = self._last.get(name)
        return before, before is not None

    def forget(self) -> None:
        """Forget everything."""
        self._last.clear()
        self._tomograms.clear()
        self._scores.clear()
        self.changed.emit()
