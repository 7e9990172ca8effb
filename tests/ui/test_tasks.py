"""Work in threads: the answer comes on the GUI thread, and cancelling ends it at its next report of progress."""

from __future__ import annotations

import gc
import threading

import pytest
from qtpy.compat import isalive
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QWidget

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.ui.tasks import Running, Task, in_thread

pytestmark = pytest.mark.gui


def test_runs_elsewhere_and_answers_here(qtbot):
    threads = []
    task = Task(lambda progress: threads.append(threading.current_thread()) or 42)
    task.done.connect(lambda result: threads.append((threading.current_thread(), result)))
    with qtbot.waitSignal(task.finished, timeout=10_000):
        task.start()
    assert threads[0] is not threading.main_thread()
    assert threads[1] == (threading.main_thread(), 42)


def test_reports_progress_here(qtbot):
    def work(progress):
        for step in range(5):
            progress(step / 5, f"step {step}")
        progress(4 / 5, "step 4")  # nothing new

    told = []
    task = Task(work, "counting")
    task.progressed.connect(lambda *report: told.append(report))
    with qtbot.waitSignal(task.finished, timeout=10_000):
        task.start()
    assert told == [(step / 5, f"step {step}") for step in range(5)]


def test_cancelling_stops_it_at_its_next_report(qtbot):
    started, go_on = threading.Event(), threading.Event()
    reached = []

    def work(progress):
        started.set()
        assert go_on.wait(10)
        progress(0.5, "half")
        reached.append("the end")

    task = Task(work, "waiting")
    ends = []
    for name in ("done", "failed", "cancelled"):
        getattr(task, name).connect(lambda *_, name=name: ends.append(name))
    task.start()
    qtbot.waitUntil(started.is_set, timeout=10_000)
    task.cancel()
    with qtbot.waitSignal(task.finished, timeout=10_000):
        go_on.set()
    assert ends == ["cancelled"]
    assert reached == []


@pytest.mark.parametrize("error", [MethodFailed("no beads"), ZeroDivisionError("a bug")])
def test_errors_arrive_here(qtbot, error):
    def work(progress):
        raise error

    task = Task(work)
    with qtbot.waitSignal(task.failed, timeout=10_000) as caught:
        task.start()
    assert caught.args == [error]


def test_a_background_for_the_session(qtbot):
    answers = []

    def fail():
        raise MethodFailed("too few")

    in_thread(lambda: 7, answers.append, answers.append)
    qtbot.waitUntil(lambda: answers == [7], timeout=10_000)
    in_thread(fail, answers.append, lambda error: answers.append(str(error)))
    qtbot.waitUntil(lambda: answers == [7, "too few"], timeout=10_000)


def test_a_widget_that_is_collected_as_garbage_stops_its_task(qtbot):
    started, go_on = threading.Event(), threading.Event()

    def work(progress):
        started.set()
        go_on.wait(10)
        progress(0.5, "half")

    running, widget, heard = Running(), QWidget(), []
    running.task = task = Task(work)
    for signal in (task.done, task.failed, task.cancelled):
        signal.connect(lambda *_: heard.append("something"))
    running.stop_with(widget)
    widget.running, widget.itself = running, widget  # a cycle: only the garbage collector gets at it
    task.start()
    assert started.wait(10)
    finished = task._worker.finished
    del running, widget, task
    with qtbot.waitSignal(finished, timeout=10_000):
        gc.collect()
        go_on.set()
    assert heard == []


def test_a_task_that_qt_has_deleted_before_its_widget_is_no_trouble(qtbot):
    running, widget = Running(), QWidget()
    running.task = Task(lambda progress: None)
    running.stop_with(widget)
    running.task.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert not isalive(running.task)
    widget.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert not running.is_busy
