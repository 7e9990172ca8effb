"""First shifts by a robust graph of pairs: known shifts come back, and what is not known is said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_tiltalign.errors import BadTiltSeries, MethodFailed
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods.flat_series import flat_series
from napari_tiltalign.methods.pair_graph import best_on_grid, coarse_level, find_shifts, score_orientations
from napari_tiltalign.model import ArrayImage, Tilt, TiltSeries

PIXEL_ANGST = 20.0
TILTS_DEG = np.arange(-60.0, 61.0, 6.0)
AXIS_DEG = 12.0
THICKNESS_ANGST = 600.0


def slab_points(seed):
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-9000.0, 9000.0, (2500, 2))
    return np.column_stack([rng.uniform(-0.5, 0.5, len(xy)) * THICKNESS_ANGST, xy])


def seen(geometry, points, shape, seed):
    """Images of dark blobs with noise."""
    images = []
    rng = np.random.default_rng(seed)
    for positions in geometry.project(points) / PIXEL_ANGST + np.array(shape) // 2:
        image = np.zeros(shape)
        inside = ((positions >= 0) & (positions < np.array(shape) - 1)).all(axis=1)
        np.add.at(image, tuple(np.round(positions[inside]).astype(int).T), -1.0)
        image = ndimage.gaussian_filter(image, 1.5)
        images.append((100.0 + 300.0 * image + rng.normal(0, 5.0, shape)).astype(np.float32))
    return images


def series_of(images, tilts=TILTS_DEG, excluded=()):
    views = [
        Tilt(f"v{i}", ArrayImage(image), float(t), AXIS_DEG)
        for i, (image, t) in enumerate(zip(images, tilts, strict=True))
    ]
    series = TiltSeries("TS", tuple(views), PIXEL_ANGST, images[0].shape)
    return series.with_exclusions({f"v{i}": "by hand" for i in excluded})


def geometry_with_shifts(seed, jumps=0, field_angst=(5120.0, 5120.0)):
    rng = np.random.default_rng(seed)
    shift = rng.uniform(-0.04, 0.04, (len(TILTS_DEG), 2)) * field_angst
    for view in rng.choice(len(TILTS_DEG), jumps, replace=False):
        turn = rng.uniform(0, 2 * np.pi)
        shift[view:] += 0.3 * np.array([np.sin(turn), np.cos(turn)]) * field_angst
        shift[view:] -= np.round(shift[view:].mean(axis=0) / np.array(field_angst)) * field_angst
    shift = np.clip(shift, -0.35 * np.array(field_angst), 0.35 * np.array(field_angst))
    return ViewGeometry.nominal(TILTS_DEG, AXIS_DEG).replace(shift_yx_angst=shift)


def shift_error_angst(found, true, views):
    """In the specimen plane, without a common displacement."""
    matrices = true.rotations()[:, :2, :2][:, ::-1, ::-1]
    apart = np.linalg.solve(matrices, (found.shift_yx_angst - true.shift_yx_angst)[..., None])[..., 0][views]
    return np.abs(apart - np.median(apart, axis=0)).max()


@pytest.mark.parametrize(
    ("seed", "shape", "jumps"), [(1, (256, 256), 0), (2, (256, 256), 2), (3, (200, 300), 1)], ids=str
)
def test_known_shifts_come_back(seed, shape, jumps):
    true = geometry_with_shifts(seed, jumps, np.array(shape) * PIXEL_ANGST)
    series = series_of(seen(true, slab_points(seed), shape, seed))
    flat = flat_series(series, 20.0)
    found = find_shifts(coarse_level(flat), ViewGeometry.nominal(TILTS_DEG, AXIS_DEG), THICKNESS_ANGST)
    assert found.tied.all()
    assert found.significance.min() > 8.0
    assert shift_error_angst(found.geometry, true, slice(None)) < 3.0 * PIXEL_ANGST


def test_a_view_of_something_else_is_named():
    true = geometry_with_shifts(5)
    images = seen(true, slab_points(5), (256, 256), 5)
    images[7] = seen(true, slab_points(99), (256, 256), 6)[7]
    images[12] = np.random.default_rng(0).normal(100.0, 5.0, (256, 256)).astype(np.float32)
    found = find_shifts(
        coarse_level(flat_series(series_of(images), 20.0)), ViewGeometry.nominal(TILTS_DEG, AXIS_DEG), THICKNESS_ANGST
    )
    assert np.flatnonzero(~found.tied).tolist() == [7, 12]
    assert shift_error_angst(found.geometry, true, found.tied) < 3.0 * PIXEL_ANGST


def test_nothing_is_tied_where_no_view_shows_the_same():
    rng = np.random.default_rng(3)
    images = [rng.normal(100.0, 5.0, (256, 256)).astype(np.float32) for _ in TILTS_DEG]
    found = find_shifts(
        coarse_level(flat_series(series_of(images), 20.0)), ViewGeometry.nominal(TILTS_DEG, AXIS_DEG), THICKNESS_ANGST
    )
    assert found.tied.sum() <= 2


def test_bad_and_excluded_views_take_no_part():
    true = geometry_with_shifts(6)
    images = seen(true, slab_points(6), (256, 256), 6)
    images[3] = np.random.default_rng(0).poisson(3.0, (256, 256)).astype(np.float32)
    images[9] = np.full((256, 256), 100.0, np.float32)
    images[15][:, :110] *= 0.05
    shuffled = np.random.default_rng(0).permutation(len(images))
    series = series_of([images[i] for i in shuffled], TILTS_DEG[shuffled], excluded=[int(np.argmax(shuffled == 18))])
    flat = flat_series(series, 20.0)
    assert dict(flat.bad) == {3: "dark", 9: "no_contrast", 15: "blocked"}
    assert np.flatnonzero(~flat.usable).tolist() == [3, 9, 15, 18]
    found = find_shifts(coarse_level(flat), ViewGeometry.nominal(TILTS_DEG, AXIS_DEG), THICKNESS_ANGST)
    np.testing.assert_array_equal(found.tied, flat.usable)
    assert shift_error_angst(found.geometry, true, found.tied) < 3.0 * PIXEL_ANGST


def test_orientation_of_a_pretilted_slab_with_a_wrong_axis():
    true = geometry_with_shifts(8)
    turned = true.replace(y_tilt_deg=TILTS_DEG + 8.0, z_rot_deg=true.z_rot_deg + 4.0)
    level = coarse_level(flat_series(series_of(seen(turned, slab_points(8), (256, 256), 8)), 20.0))
    found = find_shifts(level, ViewGeometry.nominal(TILTS_DEG, AXIS_DEG), THICKNESS_ANGST).geometry
    offsets = np.arange(-10.0, 10.1, 5.0)
    offset = best_on_grid(
        offsets,
        score_orientations(level, found, THICKNESS_ANGST, tilt_offsets_deg=offsets, turns_deg=np.zeros(len(offsets))),
    )
    turns = np.arange(-7.5, 7.6, 2.5)
    turn = best_on_grid(
        turns,
        score_orientations(
            level, found, THICKNESS_ANGST, tilt_offsets_deg=np.full(len(turns), offset), turns_deg=turns
        ),
    )
    assert offset == pytest.approx(8.0, abs=3.0)
    assert turn == pytest.approx(4.0, abs=1.5)


def test_best_on_grid_is_the_vertex():
    values = np.arange(5.0)
    assert best_on_grid(values, -((values - 2.3) ** 2)) == pytest.approx(2.3)
    assert best_on_grid(values, values) == 4.0


def test_too_few_good_views_are_refused():
    images = [np.zeros((64, 64), np.float32)] * len(TILTS_DEG)
    with pytest.raises(MethodFailed, match="3 are needed"):
        flat_series(series_of(images), 20.0)


def test_unreadable_series_is_refused():
    class Broken:
        name = "broken"

        def load(self):
            raise BadTiltSeries("TS", "file is cut short")

    images = [np.ones((64, 64), np.float32)] * len(TILTS_DEG)
    series = series_of(images)
    tilts = tuple(Tilt(t.tilt_id, Broken(), t.nominal_tilt_deg) for t in series.tilts)
    with pytest.raises(BadTiltSeries, match="cannot be read; first: TS: file is cut short"):
        flat_series(series.replace(tilts=tilts), 20.0)
