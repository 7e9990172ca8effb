"""How far two alignments of one series are apart, once everything that no image can tell has been removed.

Only how the images see the specimen matters. A turn, a displacement and a change of size of the whole specimen change
no image, so the best such motion (7 numbers) is taken out first; what is left is an error. Two things are not free:
the hand (the mirror of the specimen is another specimen; it is reported, never taken out) and a turn of all images in
their own plane, because the images do not turn with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from napari_tiltalign.errors import BadInput
from napari_tiltalign.geometry import FloatArray, RigidMotion, ViewGeometry, frozen_array, wrap_deg
from napari_tiltalign.model import Alignment

GRID_ZYX = (4, 9, 9)
"""How many points fill the slab along each axis; more do not change the figure."""


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """Difference of an alignment from the truth (or from any other alignment).

    Distances are taken in the image plane, over the points of the slab that an image sees, after the best motion.

    Attributes
    ----------
    tilt_ids
        The n images counted: those that both alignments include, in the order of the truth.
    rms_px, rms_nm
        Root mean square distance over all images and points, in pixels of the truth and in nanometres.
    per_view_rms_px
        Shape (n,), the same for every image; NaN for one that sees no point of the slab.
    mirrored_rms_px
        What `rms_px` would be for the other hand of the alignment.
    motion
        The motion taken out, its scale included: the alignment sees ``motion.apply(X)`` where the truth sees ``X``.
    axis_difference_deg
        Tilt axis of the alignment minus that of the truth, in the image plane, [-90, 90). No motion of the specimen
        changes it. NaN if the images span less than a degree of tilt.
    """

    tilt_ids: tuple[str, ...]
    rms_px: float
    rms_nm: float
    per_view_rms_px: FloatArray
    mirrored_rms_px: float
    motion: RigidMotion
    axis_difference_deg: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_view_rms_px", frozen_array(self.per_view_rms_px))

    @property
    def n_views(self) -> int:
        """How many images were counted."""
        return len(self.tilt_ids)

    @property
    def worst_tilt_id(self) -> str:
        """The image that is furthest off."""
        return self.tilt_ids[int(np.nanargmax(self.per_view_rms_px))]

    @property
    def worst_view_rms_px(self) -> float:
        """Its distance in pixels."""
        return float(np.nanmax(self.per_view_rms_px))

    @property
    def scale(self) -> float:
        """How much larger the specimen is in the alignment than in the truth."""
        return self.motion.scale

    @property
    def hand_flipped(self) -> bool:
        """Whether the other hand of the alignment fits better than the one given."""
        return self.mirrored_rms_px < self.rms_px


def difference(alignment: Alignment, truth: Alignment, *, thickness_angst: float) -> Difference:
    """Compare an alignment with the truth over the points of the specimen slab.

    Parameters
    ----------
    alignment, truth
        Alignments of the same series; images are matched by ``tilt_id``, and only those included in both are counted.
    thickness_angst
        Thickness of the slab, Angstrom, centred on height 0 of the truth.

    Returns
    -------
    Difference
        What is left after the best turn, displacement and scale, by least squares.

    Raises
    ------
    BadInput
        If they share no image, or the thickness is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_tiltalign import Alignment, difference
    >>> from napari_tiltalign.geometry import ViewGeometry
    >>> tilts = np.arange(-60.0, 61.0, 20.0)
    >>> ids = tuple(f"view_{t:.0f}" for t in tilts)
    >>> truth = Alignment("TS", ids, ViewGeometry.nominal(tilts, 5.0), 10.0, (512, 512), np.ones(7, bool))
    >>> turned = truth.replace(geometry=ViewGeometry.nominal(tilts + 8.0, 5.0))
    >>> round(difference(turned, truth, thickness_angst=1500.0).rms_px, 6)  # a common tilt is a turn of the specimen
    0.0
    """
    if not thickness_angst > 0:
        raise BadInput(f"the slab must have a thickness, not {thickness_angst} Angstrom")
    tilt_ids = _common_tilts(alignment, truth)
    found, true = alignment.take(tilt_ids).geometry, truth.take(tilt_ids).geometry
    slab = _Slab.seen_by(true, np.array(truth.image_shape_yx) * truth.pixel_size_angst, thickness_angst)
    if not slab.n_points.any():
        raise BadInput(f"{truth.series_name}: no image sees the specimen; are the shifts in Angstrom?")

    motion = _best_motion(found, true, slab)
    mean_square = slab.mean_square(found, true, motion)
    mirror = found.mirrored()
    mirrored = slab.mean_square(mirror, true, _best_motion(mirror, true, slab))
    rms_angst = slab.total_rms(mean_square)
    return Difference(
        tilt_ids=tilt_ids,
        rms_px=rms_angst / truth.pixel_size_angst,
        rms_nm=rms_angst / 10.0,
        per_view_rms_px=np.sqrt(mean_square) / truth.pixel_size_angst,
        mirrored_rms_px=slab.total_rms(mirrored) / truth.pixel_size_angst,
        motion=motion,
        axis_difference_deg=_axis_difference_deg(found, true),
    )


def _common_tilts(alignment: Alignment, truth: Alignment) -> tuple[str, ...]:
    """Images that both alignments include, in the order of the truth."""
    included = {tilt_id for tilt_id, used in zip(alignment.tilt_ids, alignment.included, strict=True) if used}
    common = tuple(
        tilt_id for tilt_id, used in zip(truth.tilt_ids, truth.included, strict=True) if used and tilt_id in included
    )
    if not common:
        raise BadInput(
            f"{alignment.series_name} and {truth.series_name} have no included image in common "
            f"(images are called {alignment.tilt_ids[:1]} and {truth.tilt_ids[:1]}); compare alignments of one series"
        )
    return common


@dataclass(frozen=True, slots=True, eq=False)
class _Slab:
    """The points of the slab that every image sees, condensed.

    An image is an affine map of the points, so the sum of squared distances between two maps needs no more of the
    points than their second moments: with ``H`` = rows (1, z, y, x) and ``H = Q R``, ``|H D| = |R D|``.

    Attributes
    ----------
    factor
        Shape (n, 4, 4): R for every image.
    n_points
        Shape (n,): how many points it sees.
    """

    factor: FloatArray
    n_points: NDArray[np.int64]

    @classmethod
    def seen_by(cls, true: ViewGeometry, field_yx_angst: FloatArray, thickness_angst: float) -> _Slab:
        """Fill the slab with points (the centres of equal boxes) and keep for every image those inside its field."""
        extent_angst = (thickness_angst, *field_yx_angst)
        axes = [((np.arange(n) + 0.5) / n - 0.5) * size for n, size in zip(GRID_ZYX, extent_angst, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        seen = np.all(np.abs(true.project(points)) <= field_yx_angst / 2, axis=2)
        rows = np.column_stack([np.ones(len(points)), points])
        factor: FloatArray = np.linalg.qr(rows * seen[:, :, None]).R
        return cls(factor, seen.sum(axis=1))

    def distances(self, found: ViewGeometry, true: ViewGeometry, motion: RigidMotion) -> FloatArray:
        """Numbers, shape (n, 4, 2), whose squares add up to the squared distances, in square Angstrom."""
        apart: FloatArray = self.factor @ (_affine(found, motion) - _affine(true, RigidMotion.identity()))
        return apart

    def mean_square(self, found: ViewGeometry, true: ViewGeometry, motion: RigidMotion) -> FloatArray:
        """Mean squared distance in every image, square Angstrom; NaN where an image sees no point."""
        total = (self.distances(found, true, motion) ** 2).sum(axis=(1, 2))
        mean: FloatArray = np.divide(total, self.n_points, out=np.full(len(total), np.nan), where=self.n_points > 0)
        return mean

    def total_rms(self, mean_square: FloatArray) -> float:
        """Root mean square over all images and points."""
        return float(np.sqrt(np.nansum(mean_square * self.n_points) / self.n_points.sum()))


def _affine(geometry: ViewGeometry, motion: RigidMotion) -> FloatArray:
    """Matrices, shape (n, 4, 2), that take rows (1, z, y, x) to what the images see of the moved points, (y, x)."""
    matrices = geometry.project(motion.apply(np.vstack([np.zeros(3), np.eye(3)])))
    matrices[:, 1:] -= matrices[:, :1]
    return matrices


def _best_motion(found: ViewGeometry, true: ViewGeometry, slab: _Slab) -> RigidMotion:
    """Motion that brings what `found` sees of moved points closest to what `true` sees of the points.

    The start is close whatever the motion is: the rotation that all images agree on best (Procrustes, closed form).
    """
    u, _, vt = np.linalg.svd(np.einsum("nji,njk->ik", found.rotations(), true.rotations()))
    start = Rotation.from_matrix(u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)
    length = float(np.abs(slab.factor).max() / np.sqrt(slab.n_points.max()))

    def motion_of(parameters: FloatArray) -> RigidMotion:
        turn = start * Rotation.from_rotvec(parameters[:3])
        return RigidMotion(turn.as_matrix(), parameters[3:6] * length, float(np.exp(parameters[6])))

    def residuals(parameters: FloatArray) -> FloatArray:
        return slab.distances(found, true, motion_of(parameters)).ravel() / length

    solution = least_squares(residuals, np.zeros(7), method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    return motion_of(solution.x)


def _axis_difference_deg(found: ViewGeometry, true: ViewGeometry) -> float:
    """Angle between the tilt axes in the image plane, degrees, [-90, 90): an axis has no direction."""
    apart = _tilt_axis_deg(found) - _tilt_axis_deg(true)
    return float(wrap_deg(2.0 * apart) / 2.0)


def _tilt_axis_deg(geometry: ViewGeometry) -> float:
    """Axis about which the images turn against each other, degrees from the image's y axis.

    It rests on turns from image to image only, so the orientation of the specimen does not enter. With a perfect
    stage it is ``z_rot_deg``.
    """
    rotations = geometry.rotations()
    turns = Rotation.from_matrix(rotations @ rotations[0].T).as_rotvec(degrees=True)
    if np.linalg.norm(turns, axis=1).max() < 1.0:
        return float("nan")
    axis = np.linalg.svd(turns - turns.mean(axis=0))[2][0]
    return float(np.rad2deg(np.arctan2(-axis[0], axis[1])))
