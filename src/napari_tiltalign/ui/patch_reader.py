"""Cuts the patches of a bead out of all images in a thread; no Qt, so that nothing of it can outlive a widget."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.ui.lazy_stack import LazyStack
from napari_tiltalign.ui.patches import cut_patch


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


class PatchReader:
    """Reads patches without blocking; asking again drops what was asked before."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._read: SimpleQueue[Patch] = SimpleQueue()

    def ask(self, stack: LazyStack, centres: Sequence[tuple[int, tuple[float, float]]], half_px: int) -> None:
        """Begin to read patches around (view, centre) of a stack; `take` gives those that are there."""
        self.stop()
        self._stop, self._read = threading.Event(), SimpleQueue()
        work = (stack, list(centres), half_px, self._stop, self._read)
        threading.Thread(target=_cut, args=work, daemon=True, name="tiltalign-patches").start()

    def take(self) -> list[Patch]:
        """Patches that were read since the last call."""
        patches = []
        try:
            while True:
                patches.append(self._read.get_nowait())
        except Empty:
            return patches

    def stop(self) -> None:
        """Read nothing more, and forget what was read."""
        self._stop.set()
        self._read = SimpleQueue()


def _cut(
    stack: LazyStack,
    centres: list[tuple[int, tuple[float, float]]],
    half_px: int,
    stop: threading.Event,
    read: SimpleQueue[Patch],
) -> None:
    kept = set(stack.cached())  # these first, so that reading the others does not push them out
    for view, centre in sorted(centres, key=lambda asked: asked[0] not in kept):
        if stop.is_set():
            return
        read.put(Patch(view, *cut_patch(stack.image(view), centre, half_px)))
