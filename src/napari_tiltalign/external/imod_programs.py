"""Alignment by IMOD's own programs one by one, as etomo would call them; no Java and no etomo is needed.

Parameters are those of RELION's directives (see `imod_directives`) and otherwise the usual ones of etomo for frozen
samples. Long lists of them go into a file, which IMOD's programs read with ``-ParameterFile``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_tiltalign.errors import ProgramFailed
from napari_tiltalign.external.imod_directives import COMMON, number
from napari_tiltalign.external.imod_install import imod_environment, programs_beside
from napari_tiltalign.external.imod_options import ImodFiducial, ImodOptions, ImodPatchTracking
from napari_tiltalign.external.run import Command, run, split_arguments
from napari_tiltalign.external.work import ROOT_NAME, WorkFolder
from napari_tiltalign.io.align_log import read_align_log
from napari_tiltalign.methods.base import Progress

_NAMES = ("newstack", "tiltxcorr", "xftoxg", "tiltalign", "xfproduct")
_BEAD_NAMES = ("autofidseed", "beadtrack")
_PATCH_NAMES = ("imodchopconts",)
_LEVELLED_DEG = 0.01
"""Tilts have two decimals in IMOD's files."""


@dataclass(frozen=True, slots=True)
class Step:
    """One program, its arguments, and the file that must be there afterwards."""

    program: str
    arguments: tuple[str, ...]
    result: str


def run_programs(executable: Path, folder: WorkFolder, options: ImodOptions, progress: Progress) -> None:
    """Align the stack of a folder, which then holds what batchruntomo would leave: ``.xf``, ``.tlt``, ``align.log``.

    Parameters
    ----------
    executable
        Any of IMOD's programs; the others lie beside it.
    folder
        With the stack; the angles are written here.
    options
        Of the alignment.
    progress
        Told how far it is, 0 to 1.

    Raises
    ------
    ProgramMissing
        If a program is not there.
    ProgramFailed
        If one fails, or leaves no result.
    """
    own = _BEAD_NAMES if isinstance(options, ImodFiducial) else _PATCH_NAMES
    programs = programs_beside(executable, _NAMES + own)
    environment = imod_environment(executable)
    steps = [*_before_solution(folder, options), *_solution(folder, options, angle_offset_deg=0.0)]
    total = len(steps) + 2

    def do(step: Step, number: int) -> None:
        program = programs[step.program]
        log = folder.path / ("align.log" if step.program == "tiltalign" else f"{step.program}.log")
        command = Command(program, step.arguments, folder.path, log, environment, float(options.time_limit_s))
        finished = run(command, lambda line: progress(number / total, f"{step.program}: {line}"))
        result = folder.path / step.result
        left = result.is_file() and result.stat().st_size > 0
        if finished.exit_code != 0 or not left:
            lacking = "" if left else f" and left no {step.result}"
            raise ProgramFailed(
                f"{step.program} of IMOD {finished.how}{lacking}: {finished.cause or 'it said nothing'}"
            )

    for k, step in enumerate(steps):
        do(step, k)
    # batchruntomo levels the specimen in the same way: what the surfaces ask for is added to all tilts
    offset = read_align_log(folder.path / "align.log").total_tilt_change_deg
    if offset is not None and abs(offset) >= _LEVELLED_DEG:
        for k, step in enumerate(_solution(folder, options, offset), start=len(steps)):
            do(step, k)


