"""Unsaved changes are asked about before they are lost."""

from __future__ import annotations

import pytest

from napari_tiltalign.ui import closing, save_row
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.closing import Answer
from napari_tiltalign.ui.commands import AddAlignment, ExcludeViews

pytestmark = pytest.mark.gui


class Answers:
    """Answers questions, and counts them."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, parent, names) -> Answer:
        """Answer as told."""
        self.asked.append(tuple(names))
        return self.answer


@pytest.fixture
def answers(monkeypatch):
    """What the user says when asked about unsaved changes: stay, unless a test changes that."""
    answers = Answers(Answer.CANCEL)
    monkeypatch.setattr(closing, "ask_unsaved", answers)
    yield answers
    answers.answer = Answer.DISCARD  # or the viewer would never close


@pytest.fixture
def widget(make_napari_viewer, answers):
    """The widget *Dataset* in a real window."""
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tiltalign", "Dataset")
    widget.session = session_of(viewer)
    yield widget
    answers.answer = Answer.DISCARD


def test_a_window_with_unsaved_changes_stays_open_if_the_user_says_so(widget, answers, dataset):
    widget.session.open(dataset)
    window = widget.window()
    widget.session.do(ExcludeViews(("view_00",)))
    assert not window.close()
    assert window.isVisible()
    assert answers.asked == [("TS_1",)]


@pytest.mark.parametrize("name", ["Align by gold beads", "Curate beads", "Exclude views", "Inspect"])
@pytest.mark.parametrize("floats", [False, True])
def test_every_widget_lets_the_window_ask(name, floats, make_napari_viewer, answers, dataset, qtbot):
    viewer = make_napari_viewer(show=True)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-tiltalign", name)
    dock.setFloating(floats)
    qtbot.waitUntil(getattr(widget, "native", widget).isVisible, timeout=10_000)
    session = session_of(viewer)
    session.open(dataset)
    session.do(ExcludeViews(("view_00",)))
    closed = dock.parentWidget().close()
    answers.answer = Answer.DISCARD  # whatever follows, or the viewer would never close
    assert not closed
    assert answers.asked == [("TS_1",)]


def test_another_dataset_is_not_opened_over_unsaved_changes(widget, answers, dataset, project):
    widget.session.open(dataset)
    widget.session.do(ExcludeViews(("view_00",)))
    widget.open(project[0].source)
    assert widget.session.dataset is dataset
    answers.answer = Answer.DISCARD
    widget.open(project[0].source)
    assert widget.session.dataset.source == project[0].source
    assert len(answers.asked) == 2


def test_nothing_is_asked_without_changes(widget, answers, dataset, project):
    widget.session.open(dataset)
    widget.open(project[0].source)
    assert widget.session.dataset.source == project[0].source
    assert answers.asked == []


def test_save_saves_and_goes_on(widget, answers, project, tmp_path, monkeypatch):
    dataset, truths = project
    folder = tmp_path / "project" / "job"
    monkeypatch.setattr(save_row, "ask_folder", lambda session, parent: folder)
    widget.session.open(dataset)
    widget.session.do(AddAlignment("exact", truths["TS_1"]))
    answers.answer = Answer.SAVE
    widget.open(dataset.source)
    assert (folder / "aligned_tilt_series.star").is_file()
    assert widget.session.dataset is not dataset
    assert widget.session.work.current == "exact"
    assert widget.session.results_folder == folder


def test_the_button_saves_and_says_where(widget, project, tmp_path, monkeypatch):
    dataset, truths = project
    folder = tmp_path / "project" / "job"
    monkeypatch.setattr(save_row, "ask_folder", lambda session, parent: folder)
    widget.session.open(dataset)
    assert not widget.save_row.save_button.isEnabled()
    widget.session.do(AddAlignment("exact", truths["TS_1"]))
    assert widget.save_row.save_button.isEnabled()
    widget.save_row.save_button.click()
    assert widget.session.unsaved() == ()
    assert widget.save_row.folder.text() == "job"
    assert not widget.save_row.save_button.isEnabled()


def test_what_cannot_be_saved_is_told_and_stays(widget, answers, dataset, truth, tmp_path, monkeypatch):
    told = []
    widget.session.warned.connect(told.append)
    monkeypatch.setattr(save_row, "ask_folder", lambda session, parent: tmp_path / "job")
    widget.session.open(dataset)
    widget.session.do(AddAlignment("exact", truth))
    answers.answer = Answer.SAVE
    assert not widget.window().close()
    assert "not saved" in told[0]
    assert widget.session.unsaved() == ("TS_1",)
