"""The lossless record of an alignment, ``alignment.json``: all we know, in plain text.

Numbers are written with as many digits as it takes to get them back exactly, equal alignments give equal bytes, and
NaN ("not estimated") stands as null. Reading is strict: what is unknown or of the wrong type is refused by name.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_tiltalign.errors import BadInput
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.io.files import write_atomic
from napari_tiltalign.model import Alignment, ExpectedError, Flag, LocalMotion, Provenance, Tracks, Uncertainty

FORMAT = "napari-tiltalign alignment"
VERSION = 1
SIZE_LIMIT_BYTES = 256 * 1024**2
"""Larger files are refused unread; a series of 100 images with 10 000 tracks takes about 100 MB."""

_COLUMNS = {
    "shift_yx_angst": 2, "position_yx_px": 2, "residual_yx_px": 2, "leave_out_yx_px": 2,
    "points_zyx_angst": 3, "points_sd_angst": 3,
}  # fmt: skip
_FREE = frozenset({"statistics", "details"})
_OF_IMAGES = ("y_tilt_deg", "z_rot_deg", "shift_yx_angst", "magnification")
_WHOLE = frozenset({"track_ids", "track", "tilt", "state", "reason"})

MaybeNumber = float | None
"""Null stands for NaN."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class _Geometry(_Strict):
    x_tilt_deg: list[float]
    y_tilt_deg: list[float]
    z_rot_deg: list[float]
    shift_yx_angst: list[list[float]]
    magnification: list[float]


class _ExpectedError(_Strict):
    y_angst: list[float]
    x_angst: list[float]
    rms_angst: list[list[MaybeNumber]]
    overall_angst: float


class _Uncertainty(_Strict):
    y_tilt_deg: list[MaybeNumber]
    z_rot_deg: list[MaybeNumber]
    shift_yx_angst: list[list[MaybeNumber]]
    magnification: list[MaybeNumber]
    axis_deg: MaybeNumber = None
    expected_error: _ExpectedError | None = None


class _Tracks(_Strict):
    track_ids: list[int]
    points_zyx_angst: list[list[MaybeNumber]]
    points_sd_angst: list[list[MaybeNumber]]
    track: list[int]
    tilt: list[int]
    position_yx_px: list[list[MaybeNumber]]
    sd_px: list[MaybeNumber]
    weight: list[MaybeNumber]
    state: list[int]
    reason: list[int]
    residual_yx_px: list[list[MaybeNumber]]
    leave_out_yx_px: list[list[MaybeNumber]]


class _LocalMotion(_Strict):
    reference_tilt_id: str
    support_zyx_angst: list[list[float]]
    coefficients_yx_angst: list[list[list[float]]]
    common_yx: list[list[list[float]]]
    length_angst: float
    time_steps: float
    amplitude_angst: float
    left_out_rms_px: MaybeNumber
    rigid_left_out_rms_px: MaybeNumber


class _Flag(_Strict):
    name: str
    detail: str
    tilt_ids: list[str]


class _Provenance(_Strict):
    method: str
    options: dict[str, Any]
    version: str
    input_fingerprint: str


class _Record(_Strict):
    format: str
    version: int
    series_name: str
    pixel_size_angst: float
    image_shape_yx: Annotated[list[int], Field(min_length=2, max_length=2)]
    tilt_ids: list[str]
    included: list[bool]
    reasons: list[str]
    geometry: _Geometry
    unit_magnification_geometry: _Geometry | None
    uncertainty: _Uncertainty | None
    tracks: _Tracks | None
    local_motion: _LocalMotion | None = None
    statistics: dict[str, MaybeNumber]
    details: dict[str, Any]
    flags: list[_Flag]
    provenance: _Provenance


def record_text(alignment: Alignment) -> str:
    """Write an alignment as JSON text.

    Raises
    ------
    ValueError
        If it holds an infinite number, or `details` or the options hold something that is no plain value. The
        message names the key.
    """
    unit, sd, tracks = alignment.unit_magnification_geometry, alignment.uncertainty, alignment.tracks
    motion = alignment.local_motion
    record = {
        "format": FORMAT,
        "version": VERSION,
        "series_name": alignment.series_name,
        "pixel_size_angst": alignment.pixel_size_angst,
        "image_shape_yx": alignment.image_shape_yx,
        "tilt_ids": alignment.tilt_ids,
        "included": alignment.included,
        "reasons": alignment.reasons,
        "geometry": _fields(alignment.geometry, _Geometry),
        "unit_magnification_geometry": None if unit is None else _fields(unit, _Geometry),
        "uncertainty": None if sd is None else _uncertainty_fields(sd),
        "tracks": None if tracks is None else _fields(tracks, _Tracks),
        "local_motion": None if motion is None else _fields(motion, _LocalMotion),
        "statistics": alignment.statistics,
        "details": alignment.details,
        "flags": [_fields(flag, _Flag) for flag in alignment.flags],
        "provenance": _fields(alignment.provenance, _Provenance),
    }
    return _json(_plain(record, ""), depth=2) + "\n"


def write_record(path: str | os.PathLike[str], alignment: Alignment) -> None:
    """Write an alignment to a JSON file; see `record_text`.

    Raises
    ------
    ValueError
        See `record_text`.
    OSError
        If it cannot be written.
    """
    write_atomic(path, record_text(alignment))


