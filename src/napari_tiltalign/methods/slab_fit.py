"""Fit the geometry of all views to the slab likelihood by Fisher scoring.

The energy ``E = beta sum_p w_p y_p^H Q y_p / 2 + priors`` is lowered over shift, rotation, magnification and tilt of
every view and the height of every tile. The Hessian is the expected one (Fisher scoring, Osborne 1992), in which one
array for all tiles holds everything, with Levenberg's damping. Every second step the tiles' heights are levelled: their
plane is a turn of the specimen, which no image tells, and goes into the tilt offset, the x tilt and the shifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.methods.flat_series import Level
from napari_tiltalign.methods.priors import ViewPriors
from napari_tiltalign.methods.projection import N_VIEW_PARAMETERS, linearise, project, view_matrices
from napari_tiltalign.methods.slab_model import (
    Evidence,
    Precision,
    SlabModel,
    evidence,
    precisions,
    sight,
)
from napari_tiltalign.methods.slab_pose import (
    HEIGHT_SD_ANGST,
    SlabPose,
    levelled,
    prior_energy,
    prior_terms,
)
from napari_tiltalign.methods.slab_signal import fit_signal
from napari_tiltalign.methods.slab_tiles import (
    TileScale,
    TileSpectra,
    blocks_of,
    plane_matrices,
    tile_centres,
    tile_spectra,
)

TRUST = 0.2
"""Weight of ``y^H Q y / 2``.

It would be 1.8 for a Gaussian specimen: 2, less a tenth that overlapping tiles tell twice (Welch 1967). But tiles
disagree more than that: their scores have 3 times the expected variance for single views, and up to 50 times for smooth
changes along the tilts, because their content is not spread evenly over the depth of the slab.
"""

_LARGEST_STEP = 0.3
"""Parts of the finest structure that most tiles may move in a step."""
_REFIT_AGAIN = 1
"""The step before which the second moments are estimated a second time."""
_SETTLED = 0.004
"""A pass ends when the views move less than this part of the finest structure."""
_FARTHEST, _MOST_BENT = 0.5, 0.1
"""Tiles are cut anew once most have moved, or are bent, by more than these parts of the finest structure."""
_HOPELESS_DAMPING = 50.0
_CURVATURE_RANGE = (0.02, 3.0)


@dataclass(frozen=True, slots=True, eq=False)
class SlabFit:
    """State of a pass.

    Attributes
    ----------
    pose, centres_zyx
        Geometry, and centres (p, 3) of the tiles, Angstrom.
    model, priors
        The model, and the priors of the views. These are not learned: that ran away where little but noise is left once
        gold is erased.
    spectra, found
        The tiles after the last step, before levelling, and the precisions used.
    hessian
        Of the last step without damping, over 5 parameters of every view and then the heights.
    scores, height_scores
        Shapes (p, 5 n) and (p,): gradient of every tile's part of the energy by the view parameters, and by its height,
        in the last step.
    moved_angst
        How far the views moved in the last step, rms over tiles and views in the specimen plane.
    steps
        How many steps were taken.
    """

    pose: SlabPose
    centres_zyx: FloatArray
    model: SlabModel
    priors: ViewPriors
    spectra: TileSpectra
    found: list[Precision]
    hessian: FloatArray
    scores: FloatArray
    height_scores: FloatArray
    moved_angst: float
    steps: int

    def covariance(self) -> FloatArray:
        """Inverse of the Hessian: the posterior's covariance if the likelihood is believed as much as in the fit."""
        return _inverse(self.hessian)


