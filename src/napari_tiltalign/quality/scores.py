"""``judge``: how good an alignment is, by evidence that does not depend on how it was made.

Nothing is aligned again. The evidence is what a pilot study found to rank alignments of one series correctly:

- where gold beads are visible, how well the alignment predicts beads that were found without it (`bead_witness`);
- how well every view agrees with what the views more than 10 degrees away predict of it (`agreement`);
- how sharp the reconstruction is (`sharpness`).

Agreement with neighbours and the correlation of half sets are not used, because they are blind to errors that
neighbours share. The score compares alignments of one series; it says nothing about different series.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadTiltSeries
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.agreement import Agreement, agreement
from napari_tiltalign.quality.bead_witness import BeadDetections, BeadWitness, bead_witness, detect_beads
from napari_tiltalign.quality.consistency import Consistency, consistency
from napari_tiltalign.quality.grading import Grade, graded
from napari_tiltalign.quality.preview import check_same_images, field_yx_angst, locate_slab
from napari_tiltalign.quality.slab import Slab
from napari_tiltalign.quality.view_scores import ViewScore, view_scores
from napari_tiltalign.quality.working_views import LEAST_VIEWS, WorkingViews, working_views

WORKING_SIZE_PX = 320
"""Images are binned to about this size."""

_SLAB_SIZE_PX = 160
HEIGHT = 0.4
"""Height of the reconstruction, part of the shorter side of the field: the same for all alignments of a series."""

_BEAD_SCALE = 0.01
"""Bead residual, part of the field, at which the score is 50."""
_LEAST = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What is known of the quality of an alignment.

    Attributes
    ----------
    series_name, method
        What was judged.
    score
        Higher is better. It compares alignments of one series, judged by the same version with the same settings.
    grade, reasons
        A summary for people, and why.
    parts
        The figures behind it, units in the names; NaN where one could not be measured.
    views
        Every view of the series, in its order.
    slab
        Where the specimen is, in the coordinates of the alignment.
    by_beads
        Whether the score rests on beads; it does if the series shows some.
    """

    series_name: str
    method: str
    score: float
    grade: Grade
    reasons: tuple[str, ...]
    parts: Mapping[str, float]
    views: tuple[ViewScore, ...]
    slab: Slab
    by_beads: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not known is None."""
        return {
            "series": self.series_name,
            "method": self.method,
            "score": _known(self.score),
            "grade": self.grade,
            "reasons": list(self.reasons),
            "score_rests_on": "beads" if self.by_beads else "images",
            "parts": {name: _known(value) for name, value in self.parts.items()},
            "views": [
                {name: _known(value) for name, value in view.to_dict().items()} for view in self.views
            ],
        }  # fmt: skip


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Judge:
    """Everything about a series that judging needs and no alignment changes; judges any number of alignments.

    Parameters
    ----------
    series
        The series; views it excludes take no part.
    use_beads
        Whether to look for beads.
    height_nm
        Height of the reconstruction, nanometres; 0 takes `HEIGHT` of the field.
    progress
        Told from 0 to 1.

    Raises
    ------
    BadTiltSeries
        If too few views can be used.
    """

    def __init__(
        self, series: TiltSeries, *, use_beads: bool = True, height_nm: float = 0.0, progress: Progress = silent
    ) -> None:
        self.series = series
        self._views, self._small = working_views(
            series, (WORKING_SIZE_PX, _SLAB_SIZE_PX), progress=lambda f, text: progress(0.6 * f, text)
        )
        self._height_angst = height_nm * 10.0
        self._beads: BeadDetections | None = None
        if use_beads:
            self._beads = detect_beads(series, progress=lambda f, text: progress(0.6 + 0.4 * f, text))

    @property
    def views(self) -> WorkingViews:
        """The views that are compared."""
        return self._views

    def __call__(self, alignment: Alignment, *, progress: Progress = silent) -> Scores:
        """Judge one alignment of the series; see `judge`."""
        series = self.series
        check_same_images(series, alignment)
        used = self._views.usable & alignment.included
        if used.sum() < LEAST_VIEWS:
            raise BadTiltSeries(
                series.name, f"the alignment includes {used.sum()} views that can be used; {LEAST_VIEWS} are needed"
            )
        slab = locate_slab(self._small, series, alignment.geometry, used)
        level = alignment.geometry.compose(slab.levelling()) if slab.is_certain else alignment.geometry
        field = field_yx_angst(series, level)
        height = self._height_angst or HEIGHT * float(field.min())
        agreed = agreement(
            self._views,
            level,
            used,
            pixel_size_angst=series.pixel_size_angst,
            image_shape_yx=series.image_shape_yx,
            field_yx_angst=field,
            height_angst=height,
            progress=progress,
        )
        beads = self._witness(alignment, used)
        geometry = consistency(series, alignment)
        views = view_scores(series, alignment, self._views, agreed, beads, geometry)
        parts = _parts(agreed, beads, geometry, slab, alignment, used) | {"reconstructed_nm": height / 10.0}
        field_px = float(min(series.image_shape_yx))
        grade, reasons = graded(parts, geometry, slab, views, beads, field_px)
        return Scores(
            series.name,
            alignment.provenance.method,
            _score(agreed, beads, field_px),
            grade,
            reasons,
            parts,
            views,
            slab,
            beads is not None,
        )

    def _witness(self, alignment: Alignment, used: NDArray[np.bool_]) -> BeadWitness | None:
        if self._beads is None:
            return None
        size, shape = self.series.pixel_size_angst, self.series.image_shape_yx
        return bead_witness(self._beads, alignment.geometry, used, pixel_size_angst=size, image_shape_yx=shape)


def judge(
    series: TiltSeries,
    alignment: Alignment,
    *,
    use_beads: bool = True,
    height_nm: float = 0.0,
    progress: Progress = silent,
) -> Scores:
    """Judge an alignment by evidence that does not depend on how it was made. Nothing is aligned again.

    To judge several alignments of one series, `Judge` prepares the images once.

    Parameters
    ----------
    series, alignment
        The series and an alignment of it, with the same images in the same order (`read_alignment(path, series)`).
    use_beads
        Whether to look for gold beads as witnesses.
    height_nm
        Height of the reconstruction, nanometres; 0 takes 0.4 of the shorter side of the field. It must hold the
        specimen, and be the same for alignments that are to be compared.
    progress
        Told how far it is; may raise `Cancelled`.

    Raises
    ------
    BadInput
        If the alignment is of other images.
    BadTiltSeries
        If too few views can be used.

    Examples
    --------
    >>> from napari_tiltalign import judge, read, read_alignment
    >>> series = read("tilt_series.star")["TS_01"]
    >>> scores = judge(series, read_alignment("truth/TS_01.json", series))
    >>> scores.grade
    'good'
    """
    check_same_images(series, alignment)
    prepared = Judge(series, use_beads=use_beads, height_nm=height_nm, progress=lambda f, text: progress(0.4 * f, text))
    return prepared(alignment, progress=lambda f, text: progress(0.4 + 0.6 * f, text))


def _score(agreed: Agreement, beads: BeadWitness | None, field_px: float) -> float:
    """One number: by beads where the series shows some, by its images otherwise.

    Which of the two depends on the series only. By beads it is 100 for no residual and 50 for one of 1 % of the field;
    by images it is 10 times the geometric mean of correlation and kurtosis, so a change of 1 % of either counts alike.
    """
    if beads is not None:
        return 100.0 / (1.0 + beads.residual_px / (_BEAD_SCALE * field_px))
    correlation = max(_mean(agreed.gap_correlation), _LEAST)
    return 10.0 * math.sqrt(correlation * max(agreed.kurtosis, _LEAST))


def _parts(
    agreed: Agreement,
    beads: BeadWitness | None,
    geometry: Consistency,
    slab: Slab,
    alignment: Alignment,
    used: NDArray[np.bool_],
) -> dict[str, float]:
    """The figures behind the score."""
    return {
        "gap_correlation": _mean(agreed.gap_correlation),
        "kurtosis": agreed.kurtosis,
        "offset_against_neighbours_px": agreed.typical_offset_px,
        "bead_residual_px": math.nan if beads is None or not beads.followed else beads.residual_px,
        "beads_followed": math.nan if beads is None else float(beads.n_beads),
        "beads_seen": math.nan if beads is None else float(beads.n_seeds),
        "axis_deg": alignment.axis_deg,
        "axis_from_nominal_deg": geometry.axis_from_nominal_deg,
        "axis_scatter_deg": geometry.axis_scatter_deg,
        "tilt_scatter_deg": geometry.tilt_scatter_deg,
        "thickness_nm": slab.thickness_angst / 10.0 if slab.is_certain else math.nan,
        "thickness_sd_nm": slab.thickness_sd_angst / 10.0 if slab.is_certain else math.nan,
        "height_nm": slab.height_angst / 10.0 if slab.is_certain else math.nan,
        "height_sd_nm": slab.height_sd_angst / 10.0 if slab.is_certain else math.nan,
        "tilt_about_axis_deg": slab.tilt_about_y_deg if slab.is_certain else math.nan,
        "tilt_across_axis_deg": slab.tilt_about_x_deg if slab.is_certain else math.nan,
        "tilt_sd_deg": slab.tilt_sd_deg if slab.is_certain else math.nan,
        "slab_contrast": slab.contrast,
        "views_used": float(used.sum()),
    }


def _mean(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
