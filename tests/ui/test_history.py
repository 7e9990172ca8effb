"""Undo and redo."""

from __future__ import annotations

import pytest

from napari_tiltalign.ui.history import History


def labels(history: History[int]) -> tuple[int, str, str]:
    return history.value, history.undo_label, history.redo_label


def test_there_and_back():
    history = History(0)
    history.push(1, "one")
    history.push(2, "two")
    assert labels(history) == (2, "two", "")
    assert history.undo()
    assert labels(history) == (1, "one", "two")
    assert history.undo()
    assert not history.undo()
    assert labels(history) == (0, "", "one")
    assert history.redo()
    assert history.redo()
    assert not history.redo()
    assert labels(history) == (2, "two", "")


def test_a_new_step_forgets_what_was_undone():
    history = History(0)
    history.push(1, "one")
    history.undo()
    history.push(3, "three")
    assert not history.redo()
    assert labels(history) == (3, "three", "")


def test_amending_is_no_step():
    history = History(0)
    history.push(1, "one")
    history.amend(10)
    history.undo()
    history.redo()
    assert labels(history) == (10, "one", "")


def test_old_steps_are_forgotten():
    history = History(0, capacity=2)
    for value in (1, 2, 3):
        history.push(value, str(value))
    assert history.undo()
    assert history.undo()
    assert not history.undo()
    assert history.value == 1


def test_a_step_needs_a_label():
    with pytest.raises(ValueError, match="label"):
        History(0).push(1, "")
