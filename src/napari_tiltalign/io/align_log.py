"""What IMOD's tiltalign says about an alignment: ``align.log``, and ``batchruntomo.log``, which repeats parts of it.

The wording differs between versions, and a value that is not there is missing, never 0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_tiltalign.errors import BadInput

_NUMBER = r"([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)"
_UNIT = r"\s*(nm|pixels|px)?"
_OFFSET = re.compile(rf"^\s*AngleOffset\s*=?\s*{_NUMBER}\s*$")
_RESIDUAL = re.compile(rf"Residual error mean and sd:\s*{_NUMBER}\s+{_NUMBER}{_UNIT}")
_WEIGHTED = re.compile(rf"Residual error weighted mean:\s*{_NUMBER}{_UNIT}")
_LEAVE_OUT = re.compile(
    rf"Global\s+(?P<kind>non-robust\s+|robust\s+)?leave-out error\s*(?:\([^)]*\))?\s*:\s*{_NUMBER}{_UNIT}"
)
_RATIO = re.compile(rf"Ratio of total measured values to all unknowns\s*=.*=\s*{_NUMBER}\s*$")
_TOTAL_CHANGE = re.compile(rf"Total tilt angle change\s*=\s*{_NUMBER}")
_X_TILT = re.compile(rf"X axis tilt needed\s*=\s*{_NUMBER}")


@dataclass(frozen=True, slots=True)
class AlignLog:
    """What a log of tiltalign says; None for what it does not.

    Attributes
    ----------
    angle_offset_deg
        What was added to all tilts before the fit; it is part of the ``.tlt`` file.
    total_tilt_change_deg
        What the analysis of surfaces would have added in all, to level the specimen.
    x_axis_tilt_deg
        X axis tilt that would level the specimen in the other direction.
    residual_mean_nm, residual_sd_nm, residual_weighted_mean_nm
        Distances between measured and predicted positions.
    leave_out_nm
        The same for positions that were left out of the fit; the robust one if there are two.
    measured_to_unknown
        Ratio of measured values to unknowns.
    """

    angle_offset_deg: float | None = None
    total_tilt_change_deg: float | None = None
    x_axis_tilt_deg: float | None = None
    residual_mean_nm: float | None = None
    residual_sd_nm: float | None = None
    residual_weighted_mean_nm: float | None = None
    leave_out_nm: float | None = None
    measured_to_unknown: float | None = None

    def statistics(self) -> dict[str, float]:
        """Return what is known as named numbers: ``imod_residual_mean_nm`` and so on."""
        return {f"imod_{name}": value for name in self.__slots__ if (value := getattr(self, name)) is not None}


def read_align_log(path: str | os.PathLike[str], pixel_size_nm: float = 0.0) -> AlignLog:
    """Read a log of tiltalign; the last line of a kind counts, because the program may have run more than once.

    Parameters
    ----------
    path
        The log.
    pixel_size_nm
        Of the raw images, to convert residuals of versions that give them in pixels; those are left out without it.

    Raises
    ------
    BadInput
        If it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    return parse_align_log(text, pixel_size_nm)


def parse_align_log(text: str, pixel_size_nm: float = 0.0) -> AlignLog:
    """Read the text of a log; see `read_align_log`."""
    found: dict[str, float] = {}
    robust: dict[str, float] = {}

    def length(value: str, unit: str | None) -> float | None:
        if unit == "nm":
            return float(value)
        return float(value) * pixel_size_nm if pixel_size_nm else None

    def residual(match: re.Match[str]) -> None:
        for name, value in zip(("residual_mean_nm", "residual_sd_nm"), match.groups()[:2], strict=True):
            _set(found, name, length(value, match[3]))

    def leave_out(match: re.Match[str]) -> None:
        target = robust if (match["kind"] or "").startswith("robust") else found
        _set(target, "leave_out_nm", length(match[2], match[3]))

    readers: dict[re.Pattern[str], Callable[[re.Match[str]], None]] = {
        _OFFSET: lambda match: _set(found, "angle_offset_deg", float(match[1])),
        _TOTAL_CHANGE: lambda match: _set(found, "total_tilt_change_deg", float(match[1])),
        _X_TILT: lambda match: _set(found, "x_axis_tilt_deg", float(match[1])),
        _RATIO: lambda match: _set(found, "measured_to_unknown", float(match[1])),
        _RESIDUAL: residual,
        _WEIGHTED: lambda match: _set(found, "residual_weighted_mean_nm", length(match[1], match[2])),
        _LEAVE_OUT: leave_out,
    }
    for line in text.splitlines():
        for pattern, read in readers.items():
            if match := pattern.search(line):
                read(match)
    return AlignLog(**{**found, **robust})


def _set(found: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        found[name] = value
