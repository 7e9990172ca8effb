"""Tilt series without images, for alignments that are read without the series they are of."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.io.aln_text import read_aln_file
from napari_tiltalign.io.imod import read_imod_files
from napari_tiltalign.io.warp_file import read_warp_file
from napari_tiltalign.model import Tilt, TiltSeries


@dataclass(frozen=True, slots=True)
class NoImage:
    """An image of which only the name is known."""

    name: str

    def read(self) -> NDArray[np.float32]:
        """Refuse: there are no pixels.

        Raises
        ------
        BadInput
            Always.
        """
        raise BadInput(f"{self.name} is known from an alignment file only; give the tilt series to read its pixels")

    def load(self) -> tuple[NDArray[np.float32], int]:
        """Refuse, as `read` does."""
        return self.read(), 0


def bare_series_of_xf(
    path: str | os.PathLike[str], pixel_size_angst: float, image_shape_yx: tuple[int, int] | None
) -> TiltSeries:
    """Return the series that an ``.xf`` file is of, as far as the files beside it tell.

    Raises
    ------
    BadInput
        If they cannot be read, or pixel size or image size are not given: the files do not say.
    """
    files = read_imod_files(path)
    nominal = files.y_tilt_deg if files.nominal_tilt_deg is None else files.nominal_tilt_deg
    return _bare_series(files.path, nominal, pixel_size_angst, image_shape_yx)


def bare_series_of_aln(
    path: str | os.PathLike[str], pixel_size_angst: float, image_shape_yx: tuple[int, int] | None
) -> TiltSeries:
    """Return the series that an ``.aln`` file is of: its sections in the order of the stack.

    Raises
    ------
    BadInput
        If it cannot be read, does not number the sections of the stack, or the pixel size is not given.
    """
    file = read_aln_file(path)
    if file.first_section is None:
        problem = f"the section numbers of {file.path} do not count the images of a stack"
        raise BadInput(f"{problem}; give the tilt series too, so that they can be found by angle")
    offset = file.headers.get("AlphaOffset", 0.0)
    tilts = np.concatenate([file.tilt_deg - offset, file.dark_tilt_deg])
    by_section = np.argsort(np.concatenate([file.section, file.dark_section]))
    size = file.raw_size_xyz
    shape = image_shape_yx if size is None else (size[1], size[0])
    return _bare_series(file.path, tilts[by_section], pixel_size_angst, shape)


def bare_series_of_warp(
    path: str | os.PathLike[str], pixel_size_angst: float, image_shape_yx: tuple[int, int] | None
) -> TiltSeries:
    """Return the series that a file of Warp is of, in Warp's order: with its hand, names of movies and doses.

    Raises
    ------
    BadInput
        If it cannot be read, or pixel size or image size are neither given nor in the file.
    ProgramMissing
        If the package ``warpxmlfile`` is not installed.
    """
    file = read_warp_file(path)
    pixel = file.pixel_size_angst if math.isnan(pixel_size_angst) else pixel_size_angst
    size = file.image_size_xy_angst
    shape = image_shape_yx
    if shape is None and size is not None and pixel > 0:
        shape = (round(size[1] / pixel), round(size[0] / pixel))
    series = _bare_series(file.path, -file.tilt_deg, pixel, shape)
    named = [
        dataclasses.replace(tilt, tilt_id=name, pre_exposure_e_per_A2=float(dose))
        for tilt, name, dose in zip(series.tilts, file.image_names or series.tilt_ids, file.dose_e_per_A2, strict=True)
    ]
    return series.replace(tilts=tuple(named))


def _bare_series(
    path: Path, nominal_tilt_deg: FloatArray, pixel_size_angst: float, image_shape_yx: tuple[int, int] | None
) -> TiltSeries:
    if math.isnan(pixel_size_angst):
        raise BadInput(f"{path} does not say the pixel size; give it (--pixel-size-angst) or the tilt series")
    if image_shape_yx is None:
        raise BadInput(f"{path} does not say the size of the images; give the tilt series")
    names = [f"{number}@{path.stem}" for number in range(1, len(nominal_tilt_deg) + 1)]
    tilts = [Tilt(name, NoImage(name), float(tilt)) for name, tilt in zip(names, nominal_tilt_deg, strict=True)]
    return TiltSeries(path.stem, tuple(tilts), pixel_size_angst, image_shape_yx, source=str(path))
