"""The method widgets, in a real viewer: run to the end, cancel, fail, run on all series."""

from __future__ import annotations

import shlex
import threading

import pytest
from npe2 import PluginManifest
from qtpy.QtWidgets import QApplication

from napari_tiltalign.batch import Placement, outcome
from napari_tiltalign.errors import BadInput, Cancelled, MethodFailed
from napari_tiltalign.io import read
from napari_tiltalign.methods.base import method, methods
from napari_tiltalign.model import Dataset
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import Simulation, simulate
from napari_tiltalign.ui import align_widget, batch_task, save_row
from napari_tiltalign.ui.align_widget import widget_class
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.commands import AddAlignment, ExcludeViews, UseAlignment
from napari_tiltalign.ui.saving import save
from napari_tiltalign.ui.series_progress import MOST_BARS, SeriesProgress

pytestmark = pytest.mark.gui


def commands() -> dict[str, str]:
    manifest = PluginManifest.from_distribution("napari-tiltalign")
    by_id = {command.id: command.python_name for command in manifest.contributions.commands}
    return {by_id[widget.command]: widget.display_name for widget in manifest.contributions.widgets}


@pytest.mark.parametrize("name", list(methods()))
def test_every_method_has_a_widget_in_the_manifest(name):
    assert f"napari_tiltalign.ui.align_widget:{name.replace('-', '_')}" in commands()
    assert getattr(align_widget, name.replace("-", "_")) is widget_class(name)


def test_there_is_no_widget_without_a_method():
    with pytest.raises(AttributeError, match="no method 'nonsense'"):
        _ = align_widget.nonsense


@pytest.fixture
def widget(make_napari_viewer, monkeypatch, tmp_path):
    """The widget of the method fiducial, as napari makes it."""
    viewer = make_napari_viewer()
    monkeypatch.setattr(batch_task, "PLACEMENT", Placement("serial"))  # where methods can be replaced
    _, widget = viewer.window.add_plugin_dock_widget("napari-tiltalign", "Align by gold beads")
    widget.session = session_of(viewer)
    folder = tmp_path / "project" / "job"
    monkeypatch.setattr(save_row, "ask_folder", lambda session, parent: folder)
    return widget


def use_instead(monkeypatch, function) -> None:
    """Let the method do something else."""
    monkeypatch.setattr(type(method("fiducial")), "__call__", function)


def test_a_simulated_series_is_aligned(widget, qtbot):
    simulated = simulate(
        Simulation(image_rows_px=192, image_columns_px=192, tilt_step_deg=6.0, n_beads=15, texture="none")
    )
    widget.session.open(Dataset((simulated.series,)))
    assert widget.run_button.enabled
    with qtbot.waitSignal(widget.session.candidates_changed, timeout=60_000):
        widget.run_button.native.click()
    found = widget.session.alignment
    assert found.provenance.method == "fiducial"
    assert found.provenance.options == widget.form.value.model_dump()
    error = difference(found, simulated.truth, thickness_angst=1200.0)
    assert error.rms_px < 1.0
    qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
    assert "views, tilt axis" in widget.log.value


def test_cancel_stops_at_the_next_report(widget, dataset, truth, qtbot, monkeypatch):
    started, go_on = threading.Event(), threading.Event()

    def slow(self, series, options, *, start=None, progress):
        started.set()
        assert go_on.wait(20)
        progress(0.5, "half")
        return truth

    use_instead(monkeypatch, slow)
    widget.session.open(dataset)
    widget.run_button.native.click()
    qtbot.waitUntil(started.is_set, timeout=10_000)
    assert not widget.run_button.enabled
    assert widget.cancel_button.enabled
    widget.cancel_button.native.click()
    go_on.set()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
    assert widget.session.alignment is None
    assert widget.log.value == "TS_1: cancelled"
    assert widget.run_button.enabled


def test_all_series_are_aligned_by_the_batch_engine(widget, project, qtbot, monkeypatch, tmp_path):
    dataset, truths = project
    used = {}

    def partly(self, series, options, *, start=None, progress):
        progress(0.5, "half")
        used[series.name] = (options.diameter_nm, series.tilts[0].reason)
        if series.name == "TS_2":
            raise MethodFailed("TS_2: too few beads")
        return truths[series.name]

    use_instead(monkeypatch, partly)
    widget.session.open(dataset)
    widget.form["diameter_nm"].value = 12.0
    widget.session.show("TS_10")
    widget.own_box.value = True
    widget.form["diameter_nm"].value = 7.0
    widget.session.show("TS_1")
    assert widget.form.value.diameter_nm == 12.0
    assert not widget.own_box.value
    widget.session.do(ExcludeViews(("TS_1_view_00",), "ice"))
    save(widget.session, tmp_path / "project" / "job")
    widget.run_all_button.native.click()
    qtbot.waitUntil(lambda: "TS_10" in widget.log.value and not widget.is_running, timeout=20_000)
    assert used == {"TS_1": (12.0, "ice"), "TS_2": (12.0, ""), "TS_10": (7.0, "")}
    aligned = [series.name for series in dataset if (work := widget.session.work_of(series.name)) and work.current]
    assert aligned == ["TS_1", "TS_10"]
    assert "TS_2: too few beads" in widget.log.value.splitlines()
    written = read(tmp_path / "project" / "job" / "aligned_tilt_series.star")
    assert [series.name for series in written] == ["TS_1", "TS_10"]
    assert widget.session.unsaved() == ()


