"""Where the work on images is done: threads for the views of a series."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cpus() -> int:
    """Number of CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    results: list[Result] = []
    with single_threaded_algebra(), ThreadPoolExecutor(count) as pool:
        running = [pool.submit(function, item) for item in todo]
        try:
            for future in running:
                results.append(future.result())
                on_done(len(results))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results
