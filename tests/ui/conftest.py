"""A tiny tilt series with beads and its exact alignment, for all tests of the user interface."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.io import read
from napari_tiltalign.io.project import write_relion_project
from napari_tiltalign.model import Alignment, ArrayImage, Dataset, Tilt, TiltSeries, Tracks
from napari_tiltalign.ui import closing

SHAPE_YX = (96, 80)
PIXEL_ANGST = 10.0
TILTS_DEG = np.linspace(-60.0, 60.0, 13)
N_BEADS = 7


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Qt aborts the whole process where there is no display, so tests that need one are skipped there."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        for item in items:
            if item.get_closest_marker("gui"):
                item.add_marker(pytest.mark.skip(reason="no display; run under xvfb-run"))


def acquisition_order(n: int) -> np.ndarray:
    """Dose-symmetric: from the middle outwards, so that input order and tilt order differ."""
    return np.argsort(np.abs(np.arange(n) - n // 2), kind="stable")


def true_geometry() -> ViewGeometry:
    """Geometry in input order, with shifts of a few pixels and small errors of the axis."""
    rng = np.random.default_rng(7)
    n = len(TILTS_DEG)
    return ViewGeometry.nominal(TILTS_DEG[acquisition_order(n)], -5.0).replace(
        z_rot_deg=-5.0 + rng.normal(0.0, 0.2, n), shift_yx_angst=rng.normal(0.0, 3.0 * PIXEL_ANGST, (n, 2))
    )


def true_tracks(geometry: ViewGeometry, tilt_ids: tuple[str, ...]) -> Tracks:
    """All beads in all views at their exact places, in raw pixels."""
    rng = np.random.default_rng(3)
    half_zyx = np.array([150.0, SHAPE_YX[0] * PIXEL_ANGST * 0.3, SHAPE_YX[1] * PIXEL_ANGST * 0.3])
    points = rng.uniform(-half_zyx, half_zyx, (N_BEADS, 3))
    position_px = geometry.project(points) / PIXEL_ANGST + np.array(SHAPE_YX) // 2
    tilt, track = np.divmod(np.arange(len(tilt_ids) * N_BEADS), N_BEADS)
    tracks = Tracks.from_observations(tilt_ids, points, track, tilt, position_px.reshape(-1, 2))
    return tracks.replace(residual_yx_px=np.zeros((tracks.n_observations, 2)), sd_px=np.full(len(track), 0.1))


def painted(positions_yx_px: np.ndarray, seed: int) -> np.ndarray:
    """Noise with a dark blob of 2 px sigma at every position."""
    rows, columns = np.indices(SHAPE_YX, sparse=True)
    image = np.random.default_rng(seed).normal(100.0, 1.0, SHAPE_YX)
    for y, x in positions_yx_px:
        image -= 20.0 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 2.0**2))
    return image.astype(np.float32)


def make_series(name: str = "TS_1") -> tuple[TiltSeries, Alignment]:
    """Build a series and its exact alignment."""
    geometry = true_geometry()
    tilt_ids = tuple(f"view_{number:02d}" for number in range(len(geometry)))
    tracks = true_tracks(geometry, tilt_ids)
    tilts = tuple(
        Tilt(
            tilt_id,
            ArrayImage(painted(tracks.position_yx_px[tracks.tilt == index], seed=index)),
            nominal_tilt_deg=float(geometry.y_tilt_deg[index]),
            nominal_axis_deg=-5.0,
            pre_exposure_e_per_A2=3.0 * index,
        )
        for index, tilt_id in enumerate(tilt_ids)
    )
    series = TiltSeries(name, tilts, PIXEL_ANGST, SHAPE_YX)
    alignment = Alignment(name, tilt_ids, geometry, PIXEL_ANGST, SHAPE_YX, np.ones(len(geometry), bool), tracks=tracks)
    return series, alignment


@pytest.fixture(autouse=True)
def user_state(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the plugin's files for the user out of the real user's folder, and answer what would wait for a person."""
    folder = tmp_path_factory.mktemp("user_state")
    monkeypatch.setattr("napari_tiltalign.ui.user_state.state_folder", lambda: folder)
    monkeypatch.setattr(closing, "ask_unsaved", lambda parent, names: closing.Answer.DISCARD)
    monkeypatch.setattr(closing, "ask_repeat", lambda name, n_steps: True)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> tuple[Dataset, dict[str, Alignment]]:
    """Three series of equal content as a RELION project on the disk, and their exact alignments by name."""
    made, truth = make_series()
    named = {name: tuple(f"{name}_{i}" for i in made.tilt_ids) for name in ("TS_1", "TS_2", "TS_10")}
    written = [
        made.replace(name=name, tilts=tuple(replace(t, tilt_id=i) for t, i in zip(made.tilts, ids, strict=True)))
        for name, ids in named.items()
    ]
    dataset = read(write_relion_project(tmp_path / "project", written))
    assert all(dataset[name].tilt_ids == ids for name, ids in named.items())
    return dataset, {name: with_tilt_ids(truth, name, ids) for name, ids in named.items()}


def with_tilt_ids(alignment: Alignment, name: str, tilt_ids: tuple[str, ...]) -> Alignment:
    """Return the alignment for a series of another name, with other tilt ids."""
    assert alignment.tracks is not None
    tracks = alignment.tracks.replace(tilt_ids=tilt_ids)
    return alignment.replace(series_name=name, tilt_ids=tilt_ids, tracks=tracks)


@pytest.fixture(scope="session")
def series_and_truth() -> tuple[TiltSeries, Alignment]:
    """A series of 13 views of 96 x 80 pixels with 7 beads, and its exact alignment."""
    return make_series()


@pytest.fixture(scope="session")
def series(series_and_truth) -> TiltSeries:
    """The series alone."""
    return series_and_truth[0]


@pytest.fixture(scope="session")
def truth(series_and_truth) -> Alignment:
    """The exact alignment alone."""
    return series_and_truth[1]


@pytest.fixture(scope="session")
def dataset(series) -> Dataset:
    """Three series of equal content and different names."""
    return Dataset((series, make_series("TS_2")[0], make_series("TS_10")[0]), source="project.star")
