"""Local motion without beads: how the specimen moved in itself, by the slab likelihood, kept only if tiles agree.

To the parameters of the fit comes a smooth motion, the Gaussian process of `motion_kernel` over the tiles' middles and
the order of exposure (`slab_motion_solve`). Its scales are those of a few that predict best.

Whether a specimen moves is decided by tiles that take no part: tiles are coloured like the squares of a chess board,
those of one colour are predicted from the other, and motion is kept only if their likelihood rises clearly. Tiles of
different colours share a sixth of their amplitude at the most (their windows overlap by half), which prior and margin
outweigh: a specimen that does not move is left alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.local_motion import DETAILS_KEY
from napari_tiltalign.methods.motion_kernel import MotionBasis
from napari_tiltalign.methods.motion_model import FittedMotion, local_motion_of
from napari_tiltalign.methods.motion_problem import exposure
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, SHIFT_Y, TILT
from napari_tiltalign.methods.slab_fit import SlabFit
from napari_tiltalign.methods.slab_model import evidence
from napari_tiltalign.methods.slab_motion_solve import LinearSlab, MotionStep, MovingSlab, solve_step
from napari_tiltalign.model import Alignment, Flag, LocalMotion, TiltSeries

_AMPLITUDES = (0.06, 0.2, 0.6)
"""Typical motions tried, parts of the finest structure,"""
_LENGTHS = (0.5, 1.0)
"""distances over which they change, halves of the field,"""
_TIMES = (0.5, 1.5)
"""and times, parts of the series."""
_FIRST_LOOK = (0.2, 0.5, 0.5)
_SIGNIFICANCE = 3.0
"""By how many standard errors the likelihood of left-out tiles must rise, in the mean over them."""
_LIKELY = 2.0
"""Where some motion is that certain, the scales are those with the largest rise among all that are this certain."""
_WORTH_A_SEARCH = 1.5
"""With less than this in a first look nothing else is tried."""
_LEAST_TILES = 12
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class _Gain:
    """How much left-out tiles gain by a motion: mean over the tiles, and that in units of its standard error."""

    mean: float
    certainty: float


def _gain(linear: LinearSlab, basis: MotionBasis, colour: NDArray[np.intp], rigid: list[MotionStep]) -> _Gain:
    """Predict the tiles of each colour from those of the other, rigid and with motion."""
    modes = linear.modes(basis)
    at, amplitudes = np.zeros((len(linear.slope), N_VIEW_PARAMETERS)), np.zeros(len(modes.which))
    gains = []
    for held, still in enumerate(rigid):
        moving = solve_step(linear, modes, colour != held, at, amplitudes)
        gains += [
            tile.energy(still.displacement[tile.index]) - tile.energy(moving.displacement[tile.index])
            for tile in linear.tiles
            if colour[tile.index] == held
        ]
    mean, spread = float(np.mean(gains)), float(np.std(gains, ddof=1))
    return _Gain(mean, mean / max(spread / np.sqrt(len(gains)), 1e-12))


def with_local_motion(alignment: Alignment, fit: SlabFit, fitted: NDArray[np.intp], series: TiltSeries) -> Alignment:
    """Add a model of local motion to an alignment by a slab, if tiles that are left out are predicted better.

    Parameters
    ----------
    alignment
        The result.
    fit
        The last pass.
    fitted
        Index in the series of every view of the fit.
    series
        What was aligned; its doses tell the order of exposure.

    Returns
    -------
    Alignment
        The same geometry. ``details["local_motion"]`` says in words what was found; where the model is kept there is a
        flag.
    """
    scene = _scene(alignment, fit, fitted, series)
    linear = LinearSlab(scene, evidence(fit.spectra, fit.found), fit.centres_zyx[:, 0])
    if len(linear.tiles) < _LEAST_TILES:
        words = f"not looked for: {len(linear.tiles)} tiles can be used, at least {_LEAST_TILES} are needed"
        return alignment.replace(details={**alignment.details, DETAILS_KEY: words})
    parts, certain = _most_telling(linear)
    figure = f"the likelihood of left-out tiles rises by {certain:.1f} standard errors"
    if not certain > _SIGNIFICANCE:
        words = f"none found: {figure}, which is not clearly better than a rigid specimen"
        return alignment.replace(details={**alignment.details, DETAILS_KEY: words})
    motion = local_motion_of(_fitted_motion(scene, parts), alignment)
    words = f"{_extent(motion, alignment)}; {figure}"
    return alignment.replace(
        local_motion=motion,
        flags=(*alignment.flags, Flag(DETAILS_KEY, words)),
        details={**alignment.details, DETAILS_KEY: f"used: {words}"},
    )


def _scene(alignment: Alignment, fit: SlabFit, fitted: NDArray[np.intp], series: TiltSeries) -> MovingSlab:
    solved = np.zeros(len(series.tilts), dtype=bool)
    solved[fitted] = True
    time_steps, reference = exposure(series, alignment, solved)
    tilt_deg = alignment.geometry.y_tilt_deg.copy()
    tilt_deg[fitted] = fit.pose.views[:, TILT]
    field_px = float(max(series.image_shape_yx))
    return MovingSlab(fit, fitted, series.pixel_size_angst, field_px, tilt_deg, time_steps, solved, reference)


def _most_telling(linear: LinearSlab) -> tuple[tuple[float, float, float], float]:
    """The scales of the motion that predicts left-out tiles best, and how certain it is that any motion does."""
    scene = linear.scene
    step = scene.fit.spectra.scale.size_angst / 2
    square = np.round(scene.fit.centres_zyx[:, 1:] / step - scene.fit.centres_zyx[0, 1:] / step).astype(int)
    colour = (square.sum(axis=1) % 2).astype(np.intp)
    still = np.zeros((len(linear.slope), N_VIEW_PARAMETERS))
    rigid = [solve_step(linear, None, colour != held, still, np.zeros(0)) for held in (0, 1)]
    tried = {_FIRST_LOOK: _gain(linear, scene.basis(_FIRST_LOOK), colour, rigid)}
    faintest = (_AMPLITUDES[0], *_FIRST_LOOK[1:])
    tried[faintest] = _gain(linear, scene.basis(faintest), colour, rigid)
    if max(one.certainty for one in tried.values()) > _WORTH_A_SEARCH:
        for parts in itertools.product(_AMPLITUDES, _LENGTHS, _TIMES):
            if parts not in tried:
                tried[parts] = _gain(linear, scene.basis(parts), colour, rigid)
    certain = max(one.certainty for one in tried.values())
    likely = {parts: one for parts, one in tried.items() if one.certainty > _LIKELY}
    return max((likely or tried).items(), key=lambda item: item[1].mean)[0], certain


def _fitted_motion(scene: MovingSlab, parts: tuple[float, float, float]) -> FittedMotion:
    """Fit a motion to all tiles; motions are large against the finest structure, so tiles are displaced in between."""
    fit, basis = scene.fit, scene.basis(parts)
    n, p = len(fit.pose.views), len(fit.centres_zyx)
    change, heights = np.zeros((n, N_VIEW_PARAMETERS)), np.zeros(p)
    amplitudes = np.zeros(sum(len(pairs) for pairs in basis.pairs))
    moved, spectra = np.zeros((p, n, 2)), fit.spectra
    for _ in range(_ROUNDS):
        linear = LinearSlab(scene, evidence(spectra, fit.found), fit.centres_zyx[:, 0] + heights)
        step = solve_step(linear, linear.modes(basis), np.ones(p, dtype=bool), change, amplitudes)
        change, amplitudes = change + step.by_view, amplitudes + step.amplitudes
        raised = np.zeros(p)
        for tile in linear.tiles:
            raised[tile.index] = tile.height(step.displacement[tile.index])
        heights += raised
        moved += step.displacement + linear.slope * raised[:, None, None]
        spectra = fit.spectra.displaced(moved.transpose(1, 0, 2))
    views = np.zeros((len(scene.tilt_deg), N_VIEW_PARAMETERS))
    changes = np.zeros_like(views)
    views[scene.fitted], changes[scene.fitted] = _in_pixels(fit.pose.views, scene), _in_pixels(change, scene)
    views[~scene.solved, TILT] = scene.tilt_deg[~scene.solved]
    split = np.cumsum([len(pairs) for pairs in basis.pairs])[:-1]
    return FittedMotion(
        start_views=views,
        view_change=changes,
        points_zyx=fit.centres_zyx / scene.pixel_angst,
        displacement_zyx=np.column_stack([heights / scene.pixel_angst, np.zeros((p, 2))]),
        basis=basis,
        amplitudes=tuple(np.split(amplitudes, split)),
        x_tilt_deg=np.full(len(views), fit.pose.x_tilt_deg),
        time_steps=scene.time_steps,
        solved=scene.solved,
        reference=scene.reference,
    )


def _in_pixels(views: FloatArray, scene: MovingSlab) -> FloatArray:
    """View parameters with shifts in pixels instead of Angstrom."""
    changed = views.copy()
    changed[:, SHIFT_Y:] /= scene.pixel_angst
    return changed


def _extent(motion: LocalMotion, alignment: Alignment) -> str:
    seen = np.stack([motion.displacement_yx_angst(motion.support_zyx_angst, i) for i in range(len(motion))])
    distance = np.linalg.norm(seen, axis=2)[alignment.included] / alignment.pixel_size_angst
    return f"tiles move by up to {distance.max():.1f} px in the images ({np.sqrt((distance**2).mean()):.2f} px rms)"
