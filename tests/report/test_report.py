"""The page about a folder of results: complete, safe, self-contained, and it works in a browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from napari_tiltalign import read, write
from napari_tiltalign.cli import main
from napari_tiltalign.errors import BadInput, Cancelled
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.model import ExpectedError, Flag, Uncertainty
from napari_tiltalign.report import ReportOptions, write_report
from napari_tiltalign.report.dataset import scores_csv
from napari_tiltalign.report.series_page import COLUMNS, SeriesPage
from napari_tiltalign.simulation import Simulation, simulate

TINY = Simulation(image_rows_px=128, image_columns_px=144, pixel_size_angst=28, tilt_step_deg=8, n_beads=10)
NASTY = "TS_<b>&'2"
GONE = "TS_gone"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series with alignments and one that failed, as `align` leaves them."""
    root = tmp_path_factory.mktemp("reported")
    names = ("TS_1", NASTY, GONE)
    samples = [simulate(TINY.replace(name=f"SIM_{k}", seed=k)) for k in range(3)]
    project = write_relion_project(
        root / "project", [sample.series.replace(name=name) for name, sample in zip(names, samples, strict=True)]
    )
    dataset = read(project)
    flag = Flag("local_motion", "<script>alert(1)</script>")
    alignments = {
        name: sample.truth.replace(series_name=name, tilt_ids=dataset[name].tilt_ids, tracks=None, flags=(flag,))
        for name, sample in zip(names[:2], samples, strict=False)
    }
    n = len(alignments["TS_1"])
    error = ExpectedError(np.array([-1.0, 1.0]), np.array([0.0]), np.array([[14.0], [42.0]]), 28.0)
    known = Uncertainty(np.full(n, 0.1), np.full(n, 0.2), np.full((n, 2), 3.0), np.full(n, np.nan), 0.125, error)
    alignments["TS_1"] = alignments["TS_1"].replace(uncertainty=known)
    folder = root / "job"
    write(dataset, alignments, folder, failures={GONE: "no beads <i>at all</i>"})
    run = {
        "input": str(project),
        "command": ["napari-tiltalign", "align", "fiducial", "a b.star", "--output", "<job>"],
        "method": "fiducial",
        "options": {"diameter_nm": 10.0},
        "versions": {"numpy": "2.0"},
        "series": {
            "TS_1": {"result": "aligned"},
            NASTY: {"result": "aligned"},
            GONE: {"result": "failed", "reason": "no beads <i>at all</i>"},
        },
    }
    OutputFolder(folder).run_record.write_text(json.dumps(run))
    write_report(folder)
    return folder


