"""Files of Warp and M, one ``.xml`` for each tilt series, as they stand: the numbers, in Warp's own convention.

They are read and written by the package ``warpxmlfile``, which gives a file back byte by byte but for what was changed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput, ProgramMissing
from napari_tiltalign.geometry import FloatArray, frozen_array

MOVEMENT_GRIDS = ("GridMovementX", "GridMovementY")
WARP_GRIDS = ("GridVolumeWarpX", "GridVolumeWarpY", "GridVolumeWarpZ")
ALIGNED_GRIDS = (*MOVEMENT_GRIDS, *WARP_GRIDS, "GridAngleX", "GridAngleY", "GridAngleZ")
"""What M refines on top of an alignment, and what is worth nothing with another one."""

_LARGEST_BYTES = 200_000_000
_DEFINITION = re.compile(r"<!(?:DOCTYPE|ENTITY)")
_FORMATS = frozenset({".mrc", ".mrcs", ".st", ".tif", ".tiff", ".eer", ".em", ".dm4", ".gz", ".bz2"})


@dataclass(frozen=True, slots=True, eq=False)
class WarpFile:
    """What a file of Warp says of the geometry of n images.

    A point X of the volume is seen at ``Rz(axis) Ry(-(tilt + level y)) Rx(level x) (X + volume_motion) + offset -
    image_motion``, from the image centre, N / 2, where the first pixel's centre is at 0.

    Attributes
    ----------
    path
        The file.
    tilt_deg, axis_deg
        Shape (n,): ``Angles`` and ``AxisAngle``.
    offset_xy_angst
        Shape (n, 2): ``AxisOffsetX`` and ``AxisOffsetY``.
    used
        Shape (n,): ``UseTilt``.
    dose_e_per_A2
        Shape (n,): ``Dose`` before each image, or NaN if it is not given for each of them.
    image_names
        n names of the movies, without folder and format; empty unless each image has its own.
    level_xy_deg
        Shape (2,): ``LevelAngleX`` and ``LevelAngleY``.
    image_motion_xy_angst
        Shape (n, 2): mean over the image of what the ``GridMovement`` take away from the offsets.
    volume_motion_xyz_angst
        Shape (n, 3): mean over the volume of what the ``GridVolumeWarp`` move it by.
    local_angst
        By how much these grids deviate from their means at worst: what is no rigid motion.
    pixel_size_angst
        Of the images, from the CTF; NaN if not given.
    image_size_xy_angst
        Of the images, or None if not given (old versions).
    """

    path: Path
    tilt_deg: FloatArray
    axis_deg: FloatArray
    offset_xy_angst: FloatArray
    used: NDArray[np.bool_]
    dose_e_per_A2: FloatArray  # noqa: N815 (the unit's own capital)
    image_names: tuple[str, ...]
    level_xy_deg: FloatArray
    image_motion_xy_angst: FloatArray
    volume_motion_xyz_angst: FloatArray
    local_angst: float
    pixel_size_angst: float
    image_size_xy_angst: tuple[float, float] | None

    def __len__(self) -> int:
        return self.tilt_deg.size


def warp_library() -> ModuleType:
    """Return the package that reads and writes these files.

    Raises
    ------
    ProgramMissing
        If it is not installed.
    """
    try:
        import warpxmlfile
    except ImportError as error:
        raise ProgramMissing('files of Warp and M (.xml) need the package warpxmlfile: pip install '
                             '"napari-tiltalign[warp]"') from error  # fmt: skip
    return warpxmlfile


def open_warp(path: str | os.PathLike[str]) -> Any:
    """Read a file into the library's own class.

    Raises
    ------
    BadInput
        If it cannot be read or is none of Warp's tilt series.
    ProgramMissing
        If the library is not installed.
    """
    library = warp_library()
    try:
        _check_harmless(Path(path))
        return library.read(path)
    except (OSError, ValueError, LookupError) as error:
        raise BadInput(f"{path} cannot be read as a tilt series of Warp or M: {error}") from error


def _check_harmless(path: Path) -> None:
    """Refuse what could fill the memory: Warp's files are a few MB and define no entities."""
    if (size := path.stat().st_size) > _LARGEST_BYTES:
        raise ValueError(f"it has {size / 1e6:.0f} MB, and such files have a few")
    text = path.read_bytes().decode("utf-8")  # the coding that Warp writes, so that nothing can hide in another one
    if match := _DEFINITION.search(text):
        raise ValueError(f"it has a {match[0]} declaration, which Warp does not write")


def read_warp_file(path: str | os.PathLike[str]) -> WarpFile:
    """Read a file of one tilt series.

    Raises
    ------
    BadInput
        If it cannot be read, lists no image, or holds numbers that are not finite.
    ProgramMissing
        If the library is not installed.
    """
    return warp_file(Path(path), open_warp(path))


