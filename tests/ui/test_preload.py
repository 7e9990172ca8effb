"""Images are read ahead in the order in which they will be looked at."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
from napari.components import ViewerModel

from napari_tiltalign.model import ArrayImage
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.lazy_stack import LazyStack
from napari_tiltalign.ui.preload import Preload, middle_out, outwards


def test_orders():
    assert middle_out(6) == [3, 2, 4, 1, 5, 0]
    assert middle_out(1) == [0]
    assert outwards(9, 1, 2) == [1, 0, 2, 3]
    assert outwards(9, 8, 3) == [8, 7, 6, 5]


def stack_that_tells(read: list[int], cache_images: int = 20) -> LazyStack:
    def load(view: int) -> np.ndarray:
        read.append(view)
        return np.full((4, 3), view, np.float32)

    return LazyStack(load, 9, (4, 3), cache_bytes=cache_images * 48)


def test_a_stack_is_read_from_the_middle_outwards():
    read: list[int] = []
    preload = Preload()
    preload.start(stack_that_tells(read))
    assert preload.wait(10.0)
    assert read == [4, 3, 5, 2, 6, 1, 7, 0, 8]


def test_no_more_is_read_than_can_be_kept():
    read: list[int] = []
    stack = stack_that_tells(read, cache_images=3)
    preload = Preload()
    preload.start(stack)
    assert preload.wait(10.0)
    assert read == [4, 3, 5]
    preload.start_around(stack, 4, reach=5)
    assert preload.wait(10.0)
    assert read == [4, 3, 5], "the neighbours that have room are there"


def test_what_waits_for_a_pause_is_dropped_when_something_else_is_asked_for():
    read: list[int] = []
    stack = stack_that_tells(read)
    preload = Preload()
    preload.start_around(stack, 0, reach=1, after_s=3600.0)
    assert not preload.wait(0.0)
    preload.start_around(stack, 8, reach=1)
    assert preload.wait(10.0)
    assert read == [8, 7]
    preload.start_around(stack, 0, reach=1, after_s=0.001)
    assert preload.wait(10.0)
    assert read == [8, 7, 0, 1]


def test_what_is_there_is_not_made_again():
    read: list[int] = []
    stack = stack_that_tells(read)
    stack.image(3)
    preload = Preload()
    for _ in range(2):
        preload.start_around(stack, 4, reach=1)
        assert preload.wait(10.0)
    assert read == [3, 4, 5]


def test_another_series_is_not_waited_for(dataset):
    """The images of a series that was left are not read to the end; the first of the next is there at once."""
    began, go_on, read = threading.Event(), threading.Event(), []

    class Slow(ArrayImage):
        def read(self):
            read.append(self.name)
            if threading.current_thread() is not threading.main_thread():
                began.set()
                assert go_on.wait(10)
            return super().read()

    first = dataset["TS_1"]
    tilts = [Slow(tilt.image.pixels, tilt.tilt_id) for tilt in first.tilts]
    slow = first.replace(tilts=tuple(replace(t, image=i) for t, i in zip(first.tilts, tilts, strict=True)))
    viewer = ViewerModel()
    layers = layers_of(viewer)
    layers.session.open(type(dataset)((slow, dataset["TS_2"])))
    assert began.wait(10)
    layers.session.show_neighbour(1)
    assert layers.raw_layer().name == "TS_2"
    go_on.set()
    assert layers.wait_for_images(10.0)
    assert len(read) <= 4, "what was begun was finished, and nothing more"
