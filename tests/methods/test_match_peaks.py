"""A peak of a score along one quantity."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.methods.match_peaks import climbed, vertex
from napari_tiltalign.methods.pair_graph import best_on_grid


@pytest.mark.parametrize(("peak", "most"), [(0.3, 3), (-1.2, 4), (5.6, 9)])
def test_a_peak_is_climbed_to_from_zero(peak, most):
    asked = []

    def score_of(value):
        asked.append(value)
        return -((value - peak) ** 2)

    values, scores = climbed(score_of, 1.0)
    assert best_on_grid(values, scores) == pytest.approx(peak)
    assert len(asked) == len(set(asked)) == len(values) <= most
    assert (np.diff(values) == 1.0).all()


def test_without_a_peak_it_ends_at_the_last_value():
    values, scores = climbed(lambda value: value, 2.0)
    assert len(values) == 9
    assert np.argmax(scores) == 8


def test_the_vertex_has_the_width_of_the_parabola():
    values = np.array([-1.0, 0.0, 1.0])
    top, sd = vertex(values, -0.5 * ((values - 0.2) / 0.4) ** 2)
    assert top == pytest.approx(0.2)
    assert sd == pytest.approx(0.4)
    assert vertex(values, values) == (1.0, 0.0)
