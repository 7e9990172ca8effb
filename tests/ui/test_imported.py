"""Alignments of other programs that come with a dataset are there when it is opened, and can be worked on."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.io import read
from napari_tiltalign.io.convert import write_alignment
from napari_tiltalign.io.fid import write_fid
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.ui.commands import EditTracks
from napari_tiltalign.ui.saving import restored_work
from napari_tiltalign.ui.session import Session


@pytest.fixture
def job(project, tmp_path):
    """RELION's job of aligning by beads with IMOD, for the first series of a project: its tables and IMOD's files."""
    truth = project[1]["TS_1"]
    series = project[0]["TS_1"]
    folder = tmp_path / "project" / "AlignTiltSeries" / "job005"
    (folder / "tilt_series").mkdir(parents=True)
    write_alignment(folder / "tilt_series" / "TS_1.star", truth, series)
    imod = folder / "external" / "TS_1"
    imod.mkdir(parents=True)
    order = [int(i) for i in series.tilt_order()]
    section = np.argsort(order)
    tracks = truth.tracks.replace(tilt_ids=tuple(truth.tilt_ids[i] for i in order), tilt=section[truth.tracks.tilt])
    write_fid(imod / "TS_1.fid", truth.take(tracks.tilt_ids).replace(tracks=tracks))
    (imod / "TS_1.prexg").write_text("1 0 0 1 0 0\n" * len(series))
    return folder, truth


def test_a_job_of_relion_with_the_beads_of_imod(job):
    folder, truth = job
    session = Session(restore=restored_work)
    session.open(read(folder / "tilt_series" / "TS_1.star", pixel_size_angst=truth.pixel_size_angst))
    assert list(session.work.candidates) == ["RELION STAR"]
    assert session.alignment.tracks.n_tracks == truth.tracks.n_tracks
    expected = truth.take(session.series.tilt_ids).geometry.z_rot_deg
    np.testing.assert_allclose(session.alignment.geometry.z_rot_deg, expected, atol=1e-4)
    session.do(EditTracks("delete", {"track_id": 2}))  # solved again without it
    assert 2 not in session.alignment.tracks.track_ids
    assert session.alignment.statistics["residual_rms_px"] < 0.1


@pytest.mark.parametrize(("suffix", "name"), [(".xf", "IMOD .xf"), (".aln", "AreTomo .aln")])
def test_files_beside_a_stack(project, tmp_path, suffix, name):
    import mrcfile

    series, truth = project[0]["TS_1"], project[1]["TS_1"]
    order = tuple(series.tilt_ids[i] for i in series.tilt_order())
    with mrcfile.new(tmp_path / "it.st") as file:
        file.set_data(np.stack([series[tilt_id].image.read() for tilt_id in order]))
        file.set_image_stack()
        file.voxel_size = series.pixel_size_angst
    (tmp_path / "it.rawtlt").write_text("".join(f"{series[tilt_id].nominal_tilt_deg}\n" for tilt_id in order))
    session = Session(restore=restored_work)
    session.open(read(tmp_path / "it.st"))
    assert session.alignment is None
    write_alignment(
        tmp_path / f"it{suffix}", truth.take(order).replace(tilt_ids=session.series.tilt_ids), session.series
    )
    session = Session(restore=restored_work)
    session.open(read(tmp_path / "it.st"))
    assert list(session.work.candidates) == [name]
    np.testing.assert_allclose(session.alignment.geometry.y_tilt_deg, truth.take(order).geometry.y_tilt_deg, atol=1e-3)


def test_an_alignment_that_does_not_fit_is_told(tmp_path, project):
    write_relion_project(tmp_path / "again", [project[0]["TS_1"]])
    dataset = read(tmp_path / "again" / "tilt_series.star")
    session, told = Session(restore=restored_work), []
    session.warned.connect(told.append)
    stack = dataset["TS_1"].replace(source=str(tmp_path / "it.st"))
    for suffix in (".xf", ".tlt"):
        (tmp_path / f"it{suffix}").write_text("1 0 0 1 0 0\n" if suffix == ".xf" else "0\n")
    session.open(dataset.__class__((stack,), source=str(tmp_path / "it.st")))
    assert session.alignment is None
    assert any("1 lines" in str(text) for text in told)
