"""Method ``projection-matching``: align every view to what the others predict of it.

1. Views are flattened, and first shifts, the tilt offset and the axis are found by a graph of pairs (`pair_graph`).
2. Views are stretched into the specimen plane (`match_plane`), where reconstructing a slab from all views but one and
   projecting it along that one is a small matrix for every spatial frequency (`match_predict`).
3. Every view is matched to its prediction, as a whole and tile by tile (`match_measure`).
4. Shift, rotation, tilt and magnification of all views are solved together from the displacements, with priors and with
   what the predictions have in common (`match_solve`); then all is done again, coarse to fine (`match_align`).
5. The thickness of the slab and the tilt axis are set to where the score of the predictions is best.

A specimen that stands alone in vacuum is no slab: `isolated_views`, `isolated_start`, `isolated_model` and
`isolated_align` do the same for it with a reconstruction of its sections.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from napari_tiltalign.errors import BadTiltSeries, MethodFailed
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.images.compute import single_threaded_algebra
from napari_tiltalign.methods.base import MethodOptions, Progress, silent
from napari_tiltalign.methods.flat_series import FlatSeries, flat_series
from napari_tiltalign.methods.gold_eraser import SMALLEST_DIAMETER_PX, FoundGold, find_gold
from napari_tiltalign.methods.isolated_align import MOST_SAMPLES, align_isolated
from napari_tiltalign.methods.isolated_result import IsolatedRun, isolated_alignment
from napari_tiltalign.methods.isolated_views import SAMPLES, mass_series, shows_isolated_specimen
from napari_tiltalign.methods.local_motion import estimate_local_motion
from napari_tiltalign.methods.match_align import FINE_SAMPLES, LEAST_VIEWS, Wanted, align_views
from napari_tiltalign.methods.match_result import MatchRun, alignment_from
from napari_tiltalign.model import Alignment, TiltSeries

_CLIP_SIGMAS = 2.5
"""Gold and dirt stand out more than that, and would decide alone where they lie on the faces of the slab."""

_BYTES_PER_SAMPLE = 60.0
_BYTES_PER_ENTRY = 24.0
"""Of the matrices that couple all samples across a specimen in vacuum."""
_BYTES_PER_RAW_PIXEL = 60.0


class ProjectionMatching(MethodOptions):
    """Options of the alignment by projection matching."""

    sample_thickness_nm: Annotated[
        float,
        Field(
            ge=5.0,
            le=5000.0,
            description="Thickness of the sample, nm. Where it is estimated, a guess within a factor of three will do.",
        ),
    ] = 150.0
    sample_thickness: Annotated[
        Literal["estimate", "given"],
        Field(description="Whether the thickness is estimated by the score of the predictions, or taken as given."),
    ] = "estimate"
    tilt_angle_offset: Annotated[
        Literal["off", "estimate", "given"],
        Field(
            description="estimate: the offset of the tilts that makes the sample level is found and stays in the "
            "result. given: the offset below. off: tilts stay about as they are."
        ),
    ] = "estimate"
    tilt_angle_offset_deg: Annotated[
        float, Field(ge=-60.0, le=60.0, description="Offset of the tilts, if it is given, degrees.")
    ] = 0.0
    refine_tilt_axis: Annotated[
        bool, Field(description="Whether the tilt axis is refined; otherwise its mean stays where it is.")
    ] = True
    gold: Annotated[
        Literal["erase", "keep"],
        Field(
            description="Whether gold beads are erased once the views fit to about a pixel, where there are some: they "
            "lie on the faces, and stand for nothing of what is between."
        ),
    ] = "erase"
    gold_diameter_nm: Annotated[
        float,
        Field(ge=1.0, le=200.0, description="Diameter of gold beads there may be, nm. 30 % off costs little."),
    ] = 10.0
    local_motion: Annotated[
        Literal["off", "estimate"],
        Field(
            description="Whether to look for motion of the specimen in itself; it is kept only if it predicts tiles "
            "that are left out better, and does not change the geometry."
        ),
    ] = "estimate"
    specimen: Annotated[
        Literal["auto", "slab", "isolated"],
        Field(
            description="slab: it fills the field. isolated: it stands alone in vacuum, roughly along the tilt axis, "
            "like a needle; thickness and tilt offset mean nothing then. auto: looks at some of the images."
        ),
    ] = "auto"


class ProjectionMatchingMethod:
    """Align every view to what the others predict of it (see the module's docstring)."""

    name = "projection-matching"
    title = "Projection matching"
    summary = (
        "For series without beads, slabs or a needle in vacuum: whole views are matched with what the others predict."
    )
    Options: type[MethodOptions] = ProjectionMatching
    uses_gpu = True

    def __call__(
        self,
        series: TiltSeries,
        options: MethodOptions,
        *,
        start: Alignment | None = None,
        progress: Progress = silent,
    ) -> Alignment:
        """Align one series by projection matching.

        Parameters
        ----------
        series
            At least five included images.
        options
            `ProjectionMatching` options.
        start
            An alignment to start from: its shifts and angles are taken, and nothing is looked for from afar.
        progress
            Told how far it is.

        Raises
        ------
        BadTiltSeries
            If there are too few images, or they cannot be read.
        MethodFailed
            If too few views show the same specimen.
        """
        if not isinstance(options, ProjectionMatching):
            raise TypeError(f"expected ProjectionMatching options, not {type(options).__name__}")
        if series.included.sum() < LEAST_VIEWS:
            raise BadTiltSeries(
                series.name, f"{series.included.sum()} images are included; at least {LEAST_VIEWS} are needed"
            )
        with single_threaded_algebra():
            try:
                return _align(series, options, start, progress)
            except np.linalg.LinAlgError as error:
                raise MethodFailed(
                    f"{series.name}: the images do not determine the views ({error}); exclude bad views, or align by "
                    "gold beads (fiducial)"
                ) from error

    def memory_bytes(self, series: TiltSeries, options: MethodOptions) -> float:
        """Most memory held for a series, bytes: all views at the working scale, and a few raw ones at a time."""
        pixels = float(np.prod(series.image_shape_yx))
        n = float(series.included.sum())
        samples = min(pixels, float(FINE_SAMPLES) ** 2)
        raw = pixels * _BYTES_PER_RAW_PIXEL
        as_slab = n * samples * _BYTES_PER_SAMPLE + 8.0 * n**2 * FINE_SAMPLES**2 / 16.0 + raw
        if not isinstance(options, ProjectionMatching) or options.specimen == "slab":
            return as_slab
        alone = _BYTES_PER_ENTRY * min(float(MOST_SAMPLES), n * SAMPLES) ** 2 + raw
        return max(as_slab, alone)

    def cpu_seconds(self, series: TiltSeries, options: MethodOptions) -> float:
        """Time on one core of an ordinary machine, within a factor of about two; see docs/performance.md."""
        return float(series.included.sum()) * (0.29 + 2e-8 * float(np.prod(series.image_shape_yx)))


def _align(series: TiltSeries, options: ProjectionMatching, start: Alignment | None, progress: Progress) -> Alignment:
    if options.specimen == "isolated" or (options.specimen == "auto" and shows_isolated_specimen(series)):
        return _align_isolated(series, options, start, progress)
    pitch = max(series.image_shape_yx) * series.pixel_size_angst / FINE_SAMPLES
    gold = _gold(series, options)
    flat = flat_series(
        series, pitch, clip_sigmas=_CLIP_SIGMAS, retouch=gold.erase,
        progress=lambda done, text: progress(0.1 * done, text),
    )  # fmt: skip
    # nothing shows the way to about a pixel better than gold
    with_gold = flat_series(series, pitch, clip_sigmas=_CLIP_SIGMAS) if gold.per_view else flat
    progress(0.1, "finding first shifts")
    given = options.tilt_angle_offset == "given"
    wanted = Wanted(
        options.sample_thickness_nm * 10.0,
        find_thickness=options.sample_thickness == "estimate",
        find_offset=not given,
        find_axis=options.refine_tilt_axis,
        refine_axis=options.refine_tilt_axis,
    )
    first = _first_guess(series, flat, options, start)
    try:
        state = align_views(flat, with_gold, first, wanted, from_start=start is not None, progress=progress)
    except MethodFailed as error:
        raise MethodFailed(f"{series.name}: {error}") from error
    if state.step is None or state.used.sum() < LEAST_VIEWS:
        raise MethodFailed(
            f"{series.name}: only {state.used.sum()} views show the same specimen, {LEAST_VIEWS} are needed; exclude "
            "bad views, give the tilt axis (--axis), or align by gold beads (fiducial)"
        )
    progress(0.98, "judging the result")
    result = alignment_from(MatchRun(series, options, flat, state), _offset_of_result(options, state.offset_deg))
    progress(1.0, "done")
    result = result.replace(statistics={**result.statistics, "gold_per_view": gold.per_view})
    return estimate_local_motion(result, series) if options.local_motion == "estimate" else result


def _gold(series: TiltSeries, options: ProjectionMatching) -> FoundGold:
    """Gold to erase; none where it is to be kept, or where beads are too small to be seen."""
    diameter_px = options.gold_diameter_nm * 10.0 / series.pixel_size_angst
    if options.gold == "keep" or diameter_px < SMALLEST_DIAMETER_PX:
        return FoundGold({}, diameter_px)
    return find_gold(series, options.gold_diameter_nm)


def _align_isolated(
    series: TiltSeries, options: ProjectionMatching, start: Alignment | None, progress: Progress
) -> Alignment:
    masses = mass_series(series, progress=lambda done, text: progress(0.2 * done, text))
    if masses.usable.sum() < LEAST_VIEWS:
        raise MethodFailed(
            f"{series.name}: only {masses.usable.sum()} views show a specimen that stands alone in vacuum, "
            f"{LEAST_VIEWS} are needed; if it fills the field, say so (--specimen slab)"
        )
    first = (
        ViewGeometry.nominal(masses.nominal_tilt_deg, series.nominal_axis_deg)
        if start is None
        else start.take(tuple(series.tilt_ids[i] for i in masses.order)).geometry
    )
    progress(0.2, "finding first shifts")
    state = align_isolated(
        masses, first, from_start=start is not None, refine_axis=options.refine_tilt_axis, progress=progress
    )
    result = isolated_alignment(IsolatedRun(series, options, masses, state))
    progress(1.0, "done")
    return result


def _first_guess(
    series: TiltSeries, flat: FlatSeries, options: ProjectionMatching, start: Alignment | None
) -> ViewGeometry:
    """Geometry to start from, views in order of tilt."""
    if start is not None:
        return start.take(tuple(series.tilt_ids[i] for i in flat.order)).geometry
    offset = options.tilt_angle_offset_deg if options.tilt_angle_offset == "given" else 0.0
    return ViewGeometry.nominal(flat.nominal_tilt_deg + offset, series.nominal_axis_deg)


def _offset_of_result(options: ProjectionMatching, found_deg: float) -> float:
    """Mean offset of the tilts in the result. Any is the same to the images: it is a turn of the specimen."""
    return {"estimate": found_deg, "given": options.tilt_angle_offset_deg, "off": 0.0}[options.tilt_angle_offset]


PROJECTION_MATCHING = ProjectionMatchingMethod()
