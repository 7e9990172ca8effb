"""``watch METHOD DIR --output OUT``: align series while they are collected."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Group, Parameter, validators

from napari_tiltalign.cli.exit_codes import ExitCode, exit_code_for
from napari_tiltalign.cli.inputs import Names
from napari_tiltalign.cli.method_commands import add_method_commands
from napari_tiltalign.cli.running import BatchOptions, bars_of
from napari_tiltalign.errors import BadInput
from napari_tiltalign.methods.base import MethodOptions, Progress

if TYPE_CHECKING:
    from napari_tiltalign.batch import Patience, Place, Watcher

_PATIENCE_GROUP = Group("When a series is complete", sort_key=8)
_INPUT_GROUP = Group("What the input does not say", sort_key=10)
_Minutes = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=100_000))]


@Parameter(name="*", group=_PATIENCE_GROUP)
@dataclass(frozen=True)
class PatienceOptions:
    """When a series is complete, and when the watch ends.

    Attributes
    ----------
    settle_minutes
        A series is complete when nothing of it has changed for so many minutes.
    images
        A series with so many images is complete at once; 0 if the number is not known.
    poll_seconds
        Pause between looks, seconds.
    end_after_minutes
        End when everything is done and nothing has changed for so many minutes; 0 goes on until it is stopped.
    """

    settle_minutes: _Minutes = 10.0
    images: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=10_000))] = 0
    poll_seconds: Annotated[float, Parameter(validator=validators.Number(gte=0.1, lte=86_400))] = 10.0
    end_after_minutes: _Minutes = 0.0

    def patience(self) -> Patience:
        """What the flags mean."""
        from napari_tiltalign.batch import Patience

        return Patience(self.settle_minutes, self.images, self.poll_seconds, self.end_after_minutes)


@Parameter(name="*", group=_INPUT_GROUP)
@dataclass(frozen=True)
class ArrivingOptions:
    """What to use for all series instead of what their files say.

    Attributes
    ----------
    pixel_size_angst
        Pixel size of the images, Angstrom.
    tilt_axis_deg
        Tilt axis, degrees from the image's y axis, counter-clockwise with y drawn upwards.
    """

    pixel_size_angst: Annotated[float | None, Parameter(validator=validators.Number(gt=0, lte=1000))] = None
    tilt_axis_deg: Annotated[float | None, Parameter(validator=validators.Number(gte=-360, lte=360))] = None

    def place(self, path: Path) -> Place:
        """Where series arrive.

        Raises
        ------
        BadInput
            If there is no such place.
        """
        from napari_tiltalign.batch import Place

        return Place(
            path,
            math.nan if self.pixel_size_angst is None else self.pixel_size_angst,
            math.nan if self.tilt_axis_deg is None else self.tilt_axis_deg,
        )


@Parameter(name="*")
@dataclass(frozen=True)
class ChosenArrivals:
    """Which series are aligned, and from where.

    Attributes
    ----------
    only
        Names of the series to align, which need not be there yet; all without it.
    start
        Alignment file to start from, or a folder of results with one for every series. A series whose alignment is
        not there yet is waited for; one whose alignment changes is aligned again.
    """

    only: Names = ()
    start: Path | None = None


_ALL = ChosenArrivals()
_UNTIL_STOPPED = PatienceOptions()
_AS_READ = ArrivingOptions()


def add_methods(app: App, arguments: Sequence[str] = ()) -> None:
    """Add a command for every method of the registry, or only for the one that the arguments name."""
    add_method_commands(app, arguments, watch)


def watch(
    where: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    batch: BatchOptions,
    options: MethodOptions,
    choice: ChosenArrivals = _ALL,
    patience: PatienceOptions = _UNTIL_STOPPED,
    arriving: ArrivingOptions = _AS_READ,
) -> int:
    """Watch.

    Parameters
    ----------
    where
        Folder in which stacks (.mrc, .st) and their angles (.rawtlt, .tlt, .mdoc) arrive, or RELION's global STAR file,
        or the folder of the job that writes it.
    batch
        Where the results go, where it runs, and what is shown.
    options
        Options of the method.
    choice
        Which series.
    patience
        When a series is complete.
    arriving
        What the files do not say.
    """
    from napari_tiltalign.batch import watch as watch_place

    place = arriving.place(where)
    placement, watcher = batch.placement(isolate=True), batch.watcher()
    with bars_of(watcher):
        summary = watch_place(
            place,
            options,
            batch.output,
            patience=patience.patience(),
            only=choice.only,
            start=choice.start,
            placement=placement,
            command=sys.argv,
            watcher=watcher,
            refresh=_reporter(batch.output, watcher) if batch.shown.report else None,
        )
    batch.tell(summary, watcher)
    return exit_code_for(len(summary.aligned), len(summary.failed)) if summary.outcomes else ExitCode.GOOD


def _reporter(output: Path, watcher: Watcher) -> Callable[[Progress], None]:
    """Return what brings the report up to date, without pictures: those would be made anew for all series each time."""
    from napari_tiltalign.report import ReportOptions, write_report

    def refresh(progress: Progress) -> None:
        try:
            write_report(output, ReportOptions(pictures=False), progress=progress)
        except (BadInput, OSError) as error:
            watcher.notice(f"the report cannot be written: {error}")

    return refresh
