"""``write_report``: the page of a folder of results, and its figures as a table."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from napari_tiltalign.errors import BadInput, Cancelled, TiltAlignError
from napari_tiltalign.io import read
from napari_tiltalign.io.convert import for_series
from napari_tiltalign.io.files import read_facts, write_atomic
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.record import read_record
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.model import Alignment, Dataset, TiltSeries
from napari_tiltalign.quality.scores import judge
from napari_tiltalign.report.series_page import COLUMNS, SeriesPage, series_page

_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_log = logging.getLogger(__name__)
_MOST_FAILED = 20
"""Failures that fit on the first screen of the page."""
SCORES_FILE = "scores.json"
"""Beside the alignment of a series: what judging it gave, with the checksum of the alignment that was judged."""


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What goes into a report.

    Attributes
    ----------
    judged
        Whether to judge alignments that were not judged before, which takes about half a minute for each.
    pictures
        Whether to show views and sections of tomograms, which takes a few seconds for each series.
    source
        Where the series are, if not where `run.json` says.
    """

    judged: bool = True
    pictures: bool = True
    source: str = ""


def write_report(
    folder: str | Path, options: ReportOptions | None = None, *, progress: Progress = silent
) -> tuple[Path, Path]:
    """Write ``report.html`` and ``scores.csv`` into a folder of results.

    Parameters
    ----------
    folder
        The output folder of an alignment.
    options
        What goes into it.
    progress
        Told from 0 to 1 with the name of the series; may raise `Cancelled`.

    Returns
    -------
    page, table
        The two files.

    Raises
    ------
    BadInput
        If the folder holds no results.
    """
    options = options or ReportOptions()
    if not Path(folder).is_dir():
        raise BadInput(f"{folder} is no folder; give the one that align has written its results in (--output)")
    results = OutputFolder(Path(folder))
    run = _run_record(results)
    dataset, problem = _dataset(options.source or str(run.get("input", "")))
    names = _names(results, dataset, run)
    if not names:
        raise BadInput(f"{folder} holds no alignments of this program (external/NAME/alignment.json)")
    pages = []
    for number, name in enumerate(names):
        progress(number / len(names), name)
        pages.append(_page(f"s{number}", name, results, dataset, run, options, _part(progress, number, names)))
    progress(1.0, "writing")
    page, table = results.root / "report.html", results.root / "scores.csv"
    write_atomic(page, _html(results, pages, run, problem))
    write_atomic(table, scores_csv(pages))
    return page, table


def _part(progress: Progress, number: int, names: list[str]) -> Progress:
    """Progress within one series."""
    return lambda fraction, message: progress((number + fraction) / len(names), names[number])


def _run_record(results: OutputFolder) -> Mapping[str, Any]:
    try:
        found = read_facts(results.run_record)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{results.run_record} cannot be read: {error}") from error
    are_tables = all(isinstance(found.get(key, {}), dict) for key in ("series", "options", "versions"))
    is_known = are_tables and all(isinstance(one, dict) for one in found.get("series", {}).values())
    if not is_known or not isinstance(found.get("command", []), list):
        raise BadInput(f"{results.run_record} is no record of a run of this program")
    return found


def _dataset(source: str) -> tuple[Dataset | None, str]:
    """The series, or why they are not there: a report is better without pictures than not at all."""
    if not source:
        return None, "The input is not known, so there are no pictures and no scores; give it with --input."
    try:
        return read(source), ""
    except (TiltAlignError, OSError) as error:
        return None, f"The input cannot be read, so there are no pictures and no scores: {error}"


def _names(results: OutputFolder, dataset: Dataset | None, run: Mapping[str, Any]) -> list[str]:
    told = list(run.get("series", {}))
    if dataset is not None:
        here = [s.name for s in dataset if results.alignment_record(s.name).is_file()]
        order = [s.name for s in dataset if s.name in told or s.name in here]
        return order + [name for name in told if name not in order]
    records = (read_record(path).series_name for path in sorted(results.root.glob("external/*/alignment.json")))
    return list(dict.fromkeys([*told, *records]))


def _page(
    anchor: str,
    name: str,
    results: OutputFolder,
    dataset: Dataset | None,
    run: Mapping[str, Any],
    options: ReportOptions,
    progress: Progress,
) -> SeriesPage:
    outcome = run.get("series", {}).get(name, {})
    record = results.alignment_record(name)
    if outcome.get("result") == "failed" or not record.is_file():
        reason = outcome.get("reason") or "there is no alignment"
        return SeriesPage(name, anchor, "failed", dict.fromkeys(COLUMNS), problems=(str(reason),))
    try:
        alignment = read_record(record)
        series = next((s for s in dataset or () if s.name == name), None)
        if series is not None:
            alignment = for_series(alignment, series)
        scores = _scores(results, name, alignment, series, progress, judged=options.judged)
        return series_page(anchor, alignment, series, scores, pictures=options.pictures)
    except Cancelled:
        raise
    except (TiltAlignError, OSError) as error:
        problem = str(error)
    except Exception as error:  # a bug, which must not cost the user the report
        _log.exception("%s: internal error", name)
        problem = f"internal error, please report it with the log: {type(error).__name__}: {error}"
    return SeriesPage(name, anchor, "failed", dict.fromkeys(COLUMNS), problems=(problem,))


def _scores(
    results: OutputFolder,
    name: str,
    alignment: Alignment,
    series: TiltSeries | None,
    progress: Progress,
    *,
    judged: bool,
) -> dict[str, Any] | None:
    """Scores of an alignment: those that lie beside it if it is still the same one, or new ones."""
    file = results.series_folder(name) / SCORES_FILE
    checksum = hashlib.sha256(results.alignment_record(name).read_bytes()).hexdigest()
    key = {"alignment_sha256": checksum, "version": version("napari-tiltalign")}
    try:
        kept = read_facts(file)
        if {k: kept.get(k) for k in key} == key:
            return kept
    except (OSError, ValueError):
        pass  # there are none, or they are broken: judge again
    if series is None or not judged:
        return None
    found = {**key, **judge(series, alignment, progress=progress).to_dict()}
    write_atomic(file, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return found


def _html(results: OutputFolder, pages: list[SeriesPage], run: Mapping[str, Any], problem: str) -> str:
    environment = Environment(
        loader=PackageLoader("napari_tiltalign.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    grades = {g: sum(page.grade == g for page in pages) for g in ("good", "fair", "poor", "failed", "")}
    command = [str(word) for word in run.get("command", ())]
    return environment.get_template("report.html").render(
        title=results.root.resolve().name,
        folder=str(results.root),
        pages=pages,
        columns=COLUMNS,
        failed=[page for page in pages if page.grade == "failed"],
        most_failed=_MOST_FAILED,
        grades={grade or "not judged": count for grade, count in grades.items() if count},
        problem=problem,
        command=shlex.join(command),
        run=run,
        versions={**run.get("versions", {})},
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("napari-tiltalign"),
    )


def scores_csv(pages: list[SeriesPage]) -> str:
    """Return the figures of all series as comma-separated values, one row for each.

    Text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["series", "grade", "method", *COLUMNS, "flags", "reasons"])
    for page in pages:
        figures = ["" if page.figures.get(name) is None else f"{page.figures[name]:.6g}" for name in COLUMNS]
        words = page.name, page.grade, page.method
        why = "; ".join([*page.problems, *page.reasons])
        table.writerow([*map(_harmless, words), *figures, len(page.flags), _harmless(why)])
    return text.getvalue()


def _harmless(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, which names and messages of other people could be."""
    return f"'{text}" if text.startswith(_BEGINS_FORMULA) else text
