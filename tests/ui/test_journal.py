"""The journal: a crash at any moment costs the step that was being written at most."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io import read
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.ui.commands import (
    AddAlignment,
    EditTracks,
    ExcludeEach,
    ExcludeViews,
    LockTracks,
    RemoveAlignment,
    ReplaceWork,
    UseAlignment,
)
from napari_tiltalign.ui.journal import Journal
from napari_tiltalign.ui.journal_file import read_journal, step_fields, step_of_fields
from napari_tiltalign.ui.saving import restored_work, save
from napari_tiltalign.ui.session import Session


class Desk:
    """A session with its journal, as in a viewer; `offers` are the questions it has asked."""

    def __init__(self, repeat: bool = True) -> None:
        self.offers: list[tuple[str, int]] = []
        self.told: list[str] = []
        self.session = Session(restore=restored_work)
        self.session.warned.connect(self.told.append)

        def ask(name: str, n_steps: int) -> bool:
            self.offers.append((name, n_steps))
            return repeat

        self.journal = Journal(self.session, ask)

    def decided(self) -> dict:
        """Everything that was decided, as plain values, without what is computed from it."""
        work, tracks = self.session.work, self.session.alignment.tracks
        placed = [getattr(tracks, name).tolist() for name in ("track_ids", "track", "tilt", "position_yx_px", "state")]
        names = list(work.candidates), work.current, sorted(work.candidate.locked)
        return {"exclusions": dict(work.exclusions), "names": names, "placed": placed}


def delete(track_id: int) -> EditTracks:
    return EditTracks("delete", {"track_id": track_id})


@pytest.fixture
def desk(project):
    """A desk with some work on it that was not saved."""
    dataset, truths = project
    desk = Desk()
    desk.session.open(dataset)
    desk.session.do(AddAlignment("exact", truths["TS_1"]))
    desk.session.do(delete(2))
    desk.session.do(delete(3))
    desk.session.undo()
    desk.session.do(ExcludeViews((truths["TS_1"].tilt_ids[0],), "ice"))
    desk.session.do(LockTracks((1,)))
    return desk


def after_crash(desk: Desk, repeat: bool = True) -> Desk:
    """Open the dataset of a desk that was left as it was."""
    again = Desk(repeat)
    again.session.open(read(desk.session.dataset.source))
    return again


def test_a_crash_loses_nothing(desk):
    again = after_crash(desk)
    assert again.offers == [("TS_1", 6)]
    assert again.decided() == desk.decided()
    assert difference(again.session.alignment, desk.session.alignment, thickness_angst=300.0).rms_px < 0.1
    assert again.session.unsaved() == ("TS_1",)
    assert again.session.undo_label == desk.session.undo_label


def test_row_87_hundreds_of_steps_survive_a_crash(desk):
    ids = desk.session.series.tilt_ids
    for number in range(100):
        desk.session.do(LockTracks((number % 7,)))
        desk.session.do(ExcludeViews((ids[number % 3],), f"remark {number}"))
        if number % 4 == 0:
            desk.session.undo()
    again = after_crash(desk)
    ((name, n_steps),) = again.offers
    assert name == "TS_1"
    assert n_steps >= 200
    assert again.decided() == desk.decided()
    assert again.session.undo_label == desk.session.undo_label


def test_work_goes_on_after_a_crash_and_survives_the_next_one(desk):
    again = after_crash(desk)
    again.session.undo()
    again.session.do(delete(5))
    third = after_crash(again)
    assert third.offers == [("TS_1", 8)]
    assert third.decided() == again.decided()


@pytest.mark.parametrize("cut_bytes", [1, 2, 20])
def test_a_half_written_last_line_does_not_count(desk, cut_bytes):
    path = desk.journal.path("TS_1")
    path.write_bytes(path.read_bytes()[:-cut_bytes])
    again = after_crash(desk)
    assert again.offers == [("TS_1", 5)]
    assert again.session.candidate.locked == frozenset()
    assert dict(again.session.work.exclusions) == dict(desk.session.work.exclusions)
    again.session.do(LockTracks((4,)))
    assert len(read_journal(path, again.session.series)[1]) == 6


def test_what_is_not_wanted_is_forgotten(desk):
    again = after_crash(desk, repeat=False)
    assert again.session.alignment is None
    assert not desk.journal.path("TS_1").exists()
    assert after_crash(desk).offers == []


def test_saving_ends_the_journal(desk, tmp_path):
    path = desk.journal.path("TS_1")
    assert path.exists()
    save(desk.session, tmp_path / "project" / "job")
    assert not path.exists()
    again = after_crash(desk)
    assert again.offers == []
    assert again.session.alignment is not None


def test_after_saving_it_lies_beside_the_results_and_undo_may_go_back_past_the_saving(desk, tmp_path):
    folder = tmp_path / "project" / "job"
    save(desk.session, folder)
    desk.session.undo()
    desk.session.undo()
    desk.session.redo()
    desk.session.do(delete(4))
    assert desk.journal.path("TS_1") == folder / "external" / "TS_1" / "journal.jsonl"
    assert desk.journal.path("TS_1").is_file()
    again = after_crash(desk)
    assert again.offers == [("TS_1", 4)]
    assert again.decided() == desk.decided()


def test_a_journal_does_not_apply_to_results_that_were_saved_after_it(desk, project, tmp_path):
    dataset, truths = project
    other = Session(restore=restored_work)
    other.open(dataset)
    other.do(AddAlignment("mine", truths["TS_1"]))
    save(other, tmp_path / "project" / "job")
    again = after_crash(desk)
    assert again.offers == []
    assert "does not fit" in again.told[0]
    assert list(again.session.work.candidates) == ["mine"]
    assert desk.journal.path("TS_1").with_name(desk.journal.path("TS_1").name + ".unusable").is_file()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "damaged"),
        (b"[]", "no object"),
        (b'{"step": "explode"}', "no step 'explode'"),
        (b'{"step": "edit", "edit": "format_disk", "arguments": {}}', "no edit 'format_disk'"),
        (b'{"step": "lock", "track_ids": ["1"], "locked": true}', "no int"),
        (b'{"step": "use", "name": "exact", "more": 1}', "unknown keys: more"),
        (b'{"step": "use"}', "name"),
    ],
)
def test_a_damaged_journal_is_put_aside_and_told(desk, line, problem):
    path = desk.journal.path("TS_1")
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:], b""]))
    with pytest.raises(BadInput, match=problem):
        read_journal(path, desk.session.series)
    again = after_crash(desk)
    assert again.offers == []
    assert "line 3" in again.told[0]
    assert not path.exists()


def test_steps_that_make_no_sense_end_the_repetition(desk):
    path = desk.journal.path("TS_1")
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:3], json.dumps(step_fields(delete(99))).encode(), b""]))
    again = after_crash(desk)
    assert "2 of 3 steps were repeated" in again.told[0]
    assert 2 not in again.session.alignment.tracks.track_ids
    assert len(read_journal(path, again.session.series)[1]) == 2


def test_every_series_has_a_journal_of_its_own(desk, project):
    desk.session.show("TS_2")
    desk.session.do(ExcludeViews(("TS_2_view_00",)))
    again = after_crash(desk)
    assert again.offers == [("TS_1", 6)]
    again.session.show("TS_2")
    assert again.offers == [("TS_1", 6), ("TS_2", 1)]
    again.session.show("TS_1")
    assert len(again.offers) == 2


def test_two_viewers_do_not_write_one_journal(desk, project):
    other = Desk()
    other.session.open(project[0], show="TS_2")
    other.session.do(ExcludeViews(("TS_1_view_01",)), "TS_1")
    other.session.do(ExcludeViews(("TS_1_view_02",)), "TS_1")
    assert [text for text in other.told if "no journal is kept" in text] == other.told
    assert len(other.told) == 1


def test_data_without_files_have_no_journal(series, user_state):
    from napari_tiltalign.model import Dataset

    desk = Desk()
    desk.session.open(Dataset((series,)))
    desk.session.do(ExcludeViews(("view_00",)))
    assert list(user_state.rglob("*")) == []


def test_every_command_is_told_to_a_journal_and_back(series, truth):
    position = (np.float64(3.5), 4.0)
    commands = [
        AddAlignment("a", truth),
        UseAlignment("a"),
        RemoveAlignment("a"),
        ExcludeViews(("view_00",), ""),
        ExcludeEach({"view_00": "dark", "view_01": ""}),
        LockTracks((np.int64(3),), False),
        EditTracks("place", {"track_id": np.int64(1), "tilt_id": "view_00", "position_yx_px": position}),
        ReplaceWork(Session().work),
        "undo",
        "redo",
    ]
    for command in commands:
        text = json.dumps(step_fields(command))
        assert json.dumps(step_fields(step_of_fields(json.loads(text), series, "here"))) == text


def test_an_unknown_command_is_refused_aloud():
    with pytest.raises(TypeError, match="knows no command int"):
        step_fields(3)


def test_what_the_batch_engine_has_written_needs_no_journal(desk, project):
    """Steps that a crash has left on a series that was not opened yet are not in its way."""
    _, truths = project
    again = after_crash(desk)
    again.session.show("TS_2")
    left = again.journal.path("TS_10")
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"left by a crash\n")
    again.session.do(AddAlignment("batch", truths["TS_10"]), "TS_10", on_disk=True)
    assert "TS_10" not in again.session.unsaved()
    assert again.told == []
    assert left.read_bytes() == b"left by a crash\n"


def test_a_journal_is_offered_later_if_the_user_has_gone_on_meanwhile(desk):
    waiting = []
    session = Session(restore=restored_work)
    offers = []
    journal = Journal(session, lambda name, n_steps: offers.append(name) or True, later=waiting.append)
    session.open(read(desk.session.dataset.source))
    session.show("TS_2")
    waiting.pop(0)()
    assert offers == []
    session.show("TS_1")
    waiting.pop(0)()
    assert offers == ["TS_1"]
    assert journal.path("TS_1").is_file()
