"""What follows from edited tracks, worked out in the background: the geometry at once, local motion after a pause."""

from __future__ import annotations

from collections.abc import Callable

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.model import Alignment, TiltSeries, Tracks
from napari_tiltalign.ui.work import Candidate

Resolve = Callable[[Alignment, Tracks], Alignment]
FindMotion = Callable[[Alignment, TiltSeries], Alignment]
Background = Callable[
    [Callable[[], Alignment], Callable[[Alignment], None], Callable[[Exception], None]],
    None,
]
"""Runs the first function somewhere and tells one of the others, on the session's own thread."""
Take = Callable[[str, Candidate, Candidate], None]
"""Takes an answer: name of the series, the candidate that was asked about, and the same brought up to date."""


def inline(
    work: Callable[[], Alignment], done: Callable[[Alignment], None], failed: Callable[[Exception], None]
) -> None:
    """Run a function right here."""
    try:
        result = work()
    except TiltAlignError as error:
        failed(error)
    else:
        done(result)


class Solving:
    """Solves one candidate at a time, so that quick edits do not pile up; looks for local motion beside it.

    Parameters
    ----------
    background
        Where to work.
    take
        Told every answer.
    resolve
        Solves the geometry again from edited tracks.
    find_motion
        Looks for local motion in a solved alignment.
    """

    def __init__(self, background: Background, take: Take, resolve: Resolve, find_motion: FindMotion) -> None:
        self.background = background
        self._take = take
        self.resolve = resolve
        self._find_motion = find_motion
        self._solves = False
        self._looks = False

    def solve(self, name: str, candidate: Candidate) -> None:
        """Solve a candidate whose tracks were edited; nothing is done while another one is being solved."""
        if self._solves or candidate.solved:
            return
        alignment, tracks = candidate.alignment, candidate.alignment.tracks
        if tracks is None:
            raise ValueError("an alignment without tracks cannot be solved again")
        self._solves = True

        def answer(result: Candidate) -> None:
            self._solves = False
            self._take(name, candidate, result)

        self.background(
            lambda: self.resolve(alignment, tracks),
            lambda result: answer(candidate.as_solved(result)),
            lambda error: answer(candidate.as_unsolvable(str(error))),
        )

    def find_motion(self, series: TiltSeries, candidate: Candidate) -> None:
        """Look again for the local motion that edits of the tracks have dropped, if they have."""
        if self._looks or not candidate.solved or not candidate.motion_due:
            return
        self._looks = True

        def answer(result: Candidate) -> None:
            self._looks = False
            self._take(series.name, candidate, result)

        self.background(
            lambda: self._find_motion(candidate.alignment, series),
            lambda result: answer(candidate.with_motion(result)),
            lambda error: answer(candidate.with_motion(candidate.alignment)),
        )
