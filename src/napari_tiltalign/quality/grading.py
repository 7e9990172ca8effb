"""A summary for people: good, fair or poor, with the reasons. The limits are parts of the field, or degrees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from napari_tiltalign.quality.bead_witness import BeadWitness
from napari_tiltalign.quality.consistency import Consistency
from napari_tiltalign.quality.slab import Slab
from napari_tiltalign.quality.view_scores import ViewScore

Grade = Literal["good", "fair", "poor"]

GOOD_BEADS, FAIR_BEADS = 0.002, 0.005
"""Bead residuals up to these parts of the field are good, and fair: 1 and 2.6 px in images of 512 px."""

GOOD_OFFSET, FAIR_OFFSET = 0.002, 0.005
"""The same for displacements against the neighbours: 0.2 px for perfect alignments, blind to shared errors."""

FAIR_CORRELATION = 0.03
"""Below this correlation, views beyond the gap predict next to nothing."""

MANY_BAD_VIEWS = 0.15
"""If more than this part of the views stands out, the alignment is at best fair."""

NOT_LEVEL_DEG = 3.0
UNSTEADY_AXIS_DEG, UNSTEADY_TILT_DEG = 0.5, 1.0

_ORDER: tuple[Grade, ...] = ("good", "fair", "poor")


def graded(
    parts: Mapping[str, float],
    geometry: Consistency,
    slab: Slab,
    views: Sequence[ViewScore],
    beads: BeadWitness | None,
    field_px: float,
) -> tuple[Grade, tuple[str, ...]]:
    """Return the grade, and the reasons for it, the most important first."""
    findings = [
        *_by_beads(beads, field_px),
        *_by_images(parts, beads, field_px),
        *_by_views(views),
        *_by_geometry(geometry),
    ]
    worst = max((_ORDER.index(grade) for grade, _ in findings), default=0)
    reasons = [text for _, text in sorted(findings, key=lambda finding: -_ORDER.index(finding[0]))]
    return _ORDER[worst], (*reasons, *_about_the_slab(slab, parts["reconstructed_nm"]), *_cannot_tell(beads))


def _limited(value: float, good: float, fair: float) -> Grade:
    if value <= good:
        return "good"
    return "fair" if value <= fair else "poor"


def _by_beads(beads: BeadWitness | None, field_px: float) -> list[tuple[Grade, str]]:
    if beads is None:
        return []
    if not beads.followed:
        return [
            ("poor", f"of about {beads.n_seeds} beads in a view, {beads.n_beads} could be followed through the tilts")
        ]
    text = (
        f"{beads.n_beads} independent beads lie {beads.residual_px:.2f} px (rms) from where the alignment predicts them"
    )
    return [(_limited(beads.residual_px / field_px, GOOD_BEADS, FAIR_BEADS), text)]


def _by_images(parts: Mapping[str, float], beads: BeadWitness | None, field_px: float) -> list[tuple[Grade, str]]:
    found: list[tuple[Grade, str]] = []
    offset = parts["offset_against_neighbours_px"]
    if not math.isfinite(offset) and beads is None:
        found.append(("fair", "neighbouring views do not predict each other clearly enough to see displacements"))
    elif math.isfinite(offset):
        text = f"views lie {offset:.1f} px (typically) from where their neighbours predict them"
        grade = _limited(offset / field_px, GOOD_OFFSET, FAIR_OFFSET)
        if beads is not None and beads.followed:
            grade = "good"  # beads know better: this is for information
        found.append((grade, text))
    correlation = parts["gap_correlation"]
    if beads is None and not correlation > FAIR_CORRELATION:
        text = f"views more than 10° away predict next to nothing of a view (correlation {correlation:.3f})"
        found.append(("poor", text))
    return found


def _by_views(views: Sequence[ViewScore]) -> list[tuple[Grade, str]]:
    used = [view for view in views if view.used]
    odd = [view for view in used if view.reasons]
    if not odd:
        return []
    named = ", ".join(f"{view.tilt_deg:+.0f}°" for view in odd[:5]) + (", ..." if len(odd) > 5 else "")
    grade: Grade = "fair" if len(odd) > MANY_BAD_VIEWS * len(used) else "good"
    return [(grade, f"{len(odd)} of {len(used)} views stand out ({named})")]


def _by_geometry(geometry: Consistency) -> list[tuple[Grade, str]]:
    found: list[tuple[Grade, str]] = [("fair", text) for text in geometry.remarks]
    if geometry.axis_scatter_deg > UNSTEADY_AXIS_DEG:
        found.append(("fair", f"the tilt axis turns by {geometry.axis_scatter_deg:.1f}° from view to view"))
    if geometry.tilt_scatter_deg > UNSTEADY_TILT_DEG:
        found.append(("fair", f"tilts differ from the stage's by {geometry.tilt_scatter_deg:.1f}°"))
    return found


def _about_the_slab(slab: Slab, reconstructed_nm: float) -> list[str]:
    if doubt := slab.doubt:
        return [f"level and thickness of the specimen are not known, its slab does not stand out: {doubt}"]
    tilts, sd = (slab.tilt_about_y_deg, slab.tilt_about_x_deg), slab.tilt_sd_deg
    found = [f"the slab is {slab.thickness_in_words} thick"]
    if max(map(abs, tilts)) > NOT_LEVEL_DEG + sd:
        found[0] += f" and not level: {tilts[0]:+.1f}° about the tilt axis, {tilts[1]:+.1f}° across it (± {sd:.1f}°)"
    else:
        found[0] += f" and level as far as can be told (± {max(sd, 0.1):.1f}°)"
    if slab.thickness_angst / 10.0 > reconstructed_nm:
        found.append(
            f"only {reconstructed_nm:.0f} nm of its height were reconstructed; judge with a height of "
            f"{1.2 * slab.thickness_angst / 10.0:.0f} nm (--height-nm), and all alignments that are compared with it"
        )
    return found


def _cannot_tell(beads: BeadWitness | None) -> list[str]:
    if beads is not None:
        return []
    return ["without beads an error of the tilt axis below 1° and slow drifts below a pixel are not judged"]
