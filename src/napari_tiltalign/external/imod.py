"""Methods ``imod-fiducial`` and ``imod-patch-tracking``: alignment by IMOD, as RELION 5 has it done.

Two routes lead to the same files. ``batchruntomo`` is IMOD's own batch run, with RELION's directives; ``programs``
calls IMOD's programs one by one. IMOD's tracks become ours, so that its beads can be curated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_tiltalign.errors import BadInput, BadTiltSeries, ProgramFailed, ProgramMissing
from napari_tiltalign.external.imod_directives import directive_text
from napari_tiltalign.external.imod_install import BATCHRUNTOMO, TILTALIGN, imod_environment, imod_version
from napari_tiltalign.external.imod_options import ImodFiducial, ImodOptions, ImodPatchTracking
from napari_tiltalign.external.imod_programs import run_programs
from napari_tiltalign.external.run import Command, Finished, run, split_arguments
from napari_tiltalign.external.work import ROOT_NAME, WorkFolder, for_all_images, work_folder
from napari_tiltalign.io.etomo import imod_log, with_imod_tracks
from napari_tiltalign.io.imod import angles_text, read_imod
from napari_tiltalign.methods.base import MethodOptions, Progress, silent
from napari_tiltalign.model import Alignment, Flag, TiltSeries

_STACK_SHARE = 0.1
_JAVA_HINT = "; IMOD's programs can also be called without it (--route programs)"


def _checked(options: MethodOptions) -> ImodOptions:
    if not isinstance(options, (ImodFiducial, ImodPatchTracking)):
        raise BadInput(f"these are options of another method: {type(options).__name__}")
    return options


@dataclass(frozen=True, slots=True)
class ImodMethod:
    """One of IMOD's alignments; see `napari_tiltalign.methods.base.Method`."""

    name: str
    title: str
    summary: str
    Options: type[MethodOptions]

    def unavailable_because(self) -> str:
        """Say why IMOD cannot be used; empty if it was found."""
        return "" if not BATCHRUNTOMO.missing() or not TILTALIGN.missing() else BATCHRUNTOMO.missing()

    def check_usable(self, options: MethodOptions) -> None:
        """Make sure that IMOD is where the options say, or can be found.

        Raises
        ------
        ProgramMissing
            If it is not there.
        """
        _route(_checked(options))

    def __call__(
        self,
        series: TiltSeries,
        options: MethodOptions,
        *,
        start: Alignment | None = None,
        progress: Progress = silent,
    ) -> Alignment:
        """Align a series with IMOD; see `Method`. IMOD cannot start from an alignment, so `start` must be None."""
        chosen = _checked(options)
        if start is not None:
            raise BadInput(f"{self.name} cannot start from an alignment; leave --start out")
        executable, route = _route(chosen)
        with work_folder(series, chosen.keep_files_in, progress, _STACK_SHARE) as folder:
            folder.file(".rawtlt").write_text(angles_text(folder.series.nominal_tilt_deg))

            def later(fraction: float, message: str) -> None:
                progress(_STACK_SHARE + (0.98 - _STACK_SHARE) * fraction, message)

            finished = route(executable, folder, chosen, later)
            found = _result(folder, chosen, finished)
        program = {"name": f"IMOD, route {_name_of(route)}", "version": imod_version(executable)}
        return for_all_images(found, series).replace(details={"program": program})


Route = Callable[[Path, WorkFolder, ImodOptions, Progress], Finished | None]


def _name_of(route: Route) -> str:
    return "batchruntomo" if route is _batchruntomo else "programs"


def _route(options: ImodOptions) -> tuple[Path, Route]:
    """Where IMOD is and how to call it."""
    if options.route == "programs":
        return _any_program(options.executable), run_programs
    try:
        return BATCHRUNTOMO.find(options.executable), _batchruntomo
    except ProgramMissing:
        if options.route == "batchruntomo" or options.executable:
            raise
        try:
            return TILTALIGN.find(), run_programs
        except ProgramMissing:
            pass
        raise


