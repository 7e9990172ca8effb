"""The main job on a small RELION project whose truth is known: simulate it, align it, say how far off the result is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_tiltalign.api import read, read_alignment
from napari_tiltalign.batch import SeriesOutcome, Watcher, align_dataset
from napari_tiltalign.errors import BadInput, MethodFailed
from napari_tiltalign.io.files import safe_name
from napari_tiltalign.io.project import GLOBAL_STAR, write_relion_project
from napari_tiltalign.io.record import write_record
from napari_tiltalign.methods.base import MethodOptions, Progress, method, silent
from napari_tiltalign.model import Alignment
from napari_tiltalign.quality.difference import Difference, difference
from napari_tiltalign.simulation import SCENARIOS, Simulation, simulate

SANE_ERROR_PX = 0.5
"""The demo has failed if the error is larger."""

SCENARIO = "demo"
OUTPUT = "AlignTiltSeries/job001"
TRUTH_FOLDER = "truth"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came of the demo.

    Attributes
    ----------
    project_star
        The file that lists the simulated series.
    aligned_star
        The file that lists the aligned ones.
    outcome
        What became of the series.
    error
        Difference of the alignment from the truth.
    star_error
        The same for what the STAR file holds, which has no magnification.
    """

    project_star: Path
    aligned_star: Path
    outcome: SeriesOutcome
    error: Difference
    star_error: Difference

    @property
    def is_sane(self) -> bool:
        """Whether the alignment is as close to the truth as it should be."""
        return self.error.rms_px <= SANE_ERROR_PX and not self.error.hand_flipped


def write_simulated_project(
    directory: str | os.PathLike[str],
    simulations: Sequence[Simulation],
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[Path, tuple[Alignment, ...]]:
    """Simulate tilt series and write them as a RELION project, with the true alignments in ``truth/NAME.json``.

    Parameters
    ----------
    directory
        Folder of the project; made if need be.
    simulations
        What to simulate. Names must differ.
    overwrite
        Whether a project that is there may be replaced.
    progress
        Told how far it is; may raise `Cancelled`.

    Returns
    -------
    star, truths
        The file that lists the series, and their true alignments.

    Raises
    ------
    BadInput
        If there is a project already.
    OSError
        If a file cannot be written.
    """
    root = Path(directory)
    if (root / GLOBAL_STAR).exists() and not overwrite:
        raise BadInput(f"{root / GLOBAL_STAR} exists already; choose another folder, or allow it to be replaced "
                       "(--overwrite)")  # fmt: skip

    def part(number: int) -> Progress:
        return lambda fraction, message: progress((number + fraction) / len(simulations), message)

    simulated = [simulate(options, progress=part(number)) for number, options in enumerate(simulations)]
    (root / TRUTH_FOLDER).mkdir(parents=True, exist_ok=True)
    for one in simulated:
        write_record(root / TRUTH_FOLDER / f"{safe_name(one.series.name)}.json", one.truth)
    star = write_relion_project(root, [one.series for one in simulated])
    return star, tuple(one.truth for one in simulated)


def run_demo(
    directory: str | os.PathLike[str],
    options: MethodOptions | None = None,
    *,
    simulation: Simulation | None = None,
    watcher: Watcher | None = None,
) -> DemoResult:
    """Simulate a small RELION project, align it, write the STAR files and compare with the truth.

    Parameters
    ----------
    directory
        Folder for the project; the results go into ``AlignTiltSeries/job001`` in it.
    options
        Options of the method; those of ``fiducial`` if None.
    simulation
        What to simulate; the scenario ``demo`` if None.
    watcher
        Told how it goes.

    Raises
    ------
    BadInput
        If there is a project already.
    MethodFailed
        If the series could not be aligned.
    OSError
        If a file cannot be written.
    """
    simulation = simulation or SCENARIOS[SCENARIO]
    watcher = watcher or Watcher()
    options = options or method("fiducial").Options()
    root = Path(directory)
    watcher.begins(simulation.name, 1, 1)
    star, (truth,) = write_simulated_project(root, [simulation], progress=partial(watcher.progress, simulation.name))
    dataset = read(star)
    summary = align_dataset(dataset, options, root / OUTPUT, watcher=watcher)
    (outcome,) = summary.outcomes
    if outcome.failure:
        raise MethodFailed(f"{outcome.name}: {outcome.failure}")
    alignment = outcome.read_alignment()
    aligned_star = summary.folder.aligned_star
    written = read_alignment(aligned_star, dataset.series[0])
    thickness_angst = simulation.thickness_angst
    return DemoResult(
        star,
        aligned_star,
        outcome,
        difference(alignment, truth, thickness_angst=thickness_angst),
        difference(written, truth, thickness_angst=thickness_angst),
    )
