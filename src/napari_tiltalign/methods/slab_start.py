"""Where the slab likelihood starts: first shifts, candidates for axis and tilt offset, and the thickness.

The likelihood has many local maxima, so it needs shifts right to a few nanometres and an axis right to two degrees.
Both come from stretched views (`pair_graph`). That a specimen is pretilted shows there too, though not surely; so the
reported tilts are a candidate of their own, and the likelihood decides. It also decides between thicknesses.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.methods.flat_series import FlatSeries, Level
from napari_tiltalign.methods.pair_graph import (
    FoundShifts,
    best_on_grid,
    coarse_level,
    find_shifts,
    score_orientations,
)
from napari_tiltalign.methods.priors import ViewPriors, default_priors
from napari_tiltalign.methods.projection import ROTATION, views_from_geometry
from napari_tiltalign.methods.slab_fit import SlabFit, fit_slab
from napari_tiltalign.methods.slab_model import SlabModel, log_likelihood, sight
from napari_tiltalign.methods.slab_pose import SlabPose
from napari_tiltalign.methods.slab_signal import fit_signal
from napari_tiltalign.methods.slab_tiles import TileScale, blocks_of

OFFSETS_DEG = np.arange(-20.0, 20.1, 5.0)
TURNS_DEG = np.arange(-10.0, 10.1, 2.5)
STEEPEST_DEG = 80.0
"""Tilt offsets that would turn a view beyond this are not tried."""
SMALL_OFFSET_DEG = 3.0
"""With a smaller offset the reported tilts are no candidate of their own."""
SMALL_TURN_DEG = 2.0
"""Where the axis found is closer to the reported one, that is no candidate of its own."""
THICKNESS_FACTORS = (2 / 3, 1 / 3, 4 / 3)
"""Thicknesses to start from, parts of the guess; the first decides between poses."""

ROTATION_PRIOR_DEG = (0.03, 0.2, 5.0)
SCALE_PRIOR = (1e-4, 8e-4, 5.0)
"""Standard deviations of single views and of what is smooth, and over how many steps of tilt it is."""

_THICKNESS_STEPS = np.array([0.6, 0.75, 0.88, 1.0, 1.15, 1.35, 1.65])
_CANDIDATE_STEPS = 5
_FREQUENCIES = 200


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A place to start from, tried.

    Attributes
    ----------
    fit
        What the first steps made of it; the thickness of its model is the most likely one.
    likelihood
        Log likelihood per tile and view; only comparable between candidates of one series.
    """

    fit: SlabFit
    likelihood: float


def usable_part(flat: FlatSeries, views: NDArray[np.bool_]) -> FlatSeries:
    """Return a series of only some of its views; None of them may be unusable."""
    chosen = np.flatnonzero(views)
    return dataclasses.replace(
        flat, order=flat.order[chosen], nominal_tilt_deg=flat.nominal_tilt_deg[chosen],
        images=tuple(flat.images[int(k)] for k in chosen), bad={},
    )  # fmt: skip