def _any_program(given: str) -> Path:
    """One of IMOD's programs; what is said of batchruntomo tells where the others are."""
    if given:
        return TILTALIGN.find(given)
    try:
        return TILTALIGN.find()
    except ProgramMissing as error:
        try:
            return BATCHRUNTOMO.find()
        except ProgramMissing:
            raise error from None


def _batchruntomo(executable: Path, folder: WorkFolder, options: ImodOptions, progress: Progress) -> Finished:
    directives = folder.path / "batchDirective.adoc"
    directives.write_text(directive_text(folder.series, options), encoding="utf-8")
    command = Command(
        executable,
        batchruntomo_arguments(folder.path, options),
        folder.path,
        folder.log,
        imod_environment(executable),
        float(options.time_limit_s),
    )
    return run(command, lambda line: progress(0.05, line))


def batchruntomo_arguments(folder: Path, options: ImodOptions) -> tuple[str, ...]:
    """Return the arguments that RELION gives: fine alignment is step 6, and the run ends there."""
    more = split_arguments(options.extra_arguments, "--extra-arguments")
    return ("-DirectiveFile", str(folder / "batchDirective.adoc"), "-CurrentLocation", str(folder),
            "-RootName", ROOT_NAME, "-EndingStep", "6", *more)  # fmt: skip


def _result(folder: WorkFolder, options: ImodOptions, finished: Finished | None) -> Alignment:
    """Read what IMOD has left.

    Raises
    ------
    ProgramFailed
        If it is not there, or cannot be used.
    """
    series = folder.series
    if missing := [name for name in (".xf", ".tlt") if not folder.file(name).is_file()]:
        raise ProgramFailed(_why_missing(folder, missing, finished))
    try:
        log = imod_log(folder.path, series.pixel_size_angst)
        offset = log.angle_offset_deg or 0.0
        relion = options.conversion == "relion"
        found = read_imod(
            folder.file(".xf"),
            series,
            half_pixel="relion" if relion else "exact",
            angle_offset_deg=offset if relion else 0.0,
        )
        if relion:
            found = found.replace(geometry=found.geometry.replace(x_tilt_deg=0.0 * found.geometry.x_tilt_deg))
        found = with_imod_tracks(
            found.replace(statistics=log.statistics()), series, folder.file(".fid"), folder.file(".prexg")
        )
    except (BadTiltSeries, BadInput) as error:
        problem = error.problem if isinstance(error, BadTiltSeries) else str(error)
        cause = f"; it said: {finished.cause}" if finished and finished.exit_code else ""
        raise ProgramFailed(f"IMOD left a result that cannot be used: {problem}{cause}") from error
    return found.replace(flags=(*found.flags, *_complaint(finished)))


def _why_missing(folder: WorkFolder, missing: list[str], finished: Finished | None) -> str:
    names = " and ".join(f"{ROOT_NAME}{suffix}" for suffix in missing)
    if finished is None:
        return f"IMOD left no {names}"
    hint = _JAVA_HINT if any(word in finished.output.lower() for word in ("java", "etomo")) else ""
    return f"batchruntomo {finished.how} and left no {names}: {finished.cause or 'it said nothing'}{hint}"


def _complaint(finished: Finished | None) -> tuple[Flag, ...]:
    if finished is None or finished.exit_code == 0:
        return ()
    return (Flag("program_complained", f"batchruntomo {finished.how}: {finished.cause}"),)


IMOD_FIDUCIAL = ImodMethod(
    "imod-fiducial",
    "IMOD: gold beads",
    "Runs IMOD as RELION 5 does for gold beads; IMOD must be installed.",
    ImodFiducial,
)
IMOD_PATCH_TRACKING = ImodMethod(
    "imod-patch-tracking",
    "IMOD: patch tracking",
    "Runs IMOD as RELION 5 does for patch tracking; IMOD must be installed.",
    ImodPatchTracking,
)
