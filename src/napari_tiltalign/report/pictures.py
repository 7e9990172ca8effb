"""Pictures inside of the page: images as JPEG data, curves as SVG. Nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image as Pillow

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.prepare import bin_image

SIDE_PX = 256
"""Longest side of a picture."""

_QUALITY = 72
_WIDTH, _HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 18, 30
_COLOURS = ("#0b6e99", "#c4552d", "#4f7d3a")


def grey_jpeg(image: NDArray[np.float32], *, side_px: int = SIDE_PX) -> str:
    """Return an image as a data URI, grey from the 1st to the 99th percentile; NaN is white."""
    small = bin_image(image, max(1, -(-max(image.shape) // side_px)))
    known = small[np.isfinite(small)]
    low, high = np.percentile(known, (1.0, 99.0)) if known.size else (0.0, 1.0)
    grey = np.clip((np.nan_to_num(small, nan=float(high)) - low) / max(float(high - low), 1e-12), 0.0, 1.0)
    stored = io.BytesIO()
    Pillow.fromarray((255.0 * grey).astype(np.uint8)).save(stored, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stored.getvalue()).decode("ascii")


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One quantity of every view.

    Attributes
    ----------
    label
        What it is.
    values
        Shape (n,), NaN where it is not known.
    sd
        Shape (n,): standard deviations to draw as bars, NaN where they are not known; None for no bars.
    """

    label: str
    values: FloatArray
    sd: FloatArray | None = None


def plot(title: str, tilt_deg: FloatArray, curves: Sequence[Curve], marked: NDArray[np.bool_] | None = None) -> Markup:
    """Draw quantities of views over their tilt.

    Parameters
    ----------
    title
        What is drawn, with its unit.
    tilt_deg
        Shape (n,).
    curves
        What to draw; labels are written where there are several.
    marked
        Shape (n,): views to mark.

    Returns
    -------
    Markup
        An ``svg`` element; empty if nothing is known.
    """
    order = np.argsort(tilt_deg, kind="stable")
    known = np.concatenate([curve.values[np.isfinite(curve.values)] for curve in curves])
    if not known.size:
        return Markup("")
    low, high = min(float(known.min()), 0.0), max(float(known.max()), 0.0)
    low, high = (low, high) if high > low else (low, low + 1.0)
    x_range = float(tilt_deg.min()), max(float(tilt_deg.max()), float(tilt_deg.min()) + 1.0)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_range[0]) / (x_range[1] - x_range[0]) * (_WIDTH - _LEFT - _RIGHT) + _LEFT
        return across, _HEIGHT - _BOTTOM - (y - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text x="{_LEFT}" y="12" class="t">{escape(title)}</text>',
    ]
    for value in _ticks(low, high):
        y = place(0.0, value)[1]
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="g"/>')
        parts.append(f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{value:g}</text>')
    for value in _ticks(*x_range):
        x = place(value, low)[0]
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 13}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">tilt, degrees</text>')
    for number, (curve, colour) in enumerate(zip(curves, _COLOURS, strict=False)):
        bars = "" if curve.sd is None else _bars(tilt_deg, curve.values, curve.sd, place, (low, high))
        if bars:
            parts.append(f'<path d="{bars}" stroke="{colour}" stroke-width="1" opacity=".5"/>')
        for run in _runs(curve.values[order]):
            points = [place(float(tilt_deg[order[i]]), float(curve.values[order[i]])) for i in run]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
            dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
            parts.append(f'<path d="{dots}" stroke="{colour}" class="d"/>')
        if len(curves) > 1:
            x = _LEFT + 70 * number
            parts.append(f'<text x="{x}" y="{_HEIGHT - 4}" style="fill:{colour}">{escape(curve.label)}</text>')
    if marked is not None:
        for i in np.flatnonzero(marked & np.isfinite(curves[0].values)):
            x, y = place(float(tilt_deg[i]), float(curves[0].values[i]))
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="m"/>')
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 (numbers, and text that is escaped)


def _bars(
    tilt_deg: FloatArray, values: FloatArray, sd: FloatArray, place: Callable[[float, float], tuple[float, float]],
    limits: tuple[float, float],
) -> str:  # fmt: skip
    """Path of the error bars, cut off where the plot ends."""
    parts = []
    for i in np.flatnonzero(np.isfinite(values) & np.isfinite(sd)):
        ends = np.clip([values[i] - sd[i], values[i] + sd[i]], *limits)
        (x, first), (_, last) = (place(float(tilt_deg[i]), float(end)) for end in ends)
        parts.append(f"M{x:.1f} {first:.1f}V{last:.1f}")
    return "".join(parts)


def error_map(rms_px: FloatArray, image_shape_yx: tuple[int, int]) -> Markup:
    """Draw the expected error over the field as a table of shades with its numbers.

    Parameters
    ----------
    rms_px
        Shape (r, c), pixels; NaN where nothing is known.
    image_shape_yx
        Of the images, for the proportions.
    """
    rows, columns = rms_px.shape
    width, height = SIDE_PX, SIDE_PX * image_shape_yx[0] / image_shape_yx[1]
    known = rms_px[np.isfinite(rms_px)]
    most = float(known.max()) if known.size else 1.0
    parts = [f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="expected error over the field">']
    for (row, column), value in np.ndenumerate(rms_px):
        x, y = column * width / columns, row * height / rows  # y downwards, as the pictures of the views
        shade = 0.0 if not np.isfinite(value) else 0.08 + 0.5 * value / max(most, 1e-12)
        text = "–" if not np.isfinite(value) else f"{value:.2g}" if value < 10 else f"{value:.0f}"
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width / columns:.1f}" height="{height / rows:.1f}" fill="#c4552d" '
            f'fill-opacity="{shade:.2f}"/><text x="{x + width / columns / 2:.1f}" y="{y + height / rows / 2 + 4:.1f}" '
            f'text-anchor="middle" style="font-size:13px">{text}</text>'
        )
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 (numbers of our own)


def _runs(values: FloatArray) -> list[list[int]]:
    """Indices of values that are known, in unbroken runs."""
    runs: list[list[int]] = [[]]
    for index, value in enumerate(values):
        if np.isfinite(value):
            runs[-1].append(index)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers within a range."""
    rough = (high - low) / 4.0
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough)
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [round(k * step, 10) + 0.0 for k in range(first, last + 1)]


def section_with_slab(section: NDArray[np.float32], edges: FloatArray) -> Markup:
    """Draw a section (z, x) with the two edges of the slab.

    Parameters
    ----------
    section
        Shape (z, x); z is drawn upwards.
    edges
        Shape (2, 2): (bottom, top), voxels, at the first and the last voxel along x.
    """
    depth, width = section.shape
    picture = grey_jpeg(section[::-1], side_px=max(section.shape))
    lines = "".join(
        f'<line x1="0" x2="{width}" y1="{depth - edges[0, k]:.1f}" y2="{depth - edges[1, k]:.1f}" class="s"/>'
        for k in (0, 1)
    )
    return Markup(  # noqa: S704 (numbers, and data of our own making)
        f'<svg viewBox="0 0 {width} {depth}" role="img" aria-label="section along the beam with the slab">'
        f'<image href="{picture}" width="{width}" height="{depth}"/>{lines}</svg>'
    )
