"""Images that are binned as they are read, and alignments of them at full size."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.images.prepare import bin_image
from napari_tiltalign.methods.binned import at_full_size, binned_series, start_for_binned
from napari_tiltalign.methods.fiducial import FIDUCIAL, Fiducial
from napari_tiltalign.model import ArrayImage
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import SCENARIOS, simulate

OPTIONS = SCENARIOS["easy"].replace(
    image_rows_px=256, image_columns_px=254, tilt_step_deg=8.0, n_beads=10, texture="none", seed=5
)


@pytest.fixture(scope="module")
def simulated():
    return simulate(OPTIONS)


def test_pixels_are_averaged_when_they_are_read(simulated):
    series = simulated.series
    small = binned_series(series, 3)
    assert (small.pixel_size_angst, small.image_shape_yx) == (series.pixel_size_angst * 3, (85, 84))
    np.testing.assert_array_equal(small.tilts[2].image.read(), bin_image(series.tilts[2].image.read(), 3))
    assert small.tilts[2].image.name == series.tilts[2].image.name
    assert small.tilt_ids == series.tilt_ids
    assert isinstance(series.tilts[2].image, ArrayImage)  # as it was


@pytest.mark.parametrize("factor", [2, 3])
def test_geometry_and_tracks_mean_the_same_at_full_size(simulated, factor):
    truth, series = simulated.truth, simulated.series
    small = start_for_binned(truth, series, factor)
    assert small.image_shape_yx == binned_series(series, factor).image_shape_yx
    again = at_full_size(small, series, factor)
    np.testing.assert_allclose(again.geometry.shift_yx_angst, truth.geometry.shift_yx_angst, atol=1e-9)
    assert (again.pixel_size_angst, again.image_shape_yx) == (truth.pixel_size_angst, truth.image_shape_yx)


def test_row_65_an_alignment_of_binned_images_is_one_of_the_images(simulated):
    series, factor = simulated.series, 2
    found = FIDUCIAL(binned_series(series, factor), Fiducial(diameter_nm=10))
    full = at_full_size(found, series, factor)
    error = difference(full, simulated.truth, thickness_angst=simulated.options.thickness_angst)
    assert error.worst_view_rms_px < 1.0
    # what the geometry predicts of every bead is where the bead was seen
    tracks = full.tracks
    predicted = full.geometry.project(tracks.points_zyx_angst)[tracks.tilt, tracks.track]
    seen = (tracks.position_yx_px - np.array(series.image_shape_yx) // 2) * series.pixel_size_angst
    off_px = np.median(predicted - seen, axis=0) / series.pixel_size_angst
    assert np.abs(off_px).max() < 0.15
    assert full.statistics["residual_rms_px"] == pytest.approx(2 * found.statistics["residual_rms_px"])
