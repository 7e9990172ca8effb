"""Which files the plugin opens, and what becomes of a dataset."""

from __future__ import annotations

import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_tiltalign.errors import BadInput
from napari_tiltalign.model import Dataset
from napari_tiltalign.ui import readers
from napari_tiltalign.ui.attach import layers_of
from napari_tiltalign.ui.readers import dataset_layers, get_reader, read_layers


@pytest.mark.parametrize("path", ["a/tilts.star", "TS_1.mrc", "TS_1.mrcs", "TS_1.st", "TS_1.ST"])
def test_opens_tilt_series(path):
    assert get_reader(path) is read_layers


@pytest.mark.parametrize("path", ["a.tif", "a", "star", ["a.mrc", "b.mrc"]])
def test_leaves_other_files_to_others(path):
    assert get_reader(path) is None


def test_one_layer_for_every_series_and_only_the_first_shown(dataset):
    layers = dataset_layers(dataset)
    assert [attributes["name"] for _, attributes, _ in layers] == ["TS_1", "TS_2", "TS_10"]
    assert [attributes["visible"] for _, attributes, _ in layers] == [True, False, False]
    assert {kind for _, _, kind in layers} == {"image"}


def test_many_series_do_not_all_become_layers(series, monkeypatch):
    told = []
    monkeypatch.setattr(readers, "show_info", told.append)
    many = Dataset(tuple(series.replace(name=f"TS_{number}") for number in range(40)), source="project.star")
    [(_, attributes, _)] = dataset_layers(many)
    assert (attributes["name"], attributes["visible"]) == ("TS_0", True)
    assert "the other 39 series" in told[0]
    viewer = ViewerModel()
    layers = layers_of(viewer)
    viewer.add_layer(Layer.create(*dataset_layers(many)[0]))
    layers.session.show_neighbour(1)
    assert layers.session.series.name == "TS_1"
    assert "TS_1" in [layer.name for layer in viewer.layers]


def test_a_dataset_without_series_says_why():
    empty = Dataset((), source="tilts.star", failed={"TS_1": "frames are missing"})
    with pytest.raises(BadInput, match=r"tilts.star holds no tilt series.*TS_1: frames are missing"):
        dataset_layers(empty)


def test_several_files_are_refused():
    with pytest.raises(BadInput, match="one file at a time"):
        read_layers(["a.st", "b.st"])
