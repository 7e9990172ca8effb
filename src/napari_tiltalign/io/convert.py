"""One door to every format of an alignment, chosen by the suffix of the file.

``.star``   RELION 5, global or of one series
``.xf``     IMOD, with ``.tlt``, ``.xtilt`` and ``.rawtlt`` beside it
``.aln``    AreTomo
``.xml``    Warp and M, with the package ``warpxmlfile``; a file of Warp that is there keeps what else it holds
``.edf``    etomo: what ``.xf`` gives, with beads or patches and the figures of the log; read only
``.json``   our own record, which is lossless
``.fid``    IMOD model of the tracks, written only
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

from napari_tiltalign.errors import BadInput, BadTiltSeries, listed
from napari_tiltalign.io.aretomo import read_aretomo, write_aretomo
from napari_tiltalign.io.bare_series import bare_series_of_aln, bare_series_of_warp
from napari_tiltalign.io.etomo import find_etomo, imod_log, read_etomo, with_imod_tracks
from napari_tiltalign.io.fid import write_fid
from napari_tiltalign.io.files import safe_name
from napari_tiltalign.io.imod import write_imod
from napari_tiltalign.io.losses import Loss, magnification_loss, unit_magnification_geometry, unwritten_losses
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.io.record import read_record, write_record
from napari_tiltalign.io.relion import read_relion
from napari_tiltalign.io.relion_alignment import read_alignment_columns, star_blocks_with_alignment
from napari_tiltalign.io.star import write_star
from napari_tiltalign.io.star_alignment import alignment_of_star, alignment_of_star_series
from napari_tiltalign.io.warp import read_warp, write_warp
from napari_tiltalign.io.warp_rows import Rows
from napari_tiltalign.model import NOT_GIVEN, Alignment, TiltSeries

READABLE = (".star", ".xf", ".aln", ".json", ".edf", ".xml")
STAR_COLUMNS = "star_columns"
"""Key of the details of an alignment: what a program has measured besides, for columns of RELION's STAR file."""
WRITABLE = (".star", ".xf", ".aln", ".json", ".fid", ".xml")


def read_alignment(
    path: str | os.PathLike[str],
    series: TiltSeries | None = None,
    *,
    pixel_size_angst: float = NOT_GIVEN,
    image_shape_yx: tuple[int, int] | None = None,
) -> Alignment:
    """Read an alignment of any format.

    Parameters
    ----------
    path
        The file, or a folder that holds one: of etomo, AreTomo or Warp, or of a job of RELION or ours.
    series
        The series it is of. The alignment then has exactly its images, in its order; one that the file does not
        list gets an interpolated geometry and counts as not included. Without it, the images are as listed.
    pixel_size_angst, image_shape_yx
        What the file does not say of the images, needed without a series: both for ``.xf``, the first for ``.aln``;
        for ``.xml`` of old versions of Warp the second.

    Raises
    ------
    BadInput
        If the format is unknown, the file cannot be used, or something is needed that is not given.
    BadTiltSeries
        If the file does not fit the series.
    ProgramMissing
        If a package that reads the format is not installed.

    Examples
    --------
    >>> from napari_tiltalign import read, read_alignment
    >>> series = read("tilt_series.star")["TS_01"]
    >>> truth = read_alignment("truth/TS_01.json", series)
    >>> truth.tilt_ids == series.tilt_ids
    True
    """
    where = alignment_file(Path(path), None if series is None else series.name)
    if not where.exists():
        raise BadInput(f"{where} does not exist; give a file that holds an alignment, or a folder of results")
    suffix = where.suffix.lower()
    if suffix in (".edf", ".xf") and (folder := find_etomo(where)):
        return read_etomo(folder, series, pixel_size_angst=pixel_size_angst, image_shape_yx=image_shape_yx)
    if suffix == ".json":
        alignment = read_record(where)
        return alignment if series is None else for_series(alignment, series)
    if suffix == ".star":
        return _read_star_alignment(where, series)
    if suffix == ".aln":
        return read_aretomo(where, series or bare_series_of_aln(where, pixel_size_angst, image_shape_yx))
    if suffix == ".xml":
        if series is not None:
            return read_warp(where, series)
        bare = bare_series_of_warp(where, pixel_size_angst, image_shape_yx)
        return read_warp(where, bare, Rows.in_order(len(bare)))
    raise BadInput(f"{where} has no suffix of an alignment ({', '.join(READABLE)})")


