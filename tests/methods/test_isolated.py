"""Projection matching of a specimen that stands alone in vacuum, on simulated needles whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.geometry import RigidMotion, ViewGeometry, rotation_x
from napari_tiltalign.methods.auto import AUTO, Auto
from napari_tiltalign.methods.isolated_model import projection, sections
from napari_tiltalign.methods.isolated_start import centred, first_geometry
from napari_tiltalign.methods.isolated_views import mass_series, shows_isolated_specimen
from napari_tiltalign.methods.projection_matching import PROJECTION_MATCHING, ProjectionMatching
from napari_tiltalign.methods.slab import SLAB, Slab
from napari_tiltalign.model import ArrayImage, Tilt, TiltSeries
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import SCENARIOS, simulate

NEEDLE = SCENARIOS["needle"].replace(tilt_step_deg=4, axis_error_deg=3, n_dark_views=1)


@pytest.fixture(scope="module")
def needle():
    return simulate(NEEDLE)


@pytest.fixture(scope="module")
def aligned(needle):
    return PROJECTION_MATCHING(needle.series, ProjectionMatching())


def found(alignment, sample):
    return difference(alignment, sample.truth, thickness_angst=sample.options.thickness_angst)


def test_a_needle_is_aligned(needle, aligned):
    assert aligned.details["specimen"] == "isolated"
    assert found(aligned, needle).rms_px < 0.7
    assert abs(found(aligned, needle).axis_difference_deg) < 0.5
    np.testing.assert_array_equal(aligned.included, needle.truth.included)
    assert {"no_contrast"} == {flag.name for flag in aligned.flags}


def test_its_first_geometry_is_conservation_of_mass(needle):
    masses = mass_series(needle.series)
    nominal = ViewGeometry.nominal(masses.nominal_tilt_deg, needle.series.nominal_axis_deg)
    geometry = first_geometry(masses, nominal, find_axis=True)
    off = geometry.z_rot_deg[0] - needle.truth.geometry.z_rot_deg.mean()
    assert abs(off) < 0.7  # from 3 degrees
    kept = first_geometry(masses, nominal, find_axis=False)
    np.testing.assert_array_equal(kept.z_rot_deg, nominal.z_rot_deg)


def test_a_frame_is_centred_without_changing_what_views_see(needle):
    masses = mass_series(needle.series)
    true = needle.truth.geometry.take(masses.order)
    moved = true.compose(RigidMotion(np.eye(3), np.array([300.0, 0.0, -200.0])))
    again = centred(masses, moved)
    apart = again.project(np.zeros((1, 3))) - centred(masses, true).project(np.zeros((1, 3)))
    assert np.abs(apart).max() < 20.0


def test_error_bars_and_tracks_agree_with_the_errors(needle, aligned):
    used = aligned.included
    assert np.isfinite(aligned.uncertainty.shift_yx_angst[used]).all()
    assert np.isnan(aligned.uncertainty.shift_yx_angst[~used]).all()
    off = found(aligned, needle).rms_px
    sd = float(np.sqrt(np.mean(aligned.uncertainty.shift_yx_angst[used] ** 2))) / aligned.pixel_size_angst
    assert 0.15 * off < sd < 6.0 * off
    tracks = aligned.tracks
    centre = np.array(aligned.image_shape_yx) // 2
    seen = aligned.geometry.project(tracks.points_zyx_angst)[tracks.tilt, tracks.track] / aligned.pixel_size_angst
    np.testing.assert_allclose(tracks.position_yx_px - seen - centre, tracks.residual_yx_px, atol=1e-6)
    assert aligned.statistics["residual_rms_px"] < 1.0
    assert tracks.n_tracks > 4
    assert np.isfinite(tracks.sd_px).all()


def test_a_start_is_taken_up_whatever_its_frame(needle):
    truth = needle.truth.replace(tracks=None)
    random = np.random.default_rng(2)
    shaken = truth.geometry.shift_yx_angst + random.normal(0, 20.0, (len(truth), 2))
    turned = truth.geometry.replace(shift_yx_angst=shaken).compose(
        RigidMotion(rotation_x(3.0), np.array([400.0, 0, 0]))
    )
    start = truth.replace(geometry=turned)
    better = PROJECTION_MATCHING(needle.series, ProjectionMatching(), start=start)
    assert found(better, needle).rms_px < 0.7 < found(start, needle).rms_px


def test_dark_specimens_and_bright_ones_are_the_same(needle, aligned):
    tilts = tuple(
        Tilt(t.tilt_id, ArrayImage(5000.0 - t.image.read()), t.nominal_tilt_deg, t.nominal_axis_deg)
        for t in needle.series.tilts
    )
    dark = PROJECTION_MATCHING(needle.series.replace(tilts=tilts), ProjectionMatching())
    np.testing.assert_allclose(dark.geometry.shift_yx_angst, aligned.geometry.shift_yx_angst, atol=0.5)


def test_an_axis_that_is_not_refined_stays(needle):
    kept = PROJECTION_MATCHING(needle.series, ProjectionMatching(refine_tilt_axis=False))
    assert kept.axis_deg == pytest.approx(needle.series.nominal_axis_deg, abs=0.4)


def test_slabs_are_not_isolated(needle):
    assert shows_isolated_specimen(needle.series)
    small = {"image_rows_px": 256, "image_columns_px": 256, "pixel_size_angst": 20.0, "tilt_step_deg": 20}
    for name in ("easy", "insitu", "thin", "crowded"):
        slab = simulate(SCENARIOS[name].replace(**small, name="S"))
        assert not shows_isolated_specimen(slab.series), name
    with pytest.raises(MethodFailed, match="views show a specimen that stands alone"):
        PROJECTION_MATCHING(slab.series, ProjectionMatching(specimen="isolated"))


def test_auto_leaves_a_needle_to_projection_matching():
    few = simulate(NEEDLE.replace(tilt_step_deg=8, n_dark_views=0))
    chosen = AUTO(few.series, Auto())
    assert chosen.details["auto"]["method"] == "projection-matching"
    assert found(chosen, few).rms_px < 1.0
    assert "no_slab" in {flag.name for flag in SLAB(few.series, Slab()).flags}


def test_leaving_out_in_closed_form_is_leaving_out():
    random = np.random.default_rng(1)
    tilts, half, rows = np.array([-40.0, -5.0, 20.0, 60.0]), 3, 5
    m = 2 * half + 1
    seen = random.normal(size=(len(tilts) * m, rows)).astype(np.float32)
    model = sections(tilts, half, seen)
    predicted = model.predictions(seen, model.residuals(seen))
    places = np.arange(-half, half + 1)
    z, x = (axis.ravel() for axis in np.meshgrid(places, places, indexing="ij"))
    blobs = np.column_stack([z, x])[np.hypot(z, x) <= half].astype(float)
    matrix = projection(tilts, half, blobs).astype(float)
    for view in range(len(tilts)):
        mine = np.arange(view * m, (view + 1) * m)
        others = np.setdiff1d(np.arange(len(seen)), mine)
        normal = matrix[others].T @ matrix[others] + model.penalty * np.eye(len(blobs))
        expected = matrix[mine] @ np.linalg.solve(normal, matrix[others].T @ seen[others])
        np.testing.assert_allclose(predicted[mine], expected, atol=1e-3)


def test_nothing_but_vacuum_is_refused():
    random = np.random.default_rng(0)
    tilts = tuple(
        Tilt(f"v{k}", ArrayImage(random.normal(100, 5, (96, 96)).astype(np.float32)), tilt, 0.0)
        for k, tilt in enumerate(np.arange(-50.0, 51.0, 10.0).tolist())
    )
    with pytest.raises(MethodFailed, match="stands alone in vacuum"):
        PROJECTION_MATCHING(TiltSeries("TS", tilts, 20.0, (96, 96)), ProjectionMatching(specimen="isolated"))


@pytest.mark.parametrize("specimen", ["auto", "isolated", "slab"])
@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_constant_images_are_a_reasoned_failure(specimen, constant):
    image = np.full((96, 96), constant, np.float32)
    tilts = tuple(Tilt(f"v{k}", ArrayImage(image), 10.0 * k, 0.0) for k in range(6))
    with pytest.raises(MethodFailed, match="TS: only 0 views"):
        PROJECTION_MATCHING(TiltSeries("TS", tilts, 20.0, (96, 96)), ProjectionMatching(specimen=specimen))
