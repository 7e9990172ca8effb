"""Method ``slab``: align without beads, by one likelihood of a random slab.

1. Views are made flat (`images.flat`), first shifts come from a robust graph of pairs, and candidates of tilt axis and
   tilt offset from how well stretched views agree (`slab_start`).
2. The specimen is taken for a random slab seen through tiles: all views of a tile are jointly Gaussian at every spatial
   frequency, and the volume integrates out (`slab_model`). Candidates are tried with several thicknesses, and the most
   likely one goes on.
3. Shift, rotation, tilt and magnification of every view and a height for every tile are fitted to that likelihood by
   Fisher scoring with priors, from coarse to fine (`slab_fit`). The heights level the slab.

The derivation is in docs/slab.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from napari_tiltalign.errors import BadTiltSeries, MethodFailed
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import single_threaded_algebra
from napari_tiltalign.methods.base import MethodOptions, Progress, silent
from napari_tiltalign.methods.flat_series import FlatSeries, flat_series, level_of
from napari_tiltalign.methods.gold_eraser import SMALLEST_DIAMETER_PX, FoundGold, find_gold
from napari_tiltalign.methods.pair_graph import coarse_pitch_angst
from napari_tiltalign.methods.projection import ROTATION
from napari_tiltalign.methods.slab_fit import SlabFit, fit_slab
from napari_tiltalign.methods.slab_motion import with_local_motion
from napari_tiltalign.methods.slab_pose import SlabPose
from napari_tiltalign.methods.slab_result import SlabRun, alignment_from
from napari_tiltalign.methods.slab_start import (
    THICKNESS_FACTORS,
    Candidate,
    first_poses,
    try_candidate,
    usable_part,
)
from napari_tiltalign.methods.slab_tiles import TileScale, tile_centres
from napari_tiltalign.model import Alignment, TiltSeries

LEAST_TILES = 6
"""With fewer tiles the geometry would rest on too little of the specimen."""

_FINEST_ANGST = 50.0
_FINEST_PIXELS = 2.5
_FINEST_PER_FIELD = 100.0
_TILE_ANGST = 1920.0
_TILE_PER_FIELD = 0.375
_SAMPLES_PER_FINEST = 2.5
_FIRST_COARSER, _SECOND_COARSER = 2.5, 1.6
_FIRST_LARGER = 4.0 / 3.0
_FIRST_STEPS, _STEPS = 6, 7
_ROUNDS = (5, 3, 1)
"""How often a pass is run at most,"""
_SETTLED_AXIS_DEG = 0.2
"""and how little it must turn the axis to be the last."""


class Slab(MethodOptions):
    """Options of the alignment without beads by the slab likelihood."""

    sample_thickness_nm: Annotated[
        float,
        Field(
            ge=10.0,
            le=2000.0,
            description="First guess of the specimen's thickness, nm. The thickness is estimated; half or twice the "
            "true one will do.",
        ),
    ] = 150.0
    tilt_angle_offset: Annotated[
        Literal["off", "estimate", "given"],
        Field(
            description="Whether the tilts stay as reported, are offset so that the specimen is level, or are offset "
            "by a given angle."
        ),
    ] = "estimate"
    tilt_angle_offset_deg: Annotated[
        float,
        Field(ge=-60.0, le=60.0, description="What to add to all tilts, degrees, if the tilt offset is given."),
    ] = 0.0
    gold: Annotated[
        Literal["erase", "keep"],
        Field(description="Whether gold beads are erased first, where there are some; gold is no random slab."),
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


class SlabMethod:
    """Align without beads by the slab likelihood (see the module's docstring)."""

    name = "slab"
    title = "Without beads, as a slab"
    summary = "For series without gold beads, of specimens that are a slab: cells, lamellae, vitreous ice."
    Options: type[MethodOptions] = Slab
    uses_gpu = True

    def __call__(
        self,
        series: TiltSeries,
        options: MethodOptions,
        *,
        start: Alignment | None = None,
        progress: Progress = silent,
    ) -> Alignment:
        """Align one series without beads.

        Parameters
        ----------
        series
            At least three included images.
        options
            `Slab` options.
        start
            Its tilt axis is taken as the nominal one; nothing else is needed.
        progress
            Told how far it is.

        Raises
        ------
        BadTiltSeries
            If there are too few images.
        MethodFailed
            If too few images show the same, or too little of it.
        """
        if not isinstance(options, Slab):
            raise TypeError(f"expected Slab options, not {type(options).__name__}")
        if series.included.sum() < 3:
            raise BadTiltSeries(series.name, f"{series.included.sum()} images are included; at least 3 are needed")
        with single_threaded_algebra():
            return _align(series, options, start, progress)

    def memory_bytes(self, series: TiltSeries, options: MethodOptions) -> float:
        """Most memory held for a series, bytes: flat images, tiles, and the inverse covariances."""
        finest = scales(series)[-1]
        n = float(series.included.sum())
        pixels = float(np.prod(series.image_shape_yx))
        samples = pixels * (series.pixel_size_angst / finest.pitch_angst) ** 2
        frequencies = np.pi / 2 * (finest.size_angst / finest.finest_angst) ** 2
        tiles = 4.0 * pixels * series.pixel_size_angst**2 / finest.size_angst**2
        return samples * n * 24.0 + frequencies * n * (n * 12.0 + tiles * 24.0) + pixels * 60.0

    def cpu_seconds(self, series: TiltSeries, options: MethodOptions) -> float:
        """Time on one core of an ordinary machine, within a factor of about two; see docs/performance.md."""
        return float(series.included.sum()) * (0.36 + 2e-8 * float(np.prod(series.image_shape_yx)))


def scales(series: TiltSeries) -> tuple[TileScale, TileScale, TileScale]:
    """Tiles and resolution of the three passes, from coarse to fine.

    They follow lengths in the specimen, not pixels: tiles of 192 nm and structures down to 5 nm, unless the field is
    small or the pixels are large.
    """
    pixel = series.pixel_size_angst
    field = min(series.image_shape_yx) * pixel
    finest = max(_FINEST_PIXELS * pixel, min(_FINEST_ANGST, field / _FINEST_PER_FIELD))
    tile = min(_TILE_ANGST * finest / _FINEST_ANGST, _TILE_PER_FIELD * field)
    pitch = finest / _SAMPLES_PER_FINEST
    return (
        TileScale(tile * _FIRST_LARGER, 2.0 * pitch, finest * _FIRST_COARSER),
        TileScale(tile, pitch, finest * _SECOND_COARSER),
        TileScale(tile, pitch, finest),
    )


def _align(series: TiltSeries, options: Slab, start: Alignment | None, progress: Progress) -> Alignment:
    passes = scales(series)

    gold = _gold(series, options, lambda fraction, message: progress(0.1 * fraction, message))

    def reading(fraction: float, message: str) -> None:
        progress(0.1 + 0.1 * fraction, message)

    flat = flat_series(series, passes[-1].pitch_angst, retouch=gold.erase, progress=reading)
    # gold is no random slab, but nothing shows shifts and the axis better
    with_gold = flat_series(series, coarse_pitch_angst(flat.field_yx_angst)) if gold.per_view else flat
    usable = flat.usable & with_gold.usable
    progress(0.2, "finding first shifts")
    guess = options.sample_thickness_nm * 10.0
    given = options.tilt_angle_offset_deg if options.tilt_angle_offset == "given" else 0.0
    poses, found = first_poses(
        usable_part(with_gold, usable),
        series.nominal_axis_deg if start is None else start.axis_deg,
        guess,
        offset_deg=given,
        search_offset=options.tilt_angle_offset != "given",
    )
    tied = np.flatnonzero(usable)[found.tied]
    _check_tied(series, len(tied))
    part = usable_part(flat, np.isin(np.arange(len(flat)), tied))
    candidates = _tried(part, passes[0], poses, guess, progress)
    best = max(candidates, key=lambda one: one.likelihood)
    fit = _refined(part, passes, best.fit, progress)
    progress(0.97, "judging the result")
    run = SlabRun(series, options, flat, tied, candidates, fit, gold.per_view)
    result = alignment_from(run)
    if options.local_motion == "estimate":
        result = with_local_motion(result, fit, run.fitted, series)
    progress(1.0, "done")
    return result


def _gold(series: TiltSeries, options: Slab, progress: Progress) -> FoundGold:
    diameter_px = options.gold_diameter_nm * 10.0 / series.pixel_size_angst
    if options.gold == "keep" or diameter_px < SMALLEST_DIAMETER_PX:  # beads smaller than that are not seen
        return FoundGold({}, diameter_px)
    return find_gold(series, options.gold_diameter_nm, progress=progress)


def _check_tied(series: TiltSeries, count: int) -> None:
    if count < 3:
        raise MethodFailed(
            f"{series.name}: only {count} images can be tied to others by what they show; at least 3 are needed. Look "
            "at the images: is the specimen in all of them, and is the tilt axis right to 10 degrees?"
        )


def _tried(
    part: FlatSeries, scale: TileScale, poses: list[SlabPose], guess_angst: float, progress: Progress
) -> list[Candidate]:
    """Try all poses with one thickness, then the most likely of them with the others."""
    level = level_of(part, scale.pitch_angst)
    seen = [
        pose
        for pose in poses
        if len(tile_centres(pose.views, pose.x_tilt_deg, part.field_yx_angst, scale.size_angst)) >= LEAST_TILES
    ]
    if not seen:
        raise MethodFailed(
            "the views overlap so little that no place in the specimen is seen in most of them; exclude the views that "
            "are far off"
        )
    done: list[Candidate] = []
    count = len(seen) + len(THICKNESS_FACTORS) - 1

    def attempt(pose: SlabPose, factor: float) -> Candidate:
        progress(0.3 + 0.3 * len(done) / count, "trying thicknesses and tilt offsets")
        done.append(try_candidate(level, scale, pose, guess_angst * factor))
        return done[-1]

    first, *others = THICKNESS_FACTORS
    likelihood = [attempt(pose, first).likelihood for pose in seen]
    for factor in others:
        attempt(seen[int(np.argmax(likelihood))], factor)
    return done


def _refined(part: FlatSeries, passes: tuple[TileScale, ...], fit: SlabFit, progress: Progress) -> SlabFit:
    """Fit from coarse to fine; a pass that still turns the axis is repeated: steps are short where little is known."""
    for k, (scale, rounds) in enumerate(zip(passes, _ROUNDS, strict=True)):
        level = level_of(part, scale.pitch_angst)
        steps = _FIRST_STEPS if k == 0 else _STEPS
        begun = 0.6 + 0.37 * np.array([0.0, 0.15, 0.5, 1.0])[k : k + 2]
        done = _Counter(progress, begun, steps)
        for _ in range(rounds):
            before = _axis_deg(fit)
            fit = fit_slab(level, scale, fit.pose, fit.model, fit.priors, steps=steps, progress=done)
            if abs(_axis_deg(fit) - before) < _SETTLED_AXIS_DEG:
                break
    return fit


def _axis_deg(fit: SlabFit) -> float:
    return float(np.mean(fit.pose.views[:, ROTATION]))


class _Counter:
    """Progress of one pass, counted by its steps."""

    def __init__(self, progress: Progress, part: FloatArray, steps: int) -> None:
        self.progress, self.part, self.steps, self.count = progress, part, steps, 0

    def __call__(self, fraction: float, message: str) -> None:
        done = min(1.0, self.count / self.steps)
        self.progress(float(self.part[0] + done * (self.part[1] - self.part[0])), message)
        self.count += 1


SLAB = SlabMethod()
