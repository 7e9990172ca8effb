"""The stage, the order of the images, and what is reported of them."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from napari_tiltalign.simulation import SCENARIOS, Simulation
from napari_tiltalign.simulation.acquisition import Fate, acquire

ORDERS = {
    "dose-symmetric": [0, 10, -10, -20, 20, 30, -30],
    "bidirectional": [0, 10, 20, 30, -10, -20, -30],
    "one-way": [-30, -20, -10, 0, 10, 20, 30],
}


@pytest.mark.parametrize("scheme", ORDERS)
def test_order_and_dose(scheme):
    taken = acquire(Simulation(tilt_min_deg=-30, tilt_max_deg=30, tilt_step_deg=10, scheme=scheme))
    assert taken.stage_tilt_deg.tolist() == ORDERS[scheme]
    assert taken.pre_exposure_e_per_A2.tolist() == [0, 3, 6, 9, 12, 15, 18]


def test_tilts_of_one_side():
    taken = acquire(Simulation(tilt_min_deg=0, tilt_max_deg=20, tilt_step_deg=10))
    assert taken.stage_tilt_deg.tolist() == [0, 10, 20]


def test_a_perfect_stage():
    taken = acquire(
        Simulation(
            axis_deg=85, axis_error_deg=0, tilt_error_sd_deg=0, rotation_sd_deg=0, magnification_percent=0,
            max_shift_percent=0,
        )
    )  # fmt: skip
    np.testing.assert_array_equal(taken.geometry.y_tilt_deg, taken.stage_tilt_deg)
    np.testing.assert_array_equal(taken.geometry.z_rot_deg, 85)
    np.testing.assert_array_equal(taken.geometry.magnification, 1)
    np.testing.assert_array_equal(taken.geometry.shift_yx_angst, 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_errors_are_as_large_as_asked_for(seed):
    taken = acquire(
        Simulation(
            seed=seed, axis_deg=85, axis_error_deg=6, pretilt_deg=-11, tilt_min_deg=-60, tilt_max_deg=60,
            tilt_error_sd_deg=0.3, rotation_sd_deg=0.25, magnification_percent=0.2, max_shift_percent=12,
        )
    )  # fmt: skip
    geometry = taken.geometry
    errors = geometry.y_tilt_deg - taken.stage_tilt_deg
    assert errors.mean() == pytest.approx(-11, abs=0.2)
    assert errors.std() == pytest.approx(0.3, rel=0.4)
    assert geometry.z_rot_deg.mean() == pytest.approx(91)
    assert geometry.z_rot_deg.std() == pytest.approx(0.25)
    assert np.abs(geometry.magnification - 1).max() == pytest.approx(0.002)
    assert np.linalg.norm(geometry.shift_yx_angst, axis=1).max() == pytest.approx(0.12 * 5120)
    # rotation and magnification change smoothly with tilt, tilt errors do not
    order = np.argsort(taken.stage_tilt_deg)

    def roughness(values):
        return np.diff(values[order]).std() / values.std()

    assert roughness(geometry.z_rot_deg) < 0.4
    assert roughness(geometry.magnification) < 0.4
    assert roughness(errors) > 0.9


def test_jumps_go_away_and_come_back():
    quiet = acquire(Simulation())
    jumpy = acquire(Simulation(n_jumps=6, jump_percent=30))
    apart = np.linalg.norm(jumpy.geometry.shift_yx_angst - quiet.geometry.shift_yx_angst, axis=1) / 5120
    assert np.count_nonzero(np.abs(np.diff(apart)) > 0.25) == 6
    assert apart[0] == 0
    assert set(np.round(apart[apart > 0], 1)) == {0.3}


def test_changing_one_thing_leaves_the_others():
    one, other = acquire(Simulation()), acquire(Simulation(rotation_sd_deg=2, n_beads=3, dose_per_view_e_per_A2=1))
    np.testing.assert_array_equal(one.geometry.y_tilt_deg, other.geometry.y_tilt_deg)
    np.testing.assert_array_equal(one.geometry.shift_yx_angst, other.geometry.shift_yx_angst)
    assert not np.array_equal(one.geometry.z_rot_deg, other.geometry.z_rot_deg)


def test_faults_and_duplicates():
    taken = acquire(Simulation(n_dark_views=2, n_blocked_views=1, n_duplicated_views=2))
    assert len(taken) == 43
    assert [taken.fates.count(fate) for fate in Fate] == [40, 2, 1]
    assert taken.fates[0] is Fate.GOOD
    again = np.flatnonzero(np.diff(taken.stage_tilt_deg) == 0)
    assert len(again) == 2
    assert (np.diff(taken.geometry.y_tilt_deg)[again] != 0).all()  # taken again, not copied


@pytest.mark.parametrize(
    "wrong",
    [
        {"tilt_min_deg": 10.0, "tilt_max_deg": -10.0},
        {"pretilt_deg": 30.0},
        {"n_dark_views": 40},
        {"thickness_nm": 0.0},
        {"texture": "cheese"},
        {"n_bead": 3},
        {"bead_diameter_nm": float("nan")},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        Simulation(**wrong)


def test_scenarios():
    assert len({options.name for options in SCENARIOS.values()}) == len(SCENARIOS)
    counts = {name: len(acquire(options)) for name, options in SCENARIOS.items()}
    assert counts["easy"] == 41
    assert counts["low-dose"] == 61
    assert counts["few-views"] == 13
    assert counts["demo"] == 31
    assert {name for name, options in SCENARIOS.items() if not options.n_beads} == {
        "insitu",
        "thin",
        "lamella",
        "needle",
    }