def warp_file(path: Path, warp: Any) -> WarpFile:
    """Return what the library has read; see `read_warp_file`."""
    n = len(warp.angles)
    if not n:
        raise BadInput(f"{path} lists no image")
    dose = np.full(n, np.nan) if warp.dose is None or len(warp.dose) != n else warp.dose
    names = tuple(image_stem(name) for name in warp.movie_path)
    try:
        image_motion, beyond_image = _image_motion(warp.grids, n)
        volume_motion, beyond_volume = _volume_motion(warp.grids, dose)
        size = warp.image_dimensions_angstrom
        found = WarpFile(
            path=path,
            tilt_deg=frozen_array(warp.angles),
            axis_deg=frozen_array(warp.axis_angle),
            offset_xy_angst=frozen_array(np.column_stack([warp.axis_offset_x, warp.axis_offset_y])),
            used=frozen_array(warp.use_tilt, bool),
            dose_e_per_A2=frozen_array(dose),
            image_names=names if len(names) == len(set(names)) == n else (),
            level_xy_deg=frozen_array([float(warp.attributes.get(f"LevelAngle{axis}") or 0.0) for axis in "XY"]),
            image_motion_xy_angst=frozen_array(image_motion),
            volume_motion_xyz_angst=frozen_array(volume_motion),
            local_angst=max(beyond_image, beyond_volume),
            pixel_size_angst=float((warp.ctf or {}).get("PixelSize") or "nan"),
            image_size_xy_angst=None if size is None else (float(size[0]), float(size[1])),
        )
    except (ValueError, IndexError) as error:
        raise BadInput(f"{path} cannot be read as a tilt series of Warp or M: {error}") from error
    _check_finite(found)
    return found


def image_stem(name: str) -> str:
    r"""Return the name of an image without folders and format, whichever system wrote it.

    Examples
    --------
    >>> image_stem("../frames/TS_01_003_6.0.tif"), image_stem("X:\\frames\\TS_01_003_6.0.eer")
    ('TS_01_003_6.0', 'TS_01_003_6.0')
    """
    path = PureWindowsPath(name)
    while path.suffix.lower() in _FORMATS:
        path = path.with_suffix("")
    return path.name


def _check_finite(file: WarpFile) -> None:
    numbers = {
        "Angles": file.tilt_deg,
        "AxisAngle": file.axis_deg,
        "AxisOffset": file.offset_xy_angst,
        "LevelAngle": file.level_xy_deg,
        "GridMovement": file.image_motion_xy_angst,
        "GridVolumeWarp": file.volume_motion_xyz_angst,
    }
    for name, values in numbers.items():
        if not np.isfinite(values).all():
            raise BadInput(f"{file.path}: {name} holds values that are not finite; repair the file, or align again")


def _image_motion(grids: Any, n: int) -> tuple[FloatArray, float]:
    """Mean of the movement grids in each image, shape (n, 2), and how far they deviate from it."""
    means, beyond = np.zeros((n, 2)), 0.0
    for k, name in enumerate(MOVEMENT_GRIDS):
        if (grid := grids.get(name)) is not None:
            by_layer, rest = _mean_by_layer(grid.values)
            means[:, k] = np.interp(np.linspace(0.0, 1.0, n), np.linspace(0.0, 1.0, by_layer.size), by_layer)
            beyond = max(beyond, rest)
    return means, beyond


def _volume_motion(grids: Any, dose_e_per_A2: FloatArray) -> tuple[FloatArray, float]:  # noqa: N803
    """Mean of the volume warp when each image was taken, shape (n, 3), and how far it deviates from it.

    Its layers are equally far apart in dose, from the first image to the last.
    """
    n = dose_e_per_A2.size
    means, beyond = np.zeros((n, 3)), 0.0
    known = np.where(np.isfinite(dose_e_per_A2), dose_e_per_A2, 0.0)
    span = np.ptp(known)
    when = (known - known.min()) / span if span > 0 else np.zeros(n)
    for k, name in enumerate(WARP_GRIDS):
        if (grid := grids.get(name)) is not None:
            by_layer, rest = _mean_by_layer(grid.values)
            means[:, k] = np.interp(when, np.linspace(0.0, 1.0, by_layer.size), by_layer)
            beyond = max(beyond, rest)
    return means, beyond


def _mean_by_layer(values: FloatArray) -> tuple[FloatArray, float]:
    """Mean of each layer along the first axis, and the largest deviation from it."""
    layers = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    mean = layers.mean(axis=1)
    return mean, float(np.abs(layers - mean[:, None]).max())
