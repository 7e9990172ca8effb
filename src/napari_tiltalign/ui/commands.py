"""Everything that can be undone: commands as data, each a function from `Work` to `Work`.

A command can be recorded in a journal and repeated later, because it holds names and numbers only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from napari_tiltalign.model import Alignment, State, Tracks
from napari_tiltalign.ui import edits
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.work import Candidate, Work


class Command(Protocol):
    """One step of the user's work."""

    @property
    def label(self) -> str:
        """What was done, as in "Undo: ..."."""
        ...

    def apply(self, work: Work) -> Work:
        """Return the work after this step.

        Raises
        ------
        EditRefused
            If the step makes no sense now.
        """
        ...


@dataclass(frozen=True, slots=True)
class AddAlignment:
    """Add an alignment as a candidate and use it; one of the same name is replaced."""

    name: str
    alignment: Alignment

    @property
    def label(self) -> str:
        """What was done."""
        return f"align ({self.name})"

    def apply(self, work: Work) -> Work:
        """Return the work with the candidate in use."""
        return dataclasses.replace(work.with_candidate(self.name, Candidate(self.alignment)), current=self.name)


@dataclass(frozen=True, slots=True)
class ReplaceWork:
    """Go to a state of the work as a whole; a journal has it where an undo went back past the last saving."""

    work: Work

    @property
    def label(self) -> str:
        """What was done."""
        return "undo and redo past the last saving"

    def apply(self, work: Work) -> Work:
        """Return the other work."""
        return self.work


@dataclass(frozen=True, slots=True)
class UseAlignment:
    """Use another candidate."""

    name: str

    @property
    def label(self) -> str:
        """What was done."""
        return f"use {self.name}"

    def apply(self, work: Work) -> Work:
        """Return the work with that candidate in use."""
        _check_candidate(work, self.name)
        return dataclasses.replace(work, current=self.name)


@dataclass(frozen=True, slots=True)
class RemoveAlignment:
    """Forget a candidate; the last one made comes into use if it was the current one."""

    name: str

    @property
    def label(self) -> str:
        """What was done."""
        return f"remove {self.name}"

    def apply(self, work: Work) -> Work:
        """Return the work without the candidate."""
        _check_candidate(work, self.name)
        left = {name: candidate for name, candidate in work.candidates.items() if name != self.name}
        current = work.current if work.current != self.name else next(reversed(left), "")
        return dataclasses.replace(work, candidates=left, current=current)


@dataclass(frozen=True, slots=True)
class ExcludeViews:
    """Take images out, or back in with an empty reason; every candidate follows."""

    tilt_ids: tuple[str, ...]
    reason: str = "by hand"

    @property
    def label(self) -> str:
        """What was done."""
        what = f"view {self.tilt_ids[0]}" if len(self.tilt_ids) == 1 else f"{len(self.tilt_ids)} views"
        return f"{'exclude' if self.reason else 'include'} {what}"

    def apply(self, work: Work) -> Work:
        """Return the work with these images out, or back in."""
        return _with_reasons(work, dict.fromkeys(self.tilt_ids, self.reason))


@dataclass(frozen=True, slots=True)
class ExcludeEach:
    """Take images out, each for a reason of its own; every candidate follows.

    Attributes
    ----------
    reasons
        tilt_id to reason; an empty one takes the image back in.
    """

    reasons: Mapping[str, str]

    @property
    def label(self) -> str:
        """What was done."""
        return f"exclude {len(self.reasons)} suggested view{'s' if len(self.reasons) > 1 else ''}"

    def apply(self, work: Work) -> Work:
        """Return the work with these images out."""
        return _with_reasons(work, self.reasons)


