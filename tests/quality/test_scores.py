"""Judging: the score must rank alignments by their true error, and name what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from wrong_alignments import error_px, shifted, turned

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.model import Alignment
from napari_tiltalign.quality.scores import Judge, Scores
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

CASES = {
    "truth": lambda truth: truth,
    "shift 0.5 px": lambda truth: shifted(truth, 0.5),
    "shift 1.5 px": lambda truth: shifted(truth, 1.5),
    "shift 4 px": lambda truth: shifted(truth, 4.0),
    "axis 2 deg": lambda truth: turned(truth, 2.0),
}


SMALL = Simulation(
    image_rows_px=192, image_columns_px=184, pixel_size_angst=26, tilt_step_deg=4, bead_diameter_nm=16, n_beads=12,
    texture="cytoplasm",
)  # fmt: skip
"""A field of half a micrometre as in real series, with few large pixels."""


class Ranking:
    """One series with the scores of all cases."""

    def __init__(self, sample: SimulatedSeries) -> None:
        self.sample = sample
        self.judge = Judge(sample.series)
        self.alignments: dict[str, Alignment] = {name: make(sample.truth) for name, make in CASES.items()}
        self.scores: dict[str, Scores] = {name: self.judge(a) for name, a in self.alignments.items()}

    def spearman(self) -> float:
        """Rank correlation of the score with the true error."""
        errors = [error_px(self.alignments[name], self.sample) for name in CASES]
        return float(-spearmanr(errors, [self.scores[name].score for name in CASES]).statistic)


@pytest.fixture(scope="module")
def with_beads() -> Ranking:
    return Ranking(simulate(SMALL))


@pytest.fixture(scope="module")
def without_beads() -> Ranking:
    return Ranking(simulate(SMALL.replace(n_beads=0, name="SIM_bare")))


@pytest.mark.parametrize("which", ["with_beads", "without_beads"])
def test_the_score_ranks_by_the_true_error(which: str, request: pytest.FixtureRequest):
    ranking = request.getfixturevalue(which)
    assert ranking.spearman() > 0.89  # 1, or one pair of neighbours exchanged
    assert max(ranking.scores, key=lambda name: ranking.scores[name].score) == "truth"
    assert min(ranking.scores, key=lambda name: ranking.scores[name].score) == "shift 4 px"


def test_beads_measure_the_error_in_pixels(with_beads: Ranking):
    assert with_beads.scores["truth"].by_beads
    assert with_beads.scores["truth"].parts["bead_residual_px"] < 0.4
    for name in ("shift 1.5 px", "axis 2 deg"):
        true = error_px(with_beads.alignments[name], with_beads.sample)
        assert with_beads.scores[name].parts["bead_residual_px"] == pytest.approx(
            true, rel=0.35
        )  # beads lie on the surfaces


def test_nothing_is_taken_for_gold_where_there_is_none(without_beads: Ranking):
    scores = without_beads.scores["truth"]
    assert not scores.by_beads
    assert np.isnan(scores.parts["bead_residual_px"])
    assert any("not judged" in reason for reason in scores.reasons)


def test_grades_go_with_the_error(with_beads: Ranking):
    assert with_beads.scores["truth"].grade == "good"
    assert with_beads.scores["shift 4 px"].grade == "poor"


def test_the_thickness_and_level_are_told(with_beads: Ranking):
    parts = with_beads.scores["truth"].parts
    assert parts["thickness_nm"] == pytest.approx(120.0, rel=0.25)
    assert abs(parts["tilt_about_axis_deg"]) < 2.0


def test_a_view_that_jumps_is_named_with_its_reason(with_beads: Ranking):
    truth = with_beads.sample.truth
    view = int(np.argmin(np.abs(truth.geometry.y_tilt_deg - 20.0)))
    shift = truth.geometry.shift_yx_angst.copy()
    shift[view] += 7.0 * truth.pixel_size_angst

    scores = with_beads.judge(truth.replace(geometry=truth.geometry.replace(shift_yx_angst=shift)))

    named = [v.tilt_id for v in scores.views if v.suggest_exclusion]
    assert named == [truth.tilt_ids[view]]
    bad = scores.views[view]
    assert np.hypot(*bad.offset_yx_px) == pytest.approx(7.0 * np.sqrt(2.0), rel=0.15)
    assert bad.bead_residual_px == max(v.bead_residual_px for v in scores.views)
    assert bad.gain_percent > 0
    assert len(bad.reasons) >= 2
    assert scores.score < with_beads.scores["truth"].score


def test_a_stage_that_jumped_is_no_fault_of_the_alignment(with_beads: Ranking, without_beads: Ranking):
    """Where the images bear a jump out, the true alignment is not called odd; the same jump made up is."""
    options = SMALL.replace(n_jumps=4, jump_percent=20.0)
    for sample in (simulate(options), simulate(options.replace(n_beads=0))):
        judge = Judge(sample.series)
        assert [v for v in judge(sample.truth).views if v.reasons] == []
    for ranking in (with_beads, without_beads):
        truth = ranking.sample.truth
        shift = truth.geometry.shift_yx_angst.copy()
        shift[9] += 0.2 * 184 * truth.pixel_size_angst
        made_up = ranking.judge(truth.replace(geometry=truth.geometry.replace(shift_yx_angst=shift)))
        assert any("it jumps by" in reason for reason in made_up.views[9].reasons)


def test_the_score_does_not_depend_on_how_the_specimen_is_turned(without_beads: Ranking):
    truth = without_beads.sample.truth
    tilted = truth.replace(geometry=truth.geometry.replace(y_tilt_deg=truth.geometry.y_tilt_deg + 6.0))
    scores, level = without_beads.judge(tilted), without_beads.scores["truth"]
    assert abs(scores.parts["tilt_about_axis_deg"]) == pytest.approx(6.0, abs=1.0)
    assert scores.score == pytest.approx(level.score, rel=0.03)
    assert any("not level" in reason for reason in scores.reasons)


def test_scores_are_plain_values_for_json(without_beads: Ranking):
    scores = without_beads.scores["truth"]
    read = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert read["score"] == pytest.approx(scores.score)
    assert read["parts"]["bead_residual_px"] is None
    assert len(read["views"]) == len(without_beads.sample.series)
    assert read["score_rests_on"] == "images"


def test_an_alignment_of_other_images_is_refused(with_beads: Ranking, no_beads: SimulatedSeries):
    with pytest.raises(BadInput, match="read it together with the series"):
        with_beads.judge(no_beads.truth)


def test_too_few_views_are_refused(with_beads: Ranking):
    few = np.zeros(len(with_beads.sample.truth), bool)
    few[:4] = True
    with pytest.raises(BadTiltSeries, match="4 views"):
        with_beads.judge(with_beads.sample.truth.replace(included=few))


def test_an_excluded_view_is_listed_with_its_reason(with_beads: Ranking):
    truth = with_beads.sample.truth
    kept = np.ones(len(truth), bool)
    kept[3] = False
    reasons = tuple("too dark" if i == 3 else "" for i in range(len(truth)))
    view = with_beads.judge(truth.replace(included=kept, reasons=reasons)).views[3]
    assert (view.used, view.suggest_exclusion, view.reasons) == (False, False, ("too dark",))
