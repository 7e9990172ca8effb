"""Tilt series as read: images with an identity, their nominal geometry, and pixels on demand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput, BadTiltSeries, listed
from napari_tiltalign.model.flags import Flag
from napari_tiltalign.model.table import Table

NOT_GIVEN = math.nan
"""What a number is when the input does not give it."""

_EMPTY: Mapping[str, str] = MappingProxyType({})


class ImageSource(Protocol):
    """Pixels on demand. Implementations must be safe to call from several threads."""

    def read(self) -> NDArray[np.float32]:
        """Return the image, shape (y, x), float32, as stored: not binned, not filtered.

        Raises
        ------
        TiltAlignError
            If the file is missing, truncated or of a kind that cannot be used. The message names the file.
        """
        ...

    def load(self) -> tuple[NDArray[np.float32], int]:
        """Return what `read` does, and how many of its pixels were not finite and had to be filled."""
        ...

    @property
    def name(self) -> str:
        """What to call the image in a message: its path, with the section for stacks."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImage:
    """An image that is already in memory. Two are equal if they are the same object: pixels are not compared."""

    pixels: NDArray[np.float32]
    name: str = "array"

    def read(self) -> NDArray[np.float32]:
        """Return the image, shape (y, x), float32."""
        return np.asarray(self.pixels, dtype=np.float32)

    def load(self) -> tuple[NDArray[np.float32], int]:
        """Return the image as it is; nothing is filled."""
        return self.read(), 0


@dataclass(frozen=True, slots=True)
class Tilt:
    """One image of a tilt series.

    A tilt is never deleted: a bad one is excluded with a reason, and can come back.

    Attributes
    ----------
    tilt_id
        Identity from reading to writing, unique in its series and the same at every stage of a project.
    image
        Where its pixels come from.
    nominal_tilt_deg
        Stage tilt in degrees.
    nominal_axis_deg
        Tilt axis in degrees from the image's y axis, counter-clockwise with y drawn upwards; NaN if not given.
    pre_exposure_e_per_A2
        Dose before this image in electrons per square Angstrom; NaN if not given.
    nominal_defocus_um
        Defocus asked for, micrometres, negative for underfocus; NaN if not given.
    defocus_um
        Defocus measured, mean over the directions, in the same unit and sign; NaN if not given.
    included
        Whether the image takes part in the alignment.
    reason
        Why it does not; empty if it does.
    columns
        Every column of the table it was read from, as text, unknown ones too; writers give them back unchanged.
    """

    tilt_id: str
    image: ImageSource
    nominal_tilt_deg: float
    nominal_axis_deg: float = NOT_GIVEN
    pre_exposure_e_per_A2: float = NOT_GIVEN  # noqa: N815 (the unit's own capital)
    nominal_defocus_um: float = NOT_GIVEN
    defocus_um: float = NOT_GIVEN
    included: bool = True
    reason: str = ""
    columns: Mapping[str, str] = field(default_factory=lambda: _EMPTY, compare=False)

    def excluded(self, reason: str) -> Tilt:
        """Return the tilt marked as not taking part; the reason must not be empty."""
        if not reason:
            raise ValueError("an exclusion needs a reason")
        return dataclasses.replace(self, included=False, reason=reason)

    def restored(self) -> Tilt:
        """Return the tilt marked as taking part again."""
        return dataclasses.replace(self, included=True, reason="")


