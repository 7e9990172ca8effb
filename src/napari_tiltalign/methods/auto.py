"""Method ``auto``: look at the series, align by gold beads where there are enough, and as a slab where there are not.

1. What is surely gold is looked for (`gold_eraser.find_gold`). Without at least three beads per view, or with all of
   them in one corner, the series is aligned without beads.
2. Otherwise it is aligned by its beads. If that fails, or leaves out many views, it is aligned without beads as well.
3. Without beads it is aligned as a slab; a specimen that is none is aligned by projection matching.

What was done and why is in the flag ``method_chosen`` and in the details.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from napari_tiltalign.errors import BadTiltSeries, MethodFailed
from napari_tiltalign.methods.base import Method, MethodOptions, Progress, silent
from napari_tiltalign.methods.fiducial import FIDUCIAL, Fiducial
from napari_tiltalign.methods.gold_eraser import SMALLEST_DIAMETER_PX, FoundGold, find_gold
from napari_tiltalign.methods.projection_matching import PROJECTION_MATCHING
from napari_tiltalign.methods.slab import SLAB, Slab
from napari_tiltalign.model import Alignment, Flag, TiltSeries

LEAST_BEADS = 3
"""Beads per view (median) with which a series is aligned by beads."""
LEAST_SPREAD = 0.1
"""Part of the field that the beads must span, as a standard deviation along the direction in which they span least."""
LEAST_ALIGNED = 0.8
"""A result that has a smaller part of the included views is not good enough."""


class Auto(MethodOptions):
    """Options of the method that chooses a method."""

    diameter_nm: Annotated[
        float,
        Field(
            ge=1.0,
            le=200.0,
            description="Diameter of gold beads, if there are any, nm. 30 % off costs little.",
            json_schema_extra={"flag": "--fiducial-diameter-nm"},
        ),
    ] = 10.0
    sample_thickness_nm: Annotated[
        float,
        Field(ge=10.0, le=2000.0, description="First guess of the specimen's thickness, nm, if there are no beads."),
    ] = 150.0
    tilt_angle_offset: Annotated[
        Literal["off", "estimate"],
        Field(description="Whether the tilts are offset so that the specimen is level, if there are no beads."),
    ] = "estimate"


@dataclass(frozen=True, slots=True)
class _Choice:
    """A method to try, and why."""

    method: Method
    options: MethodOptions
    why: str


class AutoMethod:
    """Choose a method by looking at the series (see the module's docstring)."""

    name = "auto"
    title = "Choose by looking at the series"
    summary = "By gold beads where there are enough, without beads where there are not; it says which, and why."
    Options: type[MethodOptions] = Auto
    uses_gpu = True

    def __call__(
        self,
        series: TiltSeries,
        options: MethodOptions,
        *,
        start: Alignment | None = None,
        progress: Progress = silent,
    ) -> Alignment:
        """Align one series with the method that suits it.

        Parameters
        ----------
        series
            At least three included images.
        options
            `Auto` options.
        start
            Its tilt axis is taken as the nominal one; nothing else is needed.
        progress
            Told how far it is.

        Raises
        ------
        BadTiltSeries
            If there are too few images.
        MethodFailed
            If no method can align it; the message says what each of them said.
        """
        if not isinstance(options, Auto):
            raise TypeError(f"expected Auto options, not {type(options).__name__}")
        if series.included.sum() < LEAST_BEADS:
            raise BadTiltSeries(series.name, f"{series.included.sum()} images are included; at least 3 are needed")
        gold = _gold(series, options, lambda fraction, message: progress(0.1 * fraction, message))
        run = _Run(series, start, progress)
        reason = why_not_by_beads(gold, series)
        if not reason:
            by_beads = Fiducial(diameter_nm=options.diameter_nm)
            found = run.tried(
                _Choice(FIDUCIAL, by_beads, f"{gold.per_view:.0f} gold beads per view"), _by_beads_is_poor
            )
            if found is not None:
                return found
        return run.without_beads(options, reason or run.failures[-1])

    def memory_bytes(self, series: TiltSeries, options: MethodOptions) -> float:
        """Most memory held for a series, bytes: that of the method that needs most."""
        if not isinstance(options, Auto):
            raise TypeError(f"expected Auto options, not {type(options).__name__}")
        by_beads = FIDUCIAL.memory_bytes(series, Fiducial(diameter_nm=options.diameter_nm))
        return max(by_beads, SLAB.memory_bytes(series, _slab_options(options)))

    def cpu_seconds(self, series: TiltSeries, options: MethodOptions) -> float:
        """Time on one core of an ordinary machine, within a factor of about two, if there is no gold."""
        return FIDUCIAL.cpu_seconds(series, options) + SLAB.cpu_seconds(series, options)


def _gold(series: TiltSeries, options: Auto, progress: Progress) -> FoundGold:
    diameter_px = options.diameter_nm * 10.0 / series.pixel_size_angst
    if diameter_px < SMALLEST_DIAMETER_PX:
        return FoundGold({}, diameter_px)
    return find_gold(series, options.diameter_nm, progress=progress)


def _slab_options(options: Auto) -> Slab:
    return Slab(
        sample_thickness_nm=options.sample_thickness_nm,
        tilt_angle_offset=options.tilt_angle_offset,
        gold_diameter_nm=options.diameter_nm,
    )


def why_not_by_beads(gold: FoundGold, series: TiltSeries) -> str:
    """Return why the beads found are not enough to align by; empty if they are."""
    if gold.per_view < LEAST_BEADS:
        return f"{gold.per_view:.0f} gold beads per view (median); {LEAST_BEADS} are needed"
    spans = [
        np.sqrt(np.linalg.eigvalsh(np.cov((found / np.array(series.image_shape_yx)).T))[0])
        for found in gold.position_yx.values()
        if len(found) >= LEAST_BEADS
    ]
    if float(np.median(spans)) < LEAST_SPREAD:
        return f"the gold beads span only {np.median(spans):.0%} of the field (standard deviation along one direction)"
    return ""


def _by_beads_is_poor(alignment: Alignment) -> str:
    few = {flag.name for flag in alignment.flags} & {"few_beads", "rank_deficient"}
    return f"by beads: {', '.join(sorted(few))}" if few else ""


def _as_slab_is_poor(alignment: Alignment) -> str:
    none = [flag.detail for flag in alignment.flags if flag.name == "no_slab"]
    return f"as a slab: {none[0]}" if none else ""


class _Run:
    """Methods tried on one series, and why they were not good enough."""

    def __init__(self, series: TiltSeries, start: Alignment | None, progress: Progress) -> None:
        self.series, self.start, self.progress = series, start, progress
        self.failures: list[str] = []
        self.begun = 0.1

    def tried(self, choice: _Choice, poor: Callable[[Alignment], str]) -> Alignment | None:
        """Return the alignment by a method, or None if it failed or is poor; then `failures` says why."""
        begun, part = self.begun, 0.5 * (1.0 - self.begun)
        self.begun += part
        try:
            found = choice.method(
                self.series, choice.options, start=self.start,
                progress=lambda fraction, message: self.progress(begun + part * fraction, message),
            )  # fmt: skip
        except MethodFailed as error:
            self.failures.append(f"{choice.method.name} failed ({error})")
            return None
        aligned = float(found.included.sum()) / float(self.series.included.sum())
        reason = poor(found) or (f"by {choice.method.name} only {aligned:.0%} of the views are aligned"
                                 if aligned < LEAST_ALIGNED else "")  # fmt: skip
        if reason:
            self.failures.append(reason)
            return None
        self.progress(1.0, "done")
        return told(found, choice, self.failures)

    def without_beads(self, options: Auto, why: str) -> Alignment:
        """Align as a slab, or by projection matching if the specimen is none."""
        found = self.tried(_Choice(SLAB, _slab_options(options), why), _as_slab_is_poor)
        if found is None:
            matching = _Choice(PROJECTION_MATCHING, PROJECTION_MATCHING.Options(), self.failures[-1])
            found = self.tried(matching, lambda _: "")
        if found is None:
            raise MethodFailed(f"{self.series.name}: no method can align it: {'; '.join(self.failures)}")
        return found


def told(found: Alignment, choice: _Choice, failures: list[str]) -> Alignment:
    """Add to an alignment which method made it, and why."""
    details: dict[str, Any] = {"method": choice.method.name, "why": choice.why, "not_good_enough": list(failures)}
    return found.replace(
        details={**found.details, "auto": details},
        flags=(Flag("method_chosen", f"{choice.method.name}: {choice.why}"), *found.flags),
    )


AUTO = AutoMethod()
