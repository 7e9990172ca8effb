"""A journal on the disk: one step of the user's work on one series in each line, as JSON.

The first line says what the steps apply to. A line counts when its end is on the disk, so a crash costs the step that
was being written at most. Reading is strict: a journal with anything unknown in it is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.curation import curation_fields, curation_of_fields
from napari_tiltalign.io.files import write_atomic
from napari_tiltalign.io.record import parse_record, record_text
from napari_tiltalign.model import TiltSeries
from napari_tiltalign.ui.commands import (
    EDITS,
    AddAlignment,
    EditTracks,
    ExcludeEach,
    ExcludeViews,
    LockTracks,
    RemoveAlignment,
    ReplaceWork,
    UseAlignment,
)
from napari_tiltalign.ui.saving import curation_of_work, work_of_curation
from napari_tiltalign.ui.session import Step

FORMAT = "napari-tiltalign journal"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Base:
    """What the steps of a journal apply to.

    Attributes
    ----------
    series_name
        Name of the series.
    input_fingerprint
        Of the series as it was read.
    saved_sha256
        Digest of what was saved of it when the journal began; empty if nothing was.
    """

    series_name: str
    input_fingerprint: str
    saved_sha256: str


def begin_journal(path: Path, base: Base) -> None:
    """Begin a journal, which must not exist yet.

    Raises
    ------
    OSError
        If there is one already, or it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        _bring_to_disk(file, _header(base))


def append_step(path: Path, step: Step) -> None:
    """Append a step; when this returns, it is on the disk.

    Raises
    ------
    OSError
        If it cannot be written, or the journal is gone.
    """
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        _bring_to_disk(file, _line(step_fields(step)))


def rewrite_journal(path: Path, base: Base, steps: Iterable[Step]) -> None:
    """Replace a journal by one with these steps.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    write_atomic(path, _header(base) + b"".join(_line(step_fields(step)) for step in steps))


def read_journal(path: Path, series: TiltSeries) -> tuple[Base, list[Step]]:
    """Read a journal; a last line without its end was never finished and does not count.

    Parameters
    ----------
    path
        The journal.
    series
        What it is of.

    Raises
    ------
    BadInput
        If it cannot be read, or a line is no step. The message names the line.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    if not lines:
        raise BadInput(f"{path} is empty")
    base = _base(_parsed(lines[0], f"{path}, line 1"), f"{path}, line 1")
    steps = []
    for number, line in enumerate(lines[1:], start=2):
        where = f"{path}, line {number}"
        try:
            steps.append(step_of_fields(_parsed(line, where), series, where))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{where} is no step of a journal: {error}") from error
    return base, steps


def step_fields(step: Step) -> dict[str, Any]:
    """Return a step as plain JSON values.

    Raises
    ------
    TypeError
        If a journal knows no such command.
    """
    match step:
        case "undo" | "redo":
            return {"step": step}
        case AddAlignment():
            return {"step": "align", "name": step.name, "alignment": json.loads(record_text(step.alignment))}
        case UseAlignment():
            return {"step": "use", "name": step.name}
        case RemoveAlignment():
            return {"step": "remove", "name": step.name}
        case ExcludeViews():
            return {"step": "exclude", "tilt_ids": list(step.tilt_ids), "reason": step.reason}
        case ExcludeEach():
            return {"step": "exclude each", "reasons": dict(step.reasons)}
        case LockTracks():
            return {"step": "lock", "track_ids": [int(i) for i in step.track_ids], "locked": step.locked}
        case EditTracks():
            return {"step": "edit", "edit": step.edit, "arguments": _plain(step.arguments)}
        case ReplaceWork():
            return {"step": "replace", "work": curation_fields(curation_of_work(step.work))}
    raise TypeError(f"a journal knows no command {type(step).__name__}")


def step_of_fields(fields: Any, series: TiltSeries, where: str) -> Step:
    """Return the step that `step_fields` has described.

    Raises
    ------
    KeyError, TypeError, ValueError, TiltAlignError
        If it is no step, lacks something or has too much.
    """
    if not isinstance(fields, dict):
        raise TypeError("it is no object")
    rest = dict(fields)
    kind = rest.pop("step")
    match kind:
        case "undo" | "redo":
            step: Step = kind
        case "align":
            step = AddAlignment(_text(rest, "name"), parse_record(json.dumps(rest.pop("alignment")), where))
        case "use":
            step = UseAlignment(_text(rest, "name"))
        case "remove":
            step = RemoveAlignment(_text(rest, "name"))
        case "exclude":
            step = ExcludeViews(tuple(_list(rest, "tilt_ids", str)), _text(rest, "reason"))
        case "exclude each":
            reasons = _of(rest.pop("reasons"), dict)
            step = ExcludeEach({_of(tilt_id, str): _of(why, str) for tilt_id, why in reasons.items()})
        case "lock":
            step = LockTracks(tuple(_list(rest, "track_ids", int)), _of(rest.pop("locked"), bool))
        case "edit":
            step = EditTracks(_known_edit(rest), _of(rest.pop("arguments"), dict))
        case "replace":
            step = ReplaceWork(work_of_curation(curation_of_fields(rest.pop("work"), where), series))
        case _:
            raise ValueError(f"there is no step {kind!r}")
    if rest:
        raise ValueError(f"it has unknown keys: {', '.join(rest)}")
    return step


def _known_edit(fields: dict[str, Any]) -> str:
    name = _text(fields, "edit")
    if name not in EDITS:
        raise ValueError(f"there is no edit {name!r}")
    return name


def _text(fields: dict[str, Any], key: str) -> str:
    text: str = _of(fields.pop(key), str)
    return text


def _list(fields: dict[str, Any], key: str, kind: type) -> list[Any]:
    return [_of(item, kind) for item in _of(fields.pop(key), list)]


def _of(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _plain(value: Any) -> Any:
    """Return a value with numpy's numbers and arrays as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _header(base: Base) -> bytes:
    return _line({
        "format": FORMAT,
        "version": VERSION,
        "series_name": base.series_name,
        "input_fingerprint": base.input_fingerprint,
        "saved_sha256": base.saved_sha256,
    })  # fmt: skip


def _base(fields: Any, where: str) -> Base:
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise BadInput(f"{where}: this is no journal of this program")
    if fields.get("version") != VERSION:
        raise BadInput(f"{where} has version {fields.get('version')!r}, this program reads {VERSION}; update it")
    try:
        return Base(*(_of(fields[key], str) for key in ("series_name", "input_fingerprint", "saved_sha256")))
    except (KeyError, TypeError) as error:
        raise BadInput(f"{where}: {error}") from error


def _parsed(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} is damaged: {error}") from error


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass") + b"\n"


def _bring_to_disk(file: Any, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
