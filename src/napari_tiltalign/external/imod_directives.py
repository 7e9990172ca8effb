"""The directives for batchruntomo that RELION 5 writes, and the same values for IMOD's programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_tiltalign.errors import BadInput
from napari_tiltalign.external.imod_options import ImodFiducial, ImodOptions
from napari_tiltalign.model import TiltSeries

COMMON: Mapping[str, str] = {
    "setupset.copyarg.userawtlt": "1",
    "setupset.copyarg.stackext": "mrc",
    "setupset.copyarg.dual": "0",
    "runtime.Positioning.any.wholeTomogram": "1",
    "runtime.Fiducials.any.seedingMethod": "3",
    "runtime.Excludeviews.any.deleteOldFiles": "0",
    "runtime.AlignedStack.any.binByFactor": "8",
    "comparam.prenewst.newstack.AntialiasFilter": "-1",
    "comparam.track.beadtrack.SobelFilterCentering": "1",
    "comparam.track.beadtrack.ScalableSigmaForSobel": "0.12",
    "comparam.newst.newstack.TaperAtFill": "1,1",
    "comparam.newst.newstack.AntialiasFilter": "-1",
    "comparam.golderaser.ccderaser.ExpandCircleIterations": "3",
    "comparam.eraser.ccderaser.PeakCriterion": "8.0",
    "comparam.eraser.ccderaser.DiffCriterion": "6.0",
    "comparam.align.tiltalign.TiltOption": "0",
    "comparam.align.tiltalign.SurfacesToAnalyze": "1",
    "comparam.align.tiltalign.RotOption": "-1",
    "comparam.align.tiltalign.MagOption": "0",
    "comparam.align.tiltalign.BeamTiltOption": "2",
}
"""Tilt angles and magnification fixed, one rotation for the whole series, a search for the beam tilt."""

_FIDUCIAL: Mapping[str, str] = {"runtime.Fiducials.any.trackingMethod": "0"}

_PATCH: Mapping[str, str] = {
    "runtime.Fiducials.any.trackingMethod": "1",
    "runtime.PatchTracking.any.adjustTiltAngles": "0",
    "setupset.copyarg.gold": "10",
    "comparam.xcorr_pt.tiltxcorr.ShiftLimitsXandY": "200,200",
    "comparam.xcorr_pt.tiltxcorr.LengthAndOverlap": "16,4",
    "comparam.xcorr_pt.tiltxcorr.IterateCorrelations": "20",
    "comparam.xcorr_pt.tiltxcorr.FilterSigma2": "0.03",
    "comparam.xcorr_pt.tiltxcorr.FilterRadius2": "0.125",
}


def built_in_directives(series: TiltSeries, options: ImodOptions) -> dict[str, str]:
    """Return the directives that a template replaces.

    They are those of RELION 5, but the binning for beads is less than its fixed 8 where a bead would be too small, and
    the number of beads is an option.
    """
    if not isinstance(options, ImodFiducial):
        return {**COMMON, **_PATCH}
    return {
        **COMMON,
        **_FIDUCIAL,
        "comparam.prenewst.newstack.BinByFactor": str(options.binning_for(series.pixel_size_angst)),
        "comparam.autofidseed.autofidseed.TargetNumberOfBeads": str(options.n_beads),
    }


def series_directives(series: TiltSeries, options: ImodOptions) -> dict[str, str]:
    """Return the directives that depend on the series, which come after the others and win.

    They are those of RELION 5, but the thickness is in pixels, which is what IMOD expects.
    """
    pixel = series.pixel_size_angst
    copy = {
        "setupset.copyarg.rotation": number(series.nominal_axis_deg),
        "setupset.copyarg.pixel": number(pixel / 10.0),
    }
    if isinstance(options, ImodFiducial):
        return {**copy, "setupset.copyarg.gold": number(options.diameter_nm)}
    side, overlap = options.patch_size_px(pixel), number(options.overlap)
    return {
        **copy,
        "comparam.prenewst.newstack.BinByFactor": str(options.binning_for(pixel)),
        "comparam.xcorr_pt.tiltxcorr.SizeOfPatchesXandY": f"{side},{side}",
        "comparam.xcorr_pt.tiltxcorr.OverlapOfPatchesXandY": f"{overlap},{overlap}",
        "comparam.tilt.tilt.THICKNESS": str(round(10.0 * options.thickness_nm / pixel)),
    }


def directive_text(series: TiltSeries, options: ImodOptions) -> str:
    """Return the contents of the directive file.

    Raises
    ------
    BadInput
        If the template cannot be read.
    """
    template = options.adoc_template
    head = _template(template) if template else _lines(built_in_directives(series, options))
    return head + _lines(series_directives(series, options))


def _template(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n") + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the directives in {path}: {getattr(error, 'strerror', None) or error}") from error


def _lines(directives: Mapping[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in directives.items())


def number(value: float) -> str:
    """Write a number shortly: 0.135, 85, 93.5."""
    return f"{value:.8g}"
