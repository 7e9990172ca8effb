"""Finding gold: where beads are, which candidates are gold, and which views cannot be used."""

from __future__ import annotations

import time

import numpy as np
import pytest
from bead_images import LEVEL, bead_image, spread_positions
from scipy import ndimage
from scipy.spatial import KDTree

from napari_tiltalign.methods.beads import (
    MOST_BEADS_PER_VIEW,
    BeadView,
    bad_views,
    bead_template,
    find_beads,
    keep_the_gold,
    strength_divide,
)
from napari_tiltalign.model import State

SHAPE_YX = (300, 340)
DIAMETER_PX = 10.0


def inner_truth(simulated, index):
    """True positions (k, 2) of beads in one simulated image that are not at its edge."""
    tracks = simulated.truth.tracks
    position = tracks.position_yx_px[(tracks.tilt == index) & (tracks.state != State.REJECTED)]
    size = np.array(simulated.series.image_shape_yx)
    return position[((position > 8) & (position < size - 9)).all(axis=1)]


def recall_and_precision(found, true, everywhere):
    near_truth, _ = KDTree(found).query(true)
    near_found, _ = KDTree(everywhere).query(found)
    return np.mean(near_truth < 2.0), np.mean(near_found < 2.0)


@pytest.mark.parametrize("bright", [False, True], ids=["dark", "bright"])
def test_simulated_beads_are_found(simulated, bright):
    """Over all tilts, once the gold is told from particles; beads that overlap in projection may hide each other."""
    tilts, tracks = simulated.series.tilts, simulated.truth.tracks
    chosen = range(0, len(tilts), 2)
    images = [tilts[index].image.read() for index in chosen]
    views = [
        find_beads(2 * np.median(image) - image if bright else image, (DIAMETER_PX,), bright=bright) for image in images
    ]
    kept, gold = keep_the_gold(views)
    assert gold
    scores = [
        recall_and_precision(
            view.beads.position_yx, inner_truth(simulated, index), tracks.position_yx_px[tracks.tilt == index]
        )
        for index, view in zip(chosen, kept, strict=True)
    ]
    recall, precision = np.mean(scores, axis=0)
    assert recall > 0.95
    assert precision > 0.95


def test_positions_are_good_to_a_fraction_of_a_pixel():
    rng = np.random.default_rng(0)
    true = spread_positions(20, SHAPE_YX, 35.0, 20.0, rng)
    found = find_beads(bead_image(true, SHAPE_YX, DIAMETER_PX, rng), (DIAMETER_PX,)).beads.position_yx
    distance, nearest = KDTree(found).query(true)
    assert distance.max() < 0.6
    assert np.abs((found[nearest] - true).mean(axis=0)).max() < 0.05


@pytest.mark.parametrize("given_px", [7.0, 13.0])
def test_a_diameter_off_by_30_percent_finds_the_same_beads(given_px):
    rng = np.random.default_rng(1)
    true = spread_positions(20, SHAPE_YX, 40.0, 20.0, rng)
    found = find_beads(bead_image(true, SHAPE_YX, DIAMETER_PX, rng), (given_px,)).beads.position_yx
    assert KDTree(found).query(true)[0].max() < 1.0
    assert len(found) <= 22


def test_two_sizes_are_told_apart():
    rng = np.random.default_rng(2)
    true = spread_positions(24, SHAPE_YX, 45.0, 25.0, rng)
    image = bead_image(true[:12], SHAPE_YX, 8.0, rng, noise=0.03) + bead_image(true[12:], SHAPE_YX, 15.0, rng) - LEVEL
    view = find_beads(image.astype(np.float32), (8.0, 15.0))
    distance, nearest = KDTree(view.beads.position_yx).query(true)
    assert distance.max() < 1.5
    assert (view.size[nearest] == np.repeat([0, 1], 12)).mean() > 0.9
    assert len(view.size) == len(view.beads) <= 26


def test_row_46_hot_pixels_are_no_beads():
    rng = np.random.default_rng(3)
    true = spread_positions(10, SHAPE_YX, 40.0, 20.0, rng)
    image = bead_image(true, SHAPE_YX, DIAMETER_PX, rng)
    hot = tuple(rng.integers(0, size, 60) for size in SHAPE_YX)
    image[hot] *= rng.choice([0.0, 5.0], 60).astype(np.float32)
    view = find_beads(image, (DIAMETER_PX,))
    assert view.hot_pixels >= 55
    assert KDTree(view.beads.position_yx).query(true)[0].max() < 1.0
    assert len(view.beads) <= 11


