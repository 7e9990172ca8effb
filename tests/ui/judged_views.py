"""Made-up scores of the views of a series."""

from __future__ import annotations

import dataclasses
from typing import Any

from napari_tiltalign.model import TiltSeries
from napari_tiltalign.quality.scores import Scores
from napari_tiltalign.quality.slab import Slab
from napari_tiltalign.quality.view_scores import ViewScore


def judged(series: TiltSeries, **special: dict[str, Any]) -> Scores:
    """Scores in which view k has 50 - k, and some views are special."""
    views = []
    for number, tilt in enumerate(series.tilts):
        plain = ViewScore(
            tilt.tilt_id, tilt.nominal_tilt_deg, True, 50.0 - number, (0.0, 0.0), float("nan"), -1.0, (), False
        )
        views.append(dataclasses.replace(plain, **special.get(tilt.tilt_id, {})))
    return Scores(
        "TS_1",
        "test",
        60.0,
        "good",
        (),
        {},
        tuple(views),
        Slab(0.0, 800.0, 0.0, 0.0, 9.0, 20.0, 40.0, 1.0, 0.4),
        by_beads=False,
    )
