"""The plugin as napari finds it: its manifest, its readers and its samples, through the plugin manager."""

from __future__ import annotations

import dataclasses
import importlib

import npe2
import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManager, PluginManifest

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.convert import read_alignment
from napari_tiltalign.io.fid import read_fid
from napari_tiltalign.ui import sample_data
from napari_tiltalign.ui.attach import layers_of, session_of
from napari_tiltalign.ui.commands import AddAlignment
from napari_tiltalign.ui.preferences import Preferences, preferences
from napari_tiltalign.ui.writers import write_star

PLUGIN = "napari-tiltalign"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    """The manifest of the installed package."""
    return PluginManifest.from_distribution(PLUGIN)


@pytest.fixture
def viewer() -> ViewerModel:
    """A viewer without a window, which knows the installed plugins."""
    PluginManager.instance().discover()
    return ViewerModel()


def test_every_command_exists(manifest):
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name)), command.id


def test_opens_a_relion_project(viewer, shared_data):
    path = shared_data / "empiar-10499_TS_01" / "tilt_series.star"
    [layer] = viewer.open(str(path), plugin=PLUGIN)
    assert layer.data.shape == (41, 630, 652)
    assert layer.scale.tolist() == [1.0, 10.0, 10.0]
    assert layer.name == layer.metadata["tiltalign"].name == "TS_01"
    assert viewer.dims.current_step[0] == 20


@pytest.mark.parametrize(("key", "fewest"), [("with_beads", 20), ("without_beads", 0)])
def test_opens_samples_with_their_truth(viewer, monkeypatch, key, fewest):
    monkeypatch.setattr(sample_data, "SIDE_PX", 128)
    [layer] = viewer.open_sample(PLUGIN, key)
    truth = layer.metadata["tiltalign_truth"]
    assert truth.tilt_ids == layer.metadata["tiltalign"].tilt_ids
    n_beads = truth.tracks.n_tracks if truth.tracks else 0
    assert n_beads >= fewest
    assert bool(n_beads) == bool(fewest)


def test_a_sample_of_the_users_own(viewer, monkeypatch, project):
    with pytest.raises(BadInput, match="Sample of your own"):
        viewer.open_sample(PLUGIN, "of_your_own")
    wanted = dataclasses.replace(Preferences(), sample_path=project[0].source)
    monkeypatch.setattr(sample_data, "preferences", lambda: wanted)
    assert [layer.name for layer in viewer.open_sample(PLUGIN, "of_your_own")] == ["TS_1", "TS_2", "TS_10"]


def test_preferences_and_their_defaults_agree(manifest):
    properties = manifest.contributions.configurations["general"].properties
    stated = {name: item.default for name, item in properties.items()}
    assert stated == dataclasses.asdict(Preferences())


def test_preferences_are_read_from_napari():
    PluginManager.instance().discover()
    assert isinstance(preferences(), Preferences)
    assert preferences().folder_name


def test_menus_and_widgets_name_commands_that_exist(manifest):
    known = {command.id for command in manifest.contributions.commands}
    menus = manifest.contributions.menus
    assert {"napari/layers/register", "napari/file/io_utilities"} <= set(menus)
    for item in [item for items in menus.values() for item in items]:
        assert item.command in known
    assert {widget.command for widget in manifest.contributions.widgets} <= known


def written_by_plugin(path: str, layers: list) -> list[str]:
    """Write layers as napari's menu does."""
    return npe2.write(path, layers, plugin_name=PLUGIN)


@pytest.fixture
def aligned_viewer(viewer, project):
    """A viewer that shows a project on the disk with the alignment of its first series."""
    dataset, truths = project
    session = session_of(viewer)
    session.open(dataset)
    session.do(AddAlignment("exact", truths["TS_1"]))
    return viewer


def test_saves_the_aligned_series_as_star(aligned_viewer, tmp_path, project):
    raw = layers_of(aligned_viewer).raw_layer()
    written = written_by_plugin(str(tmp_path / "TS_1.star"), [raw.as_layer_data_tuple()])
    assert written == [str(tmp_path / "TS_1.star")]
    again = read_alignment(tmp_path / "TS_1.star", project[0]["TS_1"])
    np.testing.assert_allclose(again.geometry.shift_yx_angst, project[1]["TS_1"].geometry.shift_yx_angst, atol=1e-3)


@pytest.mark.parametrize("suffix", [".fid", ".json"])
def test_saves_beads(aligned_viewer, tmp_path, project, suffix):
    beads = layers_of(aligned_viewer).beads
    path = tmp_path / f"beads{suffix}"
    assert written_by_plugin(str(path), [beads.as_layer_data_tuple()]) == [str(path)]
    tracks = read_fid(path, project[0]["TS_1"]) if suffix == ".fid" else read_alignment(path).tracks
    assert tracks.n_tracks == project[1]["TS_1"].tracks.n_tracks


def test_a_series_that_is_not_aligned_is_not_written(viewer, project, tmp_path):
    session_of(viewer).open(project[0])
    raw = layers_of(viewer).raw_layer()
    with pytest.raises(BadInput, match="not aligned yet"):
        write_star(str(tmp_path / "TS_1.star"), *raw.as_layer_data_tuple()[:2])
    with pytest.raises(BadInput, match="shows no tilt series"):
        write_star(str(tmp_path / "TS_1.star"), None, {"name": "photo"})
