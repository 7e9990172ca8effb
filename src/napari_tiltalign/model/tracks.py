"""Tracks: features (gold beads, patches) followed through the images, with the 3D points they belong to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, frozen_array


class State(IntEnum):
    """How an observation came about, and whether it is used."""

    MEASURED = 0
    """Detected, linked and localised in the image; used."""
    FILLED = 1
    """Localised at its predicted position where detection had missed it; used."""
    MANUAL = 2
    """Placed by a person; used."""
    REJECTED = 3
    """Looked for or measured, and not used; the reason says why."""


REJECTION_REASONS: tuple[str, ...] = (
    "",
    "outside",  # too close to the edge or in a masked area
    "amplitude",  # too faint or too strong to be this bead
    "neighbour",  # another bead is too close to tell them apart
    "moved",  # the best fit is too far from the prediction
    "outlier",  # contradicts the geometry
    "deleted",  # by a person
    "vague",  # what it shows says too little about its place
)
"""Why an observation is not used; stored as an index into this tuple."""


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """p tracks with k observations in n images; edits return new objects.

    Attributes
    ----------
    tilt_ids
        Identity of the n images.
    track_ids
        Shape (p,), int: a name that a track keeps when others are removed.
    points_zyx_angst
        Shape (p, 3): specimen position, Angstrom about the rotation centre.
    points_sd_angst
        Shape (p, 3): its standard deviation; NaN where it was not estimated.
    track
        Shape (k,), int: which track (0..p-1) an observation belongs to.
    tilt
        Shape (k,), int: which image (0..n-1) it was made in.
    position_yx_px
        Shape (k, 2): position as pixel index in the raw image (the first pixel's centre is 0).
    sd_px
        Shape (k,): standard deviation of a coordinate, raw pixels.
    weight
        Shape (k,): robust weight in the last solution, 0 for one that is not used.
    state
        Shape (k,), `State` as int.
    reason
        Shape (k,), index into `REJECTION_REASONS`.
    residual_yx_px
        Shape (k, 2): measured minus predicted, raw pixels; NaN before a solution.
    leave_out_yx_px
        Shape (k, 2): the same, predicted without this observation; NaN if not estimated.
    """

    tilt_ids: tuple[str, ...]
    track_ids: NDArray[np.int64]
    points_zyx_angst: FloatArray
    points_sd_angst: FloatArray
    track: NDArray[np.int64]
    tilt: NDArray[np.int64]
    position_yx_px: FloatArray
    sd_px: FloatArray
    weight: FloatArray
    state: NDArray[np.int64]
    reason: NDArray[np.int64]
    residual_yx_px: FloatArray
    leave_out_yx_px: FloatArray

    def __post_init__(self) -> None:
        p, k = len(self.track_ids), len(self.track)
        shapes = {
            "track_ids": (p,), "points_zyx_angst": (p, 3), "points_sd_angst": (p, 3),
            "track": (k,), "tilt": (k,), "position_yx_px": (k, 2), "sd_px": (k,), "weight": (k,),
            "state": (k,), "reason": (k,), "residual_yx_px": (k, 2), "leave_out_yx_px": (k, 2),
        }  # fmt: skip
        integers = {"track_ids", "track", "tilt", "state", "reason"}
        for name, shape in shapes.items():
            array = frozen_array(getattr(self, name), np.int64 if name in integers else np.float64)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
            object.__setattr__(self, name, array)
        if len(set(self.track_ids.tolist())) != p:
            raise ValueError("track_ids must be unique")
        if k and (self.track.min() < 0 or self.track.max() >= p):
            raise ValueError("track refers to a track that does not exist")
        if k and (self.tilt.min() < 0 or self.tilt.max() >= len(self.tilt_ids)):
            raise ValueError("tilt refers to an image that does not exist")
        if len(np.unique(self.track * max(len(self.tilt_ids), 1) + self.tilt)) != k:
            raise ValueError("a track has two observations in one image")

    @classmethod
    def from_observations(
        cls,
        tilt_ids: tuple[str, ...],
        points_zyx_angst: FloatArray,
        track: NDArray[np.int64],
        tilt: NDArray[np.int64],
        position_yx_px: FloatArray,
    ) -> Tracks:
        """Tracks fresh from linking: everything measured, nothing known of residuals yet (NaN)."""
        p, k = len(points_zyx_angst), len(track)
        unknown = np.full((k, 2), np.nan)
        return cls(
            tilt_ids, np.arange(p), points_zyx_angst, np.full((p, 3), np.nan), track, tilt, position_yx_px,
            np.full(k, np.nan), np.ones(k), np.zeros(k, int), np.zeros(k, int), unknown, unknown,
        )  # fmt: skip

    @property
    def n_tracks(self) -> int:
        """How many tracks there are."""
        return len(self.track_ids)

    @property
    def n_observations(self) -> int:
        """How many observations there are, rejected ones included."""
        return len(self.track)

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which observations the solution rests on, shape (k,)."""
        used: NDArray[np.bool_] = self.state != State.REJECTED
        return used

    def replace(self, **changes: Any) -> Tracks:
        """Return a copy with some fields replaced; it is checked like a new one."""
        return dataclasses.replace(self, **changes)

    def take_observations(self, keep: NDArray[Any]) -> Tracks:
        """Return the tracks with some observations only (mask or indices over k); no track is removed."""
        per_observation = ("track", "tilt", "position_yx_px", "sd_px", "weight", "state", "reason",
                           "residual_yx_px", "leave_out_yx_px")  # fmt: skip
        return self.replace(**{name: getattr(self, name)[keep] for name in per_observation})

    def take_tracks(self, keep: NDArray[np.bool_]) -> Tracks:
        """Return some of the tracks (mask over p) with their observations; they keep their ids."""
        number = np.cumsum(keep) - 1
        chosen = keep[self.track]
        kept = self.take_observations(chosen)
        return kept.replace(
            track_ids=self.track_ids[keep],
            points_zyx_angst=self.points_zyx_angst[keep],
            points_sd_angst=self.points_sd_angst[keep],
            track=number[kept.track],
        )