def test_noise_alone_has_hardly_any_candidates():
    image = np.random.default_rng(4).normal(300, 30, SHAPE_YX).astype(np.float32)
    assert len(find_beads(image, (DIAMETER_PX,)).beads) <= 2


def test_template_is_a_dark_sphere_of_zero_mean_and_unit_norm():
    template, support = bead_template(12.0)
    assert template.shape == support.shape
    assert template.shape[0] % 2 == 1
    assert template.sum() == pytest.approx(0.0, abs=1e-4)
    assert (template**2).sum() == pytest.approx(1.0, rel=1e-4)
    middle = template.shape[0] // 2
    assert template[middle, middle] == template.min()
    np.testing.assert_allclose(template, template.T, atol=1e-6)


@pytest.mark.timeout(30)
def test_row_51_textured_carbon_costs_bounded_time():
    """Thousands of blobs of a bead's size: no more candidates than allowed, the strongest, in a second or so."""
    rng = np.random.default_rng(5)
    shape = (1024, 1024)
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 2.2)
    texture = np.sign(texture) * np.abs(texture / texture.std()) ** 3  # heavy tails: many strong blobs
    image = (300 * (1 + 0.05 * texture)).astype(np.float32)
    before = time.process_time()
    view = find_beads(image, (DIAMETER_PX,))
    assert time.process_time() - before < 5.0
    assert len(view.beads) <= MOST_BEADS_PER_VIEW
    assert len(view.beads) > 100, "else this is no crowd"
    assert (np.diff(view.beads.height) <= 0).all()


@pytest.mark.timeout(30)
def test_row_51_a_crowd_of_beads_keeps_the_strongest():
    rng = np.random.default_rng(6)
    shape = (1024, 1024)
    grid = np.stack(np.meshgrid(np.arange(20, 1010, 22.0), np.arange(20, 1010, 22.0), indexing="ij"), -1).reshape(-1, 2)
    amplitudes = rng.uniform(0.3, 1.0, len(grid))
    assert len(grid) > 2000
    view = find_beads(bead_image(grid, shape, DIAMETER_PX, rng, amplitudes=amplitudes), (DIAMETER_PX,))
    assert len(view.beads) == MOST_BEADS_PER_VIEW
    _, nearest = KDTree(grid).query(view.beads.position_yx)
    assert np.median(amplitudes[nearest]) > np.percentile(amplitudes, 80)


# which candidates are gold


def population(rng, *groups):
    """Strengths: (how many, typical, relative spread) of every group."""
    return np.concatenate([typical * np.exp(rng.normal(0, spread, n)) for n, typical, spread in groups])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("groups", "between"),
    [
        ([(300, 1.0, 0.15), (200, 4.0, 0.1)], (1.3, 3.2)),
        ([(2000, 1.0, 0.2), (60, 6.0, 0.1)], (1.6, 5.0)),
        ([(40, 1.0, 0.1), (400, 3.0, 0.1)], (1.2, 2.5)),
    ],
    ids=["two groups", "many proteins", "little dirt"],
)
def test_two_groups_are_divided_between_them(groups, between, seed):
    divide = strength_divide(population(np.random.default_rng(seed), *groups), least_above=20)
    assert between[0] < divide < between[1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "groups",
    [
        [(400, 2.0, 0.2)],
        [(400, 1.0, 0.25), (400, 1.6, 0.25)],
        [(400, 1.0, 0.1), (5, 8.0, 0.05)],
        [(15, 1.0, 0.1)],
        [],
    ],
    ids=["one group", "two that overlap", "a tiny upper group", "too few", "none"],
)
def test_without_a_clear_divide_there_is_none(groups, seed):
    strengths = population(np.random.default_rng(seed), *groups) if groups else np.zeros(0)
    assert strength_divide(strengths, least_above=20) == 0.0


def test_divide_does_not_depend_on_units():
    strengths = population(np.random.default_rng(1), (300, 1.0, 0.15), (200, 4.0, 0.1))
    assert strength_divide(strengths * 1e3, least_above=20) == pytest.approx(
        1e3 * strength_divide(strengths, least_above=20), rel=0.05
    )


