"""Rows of the table of views, and pictures of images."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_tiltalign.quality.views import Suggestion, ViewMeasures
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.commands import AddAlignment
from napari_tiltalign.ui.view_survey import THUMBNAIL_SIDE_PX, SeenView, ViewSurvey, thumbnail
from napari_tiltalign.ui.view_table import COLUMNS, view_rows

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
        "Tilt": "+0.0", "State": "used", "Resid.": "0.00", "Bright.": "50.0", "Contr.": "2.00", "Dose": "0",
        "Defocus": "",
    }  # fmt: skip
    assert cells["view_01"]["Bright."] == ""
    assert cells["view_03"]["State"] == "excluded: dark"
    assert cells["view_05"]["State"] == "not aligned: too few beads"
    assert cells["view_07"]["State"] == "suspect: blurred"
    assert {row.cells[2] for row in view_rows(series, None, {}, ())} == {""}


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