def alignment_file(path: Path, series_name: str | None = None) -> Path:
    """Return the file that holds an alignment: the path itself, or the one meant in a folder.

    Parameters
    ----------
    path
        A file, or a folder.
    series_name
        Which series, if the folder may hold several.

    Raises
    ------
    BadInput
        If a folder holds none, or several.
    """
    if not path.is_dir():
        return path
    results = OutputFolder(path)
    records = [path / "alignment.json", *([results.alignment_record(series_name)] if series_name is not None else [])]
    if record := next((file for file in records if file.is_file()), None):
        return record
    if results.aligned_star.is_file():
        return results.aligned_star
    meant = () if series_name is None else (series_name, safe_name(series_name))
    for suffix in (".edf", ".aln", ".xf", ".xml"):
        files = sorted(path.glob(f"*{suffix}"))
        if suffix == ".xf":  # others are of steps on the way
            files = [f for f in files if f.with_suffix(".tlt").is_file() and not f.stem.endswith("_fid")]
        named = [file for file in files if file.stem in meant]
        if len(named) == 1 or len(files) == 1:
            return (named or files)[0]
        if files:
            names = ", ".join(file.name for file in files)
            raise BadInput(f"{path} holds several alignments: {names}; give the one that is meant")
    raise BadInput(f"{path} holds no alignment of RELION, IMOD (.edf, .xf with .tlt), AreTomo (.aln) or Warp (.xml)")


def _read_star_alignment(path: Path, series: TiltSeries | None) -> Alignment:
    if series is not None:
        return _with_tracks_of_job(alignment_of_star(path, series), series, path)
    dataset = read_relion(path)
    if len(dataset) != 1 or dataset.failed:
        names = listed([*(s.name for s in dataset), *dataset.failed])
        raise BadInput(f"{path} lists {names}; say which one is meant (--series NAME), or give its own STAR file")
    return alignment_of_star_series(dataset.series[0])


def alignment_of_input(series: TiltSeries) -> Alignment | None:
    """Return the alignment that comes with a series as it was read, or None if there is none.

    That is the one in the columns of its STAR file, with IMOD's beads if the folder of RELION's job has them; or, for a
    stack, what IMOD or AreTomo has left beside it: ``NAME.edf`` or ``NAME.xf`` with ``NAME.tlt``, or ``NAME.aln``.

    Raises
    ------
    BadTiltSeries
        If it cannot be used or does not fit the series.
    BadInput
        If the settings of etomo cannot be used.
    """
    source = Path(series.source)
    if not source.name:  # images in memory
        return None
    if source.suffix.lower() == ".star":
        if read_alignment_columns(series) is None:
            return None
        return _with_tracks_of_job(alignment_of_star_series(series), series, source)
    beside = source.with_suffix
    if beside(".xf").is_file() and beside(".tlt").is_file():
        return read_alignment(beside(".edf") if beside(".edf").is_file() else beside(".xf"), series)
    return read_alignment(beside(".aln"), series) if beside(".aln").is_file() else None


def _with_tracks_of_job(alignment: Alignment, series: TiltSeries, star: Path) -> Alignment:
    """Add IMOD's beads or patches where RELION has left them: ``external/NAME`` in the folder of the job."""
    root = star.parent.parent if star.parent.name == "tilt_series" else star.parent
    for name in dict.fromkeys((series.name, safe_name(series.name))):
        folder = root / "external" / name
        if (folder / f"{name}.prexg").is_file():
            log = imod_log(folder, alignment.pixel_size_angst)
            alignment = alignment.replace(statistics={**alignment.statistics, **log.statistics()})
            return with_imod_tracks(alignment, series, folder / f"{name}.fid", folder / f"{name}.prexg")
    return alignment


