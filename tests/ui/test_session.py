"""The state behind the widgets: what it tells, what can be undone, and what late answers may not do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_tiltalign.errors import MethodFailed
from napari_tiltalign.methods.local_motion import DETAILS_KEY
from napari_tiltalign.model import Alignment, Tracks
from napari_tiltalign.ui.commands import (
    AddAlignment,
    EditTracks,
    ExcludeViews,
    LockTracks,
    RemoveAlignment,
    UseAlignment,
)
from napari_tiltalign.ui.edits import EditRefused
from napari_tiltalign.ui.session import Session
from napari_tiltalign.ui.work import opened_work

SIGNALS = (
    "dataset_changed", "series_changed", "candidates_changed", "alignment_changed", "exclusions_changed",
    "bead_changed", "view_changed", "history_changed",
)  # fmt: skip


def counting_resolve(alignment: Alignment, tracks: Tracks) -> Alignment:
    """A solver that counts how often it was asked, and takes the tracks as they are."""
    solved = alignment.statistics.get("solved", 0.0) + 1.0
    return alignment.replace(tracks=tracks, statistics={"solved": solved})


class Postponed:
    """A background that runs nothing before it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, work, done, failed) -> None:
        """Remember what to run."""
        self.waiting.append(lambda: done(work()))

    def finish_one(self) -> None:
        """Run what was asked first."""
        self.waiting.pop(0)()


@pytest.fixture
def session(dataset, truth) -> Session:
    """An open session with the exact alignment of the series that is shown."""
    session = Session(counting_resolve)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    return session


def heard(session: Session) -> list[str]:
    """A list that fills with the names of the signals that are emitted."""
    names: list[str] = []
    for name in SIGNALS:
        getattr(session, name).connect(lambda name=name: names.append(name))
    return names


def place(track_id: int = 2, tilt_id: str = "view_04", y: float = 10.0, x: float = 20.0) -> EditTracks:
    return EditTracks("place", {"track_id": track_id, "tilt_id": tilt_id, "position_yx_px": (y, x)})


def position(session: Session, track_id: int = 2, tilt_id: str = "view_04") -> list[float]:
    tracks = session.alignment.tracks
    row = (tracks.track_ids[tracks.track] == track_id) & (tracks.tilt == tracks.tilt_ids.index(tilt_id))
    return tracks.position_yx_px[row][0].tolist()


def test_an_empty_session_has_nothing_to_offer():
    session = Session(counting_resolve)
    assert (session.dataset, session.series, session.alignment, session.bead, session.view) == (None,) * 4 + ("",)
    session.undo()
    session.show_neighbour(1)
    assert session.unsaved() == ()
    with pytest.raises(KeyError, match="no series is open"):
        session.do(ExcludeViews(("view_00",)))


def test_opening_shows_the_first_series_at_its_middle_view(dataset):
    session = Session(counting_resolve)
    names = heard(session)
    session.open(dataset)
    assert session.series.name == "TS_1"
    assert session.view == "view_00"  # acquired first, at zero tilt
    assert names[:2] == ["dataset_changed", "series_changed"]
    assert set(names) == set(SIGNALS)


def test_browsing_stops_at_both_ends(session):
    for step, name in [(-1, "TS_1"), (1, "TS_2"), (1, "TS_10"), (1, "TS_10"), (-1, "TS_2")]:
        session.show_neighbour(step)
        assert session.series.name == name


def test_work_on_a_series_is_there_when_it_is_shown_again(session):
    session.do(ExcludeViews(("view_03",), "dark"))
    session.show("TS_2")
    assert session.work.exclusions == {}
    assert session.alignment is None
    session.show("TS_1")
    assert session.work.exclusions == {"view_03": "dark"}
    assert session.work.current == "exact"


def test_an_edit_is_solved_and_undone_and_repeated(session):
    before = position(session)
    names = heard(session)
    session.do(place())
    assert position(session) == [10.0, 20.0]
    assert session.candidate.solved
    assert session.alignment.statistics["solved"] == 1.0
    assert names == ["alignment_changed", "history_changed", "alignment_changed"]  # edited, then solved
    assert session.undo_label == "move bead 2"
    session.undo()
    assert position(session) == before
    assert session.redo_label == "move bead 2"
    session.redo()
    assert position(session) == [10.0, 20.0]
    assert session.alignment.statistics["solved"] == 1.0, "what was solved already is not solved again"


