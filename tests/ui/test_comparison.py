"""What images are compared with: in a common frame, blinking or in colours, and gone when nothing is compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Vectors
from scipy import ndimage

from napari_tiltalign.geometry import RigidMotion, ViewGeometry, rotation_y
from napari_tiltalign.images.prepare import bin_image
from napari_tiltalign.images.project import Grid, back_project, pixel_maps, re_project
from napari_tiltalign.quality.preview import Parts, Preview
from napari_tiltalign.quality.slab import Slab
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment, EditTracks, UseAlignment
from napari_tiltalign.ui.comparison import (
    REPROJECTION,
    Comparison,
    How,
    in_common_frame,
    in_grey_values,
    reprojected_stack,
)
from napari_tiltalign.ui.comparison_layers import COMPARED, ComparisonLayers
from napari_tiltalign.ui.judged import Judged
from napari_tiltalign.ui.layers import ALIGNED
from napari_tiltalign.ui.tomogram_layers import (
    HEIGHTS_XZ,
    SECTION_XY,
    SECTION_XZ,
    SLAB,
    points_in_section,
    slab_lines,
)

pytestmark = pytest.mark.gui

VOXEL_ANGST = 20.0


def tomogram(geometry: ViewGeometry) -> Preview:
    """A dark bead in the middle of an empty slab of 80 Angstrom."""
    grid = Grid((8, 48, 40), VOXEL_ANGST)
    volume = np.zeros(grid.shape_zyx, np.float32)
    volume[4, 24, 20] = -100.0
    return Preview(
        volume, grid, geometry, Slab(0.0, 80.0, 0.0, 0.0, 10.0, 2.0, 4.0, 1.0, 0.4), levelled=True, algorithm="wbp"
    )


@pytest.fixture
def layers(dataset, truth):
    """Layers of a viewer without a window, with two alignments that differ by a turn of the specimen and one shift."""
    viewer = ViewerModel()
    layers = layers_of(viewer)
    turned = truth.geometry.compose(RigidMotion(rotation_y(5.0), np.array([0.0, 30.0, -20.0])))
    layers.session.open(dataset)
    layers.session.do(AddAlignment("turned", truth.replace(geometry=turned)))
    layers.session.do(AddAlignment("exact", truth))
    yield layers
    del viewer  # nothing else has kept it alive


def test_a_turn_of_the_specimen_is_no_difference(layers, truth):
    turned = layers.session.work.candidates["turned"].alignment
    assert np.abs(turned.geometry.y_tilt_deg - truth.geometry.y_tilt_deg).max() > 4.0
    together = in_common_frame(turned, truth)
    np.testing.assert_allclose(together.y_tilt_deg, truth.geometry.y_tilt_deg, atol=1e-3)
    np.testing.assert_allclose(together.shift_yx_angst, truth.geometry.shift_yx_angst, atol=0.1)


def test_another_alignment_blinks_over_the_aligned_images(layers):
    session = layers.session
    session.compare(Comparison("turned", How.BLINK))
    assert session.shows_aligned
    layer = layers.layer(COMPARED)
    view = layers.current_rank()
    same = np.nanmax(np.abs(layer.data.image(view) - layers.layer(ALIGNED).data.image(view)))
    assert same < 1.0, "the two differ by what no image can tell"
    assert layers.text.shown.endswith("turned")
    session.compare(Comparison())
    assert layers.layer(COMPARED) is None
    assert not layers.text.shown.endswith("turned")


def test_blinking_shows_one_after_the_other(layers):
    comparison = ComparisonLayers(layers)
    layers.session.compare(Comparison("turned", How.BLINK))
    before = layers.layer(COMPARED).visible
    comparison._blink()
    assert layers.layer(COMPARED).visible is not before
    assert layers.text.shown.endswith("exact")


def test_an_overlay_is_in_colours_which_go_with_it(layers):
    layers.session.compare(Comparison("turned", How.OVERLAY))
    assert layers.layer(COMPARED).colormap.name == "green"
    assert layers.layer(ALIGNED).colormap.name == "magenta"
    layers.session.compare(Comparison())
    assert layers.layer(ALIGNED).colormap.name == "gray"


def test_what_cannot_be_compared_any_more_goes(layers):
    layers.session.compare(Comparison("turned", How.BLINK))
    layers.session.show("TS_2")
    assert layers.session.comparison == Comparison()
    assert layers.layer(COMPARED) is None


def test_a_tomogram_is_seen_as_every_view_sees_it(series, truth):
    stack, binning = reprojected_stack(series, tomogram(truth.geometry))
    assert binning == 2
    assert stack.shape == (13, 48, 40)
    for view, index in enumerate(series.tilt_order().tolist()):
        y, x = np.unravel_index(np.argmin(stack.image(view)), (48, 40))
        expected = truth.geometry.project(np.zeros((1, 3)))[index, 0] / VOXEL_ANGST + 24.0 * np.array([1, 40 / 48])
        assert np.abs(np.array([y, x]) - expected).max() < 1.5


def test_the_reprojection_leaves_the_view_out(series, truth):
    """A tomogram that is the sum of what two views brought: each is predicted by the other one alone."""
    made = tomogram(truth.geometry)
    maps = pixel_maps(made.geometry, made.grid, pixel_size_angst=10.0, image_shape_yx=(96, 80), binning=2)
    images = np.zeros((13, 48, 40), np.float32)
    one, other = series.tilt_order()[[5, 8]]
    images[one, 24, 20], images[other, 10, 12] = 1.0, 1.0
    volume = back_project(images[[one, other]], maps[[one, other]], made.grid.shape_zyx)
    stack, binning = reprojected_stack(series, replace(made, volume=volume, parts=Parts(images, maps, 2)))
    assert binning == 2
    only = {tilt: back_project(images[[tilt]], maps[[tilt]], made.grid.shape_zyx) for tilt in (one, other)}
    for rank, tilt, rest in ((5, one, only[other]), (8, other, only[one]), (6, series.tilt_order()[6], volume)):
        expected = re_project(rest, maps[[tilt]], (48, 40))[0]
        assert expected.max() > 0
        seen = bin_image(series.tilts[tilt].image.read(), 2)
        np.testing.assert_allclose(stack.image(rank), in_grey_values(expected, seen), atol=1e-3)


def test_a_prediction_gets_the_background_and_the_contrast_of_its_view():
    rng = np.random.default_rng(2)
    predicted = ndimage.gaussian_filter(rng.normal(size=(120, 100)), 1.5).astype(np.float32)
    predicted -= ndimage.gaussian_filter(predicted, 15.0)
    slope = np.linspace(90.0, 110.0, 100, dtype=np.float32)
    seen = (slope + 7.0 * predicted + rng.normal(0.0, 1.0, (120, 100))).astype(np.float32)
    seen[3, 5] = np.nan
    grey = in_grey_values(predicted, seen)
    inside = np.s_[30:-30, 30:-30]
    np.testing.assert_allclose(grey[inside], (slope + 7.0 * predicted)[inside], atol=0.5)


def test_the_reprojection_is_compared_with_raw_and_with_aligned_images(layers, truth):
    session = layers.session
    session.compare(Comparison(REPROJECTION, How.BLINK))
    assert layers.layer(COMPARED) is None, "there is no tomogram yet"
    session.judged.keep_tomogram(truth, tomogram(truth.geometry))
    assert isinstance(layers.layer(COMPARED), Image)
    raw = layers.layer(COMPARED).data
    session.show_aligned(True)
    assert layers.layer(COMPARED).data is not raw
    middle = np.unravel_index(np.nanargmin(layers.layer(COMPARED).data.image(6)), (48, 40))
    assert np.abs(np.array(middle) - [24, 20]).max() <= 1, "aligned, the middle is in the middle"


def test_in_colours_a_prediction_has_the_contrast_of_its_view(layers, truth):
    session = layers.session
    session.judged.keep_tomogram(truth, tomogram(truth.geometry))
    session.compare(Comparison(REPROJECTION, How.OVERLAY))
    assert layers.layer(COMPARED).contrast_limits == layers.raw_layer().contrast_limits
    session.compare(Comparison(REPROJECTION, How.BLINK))
    assert layers.layer(COMPARED).contrast_limits != layers.raw_layer().contrast_limits


def test_sections_and_slab_are_layers_beside_the_images(layers, series, truth):
    layers.session.judged.keep_tomogram(truth, tomogram(truth.geometry))
    xy, xz, slab = (layers.layer(role) for role in (SECTION_XY, SECTION_XZ, SLAB))
    assert xy.translate[1] > series.image_shape_yx[1] * series.pixel_size_angst
    assert xz.translate[0] > xy.translate[0] + 48 * VOXEL_ANGST
    assert isinstance(slab, Vectors)
    lower, upper = slab_lines(tomogram(truth.geometry))
    assert upper[0, 0] - lower[0, 0] == pytest.approx(80.0 / VOXEL_ANGST)
    layers.session.do(UseAlignment("turned"))
    assert layers.layer(SECTION_XY) is None, "it is the tomogram of another alignment"
    layers.session.do(UseAlignment("exact"))
    assert layers.layer(SECTION_XY) is not None


def test_what_is_followed_is_seen_from_the_side(layers, truth):
    """Whether or not the tomogram is levelled, a bead is where the section shows its density."""
    deep = Grid((40, 48, 40), VOXEL_ANGST)
    slab = Slab(40.0, 300.0, 4.0, -3.0, 10.0, 2.0, 4.0, 1.0, 0.4)
    for levelled in (False, True):
        geometry = truth.geometry.compose(slab.levelling()) if levelled else truth.geometry
        made = Preview(np.zeros(deep.shape_zyx, np.float32), deep, geometry, slab, levelled, "wbp")
        place, inside = points_in_section(truth, made)
        assert inside.all()
        y = slab.levelling().inverse().apply(truth.tracks.points_zyx_angst)[:, 1] if levelled else None
        voxels = np.column_stack([place[:, 0], deep.index_of(np.zeros((7, 3)))[:, 1], place[:, 1]])
        voxels[:, 1] = (truth.tracks.points_zyx_angst[:, 1] if y is None else y) / VOXEL_ANGST + 24
        seen, expected = geometry.project(deep.points_of(voxels)), truth.geometry.project(truth.tracks.points_zyx_angst)
        np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_heights_are_drawn_over_the_section_and_go_with_it(layers, truth):
    assert layers.layer(HEIGHTS_XZ) is None
    layers.session.judged.keep_tomogram(truth, tomogram(truth.geometry))
    heights, section = layers.layer(HEIGHTS_XZ), layers.layer(SECTION_XZ)
    np.testing.assert_array_equal(heights.translate, section.translate)
    place, inside = points_in_section(truth, tomogram(truth.geometry))
    np.testing.assert_allclose(heights.data, place[inside])
    assert 0 < inside.sum() < 7, "some beads are above or below what the tomogram shows"
    assert list(layers.viewer.layers).index(heights) > list(layers.viewer.layers).index(section)
    layers.session.do(UseAlignment("turned"))
    assert layers.layer(HEIGHTS_XZ) is None


def test_an_edited_alignment_has_no_tomogram(layers, truth, qtbot):
    layers.session.judged.keep_tomogram(truth, tomogram(truth.geometry))
    layers.session.do(EditTracks("delete", {"track_id": 2}))
    assert layers.session.judged.tomogram_of(layers.session.alignment) is None
    qtbot.waitUntil(lambda: layers.session.candidate.solved, timeout=20_000)
    assert layers.layer(SECTION_XY) is None


def test_only_the_last_tomograms_are_kept(truth):
    judged, made = Judged(), tomogram(truth.geometry)
    alignments = [truth.replace() for _ in range(6)]
    for alignment in alignments:
        judged.keep_tomogram(alignment, made)
    assert [judged.tomogram_of(alignment) is made for alignment in alignments] == [False, False, True, True, True, True]
    judged.forget()
    assert judged.tomogram_of(alignments[-1]) is None