def fit_slab(
    level: Level,
    scale: TileScale,
    start: SlabPose,
    model: SlabModel,
    priors: ViewPriors,
    *,
    steps: int,
    centres_zyx: FloatArray | None = None,
    level_the_slab: bool = True,
    progress: Progress = silent,
) -> SlabFit:
    """Run one pass: fit all parameters at one scale.

    Parameters
    ----------
    level, scale
        The series at the resolution of the scale; all of its views are usable.
    start, model
        Where to start; the thickness of the model is kept.
    priors
        Of the views; the mean of the tilts is shifted by the tilt offset.
    steps
        How many steps at most.
    centres_zyx
        Tiles to use; new ones are laid out if None.
    level_the_slab
        Whether a slant of the slab is turned into a tilt offset and an x tilt.
    progress
        Asked before every step whether to go on.
    """
    field = level.series.field_yx_angst
    if centres_zyx is None:
        centres_zyx = tile_centres(start.views, start.x_tilt_deg, field, scale.size_angst)
    run = _Pass(level, scale, level_the_slab, start, centres_zyx, model, priors)
    for step in range(steps):
        progress(0.0, "fitting the slab")
        if not run.step(step, steps):
            break
    return run.result()


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """A pose and the tiles cut at it."""

    pose: SlabPose
    centres: FloatArray
    spectra: TileSpectra

    def motion_to(self, pose: SlabPose, centres: FloatArray, size_angst: float) -> tuple[FloatArray, float]:
        """How far the tiles of another pose lie from these, and how much they are bent.

        Returns
        -------
        displacement_yx, bent_angst
            Shape (n, p, 2), in the specimen plane; and how far a point half-way to a tile's edge moves against the
            tile's middle in the view that is bent most.
        """
        inverse, _ = plane_matrices(self.pose.views, self.pose.x_tilt_deg)
        here = project(self.pose.views, self.centres, self.pose.x_tilts_deg)
        there = project(pose.views, centres, pose.x_tilts_deg)
        matrices = view_matrices(pose.views, pose.x_tilts_deg)[:, :, 1:]
        bent = np.abs(inverse @ matrices - np.eye(2)).max() * size_angst / 4
        return np.einsum("nab,npb->npa", inverse, there - here), float(bent)


@dataclass(frozen=True, slots=True, eq=False)
class _Weighed:
    """A pose, the tiles at it, what they say, and the energy."""

    pose: SlabPose
    centres: FloatArray
    spectra: TileSpectra
    told: Evidence
    energy: float


