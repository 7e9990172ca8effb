"""The tiles of a slab as tracks: displacements that are there are found, and heights are kept."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.methods.flat_series import flat_series, level_of
from napari_tiltalign.methods.projection import SHIFT_Y, views_from_geometry
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.methods.slab import SLAB, Slab, scales
from napari_tiltalign.methods.slab_model import SlabModel, precisions, sight
from napari_tiltalign.methods.slab_signal import fit_signal
from napari_tiltalign.methods.slab_tiles import blocks_of, plane_matrices, tile_centres, tile_spectra
from napari_tiltalign.methods.slab_tracks import displacements
from napari_tiltalign.model.alignment import FOLLOWED_AREA_KEY
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import Simulation, simulate

BARE = Simulation(
    image_rows_px=240, image_columns_px=256, pixel_size_angst=20, tilt_step_deg=6, n_beads=0, texture="particles",
    thickness_nm=80,
)  # fmt: skip
SLANTED = BARE.model_copy(update={"pretilt_deg": -6.0})
OFF_YX_ANGST = np.array([24.0, -30.0])
"""What one view is wrong by: more than a pixel."""


@pytest.fixture(scope="module")
def bare():
    return simulate(BARE)


@pytest.fixture(scope="module")
def slanted():
    return simulate(SLANTED)


@pytest.fixture(scope="module")
def aligned(slanted):
    return SLAB(slanted.series, Slab())


def displaced_at(bare, wrong_view, off_yx_angst):
    """Displacements of tiles, in the specimen plane, for the true geometry with one view (by tilt) wrong."""
    scale = scales(bare.series)[-1]
    flat = flat_series(bare.series, scale.pitch_angst)
    level = level_of(flat, scale.pitch_angst)
    views = views_from_geometry(bare.truth.geometry, 1.0)[flat.order]
    views[wrong_view, SHIFT_Y:] += off_yx_angst
    centres = tile_centres(views, 0.0, level.series.field_yx_angst, scale.size_angst)
    spectra = tile_spectra(level, scale, views, 0.0, centres)
    seen = sight(spectra, views, 0.0, 800.0)
    model = fit_signal(spectra, seen, SlabModel.first_guess(800.0, len(views)))
    found = displacements(spectra, precisions(spectra, seen, model, blocks_of(spectra.shown)))
    return found, plane_matrices(views, 0.0)[0]


@pytest.mark.parametrize("wrong_view", [6, 14])
def test_a_view_that_is_wrong_is_seen_to_be_displaced(bare, wrong_view):
    found, to_plane = displaced_at(bare, wrong_view, OFF_YX_ANGST)
    expected = to_plane[wrong_view] @ -OFF_YX_ANGST
    seen = np.nanmedian(found.plane_yx_angst[:, wrong_view], axis=0)
    np.testing.assert_allclose(seen, expected, atol=0.4 * np.linalg.norm(expected))
    elsewhere = np.nanmedian(np.abs(np.delete(found.plane_yx_angst, wrong_view, axis=1)))
    assert elsewhere < 0.3 * np.linalg.norm(expected)


def test_displacements_have_the_spread_that_is_told(bare):
    found, _ = displaced_at(bare, 0, np.zeros(2))
    squares = (np.square(found.plane_yx_angst).sum(axis=2) / found.sd_angst**2)[np.isfinite(found.sd_angst)]
    assert np.median(squares) == pytest.approx(2.0 * np.log(2.0), rel=0.1)


def test_tiles_come_as_tracks_with_heights(slanted, aligned):
    tracks = aligned.tracks
    assert aligned.details[FOLLOWED_AREA_KEY] == pytest.approx(scales(slanted.series)[-1].size_angst / 10.0)
    assert tracks.n_tracks >= 20
    assert tracks.used.mean() > 0.8
    np.testing.assert_allclose(np.sort(tracks.points_zyx_angst[:, 0]), np.sort(_told_heights(aligned)), atol=0.2)
    expected = aligned.geometry.project(tracks.points_zyx_angst)[tracks.tilt, tracks.track] / 20.0
    seen = tracks.position_yx_px - np.array(slanted.series.image_shape_yx) // 2
    np.testing.assert_allclose(seen - expected, tracks.residual_yx_px, atol=1e-9)
    assert aligned.statistics["residual_rms_px"] < 0.5


def _told_heights(alignment):
    return 10.0 * np.array(alignment.details["tiles_zyx_nm"])[:, 0]


def test_tilts_that_stay_turn_the_tiles_along(slanted, aligned):
    """The same images, another coordinate system: tiles are seen where they were."""
    assert abs(aligned.statistics["tilt_offset_deg"]) > 4.0
    left = SLAB(slanted.series, Slab(tilt_angle_offset="off"))
    np.testing.assert_array_equal(left.tracks.tilt, aligned.tracks.tilt)
    np.testing.assert_allclose(left.tracks.position_yx_px, aligned.tracks.position_yx_px, atol=1e-6)


def test_solving_again_from_tiles_keeps_the_alignment(slanted, aligned):
    """So that curation and exclusions work on it as on beads."""
    thickness = SLANTED.thickness_angst
    before = difference(aligned, slanted.truth, thickness_angst=thickness).rms_px
    without = aligned.included.copy()
    without[3] = False
    for included in (aligned.included, without):
        again = resolve(aligned.replace(included=included), aligned.tracks)
        assert difference(again, slanted.truth, thickness_angst=thickness).rms_px < before + 0.06
