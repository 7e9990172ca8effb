"""What a user has done with one series, as one frozen value: undo is going back to an earlier one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from napari_tiltalign.methods.local_motion import DETAILS_KEY
from napari_tiltalign.model import Alignment, Dataset, TiltSeries, Tracks

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of several alignments of a series.

    Attributes
    ----------
    alignment
        As last solved, with the tracks as last edited.
    locked
        Ids of tracks that must not be edited.
    solved
        Whether the geometry follows from the tracks; False between an edit and the end of solving.
    problem
        Why solving failed; empty if it did not.
    motion_due
        Whether edits have dropped what was known of local motion, so that it has to be looked for again.
    """

    alignment: Alignment
    locked: frozenset[int] = frozenset()
    solved: bool = True
    problem: str = ""
    motion_due: bool = False

    def with_tracks(self, tracks: Tracks) -> Candidate:
        """Return the candidate with edited tracks, not solved yet."""
        return self._unsolved(self.alignment.replace(tracks=tracks))

    def _unsolved(self, alignment: Alignment) -> Candidate:
        due = self.motion_due or DETAILS_KEY in self.alignment.details
        return dataclasses.replace(self, alignment=alignment, solved=False, problem="", motion_due=due)

    def as_solved(self, alignment: Alignment) -> Candidate:
        """Return the candidate with the alignment that follows from its tracks."""
        return dataclasses.replace(self, alignment=alignment, solved=True, problem="")

    def as_unsolvable(self, problem: str) -> Candidate:
        """Return the candidate with the reason why its tracks give no alignment; the geometry stays as it was."""
        return dataclasses.replace(self, solved=True, problem=problem)

    def with_motion(self, alignment: Alignment) -> Candidate:
        """Return the candidate with the alignment in which local motion was looked for again."""
        return dataclasses.replace(self, alignment=alignment, motion_due=False)

    def with_exclusions(self, reasons: Mapping[str, str]) -> Candidate:
        """Return the candidate with some images taken out (tilt_id to reason) or back in (empty reason).

        An image the method itself left out stays out, because nothing ties it to the others.
        """
        included = self.alignment.included.copy()
        texts = list(self.alignment.reasons)
        for index, tilt_id in enumerate(self.alignment.tilt_ids):
            if tilt_id in reasons:
                included[index], texts[index] = not reasons[tilt_id], reasons[tilt_id]
        if np.array_equal(included, self.alignment.included):
            return self
        alignment = self.alignment.replace(included=included, reasons=tuple(texts))
        if alignment.tracks is None:
            return dataclasses.replace(self, alignment=alignment, problem="")
        return self._unsolved(alignment)


@dataclass(frozen=True, slots=True)
class Work:
    """Everything the user decided about one series.

    Attributes
    ----------
    exclusions
        tilt_id to reason: images the user took out. Images excluded by the input are in here from the start.
    candidates
        Alignments by name, in the order they were made.
    current
        Name of the candidate in use; empty if there is none.
    """

    exclusions: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    candidates: Mapping[str, Candidate] = field(default_factory=lambda: _NOTHING)
    current: str = ""

    def __post_init__(self) -> None:
        if self.current and self.current not in self.candidates:
            raise ValueError(f"no alignment {self.current!r}")
        object.__setattr__(self, "exclusions", MappingProxyType(dict(self.exclusions)))
        object.__setattr__(self, "candidates", MappingProxyType(dict(self.candidates)))

    @property
    def candidate(self) -> Candidate | None:
        """The candidate in use."""
        return self.candidates[self.current] if self.current else None

    @property
    def alignment(self) -> Alignment | None:
        """The alignment in use."""
        return self.candidate.alignment if self.candidate else None

    def with_candidate(self, name: str, candidate: Candidate) -> Work:
        """Return the work with a candidate added or replaced."""
        return dataclasses.replace(self, candidates={**self.candidates, name: candidate})


def opened_work(series: TiltSeries, known: Mapping[str, Alignment]) -> Work:
    """Work on a series that was just opened.

    Parameters
    ----------
    series
        Images it excludes are excluded in the work.
    known
        Alignments known from the start, by name; the last one is in use.
    """
    exclusions = {tilt.tilt_id: tilt.reason for tilt in series.tilts if not tilt.included}
    candidates = {name: Candidate(alignment) for name, alignment in known.items()}
    return Work(exclusions, candidates, next(reversed(candidates), ""))


def nothing_saved(dataset: Dataset, series: TiltSeries) -> Work:
    """Work on a series of a dataset of which nothing was saved."""
    return opened_work(series, {})


def with_exclusions(series: TiltSeries, exclusions: Mapping[str, str]) -> TiltSeries:
    """Return a series with these images excluded (tilt_id to reason) and all others included."""
    return series.replace(tilts=tuple(tilt.restored() for tilt in series.tilts)).with_exclusions(exclusions)


class Excluding:
    """Series with exclusions, each made anew only when its exclusions have changed."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Mapping[str, str], TiltSeries]] = {}

    def of(self, series: TiltSeries, exclusions: Mapping[str, str]) -> TiltSeries:
        """Return a series of a dataset with these images excluded; see `with_exclusions`."""
        known = self._made.get(series.name)
        if known is None or known[0] != exclusions:
            known = self._made[series.name] = exclusions, with_exclusions(series, exclusions)
        return known[1]


def kept_bead(bead: int | None, before: Work, after: Work) -> int | None:
    """The selected bead after a step; none if it is gone, or if another alignment is in use: its beads are others."""
    tracks = after.alignment.tracks if after.alignment is not None else None
    same = after.current == before.current and tracks is not None and bead in tracks.track_ids
    return bead if same else None
