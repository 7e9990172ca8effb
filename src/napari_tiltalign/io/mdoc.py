"""SerialEM's mdoc files: angles, tilt axis, dose and pixel size of the images of a stack.

``mdocfile`` 0.2.3 reads them, but one line it does not expect (a title without brackets, an empty value, a key that
it knows with a value that it does not) makes it refuse the whole file. So it is given only the lines that matter
here, in the spelling it knows; what is empty is missing.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_tiltalign.errors import BadInput
from napari_tiltalign.model import NOT_GIVEN

if TYPE_CHECKING:
    from mdocfile.data_models import MdocSectionData

_SECTION = re.compile(r"\[?\s*(ZValue|FrameSet|MontSection)\s*=\s*(\d+)\s*\]?")
_TITLE = re.compile(r"\[?\s*T\s*=\s*(.*?)\]?")
_AXIS = re.compile(r"Tilt\s*axis\s*angle\s*=\s*([-+]?\d+(?:\.\d*)?)", re.IGNORECASE)
_DATE = re.compile(r"(\d+)-([A-Za-z]{3})-(\d+)\s+(\d+):(\d+):(\d+)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WANTED = frozenset(
    ("TiltAngle", "PixelSpacing", "ExposureDose", "PriorRecordDose", "TargetDefocus", "SubFramePath", "DateTime",
     "Voltage")
)  # fmt: skip
_NO_VALUE = frozenset(("", "nan", "none"))


@dataclass(frozen=True, slots=True)
class MdocSection:
    """One image of an mdoc file; NaN or empty where the file does not say.

    Attributes
    ----------
    number
        Its ``ZValue``: the section of the stack, counted from 0.
    tilt_deg
        Stage tilt, degrees.
    exposure_e_per_A2, prior_dose_e_per_A2
        Dose of this image, and before it, electrons per square Angstrom.
    target_defocus_um
        Micrometres, negative for underfocus.
    frames_name
        File of the movie without its folder, which is one of the microscope's computer.
    acquired
        (year, month, day, hour, minute, second), or empty.
    """

    number: int
    tilt_deg: float = NOT_GIVEN
    exposure_e_per_A2: float = NOT_GIVEN  # noqa: N815 (the unit's own capital)
    prior_dose_e_per_A2: float = NOT_GIVEN  # noqa: N815
    target_defocus_um: float = NOT_GIVEN
    frames_name: str = ""
    acquired: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Mdoc:
    """What an mdoc file says that matters to an alignment.

    Attributes
    ----------
    sections
        The images, in the order of their numbers.
    tilt_axis_deg
        From the title ``Tilt axis angle = ...``, degrees; NaN if there is none.
    pixel_size_angst
        Angstrom per pixel; NaN if not given.
    voltage_kv
        Kilovolts; NaN if not given.
    """

    sections: tuple[MdocSection, ...]
    tilt_axis_deg: float = NOT_GIVEN
    pixel_size_angst: float = NOT_GIVEN
    voltage_kv: float = NOT_GIVEN


def read_mdoc(path: str | os.PathLike[str]) -> Mdoc:
    """Read an mdoc file of a tilt series.

    Raises
    ------
    BadInput
        If it cannot be read, lists no images, or one twice, or holds a value that is no number.
    """
    where = Path(path)
    try:
        text = where.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise BadInput(f"cannot read {where}: {error.strerror or error}") from error
    from mdocfile.data_models import Mdoc as MdocFile  # pandas: half a second that other formats can do without

    try:
        content = MdocFile.from_string("\n".join(_clean_lines(text)))
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{where}: {first['loc'][0]} is {first['input']!r}; {first['msg']}") from None
    # a file of frames may have one FrameSet before the sections proper
    listed = [s for s in content.section_data if s.ZValue is not None]
    listed = listed or [s for s in content.section_data if s.FrameSet is not None]
    if not listed:
        raise BadInput(f"{where} lists no images of a tilt series: it has no [ZValue = 0] line")
    sections = sorted((_section(s, where) for s in listed), key=lambda s: s.number)
    numbers = [s.number for s in sections]
    if len(set(numbers)) < len(numbers):
        raise BadInput(f"{where} lists an image more than once (a montage, or a restarted acquisition); remove the "
                       "sections that do not belong")  # fmt: skip
    spacing = [content.global_data.PixelSpacing, *(s.PixelSpacing for s in listed)]
    return Mdoc(
        tuple(sections),
        tilt_axis_deg=_tilt_axis_deg(content.titles),
        pixel_size_angst=next((s for s in spacing if s is not None and s > 0), NOT_GIVEN),
        voltage_kv=_given(content.global_data.Voltage),
    )


def pre_exposure_e_per_A2(sections: Sequence[MdocSection]) -> tuple[float, ...]:  # noqa: N802 (the unit's own capital)
    """Dose before each image, electrons per square Angstrom; NaN for all if the file does not tell.

    It is what the file says, or the sum of the doses of the images taken before, which takes the time and the dose
    of every image.
    """
    prior = tuple(s.prior_dose_e_per_A2 for s in sections)
    if all(math.isfinite(dose) for dose in prior):
        return prior
    if not all(s.acquired and s.exposure_e_per_A2 > 0 for s in sections):
        return (NOT_GIVEN,) * len(sections)
    return tuple(sum(o.exposure_e_per_A2 for o in sections if o.acquired < s.acquired) for s in sections)


def _clean_lines(text: str) -> Iterator[str]:
    """The lines that matter, as ``mdocfile`` expects them."""
    for line in text.splitlines():
        line = line.strip()
        if match := _SECTION.fullmatch(line):
            yield f"[{match[1]} = {match[2]}]"
        elif match := _TITLE.fullmatch(line):
            yield f"[T = {match[1]}]"
        else:
            key, _, value = (part.strip() for part in line.partition("="))
            if key in _WANTED and value.lower() not in _NO_VALUE:
                yield f"{key} = {value}"


def _section(data: MdocSectionData, where: Path) -> MdocSection:
    number = data.ZValue if data.ZValue is not None else data.FrameSet
    tilt_deg = _given(data.TiltAngle)
    if abs(tilt_deg) > 180.0:
        raise BadInput(f"{where}: TiltAngle of section {number} is {tilt_deg:g}, outside -180 .. 180 degrees")
    return MdocSection(
        number=number or 0,
        tilt_deg=tilt_deg,
        exposure_e_per_A2=_given(data.ExposureDose),
        prior_dose_e_per_A2=_given(data.PriorRecordDose),
        target_defocus_um=_given(data.TargetDefocus),
        frames_name=PureWindowsPath(str(data.SubFramePath or "")).name,  # understands both kinds of slashes
        acquired=_acquired(data.DateTime or ""),
    )


def _given(value: float | None) -> float:
    return NOT_GIVEN if value is None else float(value)


def _acquired(text: str) -> tuple[int, ...]:
    """Split ``30-Nov-15  15:21:38``; the month is English whatever the locale."""
    match = _DATE.search(text)
    if not match or match[2].lower() not in _MONTHS:
        return ()
    return (int(match[3]), _MONTHS.index(match[2].lower()) + 1, *(int(match[k]) for k in (1, 4, 5, 6)))


def _tilt_axis_deg(titles: Sequence[str]) -> float:
    found = [float(match[1]) for title in titles if (match := _AXIS.search(title))]
    return found[0] if found else NOT_GIVEN
