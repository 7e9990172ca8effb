"""The package from Python: read, align, write. Everything else (command line, napari) is a face on this."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version

from napari_tiltalign.errors import BadInput
from napari_tiltalign.images.compute import single_threaded_algebra
from napari_tiltalign.io import read
from napari_tiltalign.io.convert import read_alignment, write_alignment
from napari_tiltalign.io.fingerprint import input_fingerprint
from napari_tiltalign.io.output import LossesByFormat, write_results
from napari_tiltalign.methods.base import Method, MethodOptions, Progress, methods, silent
from napari_tiltalign.model import Alignment, Dataset, Provenance, TiltSeries

__all__ = ["align", "method_of", "read", "read_alignment", "write", "write_alignment"]

_NOT_OF_RESULTS = frozenset({"dose_order_inconsistent", "images_elsewhere"})
"""Flags of a series that have no bearing on how it is aligned; `check` tells them."""


def align(
    series: TiltSeries,
    options: MethodOptions,
    *,
    start: Alignment | None = None,
    progress: Progress = silent,
) -> Alignment:
    """Align one tilt series with the method that the options belong to.

    Parameters
    ----------
    series
        What to align. Excluded images take no part and get an interpolated geometry.
    options
        Options of a method, such as `napari_tiltalign.Fiducial`.
    start
        An alignment of the same series to start from.
    progress
        Told how far it is; may raise `Cancelled`.

    Returns
    -------
    Alignment
        Also from a poor fit, with flags: those of the series, such as images that could not be read, and those of the
        result. It says how it was made and of what.

    Raises
    ------
    BadInput
        If no method takes these options.
    BadTiltSeries
        If the series cannot be used.
    MethodFailed
        If no usable geometry exists; the message says why and what to try.

    Examples
    --------
    >>> from napari_tiltalign import Fiducial, align, read
    >>> dataset = read("tilt_series.star")
    >>> alignment = align(dataset["TS_01"], Fiducial(diameter_nm=10))
    >>> alignment.series_name, len(alignment)
    ('TS_01', 21)
    >>> alignment.statistics["residual_rms_px"] < 0.2
    True
    """
    method = method_of(options)
    with single_threaded_algebra():  # sums come out the same whatever the number of cores
        alignment = method(series, options, start=start, progress=progress)
    of_input = tuple(flag for flag in series.flags if flag.name not in _NOT_OF_RESULTS)
    return alignment.replace(
        flags=(*of_input, *alignment.flags),
        provenance=Provenance(
            method=method.name,
            options=options.model_dump(mode="json"),
            version=version("napari-tiltalign"),
            input_fingerprint=input_fingerprint(series),
        ),
    )


def method_of(options: MethodOptions) -> Method:
    """Return the method that some options belong to.

    Raises
    ------
    BadInput
        If there is none.
    """
    if method := methods().of_options(type(options)):
        return method
    known = ", ".join(method.Options.__name__ for method in methods().values())
    raise BadInput(f"no method takes options of the class {type(options).__name__}; there are {known}")


def write(
    dataset: Dataset,
    alignments: Mapping[str, Alignment],
    directory: str | os.PathLike[str],
    *,
    failures: Mapping[str, str] | None = None,
) -> Mapping[str, LossesByFormat]:
    """Write alignments into a folder in the shape of RELION's own job, with files for IMOD and AreTomo.

    Parameters
    ----------
    dataset
        What was read.
    alignments
        Series name to its alignment; the other series are left out of ``aligned_tilt_series.star``.
    directory
        The folder. Earlier results of the same series in it are replaced; the input never is.
    failures
        Series name to the reason why it has none, for ``failed_tilt_series.star``.

    Returns
    -------
    Mapping
        Series name to what each kind of file does not hold; ``alignment.json`` holds everything.

    Raises
    ------
    BadInput
        If a result would take the place of the input, or of another program's file.
    BadTiltSeries
        If an alignment does not fit its series.
    OSError
        If something cannot be written.

    Examples
    --------
    >>> from napari_tiltalign import Fiducial, align, read, write
    >>> dataset = read("tilt_series.star")
    >>> found = {series.name: align(series, Fiducial()) for series in dataset}
    >>> losses = write(dataset, found, "AlignTiltSeries/job007")
    >>> read("AlignTiltSeries/job007/aligned_tilt_series.star").series[0].name
    'TS_01'
    >>> "magnification" in [loss.what for loss in losses["TS_01"][".star"]]
    True
    """
    return write_results(directory, dataset, alignments, failures)
