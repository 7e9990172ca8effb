"""A method for tests of everything around methods: instant, and it fails when told to."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from napari_tiltalign.errors import Cancelled, MethodFailed
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods.base import MethodOptions, Progress, silent
from napari_tiltalign.model import Alignment, Flag, TiltSeries, Tracks


class Nudge(MethodOptions):
    """Options of the fake method."""

    amount_nm: Annotated[
        float,
        Field(ge=0, le=100, description="How far every image is shifted, nm", json_schema_extra={"flag": "--nudge-nm"}),
    ] = 1.0
    trouble: Annotated[
        Literal["none", "fails", "bug", "no-memory", "stops", "killed", "all-excluded"],
        Field(description="What goes wrong in unlucky series"),
    ] = "none"
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