def mixed_views(rng, n_views, n_gold, n_faint, *, faint_depth=0.08, diameter_px=DIAMETER_PX):
    """Views with beads and faint blobs of no particular shape."""
    views = []
    for _ in range(n_views):
        places = spread_positions(n_gold + n_faint, SHAPE_YX, 25.0, 15.0, rng)
        image = bead_image(places[:n_gold], SHAPE_YX, diameter_px, rng, noise=0.02) / LEVEL
        for place in places[n_gold:]:
            blob = np.zeros(SHAPE_YX)
            stretch = rng.normal(0, 4.0, (6, 2))
            for y, x in np.round(place + stretch).astype(int):
                blob[np.clip(y, 0, SHAPE_YX[0] - 1), np.clip(x, 0, SHAPE_YX[1] - 1)] += 1
            image -= faint_depth * ndimage.gaussian_filter(blob, 2.0) * 30
        views.append(find_beads((LEVEL * image).astype(np.float32), (diameter_px,)))
    return views


def test_faint_blobs_are_dropped_where_there_is_gold():
    views = mixed_views(np.random.default_rng(7), 5, 12, 25)
    assert np.mean([len(view.beads) for view in views]) > 16, "else there is nothing to drop"
    kept, gold = keep_the_gold(views)
    assert gold
    assert [len(view.beads) for view in kept] == [12] * 5


def test_gold_alone_is_kept_whole():
    views = mixed_views(np.random.default_rng(9), 4, 15, 0)
    kept, gold = keep_the_gold([*views, None])
    assert gold
    assert [len(view.beads) for view in kept[:4]] == [len(view.beads) for view in views]
    assert kept[4] is None


# views that cannot be used


def ordinary(rng, scale=1.0, **changes):
    return find_beads(
        (scale * bead_image(np.array([[50.0, 50.0]]), SHAPE_YX, DIAMETER_PX, rng)), (DIAMETER_PX,), **changes
    )


def series_with(special: BeadView, at: int = 4) -> list[BeadView | None]:
    rng = np.random.default_rng(10)
    views: list[BeadView | None] = [ordinary(rng, 1.0 - 0.05 * abs(k - 4)) for k in range(9)]
    views[at] = special
    views[7] = None
    return views


@pytest.mark.parametrize("at", [0, 4, 8])
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros(SHAPE_YX), "no_contrast"),
        (np.full(SHAPE_YX, 300.0), "no_contrast"),
        (np.full(SHAPE_YX, 65535.0), "no_contrast"),
        (np.random.default_rng(0).poisson(3.0, SHAPE_YX), "dark"),
    ],
    ids=["row_45_black", "row_45_constant", "row_45_saturated", "row_45_dark"],
)
def test_unusable_views_are_named_with_a_reason(image, reason, at):
    special = find_beads(image.astype(np.float32), (DIAMETER_PX,))
    assert bad_views(series_with(special, at)) == {at: reason}


@pytest.mark.parametrize(
    ("clear_columns", "reasons"),
    [(45, {"no_contrast", "dark", "blocked"}), (150, {"dark", "blocked"}), (200, {"blocked"}), (280, set())],
    ids=["almost all", "most", "half", "a sixth"],
)
def test_a_blocked_view_is_used_as_long_as_most_of_it_is_clear(clear_columns, reasons):
    image = bead_image(np.array([[50.0, 50.0]]), SHAPE_YX, DIAMETER_PX, np.random.default_rng(11))
    image[:, clear_columns:] *= 0.01
    found = bad_views(series_with(find_beads(image, (DIAMETER_PX,))))
    assert set(found) == ({4} if reasons else set())
    assert set(found.values()) <= reasons


def test_the_dimming_of_high_tilts_is_not_dark():
    rng = np.random.default_rng(13)
    views = [ordinary(rng, np.exp(-0.8 / np.cos(np.deg2rad(tilt)))) for tilt in range(-60, 61, 10)]
    assert bad_views(views) == {}


def test_row_47_signed_images_have_no_dark_views():
    """Where images are normalised, a level near zero means nothing."""
    rng = np.random.default_rng(14)
    views = []
    for _ in range(7):
        image = bead_image(np.array([[50.0, 50.0]]), SHAPE_YX, DIAMETER_PX, rng)
        views.append(find_beads(((image - image.mean()) / image.std()).astype(np.float32), (DIAMETER_PX,)))
    assert bad_views(views) == {}
