"""What a person can change about tracks: pure functions from `Tracks` to `Tracks`.

Beads are named by their track id and images by their tilt id, which stay valid whatever is edited before or after, so
that edits can be recorded and repeated. Positions are raw pixel indices. An edited observation has no residual (NaN)
until the geometry is solved again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.model import REJECTION_REASONS, State, Tracks

_DELETED = REJECTION_REASONS.index("deleted")
_UNKNOWN = (np.nan, np.nan)


class EditRefused(TiltAlignError):
    """An edit makes no sense for these tracks; nothing was changed."""


def find_track(tracks: Tracks, track_id: int) -> int:
    """Row of a track; `EditRefused` if there is none of that id."""
    rows = np.flatnonzero(tracks.track_ids == track_id)
    if not rows.size:
        raise EditRefused(f"there is no bead {track_id} any more")
    return int(rows[0])


def find_tilt(tracks: Tracks, tilt_id: str) -> int:
    """Index of an image; `EditRefused` if there is none of that id."""
    if tilt_id not in tracks.tilt_ids:
        raise EditRefused(f"there is no image {tilt_id!r} in this alignment")
    return tracks.tilt_ids.index(tilt_id)


def find_observation(tracks: Tracks, track_id: int, tilt_id: str) -> int | None:
    """Row of the observation of a bead in an image, rejected ones too; None if there is none."""
    rows = np.flatnonzero((tracks.track == find_track(tracks, track_id)) & (tracks.tilt == find_tilt(tracks, tilt_id)))
    return int(rows[0]) if rows.size else None


def place_bead(
    tracks: Tracks, track_id: int, tilt_id: str, position_yx_px: Sequence[float], state: State = State.MANUAL
) -> Tracks:
    """Put a bead at a position in one image, whether it was observed there before or not.

    Parameters
    ----------
    tracks
        Before the edit.
    track_id, tilt_id
        Which bead, in which image.
    position_yx_px
        Raw pixel indices (y, x).
    state
        `State.MANUAL` for a position a person chose, `State.FILLED` for an accepted prediction.
    """
    position = np.asarray(position_yx_px, dtype=np.float64)
    if position.shape != (2,) or not np.isfinite(position).all():
        raise EditRefused(f"{position_yx_px!r} is no position in an image")
    row = find_observation(tracks, track_id, tilt_id)
    if row is None:
        return _appended(tracks, find_track(tracks, track_id), find_tilt(tracks, tilt_id), position, state)
    return _changed(tracks, row, position_yx_px=position, state=int(state), reason=0, weight=1.0)


def remove_bead(tracks: Tracks, track_id: int, tilt_id: str) -> Tracks:
    """Stop using a bead in one image; its position is kept as rejected, so that it is not found again."""
    row = find_observation(tracks, track_id, tilt_id)
    if row is None or tracks.state[row] == State.REJECTED:
        raise EditRefused(f"bead {track_id} is not used in this image")
    return _changed(tracks, row, state=int(State.REJECTED), reason=_DELETED, weight=0.0)


def delete_track(tracks: Tracks, track_id: int) -> Tracks:
    """Remove a bead from all images."""
    row = find_track(tracks, track_id)
    return tracks.take_tracks(np.arange(tracks.n_tracks) != row)


def add_track(
    tracks: Tracks, tilt_id: str, position_yx_px: Sequence[float], point_zyx_angst: Sequence[float]
) -> Tracks:
    """Start a new bead from its position in one image.

    Parameters
    ----------
    tracks
        Before the edit.
    tilt_id, position_yx_px
        Where it is seen.
    point_zyx_angst
        First guess of its place in the specimen.
    """
    grown = tracks.replace(
        track_ids=np.append(tracks.track_ids, next_track_id(tracks)),
        points_zyx_angst=np.vstack([tracks.points_zyx_angst, point_zyx_angst]),
        points_sd_angst=np.vstack([tracks.points_sd_angst, np.full(3, np.nan)]),
    )
    return place_bead(grown, next_track_id(tracks), tilt_id, position_yx_px)


def next_track_id(tracks: Tracks) -> int:
    """The id that the next new track gets."""
    return int(tracks.track_ids.max(initial=-1)) + 1


def merge_tracks(tracks: Tracks, track_id: int, other_id: int) -> Tracks:
    """Declare two tracks to be one bead.

    Parameters
    ----------
    tracks
        Before the edit.
    track_id
        The track that stays, with its id; where both are used in an image its observation stays.
    other_id
        The track that is joined to it.
    """
    if track_id == other_id:
        raise EditRefused(f"bead {track_id} cannot be merged with itself")
    stays, goes = find_track(tracks, track_id), find_track(tracks, other_id)
    of_both = np.flatnonzero((tracks.track == stays) | (tracks.track == goes))
    # the better observation of each image first: used before rejected, then the track that stays
    ranked = of_both[np.lexsort([tracks.track[of_both] == goes, ~tracks.used[of_both], tracks.tilt[of_both]])]
    _, first = np.unique(tracks.tilt[ranked], return_index=True)
    keep = np.ones(tracks.n_observations, dtype=bool)
    keep[of_both] = False
    keep[ranked[first]] = True
    moved = np.where(tracks.track == goes, stays, tracks.track)
    return _unsolved(tracks, tracks.track == goes).take_observations(keep).replace(track=moved[keep]).take_tracks(
        np.arange(tracks.n_tracks) != goes
    )  # fmt: skip


def split_track(tracks: Tracks, track_id: int, tilt_ids: Collection[str]) -> Tracks:
    """Give the observations of a bead in some images to a new bead.

    Parameters
    ----------
    tracks
        Before the edit.
    track_id
        The bead that keeps the other images.
    tilt_ids
        Images in which it is another bead.
    """
    row = find_track(tracks, track_id)
    goes = (tracks.track == row) & _in_images(tracks, tilt_ids)
    if not goes.any() or goes.sum() == (tracks.track == row).sum():
        raise EditRefused(f"bead {track_id} must be seen in some of these images and in some others to be split")
    return _unsolved(tracks, goes).replace(
        track_ids=np.append(tracks.track_ids, next_track_id(tracks)),
        points_zyx_angst=np.vstack([tracks.points_zyx_angst, tracks.points_zyx_angst[row]]),
        points_sd_angst=np.vstack([tracks.points_sd_angst, np.full(3, np.nan)]),
        track=np.where(goes, tracks.n_tracks, tracks.track),
    )


def swap_tracks(tracks: Tracks, track_id: int, other_id: int, tilt_ids: Collection[str]) -> Tracks:
    """Exchange two beads in some images, where they were mistaken for each other."""
    if track_id == other_id:
        raise EditRefused(f"bead {track_id} cannot be swapped with itself")
    one, other = find_track(tracks, track_id), find_track(tracks, other_id)
    here = _in_images(tracks, tilt_ids)
    from_one, from_other = here & (tracks.track == one), here & (tracks.track == other)
    if not (from_one | from_other).any():
        raise EditRefused(f"neither bead {track_id} nor bead {other_id} is seen in these images")
    swapped = np.where(from_one, other, np.where(from_other, one, tracks.track))
    return _unsolved(tracks, from_one | from_other).replace(track=swapped)


def _in_images(tracks: Tracks, tilt_ids: Collection[str]) -> NDArray[np.bool_]:
    """Which observations were made in some images, shape (k,)."""
    chosen = [find_tilt(tracks, tilt_id) for tilt_id in tilt_ids]
    return np.isin(tracks.tilt, chosen)


def _unsolved(tracks: Tracks, rows: NDArray[np.bool_]) -> Tracks:
    """Forget the residuals of some observations."""
    residual, leave_out = tracks.residual_yx_px.copy(), tracks.leave_out_yx_px.copy()
    residual[rows] = leave_out[rows] = np.nan
    return tracks.replace(residual_yx_px=residual, leave_out_yx_px=leave_out)


def _changed(tracks: Tracks, row: int, **values: Any) -> Tracks:
    """Change one observation and forget its residual."""
    changes = {}
    for name, value in {**values, "residual_yx_px": _UNKNOWN, "leave_out_yx_px": _UNKNOWN}.items():
        array = getattr(tracks, name).copy()
        array[row] = value
        changes[name] = array
    return tracks.replace(**changes)


def _appended(tracks: Tracks, track: int, tilt: int, position_yx_px: NDArray[np.float64], state: State) -> Tracks:
    """Add an observation, as precise as those of the same image usually are."""
    same_image = tracks.sd_px[(tracks.tilt == tilt) & np.isfinite(tracks.sd_px)]
    everywhere = tracks.sd_px[np.isfinite(tracks.sd_px)]
    sd = np.median(same_image) if same_image.size else np.median(everywhere) if everywhere.size else np.nan
    values: dict[str, Any] = {
        "track": track, "tilt": tilt, "position_yx_px": position_yx_px, "sd_px": sd, "weight": 1.0,
        "state": int(state), "reason": 0, "residual_yx_px": _UNKNOWN, "leave_out_yx_px": _UNKNOWN,
    }  # fmt: skip
    return tracks.replace(
        **{name: np.concatenate([getattr(tracks, name), np.asarray(value)[None]]) for name, value in values.items()}
    )
