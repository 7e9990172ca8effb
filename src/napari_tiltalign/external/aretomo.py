"""Method ``aretomo``: alignment without beads by AreTomo 1.3, AreTomo2 or AreTomo3, which need an NVIDIA GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass

from napari_tiltalign.errors import BadInput, BadTiltSeries, ProgramFailed
from napari_tiltalign.external.aretomo_command import OUT, aln_name, angle_text, aretomo_arguments
from napari_tiltalign.external.aretomo_install import ARETOMO, Installed, installed
from napari_tiltalign.external.aretomo_options import AreTomo
from napari_tiltalign.external.gpus import gpu_group
from napari_tiltalign.external.run import Command, Finished, run
from napari_tiltalign.external.work import WorkFolder, for_all_images, work_folder
from napari_tiltalign.io.aretomo import read_aretomo
from napari_tiltalign.io.aretomo_ctf import read_ctf_columns
from napari_tiltalign.io.convert import STAR_COLUMNS
from napari_tiltalign.methods.base import MethodOptions, Progress, silent
from napari_tiltalign.model import Alignment, Flag, TiltSeries

_STACK_SHARE = 0.1
_SCORE = re.compile(r"Best tilt axis:\s*[-+\d.]+\s*,\s*Score:\s*([-+]?\d+\.?\d*)")


def _checked(options: MethodOptions) -> AreTomo:
    if not isinstance(options, AreTomo):
        raise BadInput(f"these are options of another method: {type(options).__name__}")
    return options


@dataclass(frozen=True, slots=True)
class AreTomoMethod:
    """AreTomo; see `napari_tiltalign.methods.base.Method`."""

    name: str = "aretomo"
    title: str = "AreTomo"
    summary: str = "Runs AreTomo 1.3, AreTomo2 or AreTomo3; it must be installed, and needs an NVIDIA GPU."
    Options: type[MethodOptions] = AreTomo

    def unavailable_because(self) -> str:
        """Say why AreTomo cannot be used; empty if it was found."""
        return ARETOMO.missing()

    def check_usable(self, options: MethodOptions) -> None:
        """Make sure that AreTomo is where the options say, or can be found.

        Raises
        ------
        ProgramMissing
            If it is not there.
        """
        ARETOMO.find(_checked(options).executable)

    def __call__(
        self,
        series: TiltSeries,
        options: MethodOptions,
        *,
        start: Alignment | None = None,
        progress: Progress = silent,
    ) -> Alignment:
        """Align a series with AreTomo; see `Method`. It cannot start from an alignment, so `start` must be None."""
        chosen = _checked(options)
        if start is not None:
            raise BadInput(f"{self.name} cannot start from an alignment; leave --start out")
        program = installed(chosen.executable, chosen.aretomo_version)
        with work_folder(series, chosen.keep_files_in, progress, _STACK_SHARE) as folder:
            finished = _run(program, folder, chosen, progress)
            found = _result(program, folder, chosen, finished)
        details = {**found.details, "program": {"name": f"AreTomo {program.family}", "version": program.version}}
        return for_all_images(found, series).replace(details=details)


def _run(program: Installed, folder: WorkFolder, options: AreTomo, progress: Progress) -> Finished:
    folder.file(".rawtlt").write_text(angle_text(folder.series, program.family))
    (folder.path / OUT).mkdir()
    with gpu_group(options.gpu_groups, lambda: progress(_STACK_SHARE, "waiting for a GPU")) as gpus:
        command = Command(
            program.path,
            aretomo_arguments(folder.series, options, program.family, gpus),
            folder.path,
            folder.log,
            time_limit_s=float(options.time_limit_s),
        )
        return run(command, lambda line: progress(_STACK_SHARE, line))


def _result(program: Installed, folder: WorkFolder, options: AreTomo, finished: Finished) -> Alignment:
    """Read what AreTomo has left.

    Raises
    ------
    ProgramFailed
        If it is not there, or cannot be used.
    """
    aln = folder.path / aln_name(program.family)
    if not aln.is_file():
        cause = finished.cause or "it said nothing"
        raise ProgramFailed(f"AreTomo {finished.how} and left no {aln.name}: {cause}")
    try:
        found = read_aretomo(aln, folder.series, half_pixel=options.conversion)
        if options.estimate_ctf != "no":
            found = _with_ctf(found, folder, with_phase=options.estimate_ctf == "defocus-and-phase")
    except (BadTiltSeries, BadInput) as error:
        problem = error.problem if isinstance(error, BadTiltSeries) else str(error)
        cause = f"; it said: {finished.cause}" if finished.exit_code else ""
        raise ProgramFailed(f"AreTomo left a result that cannot be used: {problem}{cause}") from error
    scores = [float(score) for score in _SCORE.findall(folder.log.read_text(encoding="utf-8", errors="replace"))]
    statistics = {"aretomo_tilt_axis_score": max(scores)} if scores else {}
    complaint = f"AreTomo {finished.how}: {finished.cause}"
    flags = (Flag("program_complained", complaint),) if finished.exit_code else ()
    return found.replace(statistics=statistics, flags=(*found.flags, *flags))


def _with_ctf(found: Alignment, folder: WorkFolder, *, with_phase: bool) -> Alignment:
    """Add the columns of the CTF for the images that AreTomo has not dropped, which stand by tilt."""
    aligned = [tilt_id for tilt_id, used in zip(found.tilt_ids, found.included, strict=True) if used]
    columns = read_ctf_columns(folder.file("_ctf.txt"), aligned, with_phase=with_phase)
    return found.replace(details={**found.details, STAR_COLUMNS: columns})


ARETOMO_METHOD = AreTomoMethod()