def first_poses(
    flat: FlatSeries, axis_deg: float, thickness_angst: float, *, offset_deg: float = 0.0, search_offset: bool = True
) -> tuple[list[SlabPose], FoundShifts]:
    """Find shifts, and candidates of the orientation.

    Parameters
    ----------
    flat
        The series, views in order of tilt.
    axis_deg
        Nominal tilt axis.
    thickness_angst
        Guess of the thickness.
    offset_deg
        Tilt offset that is known.
    search_offset
        Whether to look for a tilt offset.

    Returns
    -------
    poses, found
        One to three candidates, the preferred one first, over the views that are tied; and the shifts behind the first.
    """
    level = coarse_level(flat)
    nominal = ViewGeometry.nominal(flat.nominal_tilt_deg + offset_deg, axis_deg)
    found = find_shifts(level, nominal, thickness_angst)
    geometry, offset = found.geometry, 0.0
    for finer in (1.0, 2.0):
        if search_offset:
            change = _best_offset(level, geometry, thickness_angst, OFFSETS_DEG / finer)
            offset += change
            geometry = geometry.replace(y_tilt_deg=geometry.y_tilt_deg + change)
        turns = TURNS_DEG / finer
        scores = score_orientations(
            level, geometry, thickness_angst, tilt_offsets_deg=np.zeros(len(turns)), turns_deg=turns
        )
        geometry = geometry.replace(z_rot_deg=geometry.z_rot_deg + best_on_grid(turns, scores))
        found = find_shifts(level, geometry, thickness_angst, rounds=1)
        geometry = found.geometry
    poses = [(geometry, offset)]
    if abs(offset) >= SMALL_OFFSET_DEG:
        as_reported = geometry.replace(y_tilt_deg=nominal.y_tilt_deg)
        poses.append((find_shifts(level, as_reported, thickness_angst, rounds=1).geometry, 0.0))
    if abs(float(np.mean(geometry.z_rot_deg)) - axis_deg) >= SMALL_TURN_DEG:
        as_reported = geometry.replace(z_rot_deg=np.full(len(geometry), axis_deg))
        poses.append((find_shifts(level, as_reported, thickness_angst, rounds=1).geometry, offset))
    tied = found.tied
    nominal_tilt = flat.nominal_tilt_deg[tied]
    return [
        SlabPose(views_from_geometry(one.take(tied), 1.0), 0.0, offset_deg + more, nominal_tilt) for one, more in poses
    ], found


def first_priors(pose: SlabPose) -> ViewPriors:
    """Priors of the views; the axis is free around the one found.

    Lenses turn and magnify the image, so both change smoothly: from gold beads, with learned priors, single views
    of EMPIAR-10499 differ by 0.006 degrees and 1e-4. Beads are found well enough to learn that from the series itself.
    Here what is smooth is given, so that it is not mistaken for what a view tells alone.
    """
    priors = default_priors(pose.nominal_tilt_deg, float(np.mean(pose.views[:, ROTATION])))
    return ViewPriors(
        priors.rotation_deg.fixed(*ROTATION_PRIOR_DEG), priors.tilt_deg, priors.log_magnification.fixed(*SCALE_PRIOR)
    )


def _best_offset(level: Level, geometry: ViewGeometry, thickness_angst: float, offsets: FloatArray) -> float:
    steepest = np.abs(geometry.y_tilt_deg[:, None] + offsets).max(axis=0)
    tried = offsets[steepest < STEEPEST_DEG]
    if len(tried) < 2:
        return 0.0
    scores = score_orientations(
        level, geometry, thickness_angst, tilt_offsets_deg=tried, turns_deg=np.zeros(len(tried))
    )
    return best_on_grid(tried, scores)


def try_candidate(
    level: Level, scale: TileScale, pose: SlabPose, thickness_angst: float, *, progress: Progress = silent
) -> Candidate:
    """Take some steps from a candidate with a thickness, and find the thickness that is most likely then.

    The thickness stays while views move: in misaligned views a thicker slab explains everything better.
    """
    fit = fit_slab(
        level, scale, pose, SlabModel.first_guess(thickness_angst, len(pose.views)), first_priors(pose),
        steps=_CANDIDATE_STEPS, progress=progress,
    )  # fmt: skip
    spectra = fit.spectra
    seen = sight(spectra, fit.pose.views, fit.pose.x_tilt_deg, thickness_angst)
    model = fit_signal(spectra, seen, fit.model)
    few = spectra.thinned(_FREQUENCIES)
    part = len(few.frequency_yx) / len(spectra.frequency_yx)
    blocks = blocks_of(spectra.shown)
    tried = thickness_angst * _THICKNESS_STEPS
    likelihood = (
        np.array(
            [
                log_likelihood(
                    few,
                    sight(few, fit.pose.views, fit.pose.x_tilt_deg, t),
                    model.replace(thickness_angst=float(t)),
                    blocks,
                )
                for t in tried
            ]
        )
        / part
    )
    best = int(np.argmax(likelihood))
    return Candidate(
        dataclasses.replace(fit, model=model.replace(thickness_angst=float(tried[best]))), float(likelihood[best])
    )
