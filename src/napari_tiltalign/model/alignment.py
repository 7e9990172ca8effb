"""An alignment: the geometry found for a tilt series, how sure it is, and where it came from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry, frozen_array
from napari_tiltalign.model.flags import Flag
from napari_tiltalign.model.local_motion import LocalMotion
from napari_tiltalign.model.tracks import Tracks

FOLLOWED_AREA_KEY = "followed_area_nm"
"""In `Alignment.details`: side of the square areas of the images that the tracks follow, nm; not there for beads."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedError:
    """How far from the truth the places of the field are expected to be seen, the specimen as a whole fitted away.

    Attributes
    ----------
    y_angst, x_angst
        Shapes (r,) and (c,): where, from the middle of the specimen plane, Angstrom.
    rms_angst
        Shape (r, c): root mean square over the images that see the place, Angstrom; NaN where none does.
    overall_angst
        The same over all places.
    """

    y_angst: FloatArray
    x_angst: FloatArray
    rms_angst: FloatArray
    overall_angst: float

    def __post_init__(self) -> None:
        for name in ("y_angst", "x_angst", "rms_angst"):
            object.__setattr__(self, name, frozen_array(getattr(self, name)))
        if self.rms_angst.shape != (len(self.y_angst), len(self.x_angst)):
            raise ValueError(f"rms_angst has shape {self.rms_angst.shape} for the places given")


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """Standard deviations of the geometry of n images; NaN where a value was not estimated.

    They hold for the geometry relative to the others: a common motion of the whole specimen is free and not counted.

    Attributes
    ----------
    y_tilt_deg, z_rot_deg, magnification
        Shape (n,).
    shift_yx_angst
        Shape (n, 2).
    axis_deg
        Of the tilt axis, that is of the mean of ``z_rot_deg``; NaN if not estimated.
    expected_error
        How far off the field is expected to be; None if not estimated.
    """

    y_tilt_deg: FloatArray
    z_rot_deg: FloatArray
    shift_yx_angst: FloatArray
    magnification: FloatArray
    axis_deg: float = math.nan
    expected_error: ExpectedError | None = None

    def __post_init__(self) -> None:
        n = np.size(self.y_tilt_deg)
        for name in ("y_tilt_deg", "z_rot_deg", "shift_yx_angst", "magnification"):
            array = frozen_array(getattr(self, name))
            if array.shape != ((n, 2) if name == "shift_yx_angst" else (n,)):
                raise ValueError(f"{name} has shape {array.shape} for {n} images")
            object.__setattr__(self, name, array)

    def take(self, index: NDArray[np.intp]) -> Uncertainty:
        """Return that of some of the images, in the order of their indices."""
        return dataclasses.replace(
            self,
            y_tilt_deg=self.y_tilt_deg[index],
            z_rot_deg=self.z_rot_deg[index],
            shift_yx_angst=self.shift_yx_angst[index],
            magnification=self.magnification[index],
        )


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an alignment came from. Holds no clock time, so that equal work gives equal bytes.

    Attributes
    ----------
    method
        Name of the method in the registry, or of the program and format it was imported from.
    options
        Its options as plain values.
    version
        Version of this package.
    input_fingerprint
        Digest of what was aligned; empty if unknown.
    """

    method: str = ""
    options: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    version: str = ""
    input_fingerprint: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """Geometry of every image of one series, in the series' order.

    Attributes
    ----------
    series_name
        Name of the series.
    tilt_ids
        Identity of the n images.
    geometry
        The best geometry, n images, excluded ones interpolated.
    pixel_size_angst, image_shape_yx
        Of the images the alignment belongs to.
    included
        Shape (n,): which images took part.
    reasons
        n texts: why an image did not; empty where it did.
    unit_magnification_geometry
        The best geometry with all magnifications fixed at 1, which is what RELION's STAR can hold; None if
        `geometry` already is that.
    uncertainty
        Standard deviations, or None if the method does not estimate them.
    tracks
        Beads or patches it rests on, or None.
    local_motion
        How the specimen moves in itself, on top of `geometry`; None if it is rigid as far as known.
    statistics
        Named numbers about the fit, units in the names (``residual_rms_px``).
    details
        What the method learned, for people: priors, chosen starts, bead profile. Plain JSON values.
    flags
        Warnings.
    provenance
        Method, options, version.

    Examples
    --------
    >>> from napari_tiltalign import read_alignment
    >>> alignment = read_alignment("truth/TS_01.json")
    >>> alignment.geometry.y_tilt_deg.shape, alignment.geometry.shift_yx_angst.shape
    ((21,), (21, 2))
    >>> int(alignment.included.sum())
    21
    """

    series_name: str
    tilt_ids: tuple[str, ...]
    geometry: ViewGeometry
    pixel_size_angst: float
    image_shape_yx: tuple[int, int]
    included: NDArray[np.bool_]
    reasons: tuple[str, ...] = ()
    unit_magnification_geometry: ViewGeometry | None = None
    uncertainty: Uncertainty | None = None
    tracks: Tracks | None = None
    local_motion: LocalMotion | None = None
    statistics: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    details: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    flags: tuple[Flag, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        n = len(self.tilt_ids)
        object.__setattr__(self, "included", frozen_array(self.included, bool))
        if not self.reasons:
            object.__setattr__(self, "reasons", ("",) * n)
        if len(set(self.tilt_ids)) != n:
            raise ValueError("tilt_ids must be unique")
        if len(self.geometry) != n or self.included.shape != (n,) or len(self.reasons) != n:
            raise ValueError(f"geometry, included and reasons must have one entry for each of {n} images")
        if self.unit_magnification_geometry is not None and len(self.unit_magnification_geometry) != n:
            raise ValueError(f"unit_magnification_geometry must have {n} images")
        if self.tracks is not None and self.tracks.tilt_ids != self.tilt_ids:
            raise ValueError("tracks belong to other images than the alignment")
        if self.local_motion is not None and len(self.local_motion) != n:
            raise ValueError(f"local_motion must have {n} images")
        if not self.pixel_size_angst > 0:
            raise ValueError("pixel_size_angst must be positive")

    def __len__(self) -> int:
        return len(self.tilt_ids)

    @property
    def star_geometry(self) -> ViewGeometry:
        """The geometry to write where no magnification can be written."""
        return self.geometry if self.unit_magnification_geometry is None else self.unit_magnification_geometry

    @property
    def axis_deg(self) -> float:
        """Tilt axis, degrees: median over the included images, safe across the +-180 seam."""
        angles = self.geometry.z_rot_deg[self.included]
        if not angles.size:
            return float("nan")
        reference = angles[0]
        return float(reference + np.median((angles - reference + 180.0) % 360.0 - 180.0))

    def replace(self, **changes: Any) -> Alignment:
        """Return a copy with some fields replaced; it is checked like a new one."""
        return dataclasses.replace(self, **changes)

    def take(self, tilt_ids: tuple[str, ...]) -> Alignment:
        """Return the alignment for some of its images in a given order, tracks dropped.

        Raises
        ------
        KeyError
            If an image is not part of the alignment.
        """
        position = {tilt_id: i for i, tilt_id in enumerate(self.tilt_ids)}
        index = np.array([position[tilt_id] for tilt_id in tilt_ids], dtype=np.intp)
        unit = self.unit_magnification_geometry
        sd = self.uncertainty
        return self.replace(
            tilt_ids=tilt_ids,
            geometry=self.geometry.take(index),
            included=self.included[index],
            reasons=tuple(self.reasons[i] for i in index),
            unit_magnification_geometry=None if unit is None else unit.take(index),
            uncertainty=None if sd is None else sd.take(index),
            tracks=None,
            local_motion=None if self.local_motion is None else self.local_motion.take(index),
        )
