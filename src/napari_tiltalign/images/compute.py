"""Where the work on images is done: threads for the views of a series, and which device."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from queue import SimpleQueue
from typing import Generic, Literal, TypeVar

from threadpoolctl import ThreadpoolController

from napari_tiltalign.errors import ProgramMissing

Item = TypeVar("Item")
Result = TypeVar("Result")

_share: ContextVar[int] = ContextVar("_share", default=0)
"""How many cores the caller may use; 0 for all that the process has."""

_wanted_device: ContextVar[str] = ContextVar("_wanted_device", default="auto")


@contextmanager
def limited_cpus(count: int) -> Iterator[None]:
    """Let the work inside use no more than so many cores (0 sets no limit), where several processes share a machine.

    Results do not depend on it.
    """
    token = _share.set(count)
    try:
        yield
    finally:
        _share.reset(token)


def available_cpus() -> int:
    """Number of CPU cores the caller may use: those of the process, or fewer inside of `limited_cpus`."""
    if share := _share.get():
        return min(share, _cpus_of_process())
    return _cpus_of_process()


def _cpus_of_process() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def use_device(name: str) -> Iterator[None]:
    """Let the work inside use the device ``auto``, ``cpu`` or ``cuda``, where its code knows more than one."""
    token = _wanted_device.set(name)
    try:
        yield
    finally:
        _wanted_device.reset(token)


def device() -> Literal["cpu", "cuda"]:
    """Return the device to work on: ``cuda`` inside of `use_device`, if that allows for it and there is a GPU.

    Raises
    ------
    ProgramMissing
        If ``cuda`` is demanded and there is no GPU.
    """
    wanted = _wanted_device.get()
    check_device(wanted)
    return "cpu" if wanted == "cpu" or _gpu_problem() else "cuda"


def gpu_count() -> int:
    """Number of GPUs that CuPy can use in this process."""
    if _gpu_problem():
        return 0
    import cupy

    return int(cupy.cuda.runtime.getDeviceCount())


def gpu_is_demanded() -> bool:
    """Whether the device ``cuda`` is demanded, which code that was not measured on many GPUs waits for.

    Raises
    ------
    ProgramMissing
        If it is, and there is no GPU.
    """
    return _wanted_device.get() == "cuda" and device() == "cuda"


def check_device(name: str) -> None:
    """Make sure that a device is there.

    Raises
    ------
    ProgramMissing
        If it is ``cuda`` and there is no GPU that CuPy can use.
    """
    if name == "cuda" and (problem := _gpu_problem()):
        raise ProgramMissing(f"no GPU can be used: {problem}; install the extra cuda12 or cuda13 and NVIDIA's driver, "
                             "or work on the CPU (--device cpu)")  # fmt: skip


@cache
def _gpu_problem() -> str:
    """Why there is no GPU to use in this process; empty if there is one."""
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed"
    try:
        return "" if cupy.cuda.runtime.getDeviceCount() else "there is none"
    except Exception as error:  # CuPy's own error, of a class that is only known once it is there
        return str(error)


def single_threaded_algebra() -> AbstractContextManager[object]:
    """Keep linear algebra on the calling thread while the context lasts.

    The matrices here are small, so its own threads cost more than they give, and they would crowd the cores that
    `map_views` uses. Sums also come out in the same order, whatever the number of cores.
    """
    limits: AbstractContextManager[object] = _threadpools().limit(limits=1, user_api="blas")
    return limits


@cache
def _threadpools() -> ThreadpoolController:
    """The thread pools of the libraries in this process; looking for them takes milliseconds."""
    import scipy.linalg  # noqa: F401  (numpy and scipy bring a library each, which must be loaded to be found)

    return ThreadpoolController()


def _nothing(done: int) -> None:
    """Nobody listens."""


def map_views(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int = 0,
    on_done: Callable[[int], None] = _nothing,
) -> list[Result]:
    """Apply a function to every view in threads; results come in the order of the items.

    Parameters
    ----------
    function
        Must be safe to call from several threads. numpy, scipy.fft and scipy.ndimage release the interpreter lock in
        their inner loops, so threads pay although this is Python.
    items
        What to apply it to.
    workers
        Number of threads; 0 takes one per core, at most 8.
    on_done
        Called in the caller's thread with the number of items done. If it raises, what has not begun is dropped.
    """
    todo = list(items)
    count = max(1, min(workers or min(available_cpus(), 8), len(todo)))
    work = _Work(function, todo, tell=on_done is not _nothing)
    with single_threaded_algebra(), ThreadPoolExecutor(count) as pool:
        try:
            if on_done is _nothing:
                running = [pool.submit(work.some) for _ in range(count - 1)]
                work.some()  # the caller has nothing else to do
                for one in running:
                    one.result()
            else:
                for _ in range(count):
                    pool.submit(work.some)
                for n in range(1, len(todo) + 1):
                    if not work.told.get():
                        break
                    on_done(n)
        except BaseException:
            work.waiting.clear()
            raise
    return work.results()


class _Work(Generic[Item, Result]):
    """Items that several threads take one after the other; handing them out one by one would cost more than some do."""

    def __init__(self, function: Callable[[Item], Result], items: list[Item], *, tell: bool) -> None:
        self.function, self.items, self.tell = function, items, tell
        self.waiting = deque(range(len(items)))
        self.done: dict[int, Result] = {}
        self.failed: dict[int, BaseException] = {}
        self.told: SimpleQueue[bool] = SimpleQueue()

    def some(self) -> None:
        """Do what is waiting until nothing is; after a failure no more is begun."""
        while True:
            try:
                index = self.waiting.popleft()
            except IndexError:
                return
            try:
                self.done[index] = self.function(self.items[index])
            except BaseException as error:
                self.failed[index] = error
                self.waiting.clear()
            if self.tell:
                self.told.put(index not in self.failed)

    def results(self) -> list[Result]:
        """Results in order; the failure of the first item that failed is raised."""
        if self.failed:
            raise self.failed[min(self.failed)]
        return [self.done[index] for index in range(len(self.items))]
