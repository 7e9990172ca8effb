"""Tilt series as one stack (.mrc, .st, .mrcs) with its angles in a file beside it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io.image_survey import survey_images
from napari_tiltalign.io.images import ImageHeader, ImageName, read_header
from napari_tiltalign.io.mdoc import Mdoc, pre_exposure_e_per_A2, read_mdoc
from napari_tiltalign.io.numbers import format_number, parse_number
from napari_tiltalign.io.relion_tables import ANGLE, AXIS, DEFOCUS, IMAGE, NAME, PIXEL_SIZE, PRE_EXPOSURE
from napari_tiltalign.io.tilt_checks import checked_tilts
from napari_tiltalign.model import NOT_GIVEN, Dataset, Flag, Tilt, TiltSeries

ANGLE_SUFFIXES = (".rawtlt", ".tlt")
MAX_TILT_DEG = 180.0


def read_stack(
    path: str | os.PathLike[str],
    *,
    tilt_angles: str | os.PathLike[str] | None = None,
    pixel_size_angst: float = NOT_GIVEN,
    tilt_axis_deg: float = NOT_GIVEN,
) -> Dataset:
    """Read a stack as a dataset of one series, named like the file. The header is read, pixels are not.

    Angles come from the first of these that exists beside ``NAME.ext``: ``NAME.rawtlt``, ``NAME.tlt``,
    ``NAME.ext.mdoc``, ``NAME.mdoc``. An mdoc file also gives the tilt axis, the doses and the defocus, and the pixel
    size where the stack's header has none.

    Parameters
    ----------
    path
        The stack; sections in the order of the angles.
    tilt_angles
        File of angles to use instead: one line for each image (further columns are ignored), or an mdoc file.
    pixel_size_angst
        Pixel size to use instead of the header's.
    tilt_axis_deg
        Tilt axis to use instead of the mdoc file's.

    Raises
    ------
    BadInput
        If a file cannot be read.
    BadTiltSeries
        If angles are missing or do not fit the stack.
    """
    where = Path(path)
    name = ImageName.parse(where.as_posix())
    header = read_header(name.source(where))
    angles_file = _angles_file(where, name.stem, tilt_angles)
    mdoc_file = angles_file if _is_mdoc(angles_file) else _first_file(_mdoc_names(where, name.stem))
    mdoc = read_mdoc(mdoc_file) if mdoc_file else None
    angles_deg = _angles_deg(name.stem, angles_file, mdoc, header)
    flags: list[Flag] = []
    if mdoc and len(mdoc.sections) != len(angles_deg):
        detail = f"{mdoc_file} lists {len(mdoc.sections)} images, {where} holds {len(angles_deg)}; it was not used"
        flags.append(Flag("metadata_repaired", detail))
        mdoc = None
    if math.isnan(pixel_size_angst) and math.isnan(header.pixel_size_angst) and mdoc:
        pixel_size_angst = mdoc.pixel_size_angst
    if math.isnan(tilt_axis_deg) and mdoc:
        tilt_axis_deg = mdoc.tilt_axis_deg
    tilts = _tilts(name, where, angles_deg, mdoc, tilt_axis_deg)
    survey = survey_images(name.stem, tilts, pixel_size_angst)
    series = TiltSeries(
        name=name.stem,
        tilts=survey.tilts,
        pixel_size_angst=survey.pixel_size_angst,
        image_shape_yx=survey.shape_yx,
        columns=_global_row(name.stem, survey.pixel_size_angst, mdoc),
        source=str(where),
        flags=(*flags, *survey.flags),
    )
    return Dataset((checked_tilts(series),), source=str(where))


def files_beside(stack: Path) -> list[Path]:
    """Return the files beside a stack that `read_stack` looks into, of those that are there."""
    stem = ImageName.parse(stack.name).stem
    return [file for file in _names_beside(stack, stem) if file.is_file()]


def read_angles_deg(path: str | os.PathLike[str]) -> tuple[float, ...]:
    """Read a file of angles (``.rawtlt``, ``.tlt``, ``.xtilt``): a line each, of which the first column counts.

    Raises
    ------
    BadInput
        If it cannot be read, is empty, or a line does not begin with an angle. The message names the line.
    """
    where = Path(path)
    try:
        lines = where.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {where}: {getattr(error, 'strerror', None) or error}") from error
    angles_deg = tuple(
        parse_number(line.split()[0], f"{where}, line {number}", limit=360.0)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    if not angles_deg:
        raise BadInput(f"{where} is empty")
    return angles_deg


def _angles_file(stack: Path, stem: str, given: str | os.PathLike[str] | None) -> Path:
    """The file that the angles come from."""
    if given is not None:
        return Path(given)
    found = _first_file(_names_beside(stack, stem))
    if found is None:
        raise BadTiltSeries(stem, f"no angles: there is no {stem}.rawtlt, {stem}.tlt or {stem}.mdoc beside {stack}; "
                            "give a file of angles (--tilt-angles)")  # fmt: skip
    return found


def _names_beside(stack: Path, stem: str) -> list[Path]:
    return [stack.with_name(stem + suffix) for suffix in ANGLE_SUFFIXES] + _mdoc_names(stack, stem)


def _mdoc_names(stack: Path, stem: str) -> list[Path]:
    return [stack.with_name(f"{stack.name}.mdoc"), stack.with_name(f"{stem}.mdoc")]


def _first_file(candidates: list[Path]) -> Path | None:
    return next((file for file in candidates if file.is_file()), None)


def _is_mdoc(file: Path) -> bool:
    return file.suffix.lower() == ".mdoc"


def _angles_deg(stem: str, file: Path, mdoc: Mdoc | None, header: ImageHeader) -> tuple[float, ...]:
    """One angle for each image of the stack, degrees."""
    if mdoc and _is_mdoc(file):
        angles_deg = tuple(section.tilt_deg for section in mdoc.sections)
    else:
        angles_deg = read_angles_deg(file)
    n_images = header.shape_nyx[0]
    if len(angles_deg) != n_images:
        raise BadTiltSeries(stem, f"{file} holds {len(angles_deg)} angles, {header.path} {n_images} images; there "
                            "must be one angle for each image (--tilt-angles)")  # fmt: skip
    unusable = [str(k + 1) for k, angle in enumerate(angles_deg) if not abs(angle) <= MAX_TILT_DEG]
    if unusable:
        raise BadTiltSeries(stem, f"{file} gives no angle within {MAX_TILT_DEG:g} degrees for image "
                            f"{', '.join(unusable)}")  # fmt: skip
    return angles_deg


def _tilts(
    name: ImageName, stack: Path, angles_deg: tuple[float, ...], mdoc: Mdoc | None, tilt_axis_deg: float
) -> list[Tilt]:
    """One tilt for each section, with the columns that RELION would have for it."""
    n_images = len(angles_deg)
    doses = pre_exposure_e_per_A2(mdoc.sections) if mdoc else (NOT_GIVEN,) * n_images
    defocus_um = [s.target_defocus_um for s in mdoc.sections] if mdoc else [NOT_GIVEN] * n_images
    tilts = []
    for k, angle_deg in enumerate(angles_deg):
        image = ImageName(name.path, k, name.suffix)
        known = {ANGLE: angle_deg, AXIS: tilt_axis_deg, PRE_EXPOSURE: doses[k], DEFOCUS: defocus_um[k]}
        numbers = {column: format_number(value) for column, value in known.items() if math.isfinite(value)}
        written_as = f"{k + 1}@{name.path}" + ("" if name.path.endswith(".mrcs") else ":mrcs")
        tilts.append(
            Tilt(
                tilt_id=image.stem,
                image=image.source(stack),
                nominal_tilt_deg=angle_deg,
                nominal_axis_deg=tilt_axis_deg,
                pre_exposure_e_per_A2=doses[k],
                nominal_defocus_um=defocus_um[k],
                columns={IMAGE: written_as, **numbers},
            )
        )
    return tilts


def _global_row(name: str, pixel_size_angst: float, mdoc: Mdoc | None) -> Mapping[str, str]:
    """What is known of the series, as a row of RELION's global table."""
    row = {NAME: name, PIXEL_SIZE: format_number(pixel_size_angst)}
    if mdoc and math.isfinite(mdoc.voltage_kv):
        row["rlnVoltage"] = format_number(mdoc.voltage_kv)
    return row
