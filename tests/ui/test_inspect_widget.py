"""The widget Inspect: it follows the session, its clicks lead there, and it chooses between alignments."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
import pytest
from napari.components import ViewerModel
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt

from napari_tiltalign.images.project import Grid
from napari_tiltalign.model import Flag
from napari_tiltalign.quality.preview import Preview
from napari_tiltalign.quality.slab import Slab
from napari_tiltalign.ui.attach import session_of
from napari_tiltalign.ui.candidate_table import COLUMNS
from napari_tiltalign.ui.commands import AddAlignment, ExcludeViews, UseAlignment
from napari_tiltalign.ui.comparison import Comparison, How
from napari_tiltalign.ui.inspect_widget import InspectWidget
from napari_tiltalign.ui.tomogram_view import TomogramView
from napari_tiltalign.ui.view_curves import PANELS

pytestmark = pytest.mark.gui


@pytest.fixture
def widget(qtbot, dataset) -> InspectWidget:
    """The widget on a viewer without a window, with a series."""
    viewer = ViewerModel()
    widget = InspectWidget(viewer)
    widget.viewer = viewer  # nothing else keeps it alive here
    qtbot.addWidget(widget)
    widget.session = session_of(viewer)
    widget.session.open(dataset)
    return widget


@pytest.fixture
def aligned(widget, truth) -> InspectWidget:
    """The same with two alignments, the second in use."""
    shifted = truth.geometry.replace(shift_yx_angst=truth.geometry.shift_yx_angst + 10.0)
    flag = Flag("few_beads", "only 2")
    statistics = {"residual_rms_px": 0.25, "leave_out_rms_px": 0.31}
    widget.session.do(AddAlignment("one", truth.replace(geometry=shifted, flags=(flag,), tracks=None)))
    widget.session.do(AddAlignment("two", truth.replace(statistics=statistics)))
    return widget


def curves(widget: InspectWidget, panel: int) -> list:
    return [item for item in widget.plots.plots[panel].listDataItems() if isinstance(item, pg.PlotDataItem)]


def tomogram(geometry) -> Preview:
    """A tomogram of noise."""
    grid = Grid((8, 48, 40), 20.0)
    volume = np.random.default_rng(0).normal(size=grid.shape_zyx).astype(np.float32)
    return Preview(
        volume, grid, geometry, Slab(0.0, 80.0, 0.0, 0.0, 10.0, 2.0, 4.0, 1.0, 0.4), levelled=True, algorithm="wbp"
    )


def cells(widget: InspectWidget) -> list[list[str]]:
    return [[item.text(column) for column in range(len(COLUMNS))] for item in widget.candidates._items()]


def test_without_an_alignment_it_says_so(widget):
    assert curves(widget, 0) == []
    assert "no alignment yet" in widget.hint.text()
    assert cells(widget) == []
    assert not widget.candidates.use_button.isEnabled()


def test_plots_show_the_alignment_in_use(aligned, series, truth):
    drawn = curves(aligned, 0)[1]
    order = series.tilt_order()
    np.testing.assert_allclose(drawn.xData, series.nominal_tilt_deg[order])
    np.testing.assert_allclose(drawn.yData, truth.geometry.shift_yx_angst[order, 1])
    assert aligned.map.image.image.shape == (7, 13, 4)


def test_excluded_views_are_drawn_apart(aligned, qtbot):
    assert curves(aligned, 1)[0].xData.size == 13
    aligned.session.do(ExcludeViews(("view_02",)))
    qtbot.waitUntil(lambda: aligned.session.candidate.solved, timeout=20_000)
    assert curves(aligned, 1)[0].xData.size == 12
    aligned.session.undo()
    assert curves(aligned, 1)[0].xData.size == 13


def test_clicks_lead_to_the_view_and_the_bead(aligned, series):
    aligned.plots.view_clicked.emit(4)
    assert aligned.session.view == "view_04"
    aligned.map.cell_clicked.emit(2, 0)
    assert aligned.session.view == series.tilt_ids[series.tilt_order()[0]]
    assert aligned.session.bead == aligned._grid.track_ids[2]
    assert aligned.map.row_mark.value() == 2.5
    assert aligned.map.column_mark.value() == 0.5


def test_marks_follow_the_slider(aligned, series):
    aligned.viewer.dims.set_current_step(0, 3)
    assert aligned.plots.marks[0].value() == series.nominal_tilt_deg[series.tilt_order()[3]]
    assert aligned.map.column_mark.value() == 3.5
    assert not aligned.map.row_mark.isVisible()


def test_alignments_are_listed_with_their_warnings(aligned):
    assert cells(aligned)[0][0] == "one"
    assert cells(aligned)[0][[heading for heading, _ in COLUMNS].index("Flags")] == "1"
    assert "only 2" in aligned.candidates._items()[0].toolTip(0)
    assert cells(aligned)[1][:7] == ["two", "", "", "0.25", "0.31", "13/13", "7"]
    assert [item.font(0).bold() for item in aligned.candidates._items()] == [False, True]


def test_another_alignment_is_put_to_use_and_undone(aligned):
    aligned.candidates.list.setCurrentItem(aligned.candidates._items()[0])
    aligned.candidates.use_button.click()
    assert aligned.session.work.current == "one"
    assert not aligned.candidates.use_button.isEnabled()
    assert "There are no beads" in aligned.hint.text()
    assert aligned._grid is None
    aligned.session.undo()
    assert aligned.session.work.current == "two"
    assert aligned._grid is not None


def test_ticked_alignments_are_drawn_too(aligned, truth):
    before = len(curves(aligned, 0))
    aligned.candidates._items()[0].setCheckState(0, Qt.CheckState.Checked)
    drawn = curves(aligned, 0)
    assert len(drawn) == before + 2
    order = np.argsort(aligned.plots._tilt_deg, kind="stable")
    np.testing.assert_allclose(drawn[-1].yData, truth.geometry.shift_yx_angst[order, 1] + 10.0)
    aligned.candidates._items()[1].setCheckState(0, Qt.CheckState.Checked)
    assert len(curves(aligned, 0)) == before + 2, "the one in use is drawn once"
    aligned.session.do(AddAlignment("three", truth))
    assert aligned.candidates._items()[0].checkState(0) == Qt.CheckState.Checked, "what was ticked stays ticked"


def test_axes_are_seen_on_dark_and_light(aligned):
    for theme in ("light", "dark"):
        aligned.viewer.theme = theme
        expected = get_theme(theme).text.as_rgb_tuple()[:3]
        pen = aligned.plots.plots[0].getAxis("left").textPen()
        assert pen.color().getRgb()[:3] == expected


def test_closing_the_dataset_empties_it(aligned):
    aligned.session.close()
    assert curves(aligned, 0) == []
    assert aligned._grid is None
    assert cells(aligned) == []


def test_napari_finds_it(make_napari_viewer):
    _, widget = make_napari_viewer().window.add_plugin_dock_widget("napari-tiltalign", "Inspect")
    assert isinstance(widget, InspectWidget)


def test_tomograms_are_made_in_a_thread_and_shown_side_by_side(aligned, qtbot, truth):
    aligned.candidates._items()[0].setCheckState(0, Qt.CheckState.Checked)
    aligned.candidates.tomogram_button.click()
    assert not aligned.candidates.tomogram_button.isEnabled()
    assert aligned.candidates.progress.isVisibleTo(aligned)
    qtbot.waitUntil(lambda: len(aligned.tomograms.tomograms) == 2, timeout=120_000)
    assert list(aligned.tomograms.tomograms) == ["two", "one"]
    assert aligned.tomogram_hint.text().startswith("two: ")
    qtbot.waitUntil(aligned.candidates.tomogram_button.isEnabled, timeout=10_000)
    assert {"tomogram XY", "tomogram XZ", "slab"} <= {layer.name for layer in aligned.viewer.layers}
    aligned.session.do(UseAlignment("one"))
    assert list(aligned.tomograms.tomograms) == ["one"], "the other one is not ticked"


def test_both_sections_of_a_tomogram_are_drawn_to_one_scale(qtbot, truth):
    view = TomogramView()
    qtbot.addWidget(view)
    view.show_tomograms({"one": tomogram(truth.geometry), "two": tomogram(truth.geometry)})
    boxes = [item for item in view.ci.items if isinstance(item, pg.ViewBox)]
    assert len(boxes) == 2
    for box in boxes:
        images = [item for item in box.addedItems if isinstance(item, pg.ImageItem)]
        xy, xz = (item.mapRectToView(item.boundingRect()) for item in images)
        assert (xy.left(), xy.right()) == (xz.left(), xz.right()), "x is below x"
        assert xz.top() > xy.bottom()
    titles = [item.toPlainText() for item in view.scene().items() if isinstance(item, pg.TextItem)]
    assert sorted(titles) == ["one", "two"]


def test_what_is_compared_is_chosen_and_offered(aligned):
    box = aligned.candidates
    assert [box.what_box.itemText(i) for i in range(box.what_box.count())] == ["nothing", "one"]
    box.what_box.setCurrentText("one")
    box.how_box.setCurrentText("overlay")
    box.how_box.activated.emit(1)
    assert aligned.session.comparison == Comparison("one", How.OVERLAY)
    assert aligned.session.shows_aligned
    aligned.session.compare(Comparison())
    assert box.what_box.currentText() == "nothing"


def test_alignments_are_judged_in_the_table(aligned, qtbot):
    box = aligned.candidates
    score = [heading for heading, _ in COLUMNS].index("Score")
    assert [item.text(score) for item in box._items()] == ["", ""]
    box._items()[0].setCheckState(0, Qt.CheckState.Checked)
    box.judge_button.click()
    qtbot.waitUntil(lambda: not box._running.is_busy, timeout=120_000)
    told = [item.text(score) for item in box._items()]
    assert all(text.split()[1] in ("good", "fair", "poor") for text in told)
    assert "Judged" in box._items()[1].toolTip(0)
    scores = aligned.session.judged.scores_of(aligned.session.alignment)
    assert scores is not None
    score_panel = [panel.title for panel in PANELS].index("score")
    assert score_panel in aligned.plots._arranged, "scores of views are plotted once they are known"
    solid, dashed = curves(aligned, score_panel)[0], curves(aligned, score_panel)[-1]
    drawn = dict(zip(*solid.getData(), strict=True))
    for view in scores.views:
        if np.isfinite(view.score):
            assert drawn[view.tilt_deg] == pytest.approx(view.score)
    assert dashed is not solid
