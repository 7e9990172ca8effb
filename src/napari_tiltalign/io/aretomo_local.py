"""AreTomo's local alignment as motion of the specimen in itself.

For each patch and image, AreTomo gives the place (x, y) of the patch in the image, in pixels about where the rotation
centre is seen, and how far (dx, dy) the patch is seen from there. Over the tilts the places are those of a point of the
specimen, ``(x, y) = R(ROT) (X cos t + Z sin t, Y)``, which gives the point; the displacements are AreTomo's own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, rotation_z
from napari_tiltalign.io.aln_text import AlnFile
from napari_tiltalign.model import LocalMotion
from napari_tiltalign.model.local_motion import matern_3_2

_LEAST_PATCHES = 4
_NUGGET = 1e-9
"""Keeps the equations solvable where two patches lie on each other."""


def local_motion_of(
    file: AlnFile, position: NDArray[np.intp], tilt_ids: tuple[str, ...], pixel_size_angst: float
) -> LocalMotion | None:
    """Return the motion that a file holds, or None if it holds too little: not all patches, or fewer than four.

    Parameters
    ----------
    file
        With k images.
    position
        Shape (k,): position of each of them in the series.
    tilt_ids
        Identity of all n images of the series; those that are not in the file get no motion.
    pixel_size_angst
        Of the images.
    """
    k = file.section.size
    n_patches = len(np.unique(file.local[:, 1]))
    if n_patches < _LEAST_PATCHES or len(file.local) != k * n_patches:
        return None
    table = file.local[np.lexsort((file.local[:, 1], file.local[:, 0]))].reshape(k, n_patches, 7)
    place_px, moved_px, good = table[:, :, 2:4], table[:, :, 4:6], table[:, :, 6] > 0
    reference = int(np.argmin(np.abs(file.tilt_deg)))
    support_px, moved_px = _since(reference, file, _points_xyz_px(file, place_px), moved_px)
    support = support_px[:, ::-1] * pixel_size_angst
    apart = np.linalg.norm(support[:, None, 1:] - support[None, :, 1:], axis=2)
    length = float(np.median(np.where(np.eye(n_patches, dtype=bool), np.inf, apart).min(axis=1)))
    if not length > 0:
        return None
    coefficients = np.zeros((len(tilt_ids), n_patches, 2))
    correlation = matern_3_2(apart / length) + _NUGGET * np.eye(n_patches)
    for line in range(k):
        sure = good[line] & good[reference]
        moved_yx = moved_px[line, sure, ::-1] * pixel_size_angst
        coefficients[position[line], sure] = np.linalg.solve(correlation[np.ix_(sure, sure)], moved_yx)
    used = moved_px[good] * pixel_size_angst
    return LocalMotion(
        reference_tilt_id=tilt_ids[position[reference]],
        support_zyx_angst=support,
        coefficients_yx_angst=coefficients,
        common_yx=np.zeros((len(tilt_ids), 2, 4)),
        length_angst=length,
        time_steps=1.0,
        amplitude_angst=float(np.sqrt((used**2).mean())),
        left_out_rms_px=np.nan,
        rigid_left_out_rms_px=np.nan,
    )


def _points_xyz_px(file: AlnFile, place_px: FloatArray) -> FloatArray:
    """Point of the specimen (x, y, z) of every patch, by least squares over the images; shape (p, 3)."""
    unrotated = np.einsum("kij,kpj->kpi", rotation_z(-file.rot_deg)[:, :2, :2], place_px)
    tilt = np.deg2rad(file.tilt_deg)
    (x, z), *_ = np.linalg.lstsq(np.column_stack([np.cos(tilt), np.sin(tilt)]), unrotated[:, :, 0], rcond=None)
    return np.column_stack([x, unrotated[:, :, 1].mean(axis=0), z])


def _since(
    reference: int, file: AlnFile, points_xyz_px: FloatArray, moved_px: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Points as they are in the reference image, and how far they have moved since.

    AreTomo's displacements are not quite zero in any image. What there is in the reference belongs to the points.
    """
    cosine = np.cos(np.deg2rad(file.tilt_deg))
    turn = rotation_z(file.rot_deg)[:, :2, :2]
    in_plane = moved_px[reference] @ turn[reference]  # R^-1 d
    in_plane = in_plane / np.array([cosine[reference], 1.0])
    seen = np.einsum("kij,kpj->kpi", turn, in_plane * np.stack([cosine, np.ones_like(cosine)], axis=1)[:, None, :])
    moved_points = points_xyz_px + np.column_stack([in_plane, np.zeros(len(in_plane))])
    return moved_points, moved_px - seen
