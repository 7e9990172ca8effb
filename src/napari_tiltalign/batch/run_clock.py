"""How long a run will still take, from what its series have taken so far."""

from __future__ import annotations

import math
import time

from napari_tiltalign.batch.outcome import SeriesOutcome


class RunClock:
    """Says how long a run will still take.

    Parameters
    ----------
    n_series
        How many series are to be aligned.
    """

    def __init__(self, n_series: int = 0) -> None:
        self.n_series = n_series
        self.done = 0
        self._began = time.monotonic()

    def ended(self, outcome: SeriesOutcome) -> None:
        """Count a series, unless its result was there already."""
        self.done += not outcome.kept and outcome.seconds > 0

    def seconds_left(self) -> float:
        """Time left; NaN before the first series is done."""
        if not self.done:
            return math.nan
        return (time.monotonic() - self._began) / self.done * max(0, self.n_series - self.done)

    def time_left(self) -> str:
        """Say how long it will still take."""
        left_s = self.seconds_left()
        return "time left not known yet" if math.isnan(left_s) else f"about {duration(left_s)} left"


def duration(seconds: float) -> str:
    """Say how long something takes, as roughly as such an estimate is."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
