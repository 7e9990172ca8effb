"""The method `slab` on simulated series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from fake_cupy import FakeCupy
from napari_tiltalign.errors import BadTiltSeries, Cancelled, MethodFailed
from napari_tiltalign.images.compute import use_device
from napari_tiltalign.methods.fiducial import Fiducial
from napari_tiltalign.methods.slab import SLAB, Slab, scales
from napari_tiltalign.model import ArrayImage, Tilt, TiltSeries
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import Simulation, simulate

BARE = Simulation(
    image_rows_px=240, image_columns_px=256, pixel_size_angst=20, tilt_step_deg=6, n_beads=0, texture="particles",
    thickness_nm=80, pretilt_deg=-6, n_dark_views=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def bare():
    return simulate(BARE)


@pytest.fixture(scope="module")
def aligned_bare(bare):
    return SLAB(bare.series, Slab())


def error_px(alignment, sample):
    return difference(alignment, sample.truth, thickness_angst=sample.options.thickness_angst).rms_px


def test_a_series_without_beads_is_aligned(bare, aligned_bare):
    found = difference(aligned_bare, bare.truth, thickness_angst=BARE.thickness_angst)
    assert found.rms_px < 0.25
    assert found.worst_view_rms_px < 0.6
    assert abs(found.axis_difference_deg) < 0.2
    assert not found.hand_flipped
    np.testing.assert_array_equal(aligned_bare.included, bare.truth.included)
    assert [reason for reason in aligned_bare.reasons if reason] == ["dark"]
    assert [flag.name for flag in aligned_bare.flags] == ["dark_view"]


def test_the_slab_comes_out_level_and_as_thick_as_it_is(bare, aligned_bare):
    motion = difference(aligned_bare, bare.truth, thickness_angst=BARE.thickness_angst).motion
    normal = motion.rotation[:, 2]
    assert np.abs(np.rad2deg(normal[:2])).max() < 1.5
    assert aligned_bare.statistics["tilt_offset_deg"] == pytest.approx(-6.0, abs=1.5)
    assert aligned_bare.statistics["thickness_nm"] == pytest.approx(80.0, rel=0.35)


def test_same_input_same_result(bare, aligned_bare):
    again = SLAB(bare.series, Slab())
    np.testing.assert_array_equal(again.geometry.shift_yx_angst, aligned_bare.geometry.shift_yx_angst)


def test_the_gpu_gives_the_same(bare, aligned_bare, gpu):
    with use_device("cuda"):
        again = SLAB(bare.series, Slab())
    if isinstance(
        gpu, FakeCupy
    ):  # images go up once for every scale, and not their tiles but what they tell comes back
        images = 4.0 * len(bare.series) * BARE.image_rows_px * BARE.image_columns_px
        assert 0 < gpu.uploaded_bytes < 20 * images
        assert 0 < gpu.downloaded_bytes < 20 * images
    found = difference(again, aligned_bare, thickness_angst=BARE.thickness_angst)
    assert found.rms_px < 0.01
    assert again.statistics["thickness_nm"] == pytest.approx(aligned_bare.statistics["thickness_nm"], rel=0.01)


def test_without_an_offset_the_tilts_stay_and_the_images_see_the_same(bare, aligned_bare):
    left = SLAB(bare.series, Slab(tilt_angle_offset="off"))
    off = left.geometry.y_tilt_deg - bare.series.nominal_tilt_deg
    assert abs(off[left.included].mean()) < 0.3
    assert error_px(left, bare) == pytest.approx(error_px(aligned_bare, bare), abs=0.01)


def test_a_given_offset_is_what_the_tilts_get(bare):
    given = SLAB(bare.series, Slab(tilt_angle_offset="given", tilt_angle_offset_deg=-5.0))
    off = given.geometry.y_tilt_deg - bare.series.nominal_tilt_deg
    assert off[given.included].mean() == pytest.approx(-5.0, abs=0.3)
    assert error_px(given, bare) < 0.3


def test_without_magnification_it_is_nearly_as_good(bare, aligned_bare):
    unit = aligned_bare.unit_magnification_geometry
    np.testing.assert_allclose(unit.magnification, 1.0)
    assert not np.allclose(aligned_bare.geometry.magnification, 1.0, atol=1e-6)
    assert error_px(aligned_bare.replace(geometry=unit), bare) < error_px(aligned_bare, bare) + 0.1


def test_every_view_is_predicted_by_the_others(aligned_bare):
    told = aligned_bare.details["prediction"]
    assert [value is None for value in told] == [not used for used in aligned_bare.included]
    assert min(value for value in told if value is not None) > 0.05


def test_error_bars_cover_the_errors(bare, aligned_bare):
    """In units of the error bars the shifts, after the common motion, are off by about 1."""
    used = aligned_bare.included & bare.truth.included
    motion = difference(aligned_bare, bare.truth, thickness_angst=BARE.thickness_angst).motion
    found, true = aligned_bare.geometry.compose(motion).take(used), bare.truth.geometry.take(used)
    sd = aligned_bare.uncertainty
    assert np.isfinite(sd.shift_yx_angst[used]).all()
    assert np.isnan(sd.y_tilt_deg[~aligned_bare.included]).all()
    pull = (found.shift_yx_angst - true.shift_yx_angst) / sd.shift_yx_angst[used]
    assert 0.25 < np.sqrt(np.square(pull).mean()) < 2.5
    pull = (found.y_tilt_deg - true.y_tilt_deg) / sd.y_tilt_deg[used]
    assert 0.25 < np.sqrt(np.square(pull).mean()) < 2.5


def test_the_expected_error_is_about_the_error(bare, aligned_bare):
    expected = aligned_bare.uncertainty.expected_error
    middle, corner = expected.rms_angst[2, 2], expected.rms_angst[0, 0]
    assert middle < corner  # turns and sizes of views show most at the edge
    assert 0.4 < error_px(aligned_bare, bare) * BARE.pixel_size_angst / expected.overall_angst < 2.5
    assert 0.02 < aligned_bare.uncertainty.axis_deg < 1.0


def test_a_specimen_that_does_not_move_is_left_alone(aligned_bare):
    assert aligned_bare.local_motion is None
    assert aligned_bare.details["local_motion"].startswith("none found")


def test_views_that_show_nothing_common_are_refused():
    rng = np.random.default_rng(0)
    tilts = tuple(
        Tilt(f"v{k}", ArrayImage(rng.normal(100, 5, (128, 128)).astype(np.float32)), tilt, 0.0)
        for k, tilt in enumerate(np.arange(-50.0, 51.0, 10.0).tolist())
    )
    with pytest.raises(MethodFailed, match=r"TS: only \d+ images can be tied"):
        SLAB(TiltSeries("TS", tilts, 20.0, (128, 128)), Slab())


def test_too_few_images_are_refused(bare):
    few = bare.series.with_exclusions({tilt.tilt_id: "by hand" for tilt in bare.series.tilts[2:]})
    with pytest.raises(BadTiltSeries, match="2 images are included"):
        SLAB(few, Slab())
    with pytest.raises(TypeError, match="Slab options"):
        SLAB(bare.series, Fiducial())


def test_it_can_be_stopped_while_it_fits(bare):
    def stop(fraction, message):
        if fraction > 0.7:
            raise Cancelled

    with pytest.raises(Cancelled):
        SLAB(bare.series, Slab(), progress=stop)


@pytest.mark.parametrize(
    ("pixel_angst", "shape"), [(1.0, (4096, 4096)), (10.0, (512, 512)), (5.0, (1024, 600)), (100.0, (512, 512))]
)
def test_scales_follow_the_specimen_and_not_the_pixels(bare, pixel_angst, shape):
    coarse, middle, fine = scales(bare.series.replace(pixel_size_angst=pixel_angst, image_shape_yx=shape))
    assert coarse.finest_angst > middle.finest_angst > fine.finest_angst >= 2.5 * pixel_angst
    assert fine.size_angst <= 0.375 * min(shape) * pixel_angst
    assert 48 <= fine.samples <= 256
    memory = SLAB.memory_bytes(bare.series.replace(pixel_size_angst=pixel_angst, image_shape_yx=shape), Slab())
    assert 1e7 < memory < 2e9
