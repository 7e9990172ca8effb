"""Back-projection and re-projection against brute force, against each other, and against simulated truth."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.images.arrays import to_device, to_host
from napari_tiltalign.images.compute import use_device
from napari_tiltalign.images.project import (
    Grid,
    back_project,
    pixel_maps,
    re_project,
    sirt,
    slab_weights,
    weighted_views,
)

SHAPE_YX = (41, 50)
GRID = Grid((9, 30, 34), 13.0, np.array([20.0, -35.0, 50.0]))
TILTS = np.arange(-60.0, 61.0, 20.0)
CROOKED = ViewGeometry(
    x_tilt_deg=np.linspace(-3, 4, 7),
    y_tilt_deg=TILTS,
    z_rot_deg=np.linspace(80, 86, 7),
    shift_yx_angst=np.random.default_rng(3).normal(0, 40, (7, 2)),
    magnification=np.linspace(0.98, 1.02, 7),
)


def maps_of(geometry: ViewGeometry, grid: Grid = GRID, binning: int = 1) -> np.ndarray:
    return pixel_maps(geometry, grid, pixel_size_angst=12.0, image_shape_yx=SHAPE_YX, binning=binning)


def test_maps_are_the_projection_model() -> None:
    index = np.random.default_rng(1).uniform(0, 8, (20, 3))
    expected = CROOKED.project(GRID.points_of(index)) / 12.0 + np.array(SHAPE_YX) // 2
    found = np.einsum("nij,pj->npi", maps_of(CROOKED), np.column_stack([index, np.ones(20)]))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(GRID.index_of(GRID.points_of(index)), index)


def test_binned_maps_point_at_the_same_places() -> None:
    full, half = maps_of(CROOKED), maps_of(CROOKED, binning=2)
    np.testing.assert_allclose((half + np.array([0, 0, 0, 0.5])) * 2 - np.array([0, 0, 0, 0.5]), full, atol=1e-9)


def test_back_projection_equals_brute_force() -> None:
    images = np.random.default_rng(2).normal(size=(7, *SHAPE_YX)).astype(np.float32)
    maps = maps_of(CROOKED)
    index = np.stack(np.meshgrid(*map(np.arange, GRID.shape_zyx), indexing="ij"))
    expected = np.zeros(GRID.shape_zyx)
    for image, matrix in zip(images, maps, strict=True):
        where = np.einsum("ij,jzyx->izyx", matrix[:, :3], index) + matrix[:, 3, None, None, None]
        expected += np.nan_to_num(ndimage.map_coordinates(image, where, order=1, cval=np.nan))
    found = back_project(images, maps, GRID.shape_zyx)
    off = np.abs(found - expected) > 1e-3
    assert off.sum() <= 5  # voxels that are seen within a thousandth of a pixel of an edge
    np.testing.assert_allclose(found[~off], expected[~off], atol=1e-3)


def test_the_gpu_gives_the_same(gpu: ModuleType) -> None:
    images = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(7, *SHAPE_YX)), (0, 1, 1)).astype(np.float32)
    maps = maps_of(CROOKED)
    with use_device("cuda"):
        there = to_device(images)
    weighted = weighted_views(images, CROOKED, 24.0)
    np.testing.assert_allclose(to_host(weighted_views(there, CROOKED, 24.0)), weighted, atol=1e-5)
    volume = back_project(images, maps, GRID.shape_zyx)
    found = back_project(there, maps, GRID.shape_zyx)
    off = np.abs(to_host(found) - volume) > 2e-3
    assert off.sum() <= 5  # voxels that are seen within a thousandth of a pixel of an edge
    seen, seen_there = (of(made, maps, SHAPE_YX) for of, made in ((re_project, volume), (re_project, found)))
    off = np.abs(to_host(seen_there) - seen) > 5e-3 * seen.std()
    assert off.mean() < 5e-3
    again = to_host(sirt(there, maps, GRID.shape_zyx, iterations=2))
    alone = sirt(images, maps, GRID.shape_zyx, iterations=2)
    assert np.corrcoef(again.ravel(), alone.ravel())[0, 1] > 0.9999


def test_result_does_not_depend_on_threads() -> None:
    images = np.random.default_rng(2).normal(size=(7, *SHAPE_YX)).astype(np.float32)
    maps = maps_of(CROOKED)
    one, many = (back_project(images, maps, GRID.shape_zyx, workers=n) for n in (1, 5))
    assert one.tobytes() == many.tobytes()
    assert re_project(one, maps, SHAPE_YX, workers=1).tobytes() == re_project(one, maps, SHAPE_YX, workers=5).tobytes()


@pytest.mark.parametrize("index", [(4.0, 15.0, 17.0), (3.0, 9.0, 22.0), (5.0, 20.0, 10.0)])
def test_a_point_is_seen_where_the_model_says(index: tuple[float, float, float]) -> None:
    offsets = np.stack(np.meshgrid(*map(np.arange, GRID.shape_zyx), indexing="ij"), axis=-1) - np.array(index)
    blob = np.exp(-(offsets**2).sum(axis=-1) / (2 * 1.2**2)).astype(np.float32)
    images = re_project(blob, maps_of(CROOKED), SHAPE_YX)
    expected = CROOKED.project(GRID.points_of(np.array([index])))[:, 0] / 12.0 + np.array(SHAPE_YX) // 2
    for image, position in zip(images, expected, strict=True):
        np.testing.assert_allclose(ndimage.center_of_mass(image), position, atol=0.06)
    # the integral through a Gaussian does not depend on the view: area of the image times magnification
    volume = blob.sum() * 13.0**3
    areas = images.sum(axis=(1, 2)) * 13.0 * 12.0**2 / CROOKED.magnification**2
    np.testing.assert_allclose(areas, volume, rtol=0.03)


def test_reconstruction_puts_beads_where_they_are() -> None:
    grid = Grid((24, 48, 48), 12.0)
    tilts = np.arange(-60.0, 61.0, 4.0)
    rng = np.random.default_rng(5)
    geometry = ViewGeometry.nominal(tilts, 7.0).replace(shift_yx_angst=rng.normal(0, 15, (len(tilts), 2)))
    points = rng.uniform([-80, -150, -150], [80, 150, 150], (5, 3))
    shape = (64, 64)
    seen = geometry.project(points) / 12.0 + 32
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    images = np.exp(
        -((rows - seen[:, :, 0, None, None]) ** 2 + (columns - seen[:, :, 1, None, None]) ** 2) / (2 * 1.3**2)
    ).sum(axis=1).astype(np.float32)  # fmt: skip
    maps = pixel_maps(geometry, grid, pixel_size_angst=12.0, image_shape_yx=shape)
    weighted = weighted_views(images - images.mean(), geometry, 24.0)
    for volume in (back_project(weighted, maps, grid.shape_zyx), sirt(images, maps, grid.shape_zyx, iterations=8)):
        for point in grid.index_of(points):
            z, y, x = np.round(point).astype(int)
            box = volume[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3]
            box = np.maximum(box - 0.3 * box.max(), 0)
            found = np.add(ndimage.center_of_mass(box), (z - 2, y - 2, x - 2))
            np.testing.assert_allclose(found, point, atol=0.35)


def test_weights_share_what_views_have_in_common() -> None:
    geometry = ViewGeometry.nominal(np.arange(-60.0, 61.0, 3.0), 0.0)
    weights, (rows, columns) = slab_weights(geometry, (64, 64), 30.0)
    assert weights.shape == (41, rows, columns // 2 + 1)
    cosine = np.cos(np.deg2rad(geometry.y_tilt_deg))
    np.testing.assert_allclose(weights[:, 5, 0], cosine / cosine.sum(), rtol=1e-5)  # along the axis all views agree
    assert (np.diff(weights[20, 0, :20]) >= -1e-6).all()  # and the further across it, the less they share
    alone = ViewGeometry.nominal([0.0, 60.0], 0.0)
    assert slab_weights(alone, (64, 64), 100.0)[0][0, 0, -1] == pytest.approx(1.0)


def test_iterations_bring_the_projections_closer() -> None:
    rng = np.random.default_rng(4)
    truth = ndimage.gaussian_filter(rng.normal(size=(12, 40, 40)), 1.5).astype(np.float32)
    geometry = ViewGeometry.nominal(np.arange(-60.0, 61.0, 6.0), 3.0)
    grid = Grid(truth.shape, 12.0)
    maps = pixel_maps(geometry, grid, pixel_size_angst=12.0, image_shape_yx=(40, 40))
    images = re_project(truth, maps, (40, 40))
    left = [
        float(np.std(images - re_project(sirt(images, maps, truth.shape, iterations=n), maps, (40, 40))))
        for n in (1, 4, 12)
    ]
    assert left[0] > 1.5 * left[1] > 2.0 * left[2]


def test_edge_on_views_are_refused() -> None:
    maps = maps_of(ViewGeometry.nominal([0.0, 90.0], 0.0))
    with pytest.raises(ValueError, match="edge-on"):
        re_project(np.ones(GRID.shape_zyx, np.float32), maps, SHAPE_YX)
