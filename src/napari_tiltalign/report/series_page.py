"""What the report says of one series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup
from scipy import ndimage

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.images.finite import finite_pixels
from napari_tiltalign.images.prepare import bin_image
from napari_tiltalign.images.transform import aligned_to_raw, aligned_view
from napari_tiltalign.methods.drivers import DETAILS_KEY as DECIDED_BY
from napari_tiltalign.model import Alignment, TiltSeries
from napari_tiltalign.quality.preview import preview
from napari_tiltalign.quality.views import view_residual_px
from napari_tiltalign.report.pictures import SIDE_PX, Curve, error_map, grey_jpeg, plot, section_with_slab


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its caption."""

    caption: str
    uri: str = ""
    svg: Markup | None = None


@dataclass(frozen=True, slots=True)
class SeriesPage:
    """What is said of one series.

    Attributes
    ----------
    name
        Of the series.
    anchor
        Where it is on the page.
    grade
        good, fair, poor; failed; empty if it was not judged.
    figures
        The row of the table by column; None where nothing is known.
    reasons, flags, problems
        Sentences: why the grade, what the method warned about, what could not be shown.
    certainty
        How sure the method is, in one sentence.
    plots, pictures
        To be looked at.
    views
        One row for each view: text by column.
    """

    name: str
    anchor: str
    grade: str = ""
    figures: dict[str, float | None] = field(default_factory=dict)
    method: str = ""
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    certainty: str = ""
    plots: tuple[Markup, ...] = ()
    pictures: tuple[Picture, ...] = ()
    views: tuple[dict[str, Any], ...] = ()


COLUMNS = {
    "score": "score",
    "views": "views",
    "residual_px": "residual px",
    "beads_px": "beads px",
    "axis_deg": "axis °",
    "thickness_nm": "thickness nm",
    "level_deg": "off level °",
    "odd_views": "odd views",
}
"""Figures of the table and their titles."""


def series_page(
    anchor: str,
    alignment: Alignment,
    series: TiltSeries | None,
    scores: dict[str, Any] | None,
    *,
    pictures: bool = True,
) -> SeriesPage:
    """Gather what there is to say of a series.

    Parameters
    ----------
    anchor
        Where it is on the page.
    alignment
        Of the series.
    series
        The series with its images; None if it cannot be read.
    scores
        From `Scores.to_dict`; None if it was not judged.
    pictures
        Whether to show images, which takes a few seconds.
    """
    shown: tuple[Picture, ...] = ()
    problems: list[str] = []
    if pictures and series is not None:
        try:
            shown = _pictures(series, alignment)
        except (TiltAlignError, OSError) as error:
            problems.append(f"no pictures: {error}")
    elif pictures:
        problems.append("no pictures: the images cannot be read")
    view_rows = (scores or {}).get("views", [])
    return SeriesPage(
        name=alignment.series_name,
        anchor=anchor,
        grade=(scores or {}).get("grade", ""),
        figures=_figures(alignment, scores),
        method=alignment.provenance.method,
        reasons=tuple((scores or {}).get("reasons", ())),
        flags=tuple(f"{flag.meaning} {flag.detail}" for flag in alignment.flags),
        problems=tuple(problems),
        certainty=" ".join(filter(None, (_certainty(alignment), alignment.details.get(DECIDED_BY)))),
        plots=_plots(alignment, view_rows),
        pictures=(*shown, *_error_map(alignment)),
        views=_view_table(alignment, view_rows),
    )


def _figures(alignment: Alignment, scores: dict[str, Any] | None) -> dict[str, float | None]:
    parts = (scores or {}).get("parts", {})
    tilts = [
        abs(parts[name]) for name in ("tilt_about_axis_deg", "tilt_across_axis_deg") if parts.get(name) is not None
    ]
    odd = [view for view in (scores or {}).get("views", ()) if view["used"] and view["reasons"]]
    return {
        "score": (scores or {}).get("score"),
        "views": float(alignment.included.sum()),
        "residual_px": _known(alignment.statistics.get("residual_rms_px")),
        "beads_px": parts.get("bead_residual_px"),
        "axis_deg": _known(alignment.axis_deg),
        "thickness_nm": parts.get("thickness_nm"),
        "level_deg": max(tilts) if tilts else None,
        "odd_views": float(len(odd)) if scores else None,
    }


def _known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _certainty(alignment: Alignment) -> str:
    """How sure the method is of the axis and of the field; says so where it does not know."""
    sd = alignment.uncertainty
    error = None if sd is None else sd.expected_error
    if sd is None:
        return "The method has not estimated how sure it is."
    axis = "axis not estimated" if math.isnan(sd.axis_deg) else f"axis {alignment.axis_deg:.2f} ± {sd.axis_deg:.2g}°"
    if error is None:
        return f"By the method's own error bars (one standard deviation): {axis}; error over the field not estimated."
    over = error.overall_angst / alignment.pixel_size_angst
    return (
        f"By the method's own error bars (one standard deviation): {axis}; places of the specimen are expected to be "
        f"seen {over:.2f} px ({error.overall_angst / 10.0:.2f} nm) from where they are, rms."
    )


