"""The stack that is shown by napari: indexing like an array, memory, threads, unreadable images."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from napari_tiltalign.errors import BadTiltSeries
from napari_tiltalign.ui import lazy_stack
from napari_tiltalign.ui.lazy_stack import LazyStack

PIXELS = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
IMAGE_BYTES = 4 * 3 * 4


def counted_stack(**options: object) -> tuple[LazyStack, Counter[int]]:
    loads: Counter[int] = Counter()

    def load(view: int) -> np.ndarray:
        loads[view] += 1
        return PIXELS[view]

    return LazyStack(load, 5, (4, 3), **options), loads


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        np.int64(3),
        slice(None),
        slice(1, 4, 2),
        slice(None, None, -1),
        slice(4, 4),
        [0, 2],
        [-1, 0],
        np.array([True, False, True, False, False]),
        (2, 1),
        (2, 1, -1),
        (slice(1, 3), slice(0, 2), 1),
        ([1, 3], slice(None), slice(0, 2)),
        (slice(4, 4), slice(0, 2), 1),
        ...,
        (..., 1),
        (1, ..., 2),
        (1, ...),
        (2, slice(None, None, 2), slice(None, None, 2)),
        (3, np.array([0, 2]), np.array([1, 1])),
    ],
    ids=repr,
)
def test_indexes_like_an_array(key):
    stack, _ = counted_stack()
    expected = PIXELS[key]
    result = stack[key]
    np.testing.assert_array_equal(result, expected)
    assert np.shape(result) == expected.shape
    assert result.dtype == np.float32


@pytest.mark.parametrize("key", [5, -6, (0, 0, 0, 0), [[0, 1]], np.array([True, False])], ids=repr)
def test_refuses_indices_outside(key):
    stack, _ = counted_stack()
    with pytest.raises(IndexError):
        stack[key]


def test_describes_itself_like_an_array():
    stack, loads = counted_stack()
    assert (stack.shape, stack.ndim, stack.size, len(stack), stack.dtype) == ((5, 4, 3), 3, 60, 5, np.float32)
    assert not loads
    np.testing.assert_array_equal(np.asarray(stack), PIXELS)


def test_a_request_that_would_freeze_a_viewer_comes_empty(monkeypatch):
    monkeypatch.setattr(lazy_stack, "LARGEST_REQUEST_BYTES", 2 * IMAGE_BYTES)
    stack, loads = counted_stack()
    assert np.isnan(stack[:, 1:, :]).all()
    assert stack[:, 1:, :].shape == (5, 3, 3)
    assert not loads
    np.testing.assert_array_equal(stack[1:3], PIXELS[1:3])
    np.testing.assert_array_equal(np.asarray(stack), PIXELS)


def test_loads_an_image_once_while_there_is_room():
    stack, loads = counted_stack()
    for _ in range(3):
        stack[2], stack[-3], stack[1:4]
    assert loads == {1: 1, 2: 1, 3: 1}


def test_forgets_the_image_used_longest_ago():
    stack, loads = counted_stack(cache_bytes=2 * IMAGE_BYTES)
    stack[0], stack[1], stack[0], stack[2]
    assert stack.cached() == (0, 2)
    stack[0]
    assert loads[0] == 1
    stack[1]
    assert loads[1] == 2


def test_keeps_one_image_however_little_memory_there_is():
    stack, loads = counted_stack(cache_bytes=0)
    stack[3], stack[3]
    assert loads[3] == 1


def test_images_cannot_be_written_to():
    stack, _ = counted_stack()
    with pytest.raises(ValueError, match="read-only"):
        stack[0][0, 0] = 1


def test_clear_drops_images_that_are_still_being_loaded():
    started, go_on = threading.Event(), threading.Event()
    offset = [0.0]

    def load(view: int) -> np.ndarray:
        image = PIXELS[view] + offset[0]
        started.set()
        assert go_on.wait(10)
        return image

    stack = LazyStack(load, 5, (4, 3))
    with ThreadPoolExecutor(1) as pool:
        stale = pool.submit(stack.image, 1)
        assert started.wait(10)
        offset[0] = 100.0
        stack.clear()
        go_on.set()
        np.testing.assert_array_equal(stale.result(), PIXELS[1])
    np.testing.assert_array_equal(stack[1], PIXELS[1] + 100.0)


def test_may_be_used_from_many_threads():
    stack, _ = counted_stack(cache_bytes=2 * IMAGE_BYTES)
    views = np.random.default_rng(0).integers(0, 5, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(stack.image, views))
    for view, image in zip(views, images, strict=True):
        np.testing.assert_array_equal(image, PIXELS[view])
    assert len(stack.cached()) <= 2


def test_an_image_that_another_thread_is_at_is_waited_for():
    started, again, go_on = threading.Event(), threading.Event(), threading.Event()

    def load(view: int) -> np.ndarray:
        (again if started.is_set() else started).set()
        assert go_on.wait(10)
        return PIXELS[view]

    stack = LazyStack(load, 5, (4, 3))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(stack.image, 1)
        assert started.wait(10)
        second = pool.submit(stack.image, 1)
        assert not again.wait(0.3), "it is loaded twice"
        go_on.set()
        assert first.result() is second.result()


def test_after_a_failure_it_is_tried_again():
    broken = [True]

    def load(view: int) -> np.ndarray:
        if broken[0]:
            raise RuntimeError("a bug")
        return PIXELS[view]

    stack = LazyStack(load, 5, (4, 3))
    with pytest.raises(RuntimeError, match="a bug"):
        stack.image(1)
    broken[0] = False
    np.testing.assert_array_equal(stack.image(1), PIXELS[1])


def test_an_unreadable_image_is_empty_and_warned_about_once():
    def load(view: int) -> np.ndarray:
        if view == 1:
            raise BadTiltSeries("TS_1", "frames/a.mrc is cut short; copy it again")
        return PIXELS[view]

    stack = LazyStack(load, 5, (4, 3), cache_bytes=0)
    with pytest.warns(RuntimeWarning, match=r"image 2 is shown empty: TS_1: frames/a.mrc is cut short") as caught:
        first, good, again = (stack[view] for view in (1, 0, 1))
    assert len(caught) == 1
    assert np.isnan(first).all()
    assert np.isnan(again).all()
    np.testing.assert_array_equal(good, PIXELS[0])


def test_an_image_of_another_size_is_refused():
    stack = LazyStack(lambda view: np.zeros((4, 4), np.float32), 5, (4, 3))
    with pytest.raises(ValueError, match=r"image 0 has shape \(4, 4\), expected \(4, 3\)"):
        stack[0]
