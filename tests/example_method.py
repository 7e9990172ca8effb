"""A method from beginning to end, as a package of its own could bring it: the example of CONTRIBUTING.md.

It chains the shifts between neighbouring views and keeps the nominal angles. That is the coarse step of most programs,
and no more than a start: errors add up along the chain.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field

from napari_tiltalign.errors import BadTiltSeries
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.images.prepare import contrast_image, remove_hot_pixels
from napari_tiltalign.methods.base import MethodOptions, Progress, silent
from napari_tiltalign.methods.coarse import neighbour_shifts
from napari_tiltalign.model import Alignment, Flag, TiltSeries


class Chain(MethodOptions):
    """Options of the chain of neighbours."""

    feature_nm: Annotated[
        float, Field(ge=1, le=1000, description="Size of the features that are correlated, nm")
    ] = 20.0  # fmt: skip


class ChainMethod:
    """Align by the shifts between neighbouring views."""

    name = "chain"
    title = "Chain of neighbours"
    summary = "An example: shifts only, by correlating neighbouring views."
    Options: type[MethodOptions] = Chain

    def __call__(
        self,
        series: TiltSeries,
        options: MethodOptions,
        *,
        start: Alignment | None = None,
        progress: Progress = silent,
    ) -> Alignment:
        """Align one series.

        Parameters
        ----------
        series
            What to align.
        options
            An instance of `Chain`.
        start
            Not used: the chain needs no start.
        progress
            Told how far it is; may raise `Cancelled`.

        Raises
        ------
        BadTiltSeries
            If fewer than three views take part.
        """
        if not isinstance(options, Chain):
            raise TypeError(f"options of the class {type(options).__name__}, not Chain")
        used = series.included
        if used.sum() < 3:
            raise BadTiltSeries(series.name, f"{used.sum()} views are too few to be aligned; include more of them")
        feature_px = options.feature_nm * 10.0 / series.pixel_size_angst
        contrasts = []
        for number, tilt in enumerate(series.tilts):
            progress(0.8 * number / len(series), f"cleaning view {number + 1} of {len(series)}")
            image = remove_hot_pixels(tilt.image.read())[0] if tilt.included else None
            contrasts.append(None if image is None else contrast_image(image, feature_px).contrast)
        axis_deg = float(np.median(series.nominal_axis_deg))
        pairs = neighbour_shifts(contrasts, series.nominal_tilt_deg, axis_deg)

        order = [i for i in np.argsort(series.nominal_tilt_deg, kind="stable") if used[i]]
        lowest = min(range(len(order)), key=lambda k: abs(series.nominal_tilt_deg[order[k]]))
        shift_px = np.zeros((len(series), 2))
        for chain in (order[lowest:], order[lowest::-1]):  # outwards from the view of the lowest tilt, on both sides
            for inner, outer in pairwise(chain):
                pair = pairs[frozenset((inner, outer))]
                along = pair.outer_from if pair.outer == outer else pair.inner_from
                shift_px[outer] = along(shift_px[inner])
        for axis in range(2):  # views that take no part get a shift between those of their neighbours in tilt
            sorted_tilts, sorted_shifts = series.nominal_tilt_deg[order], shift_px[order, axis]
            shift_px[~used, axis] = np.interp(series.nominal_tilt_deg[~used], sorted_tilts, sorted_shifts)

        weak = tuple(series.tilt_ids[p.outer] for p in pairs.values() if not p.trusted)
        return Alignment(
            series_name=series.name,
            tilt_ids=series.tilt_ids,
            geometry=ViewGeometry.nominal(series.nominal_tilt_deg, axis_deg).replace(
                shift_yx_angst=shift_px * series.pixel_size_angst
            ),
            pixel_size_angst=series.pixel_size_angst,
            image_shape_yx=series.image_shape_yx,
            included=used,
            reasons=tuple(tilt.reason for tilt in series.tilts),
            flags=(Flag("view_not_aligned", f"{len(weak)} pairs of views correlate weakly", weak),) if weak else (),
        )


CHAIN = ChainMethod()
"""What the entry point names."""
