"""``compare``: several alignments of one series side by side, the best of them, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput, TiltAlignError
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.difference import Difference, difference
from napari_tiltalign.quality.scores import Judge, Scores

LEAST_VIEWS_PART = 0.8
"""An alignment that leaves out more than a fifth of the views that another one aligned is not picked."""

CLEAR_RESIDUAL, CLEAR_IMAGES = 0.05, 0.01
"""Bead residuals that differ by less than this part of themselves do not decide, nor do figures of the images."""

_UNKNOWN_THICKNESS = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Entrant:
    """One of the alignments compared.

    Attributes
    ----------
    alignment
        As it came.
    scores
        On the views that all have in common; None if it could not be judged.
    difference
        From the best one, over the slab, a common motion taken out; None for the best one itself.
    remark
        Why it was not judged or cannot be picked; empty if neither.
    """

    alignment: Alignment
    scores: Scores | None
    difference: Difference | None
    remark: str


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Several alignments of one series.

    Attributes
    ----------
    series_name
        Of the series.
    entrants
        By name, the best first.
    best
        Name of the best one; empty if none could be judged.
    certain
        Whether the evidence is clear that it is better than the next.
    reason
        Why it was picked, in a sentence.
    """

    series_name: str
    entrants: Mapping[str, Entrant]
    best: str
    certain: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "series": self.series_name,
            "best": self.best or None,
            "certain": self.certain,
            "reason": self.reason,
            "alignments": {name: _entrant_dict(entrant) for name, entrant in self.entrants.items()},
        }


def _entrant_dict(entrant: Entrant) -> dict[str, Any]:
    apart = entrant.difference
    told: dict[str, Any] = {
        "views": int(entrant.alignment.included.sum()),
        "remark": entrant.remark,
        "scores": None if entrant.scores is None else entrant.scores.to_dict(),
        "from_best": None,
    }
    if apart is not None:
        per_view = zip(apart.tilt_ids, apart.per_view_rms_px, strict=True)
        told["from_best"] = {
            "rms_px": apart.rms_px,
            "axis_deg": None if np.isnan(apart.axis_difference_deg) else apart.axis_difference_deg,
            "hand_flipped": apart.hand_flipped,
            "per_view_rms_px": {tilt_id: None if np.isnan(rms) else float(rms) for tilt_id, rms in per_view},
        }
    return told


def compare(
    series: TiltSeries,
    alignments: Mapping[str, Alignment],
    *,
    use_beads: bool = True,
    progress: Progress = silent,
) -> Comparison:
    """Judge several alignments of a series on the same views, and pick the best.

    Parameters
    ----------
    series
        The series.
    alignments
        By name, such as that of the method; each with the images of the series in their order.
    use_beads
        Whether to look for gold beads as witnesses.
    progress
        Told how far it is; may raise `Cancelled`.

    Raises
    ------
    BadInput
        If there is nothing to compare, or an alignment is of other images.
    BadTiltSeries
        If too few views can be used.

    Examples
    --------
    >>> from napari_tiltalign import compare, read, read_alignment
    >>> series = read("tilt_series.star")["TS_01"]
    >>> good = read_alignment("truth/TS_01.json", series)
    >>> shaken_angst = good.geometry.shift_yx_angst + np.random.default_rng(0).normal(0.0, 20.0, (len(series), 2))
    >>> shaken = good.replace(geometry=good.geometry.replace(shift_yx_angst=shaken_angst))
    >>> compare(series, {"shaken": shaken, "good": good}).best
    'good'
    """
    if not alignments:
        raise BadInput(f"{series.name}: there is no alignment to judge")
    common, few = _common_views(alignments)
    judge = Judge(series, use_beads=use_beads, progress=lambda f, text: progress(0.2 * f, text))
    scores: dict[str, Scores | None] = {}
    remarks = dict(few)
    for number, (name, alignment) in enumerate(alignments.items()):
        progress(0.2 + 0.8 * number / len(alignments), f"judging {name}")
        try:
            scores[name] = judge(alignment.replace(included=common & alignment.included))
        except TiltAlignError as error:
            scores[name], remarks[name] = None, f"not judged: {error}"
    progress(1.0, "judged")
    order = sorted(alignments, key=lambda name: _rank(scores[name], eligible=name not in few))
    best = order[0] if scores[order[0]] is not None and order[0] not in few else ""
    able = [(name, found) for name in order if name not in few and (found := scores[name]) is not None]
    certain, reason = _verdict(able)
    entrants = {
        name: Entrant(
            alignments[name],
            scores[name],
            _from_best(series, alignments[name], alignments[best], scores[best]) if best and name != best else None,
            remarks.get(name, ""),
        )
        for name in order
    }
    return Comparison(series.name, entrants, best, certain, reason)


def _common_views(alignments: Mapping[str, Alignment]) -> tuple[NDArray[np.bool_], dict[str, str]]:
    """Views that all alignments include, but for those that include few; and what to say of these."""
    counts = {name: int(alignment.included.sum()) for name, alignment in alignments.items()}
    most = max(counts.values())
    few = {
        name: f"aligned only {count} views where another aligned {most}, so it is not picked"
        for name, count in counts.items()
        if count < LEAST_VIEWS_PART * most
    }
    included = [alignment.included for name, alignment in alignments.items() if name not in few]
    return np.logical_and.reduce(included), few


def _rank(scores: Scores | None, *, eligible: bool) -> tuple[bool, bool, float]:
    return scores is None, not eligible, -(0.0 if scores is None else scores.score)


def _verdict(able: list[tuple[str, Scores]]) -> tuple[bool, str]:
    """Whether the first is clearly better than the second, and why."""
    if not able:
        return False, "no alignment could be judged"
    name, best = able[0]
    if len(able) == 1:
        return False, f"{name} is the only one that could be judged"
    other, second = able[1]
    figure = ("bead_residual_px", "bead residual", "px") if best.by_beads else ("gap_correlation", "correlation", "")
    ours, theirs = best.parts[figure[0]], second.parts[figure[0]]
    text = f"{name} scores {best.score:.1f}, {other} {second.score:.1f}"
    if best.by_beads:
        certain = bool(np.isnan(theirs) or ours < (1.0 - CLEAR_RESIDUAL) * theirs)
        text += f" ({figure[1]} {ours:.2f} and {theirs:.2f} {figure[2]})"
    else:
        gains = ours / max(theirs, 1e-9) - 1.0, best.parts["kurtosis"] / max(second.parts["kurtosis"], 1e-9) - 1.0
        certain = min(gains) > 0.0 and max(gains) > CLEAR_IMAGES
        text += f" (correlation {100 * gains[0]:+.1f} %, sharpness {100 * gains[1]:+.1f} %)"
    return certain, text + ("" if certain else "; the difference is too small to be certain")


def _from_best(series: TiltSeries, alignment: Alignment, best: Alignment, scores: Scores | None) -> Difference | None:
    field = min(series.image_shape_yx) * series.pixel_size_angst
    slab = None if scores is None or not scores.slab.is_certain else scores.slab
    thickness = _UNKNOWN_THICKNESS * field if slab is None else slab.thickness_angst
    try:
        return difference(alignment, best, thickness_angst=thickness)
    except BadInput:  # no image in common, or none that sees the specimen
        return None
