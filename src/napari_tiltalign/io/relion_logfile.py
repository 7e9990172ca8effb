"""``logfile.pdf`` of an alignment job, with the plots that RELION makes, drawn from the results as they are now.

For every series the tilts and the shifts over the images by ascending tilt, and the defocus with its score where the
program that aligned has measured them; for the whole set every figure of the
global table over the series, with its histogram if there are more than three.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.io.files import write_atomic

_MARGIN_PT, _PLOT_HEIGHT_PT = 50.0, 200.0
_COLOURS = ("blue", "red")
_LEAST_FOR_HISTOGRAM = 4


@dataclass(frozen=True, slots=True, eq=False)
class SeriesCurves:
    """What is plotted of one series, images by ascending nominal tilt.

    Attributes
    ----------
    name
        Of the series.
    nominal_tilt_deg, y_tilt_deg
        Shape (n,).
    shift_yx_angst
        Shape (n, 2).
    defocus_uv_angst
        Shape (n, 2): largest and smallest defocus, if it was measured along with the alignment; otherwise None.
    ctf_score
        Shape (n,): figure of merit of the defocus, or None.
    """

    name: str
    nominal_tilt_deg: FloatArray
    y_tilt_deg: FloatArray
    shift_yx_angst: FloatArray
    defocus_uv_angst: FloatArray | None = None
    ctf_score: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    label: str
    values: Sequence[float]


def write_logfile(path: Path, curves: Sequence[SeriesCurves], figures: Mapping[str, Sequence[float]]) -> None:
    """Write the plots.

    Parameters
    ----------
    path
        The PDF. Equal contents give equal bytes.
    curves
        Every series.
    figures
        Name of a figure to its values, one for each series in the same order; NaN where it is not known.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=True)
    canvas.setTitle("Alignment of tilt series")
    width, height = A4
    top = height - _MARGIN_PT
    for title, x_label, lines in _plots(curves, figures):
        if top - _PLOT_HEIGHT_PT < _MARGIN_PT:
            canvas.showPage()
            top = height - _MARGIN_PT
        _draw(canvas, title, x_label, lines, top - _PLOT_HEIGHT_PT, width - 2 * _MARGIN_PT)
        top -= _PLOT_HEIGHT_PT + 20
    canvas.showPage()
    canvas.save()
    write_atomic(path, buffer.getvalue())


def _plots(
    curves: Sequence[SeriesCurves], figures: Mapping[str, Sequence[float]]
) -> Iterator[tuple[str, str, list[_Line]]]:
    """Title, name of the x axis and lines of every plot."""
    for name, values in figures.items():
        known = [value for value in values if math.isfinite(value)]
        if not known:
            continue
        yield f"{name} of every series", "series", [_Line(name, values)]
        if len(known) >= _LEAST_FOR_HISTOGRAM:
            counts, edges = np.histogram(known, bins="auto")
            yield (
                f"{name}: {edges[0]:.4g} to {edges[-1]:.4g}, number of series in {len(counts)} equal steps",
                "step",
                [_Line("number of series", counts.tolist())],
            )
    for one in curves:
        nominal, aligned = one.nominal_tilt_deg.tolist(), one.y_tilt_deg.tolist()
        tilts = [_Line("nominal stage tilt", nominal), _Line("aligned tilt", aligned)]
        yield f"{one.name}: tilts (degrees)", "image", tilts
        shifts = [_Line(axis, one.shift_yx_angst[:, k].tolist()) for axis, k in (("x", 1), ("y", 0))]
        yield f"{one.name}: shifts (Angstrom)", "image", shifts
        if one.defocus_uv_angst is not None:
            defocus = [_Line(f"defocus {axis}", one.defocus_uv_angst[:, k].tolist()) for k, axis in enumerate("UV")]
            yield f"{one.name}: defocus (Angstrom)", "image", defocus
        if one.ctf_score is not None:
            yield f"{one.name}: score of the CTF", "image", [_Line("figure of merit", one.ctf_score.tolist())]


def _draw(canvas: object, title: str, x_label: str, lines: Sequence[_Line], bottom_pt: float, width_pt: float) -> None:
    from reportlab.graphics import renderPDF
    from reportlab.graphics.charts.legends import LineLegend
    from reportlab.graphics.charts.lineplots import LinePlot
    from reportlab.graphics.shapes import Drawing, String
    from reportlab.graphics.widgets.markers import makeMarker
    from reportlab.lib import colors

    drawing = Drawing(width_pt, _PLOT_HEIGHT_PT)
    plot = LinePlot()
    plot.x, plot.y, plot.width, plot.height = 40, 30, width_pt - 50, _PLOT_HEIGHT_PT - 70
    plot.data = [_points(line.values) for line in lines]
    low, high = _range([y for points in plot.data for _x, y in points])
    plot.yValueAxis.valueMin, plot.yValueAxis.valueMax = low, high
    last = max(len(line.values) for line in lines) + 1
    plot.xValueAxis.valueMin, plot.xValueAxis.valueMax, plot.xValueAxis.valueStep = 0, last, max(1, last // 8)
    plot.yValueAxis.labelTextFormat = "%.4g"
    plot.xValueAxis.labelTextFormat = "%d"
    for k in range(len(lines)):
        plot.lines[k].strokeColor = getattr(colors, _COLOURS[k])
        plot.lines[k].symbol = makeMarker("FilledCircle", size=2.5)
    drawing.add(plot)
    drawing.add(String(0, _PLOT_HEIGHT_PT - 12, _printable(title), fontSize=11))
    drawing.add(String(plot.x + plot.width / 2, 5, x_label, fontSize=8))
    legend = LineLegend()
    legend.x, legend.y, legend.fontSize = plot.x, _PLOT_HEIGHT_PT - 22, 8
    legend.alignment, legend.columnMaximum = "right", 1
    legend.colorNamePairs = [(getattr(colors, _COLOURS[k]), line.label) for k, line in enumerate(lines)]
    drawing.add(legend)
    renderPDF.draw(drawing, canvas, _MARGIN_PT, bottom_pt)


def _points(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(float(k), float(value)) for k, value in enumerate(values, start=1) if math.isfinite(value)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis that hold all values, a little apart from each other even if they are all equal."""
    found: NDArray[np.float64] = np.array(values or [0.0])
    low, high = float(found.min()), float(found.max())
    margin = 0.05 * (high - low) or max(abs(high), 1.0) * 0.05
    return low - margin, high + margin


def _printable(text: str) -> str:
    """Text in the letters that every PDF reader has, others as question marks, and no longer than fits."""
    plain = text.encode("latin-1", "replace").decode("latin-1")
    return "".join(letter if letter.isprintable() else "?" for letter in plain)[:110]
