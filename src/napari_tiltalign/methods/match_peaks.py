"""Where a score is best along one quantity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_tiltalign.geometry import FloatArray

_MOST_TRIED = 9


def climbed(score_of: Callable[[float], float], step: float) -> tuple[FloatArray, FloatArray]:
    """Score 0 and its neighbours, and go on uphill until the best value has one on either side.

    Parameters
    ----------
    score_of
        The score of a value; higher is better.
    step
        Distance of the values.

    Returns
    -------
    values, scores
        Ascending. The best is at an end if there is no peak within nine values.
    """
    scores: dict[int, float] = {}
    wanted = [-1, 0, 1]
    while wanted and len(scores) < _MOST_TRIED:
        scores |= {k: score_of(k * step) for k in wanted}
        best = max(scores, key=lambda k: scores[k])
        wanted = [k for k in (best - 1, best + 1) if k not in scores]
    tried = sorted(scores)
    return np.array(tried) * step, np.array([scores[k] for k in tried])


def vertex(values: FloatArray, scores: FloatArray) -> tuple[float, float]:
    """Where the parabola through all scores is highest, and the standard deviation that its width stands for.

    The best value tried, and no standard deviation (0), where the parabola has no top among them.
    """
    second, first, _ = np.polyfit(values, scores, 2)
    top = -first / (2.0 * second) if second < 0 else np.inf
    if not values[0] <= top <= values[-1]:
        return float(values[int(np.argmax(scores))]), 0.0
    return float(top), float(1.0 / np.sqrt(-2.0 * second))
