"""Every bead in every image as one table: where it is, how well it fits, where it is missing."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.model import REJECTION_REASONS, Alignment, LocalMotion, State, Tracks
from napari_tiltalign.model.alignment import FOLLOWED_AREA_KEY

GAP = "gap"
"""State of a place where a bead should be and is not used."""

_KEPT = 3
"""Tables of the last alignments are kept, because every layer and widget asks for them; nobody may change them."""

_MARK = 0.1
_HELD = 0.01
"""In observations: how firmly a track is held that few of them tell about."""

_BY_ANY_NAME = {int(state): state.name.lower() for state in State}


@lru_cache(maxsize=_KEPT)
def predicted_yx_px(alignment: Alignment) -> FloatArray:
    """Where every image should show every bead, shape (n, p, 2), raw pixel indices; with local motion if it is known.

    Raises
    ------
    ValueError
        If the alignment has no tracks.
    """
    seen = alignment.geometry.project(_tracks(alignment).points_zyx_angst)
    if alignment.local_motion is not None:
        seen = _seen_moving(alignment, alignment.local_motion, seen)
    positions: FloatArray = seen / alignment.pixel_size_angst + np.array(alignment.image_shape_yx) // 2
    positions.flags.writeable = False
    return positions


def _seen_moving(alignment: Alignment, motion: LocalMotion, seen_yx_angst: FloatArray) -> FloatArray:
    """Where images see tracks that move, (n, p, 2), Angstrom about the centre, from where they see them at rest.

    Local motion is told of places in the reference image, but the points of tracks are where these are in the mean of
    all images. Where each was in the reference image follows from its observations, by linear least squares.
    """
    tracks, n = _tracks(alignment), len(alignment)
    points = tracks.points_zyx_angst
    moving = seen_yx_angst + np.stack([motion.displacement_yx_angst(points, image) for image in range(n)])
    rows = np.flatnonzero(tracks.used)
    tilt, track = tracks.tilt[rows], tracks.track[rows]
    measured = (tracks.position_yx_px[rows] - np.array(alignment.image_shape_yx) // 2) * alignment.pixel_size_angst
    sees = _seen_per_angst(alignment.geometry)
    weighted = sees[tilt] * tracks.weight[rows, None, None]
    normal, right = np.zeros((len(points), 3, 3)), np.zeros((len(points), 3))
    np.add.at(normal, track, np.einsum("kia,kib->kab", weighted, sees[tilt]))
    np.add.at(right, track, np.einsum("kia,ki->ka", weighted, measured - moving[tilt, track]))
    normal += _HELD * np.eye(3)  # what no observation tells stays as it is
    apart = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    placed: FloatArray = moving + np.einsum("nia,pa->npi", sees, apart)
    return placed


def _seen_per_angst(geometry: ViewGeometry) -> FloatArray:
    """How far every image sees a point move that moves by 1 Angstrom along z, y or x, shape (n, 2, 3)."""
    corners = geometry.project(np.vstack([np.zeros(3), np.eye(3)]))
    return (corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1)


@lru_cache(maxsize=_KEPT)
def used_beads(alignment: Alignment) -> pd.DataFrame:
    """Beads that are used, one row for each bead and image.

    Returns
    -------
    pandas.DataFrame
        ``track_id``, ``tilt`` (index in the series), ``tilt_id``, ``y_px``, ``x_px``, ``state``, ``residual_px`` and
        ``leave_out_px`` (distances), ``residual_y_px``, ``residual_x_px``, ``weight``, ``sd_px``.
    """
    tracks = _tracks(alignment)
    rows = np.flatnonzero(tracks.used)
    tilt = tracks.tilt[rows]
    return pd.DataFrame(
        {
            "track_id": tracks.track_ids[tracks.track[rows]],
            "tilt": tilt,
            "tilt_id": np.array(tracks.tilt_ids, dtype=object)[tilt],
            "y_px": tracks.position_yx_px[rows, 0],
            "x_px": tracks.position_yx_px[rows, 1],
            "state": [_BY_ANY_NAME[s] for s in tracks.state[rows].tolist()],
            "residual_px": np.linalg.norm(tracks.residual_yx_px[rows], axis=1),
            "leave_out_px": np.linalg.norm(tracks.leave_out_yx_px[rows], axis=1),
            "residual_y_px": tracks.residual_yx_px[rows, 0],
            "residual_x_px": tracks.residual_yx_px[rows, 1],
            "weight": tracks.weight[rows],
            "sd_px": tracks.sd_px[rows],
        }
    )


@lru_cache(maxsize=_KEPT)
def gaps(alignment: Alignment) -> pd.DataFrame:
    """Places where a bead should be seen but is not used: at their predicted positions, in included images.

    Returns
    -------
    pandas.DataFrame
        ``track_id``, ``tilt``, ``tilt_id``, ``y_px``, ``x_px``, ``state`` (always `GAP`), and ``reason`` why it is
        not used, empty if it was never looked for.
    """
    tracks = _tracks(alignment)
    predicted = predicted_yx_px(alignment)
    inside = ((predicted >= 0) & (predicted <= np.array(alignment.image_shape_yx) - 1)).all(axis=2)
    missing = inside & alignment.included[:, None]
    missing[tracks.tilt[tracks.used], tracks.track[tracks.used]] = False
    reason = np.full(missing.shape, "", dtype=object)
    reason[tracks.tilt, tracks.track] = np.array(REJECTION_REASONS, dtype=object)[tracks.reason]
    tilt, track = np.nonzero(missing)
    return pd.DataFrame(
        {
            "track_id": tracks.track_ids[track],
            "tilt": tilt,
            "tilt_id": np.array(tracks.tilt_ids, dtype=object)[tilt],
            "y_px": predicted[tilt, track, 0],
            "x_px": predicted[tilt, track, 1],
            "state": GAP,
            "reason": reason[tilt, track],
        }
    )


def place_of(alignment: Alignment, track_id: int, tilt: int) -> FloatArray | None:
    """Where a bead is in one image of the series, shape (2,), raw pixel index: measured if it is used, else predicted.

    None if there is no bead of that id.
    """
    tracks = _tracks(alignment)
    [track] = np.flatnonzero(tracks.track_ids == track_id).tolist() or [-1]
    if track < 0:
        return None
    row = np.flatnonzero(tracks.used & (tracks.track == track) & (tracks.tilt == tilt))
    place: FloatArray = tracks.position_yx_px[row[0]] if row.size else predicted_yx_px(alignment)[tilt, track]
    return place


def bead_diameter_px(alignment: Alignment, default_nm: float = 10.0) -> float:
    """Diameter of what is followed in raw pixels, as the method was told; `default_nm` if it was not.

    Areas of the images are large and have no edge: a tenth of an area marks its centre.
    """
    diameter_nm = followed_area_nm(alignment) * _MARK or default_nm
    return float(alignment.provenance.options.get("diameter_nm", diameter_nm)) * 10.0 / alignment.pixel_size_angst


def followed_area_nm(alignment: Alignment) -> float:
    """Side of the areas of the images that the tracks follow, nm; 0 if they follow beads."""
    told = alignment.details.get(FOLLOWED_AREA_KEY, alignment.provenance.options.get("patch_size_nm", 0.0))
    return float(told)


def follows_areas(alignment: Alignment) -> bool:
    """Whether the tracks are those of patches or tiles of the images, which have no centre to be put on."""
    return followed_area_nm(alignment) > 0


def followed_noun(alignment: Alignment, n: int = 1) -> str:
    """What the tracks are of, in words: bead, patch or tile; the plural if there are `n` of them."""
    if not follows_areas(alignment):
        return "bead" if n == 1 else "beads"
    if "patch_size_nm" in alignment.provenance.options:
        return "patch" if n == 1 else "patches"
    return "tile" if n == 1 else "tiles"


def _tracks(alignment: Alignment) -> Tracks:
    if alignment.tracks is None:
        raise ValueError(f"the alignment of {alignment.series_name} has no tracks")
    return alignment.tracks