def test_a_refused_edit_changes_nothing(session):
    before = session.work
    names = heard(session)
    with pytest.raises(EditRefused, match="no bead 99"):
        session.do(place(track_id=99))
    assert session.work is before
    assert names == []


def test_locked_beads_are_protected(session):
    session.do(LockTracks((2,)))
    with pytest.raises(EditRefused, match="bead 2 locked"):
        session.do(place())
    session.do(LockTracks((2,), locked=False))
    session.do(place())


def test_an_answer_that_comes_after_the_next_edit_is_dropped(dataset, truth):
    background = Postponed()
    session = Session(counting_resolve, background)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    session.do(place(y=1.0))
    session.do(place(y=2.0))
    session.do(place(y=3.0))
    assert len(background.waiting) == 1, "one solution at a time"
    background.finish_one()
    assert position(session)[0] == 3.0
    assert not session.candidate.solved
    assert len(background.waiting) == 1
    background.finish_one()
    assert position(session)[0] == 3.0
    assert session.candidate.solved
    assert not background.waiting


def test_an_answer_that_comes_after_undo_is_dropped(dataset, truth):
    background = Postponed()
    session = Session(counting_resolve, background)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    session.do(place())
    session.undo()
    background.finish_one()
    assert session.alignment is truth
    session.redo()
    assert not session.candidate.solved
    background.finish_one()
    assert session.candidate.solved
    assert position(session) == [10.0, 20.0]


def test_an_answer_that_comes_after_the_series_was_left_is_kept_for_it(dataset, truth):
    background = Postponed()
    session = Session(counting_resolve, background)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    session.do(place())
    session.show("TS_2")
    names = heard(session)
    background.finish_one()
    assert names == []
    session.show("TS_1")
    assert session.candidate.solved


def test_tracks_that_cannot_be_solved_keep_the_geometry_and_say_why(dataset, truth):
    def failing(alignment, tracks):
        raise MethodFailed("only 2 images are left")

    session = Session(failing)
    told = []
    session.warned.connect(told.append)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    session.do(place())
    assert told == ["only 2 images are left"]
    assert session.candidate.problem == "only 2 images are left"
    assert session.alignment.geometry is truth.geometry
    session.undo()
    assert session.candidate.problem == ""


def test_exclusions_reach_the_series_and_every_candidate(session, truth):
    session.do(AddAlignment("other", truth))
    session.do(ExcludeViews(("view_03", "view_05"), "dark"))
    assert session.series["view_03"].reason == "dark"
    assert session.series.included.sum() == 11
    for candidate in session.work.candidates.values():
        assert candidate.alignment.included.sum() == 11
        assert candidate.alignment.reasons[3] == "dark"
    assert session.candidate.solved
    assert not session.work.candidates["exact"].solved, "the other one is solved when it is used"
    session.do(UseAlignment("exact"))
    assert session.candidate.solved
    session.do(ExcludeViews(("view_03",), ""))
    assert session.series["view_03"].included
    assert session.alignment.included.sum() == 12
    with pytest.raises(EditRefused, match="already included"):
        session.do(ExcludeViews(("view_03",), ""))


def test_exclusions_of_the_input_are_there_from_the_start(dataset):
    series = dataset.series[0].with_exclusions({"view_02": "images_missing"})
    session = Session(counting_resolve)
    session.open(type(dataset)((series,)))
    assert session.work.exclusions == {"view_02": "images_missing"}
    session.do(ExcludeViews(("view_02",), ""))
    assert session.series.included.all()


def test_candidates_are_used_and_removed(session, truth):
    session.do(AddAlignment("other", truth.replace(statistics={"beads": 3.0})))
    names = heard(session)
    session.do(UseAlignment("exact"))
    assert names == ["candidates_changed", "alignment_changed", "history_changed"]
    session.do(RemoveAlignment("exact"))
    assert session.work.current == "other"
    session.do(RemoveAlignment("other"))
    assert session.alignment is None
    with pytest.raises(EditRefused, match="no alignment 'exact'"):
        session.do(UseAlignment("exact"))
    with pytest.raises(EditRefused, match="run a method first"):
        session.do(place())


def test_alignments_known_from_the_start_are_no_unsaved_work(dataset, truth):
    known = {"from STAR": truth, "saved": truth}
    session = Session(counting_resolve, restore=lambda dataset, series: opened_work(series, known))
    session.open(dataset)
    assert session.work.current == "saved"
    assert session.unsaved() == ()
    session.do(place())
    assert session.unsaved() == ("TS_1",)
    session.mark_saved("TS_1")
    assert session.unsaved() == ()
    session.undo()
    assert session.unsaved() == ("TS_1",)