def test_a_run_over_all_series_can_be_cancelled_and_keeps_what_is_done(widget, project, qtbot, monkeypatch, tmp_path):
    dataset, truths = project
    started, go_on = threading.Event(), threading.Event()

    def slow(self, series, options, *, start=None, progress):
        if series.name == "TS_2":
            started.set()
            assert go_on.wait(20)
        progress(0.5, "half")
        return truths[series.name]

    use_instead(monkeypatch, slow)
    widget.session.open(dataset)
    widget.run_all_button.native.click()
    qtbot.waitUntil(started.is_set, timeout=10_000)
    qtbot.waitUntil(lambda: widget.session.alignment is not None, timeout=10_000)
    widget.cancel_button.native.click()
    go_on.set()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
    assert widget.session.work_of("TS_2") is None
    assert "cancelled; what was done is kept" in widget.log.value
    assert (tmp_path / "project" / "job" / "external" / "TS_1" / "alignment.json").is_file()


def test_every_series_that_runs_has_a_bar_and_is_told_about(widget, project, qtbot, monkeypatch):
    dataset, truths = project
    go_on = {series.name: threading.Event() for series in dataset}

    def stepwise(self, series, options, *, start=None, progress):
        progress(0.25, "looking for beads")
        assert go_on[series.name].wait(20)
        return truths[series.name]

    use_instead(monkeypatch, stepwise)
    widget.session.open(dataset)
    widget.run_all_button.native.click()
    bars = widget.series_progress.bars
    for done, series in enumerate(dataset):
        qtbot.waitUntil(lambda name=series.name: list(bars) == [name], timeout=10_000)
        qtbot.waitUntil(lambda name=series.name: bars[name].value() == 250, timeout=10_000)
        assert bars[series.name].text() == f"{series.name}: looking for beads"
        qtbot.waitUntil(lambda done=done: f"{done} of 3 series done" in widget.message.value, timeout=10_000)
        go_on[series.name].set()
        # what has landed is open while the next one runs
        qtbot.waitUntil(lambda name=series.name: widget.session.work_of(name) is not None, timeout=10_000)
    qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
    assert not bars
    assert widget.series_progress.isHidden()


def test_more_series_at_a_time_than_bars(qtbot):
    shown = SeriesProgress()
    qtbot.addWidget(shown)
    shown.show_running({f"TS_{number:02d}": (number / 20.0, "aligning") for number in range(20)})
    assert list(shown.bars) == [f"TS_{number:02d}" for number in range(MOST_BARS)]
    shown.show_running({"TS_15": (1.5, "50%part")})
    assert [bar.value() for bar in shown.bars.values()] == [1000]
    assert shown.bars["TS_15"].text().replace("\u2060", "") == "TS_15: 50%part"


def test_results_that_cannot_be_opened_are_told_and_stop_nothing(widget, project, qtbot, monkeypatch):
    dataset, truths = project
    use_instead(monkeypatch, lambda self, series, options, *, start=None, progress: truths[series.name])
    read_record = outcome.read_record

    def damaged(path):
        if "TS_2" in str(path):
            raise BadInput(f"{path} is damaged")
        return read_record(path)

    monkeypatch.setattr(outcome, "read_record", damaged)
    widget.session.open(dataset)
    widget.run_all_button.native.click()
    qtbot.waitUntil(lambda: "TS_10: " in widget.log.value and not widget.is_running, timeout=20_000)
    assert "TS_2: its result cannot be opened" in widget.log.value
    assert widget.session.work_of("TS_10") is not None


def test_results_that_exist_are_asked_about(widget, project, qtbot, monkeypatch, tmp_path):
    dataset, truths = project
    asked = []
    monkeypatch.setattr(batch_task, "ask_existing", lambda parent, folder: asked.append(folder))
    widget.session.open(dataset)
    widget.session.do(AddAlignment("exact", truths["TS_1"]))
    widget.run_all_button.native.click()
    assert not widget.is_running  # there are unsaved changes
    save(widget.session, tmp_path / "project" / "job")
    widget.run_all_button.native.click()
    assert asked == [tmp_path / "project" / "job"]
    assert not widget.is_running


