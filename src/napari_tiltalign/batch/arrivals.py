"""What there is of every series while it is collected, in a folder of stacks or a STAR file of RELION."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from napari_tiltalign.errors import BadInput, TiltAlignError
from napari_tiltalign.io.fingerprint import image_files, work_fingerprint
from napari_tiltalign.io.relion import GLOBAL, read_relion
from napari_tiltalign.io.stack import files_beside, read_stack
from napari_tiltalign.io.stack_folder import find_stacks
from napari_tiltalign.io.star import read_star
from napari_tiltalign.model import NOT_GIVEN, Dataset, TiltSeries

_INCOMPLETE = frozenset({"images_missing", "metadata_repaired"})
"""Flags that reading gives to a series whose files do not fit together, as while some are still on their way."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A series as it lies on the disk at one look.

    Attributes
    ----------
    trace
        Digest that changes with the size or time of change of any of its files.
    changed_ns
        When the last of its files was changed, by the clock of whoever keeps the files; 0 if that is not known.
    n_images
        Images that can be read.
    lacks
        What is visibly missing or does not fit; empty if nothing is.
    """

    trace: str
    changed_ns: int
    n_images: int
    lacks: str


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that is there at one look.

    Attributes
    ----------
    dataset
        The series; those that cannot be read (yet) are in `Dataset.failed`.
    sights
        Name of every one of them to what is there of it.
    """

    dataset: Dataset
    sights: Mapping[str, Sight]


@dataclass(slots=True)
class Place:
    """Where series arrive.

    Attributes
    ----------
    path
        A folder of stacks; a global STAR file of RELION, which need not be there yet; or a folder with one of those.
    pixel_size_angst, tilt_axis_deg
        To use instead of what the files say; NaN to believe them.

    Raises
    ------
    BadInput
        If there is no such place, or it is not clear what is meant.
    """

    path: Path
    pixel_size_angst: float = NOT_GIVEN
    tilt_axis_deg: float = NOT_GIVEN
    _read: dict[str, tuple[Sight, TiltSeries | str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.suffix == ".star":
            if not self.path.parent.is_dir():
                raise BadInput(f"{self.path.parent} does not exist, so no {self.path.name} can appear there")
        elif not self.path.is_dir():
            raise BadInput(f"{self.path} is neither a folder nor the STAR file of a project; give the folder in which "
                           "stacks arrive, or RELION's STAR file")  # fmt: skip
        else:
            self._star()

    def look(self) -> Look:
        """Look once. Files that have not changed since the last look are not read again, where that can be told.

        Raises
        ------
        BadInput
            If nothing can be read just now, as when a STAR file is half written.
        """
        star = self._star()
        if star is None:
            return self._stacks()
        return self._project(star) if star.is_file() else Look(Dataset((), source=str(star)), {})

    def _star(self) -> Path | None:
        """The STAR file to look into; None for stacks.

        Raises
        ------
        BadInput
            If there are several, or stacks as well.
        """
        if self.path.suffix == ".star":
            return self.path
        stars = [file for file in sorted(self.path.glob("*.star")) if _lists_series(file)]
        if len(stars) > 1 or (stars and find_stacks(self.path)):
            raise BadInput(f"{self.path} holds {', '.join(file.name for file in stars)}"
                           f"{' and stacks' if len(stars) == 1 else ''}; give the STAR file that is meant")  # fmt: skip
        return stars[0] if stars else None

    def _stacks(self) -> Look:
        stacks = find_stacks(self.path)
        self._read = {name: self._stack(name, stack) for name, stack in stacks.items()}
        series = tuple(one for _, one in self._read.values() if isinstance(one, TiltSeries))
        failed = {name: one for name, (_, one) in self._read.items() if isinstance(one, str)}
        sights = {name: sight for name, (sight, _) in self._read.items()}
        return Look(Dataset(series, source=str(self.path), failed=failed), sights)

    def _stack(self, name: str, stack: Path) -> tuple[Sight, TiltSeries | str]:
        """Read a stack, unless its files are those of the last look."""
        facts = {str(file): file_facts(file) for file in (stack, *files_beside(stack))}
        trace = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        if name in self._read and self._read[name][0].trace == trace:
            return self._read[name]
        changed_ns = max(changed for _, changed in facts.values())
        try:
            read = read_stack(stack, pixel_size_angst=self.pixel_size_angst, tilt_axis_deg=self.tilt_axis_deg)
        except TiltAlignError as error:
            problem = getattr(error, "problem", str(error))
            return Sight(trace, changed_ns, 0, problem), problem
        (series,) = read.series
        return Sight(trace, changed_ns, int(series.included.sum()), _lacks(series)), series

    def _project(self, star: Path) -> Look:
        dataset = read_relion(star, pixel_size_angst=self.pixel_size_angst, tilt_axis_deg=self.tilt_axis_deg)
        sights = {name: Sight(reason, 0, 0, reason) for name, reason in dataset.failed.items()}
        for series in dataset:
            files = [Path(series.source), *image_files(series)]
            changed_ns = max(file_facts(file)[1] for file in files)
            n_images = int(series.included.sum())
            sights[series.name] = Sight(work_fingerprint(series, {}), changed_ns, n_images, _lacks(series))
        return Look(dataset, MappingProxyType(sights))


def file_facts(file: Path) -> tuple[int, int]:
    """Size and time of change; zeros for a file that is not there."""
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _lacks(series: TiltSeries) -> str:
    return "; ".join(flag.detail for flag in series.flags if flag.name in _INCOMPLETE)


def _lists_series(star: Path) -> bool:
    try:
        return GLOBAL in read_star(star)
    except BadInput:  # not a table, or not all of it yet
        return False
