"""Local motion: find out from the beads how the specimen moved in itself, and keep it only if it predicts better.

The residuals of a rigid alignment that neighbouring beads share are motion of the specimen. It is modelled as a
Gaussian process over place and time (`motion_kernel`) whose scales are learned from the residuals (`motion_evidence`)
and which is solved together with the views and the beads (`motion_solve`). How good it is shows at beads that took no
part: the motion is kept only if it predicts them clearly better than a rigid specimen does. Observations left out one
by one would flatter it, because the same bead in the neighbouring images tells most of them.

The geometry of the alignment stays as it is: it is the best for programs that know no local motion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.images.compute import single_threaded_algebra
from napari_tiltalign.methods.motion_evidence import Evidence, learn_scales
from napari_tiltalign.methods.motion_kernel import MotionBasis
from napari_tiltalign.methods.motion_model import FittedMotion, local_motion_of
from napari_tiltalign.methods.motion_problem import MotionProblem, MotionState, motion_problem
from napari_tiltalign.methods.motion_solve import MotionSolution, solve_motion
from napari_tiltalign.model import Alignment, Flag, LocalMotion, TiltSeries

DETAILS_KEY = "local_motion"

_LEAST_BEADS = 6
_MOST_JUDGED = 100
"""Beads left out at most; more do not make the decision any surer."""
_ROUNDS = 2
_EXACT_PX = 1e-4
"""Errors below this are as good as none."""
_LEAST_IMPROVEMENT = 0.1
"""Part by which the error of left-out beads must fall."""
_SIGNIFICANCE = 3.0
"""And how many standard errors of the mean over the beads that must be."""
_POINTS = {"patch-tracking": "patches", "projection-matching": "tiles"}
"""What tracks are of, by method; of others they are beads."""
_STATISTICS = tuple(
    f"leave_one_bead_out_{kind}_px_{model}" for kind in ("rms", "median") for model in ("rigid", "local")
)


def estimate_local_motion(alignment: Alignment, series: TiltSeries) -> Alignment:
    """Add a model of local motion to an alignment by beads or patches, if that predicts those left out better.

    Parameters
    ----------
    alignment
        Solved from tracks. A model of local motion it has is replaced.
    series
        What was aligned; its doses tell the order of exposure.

    Returns
    -------
    Alignment
        The same geometry. ``details["local_motion"]`` says in words what was found; statistics give the error of
        beads left out, rigid and with local motion; where the model is kept there is a flag.

    Notes
    -----
    The model is kept if, in the mean over the beads, the logarithm of the error of a left-out bead falls by more than
    3 standard errors, and by more than 10 %.
    """
    alignment = without_local_motion(alignment)
    if alignment.provenance is not None and alignment.provenance.method == "slab":
        # a tile is compared with what its other views say, so its residuals do not show what drifts slowly
        return _with_words(alignment, "not looked for in edited tiles: only the method itself can tell")
    found = motion_problem(alignment, series)
    if found is None or len(found[0].track) < _LEAST_BEADS:
        n = 0 if found is None else len(found[0].track)
        return _with_words(
            alignment, f"not looked for: {n} {_points(alignment)} can be used, at least {_LEAST_BEADS} are needed"
        )
    with single_threaded_algebra():
        return _decided(alignment, *found)


def without_local_motion(alignment: Alignment) -> Alignment:
    """Return the alignment without its model of local motion and everything that was said about it."""
    return alignment.replace(
        local_motion=None,
        statistics={k: v for k, v in alignment.statistics.items() if k not in _STATISTICS},
        details={k: v for k, v in alignment.details.items() if k != DETAILS_KEY},
        flags=tuple(flag for flag in alignment.flags if flag.name != DETAILS_KEY),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Errors:
    """Errors of beads left out.

    Attributes
    ----------
    distance_px
        Shape (2, k): of every observation judged; first for a rigid specimen, then with local motion.
    per_bead_px
        Shape (2, p): root of the median square distance of every bead judged.
    """

    distance_px: FloatArray
    per_bead_px: FloatArray

    @classmethod
    def of(cls, left_out: tuple[FloatArray, FloatArray], judged: NDArray[np.intp]) -> _Errors:
        distance = np.stack([np.hypot(*error[:, judged]) for error in left_out])
        seen = np.isfinite(distance).all(axis=0)
        per_bead = np.nanmedian(np.where(seen, distance, np.nan), axis=2)
        return cls(distance[:, seen], np.maximum(per_bead, _EXACT_PX))

    @property
    def clearly_better(self) -> bool:
        """Whether the model with local motion predicts better, see `estimate_local_motion`."""
        gain = np.log(self.per_bead_px[0] / self.per_bead_px[1])
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        return bool(gain.mean() > max(-np.log(1.0 - _LEAST_IMPROVEMENT), _SIGNIFICANCE * error))

    def statistics(self) -> dict[str, float]:
        rms, median = np.sqrt((self.distance_px**2).mean(axis=1)), np.median(self.distance_px, axis=1)
        return dict(zip(_STATISTICS, (float(value) for value in (*rms, *median)), strict=True))


def _decided(alignment: Alignment, problem: MotionProblem, start: MotionState) -> Alignment:
    """Fit a rigid specimen and one that moves, and keep the motion if it is better."""
    points = _points(alignment)
    judged = np.unique(np.linspace(0, len(problem.track) - 1, _MOST_JUDGED).round().astype(np.intp))
    grid, views = problem.linearised(start)
    noise = Evidence(grid).rigid_noise_px
    rigid = solve_motion(grid, views, noise, None, judged).left_out_px
    fit = _fit(problem, start, judged)
    if fit is None:
        errors = _Errors.of((rigid, rigid), judged)
        statistics = {k: v for k, v in errors.statistics().items() if k.endswith("rigid")}
        rms = statistics["leave_one_bead_out_rms_px_rigid"]
        words = f"none found: a rigid specimen explains the residuals as well (left-out {points}: {rms:.2f} px rms)"
        return _with_words(alignment.replace(statistics={**alignment.statistics, **statistics}), words)
    errors = _Errors.of((rigid, fit.solution.left_out_px), judged)
    statistics = errors.statistics()
    alignment = alignment.replace(statistics={**alignment.statistics, **statistics})
    figures = (
        points + " left out are predicted to {:.2f} px instead of {:.2f} px rms (median {:.2f} instead of {:.2f} px)"
    )
    rigid_rms, local_rms, rigid_median, local_median = statistics.values()
    words = figures.format(local_rms, rigid_rms, local_median, rigid_median)
    if not errors.clearly_better:
        return _with_words(alignment, f"not used: {words}, which is not clearly better")
    motion = local_motion_of(fit.fitted(problem), alignment, local_rms, rigid_rms)
    words = f"{_extent(motion, problem, alignment.pixel_size_angst, points)}; {words}"
    alignment = alignment.replace(local_motion=motion, flags=(*alignment.flags, Flag(DETAILS_KEY, words)))
    return _with_words(alignment, f"used: {words}")


def _points(alignment: Alignment) -> str:
    made_by = alignment.provenance
    return "beads" if made_by is None else _POINTS.get(made_by.method, "beads")


def _with_words(alignment: Alignment, words: str) -> Alignment:
    return alignment.replace(details={**alignment.details, DETAILS_KEY: words})


def _extent(motion: LocalMotion, problem: MotionProblem, pixel_size_angst: float, points: str) -> str:
    seen = np.stack([motion.displacement_yx_angst(motion.support_zyx_angst, i) for i in range(len(motion))])
    distance = np.linalg.norm(seen[problem.image, problem.bead], axis=1) / pixel_size_angst
    return f"{points} move by up to {distance.max():.1f} px in the images ({np.sqrt((distance**2).mean()):.2f} px rms)"


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """A fitted motion.

    Attributes
    ----------
    start
        Where the last round was linearised.
    basis
        Modes of the motion there.
    solution
        What came out.
    """

    start: MotionState
    basis: MotionBasis
    solution: MotionSolution

    def fitted(self, problem: MotionProblem) -> FittedMotion:
        """The same as it is expressed."""
        return FittedMotion(
            self.start.views, self.solution.view_change, self.start.points_zyx, self.solution.displacement_px,
            self.basis, self.solution.amplitudes, problem.x_tilt_deg, problem.time_steps, problem.solved,
            problem.reference,
        )  # fmt: skip


def _fit(problem: MotionProblem, start: MotionState, judged: NDArray[np.intp]) -> _Fit | None:
    """Learn scales and solve, a few times; None if there is no evidence of motion."""
    # the weights of the rigid solution take strong motion for errors, so all of it counts at first
    residual = problem.linearised(start)[0].residual_px
    rms = float(np.sqrt((residual[:, problem.bead, problem.image] ** 2).mean()))
    state = replace(start, weight=problem.reweighted(residual, rms))
    scales, nobody = None, np.zeros(0, dtype=np.intp)
    for round_ in range(_ROUNDS):
        grid, views = problem.linearised(state)
        scales = learn_scales(grid, problem.field_px, scales)
        if scales is None:
            return None
        basis = grid.basis(scales)
        last = round_ + 1 == _ROUNDS
        solution = solve_motion(grid, views, scales.noise_px, basis, judged if last else nobody)
        fit = _Fit(state, basis, solution)
        state = MotionState(
            state.views + solution.view_change,
            fit.fitted(problem).reference_points(),
            problem.reweighted(solution.residual_px, scales.noise_px),
        )
    return fit