def read_record(path: str | os.PathLike[str]) -> Alignment:
    """Read an alignment that `write_record` has written.

    Raises
    ------
    BadInput
        If it cannot be read, is no such file, is of a newer version, or holds a key or a value that does not belong
        there. The message names the key.
    """
    where = Path(path)
    try:
        if (size := where.stat().st_size) > SIZE_LIMIT_BYTES:
            raise BadInput(f"{where} has {size} bytes, more than any alignment; is it the right file?")
        text = where.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {where}: {error.strerror or error}") from error
    return parse_record(text, str(where))


def parse_record(text: str | bytes, where: str) -> Alignment:
    """Read an alignment from the text that `record_text` has written.

    Parameters
    ----------
    text
        JSON.
    where
        What it was read from, for messages.

    Raises
    ------
    BadInput
        See `read_record`.
    """
    try:
        content = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} is not a JSON file that can be read: {error}") from error
    _check_format(where, content)
    try:
        return _alignment(_Record.model_validate(content))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{where}, key {key}: {first['msg']}") from error
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{where}: {error}") from error


def _check_format(where: str, content: Any) -> None:
    """Say what is wrong with a file of another format or version, before its keys are looked at."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadInput(f"{where} is not an alignment of this program (no format {FORMAT!r})")
    if content.get("version") != VERSION:
        raise BadInput(f"{where} has version {content.get('version')!r}, this program reads {VERSION}; update it")


def _alignment(record: _Record) -> Alignment:
    tilt_ids = tuple(record.tilt_ids)
    unit, motion = record.unit_magnification_geometry, record.local_motion
    return Alignment(
        series_name=record.series_name,
        tilt_ids=tilt_ids,
        geometry=ViewGeometry(**_arrays(record.geometry)),
        pixel_size_angst=record.pixel_size_angst,
        image_shape_yx=(record.image_shape_yx[0], record.image_shape_yx[1]),
        included=np.array(record.included, dtype=bool),
        reasons=tuple(record.reasons),
        unit_magnification_geometry=None if unit is None else ViewGeometry(**_arrays(unit)),
        uncertainty=None if record.uncertainty is None else _uncertainty(record.uncertainty),
        tracks=None if record.tracks is None else Tracks(tilt_ids, **_arrays(record.tracks)),
        local_motion=None if motion is None else LocalMotion(**_numbers(motion)),
        statistics={name: math.nan if value is None else value for name, value in record.statistics.items()},
        details=record.details,
        flags=tuple(Flag(flag.name, flag.detail, tuple(flag.tilt_ids)) for flag in record.flags),
        provenance=Provenance(**record.provenance.model_dump()),
    )


def _uncertainty(stored: _Uncertainty) -> Uncertainty:
    error = stored.expected_error
    return Uncertainty(
        **{name: _array(name, getattr(stored, name)) for name in _OF_IMAGES},
        axis_deg=math.nan if stored.axis_deg is None else stored.axis_deg,
        expected_error=None if error is None else ExpectedError(
            np.array(error.y_angst), np.array(error.x_angst), np.array(error.rms_angst, dtype=np.float64),
            error.overall_angst,
        ),
    )  # fmt: skip


def _uncertainty_fields(sd: Uncertainty) -> dict[str, Any]:
    error = sd.expected_error
    return {**_fields(sd, _Uncertainty), "expected_error": None if error is None else _fields(error, _ExpectedError)}


def _arrays(stored: BaseModel) -> dict[str, NDArray[Any]]:
    return {name: _array(name, getattr(stored, name)) for name in type(stored).model_fields}


def _numbers(motion: _LocalMotion) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in motion.model_dump().items()}


def _array(name: str, values: list[Any]) -> NDArray[Any]:
    array = np.array(values, dtype=np.int64 if name in _WHOLE else np.float64)  # None becomes NaN
    return array if values else array.reshape(0, *([_COLUMNS[name]] if name in _COLUMNS else []))


def _fields(item: object, model: type[BaseModel]) -> dict[str, Any]:
    return {name: getattr(item, name) for name in model.model_fields}


def _plain(value: Any, key: str) -> Any:
    """Return a value as JSON has it: lists, numbers, text, with null for NaN."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ValueError(f"{key} has a name that is no text")
        items = sorted(value.items()) if key in _FREE else value.items()
        return {name: _plain(item, f"{key}.{name}".lstrip(".")) for name, item in items}
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError(f"{key} is infinite, which cannot be stored")
        return None if math.isnan(value) else value
    if value is None or isinstance(value, str | bool | int):
        return value
    raise ValueError(f"{key} is of type {type(value).__name__}, which cannot be stored")


def _json(value: Any, depth: int, indent: str = "") -> str:
    """Write JSON with one line for each key down to a depth, so that people and diff programs can read it."""
    if not (depth and isinstance(value, dict) and value):
        return json.dumps(value, allow_nan=False, sort_keys=True)
    inner = indent + " "
    items = (f"{inner}{json.dumps(name)}: {_json(item, depth - 1, inner)}" for name, item in value.items())
    return "{\n" + ",\n".join(items) + f"\n{indent}}}"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return content
