"""Tilt series and datasets: identities, exclusions and what cannot be."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.model import ArrayImage, Dataset, Flag, Table, Tilt, TiltSeries


def tilt(name: str, angle: float, **more: object) -> Tilt:
    return Tilt(name, ArrayImage(np.zeros((2, 3), np.float32)), angle, **more)


def series(name: str = "TS_1", **more: object) -> TiltSeries:
    tilts = (tilt("c", 3.0, nominal_axis_deg=84.0), tilt("a", -3.0), tilt("b", 3.0, nominal_axis_deg=86.0))
    return TiltSeries(name, tilts, **{"pixel_size_angst": 1.35, "image_shape_yx": (2, 3), **more})


def test_images_keep_their_order_and_are_found_by_identity() -> None:
    ts = series()
    assert len(ts) == 3
    assert ts.tilt_ids == ("c", "a", "b")
    assert ts.index_of("b") == 2
    assert ts["a"].nominal_tilt_deg == -3.0
    assert ts.nominal_tilt_deg.tolist() == [3.0, -3.0, 3.0]
    with pytest.raises(KeyError, match="TS_1 has no tilt 'x'"):
        ts["x"]


def test_tilt_order_is_ascending_and_stable() -> None:
    assert series().tilt_order().tolist() == [1, 0, 2]


def test_nominal_axis_is_that_of_most_images_or_zero() -> None:
    assert series().nominal_axis_deg == 85.0
    assert series().replace(tilts=(tilt("a", 0.0),)).nominal_axis_deg == 0.0


def test_exclusion_keeps_the_image_and_its_reason_and_can_be_undone() -> None:
    whole = series()
    ts = whole.with_exclusions({"a": "dark"})
    assert ts.included.tolist() == [True, False, True]
    assert ts["a"].reason == "dark"
    assert len(ts) == 3
    again = ts.replace(tilts=tuple(t.restored() for t in ts.tilts))
    assert again == whole
    assert again != ts
    with pytest.raises(KeyError, match="no tilt 'x'"):
        series().with_exclusions({"x": "dark"})
    with pytest.raises(ValueError, match="needs a reason"):
        tilt("a", 0.0).excluded("")


def test_flags_are_added() -> None:
    first, second = Flag("one_sided"), Flag("angle_gap", "40 deg", ("a",))
    assert series().with_flags(first).with_flags(second).flags == (first, second)
    assert second.meaning.startswith("Neighbouring tilts")
    with pytest.raises(ValueError, match="unknown flag 'odd'"):
        Flag("odd")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tilts": (tilt("a", 0.0), tilt("b", 0.0), tilt("a", 3.0))}, "images listed twice: a; remove"),
        ({"pixel_size_angst": 0.0}, "pixel size is 0.0 Angstrom; give a positive one"),
        ({"pixel_size_angst": -1.0}, "pixel size"),
        ({"pixel_size_angst": math.nan}, "pixel size is nan"),
        ({"pixel_size_angst": math.inf}, "pixel size"),
        ({"image_shape_yx": (0, 3)}, "cannot be aligned"),
        ({"image_shape_yx": (3,)}, "cannot be aligned"),
    ],
)
def test_impossible_series_is_refused_by_name(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(BadTiltSeries, match=problem) as caught:
        series().replace(**changes)
    assert caught.value.series_name == "TS_1"
    assert str(caught.value).startswith("TS_1: ")


def test_series_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        series().name = "other"  # type: ignore[misc]


def test_error_about_a_series_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BadTiltSeries("TS_1", "it is broken")))  # noqa: S301 (our own bytes)
    assert (error.series_name, error.problem, str(error)) == ("TS_1", "it is broken", "TS_1: it is broken")


def test_pixels_in_memory_are_read_as_float() -> None:
    image = ArrayImage(np.array([[1, 2]], dtype=np.int16), "x")
    assert image.read().dtype == np.float32
    assert image.read().tolist() == [[1.0, 2.0]]


def dataset() -> Dataset:
    return Dataset((series("A"), series("B")), "in.star", failed={"C": "cut"}, failed_columns={"C": {"x": "1"}})


def test_dataset_finds_series_by_name() -> None:
    data = dataset()
    assert len(data) == 2
    assert [s.name for s in data] == ["A", "B"]
    assert data["B"].name == "B"
    with pytest.raises(KeyError, match="no tilt series 'X'; there are A, B"):
        data["X"]


def test_part_of_a_dataset_keeps_its_failures() -> None:
    part = dataset().only(["C", "B"])
    assert [s.name for s in part] == ["B"]
    assert dict(part.failed) == {"C": "cut"}
    assert dict(part.failed_columns) == {"C": {"x": "1"}}
    assert dict(dataset().only(["A"]).failed) == {}
    with pytest.raises(BadInput, match="no tilt series named X; there are A, B, C"):
        dataset().only(["A", "X"])


@pytest.mark.parametrize("failed", [{}, {"A": "cut"}])
def test_series_of_one_name_are_refused(failed: dict[str, str]) -> None:
    """Fault 16."""
    twice = (series("A"),) if failed else (series("A"), series("A"))
    with pytest.raises(BadInput, match=r"in\.star: series named twice: A"):
        Dataset(twice, "in.star", failed=failed)


def test_table_of_text() -> None:
    rows = [{"a": "1", "b": "x y"}, {"a": "001", "b": ""}]
    table = Table.from_rows(rows)
    assert table.rows() == rows
    assert list(table.columns) == ["a", "b"]
    assert len(table) == 2
    assert len(Table.from_rows([])) == 0
    with pytest.raises(ValueError, match="different lengths"):
        Table({"a": ("1",), "b": ()})
    with pytest.raises(TypeError):
        table.columns["a"] = ("2",)  # type: ignore[index]