@dataclass(frozen=True, slots=True)
class LockTracks:
    """Protect beads from edits, or release them."""

    track_ids: tuple[int, ...]
    locked: bool = True

    @property
    def label(self) -> str:
        """What was done."""
        return f"{'lock' if self.locked else 'release'} {_beads(self.track_ids)}"

    def apply(self, work: Work) -> Work:
        """Return the work with these beads locked or free."""
        candidate = _editable(work)
        chosen = frozenset(self.track_ids)
        locked = candidate.locked | chosen if self.locked else candidate.locked - chosen
        return work.with_candidate(work.current, dataclasses.replace(candidate, locked=locked))


@dataclass(frozen=True, slots=True)
class EditTracks:
    """Apply one of the functions of `EDITS` to the tracks of the current candidate.

    Attributes
    ----------
    edit
        Name of the function.
    arguments
        Its arguments but the first; plain JSON values.
    """

    edit: str
    arguments: Mapping[str, Any]

    @property
    def label(self) -> str:
        """What was done."""
        return f"{_EDIT_LABELS[self.edit]} {_beads(self._touched())}".strip()

    def _touched(self) -> tuple[int, ...]:
        return tuple(self.arguments[name] for name in ("track_id", "other_id") if name in self.arguments)

    def apply(self, work: Work) -> Work:
        """Return the work with edited tracks, not solved yet."""
        candidate = _editable(work)
        if locked := candidate.locked.intersection(self._touched()):
            raise EditRefused(f"{_beads(tuple(sorted(locked)))} locked; release before editing")
        tracks = candidate.alignment.tracks
        if tracks is None:
            raise EditRefused(f"the alignment {work.current!r} has no beads to edit")
        edited = EDITS[self.edit](tracks, **self.arguments)
        return work.with_candidate(work.current, candidate.with_tracks(edited))


def _place(tracks: Tracks, track_id: int, tilt_id: str, position_yx_px: tuple[float, float]) -> Tracks:
    return edits.place_bead(tracks, track_id, tilt_id, position_yx_px)


def _accept(tracks: Tracks, track_id: int, tilt_id: str, position_yx_px: tuple[float, float]) -> Tracks:
    return edits.place_bead(tracks, track_id, tilt_id, position_yx_px, State.FILLED)


EDITS: Mapping[str, Callable[..., Tracks]] = {
    "place": _place,
    "accept": _accept,
    "remove": edits.remove_bead,
    "delete": edits.delete_track,
    "add": edits.add_track,
    "merge": edits.merge_tracks,
    "split": edits.split_track,
    "swap": edits.swap_tracks,
}
"""Edits by the name they have in a journal."""

_EDIT_LABELS: Mapping[str, str] = {
    "place": "move",
    "accept": "accept prediction of",
    "remove": "remove from view",
    "delete": "delete",
    "add": "add bead",
    "merge": "merge",
    "split": "split",
    "swap": "swap",
}


def _with_reasons(work: Work, asked: Mapping[str, str]) -> Work:
    """Take images out (tilt_id to reason), or back in (empty reason)."""
    changed = {i: why for i, why in asked.items() if work.exclusions.get(i, "") != why}
    if not changed:
        raise EditRefused("these views are already " + ("excluded" if any(asked.values()) else "included"))
    exclusions = {i: why for i, why in {**work.exclusions, **changed}.items() if why}
    candidates = {name: candidate.with_exclusions(changed) for name, candidate in work.candidates.items()}
    return dataclasses.replace(work, exclusions=exclusions, candidates=candidates)


def _beads(track_ids: tuple[int, ...]) -> str:
    if not track_ids:
        return ""
    return f"bead{'s' if len(track_ids) > 1 else ''} {' and '.join(str(i) for i in track_ids)}"


def _check_candidate(work: Work, name: str) -> None:
    if name not in work.candidates:
        raise EditRefused(f"there is no alignment {name!r}; there are {', '.join(work.candidates) or 'none'}")


def _editable(work: Work) -> Candidate:
    if work.candidate is None:
        raise EditRefused("there is no alignment yet; run a method first")
    return work.candidate
