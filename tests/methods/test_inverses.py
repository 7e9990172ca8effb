"""Inverses of many small matrices against LAPACK's."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.images.arrays import to_device, to_host
from napari_tiltalign.images.compute import use_device
from napari_tiltalign.methods.inverses import inverses


def covariances(count, size, dtype, signal=0.65, seed=0):
    """Covariances as of a slab: coefficients with something in common and noise of their own."""
    common = np.random.default_rng(seed).normal(size=(count, size, 5))
    common /= np.linalg.norm(common, axis=2, keepdims=True)
    return (signal * common @ common.transpose(0, 2, 1) + (1 - signal) * np.eye(size)).astype(dtype)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("size", [1, 2, 7, 41])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_inverses_and_determinants_are_those_of_lapack(count, size, dtype, tolerance):
    matrices = covariances(count, size, dtype)
    before = matrices.copy()
    inverted, log_determinants = inverses(matrices)
    assert inverted.dtype == dtype
    assert log_determinants.dtype == np.float64
    exact = matrices.astype(np.float64)
    np.testing.assert_allclose(inverted, np.linalg.inv(exact), atol=tolerance)
    np.testing.assert_allclose(log_determinants, np.linalg.slogdet(exact)[1], atol=tolerance * size)
    np.testing.assert_array_equal(inverted, inverted.transpose(0, 2, 1))
    np.testing.assert_array_equal(matrices, before)


def test_no_matrices_have_no_inverses():
    inverted, log_determinants = inverses(np.zeros((0, 4, 4), np.float32))
    assert inverted.shape == (0, 4, 4)
    assert log_determinants.shape == (0,)


def test_matrices_that_are_not_positive_definite_show():
    matrices = covariances(3, 4, np.float64)
    matrices[1, 2, 2] = -1.0
    _, log_determinants = inverses(matrices)
    np.testing.assert_array_equal(np.isfinite(log_determinants), [True, False, True])


def test_the_gpu_gives_the_same(fake_cupy):
    matrices = covariances(20, 12, np.float32)
    with use_device("cuda"):
        inverted, log_determinants = (to_host(some) for some in inverses(to_device(matrices)))
    here = inverses(matrices)
    np.testing.assert_allclose(inverted, here[0], atol=1e-5)
    np.testing.assert_allclose(log_determinants, here[1], atol=1e-5)
