"""What is wrong with a series must be found before it is aligned, and nothing where nothing is wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_tiltalign.errors import BadInput
from napari_tiltalign.model import ArrayImage, Dataset, TiltSeries
from napari_tiltalign.quality.axis_check import AXIS_OFF_DEG, flat_tilt_deg
from napari_tiltalign.quality.checking import SeriesCheck, check_dataset, check_series
from napari_tiltalign.simulation import SCENARIOS, Simulation, simulate

SMALL = Simulation(image_rows_px=224, image_columns_px=240, pixel_size_angst=20, tilt_step_deg=5, n_beads=8)


@pytest.fixture(scope="module")
def series() -> TiltSeries:
    return simulate(SMALL).series


def with_image(series: TiltSeries, index: int, image: object) -> TiltSeries:
    tilts = list(series.tilts)
    tilts[index] = dataclasses.replace(tilts[index], image=image)
    return series.replace(tilts=tuple(tilts))


def names(check: SeriesCheck) -> set[str]:
    return {finding.name for finding in check.findings}


def test_a_good_series_raises_no_alarm(series: TiltSeries):
    check = check_series(series)
    assert [finding for finding in check.findings if finding.level != "note"] == []
    assert check.axis is not None
    assert check.axis.clear
    assert check.axis.off_deg == pytest.approx(SMALL.axis_error_deg, abs=6)
    assert abs(check.flat_deg) < 1.5


@pytest.mark.parametrize("error_deg", [90.0, 35.0, -60.0])
def test_a_wrong_tilt_axis_is_found_and_the_right_one_told(series: TiltSeries, error_deg: float):
    tilts = tuple(dataclasses.replace(t, nominal_axis_deg=t.nominal_axis_deg + error_deg) for t in series.tilts)
    check = check_series(series.replace(tilts=tilts))
    assert check.axis is not None
    assert check.findings[0].name == "axis"
    assert check.findings[0].level == "problem"
    true = SMALL.axis_deg + SMALL.axis_error_deg
    assert abs((check.axis.best_deg - true + 90) % 180 - 90) < 8
    assert f"--tilt-axis-deg {check.axis.best_deg:.0f}" in check.findings[0].to_do


def test_an_axis_far_off_that_pairs_do_not_agree_on_raises_no_alarm():
    # the edge of the cell pulls the best axis 18 degrees away
    check = check_series(simulate(SCENARIOS["demo"].replace(seed=102)).series)
    assert check.axis is not None
    assert abs(check.axis.off_deg) > AXIS_OFF_DEG
    assert not check.axis.clear
    assert {"axis_unclear"} == {name for name in names(check) if name.startswith("axis")}


def test_a_missing_axis_is_told_with_a_guess(series: TiltSeries):
    tilts = tuple(dataclasses.replace(t, nominal_axis_deg=np.nan) for t in series.tilts)
    finding = next(f for f in check_series(series.replace(tilts=tilts)).findings if f.name == "axis_missing")
    assert "the images speak for" in finding.what


def test_a_lamella_is_recognised():
    tilted = simulate(SMALL.replace(pretilt_deg=-12, tilt_max_deg=55, n_beads=0, texture="cytoplasm")).series
    check = check_series(tilted)
    assert check.flat_deg == pytest.approx(12.0, abs=2.0)
    assert "pretilt" in names(check)


def test_the_same_image_twice_is_found_whatever_its_angle(series: TiltSeries):
    doubled = with_image(series, 7, ArrayImage(series.tilts[3].image.read().copy()))
    finding = next(f for f in check_series(doubled).findings if f.name == "same_image")
    assert set(finding.where) == {series.tilt_ids[3], series.tilt_ids[7]}


def test_saturated_dark_and_unreadable_images_are_found(series: TiltSeries):
    class Broken:
        name = "broken.mrc"

        def load(self) -> tuple[np.ndarray, int]:
            raise BadInput("broken.mrc is shorter than its header says")

    image = series.tilts[2].image.read()
    bad = with_image(series, 2, ArrayImage(np.minimum(image, np.percentile(image, 90)).astype(np.float32)))
    bad = with_image(bad, 5, ArrayImage((0.01 * series.tilts[5].image.read()).astype(np.float32)))
    bad = with_image(bad, 6, Broken())

    found = {(f.name, f.where[0]) for f in check_series(bad).findings}

    assert ("saturated", series.tilt_ids[2]) in found
    assert ("dark", series.tilt_ids[5]) in found
    assert ("unreadable", series.tilt_ids[6]) in found


def test_every_finding_says_what_where_and_what_to_do(series: TiltSeries):
    bad = with_image(series, 7, ArrayImage(series.tilts[3].image.read().copy()))
    for finding in check_series(bad).findings:
        assert finding.what
        assert finding.where
        assert finding.to_do.endswith(".")


def test_brightness_that_does_not_change_tells_no_pretilt():
    tilt = np.arange(-60.0, 61.0, 3.0)
    assert np.isnan(flat_tilt_deg(tilt, np.full(tilt.size, 7.0)))
    noisy = np.random.default_rng(1).uniform(1, 2, tilt.size)
    assert np.isnan(flat_tilt_deg(tilt, noisy))


def test_a_series_that_differs_from_the_others_is_named(series: TiltSeries):
    others = [series.replace(name=f"TS_{k}") for k in range(4)]
    odd = others[2].replace(pixel_size_angst=10.0)
    found = check_dataset(Dataset((others[0], others[1], odd, others[3]), failed={"TS_9": "TS_9: no images"}))
    assert [(f.name, f.where) for f in found] == [("not_read", ("TS_9",)), ("differs", ("TS_2",))]
