"""Series whose views show no common specimen are refused with a reason, by every method that takes whole views."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.methods.patch_tracking import PATCH_TRACKING, PatchTracking
from napari_tiltalign.methods.projection_matching import PROJECTION_MATCHING, ProjectionMatching
from napari_tiltalign.methods.same_specimen import check_enough
from napari_tiltalign.model import ArrayImage, TiltSeries
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

SMALL = Simulation(
    image_rows_px=256, image_columns_px=288, pixel_size_angst=16, tilt_step_deg=6, n_beads=0, texture="particles",
    thickness_nm=65,
)  # fmt: skip
METHODS = [(PATCH_TRACKING, PatchTracking()), (PROJECTION_MATCHING, ProjectionMatching(specimen="slab"))]


@pytest.fixture(scope="module")
def specimens() -> list[SimulatedSeries]:
    """Three specimens, photographed at the same tilts."""
    return [simulate(SMALL.replace(seed=seed)) for seed in (11, 12, 13)]


def with_images(series: TiltSeries, image_of) -> TiltSeries:
    return series.replace(
        tilts=tuple(
            dataclasses.replace(tilt, image=ArrayImage(np.asarray(image_of(k), np.float32)))
            for k, tilt in enumerate(series.tilts)
        )
    )


def pattern(shape, seed):
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0)
    return 20.0 + 2.0 * smooth / smooth.std()


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize("counts_vary", [False, True])
def test_one_picture_in_all_views_is_refused(specimens, method, options, counts_vary):
    series = specimens[0].series
    rng = np.random.default_rng(1)
    still = pattern(series.image_shape_yx, 2)
    broken = with_images(series, lambda _: rng.poisson(still) if counts_vary else still)
    with pytest.raises(
        MethodFailed, match=r"SIM_\w+: the views agree 1\.\d times better as one picture that does not tilt"
    ):
        method(broken, options)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_nothing_but_noise_is_refused(specimens, method, options):
    series = specimens[0].series
    rng = np.random.default_rng(3)
    broken = with_images(series, lambda _: rng.poisson(20.0, series.image_shape_yx))
    with pytest.raises(MethodFailed, match=r"only \d of 21 views look like each other when correlated, 7 are needed"):
        method(broken, options)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_an_axis_that_is_right_angles_off_is_refused(specimens, method, options):
    series = specimens[0].series
    turned = tuple(dataclasses.replace(t, nominal_axis_deg=t.nominal_axis_deg + 90.0) for t in series.tilts)
    with pytest.raises(MethodFailed, match="the tilt axis"):
        method(series.replace(tilts=turned), options)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_views_of_the_commonest_specimen_are_aligned_and_the_others_named(specimens, method, options):
    series = specimens[0].series
    foreign = {int(view): 1 + k % 2 for k, view in enumerate(series.tilt_order()[::2])}
    broken = with_images(series, lambda k: specimens[foreign.get(k, 0)].series.tilts[k].image.read())
    found = method(broken, options)
    assert set(np.flatnonzero(~found.included).tolist()) == set(foreign)
    (flag,) = [flag for flag in found.flags if flag.name == "view_not_aligned"]
    assert set(flag.tilt_ids) == {series.tilt_ids[k] for k in foreign}
    assert difference(found, specimens[0].truth, thickness_angst=650.0).rms_px < 0.8


def test_enough_is_what_the_method_needs_and_a_third_of_the_views():
    usable = np.ones(21, bool)
    usable[:3] = False
    tied = np.arange(21) >= 15
    check_enough(tied, usable, 5)
    with pytest.raises(MethodFailed, match="only 6 of 18 views look like each other when correlated, 7 are needed"):
        check_enough(tied, usable, 7)
    with pytest.raises(MethodFailed, match=r"only 5 of 18 .*, 6 are needed"):
        check_enough(np.arange(21) >= 16, usable, 3)
