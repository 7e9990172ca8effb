"""Solving again from edited tracks: what an edit changes, what it leaves, and that it can be undone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from track_alignments import NOISE_PX, PIXEL_SIZE_ANGST, SHAPE_YX, aligned_tracks, nominal_tilts, true_geometry

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods.learned_model import DETAILS_KEY, LearnedModel, model_of
from napari_tiltalign.methods.priors import default_priors
from napari_tiltalign.methods.resolve import resolve, solve_tracks, suspect_tracks, track_statistics
from napari_tiltalign.model import Alignment, State, Tracks
from napari_tiltalign.quality.difference import difference

N, P, SEED = 21, 12, 0
THICKNESS_ANGST = 1200.0


@pytest.fixture(scope="module")
def solved() -> Alignment:
    """Twelve beads in 21 images, solved."""
    return aligned_tracks(N, P, SEED)


def apart_px(one: Alignment, other: Alignment) -> float:
    """Largest rms difference of an image, px."""
    return difference(one, other, thickness_angst=THICKNESS_ANGST).worst_view_rms_px


def assert_same_geometry(solved: Alignment, one: ViewGeometry, other: ViewGeometry) -> None:
    """Solving stops within a hundredth of a standard deviation of the optimum; that is the difference allowed."""
    assert apart_px(solved.replace(geometry=one), solved.replace(geometry=other)) < 0.05 * NOISE_PX


def with_state(tracks: Tracks, rows: np.ndarray, state: State) -> Tracks:
    changed = tracks.state.copy()
    changed[rows] = int(state)
    return tracks.replace(state=changed)


def rows_in_image(tracks: Tracks, image: int) -> np.ndarray:
    return np.flatnonzero(tracks.tilt == image)


def test_the_truth_is_found(solved):
    truth = solved.replace(geometry=true_geometry(N, SEED))
    assert apart_px(solved, truth) < 1.5 * NOISE_PX
    assert solved.statistics["residual_rms_px"] < 1.5 * NOISE_PX * np.sqrt(2)
    assert solved.statistics["leave_out_rms_px"] > solved.statistics["residual_rms_px"]
    assert solved.statistics["views_aligned"] == N


def test_solving_again_changes_nothing(solved):
    again = resolve(solved, solved.tracks)
    assert_same_geometry(solved, again.geometry, solved.geometry)
    np.testing.assert_allclose(again.tracks.residual_yx_px, solved.tracks.residual_yx_px, atol=0.05 * NOISE_PX)


@pytest.mark.parametrize("row", [0, 40, 130])
def test_one_observation_off_by_20_px_barely_matters_and_undoing_brings_everything_back(solved, row):
    position = solved.tracks.position_yx_px.copy()
    position[row] += [12.0, -16.0]
    disturbed = resolve(solved, solved.tracks.replace(position_yx_px=position))
    assert apart_px(disturbed, solved) < 0.3 * NOISE_PX
    assert disturbed.tracks.weight[row] < 0.01
    assert np.linalg.norm(disturbed.tracks.residual_yx_px[row]) == pytest.approx(20.0, abs=0.5)

    undone = resolve(disturbed, solved.tracks)
    assert_same_geometry(solved, undone.geometry, resolve(solved, solved.tracks).geometry)


def test_rejecting_an_outlier_is_like_not_having_it(solved):
    position = solved.tracks.position_yx_px.copy()
    position[50] += [12.0, -16.0]
    bad = solved.tracks.replace(position_yx_px=position)
    rejected = resolve(solved, with_state(bad, np.array([50]), State.REJECTED))
    without = resolve(solved, solved.tracks.take_observations(np.arange(solved.tracks.n_observations) != 50))
    assert_same_geometry(solved, rejected.geometry, without.geometry)
    assert rejected.tracks.weight[50] == 0
    assert np.isnan(rejected.tracks.leave_out_yx_px[50]).all()
    assert np.linalg.norm(rejected.tracks.residual_yx_px[50]) == pytest.approx(20.0, abs=1.0)  # still shown


@pytest.mark.parametrize("image", [0, 7, N - 1], ids=["lowest tilt", "middle", "highest tilt"])
def test_row_29_an_image_without_observations_is_interpolated(solved, image):
    rejected = resolve(solved, with_state(solved.tracks, rows_in_image(solved.tracks, image), State.REJECTED))
    others = np.arange(N) != image
    assert apart_px(take(rejected, others), take(solved, others)) < 2 * NOISE_PX
    geometry, nominal = rejected.geometry, nominal_tilts(N)
    assert rejected.statistics["views_aligned"] == N - 1
    assert np.isnan(rejected.uncertainty.y_tilt_deg[image])
    assert np.isfinite(np.delete(rejected.uncertainty.y_tilt_deg, image)).all()
    order = np.argsort(nominal)
    place = int(np.flatnonzero(order == image)[0])
    beside = [order[k] for k in (place - 1, place + 1) if 0 <= k < N]
    np.testing.assert_allclose(geometry.shift_yx_angst[image], geometry.shift_yx_angst[beside].mean(axis=0))
    expected = nominal[image] + (geometry.y_tilt_deg - nominal)[beside].mean()
    assert geometry.y_tilt_deg[image] == pytest.approx(expected)

    restored = resolve(rejected, solved.tracks)
    assert apart_px(restored, solved) < 1e-3


def take(alignment: Alignment, images: np.ndarray) -> Alignment:
    return alignment.take(tuple(np.array(alignment.tilt_ids)[images].tolist()))


def test_one_observation_is_not_enough_for_an_image(solved):
    rows = rows_in_image(solved.tracks, 5)
    alone = resolve(solved, with_state(solved.tracks, rows[1:], State.REJECTED))
    assert np.isnan(alone.uncertainty.z_rot_deg[5])
    assert alone.tracks.weight[rows[0]] == 0


def test_row_29_excluded_images_take_no_part(solved):
    included = np.ones(N, bool)
    included[[3, 8]] = False
    less = resolve(solved.replace(included=included), solved.tracks)
    assert np.flatnonzero(np.isnan(less.uncertainty.y_tilt_deg)).tolist() == [3, 8]
    assert less.tracks.weight[np.isin(less.tracks.tilt, [3, 8])].max() == 0
    assert less.included.tolist() == included.tolist()
    assert apart_px(take(less, included), take(solved, included)) < 2 * NOISE_PX


def test_a_track_without_observations_does_no_harm(solved):
    """As after rejecting a whole bead: its point stays where it was."""
    own = np.flatnonzero(solved.tracks.track == 4)
    less = resolve(solved, with_state(solved.tracks, own, State.REJECTED))
    without = resolve(solved, solved.tracks.take_tracks(np.arange(P) != 4))
    assert_same_geometry(solved, less.geometry, without.geometry)
    assert less.tracks.n_tracks == P
    np.testing.assert_allclose(less.tracks.points_zyx_angst[4], solved.tracks.points_zyx_angst[4], atol=1.0)
    assert np.isfinite(np.delete(less.tracks.points_sd_angst, 4, axis=0)).all()
    assert np.isnan(less.tracks.points_sd_angst[4]).all()
    assert apart_px(resolve(less, solved.tracks), solved) < 0.05 * NOISE_PX


def test_a_track_of_one_observation_is_possible(solved):
    own = np.flatnonzero(solved.tracks.track == 4)
    single = resolve(solved, with_state(solved.tracks, own[1:], State.REJECTED))
    assert np.isfinite(single.tracks.points_zyx_angst).all()
    assert apart_px(single, solved) < 2 * NOISE_PX
    left_out = np.isfinite(single.tracks.leave_out_yx_px).all(axis=1)
    assert not left_out[own].any(), "nothing predicts it without itself"
    assert left_out[single.tracks.used].sum() == single.tracks.used.sum() - 1
    assert single.statistics["leave_out_rms_px"] == pytest.approx(solved.statistics["leave_out_rms_px"], rel=0.2)


def test_images_that_share_no_bead_with_the_others_are_interpolated(solved):
    """As when a person follows some beads here and other beads there: the two parts cannot be tied."""
    tracks, nominal = solved.tracks, nominal_tilts(N)
    apart = nominal > 35
    here, there = tracks.track < P - 3, tracks.track >= P - 3
    torn = np.where(apart[tracks.tilt], here, there)
    found = resolve(solved, with_state(tracks, np.flatnonzero(torn), State.REJECTED))
    assert np.isnan(found.uncertainty.y_tilt_deg).tolist() == apart.tolist()
    assert apart_px(take(found, ~apart), take(solved, ~apart)) < 3 * NOISE_PX


@pytest.mark.parametrize("keep_images", [0, 1, 2])
def test_row_27_fewer_than_three_images_cannot_be_solved(solved, keep_images):
    rows = np.flatnonzero(solved.tracks.tilt >= keep_images)
    with pytest.raises(MethodFailed, match=f"only {keep_images} images .* at least 3"):
        resolve(solved, with_state(solved.tracks, rows, State.REJECTED))


def test_x_tilt_is_kept():
    tilted = aligned_tracks(N, P, SEED)
    geometry = tilted.geometry.replace(x_tilt_deg=np.full(N, 2.0))
    # the same images of a specimen turned the other way about x
    turn = np.deg2rad(-2.0)
    points = tilted.tracks.points_zyx_angst
    z, y = points[:, 0], points[:, 1]
    turned = np.column_stack([np.cos(turn) * z + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * z, points[:, 2]])
    again = resolve(tilted.replace(geometry=geometry), tilted.tracks.replace(points_zyx_angst=turned))
    np.testing.assert_array_equal(again.geometry.x_tilt_deg, 2.0)
    assert apart_px(again, tilted) < 0.05


def test_geometry_without_magnification_has_none(solved):
    unit = solved.unit_magnification_geometry
    np.testing.assert_array_equal(unit.magnification, 1.0)
    assert not np.array_equal(solved.geometry.magnification, np.ones(N))
    assert apart_px(solved.replace(geometry=unit), solved) < 3 * NOISE_PX


def test_learned_model_survives_the_record(solved):
    """Details -> JSON text -> details -> model gives the same priors to the last digit."""
    model = model_of(solved)
    back = model_of(solved.replace(details={DETAILS_KEY: json.loads(json.dumps(model.to_details()))}))
    np.testing.assert_array_equal(back.noise_px, model.noise_px)
    assert (back.height_mean_px, back.height_sd_px) == (model.height_mean_px, model.height_sd_px)
    for one, other in zip(back.priors, model.priors, strict=True):
        np.testing.assert_array_equal(one.covariance(), other.covariance())
        np.testing.assert_array_equal(one.mean, other.mean)


def test_learned_hyper_parameters_are_in_the_record():
    start = default_priors(nominal_tilts(7), 3.0)
    priors = type(start)(*(prior.fixed(0.11, 0.22, 3.3) for prior in start))
    model = LearnedModel(priors, np.linspace(0.1, 0.4, 7), -12.5, 90.0)
    alignment = aligned_tracks(7, 8).replace(details={DETAILS_KEY: model.to_details()})
    back = model_of(alignment)
    assert [(p.independent_sd, p.smooth_sd, p.length) for p in back.priors] == [(0.11, 0.22, 3.3)] * 3
    assert back.to_details() == model.to_details()


def test_an_alignment_from_elsewhere_can_be_solved(solved):
    """One that does not say what was learned gets typical priors around its own geometry."""
    foreign = solved.replace(details={})
    model = model_of(foreign)
    assert model.priors.rotation_deg.mean[0] == pytest.approx(solved.axis_deg)
    assert apart_px(resolve(foreign, solved.tracks), solved) < 2 * NOISE_PX


def test_order_of_images_does_not_matter(solved):
    """Row 20: the images permuted, the same geometry for each."""
    mixed = np.random.default_rng(3).permutation(N)
    ids = tuple(np.array(solved.tilt_ids)[mixed].tolist())
    tracks = solved.tracks.replace(tilt_ids=ids, tilt=np.argsort(mixed)[solved.tracks.tilt])
    model = model_of(solved)
    shuffled = LearnedModel(model.priors.take(mixed), model.noise_px[mixed], model.height_mean_px, model.height_sd_px)
    found = solve_tracks(tracks, shuffled, solved.geometry.take(mixed), PIXEL_SIZE_ANGST, SHAPE_YX)
    place = np.argsort(mixed)
    assert_same_geometry(solved, found.geometry.take(place), solved.geometry)


def test_statistics_are_those_of_the_tracks(solved):
    tracks, statistics = solved.tracks, solved.statistics
    length = np.linalg.norm(tracks.residual_yx_px, axis=1)
    assert statistics["observations"] == tracks.n_observations
    assert statistics["tracks"] == P
    assert statistics["residual_rms_px"] == pytest.approx(np.sqrt(np.mean(length**2)))
    assert statistics["residual_median_px"] == pytest.approx(np.median(length))
    half = with_state(tracks, np.arange(tracks.n_observations) % 2 == 0, State.REJECTED)
    assert track_statistics(half)["observations"] == np.sum(np.arange(tracks.n_observations) % 2)


def test_weights_of_good_observations_are_about_one(solved):
    assert 0.8 < np.median(solved.tracks.weight) <= 1.0


def test_point_errors_are_honest(solved):
    truth = aligned_tracks(N, P, SEED)
    assert np.isfinite(truth.tracks.points_sd_angst).all()
    assert (truth.tracks.points_sd_angst > 0).all()
    assert np.median(truth.tracks.points_sd_angst) < 5 * NOISE_PX * PIXEL_SIZE_ANGST


def test_a_track_that_is_followed_badly_is_suspect(solved):
    sd = np.where(solved.tracks.track == 6, 3 * NOISE_PX, NOISE_PX)
    noisy = solved.tracks.replace(sd_px=sd)
    assert suspect_tracks(noisy) == [int(solved.tracks.track_ids[6])]
    assert suspect_tracks(solved.tracks) == []
