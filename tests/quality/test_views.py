"""Suggestions: none for a good series, the right ones for faults that are put in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.images.prepare import noise_sd
from napari_tiltalign.io import read
from napari_tiltalign.model import Alignment, ArrayImage, Tilt, TiltSeries, Tracks
from napari_tiltalign.quality.views import (
    UNREADABLE,
    ViewMeasures,
    expected_from_neighbours,
    measure_view,
    suggestions,
    view_residual_px,
)

N = 25
TILTS_DEG = np.linspace(-60.0, 60.0, N)


def make_image(tilt_deg: float, seed: int) -> np.ndarray:
    """Counts of a specimen with coarse and fine structures and dark beads, darker at high tilt."""
    white = np.random.default_rng(1).normal(size=(128, 128))
    structures = ndimage.gaussian_filter(white, 2.0) + 0.5 * ndimage.gaussian_filter(white, 0.7)
    structures[30::40, 25::30] -= 3.0
    rate = 60.0 * np.exp(-0.5 / np.cos(np.deg2rad(tilt_deg))) * (1.0 + structures - structures.mean())
    return np.random.default_rng(seed).poisson(np.clip(rate, 0, None)).astype(np.float32)


@pytest.fixture(scope="module")
def good() -> TiltSeries:
    """A series without faults, in order of tilt."""
    tilts = tuple(
        Tilt(f"v{i:02d}", ArrayImage(make_image(tilt, i)), float(tilt), 0.0, float(i))
        for i, tilt in enumerate(TILTS_DEG)
    )
    return TiltSeries("TS", tilts, 10.0, (128, 128))


_MEASURES: dict[ArrayImage, ViewMeasures] = {}


def measured(series: TiltSeries) -> list[ViewMeasures]:
    """Measures of all images; an image that several series share is measured once."""
    for tilt in series.tilts:
        if tilt.image not in _MEASURES:
            _MEASURES[tilt.image] = measure_view(tilt.image.read())
    return [_MEASURES[tilt.image] for tilt in series.tilts]


def with_image(series: TiltSeries, index: int, pixels: np.ndarray) -> TiltSeries:
    tilts = list(series.tilts)
    old = tilts[index]
    tilts[index] = Tilt(old.tilt_id, ArrayImage(pixels), old.nominal_tilt_deg, 0.0, old.pre_exposure_e_per_A2)
    return series.replace(tilts=tuple(tilts))


def blurred(image: np.ndarray) -> np.ndarray:
    """The image of a specimen that moved: its structures are smeared, the noise is as before."""
    smeared = ndimage.gaussian_filter1d(image, 5.0, axis=1)
    return smeared + np.random.default_rng(0).normal(0.0, noise_sd(image), image.shape).astype(np.float32)


def half_hidden(image: np.ndarray) -> np.ndarray:
    return np.where(np.arange(image.shape[1]) < 60, 0.02 * image, image)


def faint(image: np.ndarray) -> np.ndarray:
    return (0.1 * (ndimage.gaussian_filter(image, 0.7) - image.mean()) + image.mean()).astype(np.float32)


@pytest.mark.parametrize("index", [0, 7, 12, N - 1])
@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("dark", lambda image: 0.4 * image),
        ("too bright", lambda image: 2.5 * image),
        ("blocked", half_hidden),
        ("no contrast", faint),
        ("blurred", blurred),
        ("unreadable", lambda image: np.full_like(image, np.nan)),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_one_faulty_view_is_suggested_and_nothing_else(good, reason, fault, index):
    bad = with_image(good, index, fault(good.tilts[index].image.read()))
    found = suggestions(bad, measured(bad))
    assert [(s.tilt_id, s.reason) for s in found] == [(good.tilt_ids[index], reason)]
    assert found[0].evidence


def test_a_good_series_gives_no_suggestions(good):
    assert suggestions(good, measured(good)) == []


def test_a_good_real_series_gives_no_suggestions(shared_data):
    [series] = read(shared_data / "empiar-10499_TS_01" / "tilt_series.star")
    assert suggestions(series, measured(series)) == []


def test_images_normalised_to_zero_mean_are_judged_by_their_structures_only(good):
    tilts = good.tilts
    normal = good
    for index, tilt in enumerate(tilts):
        image = tilt.image.read()
        normal = with_image(normal, index, (image - image.mean()) / image.std())
    assert suggestions(normal, measured(normal)) == []
    flat = with_image(normal, 5, 0.01 * normal.tilts[5].image.read())
    assert [s.reason for s in suggestions(flat, measured(flat))] == ["no contrast"]


def test_excluded_views_are_neither_suggested_nor_asked(good):
    dark = good
    for index in (10, 11, 12, 13):
        dark = with_image(dark, index, 0.3 * good.tilts[index].image.read())
    measures = measured(dark)
    excluded = dark.with_exclusions({good.tilt_ids[i]: "dark" for i in (10, 11, 12)})
    assert [s.tilt_id for s in suggestions(excluded, measures)] == [good.tilt_ids[13]]


@pytest.mark.parametrize(("doses", "expected"), [((3.0, 80.0), 4), ((80.0, 3.0), 3), ((np.nan, np.nan), 4)])
def test_of_two_views_at_one_tilt_the_later_is_suggested(good, doses, expected):
    tilts = list(good.tilts)
    for index, dose in zip((3, 4), doses, strict=True):
        tilts[index] = Tilt(tilts[index].tilt_id, tilts[3].image, tilts[3].nominal_tilt_deg, 0.0, dose)
    twice = good.replace(tilts=tuple(tilts))
    [found] = suggestions(twice, measured(twice))
    assert (found.tilt_id, found.reason) == (good.tilt_ids[expected], "duplicate")


def test_a_view_taken_again_because_it_was_dark_stays(good):
    tilts = list(good.tilts)
    tilts[4] = Tilt(tilts[4].tilt_id, tilts[3].image, tilts[3].nominal_tilt_deg, 0.0, 80.0)
    again = with_image(good.replace(tilts=tuple(tilts)), 3, 0.1 * tilts[3].image.read())
    assert [(s.tilt_id, s.reason) for s in suggestions(again, measured(again))] == [("v03", "dark")]


def make_alignment(series: TiltSeries, residual_px: np.ndarray) -> Alignment:
    """An alignment with four tracks whose residual is the same in a view."""
    track, tilt = (index.ravel() for index in np.indices((4, N)))
    residual = np.column_stack([residual_px[tilt], np.zeros(4 * N)])
    tracks = Tracks.from_observations(series.tilt_ids, np.zeros((4, 3)), track, tilt, np.full((4 * N, 2), 64.0))
    geometry = ViewGeometry.nominal(TILTS_DEG, 0.0).replace(
        shift_yx_angst=np.column_stack([2.0 * TILTS_DEG, np.sin(TILTS_DEG)])
    )
    return Alignment(
        series.name, series.tilt_ids, geometry, 10.0, (128, 128), np.ones(N, bool),
        tracks=tracks.replace(residual_yx_px=residual, leave_out_yx_px=2.0 * residual),
    )  # fmt: skip


def test_residuals_of_views_are_rms_over_their_observations(good):
    residual_px = np.linspace(0.2, 0.6, N)
    alignment = make_alignment(good, residual_px)
    np.testing.assert_allclose(view_residual_px(alignment), residual_px)
    np.testing.assert_allclose(view_residual_px(alignment, left_out=True), 2.0 * residual_px)
    assert np.isnan(view_residual_px(alignment.replace(tracks=None))).all()


def test_what_an_alignment_knows_is_suggested_too(good):
    residual_px = 0.3 + 0.02 * np.random.default_rng(0).normal(size=N)
    alignment, measures = make_alignment(good, residual_px), measured(good)
    assert suggestions(good, measures, alignment) == []
    residual_px[6] = 1.5
    bad = make_alignment(good, residual_px)
    shift = bad.geometry.shift_yx_angst.copy()
    shift[15] += [0.0, 250.0]
    included = np.arange(N) != 20
    reasons = tuple("" if ok else "too few beads" for ok in included)
    bad = bad.replace(geometry=bad.geometry.replace(shift_yx_angst=shift), included=included, reasons=reasons)
    found = [(s.tilt_id, s.reason, s.evidence) for s in suggestions(good, measures, bad)]
    assert [(tilt_id, reason) for tilt_id, reason, _ in found] == [
        ("v06", "large residual"), ("v15", "shift jump"), ("v20", "not aligned"),
    ]  # fmt: skip
    assert "1.50 px" in found[0][2]
    assert "25 nm" in found[1][2]
    assert found[2][2] == "too few beads"


def test_neighbours_foresee_a_line_and_are_not_misled_by_one_of_them(good):
    line = 3.0 + 0.1 * TILTS_DEG
    spoiled = np.where(np.arange(N) == 10, 100.0, line)
    np.testing.assert_allclose(expected_from_neighbours(good, spoiled), line, atol=1.5)
    few = np.where(np.arange(N) < 3, line, np.nan)
    assert np.isnan(expected_from_neighbours(good, few)[:3]).all()


def test_measures_are_wanted_for_every_image(good):
    with pytest.raises(ValueError, match="1 measures for 25 images"):
        suggestions(good, [UNREADABLE])


def test_a_series_of_which_nothing_can_be_read_is_all_unreadable(good):
    found = suggestions(good, [UNREADABLE] * N)
    assert [s.reason for s in found] == ["unreadable"] * N