def _before_solution(folder: WorkFolder, options: ImodOptions) -> Iterator[Step]:
    """From the raw stack to tracks on the pre-aligned one."""
    series = folder.series
    axis, binning = number(series.nominal_axis_deg), options.binning_for(series.pixel_size_angst)
    correlation = {
        "InputFile": f"{ROOT_NAME}.mrc",
        "OutputFile": f"{ROOT_NAME}.prexf",
        "TiltFile": f"{ROOT_NAME}.rawtlt",
        "RotationAngle": axis,
        "FilterSigma1": "0.03",
        "FilterRadius2": "0.25",
        "FilterSigma2": "0.05",
    }
    yield _with_file(folder, "tiltxcorr", "xcorr.param", correlation, f"{ROOT_NAME}.prexf")
    chain = ("-NumberToFit", "0", f"{ROOT_NAME}.prexf", f"{ROOT_NAME}.prexg")
    yield Step("xftoxg", chain, f"{ROOT_NAME}.prexg")
    words = ("-InputFile", f"{ROOT_NAME}.mrc", "-OutputFile", f"{ROOT_NAME}_preali.mrc",
             "-TransformFile", f"{ROOT_NAME}.prexg", "-ModeToOutput", "0", "-FloatDensities", "2",
             "-BinByFactor", str(binning), "-AntialiasFilter", "-1")  # fmt: skip
    yield Step("newstack", words, f"{ROOT_NAME}_preali.mrc")
    yield from _beads(folder, options) if isinstance(options, ImodFiducial) else _patches(folder, options)


def _beads(folder: WorkFolder, options: ImodFiducial) -> Iterator[Step]:
    pixel = folder.series.pixel_size_angst
    diameter_px, binning = 10.0 * options.diameter_nm / pixel, options.binning_for(pixel)
    box = max(32, 2 * round((3.3 * diameter_px / binning + 2.0) / 2.0))
    tracking = {
        "ImageFile": f"{ROOT_NAME}_preali.mrc",
        "ImagesAreBinned": str(binning),
        "InputSeedModel": f"{ROOT_NAME}.seed",
        "OutputModel": f"{ROOT_NAME}.fid",
        "RotationAngle": number(folder.series.nominal_axis_deg),
        "TiltFile": f"{ROOT_NAME}.rawtlt",
        "TiltDefaultGrouping": "7",
        "MagDefaultGrouping": "5",
        "RotDefaultGrouping": "1",
        "BeadDiameter": number(diameter_px),
        "FillGaps": "",
        "MaxGapSize": "5",
        "RoundsOfTracking": "4",
        "LocalAreaTracking": "1",
        "LocalAreaTargetSize": "1000",
        "MinBeadsInArea": "8",
        "MinOverlapBeads": "5",
        "MinViewsForTiltalign": "4",
        "MinTiltRangeToFindAxis": "10",
        "MinTiltRangeToFindAngles": "20",
        "BoxSizeXandY": f"{box},{box}",
        "MaxBeadsToAverage": "4",
        "SobelFilterCentering": COMMON["comparam.track.beadtrack.SobelFilterCentering"],
        "ScalableSigmaForSobel": COMMON["comparam.track.beadtrack.ScalableSigmaForSobel"],
        "PointsToFitMaxAndMin": "7,3",
        "DensityRescueFractionAndSD": "0.6,1",
        "DistanceRescueCriterion": "10",
        "RescueRelaxationDensityAndDistance": "0.7,0.9",
        "PostFitRescueResidual": "2.5",
        "DensityRelaxationPostFit": "0.9",
        "MaxRescueDistance": "2.5",
        "ResidualsToAnalyzeMaxAndMin": "9,5",
        "DeletionCriterionMinAndSD": "0.04,2",
    }
    (folder.path / "track.com").write_text("$beadtrack -StandardInput\n" + _parameters(tracking))
    words = ("-TrackCommandFile", "track.com", "-TargetNumberOfBeads", str(options.n_beads), "-AdjustSizes",
             "-MinSpacing", "0.85", "-PeakStorageFraction", "1.0")  # fmt: skip
    yield Step("autofidseed", words, f"{ROOT_NAME}.seed")
    yield _with_file(folder, "beadtrack", "track.param", tracking, f"{ROOT_NAME}.fid")


