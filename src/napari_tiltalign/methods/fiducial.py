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
from pydantic import Field

from napari_tiltalign.errors import BadTiltSeries, MethodFailed
from napari_tiltalign.geometry import FloatArray, wrap_deg
from napari_tiltalign.images.compute import single_threaded_algebra
from napari_tiltalign.images.prepare import Image
from napari_tiltalign.methods.base import MethodOptions, Progress, silent
from napari_tiltalign.methods.bead_refinement import Scene, refine
from napari_tiltalign.methods.bead_result import BeadRun, alignment_from
from napari_tiltalign.methods.bead_search import WORKING_DIAMETER_PX, Search, estimate_diameter_px, search
from napari_tiltalign.methods.coarse import neighbour_shifts
from napari_tiltalign.methods.constellation import Constellation, Problem, grow
from napari_tiltalign.methods.hand import tell_hand
from napari_tiltalign.methods.level import level_specimen
from napari_tiltalign.methods.local_motion import estimate_local_motion
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.model import Alignment, TiltSeries

_SMALLEST_DIAMETER_PX = 3.0
_BYTES_PER_PIXEL, _BYTES_PER_RAW_PIXEL = 20.0, 60.0
_HEIGHT_SD = 0.3
"""Prior spread of the beads in z, parts of the larger side of the field.

Two faces 300 nm apart in a field of 512 nm are 0.3 from the middle. With a narrower prior the beads of one face are not
linked from a view to the next; a wider one costs nothing.
"""


class Fiducial(MethodOptions):
    """Options of the alignment by gold beads.

    Examples
    --------
    >>> from napari_tiltalign import Fiducial
    >>> Fiducial(diameter_nm=15)  # only what differs from the defaults is shown
    Fiducial(diameter_nm=15.0)
    """

    diameter_nm: Annotated[
        float,
        Field(
            ge=1.0,
            le=200.0,
            description="Diameter of the gold beads, nm. Need not be exact: 30 % off costs little.",
            json_schema_extra={"flag": "--fiducial-diameter-nm"},
        ),
    ] = 10.0
    diameter: Annotated[
        Literal["given", "estimate"],
        Field(
            description="Whether the diameter of the beads is given, or estimated from the images.",
            json_schema_extra={"label": "The diameter is"},
        ),
    ] = "given"
    second_diameter_nm: Annotated[
        float,
        Field(ge=0.0, le=200.0, description="Diameter of a second size of beads, nm; 0 if all are of one size."),
    ] = 0.0
    bead_contrast: Annotated[
        Literal["dark", "bright"],
        Field(description="Whether beads are darker or brighter than the ice around them."),
    ] = "dark"
    local_motion: Annotated[
        Literal["off", "estimate"],
        Field(
            description="Whether to look for motion of the specimen in itself; it is kept only if it predicts beads "
            "that are left out better, and does not change the geometry."
        ),
    ] = "estimate"
    hand: Annotated[
        Literal["off", "estimate"],
        Field(
            description="Whether to tell the hand of the specimen by the fringes of the beads, where the defocus is "
            "known; it is told, and changes nothing."
        ),
    ] = "estimate"
    level: Annotated[
        Literal["off", "estimate"],
        Field(
            description="Whether to turn the specimen so that the surfaces the beads lie on are level, if that is "
            "certain; what was found is told anyway."
        ),
    ] = "off"


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
        if series.included.sum() < 3:
            raise BadTiltSeries(series.name, f"{series.included.sum()} images are included; at least 3 are needed")
        with single_threaded_algebra():
            return _align(series, options, start, progress)

    def memory_bytes(self, series: TiltSeries, options: MethodOptions) -> float:
        """Most memory held for a series, bytes: all images at the working scale, and a few raw ones at a time.

        Measured: 73 MB for 21 images of 512 x 512 and of 1024 x 1024, 127 MB for 2048 x 2048 (two threads).
        """
        if not isinstance(options, Fiducial):
            raise TypeError(f"expected Fiducial options, not {type(options).__name__}")
        pixels = float(np.prod(series.image_shape_yx))
        diameter_px = options.diameter_nm * 10.0 / series.pixel_size_angst
        binned = 1.0 if options.diameter == "estimate" else max(1, int(diameter_px / WORKING_DIAMETER_PX))
        return float(series.included.sum()) * pixels / binned**2 * _BYTES_PER_PIXEL + pixels * _BYTES_PER_RAW_PIXEL

    def cpu_seconds(self, series: TiltSeries, options: MethodOptions) -> float:
        """Time on one core of an ordinary machine, within a factor of about two; see docs/performance.md."""
        return float(series.included.sum()) * (0.06 + 4e-9 * float(np.prod(series.image_shape_yx)))


