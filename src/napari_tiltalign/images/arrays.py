"""Arrays on the CPU or on the GPU, for code that works on both.

Such code takes its functions from the module of the arrays it is given, and tells where data change sides. CuPy has the
names and the semantics of numpy, but refuses arrays of the other side.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

from napari_tiltalign.images.compute import gpu_is_demanded, map_views

Item = TypeVar("Item")
Result = TypeVar("Result")

_AT_ONCE_BYTES = 2.0**30
"""About how much memory of the GPU the intermediate results of one step may take."""


def module_of(array: Any) -> Any:
    """Return the module whose functions take an array: numpy, or CuPy for an array on the GPU."""
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


def transforms_of(array: Any) -> Any:
    """Return the module of Fourier transforms that take an array: scipy.fft, or CuPy's counterpart."""
    if module_of(array) is np:
        return scipy.fft
    import cupyx.scipy.fft

    return cupyx.scipy.fft


def filters_of(array: Any) -> Any:
    """Return the module of filters that take an array: scipy.ndimage, or CuPy's counterpart."""
    if module_of(array) is np:
        return scipy.ndimage
    import cupyx.scipy.ndimage

    return cupyx.scipy.ndimage


def to_device(array: NDArray[Any]) -> Any:
    """Return an array where heavy work is to be done: on the GPU inside of `use_device` ("cuda"), else as it is.

    Raises
    ------
    ProgramMissing
        If the GPU is demanded and there is none.
    """
    if not gpu_is_demanded():
        return array
    import cupy

    return cupy.asarray(array)


def to_host(array: Any) -> NDArray[Any]:
    """Return an array in the memory of the CPU."""
    module = module_of(array)
    return array if module is np else module.asnumpy(array)  # type: ignore[no-any-return]


def as_index(index: Any, array: Any) -> Any:
    """Return indices, or a single one, as an array takes them: CuPy refuses those of numpy."""
    xp = module_of(array)
    return index if xp is np else xp.asarray(index)


def map_parts(function: Callable[[Item], Result], items: Iterable[Item], array: Any) -> list[Result]:
    """Apply a function to parts of an array: in threads on the CPU, in turns on the GPU, which is parallel itself."""
    return map_views(function, items) if module_of(array) is np else [function(item) for item in items]


def map_some(
    function: Callable[[Any], Result], count: int, array: Any, bytes_each: float, workers: int = 0
) -> list[Result]:
    """Apply a function to the items along the first axis of arrays: one by one in threads on the CPU, many on the GPU.

    Parameters
    ----------
    function
        Given what to take from arrays: the number of an item on the CPU, a slice of many on the GPU, where starting
        work costs more than doing it. Its results have the axis of the items only for a slice.
    count
        Number of items.
    array
        Tells on which side the work is done.
    bytes_each
        About how much memory the intermediate results for an item take.
    workers
        Threads on the CPU; 0 takes one per core.
    """
    if module_of(array) is np:
        return map_views(function, range(count), workers)
    return [function(part) for part in _slices(count, bytes_each)]


def _slices(count: int, bytes_each: float) -> list[slice]:
    """Cut a range into as few slices as the memory allows."""
    step = max(1, int(_AT_ONCE_BYTES / bytes_each))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def stack_some(function: Callable[[Any], Any], count: int, array: Any, bytes_each: float) -> NDArray[Any]:
    """Apply a function as `map_some` does; its results as one array on the CPU, items along the first axis."""
    found = map_some(function, count, array, bytes_each)
    if module_of(array) is np:
        return np.array(found)
    return np.concatenate([to_host(one) for one in found])