def _patches(folder: WorkFolder, options: ImodPatchTracking) -> Iterator[Step]:
    pixel = folder.series.pixel_size_angst
    side, overlap = options.patch_size_px(pixel), number(options.overlap)
    tracking = {
        "InputFile": f"{ROOT_NAME}_preali.mrc",
        "OutputFile": f"{ROOT_NAME}_pt.fid",
        "ImagesAreBinned": str(options.binning_for(pixel)),
        "TiltFile": f"{ROOT_NAME}.rawtlt",
        "RotationAngle": number(folder.series.nominal_axis_deg),
        "PrealignmentTransformFile": f"{ROOT_NAME}.prexg",
        "SizeOfPatchesXandY": f"{side},{side}",
        "OverlapOfPatchesXandY": f"{overlap},{overlap}",
        "IterateCorrelations": "20",
        "ShiftLimitsXandY": "200,200",
        "FilterSigma1": "0.03",
        "FilterRadius2": "0.125",
        "FilterSigma2": "0.03",
    }
    yield _with_file(folder, "tiltxcorr", "xcorr_pt.param", tracking, f"{ROOT_NAME}_pt.fid")
    words = ("-length", "16,4", "-surfaces", f"{ROOT_NAME}_pt.fid", f"{ROOT_NAME}.fid")
    yield Step("imodchopconts", words, f"{ROOT_NAME}.fid")


def _solution(folder: WorkFolder, options: ImodOptions, angle_offset_deg: float) -> Iterator[Step]:
    """From tracks to transforms of the raw stack."""
    binning = options.binning_for(folder.series.pixel_size_angst)
    tilts = {name.rpartition(".")[2]: value for name, value in COMMON.items() if ".tiltalign." in name}
    fit = {
        "ModelFile": f"{ROOT_NAME}.fid",
        "ImageFile": f"{ROOT_NAME}_preali.mrc",
        "ImagesAreBinned": str(binning),
        "UnbinnedPixelSize": number(folder.series.pixel_size_angst / 10.0),
        "OutputModelFile": f"{ROOT_NAME}.3dmod",
        "OutputResidualFile": f"{ROOT_NAME}.resid",
        "OutputFidXYZFile": f"{ROOT_NAME}fid.xyz",
        "OutputTiltFile": f"{ROOT_NAME}.tlt",
        "OutputXAxisTiltFile": f"{ROOT_NAME}.xtilt",
        "OutputTransformFile": f"{ROOT_NAME}.tltxf",
        "RotationAngle": number(folder.series.nominal_axis_deg),
        "TiltFile": f"{ROOT_NAME}.rawtlt",
        "AngleOffset": number(angle_offset_deg),
        **tilts,
        "ResidualReportCriterion": "3",
        "MetroFactor": "0.25",
        "MaximumCycles": "1000",
        "AxisZShift": "0",
        "ShiftZFromOriginal": "1",
        "RobustFitting": "1",
        **({"WeightWholeTracks": "1"} if isinstance(options, ImodPatchTracking) else {}),
        "LocalAlignments": "0",
    }
    more = tuple(split_arguments(options.extra_arguments, "--extra-arguments"))
    name = "align.param" if not angle_offset_deg else "align_levelled.param"
    yield _with_file(folder, "tiltalign", name, fit, f"{ROOT_NAME}.tltxf", more)
    words = ("-InputFile1", f"{ROOT_NAME}.prexg", "-InputFile2", f"{ROOT_NAME}.tltxf",
             "-OutputFile", f"{ROOT_NAME}.xf", "-ScaleShifts", f"1,{binning}")  # fmt: skip
    yield Step("xfproduct", words, f"{ROOT_NAME}.xf")


def _with_file(
    folder: WorkFolder,
    program: str,
    file: str,
    parameters: Mapping[str, str],
    result: str,
    more: tuple[str, ...] = (),
) -> Step:
    (folder.path / file).write_text(_parameters(parameters))
    return Step(program, ("-ParameterFile", file, *more), result)


def _parameters(parameters: Mapping[str, str]) -> str:
    return "".join(f"{name} {value}".rstrip() + "\n" for name, value in parameters.items())
