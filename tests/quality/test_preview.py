"""The small tomogram: beads where the truth has them, and the slab found in it."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from fake_cupy import FakeCupy
from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.geometry import RigidMotion, rotation_x, rotation_y
from napari_tiltalign.images.compute import use_device
from napari_tiltalign.model import ArrayImage, TiltSeries
from napari_tiltalign.quality.preview import Preview, preview
from napari_tiltalign.quality.slab import Slab
from napari_tiltalign.quality.working_views import working_views
from napari_tiltalign.simulation import SimulatedSeries


def found_at(shown: Preview, point_zyx: np.ndarray) -> np.ndarray:
    """Where the dark thing nearest to a specimen point is, Angstrom."""
    z, y, x = np.round(shown.grid.index_of(point_zyx)).astype(int)
    box = -shown.volume[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4]
    box = np.maximum(box - 0.4 * box.max(), 0.0)
    return shown.grid.points_of(np.add(ndimage.center_of_mass(box), (z - 3, y - 3, x - 3)))


@pytest.mark.parametrize("algorithm", ["wbp", "sirt"])
def test_beads_are_where_the_truth_has_them(beads: SimulatedSeries, algorithm: str) -> None:
    shown = preview(
        beads.series, beads.truth, level=False, thickness_nm=200, algorithm=algorithm, iterations=2, size_px=160
    )
    assert not shown.levelled
    points = beads.beads.centre_zyx_angst
    index = shown.grid.index_of(points)
    inside = np.all((index > 8) & (index < np.array(shown.volume.shape) - 9), axis=1)
    assert inside.sum() >= 4
    off = np.array([found_at(shown, point) - point for point in points[inside]])
    assert np.median(np.abs(off[:, 1:])) < 0.35 * shown.grid.voxel_angst
    assert np.median(np.abs(off[:, 0])) < 0.7 * shown.grid.voxel_angst  # the missing wedge blurs along z


@pytest.mark.parametrize("algorithm", ["wbp", "sirt"])
def test_the_gpu_gives_the_same(no_beads: SimulatedSeries, gpu: ModuleType, algorithm: str) -> None:
    alone = preview(no_beads.series, no_beads.truth, size_px=64, algorithm=algorithm, iterations=2)
    with use_device("cuda"):
        there = preview(no_beads.series, no_beads.truth, size_px=64, algorithm=algorithm, iterations=2)
    assert there.slab.thickness_angst == pytest.approx(alone.slab.thickness_angst, rel=1e-3)
    assert there.volume.shape == alone.volume.shape
    assert np.abs(there.volume - alone.volume).std() < 2e-3 * alone.volume.std()
    if isinstance(gpu, FakeCupy):
        assert 0 < gpu.uploads < 80


def test_slab_is_found_and_levelled(no_beads: SimulatedSeries) -> None:
    motion = RigidMotion(rotation_y(6.0) @ rotation_x(-3.0), np.array([150.0, 0.0, 0.0]))
    tilted = no_beads.truth.replace(geometry=no_beads.truth.geometry.compose(motion))
    shown = preview(no_beads.series, tilted, size_px=96)
    level = preview(no_beads.series, no_beads.truth, size_px=32).slab
    assert shown.levelled
    assert shown.slab.thickness_angst / 10 == pytest.approx(no_beads.options.thickness_nm, rel=0.2)
    # what is in the slab is uneven, so that its level is known to a degree or two; a change of it is seen better
    assert shown.slab.tilt_about_y_deg - level.tilt_about_y_deg == pytest.approx(6.0, abs=1.5)
    assert shown.slab.tilt_about_x_deg - level.tilt_about_x_deg == pytest.approx(-3.0, abs=1.5)
    assert shown.slab.height_angst == pytest.approx(motion.inverse().apply(np.zeros(3))[0], abs=60)
    bottom, top = shown.slab_edges_voxels().T
    np.testing.assert_allclose((bottom + top) / 2, shown.volume.shape[0] // 2)
    np.testing.assert_allclose((top - bottom) * shown.grid.voxel_angst, shown.slab.thickness_angst)


def test_levelling_takes_the_midplane_to_height_zero() -> None:
    slab = Slab(
        120.0,
        900.0,
        tilt_about_y_deg=8.0,
        tilt_about_x_deg=-5.0,
        contrast=9.0,
        height_sd_angst=20.0,
        thickness_sd_angst=40.0,
        tilt_sd_deg=1.0,
        reach=0.5,
    )
    plane = np.array([[0.0, 300.0, -500.0], [0.0, -700.0, 200.0], [0.0, 0.0, 0.0]])
    found = slab.levelling().apply(plane)
    slope = np.linalg.solve(found[:2, 1:], found[:2, 0] - 120.0)
    np.testing.assert_allclose(found[2], [120.0, 0.0, 0.0], atol=1e-9)
    assert np.rad2deg(np.arctan(slope[1])) == pytest.approx(8.0, abs=0.1)
    assert np.rad2deg(np.arctan(slope[0])) == pytest.approx(5.0, abs=0.1)


def test_sections_and_bytes_are_the_same_again(no_beads: SimulatedSeries) -> None:
    one, two = (preview(no_beads.series, no_beads.truth, size_px=64, thickness_nm=150, level=False) for _ in range(2))
    assert one.volume.tobytes() == two.volume.tobytes()
    z, y, x = one.volume.shape
    assert {name: image.shape for name, image in one.slices().items()} == {"xy": (y, x), "xz": (z, x), "yz": (y, z)}
    assert one.slab_edges_voxels().shape == (2, 2)


def with_image(series: TiltSeries, view: int, pixels: np.ndarray) -> TiltSeries:
    """The series with another image in one view."""
    tilts = list(series.tilts)
    tilts[view] = replace(tilts[view], image=ArrayImage(pixels.astype(np.float32)))
    return series.replace(tilts=tuple(tilts))


def test_a_view_has_no_part_in_its_own_prediction(beads: SimulatedSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    view, rng = 9, np.random.default_rng(5)
    # the tomogram is as high and stands where the slab does, which is found with all views
    slab = preview(beads.series, beads.truth, size_px=32).slab
    monkeypatch.setattr("napari_tiltalign.quality.preview.locate_slab", lambda *_: slab)
    other = with_image(beads.series, view, rng.normal(size=beads.series.image_shape_yx))
    one = preview(beads.series, beads.truth, size_px=116, thickness_nm=150, level=False)
    monkeypatch.setattr(
        "napari_tiltalign.quality.preview.locate_slab", lambda *_: one.slab
    )  # noise may hide where the specimen is
    two = preview(other, beads.truth, size_px=116, thickness_nm=150, level=False)
    assert np.abs(one.volume - two.volume).max() > 0.02 * np.abs(one.volume).max(), "the views differ"
    difference = np.abs(one.predicted(view) - two.predicted(view)).max()
    assert difference < 1e-3 * np.abs(one.predicted(view)).max()
    assert np.abs(one.predicted(view + 1) - two.predicted(view + 1)).max() > 20 * difference


def test_views_look_like_what_the_others_predict(beads: SimulatedSeries) -> None:
    shown = preview(beads.series, beads.truth, size_px=116, thickness_nm=150, level=False)
    small = working_views(beads.series, [116])[0].images
    likeness = []
    for view in np.flatnonzero(beads.truth.included).tolist():
        predicted, seen = (ndimage.gaussian_filter(image, 1.0) for image in (shown.predicted(view), small[view]))
        likeness.append(np.corrcoef(predicted.ravel(), seen.ravel())[0, 1])
    assert np.median(likeness) > 0.4
    moved = np.corrcoef(shown.predicted(12).ravel(), np.roll(small[12], 4, axis=0).ravel())[0, 1]
    assert moved < 0.5 * np.median(likeness)


def test_no_view_can_be_taken_out_of_an_iterative_tomogram(no_beads: SimulatedSeries) -> None:
    made = preview(no_beads.series, no_beads.truth, size_px=58, algorithm="sirt", iterations=1)
    with pytest.raises(ValueError, match="iterations"):
        made.predicted(0)


def test_other_images_and_too_few_views_are_refused(no_beads: SimulatedSeries) -> None:
    series, truth = no_beads.series, no_beads.truth
    with pytest.raises(BadInput, match="images of the series"):
        preview(series, truth.take(series.tilt_ids[::-1]))
    few = series.with_exclusions(dict.fromkeys(series.tilt_ids[3:], "test"))
    with pytest.raises(BadTiltSeries, match="only 3 views"):
        preview(few, truth)
