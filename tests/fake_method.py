"""A method for tests of everything around methods: instant, and it fails when told to."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from napari_tiltalign.errors import Cancelled, MethodFailed
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.images.compute import available_cpus
from napari_tiltalign.methods.base import MethodOptions, Progress, silent
from napari_tiltalign.model import Alignment, Flag, TiltSeries, Tracks

DIARY = "NUDGE_DIARY"
"""Variable of the environment with a file that every call is written to."""
FULL_DISK = "NUDGE_FULL_DISK"
"""Variable of the environment with a part of the paths that nothing can be written to."""
_STEP_S = 0.02
LARGE_BELOW_ANGST = 15.0
"""Series with smaller pixels have trouble with being large; those of the tests have pixels of 10 Angstrom."""


class Nudge(MethodOptions):
    """Options of the fake method."""

    amount_nm: Annotated[
        float,
        Field(ge=0, le=100, description="How far every image is shifted, nm", json_schema_extra={"flag": "--nudge-nm"}),
    ] = 1.0
    trouble: Annotated[
        Literal[
            "none",
            "fails",
            "bug",
            "no-memory",
            "stops",
            "killed",
            "all-excluded",
            "dies",
            "dies-once",
            "dies-if-large",
            "no-memory-if-large",
            "hangs",
        ],
        Field(description="What goes wrong in unlucky series"),
    ] = "none"
    seconds: Annotated[float, Field(ge=0, le=1000, description="How long it takes, seconds")] = 0.0
    with_tracks: Annotated[bool, Field(description="Whether there are tracks")] = True


@dataclass
class NudgeMethod:
    """Shifts images by a given amount; has trouble with series whose name begins with ``unlucky``."""

    name: str = "nudge"
    title: str = "Nudge"
    summary: str = "For tests only."
    Options: type[MethodOptions] = Nudge
    aligned: list[str] = field(default_factory=list)
    """Names of the series it was called for."""

    def __call__(
        self,
        series: TiltSeries,
        options: MethodOptions,
        *,
        start: Alignment | None = None,
        progress: Progress = silent,
    ) -> Alignment:
        """Align, or get into trouble."""
        assert isinstance(options, Nudge)
        self.aligned.append(series.name)
        diary(f"{series.name} {os.getpid()} {available_cpus()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}")
        if place := os.environ.get(FULL_DISK):
            fill_disk(place)
        progress(0.5, "nudging")
        for _ in range(round(options.seconds / _STEP_S)):
            time.sleep(_STEP_S)
            progress(0.5, "nudging")
        if series.name.startswith("unlucky"):
            self._trouble(series, options)
        already_angst = 0.0 if start is None else float(start.geometry.shift_yx_angst[0, 0])
        found = nudged(series, already_angst + options.amount_nm * 10.0, with_tracks=options.with_tracks)
        if series.name.startswith("unlucky") and options.trouble == "all-excluded":
            return found.replace(included=np.zeros(len(series), bool), reasons=("dark",) * len(series))
        return found

    def _trouble(self, series: TiltSeries, options: Nudge) -> None:
        errors: dict[str, BaseException] = {
            "fails": MethodFailed(f"{series.name}: there is nothing to nudge"),
            "bug": ZeroDivisionError("a slip"),
            "no-memory": MemoryError(),
            "stops": Cancelled(),
        }
        is_large = series.pixel_size_angst < LARGE_BELOW_ANGST
        if options.trouble == "no-memory-if-large" and is_large:
            raise MemoryError
        if options.trouble == "dies-if-large" and is_large:
            os.kill(os.getpid(), signal.SIGKILL)
        if options.trouble == "dies" or (options.trouble == "dies-once" and diary().count(series.name) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if options.trouble == "hangs":
            time.sleep(1000)
        if options.trouble == "killed":
            os.kill(os.getpid(), signal.SIGTERM)
        if options.trouble in errors:
            raise errors[options.trouble]


def nudged(series: TiltSeries, shift_angst: float, *, with_tracks: bool = True) -> Alignment:
    """Return an alignment with a magnification, a flag, tracks, and the last image left out."""
    n = len(series)
    nominal = ViewGeometry.nominal(series.nominal_tilt_deg, series.nominal_axis_deg)
    geometry = nominal.replace(shift_yx_angst=np.full((n, 2), shift_angst))
    included = series.included.copy()
    included[-1] = False
    return Alignment(
        series_name=series.name,
        tilt_ids=series.tilt_ids,
        geometry=geometry.replace(magnification=np.linspace(1.0, 1.01, n)),
        pixel_size_angst=series.pixel_size_angst,
        image_shape_yx=series.image_shape_yx,
        included=included,
        reasons=tuple("" if used else "not_aligned" for used in included),
        unit_magnification_geometry=geometry,
        tracks=_tracks(series) if with_tracks else None,
        statistics={"residual_rms_px": 0.25},
        flags=(Flag("view_not_aligned", "1 image", series.tilt_ids[-1:]),),
    )


def _tracks(series: TiltSeries) -> Tracks:
    """One track through all images."""
    n = len(series)
    return Tracks.from_observations(
        series.tilt_ids, np.zeros((1, 3)), np.zeros(n, int), np.arange(n), np.full((n, 2), 3.0)
    )


def diary(line: str = "") -> str:
    """Write a line that other processes can read, if there is a place for it; return what was written so far."""
    place = os.environ.get(DIARY)
    if not place:
        return ""
    with open(place, "a+") as file:  # noqa: PTH123 (appending is what keeps lines of several processes whole)
        if line:
            file.write(line + "\n")
            file.flush()
        file.seek(0)
        return file.read()


def fill_disk(where: str) -> None:
    """Let this process write no more files whose path contains a text."""
    replace = Path.replace

    def full(source: Path, target: Path) -> Path:
        if where in Path(target).as_posix():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return replace(source, target)

    Path.replace = full  # type: ignore[method-assign, assignment]


METHOD = NudgeMethod()
"""For processes that find it as the method of an installed package."""


@dataclass(frozen=True)
class FakeEntryPoint:
    """Where a method is registered."""

    method: NudgeMethod
    value: str = "napari_tiltalign.somewhere:METHOD"
    dist: Any = None

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.method.name

    @property
    def module(self) -> str:
        """Module of the method."""
        return self.value.partition(":")[0]

    def load(self) -> NudgeMethod:
        """Return the method."""
        return self.method