def test_what_is_copied_does_the_same(widget, project, tmp_path):
    dataset, _ = project
    widget.session.open(dataset)
    widget.form["diameter_nm"].value = 12.5
    widget.command_button.native.click()
    words = shlex.split(QApplication.clipboard().text())
    assert words[:4] == ["napari-tiltalign", "align", "fiducial", dataset.source]
    assert words[-2:] == ["--fiducial-diameter-nm", "12.5"]
    widget.own_box.value = True
    widget.python_button.native.click()
    code = QApplication.clipboard().text()
    compile(code, "copied", "exec")
    assert "Fiducial(diameter_nm=12.5)" in code
    assert ".only(['TS_1'])" in code


def test_excluded_views_are_excluded_for_the_method(widget, dataset, truth, qtbot, monkeypatch):
    given = []

    def look(self, series, options, *, start=None, progress):
        given.append(series)
        return truth

    use_instead(monkeypatch, look)
    widget.session.open(dataset)
    widget.session.do(ExcludeViews(("view_03",), "ice"))
    with qtbot.waitSignal(widget.session.candidates_changed, timeout=20_000):
        widget.run_button.native.click()
    assert given[0]["view_03"].reason == "ice"
    qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)


def test_a_result_for_a_closed_dataset_is_dropped(widget, dataset, truth, qtbot, monkeypatch):
    started, go_on = threading.Event(), threading.Event()

    def slow(self, series, options, *, start=None, progress):
        started.set()
        assert go_on.wait(20)
        return truth

    use_instead(monkeypatch, slow)
    widget.session.open(dataset)
    widget.run_button.native.click()
    qtbot.waitUntil(started.is_set, timeout=10_000)
    widget.session.open(Dataset(dataset.series[:1]))
    go_on.set()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
    assert widget.session.alignment is None
    assert "dropped" in widget.log.value


def test_a_second_run_keeps_the_first_result(widget, dataset, truth, qtbot, monkeypatch):
    use_instead(monkeypatch, lambda self, series, options, *, start=None, progress: truth)
    widget.session.open(dataset)
    for expected in (["fiducial"], ["fiducial", "fiducial 2"]):
        with qtbot.waitSignal(widget.session.candidates_changed, timeout=20_000):
            widget.run_button.native.click()
        qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
        assert list(widget.session.work.candidates) == expected


def test_closing_the_viewer_stops_the_run(make_napari_viewer, dataset, truth, qtbot, monkeypatch):
    started, go_on, stopped = threading.Event(), threading.Event(), threading.Event()

    def slow(self, series, options, *, start=None, progress):
        started.set()
        assert go_on.wait(20)
        try:
            progress(0.5, "half")
        except Cancelled:
            stopped.set()
            raise
        return truth

    use_instead(monkeypatch, slow)
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-tiltalign", "Align by gold beads")
    session = session_of(viewer)
    session.open(dataset)
    widget.run_button.native.click()
    qtbot.waitUntil(started.is_set, timeout=10_000)
    with qtbot.waitSignal(widget.native.destroyed, timeout=10_000):
        viewer.close()
    go_on.set()
    qtbot.waitUntil(stopped.is_set, timeout=10_000)
    assert session.alignment is None


def test_a_method_starts_from_the_alignment_in_use_if_the_user_says_so(widget, dataset, truth, qtbot, monkeypatch):
    starts = []

    def watched(self, series, options, *, start=None, progress):
        starts.append(start)
        return truth

    use_instead(monkeypatch, watched)
    widget.session.open(dataset)
    assert not widget.start_box.enabled
    widget.session.do(AddAlignment("exact", truth))
    assert widget.start_box.enabled
    for choice in align_widget.START_CHOICES:
        widget.start_box.value = choice
        if widget.session.work.current != "exact":
            widget.session.do(UseAlignment("exact"))
        widget.run_button.native.click()
        qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
    assert starts[0] is None
    assert starts[1] is truth
    widget.session.close()
    assert widget.start_box.value == align_widget.NOTHING


def test_a_method_that_cannot_be_used_says_why(widget, dataset, monkeypatch):
    kind = type(method("fiducial"))
    monkeypatch.setattr(kind, "unavailable_because", lambda self: "batchruntomo was not found", raising=False)
    widget.session.open(dataset)
    assert not widget.run_button.enabled
    assert not widget.run_all_button.enabled
    assert not widget.form.enabled
    assert "batchruntomo was not found" in widget.summary.value


def test_a_program_that_is_not_found_can_be_told_in_the_form(make_napari_viewer, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("IMOD_DIR", raising=False)
    viewer = make_napari_viewer()
    widget = align_widget.widget_class("imod-fiducial")(viewer)
    session_of(viewer).open(dataset)
    assert "Not available here" in widget.summary.value
    assert not widget.run_button.enabled
    assert widget.form.enabled
    program = tmp_path / "elsewhere" / "batchruntomo"
    program.parent.mkdir()
    widget.form["executable"].value = str(program)
    assert "does not exist" in widget.summary.value
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    widget.form["executable"].value = ""
    widget.form["executable"].value = str(program)
    assert "Not available" not in widget.summary.value
    assert widget.run_button.enabled
