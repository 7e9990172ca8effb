"""Stands in for CuPy where there is no GPU: arrays that, like CuPy's, numpy must not touch without being asked.

It computes with numpy, so it tells nothing of CuPy's own numbers and speed; but what forgets to take data from one side
to the other, or asks for what CuPy does not have, fails here as it would there. What it has was compared with the
sources of CuPy 14: names, arguments, and what they refuse.
"""

from __future__ import annotations

import functools
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.lib.mixins import NDArrayOperatorsMixin


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _names(
    "abs arange argmax argsort ascontiguousarray broadcast_to clip concatenate conj cos count_nonzero diagonal einsum "
    "empty empty_like exp expm1 eye floor full gradient hypot interp linspace log matmul maximum mean median minimum "
    "moveaxis multiply ones ones_like outer sin sinc sqrt square stack sum take tensordot tile unique vdot where zeros "
    "zeros_like"
)
METHODS = _names(
    "all any argmax argsort astype clip conj copy diagonal dot max mean min nonzero prod ravel repeat reshape sort "
    "squeeze std sum swapaxes take transpose var view"
)
ATTRIBUTES = _names("T dtype flags imag itemsize nbytes ndim real shape size strides")
NO_KEYWORD = {"clip": {"where", "min", "max"}, "median": {"where"}, "sum": {"initial", "where"}, "mean": {"where"}}
TRANSFORMS = _names(
    "fft ifft fft2 ifft2 rfft irfft rfft2 irfft2 fftn ifftn rfftn irfftn fftshift ifftshift fftfreq rfftfreq "
    "next_fast_len"
)
FILTERS = _names("gaussian_filter map_coordinates maximum_filter minimum_filter uniform_filter zoom")


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
        if method != "__call__":
            raise TypeError(f"CuPy has no {ufunc.__name__}.{method}")
        if out is not None:
            kwargs["out"] = tuple(_down(one) for one in out)
        return _up(ufunc(*(_down(one) for one in inputs), **kwargs))

    def __getattr__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            return _up(getattr(self.host, name))
        if name in METHODS:
            return _on_device(getattr(self.host, name), name)
        raise AttributeError(f"the stand-in for CuPy's arrays has no {name}")

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self)))

    def __float__(self) -> float:
        return float(self.host)

    def __bool__(self) -> bool:
        return bool(self.host)

    def __getitem__(self, index: Any) -> Any:
        return _up(self.host[_down_all(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.host[_down_all(index)] = _down(value)


def _up(value: Any) -> Any:
    """What numpy gives, on the GPU: CuPy has no scalars, only arrays without dimensions."""
    if isinstance(value, tuple | list):
        return type(value)(*map(_up, value)) if hasattr(value, "_fields") else type(value)(map(_up, value))
    return ndarray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def _down(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, tuple | list) and any(isinstance(one, ndarray | np.ndarray) for one in value):
        return type(value)(map(_down, value))
    return value.host if isinstance(value, ndarray) else value


def _down_all(values: Any) -> Any:
    if isinstance(values, list):
        raise TypeError("CuPy takes no lists as indices")
    return tuple(_down_all(value) for value in values) if isinstance(values, tuple) else _down(values)


def _on_device(function: Any, name: str = "") -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if unknown := NO_KEYWORD.get(name, set()) & set(kwargs):
            raise TypeError(f"CuPy's {name} takes no {', '.join(sorted(unknown))}")
        return _up(function(*(_down(one) for one in args), **{key: _down(value) for key, value in kwargs.items()}))

    return call


def _only_on_device(function: Any) -> Any:
    """A function that takes nothing but arrays of the GPU first."""
    on_device = _on_device(function)

    @functools.wraps(function)
    def call(array: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(array, ndarray):
            raise TypeError(f"{function.__name__} takes an array of the GPU, not {type(array).__name__}")
        if unknown := {"workers", "plan", "axes_"} & set(kwargs):
            raise TypeError(f"{function.__name__} takes no {', '.join(unknown)}")
        return on_device(array, *args, **kwargs)

    return call


def _of_matrices(function: Any) -> Any:
    checked = _only_on_device(function)

    @functools.wraps(function)
    def call(array: Any) -> Any:
        if array.host.dtype not in (np.float32, np.float64, np.complex64, np.complex128):
            raise TypeError(f"{function.__name__} of {array.host.dtype}")
        return checked(array)

    return call


class _Functions(ModuleType):
    """A module of some functions of another, for arrays of the GPU only."""

    def __init__(self, name: str, source: Any, names: frozenset[str], wrap: Any) -> None:
        super().__init__(name)
        self._source, self._names, self._wrap = source, names, wrap

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"the stand-in for {self.__name__} has no {name}")
        return self._wrap(getattr(self._source, name))


class FakeCupy(_Functions):
    """The functions of numpy that CuPy has too, for arrays of the GPU only."""

    def __init__(self) -> None:
        super().__init__("cupy", np, FUNCTIONS, lambda function: _on_device(function, function.__name__))
        self.ndarray = ndarray
        self.uploads = self.uploaded_bytes = self.downloaded_bytes = 0
        for name in ("float32", "float64", "complex64", "int64", "bool_"):
            setattr(self, name, getattr(np, name))
        names = ("inv", "cholesky", "slogdet")
        self.linalg = SimpleNamespace(**{name: _of_matrices(getattr(np.linalg, name)) for name in names})
        self.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1))

    def asarray(self, array: Any, dtype: Any = None) -> ndarray:
        """Put an array on the GPU."""
        if isinstance(array, ndarray):
            return array if dtype is None else ndarray(array.host.astype(dtype))
        there = ndarray(np.array(array, dtype=dtype))
        self.uploads += 1
        self.uploaded_bytes += there.host.nbytes
        return there

    def asnumpy(self, array: ndarray) -> np.ndarray:
        """Take an array from the GPU."""
        self.downloaded_bytes += array.host.nbytes
        return array.host.copy()

    def modules(self) -> dict[str, ModuleType]:
        """CuPy and what comes with it, by the names they are imported by."""
        fft = _Functions("cupyx.scipy.fft", scipy.fft, TRANSFORMS, _transform)
        ndimage = _Functions("cupyx.scipy.ndimage", scipy.ndimage, FILTERS, _only_on_device)
        cupyx, cupyx_scipy = ModuleType("cupyx"), ModuleType("cupyx.scipy")
        cupyx.scipy, cupyx_scipy.fft, cupyx_scipy.ndimage = cupyx_scipy, fft, ndimage  # type: ignore[attr-defined]
        found = (self, cupyx, cupyx_scipy, fft, ndimage)
        return {module.__name__: module for module in found}


def _transform(function: Any) -> Any:
    return function if function.__name__ == "next_fast_len" else _only_on_device(function)
