"""Read the included images of a series one at a time and make something of each, for methods that take whole views."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadTiltSeries, TiltAlignError
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.images.finite import finite_pixels
from napari_tiltalign.images.prepare import Image
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.methods.bead_search import LEAST_READABLE
from napari_tiltalign.model import TiltSeries

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, eq=False)
class ViewsRead(Generic[Made]):
    """What was made of the images of a series; the n views are in order of nominal tilt.

    Attributes
    ----------
    order
        Shape (n,): index in the series of every view.
    made
        One for each view: what was made of it, why it cannot be read, or None if it was excluded before.
    filled_pixels
        tilt_id to how many pixels were not finite and were filled.
    """

    order: NDArray[np.intp]
    made: tuple[Made | TiltAlignError | None, ...]
    filled_pixels: Mapping[str, int]


def read_views(
    series: TiltSeries, make: Callable[[int, Image], Made], *, progress: Progress = silent
) -> ViewsRead[Made]:
    """Read every included image of a series.

    Parameters
    ----------
    series
        The series.
    make
        Given the index of an image in the series and its pixels, all finite, makes something of it; called from several
        threads.
    progress
        Told from 0 to 1.

    Raises
    ------
    BadTiltSeries
        If fewer than 80 % of the included images can be read.
    """
    order = series.tilt_order()
    included = [int(i) for i in order if series.tilts[int(i)].included]
    filled: dict[str, int] = {}

    def one(index: int) -> Made | TiltAlignError:
        try:
            image, before = series.tilts[index].image.load()
            image, more = finite_pixels(image)
        except TiltAlignError as error:
            return error
        if before + more:
            filled[series.tilts[index].tilt_id] = before + more
        return make(index, image)

    results = map_views(one, included, on_done=lambda n: progress(n / len(included), "reading images"))
    errors = [result for result in results if isinstance(result, TiltAlignError)]
    if len(errors) > (1.0 - LEAST_READABLE) * len(included):
        raise BadTiltSeries(series.name, f"{len(errors)} of {len(included)} images cannot be read; first: {errors[0]}")
    found = dict(zip(included, results, strict=True))
    return ViewsRead(order, tuple(found.get(int(i)) for i in order), dict(sorted(filled.items())))
