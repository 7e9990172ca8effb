"""A folder in which etomo, or batchruntomo, has aligned a tilt series: found by its ``.edf`` file, or without one.

::

    NAME.edf                    what was set up; pixel size, axis and bead size are in it
    NAME.st or NAME.mrc         the stack
    NAME.xf .tlt .xtilt .rawtlt the alignment
    NAME.fid, NAME.prexg        beads or patches on the pre-aligned stack, and what made that
    align.log, taAngles.log     what tiltalign said
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.io.align_log import AlignLog, read_align_log
from napari_tiltalign.io.bare_series import bare_series_of_xf
from napari_tiltalign.io.fid import read_fid
from napari_tiltalign.io.imod import read_imod
from napari_tiltalign.io.mrc import mrc_header
from napari_tiltalign.io.numbers import parse_number
from napari_tiltalign.io.row_order import tilts_of_lines
from napari_tiltalign.io.stack import read_angles_deg, read_stack
from napari_tiltalign.methods.locate import located_tracks, residual_statistics
from napari_tiltalign.model import NOT_GIVEN, Alignment, Dataset, Flag, TiltSeries, Tracks

STACK_SUFFIXES = (".st", ".mrc")
_PIXEL_SIZE_AGREES = 0.01
_SAME_FIELD = 0.02
"""Relative difference of the binnings along both axes that comes from sizes that are no multiples."""


@dataclass(frozen=True, slots=True)
class EtomoFolder:
    """Where etomo has worked on one series.

    Attributes
    ----------
    path
        The folder.
    name
        What its files are called.
    settings
        Contents of the ``.edf`` file; empty without one.
    """

    path: Path
    name: str
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def file(self, suffix: str) -> Path:
        """File with a suffix."""
        return self.path / f"{self.name}{suffix}"

    @property
    def stack(self) -> Path | None:
        """The stack, if it is there."""
        return next((file for file in map(self.file, STACK_SUFFIXES) if file.is_file()), None)

    def number(self, key: str, factor: float = 1.0) -> float:
        """Return a number of the settings; NaN if it is not there.

        Raises
        ------
        BadInput
            If it is no number.
        """
        text = self.settings.get(key, "").strip()
        return factor * parse_number(text, f"{key} in {self.file('.edf')}") if text else NOT_GIVEN

    @property
    def pixel_size_angst(self) -> float:
        """Pixel size of the stack, Angstrom; NaN if it is not known."""
        return self.number("Setup.PixelSize", 10.0)

    @property
    def tilt_axis_deg(self) -> float:
        """Tilt axis that was set up, degrees; NaN if it is not known."""
        return self.number("Setup.ImageRotationA")


def find_etomo(path: str | os.PathLike[str]) -> EtomoFolder | None:
    """Return the folder of etomo that a path is or names; None if it is none.

    Parameters
    ----------
    path
        An ``.edf`` file, or a folder with one, or with a single ``.xf`` that has a ``.tlt`` beside it.

    Raises
    ------
    BadInput
        If a folder holds several, or the ``.edf`` file cannot be read.
    """
    where = Path(path)
    if where.is_dir():
        files = sorted(where.glob("*.edf")) or sorted(
            file for file in where.glob("*.xf") if file.with_suffix(".tlt").is_file() and not file.stem.endswith("_fid")
        )
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise BadInput(f"{where} holds several alignments of IMOD: {names}; give the one that is meant")
        return find_etomo(files[0]) if files else None
    if where.suffix == ".xf":
        return EtomoFolder(where.parent, where.stem)
    if where.suffix != ".edf":
        return None
    settings = _read_edf(where)
    return EtomoFolder(where.parent, settings.get("Setup.DatasetName") or where.stem, MappingProxyType(settings))


def _read_edf(path: Path) -> dict[str, str]:
    """Keys and values; backslashes before some signs, as Java writes them, are taken away."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith(("#", "!")))
    return {key.strip(): value.strip().replace("\\", "") for key, _, value in pairs}


def read_etomo_series(
    folder: EtomoFolder, *, pixel_size_angst: float = NOT_GIVEN, tilt_axis_deg: float = NOT_GIVEN
) -> Dataset:
    """Read the stack that etomo works on; what its header does not say comes from etomo's settings.

    Raises
    ------
    BadInput
        If there is no stack, or it cannot be read.
    BadTiltSeries
        If it cannot be used.
    """
    stack = folder.stack
    if stack is None:
        raise BadInput(f"{folder.path} has no stack {folder.name}{' or '.join(STACK_SUFFIXES)}")
    return read_stack(
        stack,
        pixel_size_angst=folder.pixel_size_angst if math.isnan(pixel_size_angst) else pixel_size_angst,
        tilt_axis_deg=folder.tilt_axis_deg if math.isnan(tilt_axis_deg) else tilt_axis_deg,
    )


