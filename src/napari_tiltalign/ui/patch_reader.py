"""Cuts the patches of a bead out of all images in a thread, and hands them over one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_tiltalign.ui.lazy_stack import LazyStack
from napari_tiltalign.ui.patches import cut_patch
from napari_tiltalign.ui.tasks import in_thread


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A square cut out of one view.

    Attributes
    ----------
    view
        Number of the view in order of tilt.
    grey
        Shape (n, n), 0 to 255.
    corner_yx
        Pixel index of its first pixel in the displayed (binned) image.
    """

    view: int
    grey: NDArray[np.uint8]
    corner_yx: tuple[int, int]


class PatchReader(QObject):
    """Reads patches without blocking; asking again drops what was asked before."""

    read = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._wanted: object = None
        self._arrived.connect(self._hand_over)

    _arrived = Signal(object, object)

    def ask(self, stack: LazyStack, centres: Sequence[tuple[int, tuple[float, float]]], half_px: int) -> None:
        """Read patches around (view, centre) of a stack; `read` is emitted with each `Patch`."""
        self._wanted = token = object()
        in_thread(self._work(token, stack, list(centres), half_px), lambda result: None, _raise)

    def stop(self) -> None:
        """Read nothing more."""
        self._wanted = None

    def _work(
        self, token: object, stack: LazyStack, centres: list[tuple[int, tuple[float, float]]], half_px: int
    ) -> Callable[[], None]:
        def work() -> None:
            kept = set(stack.cached())  # first, so that reading the others does not push them out
            for view, centre in sorted(centres, key=lambda asked: asked[0] not in kept):
                if self._wanted is not token:
                    return
                self._arrived.emit(token, Patch(view, *cut_patch(stack.image(view), centre, half_px)))

        return work

    def _hand_over(self, token: object, patch: Patch) -> None:
        if self._wanted is token:
            self.read.emit(patch)


def _raise(error: Exception) -> None:
    raise error
