"""What came of a run, and who is told about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tiltalign.io.output import LossesByFormat
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.record import read_record
from napari_tiltalign.model import Alignment

if TYPE_CHECKING:
    from napari_tiltalign.batch.plan import Plan


@dataclass(frozen=True, slots=True)
class SeriesOutcome:
    """What became of one series. It is small, whatever the alignment: that is on the disk.

    Attributes
    ----------
    name
        Name of the series.
    failure
        Why it failed; empty if it did not.
    record
        Its ``alignment.json``; None if it failed.
    facts
        The figures of the alignment that are shown first; see `napari_tiltalign.io.output.alignment_facts`.
    kept
        Why the result of an earlier run was kept; empty if it was not.
    seconds
        How long it took.
    losses
        What its files do not hold.
    """

    name: str
    failure: str = ""
    record: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    kept: str = ""
    seconds: float = 0.0
    losses: LossesByFormat = field(default_factory=dict)

    def read_alignment(self) -> Alignment:
        """Read the alignment from the disk.

        Raises
        ------
        ValueError
            If the series failed.
        BadInput
            If the record cannot be read.
        """
        if self.record is None:
            raise ValueError(f"{self.name} has no alignment: {self.failure}")
        return read_record(self.record)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    folder
        Where the results are.
    outcomes
        Every series, in the order of the input; those that could not be read come last.
    """

    folder: OutputFolder
    outcomes: tuple[SeriesOutcome, ...]

    @property
    def aligned(self) -> tuple[SeriesOutcome, ...]:
        """Series that have an alignment."""
        return tuple(outcome for outcome in self.outcomes if not outcome.failure)

    @property
    def failed(self) -> tuple[SeriesOutcome, ...]:
        """Series that have none."""
        return tuple(outcome for outcome in self.outcomes if outcome.failure)


class Watcher:
    """Told how a run goes, in the thread that called it. This one does nothing; a subclass overrides what it wants."""

    def planned(self, plan: Plan) -> None:
        """What there is to do is known."""

    def notice(self, message: str) -> None:
        """Something that a person may want to know, such as where to look at the workers."""

    def waiting(self, message: str) -> None:
        """Nothing is to be done before more images arrive, in live mode; the message says for what."""

    def begins(self, name: str, number: int, total: int) -> None:
        """Series `name` begins, as `number` (from 1) of `total`."""

    def progress(self, name: str, fraction: float, message: str) -> None:
        """How far a series is; several may run at a time."""

    def ended(self, outcome: SeriesOutcome) -> None:
        """A series is done, or has failed, or was kept."""

    def check(self) -> None:
        """Called several times a second; raises `Cancelled` to stop the run."""
