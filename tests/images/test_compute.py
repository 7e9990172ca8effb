"""Work in threads: results in order, errors and cancelling at once, nothing left behind."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from napari_tiltalign.errors import Cancelled
from napari_tiltalign.images.compute import available_cpus, map_views, single_threaded_algebra


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_items(workers):
    def slow_first(item):
        time.sleep(0.02 if item == 0 else 0.0)
        return item * item

    assert map_views(slow_first, range(9), workers) == [k * k for k in range(9)]


def test_no_items_no_work():
    assert map_views(lambda item: item, []) == []


def test_an_iterator_is_enough():
    assert map_views(str, (k for k in range(3))) == ["0", "1", "2"]


def test_told_about_every_item_in_the_callers_thread():
    told = []
    map_views(lambda item: item, range(5), 3, on_done=lambda n: told.append((n, threading.current_thread())))
    assert told == [(n, threading.current_thread()) for n in range(1, 6)]


def test_work_is_spread_over_threads():
    barrier = threading.Barrier(3, timeout=5)  # passes only if three are at work at once
    map_views(lambda item: barrier.wait(), range(3), 3)


def test_an_error_comes_out_as_it_is():
    def fails(item):
        if item == 2:
            raise ValueError("item 2")
        return item

    with pytest.raises(ValueError, match="item 2"):
        map_views(fails, range(5), 2)


def test_cancelling_drops_what_has_not_begun_and_leaves_no_thread():
    before = threading.active_count()
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.01)

    def stop(n):
        if n == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        map_views(work, range(100), 2, on_done=stop)
    assert len(begun) < 20
    assert threading.active_count() == before


def test_algebra_is_single_threaded_while_it_lasts():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    np.linalg.inv(np.eye(3))
    before = threads()
    with single_threaded_algebra():
        assert set(threads()) == {1}
    assert threads() == before


def test_cpus():
    assert available_cpus() >= 1
