"""The command lines of AreTomo 1.3, AreTomo2 and AreTomo3 for an alignment, and nothing but an alignment.

RELION 5's command for AreTomo2 is the pattern. Beyond it, values that AreTomo reads uninitialised or that it gets wrong
are set: ``-OutImod 0``, and a dark tolerance within (0, 1), because AreTomo2 writes tilts of zero without one. The
stack is sorted by tilt, as the program's own files are, so that sections keep their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from napari_tiltalign.errors import BadTiltSeries, ProgramFailed
from napari_tiltalign.external.aretomo_install import Family
from napari_tiltalign.external.aretomo_options import AreTomo
from napari_tiltalign.external.imod_directives import number
from napari_tiltalign.external.run import split_arguments
from napari_tiltalign.external.work import ROOT_NAME
from napari_tiltalign.io.numbers import parse_number
from napari_tiltalign.model import TiltSeries

_LARGEST_TAKEN_FOR_NONE_DEG = 0.1
OUT = "out"
"""Folder for the results of AreTomo3, inside the work folder."""


def aln_name(family: Family) -> str:
    """Where a version puts the ``.aln`` file, from the work folder."""
    return f"{OUT}/{ROOT_NAME}.aln" if family == "3" else f"{ROOT_NAME}.aln"


def angle_text(series: TiltSeries, family: Family) -> str:
    """Return the file of angles: AreTomo2 also takes the rank by exposure, counted from 0, as RELION gives it."""
    dose = np.array([tilt.pre_exposure_e_per_A2 for tilt in series.tilts])
    if family != "2" or not np.isfinite(dose).all():
        return "".join(f"{tilt:.4f}\n" for tilt in series.nominal_tilt_deg)
    rank = np.argsort(np.argsort(dose, kind="stable"), kind="stable")
    return "".join(f"{tilt:.4f} {r}\n" for tilt, r in zip(series.nominal_tilt_deg, rank, strict=True))


def aretomo_arguments(
    series: TiltSeries, options: AreTomo, family: Family, gpus: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return the arguments for a series; paths are relative to the work folder.

    Parameters
    ----------
    series
        The images in the stack.
    options
        Of the alignment.
    family
        Which AreTomo.
    gpus
        GPUs to use; none to leave it to AreTomo.

    Raises
    ------
    ProgramFailed
        If the extra arguments cannot be split, or this AreTomo is not asked for the CTF.
    BadTiltSeries
        If the CTF is to be estimated and the microscope is not known.
    """
    if options.estimate_ctf != "no" and family != "2":
        raise ProgramFailed(f"AreTomo {family} is not asked for the CTF; use AreTomo2, or --estimate-ctf no")
    words = _aretomo3(series, options) if family == "3" else _aretomo2(series, options)
    more = split_arguments(options.extra_arguments, "--extra-arguments")
    return (*words, *(("-Gpu", *gpus) if gpus else ()), *more)


def align_z_px(series: TiltSeries, options: AreTomo) -> int:
    """Thickness in pixels of the stack, which AreTomo counts in."""
    return round(10.0 * options.sample_thickness_nm / series.pixel_size_angst)


def _aretomo2(series: TiltSeries, options: AreTomo) -> Iterator[str]:
    yield from ("-InMrc", f"{ROOT_NAME}.mrc", "-AngFile", f"{ROOT_NAME}.rawtlt", "-OutMrc", f"{ROOT_NAME}_aligned.mrc")
    yield from ("-ImgDose", "0", "-AlignZ", str(align_z_px(series, options)), "-VolZ", "0")
    yield from _tilt_axis(series, options)
    yield from _tilt_offset(options)
    yield from _ctf(series, options)
    yield from _patches(options, "-Patch")
    yield from ("-OutImod", "0", "-DarkTol", number(options.dark_tolerance))


def _aretomo3(series: TiltSeries, options: AreTomo) -> Iterator[str]:
    yield from ("-InPrefix", f"./{ROOT_NAME}", "-InSuffix", ".mrc", "-OutDir", f"./{OUT}/", "-TmpDir", "./")
    yield from ("-Cmd", "1", "-Serial", "1", "-PixSize", number(series.pixel_size_angst))
    # with 0 it makes a volume of 100 slices; there is no run that only aligns
    yield from ("-AlignZ", str(align_z_px(series, options)), "-VolZ", "0", "-ExtZ", "0", "-CorrCTF", "0", "0")
    yield from _tilt_axis(series, options)
    yield from _tilt_offset(options)
    yield from _patches(options, "-AtPatch")
    yield from ("-OutImod", "0", "-DarkTol", number(options.dark_tolerance))


def _tilt_axis(series: TiltSeries, options: AreTomo) -> tuple[str, ...]:
    """The nominal axis, and a negative number after it to keep AreTomo from refining it; none if it is not known."""
    if not any(np.isfinite(tilt.nominal_axis_deg) for tilt in series.tilts):
        return ()
    axis = series.nominal_axis_deg or 0.0001  # 0 means to AreTomo that it is not known
    return ("-TiltAxis", number(axis), "1" if options.refine_tilt_axis else "-1")


def _tilt_offset(options: AreTomo) -> tuple[str, ...]:
    if options.tilt_angle_offset == "measure":
        return ("-TiltCor", "1")
    # AreTomo takes a small number for none, and would measure the offset
    if options.tilt_angle_offset == "leave" or abs(options.tilt_angle_offset_deg) <= _LARGEST_TAKEN_FOR_NONE_DEG:
        return ("-TiltCor", "-1")
    return ("-TiltCor", "1", number(options.tilt_angle_offset_deg))


def _ctf(series: TiltSeries, options: AreTomo) -> Iterator[str]:
    if options.estimate_ctf == "no":
        return
    for flag, column in (
        ("-Kv", "rlnVoltage"),
        ("-Cs", "rlnSphericalAberration"),
        ("-AmpContrast", "rlnAmplitudeContrast"),
    ):
        if column not in series.columns:
            raise BadTiltSeries(
                series.name, f"the CTF cannot be estimated: the global STAR file has no column {column}"
            )
        yield from (flag, number(parse_number(series.columns[column], f"{column} of {series.name}")))
    yield from ("-PixSize", number(series.pixel_size_angst))
    if options.estimate_ctf == "defocus-and-phase":
        yield from ("-ExtPhase", "90", "180")


def _patches(options: AreTomo, flag: str) -> tuple[str, ...]:
    if not (options.patches_x or options.patches_y):
        return ()
    return (flag, str(options.patches_x or options.patches_y), str(options.patches_y or options.patches_x))
