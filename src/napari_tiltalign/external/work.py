"""The folder that another program works in: a copy of the images that take part, under names that harm nobody.

A series may be called anything, and programs (and the shell scripts they call) stumble over blanks, quotes and leading
dashes. So every stack is called ``series.mrc`` in a folder of its own. The input is only read.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadTiltSeries, TiltAlignError
from napari_tiltalign.io.files import safe_name
from napari_tiltalign.methods.base import Progress
from napari_tiltalign.model import Alignment, LocalMotion, TiltSeries, Tracks
from napari_tiltalign.model.interpolation import interpolate_geometry

ROOT_NAME = "series"
"""What every stack and everything made of it is called."""


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """A folder with the stack of one series, sections by ascending nominal tilt.

    Attributes
    ----------
    path
        The folder.
    series
        The images that take part, in the order of the stack.
    """

    path: Path
    series: TiltSeries

    def file(self, suffix: str) -> Path:
        """File that bears the stack's name with a suffix."""
        return self.path / f"{ROOT_NAME}{suffix}"

    @property
    def stack(self) -> Path:
        """The stack."""
        return self.file(".mrc")

    @property
    def log(self) -> Path:
        """What programs have printed."""
        return self.path / "log.txt"


@contextmanager
def work_folder(series: TiltSeries, keep_in: str, progress: Progress, share: float = 0.1) -> Iterator[WorkFolder]:
    """Make a folder with the stack of a series, for as long as it is needed.

    Parameters
    ----------
    series
        Its included images go into the stack.
    keep_in
        Folder to make it in, named after the series, and to leave it there; empty for a temporary one (where
        ``TMPDIR`` says), which is removed at the end.
    progress
        Told how far the writing of the stack is.
    share
        Part of all the work that the writing is.

    Raises
    ------
    BadTiltSeries
        If fewer than three images take part, or an image cannot be read.
    OSError
        If the folder cannot be written, or the disk is too small.
    """
    used = by_tilt(series)
    if len(used) < 3:
        raise BadTiltSeries(series.name, f"only {len(used)} images take part; an alignment needs three or more")
    if keep_in:
        path = Path(keep_in).absolute() / safe_name(series.name)
        if path.exists():
            _remove_ours(path)
        path.mkdir(parents=True)
        (path / _MARK).touch()
        yield _filled(path, used, progress, share)
        return
    with tempfile.TemporaryDirectory(prefix="tiltalign-", ignore_cleanup_errors=True) as name:
        yield _filled(Path(name).resolve(), used, progress, share)


_MARK = ".napari-tiltalign"


def _remove_ours(path: Path) -> None:
    """Remove the folder of an earlier run; never one that somebody else has made."""
    if not (path / _MARK).is_file():
        raise FileExistsError(f"{path} was not made by this program and will not be replaced; choose another folder")
    shutil.rmtree(path)


def _filled(path: Path, used: TiltSeries, progress: Progress, share: float) -> WorkFolder:
    folder = WorkFolder(path, used)
    needed = 4 * len(used) * used.image_shape_yx[0] * used.image_shape_yx[1]
    if (free := shutil.disk_usage(path).free) < needed:
        raise OSError(f"{path} has {free / 1e9:.1f} GB free and the stack takes {needed / 1e9:.1f} GB; choose another "
                      "folder (TMPDIR, or the one to keep the program's files in)")  # fmt: skip
    write_stack(folder.stack, used, lambda done: progress(share * done, "writing the stack"))
    return folder


def by_tilt(series: TiltSeries) -> TiltSeries:
    """Return a series with only the images that take part, by ascending nominal tilt."""
    return series.replace(tilts=tuple(series.tilts[i] for i in series.tilt_order() if series.tilts[i].included))


def write_stack(path: Path, series: TiltSeries, told: Callable[[float], None]) -> None:
    """Write the images of a series as one float32 stack, one after the other.

    Parameters
    ----------
    path
        The file.
    series
        Its images become the sections, in its order.
    told
        Told the part that is done.

    Raises
    ------
    BadTiltSeries
        If an image cannot be read or has another size.
    OSError
        If it cannot be written.
    """
    n, low, high, total = len(series), np.inf, -np.inf, 0.0
    with mrcfile.new_mmap(path, shape=(n, *series.image_shape_yx), mrc_mode=2) as file:
        file.set_image_stack()
        file.voxel_size = series.pixel_size_angst
        for section in range(n):
            told(section / n)
            pixels = _pixels(series, section)
            file.data[section] = pixels
            low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
            total += float(pixels.mean(dtype=np.float64))
        file.header.dmin, file.header.dmax, file.header.dmean = low, high, total / n
        file.header.rms = -1.0


def _pixels(series: TiltSeries, section: int) -> NDArray[np.float32]:
    try:
        pixels = series.tilts[section].image.read()
    except TiltAlignError as error:
        raise BadTiltSeries(series.name, str(error)) from error
    if pixels.shape != series.image_shape_yx:
        name = series.tilts[section].image.name
        problem = f"{name} has {pixels.shape[1]} x {pixels.shape[0]} px, the series {series.image_shape_yx[::-1]}"
        raise BadTiltSeries(series.name, problem)
    return pixels


def for_all_images(found: Alignment, series: TiltSeries) -> Alignment:
    """Return an alignment of some images of a series as one of all of them, in the order of the input.

    Parameters
    ----------
    found
        Of the images that a program was given, with neither error bars nor a second geometry.
    series
        The whole series. Images that are not part of `found` get an interpolated geometry and are not included.
    """
    if found.tilt_ids == series.tilt_ids:
        return found
    position = np.array([series.index_of(tilt_id) for tilt_id in found.tilt_ids])
    line = np.zeros(len(series), dtype=np.intp)
    line[position] = np.arange(position.size)
    here = np.zeros(len(series), dtype=bool)
    here[position] = True
    used = here.copy()
    used[position] = found.included
    geometry = interpolate_geometry(found.geometry.take(line), used if used.any() else here, series.nominal_tilt_deg)
    reasons = (found.reasons[line[i]] if here[i] else tilt.reason for i, tilt in enumerate(series.tilts))
    return found.replace(
        tilt_ids=series.tilt_ids,
        geometry=geometry,
        included=used,
        reasons=tuple(reasons),
        tracks=_renumbered(found.tracks, position, series.tilt_ids),
        local_motion=_spread(found.local_motion, line, here),
    )


def _renumbered(tracks: Tracks | None, position: NDArray[np.intp], tilt_ids: tuple[str, ...]) -> Tracks | None:
    return None if tracks is None else tracks.replace(tilt_ids=tilt_ids, tilt=position[tracks.tilt])


def _spread(motion: LocalMotion | None, line: NDArray[np.intp], here: NDArray[np.bool_]) -> LocalMotion | None:
    """Motion for all images; none in those that took no part."""
    if motion is None:
        return None
    coefficients, common = motion.coefficients_yx_angst[line].copy(), motion.common_yx[line].copy()
    coefficients[~here], common[~here] = 0.0, 0.0
    return LocalMotion(
        **{name: getattr(motion, name) for name in LocalMotion.__slots__}
        | {"coefficients_yx_angst": coefficients, "common_yx": common}
    )
