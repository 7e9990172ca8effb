"""What a series takes: memory and time, estimated before it starts; and what there is."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import psutil

from napari_tiltalign.methods.base import Method, MethodOptions
from napari_tiltalign.model import TiltSeries

PROCESS_BYTES = 0.4e9
"""What a worker takes before it has seen an image: Python and the libraries (0.16 GB measured, 0.26 GB with Dask's),
with some to spare for compiled code."""
_BYTES_PER_PIXEL = 12.0
"""Of all images of a series together: the cleaned images, and two more arrays of their size."""
_WORKING_BYTES_PER_PIXEL = 64.0
"""Of one image, for each thread: its transforms (complex), filters and the raw pixels."""
_RAW_BYTES_PER_PIXEL = 12.0


@runtime_checkable
class KnowsItsMemory(Protocol):
    """A method that can say itself how much memory a series takes."""

    def memory_bytes(self, series: TiltSeries, options: MethodOptions) -> float:
        """Return the most memory that the method holds for a series, bytes, without the program itself."""
        ...


@runtime_checkable
class KnowsItsTime(Protocol):
    """A method that can say itself how long a series takes."""

    def cpu_seconds(self, series: TiltSeries, options: MethodOptions) -> float:
        """Return the time on one core of an ordinary machine, roughly."""
        ...


def typical_seconds(method: Method, series: TiltSeries, options: MethodOptions, threads: int) -> float:
    """Say roughly how long a series takes on an ordinary machine; NaN if the method does not know.

    Half of a series goes to one core only, as measured: two cores are 1.5 times as fast as one.
    """
    if not isinstance(method, KnowsItsTime):
        return math.nan
    return method.cpu_seconds(series, options) * (1.0 / 3.0 + 2.0 / 3.0 / max(1, threads))


def memory_bytes(method: Method, series: TiltSeries, options: MethodOptions, threads: int) -> float:
    """Estimate the most memory that a process takes to align a series, bytes.

    A method that has a function ``memory_bytes(series, options)`` is asked. For others it is counted that all images
    are held as three arrays of single precision at full size, and some more for each thread.
    """
    if isinstance(method, KnowsItsMemory):
        return PROCESS_BYTES + method.memory_bytes(series, options)
    rows, columns = series.image_shape_yx
    n_images = int(series.included.sum())
    return PROCESS_BYTES + rows * columns * (n_images * _BYTES_PER_PIXEL + threads * _WORKING_BYTES_PER_PIXEL)


def raw_bytes(series: TiltSeries, threads: int) -> float:
    """Memory for images at full size while they are binned, bytes: one for each thread, as stored and as numbers."""
    rows, columns = series.image_shape_yx
    return float(rows * columns * threads * _RAW_BYTES_PER_PIXEL)


_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_memory_bytes() -> float:
    """Memory that may be used here, bytes: that of the machine, or less if its container's control group says so."""
    limits = [float(psutil.virtual_memory().total)]
    for file in _GROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max" is no limit
            limits.append(float(Path(file).read_text()))
    return min(limits)