def for_series(alignment: Alignment, series: TiltSeries) -> Alignment:
    """Return an alignment for exactly the images of a series, in its order; tracks are dropped if that changes them.

    Raises
    ------
    BadTiltSeries
        If an image of the series is not part of the alignment.
    """
    if alignment.tilt_ids == series.tilt_ids:
        return alignment
    if missing := sorted(set(series.tilt_ids) - set(alignment.tilt_ids)):
        problem = f"{len(missing)} images are not part of the alignment, such as {missing[0]}"
        raise BadTiltSeries(series.name, f"{problem}; is it of another series?")
    return alignment.take(series.tilt_ids)


def write_alignment(
    path: str | os.PathLike[str], alignment: Alignment, series: TiltSeries | None = None
) -> tuple[Loss, ...]:
    """Write an alignment in any format.

    Parameters
    ----------
    path
        The file; its suffix is the format.
    alignment
        What to write.
    series
        The series it is of: needed for ``.star``, whose other columns come from it; for ``.xf`` and ``.aln`` it
        gives the nominal tilts, for ``.xml`` the names of the movies, which find the rows of a file that is there.

    Returns
    -------
    tuple of Loss
        What the format does not hold.

    Raises
    ------
    BadInput
        If the format is unknown, or needs the series.
    BadTiltSeries
        If the alignment does not fit the series, or has nothing that the format is for.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> from napari_tiltalign import read_alignment, write_alignment
    >>> truth = read_alignment("truth/TS_01.json")
    >>> for loss in write_alignment("TS_01.aln", truth):
    ...     print(loss.what)
    tracks
    """
    where = Path(path)
    writer = _WRITERS.get(where.suffix.lower())
    if writer is None:
        raise BadInput(f"{where} has no suffix of an alignment that can be written ({', '.join(WRITABLE)})")
    return writer(where, alignment if series is None else for_series(alignment, series), series)


def _write_star(path: Path, alignment: Alignment, series: TiltSeries | None) -> tuple[Loss, ...]:
    if series is None:
        raise BadInput(f"to write {path}, give the tilt series too: its other columns are needed")
    rows = [int(i) for i in series.tilt_order() if alignment.included[i]]
    if not rows:
        raise BadTiltSeries(series.name, f"no image is included, so there is nothing to write to {path}")
    measured = alignment.details.get(STAR_COLUMNS, {})
    write_star(path, star_blocks_with_alignment(series, unit_magnification_geometry(alignment), rows, measured))
    return (*magnification_loss(alignment), *unwritten_losses(alignment, "are not listed"))


def _write_imod(path: Path, alignment: Alignment, series: TiltSeries | None) -> tuple[Loss, ...]:
    return write_imod(path, alignment, None if series is None else series.nominal_tilt_deg)


def _write_aretomo(path: Path, alignment: Alignment, series: TiltSeries | None) -> tuple[Loss, ...]:
    return write_aretomo(path, alignment, None if series is None else series.nominal_tilt_deg)


def _write_record(path: Path, alignment: Alignment, series: TiltSeries | None) -> tuple[Loss, ...]:
    write_record(path, alignment)
    return ()


def _write_fid(path: Path, alignment: Alignment, series: TiltSeries | None) -> tuple[Loss, ...]:
    detail = "the model holds beads only; the transforms that go with them are written as .xf"
    rest = unwritten_losses(alignment.replace(tracks=None))
    return (Loss("geometry", math.nan, detail), *write_fid(path, alignment), *rest)


_WRITERS: dict[str, Callable[[Path, Alignment, TiltSeries | None], tuple[Loss, ...]]] = {
    ".star": _write_star,
    ".xf": _write_imod,
    ".aln": _write_aretomo,
    ".json": _write_record,
    ".fid": _write_fid,
    ".xml": write_warp,
}
