"""Arrays on the CPU or on the GPU, for code that works on both.

Such code takes its functions from the module of the arrays it is given, and tells where data change sides. CuPy has the
names and the semantics of numpy, but refuses arrays of the other side.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.images.compute import gpu_is_demanded, map_views

Item = TypeVar("Item")
Result = TypeVar("Result")


def module_of(array: Any) -> Any:
    """Return the module whose functions take an array: numpy, or CuPy for an array on the GPU."""
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


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


def map_parts(function: Callable[[Item], Result], items: Iterable[Item], array: Any) -> list[Result]:
    """Apply a function to parts of an array: in threads on the CPU, in turns on the GPU, which is parallel itself."""
    return map_views(function, items) if module_of(array) is np else [function(item) for item in items]
