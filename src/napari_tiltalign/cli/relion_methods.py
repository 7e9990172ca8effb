"""What does the work that a RELION job asks for: a method of ours, or the program that RELION itself would run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from napari_tiltalign.cli.relion_flags import OwnFlags, RelionFlags
from napari_tiltalign.errors import BadInput
from napari_tiltalign.external.aretomo_options import AreTomo
from napari_tiltalign.external.imod_options import ImodFiducial, ImodPatchTracking
from napari_tiltalign.external.options import ExternalOptions
from napari_tiltalign.io.numbers import parse_number
from napari_tiltalign.methods.base import Method, MethodOptions, method, methods
from napari_tiltalign.model import Dataset

THICKNESS = "rlnTomoTomogramThickness"
_LARGEST_OFFSET_DEG = 180.0
_NATIVE: Mapping[str, tuple[str, ...]] = {
    "imod_fiducials": ("fiducial",),
    "imod_patchtrack": ("patch-tracking",),
    "aretomo2": ("slab", "projection-matching"),
}
"""RELION's three ways to align, and our methods for them, the first that there is."""
_THICKNESS_OPTIONS = ("thickness_nm", "sample_thickness_nm")
_VALUES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "imod_fiducials": {"fiducial_diameter": ("diameter_nm",)},
    "imod_patchtrack": {"patch_size": ("patch_size_nm",), "patch_overlap": ("patch_overlap_percent",)},
    "aretomo2": {"tomogram_thickness": _THICKNESS_OPTIONS},
}
"""Flag to the options that our methods may have for it."""


def options_for(flags: RelionFlags, own: OwnFlags) -> MethodOptions:
    """Return the options of the method that does the work.

    Raises
    ------
    BadInput
        If not exactly one way to align is chosen, or a value makes no sense.
    """
    if flags.aretomo_ctf and not (own.use_programs and flags.aretomo2 and not own.method):
        raise BadInput("only AreTomo2 estimates the CTF (--aretomo_ctf with --aretomo2 --use_programs); leave it out "
                       "and run RELION's CTF estimation before the alignment")  # fmt: skip
    chosen = [name for name in _NATIVE if getattr(flags, name)]
    if own.method:
        return _built(method(own.method).Options, {}, own.set)
    if len(chosen) != 1:
        asked = ", ".join(f"--{name}" for name in chosen) or "none"
        raise BadInput(f"choose one of --imod_fiducials, --imod_patchtrack and --aretomo2, or --method; given: {asked}")
    make = _OF_PROGRAMS[chosen[0]] if own.use_programs else _native(chosen[0])
    kind, values = make(flags)
    if issubclass(kind, ExternalOptions):
        values = {**values, "conversion": own.conversion, "extra_arguments": flags.other_wrapper_args}
    return _built(kind, values, own.set)


def _built(kind: type[MethodOptions], values: Mapping[str, Any], more: tuple[str, ...]) -> MethodOptions:
    """Options with values from the flags, and on top those that were given as NAME=VALUE."""
    wanted = dict(values)
    for word in more:
        name, equals, value = word.partition("=")
        if not equals or name not in kind.model_fields:
            raise BadInput(f"--set {word}: options of this method are {', '.join(kind.model_fields)}, as NAME=VALUE")
        wanted[name] = value
    try:
        return kind(**wanted)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_url=False))
        raise BadInput("; ".join(problems)) from error


_Made = tuple[type[MethodOptions], dict[str, Any]]


def _native_method(way: str) -> Method:
    """Our own method for one of RELION's ways."""
    name = next((name for name in _NATIVE[way] if name in methods()), None)
    if name is None:
        raise BadInput(f"there is no method of our own for --{way}; run the program itself (--use_programs), or choose "
                       f"one of {', '.join(methods())} (--method)")  # fmt: skip
    return method(name)


def _native(way: str) -> Callable[[RelionFlags], _Made]:
    kind = _native_method(way).Options

    def make(flags: RelionFlags) -> _Made:
        wanted = {option: getattr(flags, flag) for flag, options in _VALUES[way].items() for option in options}
        return kind, {option: value for option, value in wanted.items() if option in kind.model_fields}

    return make


def _imod_fiducial(flags: RelionFlags) -> _Made:
    values = {"diameter_nm": flags.fiducial_diameter, "executable": flags.batchtomo_exe}
    return ImodFiducial, {**values, "adoc_template": flags.adoc_template}


def _imod_patch_tracking(flags: RelionFlags) -> _Made:
    return ImodPatchTracking, {
        "patch_size_nm": flags.patch_size,
        "patch_overlap_percent": flags.patch_overlap,
        "thickness_nm": flags.tomogram_thickness,
        "executable": flags.batchtomo_exe,
        "adoc_template": flags.adoc_template,
    }


def _aretomo(flags: RelionFlags) -> _Made:
    values: dict[str, Any] = {
        "sample_thickness_nm": flags.tomogram_thickness,
        "executable": flags.aretomo_exe,
        "aretomo_gpus": flags.gpu,
    }
    if flags.aretomo_ctf:
        values["estimate_ctf"] = "defocus-and-phase" if flags.aretomo_phaseshift else "defocus"
    if flags.aretomo_tiltcorrect:
        given = abs(flags.aretomo_tiltcorrect_angle) < _LARGEST_OFFSET_DEG
        values["tilt_angle_offset"] = "given" if given else "measure"
        values |= {"tilt_angle_offset_deg": flags.aretomo_tiltcorrect_angle} if given else {}
    return AreTomo, values


_OF_PROGRAMS: Mapping[str, Callable[[RelionFlags], _Made]] = {
    "imod_fiducials": _imod_fiducial,
    "imod_patchtrack": _imod_patch_tracking,
    "aretomo2": _aretomo,
}


def unused_flags(flags: RelionFlags, own: OwnFlags) -> list[str]:
    """Return the flags that were given and do nothing: for programs that are not run, or that our method has not."""
    if own.use_programs and not own.method:
        return []
    names = ["adoc_template", "other_wrapper_args", "gpu", "aretomo_tiltcorrect"]
    for way in [] if own.method else [way for way in _NATIVE if getattr(flags, way)]:
        fields = _native_method(way).Options.model_fields
        names += [flag for flag, options in _VALUES[way].items() if not any(option in fields for option in options)]
    defaults = RelionFlags()
    return [f"--{name}" for name in names if getattr(flags, name) != getattr(defaults, name)]


def overrides_for(dataset: Dataset, options: MethodOptions) -> dict[str, MethodOptions]:
    """Return options of their own for series whose thickness the input gives, as RELION has it for AreTomo.

    Raises
    ------
    BadInput
        If a thickness is no number, or makes no sense.
    """
    kind = type(options)
    field = next((name for name in _THICKNESS_OPTIONS if name in kind.model_fields), None)
    if field is None:
        return {}
    found = {}
    for series in dataset:
        if THICKNESS in series.columns:
            thickness = parse_number(series.columns[THICKNESS], f"{THICKNESS} of {series.name}")
            found[series.name] = _built(kind, {**dict(options), field: thickness}, ())
    return found
