"""Write tilt series as a new RELION 5 project, as it stands after motion correction."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mrcfile
import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io.files import safe_name, write_atomic
from napari_tiltalign.io.numbers import format_number
from napari_tiltalign.io.relion_tables import (
    ANGLE,
    AXIS,
    DEFOCUS,
    IMAGE,
    NAME,
    PIXEL_SIZE,
    PRE_EXPOSURE,
    SERIES_FILE,
)
from napari_tiltalign.io.star import write_star
from napari_tiltalign.model import Table, Tilt, TiltSeries

GLOBAL_STAR = "tilt_series.star"
SERIES_FOLDER = "tilt_series"
IMAGE_FOLDER = "frames"


@dataclass(frozen=True, slots=True)
class Optics:
    """What RELION wants to know about the microscope.

    Attributes
    ----------
    voltage_kv, spherical_aberration_mm, amplitude_contrast
        Acceleration voltage, spherical aberration, amplitude contrast (0 to 1).
    hand
        1 or -1: sign with which the height of a point along the beam changes its defocus.
    """

    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.1
    hand: int = -1


def write_relion_project(
    directory: str | os.PathLike[str],
    series: Sequence[TiltSeries],
    *,
    optics: Optics | None = None,
    dtype: Literal["float32", "float16"] = "float32",
) -> Path:
    """Write tilt series as a RELION project of their own, images included.

    The project has the shape it has after motion correction: ``tilt_series.star`` lists the series,
    ``tilt_series/NAME.star`` the images of each, and ``frames/`` holds the images, called by their ``tilt_id``.
    Reading it gives the same series with the same identities. As in RELION, excluded images are left out; columns
    and tables of other projects are not taken along. The file that lists the series is written last.

    Parameters
    ----------
    directory
        Folder of the project; it is made if need be.
    series
        What to write, one after the other; pixels are read one image at a time.
    optics
        The microscope; a 300 kV one if None.
    dtype
        How pixels are stored. ``float16`` halves the files and keeps 3 digits.

    Returns
    -------
    Path
        The file that lists the series.

    Raises
    ------
    BadInput
        If there is no series, or names collide.
    BadTiltSeries
        If a series has no included image, its images cannot be called by their identity, or do not fit into
        `dtype`.
    OSError
        If the files cannot be written.
    """
    root = Path(directory)
    _check_names(series)
    for folder in (root, root / SERIES_FOLDER, root / IMAGE_FOLDER):
        folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for one in series:
        star = f"{SERIES_FOLDER}/{safe_name(one.name)}.star"
        for tilt in _written(one):
            _write_image(root / _image_path(tilt), _pixels(one, tilt, dtype), one.pixel_size_angst)
        write_star(root / star, {one.name: _series_table(one)})
        rows.append(_global_row(one, star, optics or Optics()))
    write_star(root / GLOBAL_STAR, {"global": Table.from_rows(rows)})
    return root / GLOBAL_STAR


def _written(series: TiltSeries) -> tuple[Tilt, ...]:
    return tuple(tilt for tilt in series.tilts if tilt.included)


def _image_path(tilt: Tilt) -> str:
    return f"{IMAGE_FOLDER}/{tilt.tilt_id}.mrc"


def _check_names(series: Sequence[TiltSeries]) -> None:
    """Make sure that everything gets a file of its own, before any is written."""
    if not series:
        raise BadInput("there is no tilt series to write")
    names = [safe_name(one.name) for one in series]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"series named twice: {', '.join(twice)}; give each its own name")
    owners: dict[str, str] = {}
    for one in series:
        if not _written(one):
            raise BadTiltSeries(one.name, "all images are excluded, so there is nothing to write")
        for tilt in _written(one):
            if safe_name(tilt.tilt_id) != tilt.tilt_id:
                raise BadTiltSeries(one.name, f"no file can be called {tilt.tilt_id!r} everywhere; rename the image")
            if tilt.tilt_id in owners:
                raise BadInput(
                    f"{owners[tilt.tilt_id]} and {one.name} both have an image {tilt.tilt_id}; rename the images of one"
                )
            owners[tilt.tilt_id] = one.name


def _global_row(series: TiltSeries, star: str, optics: Optics) -> dict[str, str]:
    return {
        NAME: series.name,
        SERIES_FILE: star,
        "rlnVoltage": format_number(optics.voltage_kv),
        "rlnSphericalAberration": format_number(optics.spherical_aberration_mm),
        "rlnAmplitudeContrast": format_number(optics.amplitude_contrast),
        "rlnMicrographOriginalPixelSize": format_number(series.pixel_size_angst),
        "rlnTomoHand": format_number(optics.hand),
        "rlnOpticsGroupName": "optics1",
        PIXEL_SIZE: format_number(series.pixel_size_angst),
    }


def _series_table(series: TiltSeries) -> Table:
    """Build the table of the images; what is not given for all of them has no column."""
    tilts = _written(series)
    numbers = {
        ANGLE: [t.nominal_tilt_deg for t in tilts],
        AXIS: [t.nominal_axis_deg for t in tilts],
        PRE_EXPOSURE: [t.pre_exposure_e_per_A2 for t in tilts],
        DEFOCUS: [t.nominal_defocus_um for t in tilts],
    }
    given = {name: values for name, values in numbers.items() if all(math.isfinite(v) for v in values)}
    columns = {name: tuple(format_number(v) for v in values) for name, values in given.items()}
    return Table({**columns, IMAGE: tuple(_image_path(t) for t in tilts)})


def _pixels(series: TiltSeries, tilt: Tilt, dtype: str) -> NDArray[np.floating]:
    pixels = tilt.image.read()
    largest = np.finfo(dtype).max
    if np.abs(pixels).max() > largest:
        raise BadTiltSeries(series.name, f"{tilt.image.name} has pixels beyond {largest:g}; write it as float32")
    return pixels.astype(dtype)


def _write_image(path: Path, pixels: NDArray[np.floating], pixel_size_angst: float) -> None:
    """Write one image; mrcfile needs a file, so it gets one that nobody sees."""
    with tempfile.TemporaryDirectory() as folder:
        unseen = Path(folder) / "image.mrc"
        with mrcfile.new(unseen, data=pixels) as mrc:
            mrc.voxel_size = pixel_size_angst
        write_atomic(path, unseen.read_bytes())
