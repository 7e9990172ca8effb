"""Stands in for CuPy where there is no GPU: arrays that, like CuPy's, numpy must not touch without being asked.

It computes with numpy, so it tells nothing of CuPy's own numbers and speed; but what forgets to take data from one side
to the other, or calls a function of numpy on the GPU's arrays, fails here as it would there.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class ndarray(NDArrayOperatorsMixin):  # noqa: N801 (CuPy's name)
    """An array on the GPU that is not there."""

    __array_priority__ = 100

    def __init__(self, host: np.ndarray) -> None:
        self.host = host

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_function__(self, function: Any, *args: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called on an array of the GPU")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None:
            kwargs["out"] = tuple(_down(one) for one in out)
        return _up(getattr(ufunc, method)(*(_down(one) for one in inputs), **kwargs))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # numpy would look into the memory by these
            raise AttributeError(name)
        found = getattr(self.host, name)
        return _on_device(found) if callable(found) else _up(found)

    def __len__(self) -> int:
        return len(self.host)

    def __float__(self) -> float:
        return float(self.host)

    def __getitem__(self, index: Any) -> Any:
        return _up(self.host[_down_all(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.host[_down_all(index)] = _down(value)


def _up(value: Any) -> Any:
    return ndarray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def _down(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value.host if isinstance(value, ndarray) else value


def _down_all(values: Any) -> Any:
    return tuple(_down(value) for value in values) if isinstance(values, tuple) else _down(values)


def _on_device(function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return _up(function(*(_down(one) for one in args), **{key: _down(value) for key, value in kwargs.items()}))

    return call


class FakeCupy(ModuleType):
    """The functions of numpy, for arrays of the GPU only."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.ndarray = ndarray
        self.uploads = 0
        self.linalg = SimpleNamespace(inv=_on_device(np.linalg.inv), cholesky=_on_device(np.linalg.cholesky))
        self.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1))

    def asarray(self, array: Any) -> ndarray:
        """Put an array on the GPU."""
        self.uploads += 1
        return array if isinstance(array, ndarray) else ndarray(np.array(array))

    def asnumpy(self, array: ndarray) -> np.ndarray:
        """Take an array from the GPU."""
        return array.host.copy()

    def __getattr__(self, name: str) -> Any:
        return _on_device(getattr(np, name))