class _Pass:
    """One pass, step by step."""

    def __init__(
        self, level: Level, scale: TileScale, level_the_slab: bool, pose: SlabPose, centres: FloatArray,
        model: SlabModel, priors: ViewPriors,
    ) -> None:  # fmt: skip
        self.level, self.scale, self.trust, self.level_the_slab = level, scale, TRUST, level_the_slab
        self.pose, self.centres, self.model, self.priors = pose, centres, model, priors
        self.damping, self.steps, self.moved_angst = 0.0, 0, np.inf
        self.before: _Weighed | None = None
        self.told: Evidence | None = None
        self._cut()
        self._refit()

    def _cut(self) -> None:
        cut = tile_spectra(self.level, self.scale, self.pose.views, self.pose.x_tilt_deg, self.centres)
        self.spectra = cut.on_device()
        self.cut = _Cut(self.pose, self.centres, self.spectra)

    def _look(self) -> None:
        """Get the tiles of the present pose: those last cut, displaced, as long as that is as good as cutting anew."""
        self.told = None
        moved, bent = self.cut.motion_to(self.pose, self.centres, self.scale.size_angst)
        largest = float(np.percentile(np.abs(moved[self.spectra.shown]), 98))
        if max(largest / _FARTHEST, bent / _MOST_BENT) > self.scale.finest_angst:
            self._cut()
        else:
            self.spectra = self.cut.spectra.displaced(moved)

    def _refit(self) -> None:
        """Estimate the second moments anew; energies before and after cannot be compared."""
        seen = sight(self.spectra, self.pose.views, self.pose.x_tilt_deg, self.model.thickness_angst)
        self.model = fit_signal(self.spectra, seen, self.model)
        self.found = precisions(self.spectra, seen, self.model, blocks_of(self.spectra.shown))
        self.told = evidence(self.spectra, self.found)
        self.weights = Weights.of(self.told, self.found)
        self.before = None

    def step(self, number: int, of: int) -> bool:
        """Take one step; return whether to go on."""
        if number:
            self._look()
        if number == _REFIT_AGAIN:
            self._refit()
        here = self._weighed()
        if self.before is not None:
            here = self._better_or_back(here, self.before)
            if self.damping > _HOPELESS_DAMPING:
                return False
        self.before = here
        self._move(here.told)
        self.steps += 1
        if self.level_the_slab and (number <= _REFIT_AGAIN or (number % 2 and number < of - 2)):
            self.pose, self.centres = levelled(self.pose, self.centres)
            self.before = None
        return not (self.moved_angst < _SETTLED * self.scale.finest_angst and number > _REFIT_AGAIN)

    def _weighed(self) -> _Weighed:
        """Weigh what the tiles of the present pose say."""
        told = self.told or evidence(self.spectra, self.found)
        energy = self.trust * float(told.energy @ self.weights.weight)
        return _Weighed(
            self.pose, self.centres, self.spectra, told, energy + prior_energy(self.pose, self.centres, self.priors)
        )

    def _better_or_back(self, now: _Weighed, before: _Weighed) -> _Weighed:
        """Take the last step back if it made things worse, with more damping; return where things are then."""
        if now.energy <= before.energy:
            self.damping = self.damping / 4.0 if self.damping > 0.005 else 0.0
            return now
        self.pose, self.centres, self.spectra = before.pose, before.centres, before.spectra
        self.damping = max(6.0 * self.damping, 0.05)
        return before

    def _move(self, told: Evidence) -> None:
        system = _System.of(self.pose, self.centres, self.priors, told, self.found, self.weights, self.trust)
        self.hessian, self.scores, self.height_scores = system.hessian, system.scores, system.height_scores
        step = system.solved(self.damping)
        size = self.pose.views.size
        by_view, by_height = step[:size].reshape(self.pose.views.shape), step[size:]
        moved = np.einsum("npac,nc->npa", system.by_view, by_view)
        with_heights = moved + system.slope[:, None] * by_height[:, None]
        largest = float(np.percentile(np.abs(with_heights[self.spectra.shown]), 98))
        part = min(1.0, _LARGEST_STEP * self.scale.finest_angst / max(largest, 1e-9))
        self.moved_angst = part * float(np.sqrt(np.square(moved[self.spectra.shown]).sum(axis=1).mean()))
        self.pose = self.pose.replace(views=self.pose.views + part * by_view)
        self.centres = self.centres.copy()
        self.centres[:, 0] += np.clip(part * by_height, -HEIGHT_SD_ANGST, HEIGHT_SD_ANGST)

    def result(self) -> SlabFit:
        """Take back a last step that made things worse, and give what was found."""
        if self.before is not None:
            self._look()
            self._better_or_back(self._weighed(), self.before)
        if self.level_the_slab:
            self.pose, self.centres = levelled(self.pose, self.centres)
        return SlabFit(
            self.pose, self.centres, self.model, self.priors, self.spectra, self.found, self.hessian, self.scores,
            self.height_scores, self.moved_angst, self.steps,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """How far tiles are believed, shape (p,) each.

    A tile whose energy is less curved than the model expects does not behave like a random slab: it gets that much less
    weight, and its Hessian the curvature that is observed.
    """

    weight: FloatArray
    curvature: FloatArray

    @classmethod
    def of(cls, told: Evidence, found: list[Precision]) -> Weights:
        """Compare what is seen of every tile with what the model expects."""
        ratio = np.zeros(len(told.energy))
        for one in found:
            expected = max(float(np.einsum("iiaa->", one.fisher)), 1e-30)
            ratio[one.block.tiles] = np.clip(told.curvature[one.block.tiles].sum(axis=1) / expected, *_CURVATURE_RANGE)
        return cls(np.minimum(ratio, 1.0), ratio)


@dataclass(frozen=True, slots=True, eq=False)
class _System:
    """Normal equations of one step.

    Attributes
    ----------
    hessian, gradient
        Over 5 parameters of every view, then p heights.
    by_view
        Shape (n, p, 2, 5): derivative of displacements in the specimen plane by the view parameters.
    slope
        Shape (n, 2): derivative by heights.
    scores, height_scores
        Shapes (p, 5 n) and (p,): every tile's part of the gradient by the view parameters, and by its height.
    """

    hessian: FloatArray
    gradient: FloatArray
    by_view: FloatArray
    slope: FloatArray
    scores: FloatArray
    height_scores: FloatArray

    @classmethod
    def of(
        cls, pose: SlabPose, centres: FloatArray, priors: ViewPriors, told: Evidence, found: list[Precision],
        weights: Weights, trust: float,
    ) -> _System:  # fmt: skip
        n, p = len(pose.views), len(centres)
        size = n * N_VIEW_PARAMETERS
        inverse, slope = plane_matrices(pose.views, pose.x_tilt_deg)
        by_view = np.einsum("nab,ncpb->npac", inverse, linearise(pose.views, centres, pose.x_tilts_deg)[1])
        strength = weights.weight * weights.curvature
        views = np.zeros((n, N_VIEW_PARAMETERS, n, N_VIEW_PARAMETERS))
        mixed, heights = np.zeros((p, n, N_VIEW_PARAMETERS)), np.zeros(p)
        for one in found:
            seen, tiles = one.block.views, one.block.tiles
            part = by_view[np.ix_(seen, tiles)]
            # sum over tiles first: the Fisher matrix is the same for all of a block
            stacked = (part * np.sqrt(strength[tiles])[:, None, None]).transpose(0, 2, 3, 1).reshape(-1, len(tiles))
            shape = (len(seen), 2, N_VIEW_PARAMETERS)
            products = (stacked @ stacked.T).reshape(*shape, *shape)
            own = np.einsum("ijab,iacjbd->icjd", one.fisher, products, optimize=True)
            views[seen[:, None], :, seen[None, :], :] += own.transpose(0, 2, 1, 3)
            pull = np.einsum("ijab,jb->ia", one.fisher, slope[seen])
            mixed[np.ix_(tiles, seen)] = np.einsum("npac,na->pnc", part, pull) * strength[tiles, None, None]
            heights[tiles] = strength[tiles] * float(np.einsum("ia,ia->", slope[seen], pull))
        gradient_yx = told.gradient_yx * weights.weight[:, None, None]
        scores = np.einsum("npac,pna->pnc", by_view, gradient_yx).reshape(p, size)
        by_height = np.einsum("pna,na->p", gradient_yx, slope)
        corner = mixed.reshape(p, size)
        hessian = trust * np.block([[views.reshape(size, size), corner.T], [corner, np.diag(heights)]])
        gradient = trust * np.concatenate([scores.sum(axis=0), by_height])
        prior_hessian, prior_gradient = prior_terms(pose, centres, priors)
        return cls(hessian + prior_hessian, gradient + prior_gradient, by_view, slope, trust * scores,
                   trust * by_height)  # fmt: skip

    def solved(self, damping: float) -> FloatArray:
        scale = 1.0 / np.sqrt(np.diag(self.hessian))
        scaled = self.hessian * np.outer(scale, scale)
        scaled[np.diag_indices_from(scaled)] += damping + 1e-12
        step: FloatArray = -scale * np.linalg.solve(scaled, scale * self.gradient)
        return step


def _inverse(matrix: FloatArray) -> FloatArray:
    """Inverse of a positive definite matrix whose unknowns have very different units."""
    scale = 1.0 / np.sqrt(np.diag(matrix))
    inverse: FloatArray = np.linalg.inv(matrix * np.outer(scale, scale)) * np.outer(scale, scale)
    return inverse
