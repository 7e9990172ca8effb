"""Comparing alignments: the best is picked with a reason, on views that all have in common."""

from __future__ import annotations

import json

import numpy as np
import pytest
from wrong_alignments import error_px, shifted, turned

from napari_tiltalign.errors import BadInput
from napari_tiltalign.quality.comparing import Comparison, compare
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

SMALL = Simulation(
    image_rows_px=160, image_columns_px=168, pixel_size_angst=28, tilt_step_deg=5, bead_diameter_nm=16, n_beads=10
)


@pytest.fixture(scope="module")
def sample() -> SimulatedSeries:
    return simulate(SMALL)


@pytest.fixture(scope="module")
def comparison(sample: SimulatedSeries) -> Comparison:
    truth = sample.truth
    few = np.arange(len(truth)) % 2 == 0
    return compare(
        sample.series,
        {
            "turned": turned(truth, 3.0),
            "shaken": shifted(truth, 2.0),
            "good": shifted(truth, 0.2),
            "lazy": truth.replace(included=few),
        },
    )


def test_the_best_is_picked_with_its_reason(comparison: Comparison):
    assert comparison.best == "good"
    assert comparison.certain
    assert "good scores" in comparison.reason
    assert next(iter(comparison.entrants)) == "good"


def test_one_that_leaves_out_views_is_judged_but_not_picked(comparison: Comparison):
    lazy = comparison.entrants["lazy"]
    assert lazy.scores is not None
    assert "not picked" in lazy.remark


def test_differences_are_told_from_the_best(comparison: Comparison, sample: SimulatedSeries):
    apart = comparison.entrants["turned"].difference
    assert apart is not None
    assert apart.axis_difference_deg == pytest.approx(3.0, abs=0.1)
    assert apart.rms_px == pytest.approx(error_px(turned(sample.truth, 3.0), sample), rel=0.3)
    assert comparison.entrants["good"].difference is None


def test_equal_alignments_are_not_told_apart(sample: SimulatedSeries):
    found = compare(sample.series, {"one": sample.truth, "other": shifted(sample.truth, 0.01)})
    assert not found.certain
    assert "too small" in found.reason


def test_one_that_cannot_be_judged_does_not_spoil_the_rest(sample: SimulatedSeries):
    hopeless = sample.truth.replace(included=np.zeros(len(sample.truth), bool))
    found = compare(sample.series, {"hopeless": hopeless, "good": sample.truth})
    assert found.best == "good"
    assert found.entrants["hopeless"].scores is None
    assert "not judged" in found.entrants["hopeless"].remark


def test_it_is_plain_values_for_json(comparison: Comparison):
    read = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert read["best"] == "good"
    assert set(read["alignments"]) == {"good", "shaken", "turned", "lazy"}


def test_nothing_to_compare_is_refused(sample: SimulatedSeries):
    with pytest.raises(BadInput, match="no alignment"):
        compare(sample.series, {})