@dataclass(frozen=True, slots=True)
class TiltSeries:
    """A tilt series: images in the order of the input, with everything known before alignment.

    Attributes
    ----------
    name
        Name of the series, exactly as in the input (it may look like a number).
    tilts
        The images, in input order, included or not.
    pixel_size_angst
        Angstrom per pixel of the images.
    image_shape_yx
        (rows, columns) of every image.
    columns
        This series' row of the global table as text, unknown columns too.
    extra_blocks
        Further tables of the series' own file by name, kept for writing.
    source
        Where it was read from, for messages and provenance.
    voltage_kv
        Of the microscope; NaN if not given.
    hand
        What the input says of the hand: the sign with which height along the beam changes the underfocus
        (``rlnTomoHand``), +1 or -1; 0 if not given.
    flags
        What reading found odd.

    Raises
    ------
    BadTiltSeries
        If two images share an identity, or a size or a pixel size makes no sense.
    """

    name: str
    tilts: tuple[Tilt, ...]
    pixel_size_angst: float
    image_shape_yx: tuple[int, int]
    columns: Mapping[str, str] = field(default_factory=lambda: _EMPTY, compare=False)
    extra_blocks: Mapping[str, Table] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    source: str = ""
    flags: tuple[Flag, ...] = ()
    voltage_kv: float = NOT_GIVEN
    hand: int = 0

    def __post_init__(self) -> None:
        ids = self.tilt_ids
        if len(set(ids)) != len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            raise BadTiltSeries(self.name, f"images listed twice: {', '.join(twice)}; remove the extra rows")
        if not (math.isfinite(self.pixel_size_angst) and self.pixel_size_angst > 0):
            raise BadTiltSeries(
                self.name,
                f"pixel size is {self.pixel_size_angst} Angstrom; give a positive one (--pixel-size-angst)",
            )
        if len(self.image_shape_yx) != 2 or min(self.image_shape_yx) < 1:
            raise BadTiltSeries(self.name, f"images of {self.image_shape_yx} pixels cannot be aligned")

    def __len__(self) -> int:
        return len(self.tilts)

    def __getitem__(self, tilt_id: str) -> Tilt:
        return self.tilts[self.index_of(tilt_id)]

    def index_of(self, tilt_id: str) -> int:
        """Position of an image in the series; KeyError if there is none of that identity."""
        for index, tilt in enumerate(self.tilts):
            if tilt.tilt_id == tilt_id:
                return index
        raise KeyError(f"{self.name} has no tilt {tilt_id!r}")

    @property
    def tilt_ids(self) -> tuple[str, ...]:
        """Identity of every image, in input order."""
        return tuple(tilt.tilt_id for tilt in self.tilts)

    @property
    def nominal_tilt_deg(self) -> NDArray[np.float64]:
        """Stage tilts, shape (n,), degrees, in input order."""
        return np.array([tilt.nominal_tilt_deg for tilt in self.tilts], dtype=np.float64)

    @property
    def nominal_axis_deg(self) -> float:
        """Nominal tilt axis in degrees (median over the images); 0 if the input gives none."""
        given = [t.nominal_axis_deg for t in self.tilts if math.isfinite(t.nominal_axis_deg)]
        return float(np.median(given)) if given else 0.0

    @property
    def included(self) -> NDArray[np.bool_]:
        """Which images take part, shape (n,)."""
        return np.array([tilt.included for tilt in self.tilts], dtype=bool)

    def tilt_order(self) -> NDArray[np.intp]:
        """Indices that sort the images by nominal tilt, ascending; equal angles keep the input order."""
        return np.argsort(self.nominal_tilt_deg, kind="stable")

    def replace(self, **changes: object) -> TiltSeries:
        """Return a copy with some fields replaced; it is checked like a new one."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def with_exclusions(self, reasons: Mapping[str, str]) -> TiltSeries:
        """Return the series with some images excluded.

        Parameters
        ----------
        reasons
            tilt_id to reason; KeyError if an id is unknown.
        """
        for tilt_id in reasons:
            self.index_of(tilt_id)
        return self.replace(
            tilts=tuple(t.excluded(reasons[t.tilt_id]) if t.tilt_id in reasons else t for t in self.tilts)
        )

    def with_flags(self, *flags: Flag) -> TiltSeries:
        """Return the series with more flags."""
        return self.replace(flags=(*self.flags, *flags))


@dataclass(frozen=True, slots=True)
class Dataset:
    """All the tilt series of a project.

    Attributes
    ----------
    series
        The series, in input order.
    source
        Where they were read from.
    failed
        Series that could not be read: name to what is wrong. They are reported, never dropped in silence.
    failed_columns
        Their rows of the global table, so that they can be listed for a second try.
    extra_blocks
        Further tables of the global file, kept for writing.
    flags
        What is odd about the dataset as a whole.
    """

    series: tuple[TiltSeries, ...]
    source: str = ""
    failed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    failed_columns: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    extra_blocks: Mapping[str, Table] = field(default_factory=lambda: MappingProxyType({}))
    flags: tuple[Flag, ...] = ()

    def __post_init__(self) -> None:
        names = [s.name for s in self.series] + list(self.failed)
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise BadInput(f"{self.source}: series named twice: {', '.join(twice)}; give each its own name")

    def __len__(self) -> int:
        return len(self.series)

    def __iter__(self) -> Iterator[TiltSeries]:
        return iter(self.series)

    def __getitem__(self, name: str) -> TiltSeries:
        for series in self.series:
            if series.name == name:
                return series
        raise KeyError(f"no tilt series {name!r}; there are {listed((s.name for s in self.series), name)}")

    def only(self, names: Iterable[str]) -> Dataset:
        """Return the dataset with some of its series, in input order.

        Raises
        ------
        BadInput
            If a name is not in the dataset.
        """
        wanted = set(names)
        known = {s.name for s in self.series} | set(self.failed)
        if missing := sorted(wanted - known):
            raise BadInput(f"no tilt series named {listed(missing)}; there are {listed(sorted(known), missing[0])}")
        return dataclasses.replace(
            self,
            series=tuple(s for s in self.series if s.name in wanted),
            failed=MappingProxyType({n: why for n, why in self.failed.items() if n in wanted}),
            failed_columns=MappingProxyType({n: c for n, c in self.failed_columns.items() if n in wanted}),
        )