def test_an_answer_after_saving_is_no_unsaved_change(dataset, truth):
    background = Postponed()
    session = Session(counting_resolve, background)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    session.do(place())
    session.mark_saved("TS_1")
    background.finish_one()
    assert session.unsaved() == ()


def test_recorded_steps_lead_to_the_same_work(session, dataset, truth):
    steps = []
    session.recorded.connect(lambda name, step: steps.append(step))
    session.do(place(y=1.0))
    session.do(EditTracks("delete", {"track_id": 3}))
    session.undo()
    session.do(ExcludeViews(("view_01",)))
    session.do(LockTracks((1,)))
    session.undo()
    session.redo()

    again = Session(counting_resolve, restore=lambda dataset, series: opened_work(series, {"exact": truth}))
    again.open(dataset, show="TS_2")
    again.replay("TS_1", steps)
    assert again.series.name == "TS_1"
    assert again.candidate.solved
    assert again.work.exclusions == session.work.exclusions
    assert again.candidate.locked == session.candidate.locked
    assert again.undo_label == session.undo_label
    for name in ("track_ids", "track", "tilt", "position_yx_px", "state"):
        np.testing.assert_array_equal(getattr(again.alignment.tracks, name), getattr(session.alignment.tracks, name))


def test_a_bead_that_was_deleted_is_not_selected_any_more(session):
    session.select_bead(3)
    names = heard(session)
    session.do(EditTracks("delete", {"track_id": 3}))
    assert session.bead is None
    assert names.count("bead_changed") == 1
    session.select_bead(4)
    session.select_bead(4)
    assert names.count("bead_changed") == 2


def test_another_alignment_has_other_beads(session, truth):
    session.select_bead(2)
    session.examined.append((2, "view_00"))
    session.do(AddAlignment("other", truth))
    assert session.bead is None, "bead 2 of the other alignment is another one"
    assert session.examined == []
    session.select_bead(3)
    session.do(UseAlignment("exact"))
    assert session.bead is None
    session.select_bead(4)
    session.undo()
    assert session.bead is None
    session.select_bead(5)
    session.do(EditTracks("remove", {"track_id": 1, "tilt_id": "view_00"}))
    session.undo()
    assert session.bead == 5, "an edit of the same alignment leaves it selected"


def test_only_views_of_the_series_can_be_looked_at(session):
    session.select_view("view_07")
    assert session.view == "view_07"
    with pytest.raises(KeyError, match="no tilt 'nonsense'"):
        session.select_view("nonsense")


def test_closing_forgets_everything(session):
    session.close()
    assert (session.dataset, session.series, session.alignment) == (None, None, None)
    assert session.unsaved() == ()


def test_local_motion_that_edits_have_dropped_is_looked_for_again(dataset, truth):
    asked = []

    def find_motion(alignment, series):
        asked.append(series.name)
        return alignment.replace(details={**alignment.details, DETAILS_KEY: "none found"})

    def resolve(alignment, tracks):
        return alignment.replace(tracks=tracks, details={})

    session = Session(resolve, find_motion=find_motion)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    session.do(place())
    session.find_motion()
    assert asked == []  # nobody had looked for it
    session.do(AddAlignment("moving", truth.replace(details={DETAILS_KEY: "used"})))
    session.find_motion()
    assert asked == []
    session.do(place())
    session.do(place(3))
    assert session.candidate.motion_due
    assert session.alignment.details == {}
    session.find_motion()
    assert asked == ["TS_1"]
    assert session.alignment.details == {DETAILS_KEY: "none found"}
    assert not session.candidate.motion_due
    session.undo()
    assert session.candidate.motion_due  # as it was then


def test_local_motion_that_comes_too_late_is_dropped(dataset, truth):
    background = Postponed()
    session = Session(counting_resolve, background, find_motion=lambda alignment, series: alignment.replace(details={}))
    session.open(dataset)
    session.do(AddAlignment("moving", truth.replace(details={DETAILS_KEY: "used"})))
    session.do(place())
    background.finish_one()
    session.find_motion()
    session.do(place(y=11.0))
    background.finish_one()
    assert session.candidate.motion_due
    background.finish_one()
    assert position(session) == [11.0, 20.0]
    assert session.candidate.motion_due