def _align(series: TiltSeries, options: Fiducial, start: Alignment | None, progress: Progress) -> Alignment:
    found = search(series, _diameters_px(series, options), bright=options.bead_contrast == "bright", progress=progress)
    progress(0.5, "linking beads")
    axis = series.nominal_axis_deg if start is None else start.axis_deg
    scene = _scene(series, found)
    linked = _linked(series, _problem(found, scene, axis))
    progress(0.65, "localising beads and solving")
    priors = default_priors(scene.nominal_tilt_deg, linked.axis_deg)
    sizes = [np.zeros(0, dtype=int) if view is None else view.size for view in found.views]
    try:
        refined = refine(scene, linked, priors, sizes)
    except MethodFailed as error:
        raise MethodFailed(f"{series.name}: {error}") from error
    progress(0.95, "judging the result")
    turned = bool(abs(wrap_deg(linked.axis_deg - axis)) > 1.0)
    result = alignment_from(BeadRun(series, options, found, scene, linked, refined), axis_turned=turned)
    if options.hand == "estimate":
        result = tell_hand(result, series, _in_series_order(found), found.factor, scene.diameter_px)
    result = level_specimen(result, apply=options.level == "estimate")
    if options.local_motion == "estimate":
        result = estimate_local_motion(result, series)
    progress(1.0, "done")
    return result


def _diameters_px(series: TiltSeries, options: Fiducial) -> tuple[float, ...]:
    """Diameters to look for, raw pixels."""
    given_nm = [options.diameter_nm] + ([options.second_diameter_nm] if options.second_diameter_nm > 0 else [])
    diameters = [nm * 10.0 / series.pixel_size_angst for nm in given_nm]
    if options.diameter == "estimate":
        diameters[0] = estimate_diameter_px(series, bright=options.bead_contrast == "bright")
    if min(diameters) < _SMALLEST_DIAMETER_PX:
        raise BadTiltSeries(
            series.name,
            f"beads of {min(given_nm):g} nm are {min(diameters):.1f} pixels wide at {series.pixel_size_angst:g} "
            f"Angstrom per pixel; at least {_SMALLEST_DIAMETER_PX:g} are needed: use less binned images, or check "
            "the diameter and the pixel size",
        )
    return tuple(diameters)


def _scene(series: TiltSeries, found: Search) -> Scene:
    first = next(view for view in found.views if view is not None)
    return Scene(
        [first.image if view is None else view.image for view in found.views],
        series.nominal_tilt_deg[found.order],
        _centre_index(series.image_shape_yx, found.factor),
        found.diameters_px,
        _HEIGHT_SD * max(first.image.contrast.shape),
    )


def _in_series_order(found: Search) -> list[Image | None]:
    images: list[Image | None] = [None] * len(found.order)
    for index, view in zip(found.order.tolist(), found.views, strict=True):
        images[index] = None if view is None else view.image.contrast
    return images


def _problem(found: Search, scene: Scene, axis_deg: float) -> Problem:
    tilt = scene.nominal_tilt_deg
    return Problem(
        [np.zeros((0, 2)) if v is None else v.beads.position_yx - scene.centre_yx for v in found.views],
        tilt,
        axis_deg,
        (float(scene.shape_yx[0]), float(scene.shape_yx[1])),
        scene.diameter_px,
        scene.height_sd,
        default_priors,
        neighbour_shifts([None if v is None else v.image.contrast for v in found.views], tilt, axis_deg),
    )


def _linked(series: TiltSeries, problem: Problem) -> Constellation:
    linked = grow(problem)
    if linked is None or len(linked.joined) < 3 or linked.rank()[1] == 0:
        counts = [len(found) for found in problem.detections_yx]
        raise MethodFailed(
            f"{series.name}: {int(np.median(counts))} beads were found per view (median), too few to tie the views "
            "together; check the bead diameter, or align without beads (slab, patch-tracking)"
        )
    return linked


def _centre_index(image_shape_yx: tuple[int, int], factor: int) -> FloatArray:
    """Index of the image centre (N // 2 of the full image) in an image binned by `factor`."""
    centre: FloatArray = (np.array(image_shape_yx) // 2 + 0.5) / factor - 0.5
    return centre


FIDUCIAL = FiducialMethod()
