"""Saving and reopening: the same picture comes back, and the files are those of the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io import read
from napari_tiltalign.io.convert import read_alignment
from napari_tiltalign.io.curation import curation_fields
from napari_tiltalign.io.output import write_results
from napari_tiltalign.io.output_folder import OutputFolder
from napari_tiltalign.model import Dataset
from napari_tiltalign.ui.commands import AddAlignment, EditTracks, ExcludeViews, LockTracks, UseAlignment
from napari_tiltalign.ui.saving import curation_of_work, restored_work, save
from napari_tiltalign.ui.session import Session


def fields(session: Session, name: str) -> dict:
    """Everything that is known of the work on a series, as plain values."""
    return curation_fields(curation_of_work(session.work_of(name)))


@pytest.fixture
def session(project):
    """A session on a project on the disk, with work on its first series: two alignments, a lock, two exclusions."""
    dataset, truth = project[0], project[1]["TS_1"]
    session = Session(restore=restored_work)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    session.do(AddAlignment("other", truth.replace(statistics={"residual_rms_px": 2.0})))
    session.do(UseAlignment("exact"))
    session.do(ExcludeViews((truth.tilt_ids[0],), "ice on it"))
    session.do(EditTracks("delete", {"track_id": 2}))
    session.do(LockTracks((1, 4)))
    return session


def test_what_was_saved_is_there_when_the_dataset_is_opened_again(session, tmp_path):
    save(session, tmp_path / "project" / "Align" / "job")
    assert session.unsaved() == ()
    again = Session(restore=restored_work)
    again.open(read(session.dataset.source))
    saved, restored = fields(session, "TS_1"), fields(again, "TS_1")
    saved["candidates"].pop("other")  # solved again when it was saved, because a view was excluded
    assert restored["candidates"].pop("other")["alignment"]["statistics"]["residual_rms_px"] < 0.1
    assert restored == saved
    assert again.series.tilts[0].reason == "ice on it"
    assert again.candidate.locked == {1, 4}
    assert 2 not in again.alignment.tracks.track_ids
    assert again.unsaved() == ()
    np.testing.assert_array_equal(again.alignment.geometry.shift_yx_angst, session.alignment.geometry.shift_yx_angst)


def test_the_files_are_those_of_the_command_line(session, tmp_path):
    save(session, tmp_path / "project" / "saved")
    write_results(tmp_path / "project" / "written", curated_dataset(session), {"TS_1": session.alignment})
    for file in ("tilt_series/TS_1.star", "external/TS_1/alignment.json", "external/TS_1/TS_1.xf"):
        assert (tmp_path / "project" / "saved" / file).read_bytes() == (
            tmp_path / "project" / "written" / file
        ).read_bytes(), file
    excluded = session.series.tilts[0]
    assert len(read(tmp_path / "project" / "saved" / "aligned_tilt_series.star")["TS_1"]) == len(session.series) - 1
    assert excluded.tilt_id not in (tmp_path / "project" / "saved" / "tilt_series" / "TS_1.star").read_text()


def curated_dataset(session: Session) -> Dataset:
    """The dataset with the user's exclusions."""
    return dataclasses.replace(session.dataset, series=tuple(session.series_named(s.name) for s in session.dataset))


def test_exclusions_without_an_alignment_are_saved_too(project, tmp_path):
    dataset, truth = project[0], project[1]["TS_1"]
    session = Session(restore=restored_work)
    session.open(dataset)
    session.do(ExcludeViews((truth.tilt_ids[3],), "blocked"))
    save(session, tmp_path / "project" / "Align" / "job")
    assert session.unsaved() == ()
    assert not (tmp_path / "project" / "Align" / "job" / "aligned_tilt_series.star").exists()
    again = Session(restore=restored_work)
    again.open(dataset)
    assert dict(again.work.exclusions) == {truth.tilt_ids[3]: "blocked"}


def test_series_saved_earlier_stay_in_the_table(session, project, tmp_path):
    dataset, truths = project
    save(session, tmp_path / "project" / "Align" / "job")
    later = Session(restore=restored_work)
    later.open(dataset, show="TS_2")
    later.do(AddAlignment("exact", truths["TS_2"]))
    save(later, tmp_path / "project" / "Align" / "job")
    assert [s.name for s in read(tmp_path / "project" / "Align" / "job" / "aligned_tilt_series.star")] == [
        "TS_1",
        "TS_2",
    ]


def test_a_newer_alignment_of_the_command_line_comes_as_another_candidate(session, tmp_path):
    save(session, tmp_path / "project" / "Align" / "job")
    newer = session.alignment.replace(statistics={"residual_rms_px": 0.125})
    write_results(tmp_path / "project" / "Align" / "job", session.dataset, {"TS_1": newer})
    again = Session(restore=restored_work)
    again.open(session.dataset)
    assert list(again.work.candidates) == ["exact", "other", "saved"]
    assert again.alignment.statistics["residual_rms_px"] == 0.125
    assert again.work.exclusions == session.work.exclusions


def test_an_edit_that_is_not_solved_yet_is_solved_before_it_is_written(project, tmp_path):
    dataset, truth = project[0], project[1]["TS_1"]
    session = Session(background=lambda work, done, failed: None, restore=restored_work)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    session.do(EditTracks("place", {"track_id": 1, "tilt_id": truth.tilt_ids[0], "position_yx_px": (40.0, 30.0)}))
    assert not session.candidate.solved
    save(session, tmp_path / "project" / "Align" / "job")
    written = read_alignment(OutputFolder(tmp_path / "project" / "Align" / "job").alignment_record("TS_1"))
    assert np.isfinite(written.tracks.residual_yx_px[written.tracks.used]).all()
    assert not np.isfinite(session.alignment.tracks.residual_yx_px[session.alignment.tracks.used]).all()


def test_damaged_work_is_told_and_the_series_opens_without_it(session, tmp_path):
    save(session, tmp_path / "project" / "Align" / "job")
    file = OutputFolder(tmp_path / "project" / "Align" / "job").curation_file("TS_1")
    file.write_text(file.read_text().replace('"locked"', '"unlocked"', 1))
    again, told = Session(restore=restored_work), []
    again.warned.connect(told.append)
    again.open(session.dataset)
    assert again.alignment is None
    assert "curation.json" in told[0]


def test_the_input_is_never_replaced(session):
    with pytest.raises(BadInput, match="place of the input"):
        save(session, Path(session.dataset.source).parent)
    assert session.unsaved() == ("TS_1",)


def test_images_in_memory_cannot_be_named_in_a_star_file(dataset, truth, tmp_path):
    session = Session(restore=restored_work)
    session.open(dataset)
    session.do(AddAlignment("exact", truth))
    with pytest.raises(BadTiltSeries, match="RELION project"):
        save(session, tmp_path / "project" / "Align" / "job")
    assert session.unsaved() == ("TS_1",)


def test_nothing_is_saved_where_nothing_is_open(tmp_path):
    with pytest.raises(BadInput, match="no dataset is open"):
        save(Session(), tmp_path)
