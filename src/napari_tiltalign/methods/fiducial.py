"""Method ``fiducial``: align by gold beads.

1. Every view is cleaned and candidates are found with the projection of a sphere (`beads`).
2. Candidates are linked through the tilts by their constellation (`constellation`), with image correlation as a hint.
3. A bundle adjustment (`bundle`) solves shift, rotation, tilt and magnification of every view together with the 3D
   positions of the beads; how freely each may vary is learned from the series (`learning`).
4. Every bead is localised at its predicted position in every view with a profile learned from the beads (`localise`),
   which fills gaps; then the geometry is solved for good (`bead_refinement`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_tiltalign.errors import BadTiltSeries, MethodFailed
from napari_tiltalign.geometry import FloatArray, wrap_deg
from napari_tiltalign.images.compute import map_views, single_threaded_algebra
from napari_tiltalign.images.prepare import bin_image
from napari_tiltalign.methods.base import MethodOptions, Progress, silent
from napari_tiltalign.methods.bead_refinement import Scene, refine
from napari_tiltalign.methods.bead_result import BeadRun, alignment_from
from napari_tiltalign.methods.beads import BeadView, bad_views, find_beads, keep_the_gold
from napari_tiltalign.methods.coarse import neighbour_shifts
from napari_tiltalign.methods.constellation import Constellation, Problem, grow
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.model import Alignment, TiltSeries

_WORKING_DIAMETER_PX = 9.0
"""Images are binned by a whole number so that a bead stays at least this wide."""

_SMALLEST_DIAMETER_PX = 3.0
_HEIGHT_SD = 0.12
"""Prior spread of the beads in z, parts of the larger side of the field."""


class Fiducial(MethodOptions):
    """Options of the alignment by gold beads."""

    diameter_nm: Annotated[
        float,
        Field(
            ge=1.0,
            le=200.0,
            description="Diameter of the gold beads, nm. Need not be exact: 30 % off costs little.",
            json_schema_extra={"flag": "--fiducial-diameter-nm"},
        ),
    ] = 10.0
    bead_contrast: Annotated[
        Literal["dark", "bright"],
        Field(description="Whether beads are darker or brighter than the ice around them."),
    ] = "dark"


class FiducialMethod:
    """Align by gold beads (see the module's docstring)."""

    name = "fiducial"
    title = "Gold beads"
    summary = "For series with at least three gold beads in the field: the most accurate method where there are some."
    Options: type[MethodOptions] = Fiducial

    def __call__(
        self,
        series: TiltSeries,
        options: MethodOptions,
        *,
        start: Alignment | None = None,
        progress: Progress = silent,
    ) -> Alignment:
        """Align one series by its beads.

        Parameters
        ----------
        series
            At least three included images.
        options
            `Fiducial` options.
        start
            Its tilt axis is taken as the nominal one; nothing else is needed.
        progress
            Told how far it is.

        Raises
        ------
        BadTiltSeries
            If there are too few images, or beads would be too small to be seen.
        MethodFailed
            If too few beads are found to tie the views together.
        """
        if not isinstance(options, Fiducial):
            raise TypeError(f"expected Fiducial options, not {type(options).__name__}")
        diameter_px = options.diameter_nm * 10.0 / series.pixel_size_angst
        _check(series, options, diameter_px)
        with single_threaded_algebra():
            return _align(series, options, diameter_px, start, progress)


def _align(
    series: TiltSeries, options: Fiducial, diameter_px: float, start: Alignment | None, progress: Progress
) -> Alignment:
    factor = max(1, int(diameter_px / _WORKING_DIAMETER_PX))
    order = series.tilt_order()
    tilt = series.nominal_tilt_deg[order]
    axis = series.nominal_axis_deg if start is None else start.axis_deg

    views, reasons = _detect(series, order, options, diameter_px / factor, factor, progress)
    views, _ = keep_the_gold(views)
    progress(0.5, "linking beads")
    first = next(view for view in views if view is not None)
    shape = first.image.contrast.shape
    centre = _centre_index(series.image_shape_yx, factor)
    problem = Problem(
        [np.zeros((0, 2)) if view is None else view.beads.position_yx - centre for view in views],
        tilt,
        axis,
        (float(shape[0]), float(shape[1])),
        diameter_px / factor,
        _HEIGHT_SD * max(shape),
        default_priors,
        neighbour_shifts([None if v is None else v.image.contrast for v in views], tilt, axis),
    )
    linked = _linked(series, problem, options)
    progress(0.65, "localising beads and solving")
    images = [first.image if view is None else view.image for view in views]
    scene = Scene(images, tilt, centre, problem.diameter_px, problem.height_sd)
    refined = refine(scene, linked, default_priors(tilt, linked.axis_deg))
    progress(0.95, "judging the result")
    run = BeadRun(series, options, order, factor, scene, linked, refined, reasons, views)
    result = alignment_from(run, axis_turned=bool(abs(wrap_deg(linked.axis_deg - axis)) > 1.0))
    progress(1.0, "done")
    return result


def _check(series: TiltSeries, options: Fiducial, diameter_px: float) -> None:
    if series.included.sum() < 3:
        raise BadTiltSeries(series.name, f"{series.included.sum()} images are included; at least 3 are needed")
    if diameter_px < _SMALLEST_DIAMETER_PX:
        raise BadTiltSeries(
            series.name,
            f"beads of {options.diameter_nm:g} nm are {diameter_px:.1f} pixels wide at {series.pixel_size_angst:g} "
            f"Angstrom per pixel; at least {_SMALLEST_DIAMETER_PX:g} are needed: use less binned images, or check "
            "the diameter and the pixel size",
        )


def _detect(
    series: TiltSeries,
    order: NDArray[np.intp],
    options: Fiducial,
    diameter_px: float,
    factor: int,
    progress: Progress,
) -> tuple[list[BeadView | None], dict[int, str]]:
    """Read and search every included view, in order of tilt; bad ones come back as None with a reason."""
    bright = options.bead_contrast == "bright"
    included = [int(i) for i in order if series.tilts[int(i)].included]

    def one(index: int) -> BeadView:
        return find_beads(bin_image(series.tilts[index].image.read(), factor), diameter_px, bright=bright)

    searched = map_views(one, included, on_done=lambda n: progress(0.5 * n / len(included), "finding beads"))
    found = dict(zip(included, searched, strict=True))
    views: list[BeadView | None] = [found.get(int(i)) for i in order]
    reasons = bad_views(views)
    usable = [None if k in reasons else view for k, view in enumerate(views)]
    if sum(view is not None for view in usable) < 3:
        raise MethodFailed(f"{series.name}: only {len(usable) - len(reasons)} views are neither dark nor blocked")
    return usable, reasons


def _linked(series: TiltSeries, problem: Problem, options: Fiducial) -> Constellation:
    linked = grow(problem)
    counts = [len(found) for found in problem.detections_yx]
    enough = linked is not None and len(linked.joined) >= 3 and linked.rank()[1] > 0
    if linked is None or not enough:
        raise MethodFailed(
            f"{series.name}: {int(np.median(counts))} candidates for beads of {options.diameter_nm:g} nm were found "
            f"per view (median), too few to tie the views together; check the bead diameter, or align without beads "
            "(slab, patch-tracking)"
        )
    return linked


def _centre_index(image_shape_yx: tuple[int, int], factor: int) -> FloatArray:
    """Index of the image centre (N // 2 of the full image) in an image binned by `factor`."""
    centre: FloatArray = (np.array(image_shape_yx) // 2 + 0.5) / factor - 0.5
    return centre


FIDUCIAL = FiducialMethod()
