"""Arrays on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from fake_cupy import FakeCupy
from napari_tiltalign.errors import ProgramMissing
from napari_tiltalign.images import compute
from napari_tiltalign.images.arrays import map_parts, module_of, to_device, to_host
from napari_tiltalign.images.compute import use_device


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_stays_on_the_cpu_unless_the_gpu_is_demanded(fake_cupy: FakeCupy, name: str):
    array = np.arange(3.0)
    with use_device(name):
        assert to_device(array) is array
    assert module_of(array) is np
    assert to_host(array) is array


def test_goes_to_the_gpu_and_back(fake_cupy: FakeCupy):
    array = np.arange(3.0)
    with use_device("cuda"):
        there = to_device(array)
    assert module_of(there) is fake_cupy
    with pytest.raises(TypeError, match="not allowed"):
        np.asarray(there)
    with pytest.raises(TypeError, match="Unsupported"):
        there + array
    np.testing.assert_array_equal(to_host(there * 2.0), array * 2.0)


def test_parts_are_done_in_order_on_both_sides(fake_cupy: FakeCupy):
    with use_device("cuda"):
        for array in (np.arange(4.0), to_device(np.arange(4.0))):
            assert map_parts(lambda k, array=array: float(array[k]), range(4), array) == [0.0, 1.0, 2.0, 3.0]


def test_a_gpu_that_is_demanded_must_be_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compute, "_gpu_problem", lambda: "there is none")
    with use_device("cuda"), pytest.raises(ProgramMissing, match="no GPU"):
        to_device(np.arange(3.0))
