"""Where tracks are in the specimen if the geometry is given: for alignments that other programs have solved."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.model import Tracks

_LEAST_SPREAD = 1e-6
"""A track that is seen from one direction only has no depth: its rays are parallel to within this."""


def located_tracks(
    tracks: Tracks, geometry: ViewGeometry, pixel_size_angst: float, image_shape_yx: tuple[int, int]
) -> Tracks:
    """Return tracks with their points and residuals for a given geometry.

    The point of a track is where the sum of squared distances to its observations is least. A track that is seen from
    one direction only gets neither a point nor residuals (NaN).

    Parameters
    ----------
    tracks
        In n images; rejected observations do not count, but get residuals.
    geometry
        Of the same n images.
    pixel_size_angst, image_shape_yx
        Of the raw images.
    """
    rows_yx = (geometry.rotations()[:, :2] * geometry.magnification[:, None, None])[
        :, ::-1, ::-1
    ]  # (z, y, x) to (y, x)
    centre = np.array([side // 2 for side in image_shape_yx])
    seen = (tracks.position_yx_px - centre) * pixel_size_angst - geometry.shift_yx_angst[tracks.tilt]
    points = np.full((tracks.n_tracks, 3), np.nan)
    for track in range(tracks.n_tracks):
        chosen = np.flatnonzero(tracks.used & (tracks.track == track))
        matrix = rows_yx[tracks.tilt[chosen]].reshape(-1, 3)
        if len(chosen) > 1 and np.linalg.svd(matrix, compute_uv=False)[-1] > _LEAST_SPREAD * np.sqrt(len(matrix)):
            points[track] = np.linalg.lstsq(matrix, seen[chosen].ravel(), rcond=None)[0]
    predicted = np.einsum("kij,kj->ki", rows_yx[tracks.tilt], points[tracks.track])
    return tracks.replace(points_zyx_angst=points, residual_yx_px=(seen - predicted) / pixel_size_angst)


def residual_statistics(tracks: Tracks) -> dict[str, float]:
    """Return ``residual_rms_px`` and ``residual_mean_px`` (of the distances) of the used observations, if any."""
    lengths = np.linalg.norm(tracks.residual_yx_px[tracks.used], axis=1)
    lengths = lengths[np.isfinite(lengths)]
    if not lengths.size:
        return {}
    return {"residual_rms_px": float(np.sqrt((lengths**2).mean())), "residual_mean_px": float(lengths.mean())}
