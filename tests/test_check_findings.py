"""What ``check`` must find, each with bad input on the disk: it says what, where, and what to do, to programs too."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from napari_tiltalign.cli import main
from napari_tiltalign.images.prepare import noise_sd
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.model import ArrayImage, TiltSeries
from napari_tiltalign.simulation import Simulation, simulate

TINY = Simulation(
    name="TS_1", image_rows_px=144, image_columns_px=160, pixel_size_angst=24, tilt_step_deg=5, n_beads=6,
    texture="cytoplasm",
)  # fmt: skip
ODD = 4
"""The view that something is wrong with."""


@pytest.fixture(scope="module")
def series() -> TiltSeries:
    return simulate(TINY).series


@pytest.fixture(scope="module")
def good_project(series: TiltSeries, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_relion_project(tmp_path_factory.mktemp("good") / "project", [series])


@pytest.fixture
def project(good_project: Path, tmp_path: Path) -> Path:
    """A copy of a good project that may be spoilt."""
    return Path(shutil.copytree(good_project.parent, tmp_path / "project")) / good_project.name


def found_in(star: Path, capsys, code: int = 0) -> list[dict[str, Any]]:
    """All findings, about the dataset and about its series."""
    assert main(["check", str(star), "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    return [*told["findings"], *(finding for one in told["series"] for finding in one["findings"])]


def the_one(findings: list[dict[str, Any]], name: str) -> dict[str, Any]:
    [finding] = [one for one in findings if one["name"] == name]
    assert finding["what"]
    assert finding["where"]
    assert finding["to_do"].endswith(".")
    return finding


def images(star: Path) -> list[Path]:
    return sorted(star.parent.rglob("*.mrc"))


def with_image(series: TiltSeries, change: Callable[[np.ndarray], np.ndarray]) -> TiltSeries:
    tilts = list(series.tilts)
    pixels = change(tilts[ODD].image.read().copy()).astype(np.float32)
    tilts[ODD] = dataclasses.replace(tilts[ODD], image=ArrayImage(pixels))
    return series.replace(tilts=tuple(tilts))


def with_tilts(series: TiltSeries, **columns: Callable[[int, Any], Any]) -> TiltSeries:
    """The series with other values of some attributes of its tilts, by their number."""
    tilts = tuple(
        dataclasses.replace(tilt, **{name: change(k, tilt) for name, change in columns.items()})
        for k, tilt in enumerate(series.tilts)
    )
    return series.replace(tilts=tilts)


def test_a_good_project_has_notes_at_most(project: Path, capsys):
    assert [one for one in found_in(project, capsys) if one["level"] != "note"] == []


# --- headers


def test_a_pixel_size_that_the_headers_contradict(project: Path, capsys):
    for path in images(project):
        with mrcfile.open(path, mode="r+") as file:
            file.voxel_size = 12.0
    finding = the_one(found_in(project, capsys), "pixel_size_disagrees")
    assert "24 Angstrom in the tables is used, the images say 12" in finding["what"]
    assert finding["where"] == ["TS_1"]
    assert "--pixel-size-angst" in finding["to_do"]


def test_images_of_different_pixel_sizes(project: Path, capsys):
    with mrcfile.open(images(project)[ODD], mode="r+") as file:
        file.voxel_size = 12.0
    finding = the_one(found_in(project, capsys, code=3), "not_read")
    assert "different pixel sizes" in finding["what"]
    assert finding["where"] == ["TS_1"]


def test_images_of_different_sizes(project: Path, capsys):
    with mrcfile.new(images(project)[ODD], np.ones((100, 160), np.float32), overwrite=True) as file:
        file.voxel_size = 24.0
    finding = the_one(found_in(project, capsys, code=3), "not_read")
    assert "different sizes" in finding["what"]
    assert "160 x 100" in finding["what"]


def test_a_missing_file(project: Path, capsys):
    path = images(project)[ODD]
    path.unlink()
    finding = the_one(found_in(project, capsys), "images_missing")
    assert path.name in finding["what"]
    assert len(finding["where"]) == 1
    assert "Restore the files" in finding["to_do"]


# --- angles and dose


def test_the_order_of_rows_is_free(series: TiltSeries, tmp_path: Path, capsys):
    shuffled = series.replace(tilts=tuple(series.tilts[k] for k in np.random.default_rng(1).permutation(len(series))))
    star = write_relion_project(tmp_path / "project", [shuffled])
    assert [one for one in found_in(star, capsys) if one["level"] != "note"] == []


def test_an_angle_twice(series: TiltSeries, tmp_path: Path, capsys):
    order = series.tilt_order()
    twice = float(series.nominal_tilt_deg[order[3]])
    bad = with_tilts(series, nominal_tilt_deg=lambda k, t: twice if k == order[4] else t.nominal_tilt_deg)
    finding = the_one(found_in(write_relion_project(tmp_path / "project", [bad]), capsys), "duplicate_angle")
    assert len(finding["where"]) == 2
    assert "Exclude the worse one" in finding["to_do"]


@pytest.mark.parametrize(("angle", "message"), [(0.0, "all angles are 0"), (np.nan, "")])
def test_constant_and_missing_angles(series: TiltSeries, tmp_path: Path, capsys, angle: float, message: str):
    star = write_relion_project(tmp_path / "project", [series])
    table = next((tmp_path / "project").rglob("TS_1.star"))
    lines = table.read_text().splitlines()
    column = next(int(line.split("#")[1]) for line in lines if line.startswith("_rlnTomoNominalStageTiltAngle")) - 1
    words = [line.split() for line in lines]
    n_columns = sum(line.startswith("_rln") for line in lines)
    for row in words:
        if len(row) == n_columns and n_columns > 1:
            row[column] = f"{angle:g}"
    table.write_text("\n".join("\t".join(row) for row in words) + "\n")
    finding = the_one(found_in(star, capsys, code=3), "not_read")
    assert message in finding["what"]
    assert finding["level"] == "problem"


def test_a_gap(series: TiltSeries, tmp_path: Path, capsys):
    kept = tuple(t for t in series.tilts if not 8 < t.nominal_tilt_deg < 32)
    star = write_relion_project(tmp_path / "project", [series.replace(tilts=kept)])
    finding = the_one(found_in(star, capsys), "angle_gap")
    assert len(finding["where"]) == 1
    assert "no images are missing" in finding["to_do"]


def test_a_dose_that_goes_against_the_angles(series: TiltSeries, tmp_path: Path, capsys):
    mixed = np.random.default_rng(2).permutation(len(series))
    bad = with_tilts(series, pre_exposure_e_per_A2=lambda k, t: 3.0 * float(mixed[k]))
    finding = the_one(found_in(write_relion_project(tmp_path / "project", [bad]), capsys), "dose_order_inconsistent")
    assert "the stage would have jumped" in finding["what"]
    assert "dose column" in finding["to_do"]


# --- images


def half_hidden(image: np.ndarray) -> np.ndarray:
    return np.where(np.arange(image.shape[1]) < 80, 0.02 * image, image)


def smeared(image: np.ndarray) -> np.ndarray:
    """The image of a specimen that moved: its structures are smeared, the noise is as before."""
    noise = np.random.default_rng(0).normal(0.0, noise_sd(image), image.shape)
    return ndimage.gaussian_filter1d(image, 5.0, axis=1) + noise


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("dark", lambda image: 0.3 * image),
        ("blocked", half_hidden),
        ("blurred", smeared),
        ("saturated", lambda image: np.minimum(image, np.percentile(image, 90.0))),
    ],
)
def test_a_bad_image(series: TiltSeries, tmp_path: Path, capsys, name: str, change):
    findings = found_in(write_relion_project(tmp_path / "project", [with_image(series, change)]), capsys)
    finding = the_one(findings, name)
    assert len(finding["where"]) == 1
    assert f"_{ODD + 1:03d}" in finding["where"][0] or f"_{ODD:03d}" in finding["where"][0]
    assert "xclude it" in finding["to_do"]


def test_an_image_twice(series: TiltSeries, tmp_path: Path, capsys):
    other = series.tilts[ODD + 3].image.read()
    bad = with_image(series, lambda image: other)
    finding = the_one(found_in(write_relion_project(tmp_path / "project", [bad]), capsys), "same_image")
    assert len(finding["where"]) == 2
    assert "which angle is right" in finding["to_do"]


# --- axis and pretilt


def test_an_axis_that_is_90_degrees_off(series: TiltSeries, tmp_path: Path, capsys):
    bad = with_tilts(series, nominal_axis_deg=lambda k, t: t.nominal_axis_deg + 90.0)
    finding = the_one(found_in(write_relion_project(tmp_path / "project", [bad]), capsys), "axis")
    assert "90° off" in finding["what"]
    assert "--tilt-axis-deg" in finding["to_do"]


def test_a_lamella(tmp_path: Path, capsys):
    tilted = simulate(TINY.replace(pretilt_deg=-12, tilt_max_deg=55, n_beads=0)).series
    finding = the_one(found_in(write_relion_project(tmp_path / "project", [tilted]), capsys), "pretilt")
    assert "lies flat at a tilt of +1" in finding["what"]
    assert finding["level"] == "note"
