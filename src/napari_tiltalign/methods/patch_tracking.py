"""Method ``patch-tracking``: align by following patches of the images, without gold beads.

1. Every view is made flat (`flat_series`). A robust graph of correlations of whole views gives first shifts, tilt axis
   and tilt offset (`patch_start`).
2. Patches on a grid in the specimen plane are cut out of every view where the geometry expects them, stretched flat.
   All pairs of views of a patch are compared, each pair weighted by what it tells besides the others
   (`patch_coherence`, `patch_measure`).
3. All patches together are solved for shift, rotation, tilt and magnification of every view and a height of every
   patch (`patch_solve`), and looked at again in the better geometry, first large and coarse, then small and fine
   (`patch_rounds`). The thickness of the specimen is found on the way, by likelihood.
4. The tracks are solved by the bundle adjustment that all methods with tracks share (`patch_result`).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from napari_tiltalign.errors import BadTiltSeries, MethodFailed
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.images.compute import single_threaded_algebra
from napari_tiltalign.methods.area import Area
from napari_tiltalign.methods.base import MethodOptions, Progress, silent
from napari_tiltalign.methods.flat_series import FlatSeries, flat_series, level_of
from napari_tiltalign.methods.level import level_specimen
from napari_tiltalign.methods.local_motion import estimate_local_motion
from napari_tiltalign.methods.patch_grid import WINDOW
from napari_tiltalign.methods.patch_result import PatchRun, alignment_from
from napari_tiltalign.methods.patch_rounds import PatchState, Scale, Tracked, estimate_thickness, track
from napari_tiltalign.methods.patch_start import Start, first_states, given_state
from napari_tiltalign.model import Alignment, TiltSeries

_FINE_SAMPLES, _COARSE_SAMPLES = 256, 128
"""Samples along the longer side of the field in the fine and in the coarse rounds."""
_FINE_BAND, _COARSE_BAND = 0.32, 0.32
"""Highest frequency used, cycles per sample: beyond, interpolation suffers and little is left of the signal."""
_COARSE_WINDOW = 0.5
_COARSE_OVERLAP = 0.5
_LEAST_ALONG = 3.0
"""So many large patches at least lie along the smaller side of an area."""
_COARSE_ROUNDS, _FINE_ROUNDS = 6, 5
_THICKNESS_ROUNDS = 3
_SAME_THICKNESS = 0.1
_LEAST_SAMPLES = 16
"""A window of fewer samples would hold no wave that can be followed."""
_BYTES_PER_RAW_PIXEL = 60.0
_BYTES_PER_SAMPLE, _BYTES_PER_PATCH_SAMPLE = 60.0, 40.0


class PatchTracking(MethodOptions):
    """Options of the alignment by patches."""

    patch_size_nm: Annotated[
        float,
        Field(
            ge=5.0,
            le=5000.0,
            description="Size of the patches, nm. They fade out smoothly: this is their width at half of the height.",
        ),
    ] = 100.0
    patch_overlap_percent: Annotated[
        float,
        Field(ge=0.0, le=80.0, description="Overlap of neighbouring patches in both directions, percent."),
    ] = 50.0
    thickness: Annotated[
        Literal["estimate", "given"],
        Field(description="Whether the thickness of the specimen is found from the images, or given."),
    ] = "estimate"
    sample_thickness_nm: Annotated[
        float,
        Field(ge=10.0, le=1000.0, description="Thickness of the specimen, nm; where it is estimated, a first guess."),
    ] = 150.0
    level: Annotated[
        Literal["off", "estimate"],
        Field(
            description="Whether to turn the specimen so that the patches lie level, if that is certain; what was "
            "found is told anyway."
        ),
    ] = "off"
    local_motion: Annotated[
        Literal["off", "estimate"],
        Field(
            description="Whether to look for motion of the specimen in itself; it is kept only if it predicts patches "
            "that are left out better, and does not change the geometry."
        ),
    ] = "estimate"
    area: Annotated[
        str,
        Field(
            max_length=20000,
            description="Use patches within this part of the view with the lowest tilt only, percent of the image: "
            "x0,y0,x1,y1 is a rectangle (x to the right, y along the rows), x,y x,y x,y ... a polygon, several are "
            "separated by ;. Empty: all of it.",
        ),
    ] = ""

    @field_validator("area")
    @classmethod
    def _check_area(cls, text: str) -> str:
        Area.of_text(text)
        return text


class PatchTrackingMethod:
    """Align by patches (see the module's docstring)."""

    name = "patch-tracking"
    title = "Patches"
    summary = "For series without gold beads: follows patches of the specimen, which may lie at different heights."
    Options: type[MethodOptions] = PatchTracking
    uses_gpu = True

    def __call__(
        self,
        series: TiltSeries,
        options: MethodOptions,
        *,
        start: Alignment | None = None,
        progress: Progress = silent,
    ) -> Alignment:
        """Align one series by patches.

        Parameters
        ----------
        series
            At least three included images.
        options
            `PatchTracking` options.
        start
            Its geometry is where to start; images that it excludes take no part.
        progress
            Told how far it is.

        Raises
        ------
        BadTiltSeries
            If there are too few images, or patches would be too small for their pixels.
        MethodFailed
            If the views cannot be tied together.
        """
        if not isinstance(options, PatchTracking):
            raise TypeError(f"expected PatchTracking options, not {type(options).__name__}")
        if series.included.sum() < 3:
            raise BadTiltSeries(series.name, f"{series.included.sum()} images are included; at least 3 are needed")
        with single_threaded_algebra():
            try:
                return _align(series, options, start, progress, self.name)
            except np.linalg.LinAlgError as error:
                raise MethodFailed(
                    f"{series.name}: the patches do not determine the views ({error}); try larger patches "
                    "(--patch-size-nm), or exclude bad views"
                ) from error

    def memory_bytes(self, series: TiltSeries, options: MethodOptions) -> float:
        """Most memory held for a series, bytes: all images and patches at the working scale, and a few raw images."""
        if not isinstance(options, PatchTracking):
            raise TypeError(f"expected PatchTracking options, not {type(options).__name__}")
        pixels = float(np.prod(series.image_shape_yx))
        samples = pixels / max(1.0, max(series.image_shape_yx) / (2.0 * _FINE_SAMPLES)) ** 2
        repeated = (WINDOW / (1.0 - options.patch_overlap_percent / 100.0)) ** 2
        per_view = samples * _BYTES_PER_SAMPLE + samples / 4.0 * repeated * _BYTES_PER_PATCH_SAMPLE
        return float(series.included.sum()) * per_view + pixels * _BYTES_PER_RAW_PIXEL

    def cpu_seconds(self, series: TiltSeries, options: MethodOptions) -> float:
        """Time on one core of an ordinary machine, within a factor of about two; see docs/performance.md."""
        return float(series.included.sum()) * (0.25 + 2e-8 * float(np.prod(series.image_shape_yx)))


def _align(
    series: TiltSeries, options: PatchTracking, start: Alignment | None, progress: Progress, name: str
) -> Alignment:
    field = max(series.image_shape_yx) * series.pixel_size_angst
    window = WINDOW * options.patch_size_nm * 10.0
    fine_pitch = max(min(field / _FINE_SAMPLES, window / _LEAST_SAMPLES), series.pixel_size_angst)
    _check_patches(series, options, window, fine_pitch)
    if start is not None:
        series = _without_excluded(series, start)
    flat = flat_series(series, 0.5 * fine_pitch, progress=lambda part, what: progress(0.25 * part, what))
    progress(0.25, "correlating views")
    begin, geometry = _begin(series, flat, options, start)
    progress(0.4, "following large patches")
    best = _best_start(flat, begin, options, series.name)
    progress(0.6, "following patches")
    fine = Scale(
        level_of(flat, fine_pitch), window, options.patch_size_nm * 10.0 * (1 - options.patch_overlap_percent / 100.0),
        _FINE_BAND / fine_pitch, Area.of_text(options.area),
    )  # fmt: skip
    tracked = _tracked(
        best, flat, fine, _FINE_ROUNDS, series.name, learn_priors=True,
        progress=lambda part, what: progress(0.6 + 0.35 * part, what),
    )  # fmt: skip
    progress(0.95, "judging the result")
    result = alignment_from(PatchRun(series, options, name, flat, tracked, begin.not_tied, geometry))
    result = level_specimen(result, apply=options.level == "estimate")
    if options.local_motion == "estimate":
        result = estimate_local_motion(result, series)
    progress(1.0, "done")
    return result


def _check_patches(series: TiltSeries, options: PatchTracking, window_angst: float, pitch_angst: float) -> None:
    smallest = min(series.image_shape_yx) * series.pixel_size_angst
    if window_angst / pitch_angst < _LEAST_SAMPLES:
        raise BadTiltSeries(
            series.name,
            f"patches of {options.patch_size_nm:g} nm are {options.patch_size_nm * 10 / series.pixel_size_angst:.1f} "
            f"pixels wide at {series.pixel_size_angst:g} Angstrom per pixel, too few to follow; use larger patches "
            "(--patch-size-nm) or less binned images, or check the pixel size",
        )
    if window_angst > smallest:
        raise BadTiltSeries(
            series.name,
            f"patches of {options.patch_size_nm:g} nm are more than half of the field of {smallest / 10:.0f} nm; "
            "use smaller patches (--patch-size-nm), or check the pixel size",
        )


def _without_excluded(series: TiltSeries, start: Alignment) -> TiltSeries:
    reasons = {
        tilt_id: reason or "excluded in the start"
        for tilt_id, used, reason in zip(start.tilt_ids, start.included, start.reasons, strict=True)
        if not used and tilt_id in series.tilt_ids and series[tilt_id].included
    }
    return series.with_exclusions(reasons)


def _begin(
    series: TiltSeries, flat: FlatSeries, options: PatchTracking, start: Alignment | None
) -> tuple[Start, ViewGeometry]:
    """Where to start, and the geometry that the priors are about, views in order of tilt."""
    thickness = options.sample_thickness_nm * 10.0
    nominal = ViewGeometry.nominal(flat.nominal_tilt_deg, series.nominal_axis_deg)
    try:
        if start is None:
            return first_states(flat, series.nominal_axis_deg, thickness), nominal
        geometry = start.take(tuple(series.tilt_ids[i] for i in flat.order)).geometry
        return given_state(flat, geometry, flat.usable, thickness), geometry
    except MethodFailed as error:
        raise MethodFailed(f"{series.name}: {error}") from error


def _best_start(flat: FlatSeries, begin: Start, options: PatchTracking, name: str) -> PatchState:
    """The likeliest of the starts after large patches were followed; one of them may fail."""
    found: list[Tracked] = []
    failures: list[MethodFailed] = []
    for state in begin.states:
        try:
            found.append(_coarse(flat, state, options, name))
        except MethodFailed as error:
            failures.append(error)
    if not found:
        raise failures[0]
    return max(found, key=lambda tracked: tracked.likelihood).state


def _coarse(flat: FlatSeries, state: PatchState, options: PatchTracking, name: str) -> Tracked:
    """Follow large patches from one start, and find the thickness if asked to."""
    field = float(flat.field_yx_angst.max())
    pitch = max(field / _COARSE_SAMPLES, float(flat.grid.pitch_yx_angst.max()))
    window = _COARSE_WINDOW * float(flat.field_yx_angst.min())
    area = Area.of_text(options.area)
    # large patches are centred in the area, closer to each other where it is small
    spacing = min((1.0 - _COARSE_OVERLAP) * window, area.narrowest() * float(flat.field_yx_angst.min()) / _LEAST_ALONG)
    scale = Scale(level_of(flat, pitch), window, spacing, _COARSE_BAND / pitch, area)
    tracked = _tracked(state, flat, scale, _COARSE_ROUNDS, name)
    for _ in range(_THICKNESS_ROUNDS if options.thickness == "estimate" else 0):
        before = tracked.state.coherence.thickness_angst
        found, likelihood = estimate_thickness(tracked.state, scale, tracked.points_zyx)
        state = tracked.state.replace(coherence=tracked.state.coherence.replace(thickness_angst=found))
        tracked = dataclasses.replace(tracked, state=state, likelihood=likelihood)
        if abs(np.log(found / before)) < _SAME_THICKNESS:
            break
        tracked = _tracked(state, flat, scale, _COARSE_ROUNDS, name)
    return tracked


def _tracked(
    state: PatchState,
    flat: FlatSeries,
    scale: Scale,
    rounds: int,
    name: str,
    *,
    learn_priors: bool = False,
    progress: Progress = silent,
) -> Tracked:
    try:
        return track(state, scale, flat.field_yx_angst, rounds, learn_priors=learn_priors, progress=progress)
    except MethodFailed as error:
        raise MethodFailed(f"{name}: {error}") from error


PATCH_TRACKING = PatchTrackingMethod()
