"""Our record of an alignment: lossless, deterministic, strict (fault 81)."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alignment_cases import random_alignment
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tiltalign.errors import BadInput
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.io import record
from napari_tiltalign.io.record import read_record, record_text, write_record
from napari_tiltalign.model import Alignment, ExpectedError, Flag, LocalMotion, Provenance, Tracks, Uncertainty


def full_alignment() -> Alignment:
    """Every field filled, with NaN where they may be."""
    alignment, series = random_alignment(0, (511, 640), n=6, with_x_tilt=True, with_magnification=True, n_excluded=2)
    random = np.random.default_rng(0)
    tracks = Tracks.from_observations(
        series.tilt_ids, random.normal(0, 1e3, (3, 3)), np.array([0, 0, 2]), np.array([1, 5, 1]), random.random((3, 2))
    )
    sd = np.where(random.random((6, 5)) < 0.3, np.nan, random.random((6, 5)))
    return alignment.replace(
        unit_magnification_geometry=alignment.geometry.replace(magnification=np.ones(6)),
        uncertainty=Uncertainty(
            sd[:, 0],
            sd[:, 1],
            sd[:, 2:4],
            sd[:, 4],
            0.1 / 3,
            ExpectedError(np.array([-1 / 3, 1.0]), np.array([0.5]), np.array([[math.nan], [0.1 + 0.2]]), 2 / 3),
        ),
        tracks=tracks.replace(track_ids=np.array([7, 3, 99]), sd_px=np.array([0.1, np.nan, 1e-300]), state=[0, 3, 1]),
        local_motion=LocalMotion(
            series.tilt_ids[0],
            random.normal(0, 1e3, (3, 3)),
            random.random((6, 3, 2)),
            random.random((6, 2, 4)),
            1 / 3,
            0.1 + 0.2,
            1e-300,
            0.2,
            0.4,
        ),
        statistics={"residual_rms_px": 0.1 + 0.2, "leave_out_px": math.nan},
        details={
            "start": {"axis_deg": -4.3, "tried": (1, 2)},
            "profile": np.arange(3) / 7,
            "n": np.int64(3),
            "no": None,
        },
        flags=(Flag("high_residual", "0.9 px", (series.tilt_ids[1],)), Flag("few_beads")),
        provenance=Provenance("fiducial", {"diameter_nm": 10.0, "names": ["ä", '"']}, "0.1.0", "ab12"),
    )


def assert_same(first: Any, second: Any) -> None:
    """Compare two objects field by field and bit by bit."""
    if dataclasses.is_dataclass(first):
        assert type(first) is type(second)
        for field in dataclasses.fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        assert first.shape == second.shape
        assert first.tobytes() == second.tobytes()
    elif isinstance(first, float) and math.isnan(first):
        assert math.isnan(second)
    else:
        assert first == second


def test_everything_comes_back_bit_by_bit(tmp_path: Path) -> None:
    alignment = full_alignment()
    write_record(tmp_path / "alignment.json", alignment)
    again = read_record(tmp_path / "alignment.json")
    plain = {"start": {"axis_deg": -4.3, "tried": [1, 2]}, "profile": [0.0, 1 / 7, 2 / 7], "n": 3, "no": None}
    assert again.details == plain
    statistics = dict(alignment.statistics)
    assert_same(again.replace(details={}, statistics={}), alignment.replace(details={}, statistics={}))
    assert again.statistics["residual_rms_px"] == statistics["residual_rms_px"]
    assert math.isnan(again.statistics["leave_out_px"])


def test_little_is_enough(tmp_path: Path) -> None:
    """Everything optional is absent, and there is no image at all."""
    empty = np.zeros(0)
    geometry = ViewGeometry(empty, empty, empty, np.zeros((0, 2)), empty)
    alignment = Alignment("", (), geometry, 1.0, (1, 1), np.zeros(0, bool))
    no_tracks = Tracks.from_observations((), np.zeros((0, 3)), empty.astype(int), empty.astype(int), np.zeros((0, 2)))
    for item in (alignment, alignment.replace(tracks=no_tracks)):
        write_record(tmp_path / "a.json", item)
        assert_same(read_record(tmp_path / "a.json").replace(statistics={}, details={}), item.replace(
            statistics={}, details={}, provenance=read_record(tmp_path / "a.json").provenance))  # fmt: skip


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(-180, 180), min_size=4, max_size=4), st.text(), st.floats(1e-3, 1e3))
def test_any_number_and_name_comes_back(tmp_path_factory: Any, angles: list[float], name: str, pixel: float) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    geometry = ViewGeometry(angles, angles, angles, np.transpose([angles, angles]), np.ones(4))
    alignment = Alignment(name, ("a", "b", "c", name + "x"), geometry, pixel, (3, 4), np.ones(4, bool))
    write_record(path, alignment)
    again = read_record(path)
    assert_same(again.geometry, geometry)
    assert (again.series_name, again.pixel_size_angst, again.tilt_ids) == (name, pixel, alignment.tilt_ids)


def test_equal_alignments_give_equal_bytes(tmp_path: Path) -> None:
    first = full_alignment()
    second = full_alignment().replace(
        statistics=dict(reversed(first.statistics.items())), details=dict(reversed(first.details.items()))
    )
    assert record_text(first) == record_text(second)
    write_record(tmp_path / "a.json", first)
    assert record_text(read_record(tmp_path / "a.json")) == record_text(first)


def test_people_can_read_it() -> None:
    """One line for each key of the geometry, in a fixed order, plain ASCII, NaN as null."""
    text = record_text(full_alignment())
    assert text.startswith('{\n "format": "napari-tiltalign alignment",\n "version": 1,\n "series_name": "TS",\n')
    assert '\n  "y_tilt_deg": [' in text
    assert "NaN" not in text
    assert text.isascii()
    assert json.loads(text)["statistics"]["leave_out_px"] is None


def changed(**changes: Any) -> str:
    """The record as text, with keys (dots separate levels) set, or removed where the value is `...`."""
    content = json.loads(record_text(full_alignment()))
    for key, value in changes.items():
        *path, last = key.split("__")
        inner = content
        for step in path:
            inner = inner[step]
        if value is ...:
            del inner[last]
        else:
            inner[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (changed(surprise=1), "key surprise: Extra inputs"),
        (changed(geometry__surprise=1), r"key geometry\.surprise"),
        (changed(geometry__y_tilt_deg=...), r"key geometry\.y_tilt_deg: Field required"),
        (changed(pixel_size_angst="1.7"), "key pixel_size_angst: Input should be a valid number"),
        (changed(geometry__z_rot_deg=[0, 1, 2, 3, 4, None]), r"key geometry\.z_rot_deg\.5"),
        (changed(geometry__z_rot_deg=[0.0]), r"z_rot_deg has shape \(1,\)"),
        (changed(included=[1, 0, 1, 1, 1, 1]), r"key included\.0: Input should be a valid boolean"),
        (changed(tracks__track=[0.5, 0, 2]), r"key tracks\.track\.0: Input should be a valid integer"),
        (changed(tracks__track=[2**70, 0, 2]), "alignment.json"),
        (changed(tracks__points_zyx_angst=[[1.0], [1.0, 2.0, 3.0]]), "alignment.json"),
        (changed(image_shape_yx=[5]), "key image_shape_yx: List should have at least 2 items"),
        (changed(pixel_size_angst=-1.0), "pixel_size_angst must be positive"),
        (changed(tilt_ids=["a"] * 6), "tilt_ids must be unique"),
        (changed(flags=[{"name": "nonsense", "detail": "", "tilt_ids": []}]), "unknown flag 'nonsense'"),
        (changed(format="other"), "is not an alignment of this program"),
        (changed(version=2), "has version 2, this program reads 1; update it"),
        (changed(pixel_size_angst=1).replace('"pixel_size_angst": 1', '"pixel_size_angst": 1e999'), "pixel_size_angst"),
        ('{"format": NaN}', "NaN is no number of JSON"),
        ('{"format": "x", "format": "y"}', "key 'format' stands twice"),
        ("[" * 100_000, "not a JSON file that can be read"),
        ("[1]", "is not an alignment of this program"),
        (changed()[:-30], "not a JSON file that can be read"),
        ("", "not a JSON file that can be read"),
        ('{"format": ' + "1" * 10_000 + "}", "not a JSON file that can be read"),
    ],
)  # fmt: skip
def test_what_does_not_belong_is_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "alignment.json").write_text(text)
    with pytest.raises(BadInput, match=problem):
        read_record(tmp_path / "alignment.json")


def test_huge_and_missing_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"cannot read .*missing\.json"):
        read_record(tmp_path / "missing.json")
    write_record(tmp_path / "a.json", full_alignment())
    monkeypatch.setattr(record, "SIZE_LIMIT_BYTES", 1000)
    with pytest.raises(BadInput, match="more than any alignment"):
        read_record(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("details", "problem"),
    [
        ({"a": {"b": math.inf}}, r"details\.a\.b is infinite"),
        ({"a": object()}, r"details\.a is of type object"),
        ({1: 2}, "a name that is no text"),
    ],
)
def test_what_json_cannot_hold_is_refused_on_writing(details: dict[Any, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        record_text(full_alignment().replace(details=details))
