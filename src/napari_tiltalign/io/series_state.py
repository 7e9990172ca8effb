"""What became of every series in an output folder, so that a run that was cut short can go on where it was.

Beside the results of a series lies ``state.json``, written last. It holds the fingerprint of what was done and a
checksum of every file, so "done" is something that can be verified and need not be believed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

from napari_tiltalign.io.files import read_facts, sha256_of, write_atomic

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SeriesState:
    """What became of a series.

    Attributes
    ----------
    fingerprint
        Digest of the input and of what was done with it; empty if it failed.
    failure
        Why it failed; empty if it is done.
    checksums
        SHA-256 of its files, by path relative to the output folder.
    work
        Method and a digest of everything else that was asked for; empty if a person or a program made the result.
    facts
        The figures of the alignment that are shown first: plain values.
    version
        Version of this package that has done it; empty if that was not written down.
    """

    NOT_FINISHED: ClassVar[str] = "not finished"
    """What a failure says while the series is being written."""

    fingerprint: str = ""
    failure: str = ""
    checksums: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    work: str = ""
    facts: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    version: str = ""

    @classmethod
    def done(
        cls,
        fingerprint: str,
        root: Path,
        files: Iterable[Path],
        work: str = "",
        facts: Mapping[str, Any] = _NOTHING,
        version: str = "",
    ) -> Self:
        """State of a series whose files in the output folder `root` are complete."""
        checksums = {file.relative_to(root).as_posix(): sha256_of(file) for file in files}
        return cls(fingerprint, "", checksums, work, facts, version)

    @property
    def is_by_hand(self) -> bool:
        """Whether the result was put there by a person in napari or a program, not by a run over a dataset."""
        return not self.failure and not self.fingerprint

    def is_intact(self, root: Path) -> bool:
        """Whether the series is done, and all its files in the output folder are still as they were written."""
        if self.failure or not self.checksums:
            return False
        try:
            return all(sha256_of(root / name) == digest for name, digest in self.checksums.items())
        except OSError:
            return False

    def write(self, path: Path) -> None:
        """Write the state to a file."""
        state = {
            "fingerprint": self.fingerprint,
            "failure": self.failure,
            "checksums": dict(self.checksums),
            "work": self.work,
            "facts": dict(self.facts),
            "version": self.version,
        }
        write_atomic(path, json.dumps(state, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a state; None if there is none or it cannot be understood, because then nothing is known."""
        try:
            state = read_facts(path)
            checksums = {str(name): str(digest) for name, digest in state["checksums"].items()}
            work, facts = str(state.get("work", "")), dict(state.get("facts", {}))
            made_by = str(state.get("version", ""))
            return cls(str(state["fingerprint"]), str(state["failure"]), checksums, work, facts, made_by)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
