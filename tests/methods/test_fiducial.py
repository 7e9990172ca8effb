"""Alignment by gold beads from images to geometry, against simulated truth and on a real series."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from napari_tiltalign import read
from napari_tiltalign.errors import BadTiltSeries, Cancelled, MethodFailed
from napari_tiltalign.geometry import wrap_deg
from napari_tiltalign.methods.fiducial import FIDUCIAL, Fiducial
from napari_tiltalign.methods.learned_model import DETAILS_KEY, model_of
from napari_tiltalign.methods.resolve import resolve
from napari_tiltalign.model import REJECTION_REASONS, Alignment, ArrayImage, State, TiltSeries
from napari_tiltalign.quality.difference import Difference, difference
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

BOUND_PX = 0.06
"""Error against truth of the small series and its variants; typically it is half of this."""


def error_of(alignment: Alignment, simulated: SimulatedSeries) -> Difference:
    return difference(alignment, simulated.truth, thickness_angst=simulated.options.thickness_angst)


def flag_names(alignment: Alignment) -> set[str]:
    return {flag.name for flag in alignment.flags}


def flag(alignment: Alignment, name: str):
    (found,) = (flag for flag in alignment.flags if flag.name == name)
    return found


def assert_identical(one: Alignment, other: Alignment) -> None:
    """Equal to the last bit, in everything that is computed."""

    def compare(a: object, b: object, where: str) -> None:
        if not dataclasses.is_dataclass(a):
            np.testing.assert_array_equal(a, b, err_msg=where)
            return
        for field in dataclasses.fields(a):
            compare(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")

    for part in ("geometry", "unit_magnification_geometry", "uncertainty", "tracks"):
        compare(getattr(one, part), getattr(other, part), part)
    assert (one.reasons, one.flags, dict(one.statistics)) == (other.reasons, other.flags, dict(other.statistics))
    assert one.details == other.details


def with_images(series: TiltSeries, change) -> TiltSeries:
    """The series with its images changed: ``change(index, image)`` in input order."""
    return series.replace(
        tilts=tuple(
            dataclasses.replace(t, image=ArrayImage(change(k, t.image.read()).astype(np.float32), t.tilt_id))
            for k, t in enumerate(series.tilts)
        )
    )


# accuracy


def test_the_truth_is_found(aligned, simulated):
    found = error_of(aligned, simulated)
    assert found.rms_px < BOUND_PX
    assert found.worst_view_rms_px < 2 * BOUND_PX
    assert not found.hand_flipped
    assert abs(found.axis_difference_deg) < 0.1
    assert aligned.included.all()
    assert set(aligned.reasons) == {""}
    assert flag_names(aligned) == set()


def test_geometry_without_magnification_is_nearly_as_good(aligned, simulated):
    star = aligned.replace(geometry=aligned.star_geometry)
    np.testing.assert_array_equal(star.geometry.magnification, 1.0)
    assert error_of(star, simulated).rms_px < 0.3


@pytest.mark.parametrize(
    ("changes", "bound_px"),
    [
        ({"image_rows_px": 291, "image_columns_px": 187}, 0.08),
        ({"axis_deg": -179.5}, 0.08),
        ({"tilt_min_deg": 0.0, "tilt_step_deg": 4.0}, 0.15),
        ({"pretilt_deg": -10.0, "tilt_min_deg": -52.0}, 0.08),
        ({"bright_beads": True}, 0.08),
        ({"image_rows_px": 184, "image_columns_px": 184, "thickness_nm": 130.0}, 0.08),
        ({"n_jumps": 4}, 0.08),
        ({"pixel_size_angst": 5.0, "image_rows_px": 512, "image_columns_px": 600, "tilt_step_deg": 12.0}, 0.16),
    ],
    ids=["tall and odd", "axis at the seam", "row_27_one_sided", "row_24_pretilt", "bright",
         "as thick as half the field", "row_48_jumps", "binned"],
)  # fmt: skip
def test_variants_are_as_good(small, changes, bound_px):
    variant = simulate(small.replace(**{"texture": "none", "tilt_step_deg": 8.0} | changes))
    options = Fiducial(bead_contrast="bright" if variant.options.bright_beads else "dark")
    aligned = FIDUCIAL(variant.series, options)
    assert error_of(aligned, variant).rms_px < bound_px
    assert aligned.included.all()


@pytest.mark.parametrize("diameter_nm", [7.0, 13.0])
def test_a_diameter_wrong_by_30_percent_still_works(simulated, diameter_nm):
    aligned = FIDUCIAL(simulated.series, Fiducial(diameter_nm=diameter_nm))
    assert error_of(aligned, simulated).rms_px < 1.5 * BOUND_PX
    assert aligned.included.all()


def test_the_diameter_is_estimated_when_asked(simulated):
    aligned = FIDUCIAL(simulated.series, Fiducial(diameter_nm=30.0, diameter="estimate"))
    (found_nm,) = aligned.details["diameters_nm"]
    assert found_nm == pytest.approx(10.0, rel=0.3)
    assert error_of(aligned, simulated).rms_px < 1.5 * BOUND_PX


def test_row_47_normalised_images_give_the_same(simulated, aligned):
    """Zero mean, unit variance, as after many a preprocessing."""
    normalised = with_images(simulated.series, lambda _, image: (image - image.mean()) / image.std())
    found = FIDUCIAL(normalised, Fiducial())
    assert error_of(found, simulated).rms_px < 1.5 * BOUND_PX
    assert found.included.all()


# order and repetition


def test_row_20_order_of_tilts_is_irrelevant(simulated, aligned):
    """Rows in any order: the same geometry for every tilt_id, in the order of the input."""
    mixed = np.random.default_rng(0).permutation(len(simulated.series))
    series = simulated.series.replace(tilts=tuple(simulated.series.tilts[k] for k in mixed))
    found = FIDUCIAL(series, Fiducial())
    assert found.tilt_ids == series.tilt_ids
    back = found.take(aligned.tilt_ids)
    for name in ("y_tilt_deg", "z_rot_deg", "magnification", "shift_yx_angst"):
        np.testing.assert_allclose(getattr(back.geometry, name), getattr(aligned.geometry, name), atol=1e-6)


def test_same_input_same_bytes_from_several_threads_at_once(simulated, aligned):
    """The input is not changed, and progress rises from the beginning to the end."""
    before = [tilt.image.read().copy() for tilt in simulated.series.tilts[:3]]
    told: list[list[tuple[float, str]]] = [[], []]

    def align(number: int) -> Alignment:
        return FIDUCIAL(simulated.series, Fiducial(), progress=lambda *what: told[number].append(what))

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(align, range(2)):
            assert_identical(found, aligned)
    for tilt, image in zip(simulated.series.tilts, before, strict=False):
        np.testing.assert_array_equal(tilt.image.read(), image)
    for calls in told:
        fractions = [fraction for fraction, _ in calls]
        assert fractions == sorted(fractions)
        assert 0 < fractions[0] < 0.1
        assert fractions[-1] == 1.0
        assert all(message for _, message in calls)


# what the result carries


def test_tracks_are_the_true_beads(aligned, simulated):
    """Every track is a bead of the truth, in every image where it is used."""
    tracks, truth = aligned.tracks, simulated.truth.tracks
    true = {i: truth.position_yx_px[truth.tilt == i] for i in range(len(truth.tilt_ids))}
    used = np.flatnonzero(tracks.used)
    nearest = [np.linalg.norm(true[tracks.tilt[k]] - tracks.position_yx_px[k], axis=1).min() for k in used]
    assert np.median(nearest) < 0.15
    assert np.mean(np.array(nearest) < 1.0) > 0.99
    assert tracks.n_tracks >= 12
    whole = (np.bincount(truth.track) == len(simulated.series)).sum()
    assert (np.bincount(tracks.track[used]) >= 0.9 * len(simulated.series)).sum() >= whole - 2


def test_observations_say_how_they_came_about(aligned):
    tracks = aligned.tracks
    states = set(tracks.state.tolist())
    assert State.MEASURED in states
    assert states <= {State.MEASURED, State.FILLED, State.REJECTED}
    rejected = tracks.state == State.REJECTED
    assert (tracks.reason[rejected] > 0).all()
    assert (tracks.reason[~rejected] == 0).all()
    assert {REJECTION_REASONS[k] for k in tracks.reason} <= set(REJECTION_REASONS)
    assert (tracks.weight[rejected] == 0).all()
    used = tracks.used
    for values in (tracks.residual_yx_px[used], tracks.leave_out_yx_px[used], tracks.sd_px[used], tracks.weight[used]):
        assert np.isfinite(values).all()
    assert np.isfinite(tracks.points_zyx_angst).all()


def test_error_bars_of_positions_hold_the_truth(aligned, simulated):
    """Where the images see the beads, after the motion that no image can tell."""
    found = error_of(aligned, simulated)
    geometry = aligned.geometry.compose(found.motion)
    truth = simulated.truth.tracks
    centre = np.array(simulated.series.image_shape_yx) // 2
    predicted = geometry.project(truth.points_zyx_angst) / aligned.pixel_size_angst + centre
    error = predicted[truth.tilt, truth.track] - truth.position_yx_px
    assert np.sqrt(np.mean(error**2)) < BOUND_PX
    bars = aligned.uncertainty
    for values in (bars.y_tilt_deg, bars.z_rot_deg, bars.magnification, bars.shift_yx_angst):
        assert np.isfinite(values).all()
        assert (values > 0).all()
    truth_geometry = simulated.truth.geometry
    tilt = geometry.y_tilt_deg - truth_geometry.y_tilt_deg
    size = np.log(geometry.magnification / truth_geometry.magnification)
    for off, sd in (
        (wrap_deg(geometry.z_rot_deg - truth_geometry.z_rot_deg), bars.z_rot_deg),
        (tilt - tilt.mean(), bars.y_tilt_deg),
        (size - size.mean(), bars.magnification),
    ):
        assert 0.3 < np.sqrt(np.mean((off / sd) ** 2)) < 2.0


def test_rotation_centre_lies_between_the_faces(aligned):
    heights = aligned.tracks.points_zyx_angst[:, 0]
    low, high = np.percentile(heights, [5, 95])
    assert abs(low + high) / 2 < 50.0  # Angstrom
    assert high - low == pytest.approx(1200.0, rel=0.15)


def test_provenance_and_details(aligned):
    assert aligned.provenance.method == "fiducial"
    assert aligned.provenance.options["diameter_nm"] == 10.0
    assert aligned.details["hand"].startswith("undetermined")
    assert len(aligned.details["candidates_per_view"]) == len(aligned)
    assert DETAILS_KEY in aligned.details


def test_result_can_be_solved_again(aligned):
    """What was learned travels with the result: solving again from its own tracks changes nothing."""
    again = resolve(aligned, aligned.tracks)
    for name in ("y_tilt_deg", "z_rot_deg", "magnification"):
        np.testing.assert_allclose(getattr(again.geometry, name), getattr(aligned.geometry, name), atol=1e-5)
    model = model_of(aligned)
    assert len(model.noise_px) == len(aligned)
    assert 0.01 < np.median(model.noise_px) < 0.3


def test_row_48_an_observation_moved_by_20_px_after_the_fact_barely_matters(aligned, simulated):
    row = int(np.flatnonzero(aligned.tracks.used)[37])
    position = aligned.tracks.position_yx_px.copy()
    position[row] += [16.0, 12.0]
    moved = resolve(aligned, aligned.tracks.replace(position_yx_px=position))
    assert difference(moved, aligned, thickness_angst=1200.0).worst_view_rms_px < 0.05
    assert error_of(moved, simulated).rms_px < BOUND_PX


# images that are no good


def test_row_29_excluded_view_is_interpolated_and_reported(simulated, aligned):
    inside = simulated.series.tilt_ids[4]
    found = FIDUCIAL(simulated.series.with_exclusions({inside: "ice"}), Fiducial())
    assert found.tilt_ids == simulated.series.tilt_ids
    assert np.flatnonzero(~found.included).tolist() == [4]
    assert found.reasons[4] == "ice"
    assert error_of(found, simulated).rms_px < BOUND_PX
    assert np.isnan(found.uncertainty.y_tilt_deg[4])
    nominal = simulated.series.nominal_tilt_deg
    order = np.argsort(nominal)
    place = int(np.flatnonzero(order == 4)[0])
    below, above = order[place - 1], order[place + 1]
    np.testing.assert_allclose(
        found.geometry.shift_yx_angst[4], found.geometry.shift_yx_angst[[below, above]].mean(axis=0)
    )
    assert abs(found.geometry.y_tilt_deg[4] - nominal[4]) < 1.0
    assert 4 not in found.tracks.tilt


@pytest.fixture(scope="module")
def bad_views(small) -> tuple[SimulatedSeries, Alignment]:
    """Two dark images, one half blocked, one taken twice."""
    simulated = simulate(small.replace(n_dark_views=2, n_blocked_views=1, n_duplicated_views=1))
    return simulated, FIDUCIAL(simulated.series, Fiducial())


def test_row_45_dark_views_are_found(bad_views):
    simulated, found = bad_views
    dark = {k for k, reason in enumerate(simulated.truth.reasons) if reason == "no beam"}
    assert {k for k, reason in enumerate(found.reasons) if reason == "dark"} >= dark
    assert set(flag(found, "dark_view").tilt_ids) >= {found.tilt_ids[k] for k in dark}
    np.testing.assert_array_equal(found.included, simulated.truth.included)
    assert error_of(found, simulated).rms_px < BOUND_PX


def test_row_21_the_same_angle_twice_is_used_twice(bad_views):
    simulated, found = bad_views
    nominal = simulated.series.nominal_tilt_deg
    angles, counts = np.unique(nominal, return_counts=True)
    twice = np.flatnonzero(np.isin(nominal, angles[counts == 2]))
    assert len(twice) == 2
    assert found.included[twice].all()
    assert np.isfinite(found.geometry.shift_yx_angst).all()


def test_row_45_black_and_saturated_frames_are_left_out(simulated):
    value = {2: 0.0, 9: 65535.0}
    series = with_images(simulated.series, lambda k, image: np.full_like(image, value[k]) if k in value else image)
    found = FIDUCIAL(series, Fiducial())
    assert [found.reasons[k] for k in value] == ["no_contrast", "no_contrast"]
    assert flag(found, "no_contrast").tilt_ids == tuple(series.tilt_ids[k] for k in value)
    assert found.included.sum() == len(series) - 2
    assert error_of(found, simulated).rms_px < BOUND_PX


def test_row_44_row_46_pixels_that_are_hot_or_not_finite_do_no_harm(simulated):
    rng = np.random.default_rng(0)

    def hurt(k, image):
        image = image.copy()
        image[tuple(rng.integers(0, size, 400) for size in image.shape)] *= 30
        if k == 3:
            image[100:110, 50:60] = np.nan
        return image

    found = FIDUCIAL(with_images(simulated.series, hurt), Fiducial())
    assert flag(found, "nan_pixels_filled").tilt_ids == (simulated.series.tilt_ids[3],)
    assert error_of(found, simulated).rms_px < 1.5 * BOUND_PX


# axis and hand


@pytest.mark.parametrize("error_deg", [50.0, 90.0, -90.0], ids=["50", "row_25_axis_wrong_by_90", "row_25_by_minus_90"])
def test_row_25_a_wrong_axis_is_found_and_flagged(simulated, error_deg):
    nominal = simulated.series.nominal_axis_deg + error_deg
    tilts = tuple(dataclasses.replace(t, nominal_axis_deg=nominal) for t in simulated.series.tilts)
    found = FIDUCIAL(simulated.series.replace(tilts=tilts), Fiducial())
    error = error_of(found, simulated)
    assert min(error.rms_px, error.mirrored_rms_px) < BOUND_PX
    assert found.included.all()
    words = flag(found, "axis_far_from_nominal").detail
    assert f"{found.axis_deg:.1f}" in words
    assert f"{nominal:.1f}" in words
    assert "hand_undetermined" in flag_names(found)


def test_a_start_tells_the_axis(simulated, aligned):
    tilts = tuple(dataclasses.replace(t, nominal_axis_deg=60.0) for t in simulated.series.tilts)
    found = FIDUCIAL(simulated.series.replace(tilts=tilts), Fiducial(), start=aligned)
    assert error_of(found, simulated).rms_px < BOUND_PX


def test_row_24_wrong_sign_of_the_tilts_gives_the_mirror(simulated):
    """Positions cannot tell the hand: as good a fit, of the mirrored specimen."""
    tilts = tuple(dataclasses.replace(t, nominal_tilt_deg=-t.nominal_tilt_deg) for t in simulated.series.tilts)
    error = error_of(FIDUCIAL(simulated.series.replace(tilts=tilts), Fiducial()), simulated)
    assert error.hand_flipped
    assert error.mirrored_rms_px < BOUND_PX


# what cannot be aligned


@pytest.mark.parametrize("texture", ["particles", "none"])
def test_row_50_no_beads_says_so_with_a_count_and_a_suggestion(small, texture):
    """Where pixels are so large that a ribosome looks like a bead, flags must do (14 Angstrom: high residuals)."""
    empty = simulate(
        small.replace(n_beads=0, texture=texture, pixel_size_angst=10.0, image_rows_px=288, image_columns_px=320)
    )
    with pytest.raises(MethodFailed, match=r"SIM_01: .*no gold beads of 10 nm.* \d+ .*without beads"):
        FIDUCIAL(empty.series, Fiducial())


@pytest.mark.parametrize("n_beads", [1, 3])
def test_row_50_few_beads_give_flags_or_an_error_and_never_nan(small, n_beads):
    simulated = simulate(small.replace(n_beads=n_beads, texture="none"))
    try:
        found = FIDUCIAL(simulated.series, Fiducial())
    except MethodFailed as error:
        assert "SIM_01" in str(error)  # noqa: PT017 (either outcome is right)
        assert "without beads" in str(error)  # noqa: PT017
        return
    assert "rank_deficient" in flag_names(found)
    assert "not determined" in flag(found, "rank_deficient").detail
    if found.tracks.n_tracks < 3:
        assert "few_beads" in flag_names(found)
    for name in ("y_tilt_deg", "z_rot_deg", "magnification", "shift_yx_angst"):
        assert np.isfinite(getattr(found.geometry, name)).all()


@pytest.mark.parametrize("n_views", [0, 1, 2])
def test_row_27_fewer_than_three_images_are_refused(simulated, n_views):
    series = simulated.series.with_exclusions(dict.fromkeys(simulated.series.tilt_ids[n_views:], "test"))
    with pytest.raises(BadTiltSeries, match=f"SIM_01: {n_views} images are included; at least 3"):
        FIDUCIAL(series, Fiducial())


def test_row_27_three_images_are_possible(simulated):
    series = simulated.series.with_exclusions(dict.fromkeys(simulated.series.tilt_ids[3:], "test"))
    found = FIDUCIAL(series, Fiducial())
    assert found.included.sum() == 3
    assert np.isfinite(found.geometry.shift_yx_angst).all()
    assert np.isfinite(found.tracks.points_zyx_angst).all()


def test_row_28_a_gap_in_the_tilts_is_bridged(simulated):
    missing = [t.tilt_id for t in simulated.series.tilts if 12 < t.nominal_tilt_deg < 36]
    assert len(missing) == 3
    series = simulated.series.replace(tilts=tuple(t for t in simulated.series.tilts if t.tilt_id not in missing))
    found = FIDUCIAL(series, Fiducial())
    assert found.included.all()
    assert error_of(found, simulated).rms_px < BOUND_PX


def test_beads_too_small_to_be_seen_are_refused(simulated):
    with pytest.raises(BadTiltSeries, match=r"1\.4 pixels wide .* at least 3"):
        FIDUCIAL(simulated.series, Fiducial(diameter_nm=2.0))


def test_options_of_another_method_are_refused(simulated):
    with pytest.raises(TypeError, match="Fiducial"):
        FIDUCIAL(simulated.series, Simulation())


# progress


@pytest.mark.parametrize("stop_at", [0.0, 0.2, 0.65])
def test_cancelling_stops_and_leaves_no_thread(simulated, stop_at):
    before = set(threading.enumerate())
    told = []

    def progress(fraction: float, message: str) -> None:
        told.append(fraction)
        if fraction >= stop_at:
            raise Cancelled("stopped by test")

    with pytest.raises(Cancelled, match="stopped by test"):
        FIDUCIAL(simulated.series, Fiducial(), progress=progress)
    assert set(threading.enumerate()) == before
    assert told[-1] < stop_at + 0.2
    assert sum(fraction >= stop_at for fraction in told) == 1, "nothing may be told after stopping"


# the real series


@pytest.fixture(scope="module")
def real(shared_data) -> Alignment:
    """EMPIAR-10499 TS_01 aligned by its beads."""
    (series,) = read(shared_data / "empiar-10499_TS_01" / "tilt_series.star")
    return FIDUCIAL(series, Fiducial(diameter_nm=10))


def test_real_series(real, record_property):
    for name, value in real.statistics.items():
        record_property(name, round(value, 4))
    assert real.tracks.n_tracks >= 24
    assert len(real) == 41
    assert real.included.all()
    assert real.statistics["leave_out_median_px"] <= 0.30
    assert real.statistics["residual_rms_px"] <= 0.52
    assert real.axis_deg == pytest.approx(-4.3, abs=0.3)
    assert not flag_names(real) & {"view_not_aligned", "rank_deficient", "not_converged", "high_residual"}


def test_real_beads_lie_on_two_faces(real):
    """150 to 200 nm apart."""
    heights = real.tracks.points_zyx_angst[:, 0]
    low, high = np.percentile(heights, [10, 90])
    assert 1200 < high - low < 2300
