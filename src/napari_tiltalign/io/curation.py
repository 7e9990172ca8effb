"""What a person decided about a series, ``curation.json``: exclusions, all candidates, locked beads.

``alignment.json`` beside it holds the alignment in use, for everybody; this file holds the rest, for going on with the
work. Alignments stand in it as they stand in ``alignment.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.files import write_atomic
from napari_tiltalign.io.record import parse_record, record_text
from napari_tiltalign.model import Alignment

FORMAT: Literal["napari-tiltalign curation"] = "napari-tiltalign curation"
VERSION = 1


@dataclass(frozen=True, slots=True)
class CuratedAlignment:
    """One of the alignments of a series, with what was decided about it.

    Attributes
    ----------
    alignment
        The alignment.
    locked
        Ids of tracks that must not be edited.
    problem
        Why the geometry could not be solved from the tracks; empty if it was.
    """

    alignment: Alignment
    locked: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Curation:
    """What a person decided about a series.

    Attributes
    ----------
    exclusions
        tilt_id to reason.
    candidates
        Alignments by name, in the order they were made.
    current
        Name of the one in use; empty if there is none.
    alignment_sha256
        Digest of the ``alignment.json`` written with it; empty if there was none.
    """

    exclusions: Mapping[str, str]
    candidates: Mapping[str, CuratedAlignment]
    current: str
    alignment_sha256: str = ""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Candidate(_Strict):
    alignment: dict[str, Any]
    locked: list[int]
    problem: str


class _Stored(_Strict):
    format: Literal["napari-tiltalign curation"]
    version: Literal[1]
    exclusions: dict[str, str]
    candidates: dict[str, _Candidate]
    current: str
    alignment_sha256: str


def curation_fields(curation: Curation) -> dict[str, Any]:
    """Return a curation as plain JSON values."""
    candidates = {
        name: {
            "alignment": json.loads(record_text(candidate.alignment)),
            "locked": sorted(candidate.locked),
            "problem": candidate.problem,
        }
        for name, candidate in curation.candidates.items()
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "exclusions": dict(curation.exclusions),
        "candidates": candidates,
        "current": curation.current,
        "alignment_sha256": curation.alignment_sha256,
    }


def curation_of_fields(fields: Any, where: str) -> Curation:
    """Return the curation that `curation_fields` has described.

    Parameters
    ----------
    fields
        Plain JSON values.
    where
        What they were read from, for messages.

    Raises
    ------
    BadInput
        If a key or a value does not belong there; the message names it.
    """
    try:
        stored = _Stored.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{where}, key {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    if stored.current and stored.current not in stored.candidates:
        raise BadInput(f"{where}, key current: there is no alignment {stored.current!r} in it")
    candidates = {
        name: CuratedAlignment(
            parse_record(json.dumps(item.alignment), f"{where}, alignment {name!r}"), tuple(item.locked), item.problem
        )
        for name, item in stored.candidates.items()
    }
    return Curation(stored.exclusions, candidates, stored.current, stored.alignment_sha256)


def write_curation(path: Path, curation: Curation) -> None:
    """Write a curation to a file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    write_atomic(path, json.dumps(curation_fields(curation), ensure_ascii=False) + "\n")


def read_curation(path: Path) -> Curation | None:
    """Read a curation; None if there is no such file.

    Raises
    ------
    BadInput
        If it cannot be read, or holds what does not belong there.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not a JSON file that can be read: {error}") from error
    return curation_of_fields(fields, str(path))
