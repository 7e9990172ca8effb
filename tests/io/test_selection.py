"""The selection of images, compared with what RELION's own program wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io import read
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.io.relion_tables import tilts_from_table
from napari_tiltalign.io.selection import SELECTED_STAR, selection_blocks, write_selection
from napari_tiltalign.io.star import read_star
from napari_tiltalign.model import Dataset, TiltSeries
from napari_tiltalign.simulation import Simulation, simulate

TUTORIAL = ("TS_01", "TS_03", "TS_43", "TS_45", "TS_54")


@pytest.mark.parametrize("name", TUTORIAL)
def test_tables_equal_those_of_relion(shared_data: Path, name: str) -> None:
    """From the images that job 3 lists, with those excluded that job 4 has not got."""
    tutorial = shared_data / "formats" / "relion5_tutorial"
    listed = read_star(tutorial / "CtfFind" / "job003" / "tilt_series" / f"{name}.star")[name]
    theirs = read_star(tutorial / "ExcludeTiltImages" / "job004" / "tilt_series" / f"{name}.star")[name]
    series = TiltSeries(name, tilts_from_table(name, listed), 1.35, (3838, 3710))
    kept = {tilt.tilt_id for tilt in tilts_from_table(name, theirs)}
    assert 0 < len(kept) <= len(series)
    excluded = series.with_exclusions({i: "bad" for i in series.tilt_ids if i not in kept})
    ours = selection_blocks(excluded)[name]
    assert list(ours.columns) == list(theirs.columns)
    for column, cells in theirs.columns.items():
        assert [number_or_text(cell) for cell in ours.columns[column]] == [number_or_text(cell) for cell in cells]


def number_or_text(cell: str) -> float | str:
    """A cell as it is meant: RELION's program writes numbers with other digits than it has read."""
    try:
        return round(float(cell), 6)
    except ValueError:
        return cell


@pytest.fixture(scope="module")
def simulated() -> list[TiltSeries]:
    options = {"image_rows_px": 64, "image_columns_px": 64, "n_beads": 0, "tilt_step_deg": 15.0}
    return [simulate(Simulation(name=name, **options)).series for name in ("TS_1", "TS_2")]


@pytest.fixture
def dataset(simulated, tmp_path) -> Dataset:
    return read(write_relion_project(tmp_path / "project", simulated))


def without(dataset: Dataset, name: str, tilt_ids: tuple[str, ...]) -> Dataset:
    series = tuple(s.with_exclusions(dict.fromkeys(tilt_ids, "bad")) if s.name == name else s for s in dataset)
    return replace(dataset, series=series)


def test_the_selection_is_read_as_a_project_again(dataset, tmp_path):
    first = dataset["TS_1"].tilt_ids
    written = write_selection(tmp_path / "project" / "Exclude" / "job004", without(dataset, "TS_1", first[:2]))
    assert written.name == SELECTED_STAR
    again = read(written)
    assert [series.name for series in again] == ["TS_1", "TS_2"]
    assert set(again["TS_1"].tilt_ids) == set(first[2:])
    assert again["TS_2"].tilt_ids == tuple(dataset["TS_2"].tilt_ids[i] for i in dataset["TS_2"].tilt_order())
    table = read_star(written)["global"]
    assert table.columns["rlnTomoTiltSeriesStarFile"][0] == "Exclude/job004/tilt_series/TS_1.star"


def test_a_series_without_an_image_is_not_in_it_and_comes_back(dataset, tmp_path):
    folder = tmp_path / "project" / "Exclude"
    write_selection(folder, dataset)
    written = write_selection(folder, without(dataset, "TS_1", dataset["TS_1"].tilt_ids))
    assert [series.name for series in read(written)] == ["TS_2"]
    assert not (folder / "tilt_series" / "TS_1.star").exists()
    assert [series.name for series in read(write_selection(folder, dataset))] == ["TS_1", "TS_2"]


def test_a_selection_outside_of_the_project_names_images_in_full(dataset, tmp_path):
    again = read(write_selection(tmp_path / "elsewhere", dataset))
    assert again["TS_1"].tilts[0].image.read().shape == (64, 64)


def test_nothing_of_others_is_replaced(dataset, tmp_path):
    with pytest.raises(BadInput, match="place of the input"):
        write_selection(tmp_path / "project", dataset)
    other = tmp_path / "Align" / "tilt_series" / "TS_2.star"
    other.parent.mkdir(parents=True)
    other.write_text("an alignment")
    with pytest.raises(BadInput, match="of another job"):
        write_selection(tmp_path / "Align", dataset)
    assert other.read_text() == "an alignment"


def test_what_cannot_be_written_is_told(dataset, simulated, tmp_path):
    nothing = without(without(dataset, "TS_1", dataset["TS_1"].tilt_ids), "TS_2", dataset["TS_2"].tilt_ids)
    with pytest.raises(BadInput, match="no image of any series"):
        write_selection(tmp_path / "out", nothing)
    with pytest.raises(BadTiltSeries, match="not files"):
        write_selection(tmp_path / "out", Dataset(tuple(simulated)))
    assert not (tmp_path / "out").exists()