def read_etomo(
    folder: EtomoFolder,
    series: TiltSeries | None = None,
    *,
    pixel_size_angst: float = NOT_GIVEN,
    image_shape_yx: tuple[int, int] | None = None,
) -> Alignment:
    """Read the alignment that etomo has made, with its beads or patches and what its log says.

    Parameters
    ----------
    folder
        Where it is.
    series
        The series it is of, also if its images have another pixel size; without it, the stack in the folder.
    pixel_size_angst, image_shape_yx
        What is not known of the images without a series and a stack.

    Raises
    ------
    BadInput
        If something is needed that neither the folder nor the caller gives.
    BadTiltSeries
        If the files cannot be used or do not fit the series.
    """
    known = folder.pixel_size_angst if math.isnan(pixel_size_angst) else pixel_size_angst
    if series is None and folder.stack is not None and image_shape_yx is None:
        series = read_etomo_series(folder, pixel_size_angst=known).series[0]
    if series is None:
        series = bare_series_of_xf(folder.file(".xf"), known, image_shape_yx)
    found = read_imod(folder.file(".xf"), series, xf_pixel_size_angst=_of_the_stack(folder, series))
    found = found.replace(statistics=imod_log(folder.path, found.pixel_size_angst).statistics())
    return with_imod_tracks(found, series, folder.file(".fid"), folder.file(".prexg"))


def _of_the_stack(folder: EtomoFolder, series: TiltSeries) -> float | None:
    """Pixel size that the transforms are in, if it is not that of the series."""
    pixel = folder.pixel_size_angst
    if math.isnan(pixel):
        pixel = _by_size_of_stack(folder, series)
    same = math.isnan(pixel) or abs(pixel / series.pixel_size_angst - 1.0) < _PIXEL_SIZE_AGREES
    return None if same else pixel


def _by_size_of_stack(folder: EtomoFolder, series: TiltSeries) -> float:
    """Pixel size of IMOD's stack if it shows the field of the series; NaN if it does not tell.

    The sizes in pixels tell: RELION leaves the pixel size in the header empty.
    """
    if folder.stack is None:
        return NOT_GIVEN
    try:
        shape_yx = mrc_header(folder.stack).shape_nyx[1:]
    except BadInput:
        return NOT_GIVEN
    coarser_y, coarser_x = (ours / theirs for ours, theirs in zip(series.image_shape_yx, shape_yx, strict=True))
    same_field = abs(coarser_y / coarser_x - 1.0) < _SAME_FIELD
    return series.pixel_size_angst * 0.5 * (coarser_y + coarser_x) if same_field else NOT_GIVEN


def imod_log(folder: Path, pixel_size_angst: float) -> AlignLog:
    """Return what IMOD said; what tiltalign's own log lacks, those of batchruntomo may have."""
    found: dict[str, float] = {}
    for name in ("log.txt", "batchruntomo.log", "align.log"):
        if (folder / name).is_file():
            log = read_align_log(folder / name, pixel_size_angst / 10.0)
            found |= {n: value for n in AlignLog.__slots__ if (value := getattr(log, n)) is not None}
    return AlignLog(**found)


def with_imod_tracks(alignment: Alignment, series: TiltSeries, model: Path, prexg: Path) -> Alignment:
    """Return an alignment with IMOD's beads or patches, if they are there.

    Parameters
    ----------
    alignment
        Of the series.
    series
        The images that are included in the alignment, or all of them, are the sections of IMOD's stack, in the order
        of the input or by ascending tilt.
    model, prexg
        The ``.fid`` of the pre-aligned stack and the ``.prexg`` that made it.

    Notes
    -----
    Tracks that are damaged or do not fit are left out, with a flag that says why: the alignment holds without them.
    """
    if not (model.is_file() and prexg.is_file()):
        return alignment
    try:
        tracks = _tracks(alignment, series, model, prexg)
    except BadTiltSeries as error:
        flag = Flag("import_incomplete", f"tracks are left out: {error.problem}")
        return alignment.replace(flags=(*alignment.flags, flag))
    located = located_tracks(tracks, alignment.geometry, alignment.pixel_size_angst, alignment.image_shape_yx)
    return alignment.replace(tracks=located, statistics={**alignment.statistics, **residual_statistics(located)})


def _tracks(alignment: Alignment, series: TiltSeries, model: Path, prexg: Path) -> Tracks:
    n_lines = sum(1 for line in prexg.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip())
    every = np.arange(len(series))
    chosen = every if n_lines == len(series) else every[alignment.included]
    stack = chosen[_order_in_stack(model, series.nominal_tilt_deg[chosen])]
    tracks = read_fid(model, series.replace(tilts=tuple(series.tilts[i] for i in stack)), prexg_path=prexg)
    return tracks.replace(tilt_ids=series.tilt_ids, tilt=stack[tracks.tilt])


def _order_in_stack(model: Path, nominal_tilt_deg: FloatArray) -> NDArray[np.intp]:
    """Order of the images in IMOD's stack, by the angles beside it; ascending if they do not tell."""
    for suffix in (".rawtlt", ".tlt"):
        if (file := model.with_suffix(suffix)).is_file():
            angles = np.array(read_angles_deg(file))
            order = tilts_of_lines(angles, nominal_tilt_deg) if angles.size == nominal_tilt_deg.size else None
            if order is not None:
                return order
    return np.argsort(nominal_tilt_deg, kind="stable")
