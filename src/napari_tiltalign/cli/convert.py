"""``convert ALIGNMENT OUT``: between formats, with the list of what is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_tiltalign.cli.inputs import InputOptions
from napari_tiltalign.errors import BadInput, listed
from napari_tiltalign.model import NOT_GIVEN, Dataset, TiltSeries

_IMOD_SUFFIXES = (".xf", ".tlt", ".xtilt", ".rawtlt")
"""Files that make up an alignment of IMOD; the last holds nominal tilts, which only a series has."""


def convert(
    alignment: Annotated[Path, Parameter(name="ALIGNMENT")],
    out: Annotated[Path, Parameter(name="OUT")],
    /,
    *,
    like: Path | None = None,
    series: str = "",
    overwrite: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    overrides: InputOptions | None = None,
) -> int:
    """Convert an alignment to another format and list what that cannot hold.

    The suffix is the format: .star (RELION 5), .xf (IMOD, with .tlt, .xtilt and .rawtlt beside it), .aln (AreTomo),
    .xml (Warp and M; if OUT is a file of Warp, only the alignment in it is replaced), .json (everything), .fid (IMOD
    model of the beads; written only).

    Parameters
    ----------
    alignment
        The alignment to read.
    out
        The file to write.
    like
        The tilt series it is of: STAR file or stack. Needed to read .xf and to write .star.
    series
        Name of the series, if there are several: in --like, or else in ALIGNMENT, if that is a STAR file or a folder of
        results.
    overwrite
        Replace files that exist.
    overrides
        What to use instead of what the files say.
    """
    from napari_tiltalign.io.convert import read_alignment, write_alignment

    overrides = overrides or InputOptions()
    _check_out(alignment, out, has_series=like is not None, overwrite=overwrite)
    like = _like(alignment, like, series)
    tilt_series = None if like is None else _choose(overrides.read(like), series, alignment)
    pixel_size_angst = NOT_GIVEN if overrides.pixel_size_angst is None else overrides.pixel_size_angst
    found = read_alignment(alignment, tilt_series, pixel_size_angst=pixel_size_angst)
    if series and found.series_name != series:
        raise BadInput(f"{alignment} is of {found.series_name}; give the file of {series}, or leave out --series")
    if tilt_series is None and out.suffix.lower() == ".star":
        raise BadInput(f"to write {out}, give the tilt series too (--like): its other columns are needed")
    losses = write_alignment(out, found, tilt_series)
    print(f"{out}: {found.series_name}, {int(found.included.sum())} of {len(found)} views")
    for loss in losses:
        print(f"not in it: {loss}")
    return 0


def _like(alignment: Path, like: Path | None, name: str) -> Path | None:
    """Where the tilt series is read from: a STAR file of RELION's job lists its series itself."""
    from napari_tiltalign.io.output_folder import OutputFolder

    if like is not None or not name:
        return like
    table = OutputFolder(alignment).aligned_star if alignment.is_dir() else alignment
    return table if table.suffix.lower() == ".star" and table.is_file() else None


def _check_out(alignment: Path, out: Path, *, has_series: bool, overwrite: bool) -> None:
    """Refuse to replace what the user may still need; IMOD's files beside a stack may be its nominal angles."""
    if not alignment.exists():
        raise BadInput(f"{alignment} does not exist; give a file that holds an alignment, or a folder of results")
    if out.is_dir():
        raise BadInput(f"{out} is a folder; give the file to write in it, such as {out / 'NAME.aln'}")
    if not out.parent.is_dir():
        raise BadInput(f"there is no folder {out.parent} to write {out.name} in; make it, or give another path")
    files = [out.with_suffix(suffix) for suffix in _IMOD_SUFFIXES] if out.suffix.lower() == ".xf" else [out]
    there = [file for file in files if os.path.lexists(file)]
    if any(file.resolve() == alignment.resolve() for file in there):
        raise BadInput(f"{out} is what is to be converted; give another name")
    if not has_series and (nominal := out.with_suffix(_IMOD_SUFFIXES[-1])) in there:
        raise BadInput(f"{nominal} would be taken for the nominal angles of {out}; give the tilt series (--like), or "
                       "another name")  # fmt: skip
    if there and not overwrite:
        names = ", ".join(map(str, there))
        raise BadInput(f"{names} would be replaced; give another name, or allow it (--overwrite)")


def _choose(dataset: Dataset, name: str, alignment: Path) -> TiltSeries:
    """The series meant: by its name, or the only one, or the one that the file is called after."""
    if name:
        chosen = dataset.only([name])
    elif len(dataset) + len(dataset.failed) > 1 and (alignment.stem in {series.name for series in dataset}):
        chosen = dataset.only([alignment.stem])
    else:
        chosen = dataset
    if len(chosen) == 1 and (name or not chosen.failed):
        return chosen.series[0]
    if len(chosen) + len(chosen.failed) == 1:
        failed, why = next(iter(chosen.failed.items()))
        raise BadInput(f"{failed}: {why}")
    known = listed([*(series.name for series in dataset), *dataset.failed])
    raise BadInput(f"{dataset.source} lists {known}; say which one is meant (--series NAME)")