class _Page(HTMLParser):
    """What a browser would see: tags with attributes, and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def test_everything_is_in_the_page(results: Path):
    page = _Page((results / "report.html").read_text(encoding="utf-8"))
    text = " ".join(page.text)
    assert sum(attrs.get("class") == "one" for tag, attrs in page.tags if tag == "details") == 3
    for expected in (
        "TS_1",
        NASTY,
        GONE,
        "no beads <i>at all</i>",
        "'a b.star'",
        "'<job>'",
        "diameter_nm = 10.0",
        "2.0",
    ):
        assert expected in text
    assert page.count("img") + page.count("image") == 2 * 4
    assert page.count("svg") >= 2 * 4
    assert sum(attrs.get("data-grade") == "failed" for tag, attrs in page.tags if tag == "tr") == 1


def test_names_and_messages_cannot_inject_anything(results: Path):
    page = _Page((results / "report.html").read_text(encoding="utf-8"))
    assert page.count("script") == 1
    assert page.count("i") == 0
    assert "<script>alert(1)</script>" in " ".join(page.text)


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1"])
def test_row_82_no_text_is_a_formula_in_a_spreadsheet(text: str):
    page = SeriesPage(text, "s0", "failed", dict.fromkeys(COLUMNS, -1.5), problems=(text,))
    (row,) = csv.DictReader(scores_csv([page]).splitlines(keepends=True))
    assert (row["series"], row["reasons"]) == (f"'{text}", f"'{text}")
    assert float(row["score"]) == -1.5  # numbers stay numbers


def test_row_75_what_failed_is_on_the_first_screen(results: Path):
    text = (results / "report.html").read_text(encoding="utf-8")
    first = text[text.index('id="failed"') : text.index('id="table"')]
    assert f'<a href="#s2">{GONE}</a>: no beads &lt;i&gt;at all&lt;/i&gt;' in first
    assert first.count("<li>") == 1


@pytest.mark.parametrize(
    "record",
    ["[" * 100_000, "[1]", '{"series": []}', '{"series": {"TS_1": "aligned"}}', '{"command": 5}', '{"options": [1]}'],
)
def test_row_81_a_record_that_makes_no_sense_is_refused(results: Path, tmp_path: Path, record: str):
    shutil.copytree(results / "external", tmp_path / "external")
    OutputFolder(tmp_path).run_record.write_text(record)
    with pytest.raises(BadInput, match=r"run\.json (is no record|cannot be read)"):
        write_report(tmp_path, ReportOptions(judged=False, pictures=False))


def test_a_bug_in_judging_costs_its_own_series_only(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = Path(shutil.copytree(results, tmp_path / "copy"))
    OutputFolder(copy).series_folder("TS_1").joinpath("scores.json").unlink()

    def slip(*series_and_alignment: object, **more: object) -> None:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr("napari_tiltalign.report.dataset.judge", slip)
    write_report(copy, ReportOptions(pictures=False))
    with (copy / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["series"]: row for row in csv.DictReader(file)}
    assert "ZeroDivisionError: a slip" in rows["TS_1"]["reasons"]
    assert rows[NASTY]["score"]


def test_a_report_can_be_stopped_while_it_judges(results: Path, tmp_path: Path):
    copy = Path(shutil.copytree(results, tmp_path / "copy"))
    for file in copy.rglob("scores.json"):
        file.unlink()
    told: list[str] = []

    def impatient(fraction: float, message: str) -> None:
        told.append(message)
        if told.count("TS_1") == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        write_report(copy, ReportOptions(pictures=False), progress=impatient)
    assert set(told) == {"TS_1"}
    assert not list(copy.rglob("scores.json"))


def test_nothing_is_loaded_from_elsewhere(results: Path):
    text = (results / "report.html").read_text(encoding="utf-8")
    links = [a for _, attrs in _Page(text).tags for k, a in attrs.items() if k in ("src", "href")]
    assert links
    assert all(link is not None and link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)


def test_the_table_can_be_read_by_programs(results: Path):
    with (results / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["series"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"TS_1", NASTY, GONE}
    assert float(rows["TS_1"]["score"]) > 0
    assert rows["TS_1"]["grade"] in ("good", "fair", "poor")
    assert rows[GONE]["grade"] == "failed"
    assert rows[GONE]["score"] == ""


def test_scores_are_kept_until_the_alignment_changes(results: Path, monkeypatch: pytest.MonkeyPatch):
    from napari_tiltalign.report import dataset as module

    judged: list[str] = []
    judge = module.judge
    monkeypatch.setattr(module, "judge", lambda series, a, **more: (judged.append(series.name), judge(series, a))[1])
    write_report(results, ReportOptions(pictures=False))
    assert judged == []
    record = OutputFolder(results).alignment_record("TS_1")
    before = record.read_text()
    try:
        record.write_text(before + "\n")
        write_report(results, ReportOptions(pictures=False))
        assert judged == ["TS_1"]
    finally:
        record.write_text(before)
        write_report(results)


def test_a_report_is_written_although_the_images_are_gone(results: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(results, folder)
    for file in folder.glob("external/*/scores.json"):
        file.unlink()
    write_report(folder, ReportOptions(source=str(tmp_path / "nowhere.star")))
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "cannot be read" in text
    assert "TS_1" in text


def test_how_sure_the_method_is_is_told(results: Path):
    sure, unsure = (results / "report.html").read_text().split('<details class="one"')[1:3]
    assert "± 0.12°" in sure
    assert "1.00 px (2.80 nm) from where they are" in sure
    assert 'aria-label="expected error over the field"' in sure
    assert re.findall(r">([\d.]+)</text>", sure.split('aria-label="expected error over the field"')[1])[:2] == [
        "0.5",
        "1.5",
    ]
    assert 'aria-label="error bar of the tilt, degrees"' in sure
    assert "has not estimated how sure it is" in unsure
    assert "expected error over the field" not in unsure


def test_a_folder_without_results_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="holds no alignments"):
        write_report(tmp_path)
    assert main(["report", str(tmp_path)]) == 1


def test_the_command_tells_where_it_wrote(results: Path, capsys):
    assert main(["report", str(results), "--no-pictures", "--no-scores", "--quiet"]) == 0
    assert capsys.readouterr().out.split() == [str(results / "report.html"), str(results / "scores.csv")]
    write_report(results)


def browser() -> str:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if not found:
        pytest.skip("no Chromium here")
    return found


def test_it_works_in_a_browser(results: Path, tmp_path: Path):
    program = browser()
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom")
    try:
        run = subprocess.run(
            [program, *flags, f"--user-data-dir={tmp_path}", f"{(results / 'report.html').as_uri()}#s1"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium does not run here")
    if "<html" not in run.stdout:
        pytest.skip(f"Chromium does not run here: {run.stderr[-200:]}")
    opened = [attrs for tag, attrs in _Page(run.stdout).tags if tag == "details" and "open" in attrs]
    assert [attrs.get("id") for attrs in opened] == ["s1"]  # the page's own script has run
    assert "CONSOLE" not in run.stderr, run.stderr
