"""Level the specimen: turn its coordinates so that the surfaces the beads lie on are level, if that is certain.

A turn of the whole specimen changes no image, so the images cannot tell how a specimen lies in its holder; the beads on
its surfaces can. The turn that levels them is a tilt offset (added to all tilts) and an x tilt. It is applied only
where it is significant and the beads do lie on surfaces; otherwise the tilts stay exactly as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_tiltalign.geometry import FloatArray, RigidMotion, rotation_x, rotation_y
from napari_tiltalign.methods import learned_model
from napari_tiltalign.methods.surfaces import Slant, find_slant
from napari_tiltalign.model import Alignment, Tracks

DETAILS_KEY = "level"

SIGNIFICANCE = 3.0
"""An angle is applied if it is more than this many standard deviations,"""
LARGEST_SD_DEG = 1.0
"""and these are smaller than this;"""
LARGEST_SCATTER_ANGST = 100.0
"""if the beads lie on their surfaces within this (standard deviation);"""
LEAST_BEADS = 6
"""and if there are at least so many."""


@dataclass(frozen=True, slots=True)
class Level:
    """What would level a specimen.

    Attributes
    ----------
    tilt_offset_deg, x_tilt_deg
        To be added to all tilts, and the x tilt.
    tilt_offset_sd_deg, x_tilt_sd_deg
        Their standard deviations.
    slant
        What was found about the surfaces.
    beads
        How many beads there were.
    """

    tilt_offset_deg: float
    tilt_offset_sd_deg: float
    x_tilt_deg: float
    x_tilt_sd_deg: float
    slant: Slant
    beads: int

    @property
    def on_surfaces(self) -> bool:
        """Whether there are enough beads, and they lie on surfaces."""
        return self.beads >= LEAST_BEADS and self.slant.scatter_angst <= LARGEST_SCATTER_ANGST

    @property
    def certain_deg(self) -> tuple[float, float]:
        """Tilt offset and x tilt as far as they are certain; 0 for one that is not."""
        angles = (self.tilt_offset_deg, self.tilt_offset_sd_deg), (self.x_tilt_deg, self.x_tilt_sd_deg)
        offset, x_tilt = (
            angle if self.on_surfaces and sd <= LARGEST_SD_DEG and abs(angle) > SIGNIFICANCE * sd else 0.0
            for angle, sd in angles
        )
        return offset, x_tilt

    def in_words(self) -> str:
        """What was found, for people."""
        slant = self.slant
        if slant.two_surfaces >= 0.5:
            where = f"beads on two surfaces {slant.thickness_angst / 10:.0f} nm apart"
        else:
            where = "beads on one surface" if self.on_surfaces else "beads on no clear surface"
        return (
            f"{where} (scatter {slant.scatter_angst / 10:.0f} nm, {self.beads} beads): level with a tilt offset of "
            f"{self.tilt_offset_deg:.2f} +- {self.tilt_offset_sd_deg:.2f} deg and an x tilt of "
            f"{self.x_tilt_deg:.2f} +- {self.x_tilt_sd_deg:.2f} deg"
        )


def find_level(tracks: Tracks) -> Level | None:
    """Find what would level the specimen from the 3D points of beads; None with fewer than 3 of them.

    Parameters
    ----------
    tracks
        Solved tracks.
    """
    known = np.isfinite(tracks.points_zyx_angst).all(axis=1)
    known &= np.bincount(tracks.track[tracks.used], minlength=tracks.n_tracks) > 0
    sd = np.nan_to_num(tracks.points_sd_angst[known, 0], nan=0.0)
    slant = find_slant(tracks.points_zyx_angst[known], sd)
    if slant is None:
        return None
    # the normal of z = b x + c y is (-b, -c, 1); Ry(offset) Rx(x_tilt) turns the z axis there
    shrink = float(np.cos(np.deg2rad(slant.angle_x_deg)))
    x_tilt = float(np.rad2deg(np.arctan(np.tan(np.deg2rad(slant.angle_y_deg)) * shrink)))
    return Level(-slant.angle_x_deg, slant.sd_x_deg, x_tilt, slant.sd_y_deg, slant, int(known.sum()))


def level_specimen(alignment: Alignment, *, apply: bool) -> Alignment:
    """Say whether the specimen is level, and level it if asked to and certain.

    Parameters
    ----------
    alignment
        Solved from beads.
    apply
        Whether to turn the specimen by what is certain.

    Returns
    -------
    Alignment
        With ``details["level"]``, in words and numbers. Where something was applied, geometry and 3D points are turned,
        the middle between the surfaces is at height 0, and the priors for solving again are turned along.

    Raises
    ------
    ValueError
        If something is to be applied and the alignment has a model of local motion, which would not turn along.
    """
    found = None if alignment.tracks is None else find_level(alignment.tracks)
    if found is None:
        return _with_details(alignment, {"words": "not known: fewer than 3 beads", "applied": False})
    offset, x_tilt = found.certain_deg
    applied = apply and bool(offset or x_tilt)
    if applied:
        if alignment.local_motion is not None:
            raise ValueError("level the specimen before estimating local motion")
        turn = rotation_y(offset) @ rotation_x(x_tilt)
        middle = np.array([found.slant.middle_angst, 0.0, 0.0])
        alignment = _turned(alignment, RigidMotion(turn, middle), offset)
    return _with_details(alignment, _described(found, asked=apply, applied=applied))


def _described(found: Level, *, asked: bool, applied: bool) -> dict[str, Any]:
    offset, x_tilt = found.certain_deg
    if applied:
        done = f"applied: tilt offset {offset:.2f} deg, x tilt {x_tilt:.2f} deg"
    elif asked:
        done = "nothing applied, because nothing is certain"
    else:
        done = "not applied, because not asked for" if offset or x_tilt else "not significant"
    slant = found.slant
    two = slant.two_surfaces >= 0.5
    return {
        "words": f"{found.in_words()}; {done}",
        "applied": applied,
        "applied_tilt_offset_deg": offset if applied else 0.0,
        "applied_x_tilt_deg": x_tilt if applied else 0.0,
        "tilt_offset_deg": found.tilt_offset_deg,
        "tilt_offset_sd_deg": found.tilt_offset_sd_deg,
        "x_tilt_deg": found.x_tilt_deg,
        "x_tilt_sd_deg": found.x_tilt_sd_deg,
        "surfaces": 2 if two else 1,
        "two_surfaces_probability": slant.two_surfaces,
        "thickness_nm": slant.thickness_angst / 10 if np.isfinite(slant.thickness_angst) else None,
        "thickness_sd_nm": slant.thickness_sd_angst / 10 if np.isfinite(slant.thickness_sd_angst) else None,
        "scatter_nm": slant.scatter_angst / 10,
        "outliers": slant.outliers,
    }


def _with_details(alignment: Alignment, level: dict[str, Any]) -> Alignment:
    return alignment.replace(details={**alignment.details, DETAILS_KEY: level})


def _turned(alignment: Alignment, motion: RigidMotion, tilt_offset_deg: float) -> Alignment:
    """The alignment in new coordinates of the specimen, ``X_old = motion(X_new)``; the images see the same."""
    unit, tracks = alignment.unit_magnification_geometry, alignment.tracks
    details = dict(alignment.details)
    if tracks is not None:
        points = motion.inverse().apply(tracks.points_zyx_angst)
        tracks = tracks.replace(points_zyx_angst=points, points_sd_angst=_turned_sd(tracks.points_sd_angst, motion))
        if learned_model.DETAILS_KEY in details:
            height_px = float(points[:, 0].mean()) / alignment.pixel_size_angst
            model = learned_model.model_of(alignment).turned(tilt_offset_deg, height_px)
            details[learned_model.DETAILS_KEY] = model.to_details()
    return alignment.replace(
        geometry=alignment.geometry.compose(motion),
        unit_magnification_geometry=None if unit is None else unit.compose(motion),
        tracks=tracks,
        details=details,
    )


def _turned_sd(sd_zyx: FloatArray, motion: RigidMotion) -> FloatArray:
    """Standard deviations along the turned axes, for errors that do not go together."""
    turned: FloatArray = np.sqrt(sd_zyx[:, ::-1] ** 2 @ motion.rotation**2)[:, ::-1]
    return turned
