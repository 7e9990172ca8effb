"""Simulated images agree with the truth that comes with them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import KDTree

from napari_tiltalign.errors import Cancelled
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.io.record import read_record, write_record
from napari_tiltalign.model import REJECTION_REASONS, State
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import SCENARIOS, Simulation, simulate
from napari_tiltalign.simulation.beam import DEFOCUS_STEP_ANGST, Frame, transmitted

SMALL = Simulation(image_rows_px=200, image_columns_px=160, tilt_step_deg=15, n_beads=12, texture="none")
CLEAN = SMALL.replace(counting_noise=False, hot_pixels_per_view=0)


def images(simulated):
    return np.stack([tilt.image.read() for tilt in simulated.series.tilts])


def isolated_observations(tracks, shape_yx, clearance_px):
    """(tilt, y, x) of the beads that stand alone and well inside."""
    found = []
    for tilt in range(len(tracks.tilt_ids)):
        positions = tracks.position_yx_px[tracks.tilt == tilt]
        inside = np.all((positions > clearance_px) & (positions < np.array(shape_yx) - clearance_px), axis=1)
        alone = KDTree(positions).query(positions, 2)[0][:, 1] > 2 * clearance_px
        found += [(tilt, *position) for position in positions[inside & alone]]
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"image_rows_px": 401, "image_columns_px": 363},
        {"bead_diameter_nm": 6.0, "underfocus_um": 1.5},
        {"deformation_percent": 3.0},
        {"axis_deg": 85.0, "pretilt_deg": -12.0},
    ],
    ids=str,
)
def test_beads_are_where_the_truth_says(changes):
    options = CLEAN.replace(**{"image_rows_px": 400, "image_columns_px": 360, "n_beads": 12} | changes)
    simulated = simulate(options)
    # the same images without beads are exactly the background
    absorbed = 1 - images(simulated) / images(simulate(options.replace(n_beads=0)))
    y, x = np.mgrid[: options.image_rows_px, : options.image_columns_px]
    width = 0.4 * options.bead_diameter_nm * 10 / options.pixel_size_angst
    bias = []
    for tilt, y0, x0 in isolated_observations(simulated.truth.tracks, options.image_shape_yx, 20):
        weight = np.exp(-0.5 * ((y - y0) ** 2 + (x - x0) ** 2) / width**2) * absorbed[tilt]
        bias.append([(weight * (y - y0)).sum() / weight.sum(), (weight * (x - x0)).sum() / weight.sum()])
    assert len(bias) > 20
    assert np.abs(bias).max() < 0.01
    assert np.sqrt(np.mean(np.square(bias))) < 0.003


def test_the_truth_is_the_projection_model():
    simulated = simulate(SMALL)
    truth, tracks = simulated.truth, simulated.truth.tracks
    assert truth.tilt_ids == simulated.series.tilt_ids == tracks.tilt_ids
    projected = truth.geometry.project(tracks.points_zyx_angst) / truth.pixel_size_angst + np.array([100, 80])
    np.testing.assert_allclose(tracks.position_yx_px, projected[tracks.tilt, tracks.track], atol=1e-9)
    np.testing.assert_array_equal(tracks.residual_yx_px, 0)
    np.testing.assert_array_equal(tracks.points_zyx_angst, simulated.beads.centre_zyx_angst)
    assert (tracks.position_yx_px >= 0).all()
    assert (tracks.position_yx_px <= [199, 159]).all()
    assert set(tracks.track) == set(range(tracks.n_tracks))
    assert difference(truth, truth, thickness_angst=SMALL.thickness_angst).rms_px < 1e-9


def test_a_deforming_specimen_leaves_the_projection_model_with_dose():
    simulated = simulate(SMALL.replace(deformation_percent=2))
    tracks = simulated.truth.tracks
    size = np.linalg.norm(tracks.residual_yx_px, axis=1)
    assert size[tracks.tilt == 0].max() == 0
    assert size[tracks.tilt == len(simulated.series) - 1].max() > 1
    assert simulated.deformation is not None


def test_what_is_reported():
    simulated = simulate(SMALL.replace(axis_error_deg=2.5, underfocus_um=3.0))
    series, truth = simulated.series, simulated.truth
    assert series.nominal_tilt_deg.tolist() == [0, 15, -15, -30, 30, 45, -45, -60, 60]
    assert series.tilt_ids[2] == "SIM_01_003_-15.0"
    assert series.nominal_axis_deg == SMALL.axis_deg
    assert truth.geometry.z_rot_deg.mean() == pytest.approx(SMALL.axis_deg + 2.5)
    assert [tilt.pre_exposure_e_per_A2 for tilt in series.tilts] == [3.0 * i for i in range(9)]
    assert {tilt.nominal_defocus_um for tilt in series.tilts} == {-3.0}
    assert series.included.all()
    assert series.image_shape_yx == (200, 160)
    assert images(simulated).dtype == np.float32
    assert truth.provenance.options["axis_error_deg"] == 2.5
    assert Simulation(**truth.provenance.options) == simulated.options


def test_a_wrong_sign_of_the_tilts_is_the_other_hand():
    simulated = simulate(SMALL.replace(wrong_tilt_sign=True, tilt_error_sd_deg=0, rotation_sd_deg=0, axis_error_deg=0))
    series, truth = simulated.series, simulated.truth
    np.testing.assert_array_equal(series.nominal_tilt_deg, -truth.geometry.y_tilt_deg)
    nominal = ViewGeometry.nominal(series.nominal_tilt_deg, series.nominal_axis_deg)
    shifted = nominal.replace(shift_yx_angst=truth.geometry.shift_yx_angst)
    found = difference(truth.replace(geometry=shifted), truth, thickness_angst=SMALL.thickness_angst)
    assert found.hand_flipped
    assert found.mirrored_rms_px < 0.1


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads():
    options = SMALL.replace(texture="cell", n_dirt=3, deformation_percent=1)
    one, two = simulate(options, workers=1), simulate(options, workers=3)
    assert images(one).tobytes() == images(two).tobytes()
    assert one.truth.tracks.position_yx_px.tobytes() == two.truth.tracks.position_yx_px.tobytes()
    assert images(simulate(options.replace(seed=7))).tobytes() != images(one).tobytes()


def test_electrons_are_counted():
    options = SMALL.replace(n_beads=0, hot_pixels_per_view=0)
    noise = images(simulate(options)) - images(simulate(options.replace(counting_noise=False)))
    expected = images(simulate(options.replace(counting_noise=False)))
    assert 0.4 * 300 < expected[0].mean() < 0.8 * 300  # 3 electrons per square Angstrom, some lost in the ice
    assert expected[-1].mean() < 0.75 * expected[0].mean()  # twice the way through it at 60 degrees
    np.testing.assert_allclose(noise.var(axis=(1, 2)), expected.mean(axis=(1, 2)), rtol=0.05)
    assert np.abs(noise.mean(axis=(1, 2))).max() < 0.5
    fewer = images(simulate(options.replace(dose_per_view_e_per_A2=0.3)))
    assert fewer.mean() == pytest.approx(expected.mean() / 10, rel=0.01)


def test_faulty_images_are_marked_in_the_truth_only():
    simulated = simulate(SMALL.replace(n_dark_views=2, n_blocked_views=1, n_duplicated_views=1))
    truth, pixels = simulated.truth, images(simulated)
    dark = np.array(truth.reasons) == "no beam"
    blocked = np.array(truth.reasons) == "blocked by the grid"
    assert (dark.sum(), blocked.sum(), len(truth)) == (2, 1, 10)
    np.testing.assert_array_equal(truth.included, ~(dark | blocked))
    assert simulated.series.included.all()
    means = np.median(pixels, axis=(1, 2))
    assert (means[dark] < 0.05 * means[truth.included].min()).all()
    hidden = (pixels[blocked] < 0.2 * means[truth.included].min()).mean()
    assert 0.3 < hidden < 0.7
    faulty = np.isin(truth.tracks.tilt, np.flatnonzero(~truth.included))
    assert faulty.any()
    np.testing.assert_array_equal(truth.tracks.used, ~faulty)
    assert set(truth.tracks.state[~faulty]) == {State.MEASURED}
    assert {REJECTION_REASONS[r] for r in truth.tracks.reason[faulty]} == {"outside"}
    assert len(set(simulated.series.tilt_ids)) == 10


def test_contrast_and_offset_of_the_detector():
    plain = images(simulate(CLEAN))
    inverted = images(simulate(CLEAN.replace(bright_beads=True, detector_offset_counts=1000)))
    for before, after in zip(plain, inverted, strict=True):
        np.testing.assert_allclose(after, 1000 + 2 * np.median(before) - before, rtol=1e-5)


def test_hot_pixels():
    hot = images(simulate(CLEAN.replace(hot_pixels_per_view=7))) - images(simulate(CLEAN))
    counts = (hot > 100).sum(axis=(1, 2))
    assert (counts <= 7).all()
    assert counts.mean() > 6


def test_underfocus_puts_a_bright_ring_round_a_bead():
    def brightest(underfocus_um):
        options = CLEAN.replace(underfocus_um=underfocus_um)
        background = images(simulate(options.replace(n_beads=0)))
        return (images(simulate(options)) / background).max()

    assert brightest(0.0) < 1.02
    assert 1.05 < brightest(3.5) < 1.25


def test_defocus_follows_the_height():
    frame = Frame.of(Simulation(image_rows_px=64, image_columns_px=128))
    nothing = np.zeros(frame.shape_yx, np.float32)
    gold = nothing.copy()
    gold[::40, ::40] = 60.0
    ramp = np.broadcast_to(np.linspace(-1, 1, 128, dtype=np.float32) * 2 * DEFOCUS_STEP_ANGST, (64, 128))
    tilted = transmitted(nothing, gold, ramp, 30_000.0, frame)
    left = transmitted(nothing, gold, np.full((64, 128), ramp[0, 0]), 30_000.0, frame)
    right = transmitted(nothing, gold, np.full((64, 128), ramp[0, -1]), 30_000.0, frame)
    np.testing.assert_allclose(tilted[:, 0], left[:, 0], rtol=1e-5)
    np.testing.assert_allclose(tilted[:, -1], right[:, -1], rtol=1e-5)
    assert np.abs(left - right).max() > 0.03


def test_structure_reaches_every_edge_of_every_image():
    options = CLEAN.replace(texture="cytoplasm", n_beads=0, pretilt_deg=5)
    with_structure = images(simulate(options)) / images(simulate(options.replace(texture="none")))
    edges = [with_structure[:, :25], with_structure[:, -25:], with_structure[:, :, :25], with_structure[:, :, -25:]]
    for edge in edges:
        ratio = edge.std(axis=(1, 2)) / with_structure.std(axis=(1, 2))
        assert (ratio > 0.45).all()


def test_structure_moves_with_its_height():
    """Two views of a thick slab agree worse than two of a thin one, once they are brought to the same place."""

    def agreement(thickness_nm):
        options = CLEAN.replace(
            texture="cytoplasm", n_beads=0, thickness_nm=thickness_nm, max_shift_percent=0, axis_deg=0,
            axis_error_deg=0, rotation_sd_deg=0, tilt_error_sd_deg=0, magnification_percent=0, tilt_min_deg=-6,
            tilt_max_deg=6, tilt_step_deg=6,
        )  # fmt: skip
        structure = images(simulate(options)) / images(simulate(options.replace(texture="none"))) - 1
        middle = structure[:, 40:160, 60:100]  # near the axis, where tilting does not compress
        return np.corrcoef(middle[1].ravel(), middle[2].ravel())[0, 1]

    assert agreement(10) > agreement(150) + 0.2


def test_work_can_be_watched_and_stopped():
    told = []
    simulate(SMALL, workers=1, progress=lambda fraction, message: told.append(fraction))
    np.testing.assert_allclose(told, np.arange(1, 10) / 9)

    def stop(fraction: float, message: str) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        simulate(SMALL, progress=stop)


def test_the_truth_survives_being_written(tmp_path):
    simulated = simulate(SMALL.replace(n_dark_views=1, deformation_percent=1))
    write_record(tmp_path / "truth.json", simulated.truth)
    read = read_record(tmp_path / "truth.json")
    assert Simulation(**read.provenance.options) == simulated.options
    np.testing.assert_array_equal(read.included, simulated.truth.included)
    np.testing.assert_array_equal(read.tracks.position_yx_px, simulated.truth.tracks.position_yx_px)
    assert difference(read, simulated.truth, thickness_angst=1200.0).rms_px < 1e-9


def test_a_needle_on_a_dark_field_detector_is_bright_and_weighs_the_same_in_all_views():
    options = SCENARIOS["needle"].replace(
        max_shift_percent=0, tilt_step_deg=30, detector_offset_counts=0, hot_pixels_per_view=0, rotation_sd_deg=0
    )
    simulated = simulate(options)
    pixels = images(simulated)
    vacuum = pixels[:, :, :40].mean(axis=(1, 2))
    bright = pixels - vacuum[:, None, None]
    assert vacuum == pytest.approx(10.0, rel=0.05)  # 1 % of 10 electrons on 100 square Angstrom
    assert np.percentile(bright[0], 99) > 50 * vacuum.std()
    mass = bright.sum(axis=(1, 2))
    np.testing.assert_allclose(mass, mass.mean(), rtol=0.05)
    assert not (simulate(options.replace(imaging="bright-field")).series.tilts[0].image.read() > 1200).any()
