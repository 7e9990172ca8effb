"""Rows of the table of views, and pictures of images."""

from __future__ import annotations

import numpy as np
import pytest
from judged_views import judged
from napari.components import ViewerModel

from napari_tiltalign.model import Dataset
from napari_tiltalign.quality.views import Suggestion, ViewMeasures
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment, ExcludeViews
from napari_tiltalign.ui.scores_in_use import scores_in_use
from napari_tiltalign.ui.session import Session
from napari_tiltalign.ui.view_survey import THUMBNAIL_SIDE_PX, SeenView, ViewSurvey, thumbnail
from napari_tiltalign.ui.view_table import COLUMNS, view_rows, with_judged

pytestmark = pytest.mark.gui


def test_rows_are_sorted_by_tilt_and_say_what_is_known(series, truth):
    seen = {"view_00": SeenView(ViewMeasures(50.0, 1.0, 0.0, 1.0), np.zeros((2, 2), np.uint8))}
    excluded = series.with_exclusions({"view_03": "dark"})
    included = np.array([tilt_id != "view_05" for tilt_id in truth.tilt_ids])
    alignment = truth.replace(included=included, reasons=tuple("" if ok else "too few beads" for ok in included))
    rows = view_rows(excluded, alignment, seen, [Suggestion("view_07", "blurred", "evidence")])
    tilts = [float(row.cells[0]) for row in rows]
    assert tilts == sorted(tilts)
    cells = {row.tilt_id: dict(zip((c.heading for c in COLUMNS), row.cells, strict=True)) for row in rows}
    assert cells["view_00"] == {
        "Tilt": "+0.0", "State": "used", "Resid.": "0.00", "Score": "", "Bright.": "50.0", "Contr.": "2.00",
        "Dose": "0", "Defocus": "",
    }  # fmt: skip
    assert cells["view_01"]["Bright."] == ""
    assert cells["view_03"]["State"] == "excluded: dark"
    assert cells["view_05"]["State"] == "not aligned: too few beads"
    assert cells["view_07"]["State"] == "suspect: blurred"
    assert {row.cells[2] for row in view_rows(series, None, {}, ())} == {""}


def test_scores_of_views_are_listed_and_in_brackets_once_they_are_old(series, truth):
    scores = judged(series, view_03={"score": float("nan"), "used": False})
    column = [column.heading for column in COLUMNS].index("Score")
    now, later = (
        {row.tilt_id: row.cells[column] for row in view_rows(series, truth, {}, (), (scores, are_old))}
        for are_old in (False, True)
    )
    assert (now["view_00"], now["view_12"], now["view_03"]) == ("50", "38", "")
    assert (later["view_00"], later["view_03"]) == ("(50)", "")


def test_judging_adds_suggestions_with_the_gain(series):
    bad = {"score": 2.0, "gain_percent": 3.4, "suggest_exclusion": True, "reasons": ("it is 9 px off",)}
    scores = judged(series, view_04=bad, view_06=bad, view_08=bad)
    known = [Suggestion("view_06", "blurred", "evidence")]
    out = series.with_exclusions({"view_08": "by hand"})
    evidence = "it is 9 px off; the reconstruction would be 3.4 % sharper without it"
    assert with_judged(known, out, scores) == [*known, Suggestion("view_04", "low score", evidence)]
    assert with_judged(known, out, None) == known


def test_scores_outlive_an_edit_of_their_alignment_only(series, truth):
    session = Session(resolve=lambda alignment, tracks: alignment.replace(tracks=tracks))
    session.open(Dataset((series,)))
    session.do(AddAlignment("one", truth))
    assert scores_in_use(session) == (None, False)
    session.judged.keep_scores(truth, scores := judged(series))
    assert scores_in_use(session) == (scores, False)
    session.do(ExcludeViews(("view_02",)))
    assert scores_in_use(session) == (scores, True)
    session.do(AddAlignment("two", truth.replace(tracks=None)))
    assert scores_in_use(session) == (None, False)
    session.undo()
    assert scores_in_use(session) == (scores, True)
    session.undo()
    assert scores_in_use(session) == (scores, False)


@pytest.mark.parametrize("shape", [(96, 80), (30, 20), (500, 41)])
def test_thumbnails_are_small_and_go_from_black_to_white(shape):
    picture = thumbnail(np.random.default_rng(0).normal(100.0, 1.0, shape).astype(np.float32))
    assert picture.dtype == np.uint8
    assert max(picture.shape) <= THUMBNAIL_SIDE_PX
    assert (picture.min(), picture.max()) == (0, 255)


def test_an_image_without_pixels_has_a_black_thumbnail():
    assert not thumbnail(np.full((50, 50), np.nan, np.float32)).any()


@pytest.fixture
def survey(qtbot, dataset):
    """A survey of the first of three series, complete."""
    viewer = ViewerModel()
    survey = ViewSurvey(layers_of(viewer))
    survey.viewer = viewer  # nothing else keeps it alive here
    survey.session = layers_of(viewer).session
    survey.session.open(dataset)
    qtbot.waitUntil(lambda: survey.complete and not survey.is_busy, timeout=20_000)
    yield survey
    survey.stop()


def test_every_image_is_seen_once(survey, qtbot, series):
    assert set(survey.views) == set(series.tilt_ids)
    first = dict(survey.views)
    survey.session.show("TS_2")
    qtbot.waitUntil(lambda: survey.complete and not survey.is_busy, timeout=20_000)
    survey.session.show("TS_1")
    assert survey.complete
    assert survey.views == first


def test_suggestions_follow_the_alignment(survey, qtbot, truth):
    assert survey.suggestions == ()
    included = np.array([tilt_id != "view_05" for tilt_id in truth.tilt_ids])
    reasons = tuple("" if ok else "too few beads" for ok in included)
    survey.session.do(AddAlignment("part", truth.replace(included=included, reasons=reasons)))
    qtbot.waitUntil(lambda: len(survey.suggestions) == 1, timeout=20_000)
    assert survey.suggestions[0].tilt_id == "view_05"
    survey.session.undo()
    qtbot.waitUntil(lambda: not survey.suggestions, timeout=20_000)


def test_closing_the_dataset_forgets_what_was_seen(survey):
    survey.session.close()
    assert not survey.complete
    assert survey.views == {}
    assert survey.suggestions == ()
