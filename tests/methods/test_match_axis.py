"""The tilt axis by score: looked for again where it is found near an end of what was tried, not sure without a top."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods import match_align
from napari_tiltalign.methods.match_align import LAST_TURNS_DEG, State, Wanted, state_axis

TILTS_DEG = np.linspace(-60.0, 60.0, 9)


class Rounds(match_align._Rounds):
    """Rounds in which nothing but the axis changes."""

    def views(self, state):  # noqa: D102
        return state_axis(state)

    def repeated(self, state, times, *, reach=False):  # noqa: D102
        return state


@pytest.fixture
def rounds(monkeypatch):
    """Rounds whose score is known; `tried` lists the axes it was asked for."""
    tried = []

    def made(score_of):
        def score(axis, thickness):
            tried.append(axis)
            return score_of(axis)

        monkeypatch.setattr(match_align, "score", score)
        return Rounds(None, None, Wanted(1000.0), 0.1), tried

    return made


def state(axis_deg=0.0):
    return State(ViewGeometry.nominal(TILTS_DEG, axis_deg), np.ones(9, bool), 0.0, 1000.0)


def test_a_top_in_the_middle_is_found_at_once(rounds):
    some, tried = rounds(lambda axis: -50.0 * (axis - 0.3) ** 2)
    found = some.axis_settled(state())
    assert state_axis(found) == pytest.approx(0.3, abs=1e-6)
    assert found.axis_sd_deg == pytest.approx(4.0 * 0.1, rel=1e-6)
    assert len(tried) == 5 + 3


def test_a_top_near_an_end_is_looked_for_again(rounds):
    """The score falls off less steeply far from its top, so the first grid leads astray."""
    some, tried = rounds(lambda axis: 100.0 / (1.0 + ((axis - 1.2) / 0.6) ** 2))
    once = some.axis_found(some.axis_found(state(), match_align.FINE_TURNS_DEG), LAST_TURNS_DEG)
    first = len(tried)
    settled = some.axis_settled(state())
    assert abs(state_axis(settled) - 1.2) < 0.5 * abs(state_axis(once) - 1.2)
    assert len(tried) - first == first + 3


def test_without_a_top_the_axis_is_not_sure(rounds):
    some, _ = rounds(lambda axis: 10.0 * axis)
    found = some.axis_found(state(), LAST_TURNS_DEG)
    assert found.axis_sd_deg == pytest.approx(2.0 / np.sqrt(12.0))