def _error_map(alignment: Alignment) -> tuple[Picture, ...]:
    sd = alignment.uncertainty
    if sd is None or sd.expected_error is None:
        return ()
    rms_px = sd.expected_error.rms_angst / alignment.pixel_size_angst
    caption = "expected error over the field, px (rms over the views)"
    return (Picture(caption, svg=error_map(rms_px, alignment.image_shape_yx)),)


def _plots(alignment: Alignment, views: Sequence[dict[str, Any]]) -> tuple[Markup, ...]:
    tilt = alignment.geometry.y_tilt_deg
    used = alignment.included
    shift = np.where(used[:, None], alignment.geometry.shift_yx_angst / 10.0, np.nan)
    turn = np.where(used, alignment.geometry.z_rot_deg - alignment.axis_deg, np.nan)
    sd = alignment.uncertainty
    drawn = [plot("shift, nm", tilt, [Curve("along y", shift[:, 0]), Curve("along x", shift[:, 1])])]
    if np.nanmax(np.abs(turn), initial=0.0) > 1e-6:
        drawn.append(
            plot(
                f"axis minus {alignment.axis_deg:.2f}, degrees",
                tilt,
                [Curve("axis", turn, None if sd is None else sd.z_rot_deg)],
            )
        )
    if sd is not None:
        shift_sd = np.hypot(*sd.shift_yx_angst.T) / alignment.pixel_size_angst
        drawn.append(plot("error bar of the shift, px", tilt, [Curve("shift", shift_sd)]))
        drawn.append(plot("error bar of the tilt, degrees", tilt, [Curve("tilt", sd.y_tilt_deg)]))
    drawn.append(plot("residual of the method, px", tilt, [Curve("residual", view_residual_px(alignment))]))
    if len(views) == len(alignment):
        odd = np.array([bool(view["used"] and view["reasons"]) for view in views])

        def column(name: str) -> np.ndarray:
            return np.array([np.nan if view[name] is None else view[name] for view in views], dtype=float)

        drawn.append(plot("score of the views", tilt, [Curve("score", column("score"))], odd))
        offset = np.hypot(column("offset_y_px"), column("offset_x_px"))
        drawn.append(plot("off what neighbours predict, px", tilt, [Curve("offset", offset)], odd))
        drawn.append(plot("residual of independent beads, px", tilt, [Curve("beads", column("bead_residual_px"))], odd))
    return tuple(svg for svg in drawn if svg)


def _pictures(series: TiltSeries, alignment: Alignment) -> tuple[Picture, ...]:
    """The view at the lowest tilt, raw and aligned, and sections of a small tomogram."""
    used = np.flatnonzero(alignment.included & series.included)
    if not used.size:
        return ()
    central = int(used[np.argmin(np.abs(alignment.geometry.y_tilt_deg[used]))])
    image, _ = finite_pixels(series.tilts[central].image.load()[0])
    binning = max(1, -(-max(image.shape) // SIDE_PX))
    small = ndimage.gaussian_filter(bin_image(image, binning), 0.7)
    matrix = aligned_to_raw(
        alignment.geometry, central, series.pixel_size_angst, series.image_shape_yx, binning=binning
    )  # fmt: skip
    tilt = f"{alignment.geometry.y_tilt_deg[central]:+.1f}°"
    tomogram = preview(series, alignment, size_px=SIDE_PX, level=False)
    slices = tomogram.slices()
    slab = tomogram.slab
    section: dict[str, Any] = {"uri": grey_jpeg(slices["xz"][::-1])}
    caption = "tomogram, across the tilt axis and along the beam"
    if slab.is_certain:
        section = {"svg": section_with_slab(slices["xz"], tomogram.slab_edges_voxels())}
        caption += f"; slab of {slab.thickness_in_words}, {slab.tilt_about_y_deg:+.1f}°"
    return (
        Picture(f"view at {tilt}, as read", uri=grey_jpeg(small)),
        Picture(f"view at {tilt}, aligned", uri=grey_jpeg(aligned_view(small, matrix))),
        Picture("tomogram, middle of the specimen", uri=grey_jpeg(slices["xy"])),
        Picture(caption, **section),
    )


def _view_table(alignment: Alignment, views: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    rows = []
    residual = view_residual_px(alignment)
    judged = views if len(views) == len(alignment) else [{}] * len(alignment)
    for i in np.argsort(alignment.geometry.y_tilt_deg, kind="stable"):
        view = judged[i]
        offset = (
            math.hypot(view["offset_y_px"], view["offset_x_px"])
            if view.get("offset_y_px") is not None and view.get("offset_x_px") is not None
            else None
        )
        reasons = list(view.get("reasons", ())) or ([alignment.reasons[i]] if alignment.reasons[i] else [])
        rows.append(
            {
                "name": alignment.tilt_ids[i],
                "tilt": float(alignment.geometry.y_tilt_deg[i]),
                "used": bool(alignment.included[i]),
                "shift_y": float(alignment.geometry.shift_yx_angst[i, 0]) / 10.0,
                "shift_x": float(alignment.geometry.shift_yx_angst[i, 1]) / 10.0,
                "residual": _known(float(residual[i])),
                "score": view.get("score"),
                "offset": offset,
                "beads": view.get("bead_residual_px"),
                "gain": view.get("gain_percent"),
                "remarks": "; ".join(reasons),
                "consider": bool(view.get("suggest_exclusion")),
            }
        )
    return tuple(rows)
