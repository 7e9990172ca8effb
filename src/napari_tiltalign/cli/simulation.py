"""``simulate DIR`` and ``demo``: RELION projects with known truth."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from napari_tiltalign.cli.exit_codes import ExitCode
from napari_tiltalign.cli.options import flags_annotation
from napari_tiltalign.cli.watching import ConsoleWatcher, new_progress
from napari_tiltalign.demo import SANE_ERROR_PX, run_demo, write_simulated_project
from napari_tiltalign.simulation import SCENARIOS, Simulation


def simulate(
    directory: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    scenario: str = "easy",
    n_series: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=100))] = 1,
    overwrite: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    options: Simulation = Simulation(),  # noqa: B008 (frozen)
) -> int:
    """Simulate tilt series as a RELION project, with the true alignments in truth/NAME.json.

    Parameters
    ----------
    directory
        Folder of the project; made if need be.
    scenario
        What makes the series hard; every other option given changes it.
    n_series
        How many series; they differ by their seeds.
    overwrite
        Replace a project that is there.
    options
        What to change in the scenario.
    """
    changes = {name: getattr(options, name) for name in options.model_fields_set}
    base = SCENARIOS[scenario].replace(**changes)
    with new_progress() as bar:
        task = bar.add_task("simulating", total=1.0, message="")
        star, truths = write_simulated_project(
            directory,
            _with_own_seeds(base, n_series),
            overwrite=overwrite,
            progress=lambda fraction, message: bar.update(task, completed=fraction, message=message),
        )
    for truth in truths:
        print(f"{truth.series_name}: {int(truth.included.sum())} of {len(truth)} views are good")
    print(f"project: {star}")
    return ExitCode.GOOD


simulate.__annotations__["scenario"] = Literal[tuple(SCENARIOS)]
simulate.__annotations__["options"] = flags_annotation(Simulation)


def _with_own_seeds(base: Simulation, n_series: int) -> list[Simulation]:
    if n_series == 1:
        return [base]
    return [base.replace(name=f"{base.name}_{i + 1:02d}", seed=base.seed + i) for i in range(n_series)]


def demo(*, output: Path | None = None) -> int:
    """Simulate a small RELION project with known truth, align it, write the STAR files, and say how far off they are.

    Opens nothing. Fails if the error is not what it should be.

    Parameters
    ----------
    output
        Folder for the project; without it a new temporary one, which stays.
    """
    directory = output or Path(tempfile.mkdtemp(prefix="napari-tiltalign-demo-"))
    with ConsoleWatcher() as watcher:
        result = run_demo(directory, watcher=watcher)
    print(f"simulated project: {result.project_star}")
    print(f"aligned STAR file: {result.aligned_star}")
    error, star_error = result.error, result.star_error
    print(f"error against the truth: {error.rms_px:.3f} px rms ({error.rms_nm:.3f} nm)")
    print(f"error of the STAR file, which holds no magnification: {star_error.rms_px:.3f} px rms "
          f"({star_error.rms_nm:.3f} nm)")  # fmt: skip
    if result.is_sane:
        return ExitCode.GOOD
    print(f"This is worse than {SANE_ERROR_PX} px, or the hand is wrong: the demo has failed.")
    return ExitCode.ALL_FAILED
