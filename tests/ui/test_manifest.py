"""The plugin as napari finds it: its manifest, its readers and its samples, through the plugin manager."""

from __future__ import annotations

import importlib

import pytest
from napari.components import ViewerModel
from npe2 import PluginManager, PluginManifest

from napari_tiltalign.ui import sample_data

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
