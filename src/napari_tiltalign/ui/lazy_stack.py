"""A stack of images that are made one at a time, when they are looked at."""

from __future__ import annotations

import operator
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_tiltalign.errors import TiltAlignError

DEFAULT_CACHE_BYTES = 512 * 2**20

LARGEST_REQUEST_BYTES = 128 * 2**20
"""Several images at once that need more than this are not made: a 3D display would ask for them, and freeze."""


class LazyStack:
    """Array-like of shape (n, y, x) whose images are loaded on demand and kept while there is room.

    napari shows it like an array. Only the images that an index touches are loaded; the last ones used stay in
    memory. It may be used from several threads at once.

    Several images at once come empty (NaN) if they are larger than `LARGEST_REQUEST_BYTES`; ``np.asarray`` gives
    the whole stack whatever its size. An image that cannot be read is shown empty too and warned about once, so that
    one broken file does not take the other images out of view.

    Parameters
    ----------
    load
        Gives the image of one index (0..n-1), shape `image_shape_yx`. Must be safe to call from several threads.
    length
        How many images there are.
    image_shape_yx
        (rows, columns) of every image.
    dtype
        Of the images; a floating type, because an unreadable image is NaN.
    cache_bytes
        Memory for images kept; at least one image is always kept.
    """

    def __init__(
        self,
        load: Callable[[int], NDArray[Any]],
        length: int,
        image_shape_yx: tuple[int, int],
        dtype: DTypeLike = np.float32,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self._load = load
        self.shape = (length, *image_shape_yx)
        self.dtype = np.dtype(dtype)
        self.capacity = max(1, cache_bytes // max(1, self._image_bytes()))
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._generation = 0
        self._loading: dict[tuple[int, int], threading.Event] = {}
        self._warned: set[int] = set()
        self._lock = threading.Lock()

    ndim = 3

    @property
    def size(self) -> int:
        """How many pixels there are in all images."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        view_key, pixel_key = self._split(key)
        if isinstance(view_key, slice):
            views = list(range(*view_key.indices(len(self))))
        else:
            array = np.asarray(view_key)
            if array.ndim == 0:
                result: NDArray[Any] = self.image(operator.index(view_key))[pixel_key]
                return result
            if array.dtype == bool:
                if array.shape != (len(self),):
                    raise IndexError(f"mask of shape {array.shape} for {len(self)} images")
                array = np.flatnonzero(array)
            if array.ndim > 1:
                raise IndexError("images are chosen by a number, a slice, a mask or a list of numbers")
            views = [int(view) for view in array]
        if len(views) > 1 and len(views) * self._image_bytes() > LARGEST_REQUEST_BYTES:
            blank: NDArray[Any] = np.broadcast_to(np.array(np.nan, self.dtype), (len(views), *self.shape[1:]))
            return blank[(slice(None), *pixel_key)]
        images = [self.image(view)[pixel_key] for view in views]
        return np.stack(images) if images else np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *pixel_key)]

    def _image_bytes(self) -> int:
        return self.dtype.itemsize * self.shape[1] * self.shape[2]

    def _split(self, key: Any) -> tuple[Any, tuple[Any, ...]]:
        """Split an index into the part for the images and the part for their pixels."""
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in [part for part in parts if part is Ellipsis]:
            at = next(i for i, part in enumerate(parts) if part is Ellipsis)
            parts[at : at + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        if len(parts) > self.ndim:
            raise IndexError(f"{len(parts)} indices for a stack of {self.ndim} dimensions")
        return (parts[0] if parts else slice(None)), tuple(parts[1:])

    def image(self, view: int) -> NDArray[Any]:
        """Return one image, read-only, from memory if it is there; negative numbers count from the end."""
        if not -len(self) <= view < len(self):
            raise IndexError(f"image {view} of a stack of {len(self)}")
        view %= len(self)
        while True:
            with self._lock:
                if view in self._cache:
                    self._cache.move_to_end(view)
                    return self._cache[view]
                asked = (self._generation, view)
                others = self._loading.get(asked)
                if others is None:
                    ready = self._loading[asked] = threading.Event()
                    break
            others.wait()  # another thread is at it
        try:
            image = self._loaded(view)
            with self._lock:
                if asked[0] == self._generation:
                    self._cache[view] = image
                    while len(self._cache) > self.capacity:
                        self._cache.popitem(last=False)
        finally:
            with self._lock:
                del self._loading[asked]
            ready.set()
        return image

    def _loaded(self, view: int) -> NDArray[Any]:
        try:
            image = np.array(self._load(view), dtype=self.dtype)
        except TiltAlignError as error:
            self._warn_once(view, error)
            image = np.full(self.shape[1:], np.nan, self.dtype)
        if image.shape != self.shape[1:]:
            raise ValueError(f"image {view} has shape {image.shape}, expected {self.shape[1:]}")
        image.flags.writeable = False
        return image

    def _warn_once(self, view: int, error: TiltAlignError) -> None:
        with self._lock:
            if view in self._warned:
                return
            self._warned.add(view)
        warnings.warn(f"image {view + 1} is shown empty: {error}", RuntimeWarning, stacklevel=2)

    def cached(self) -> tuple[int, ...]:
        """Indices of the images in memory, the one used longest ago first."""
        with self._lock:
            return tuple(self._cache)

    def clear(self) -> None:
        """Forget all images; those being loaded now are not kept either."""
        with self._lock:
            self._cache.clear()
            self._generation += 1

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a lazy stack cannot become an array without a copy")
        return np.stack([self.image(view) for view in range(len(self))]).astype(dtype or self.dtype, copy=False)
