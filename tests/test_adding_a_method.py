"""The example of CONTRIBUTING.md: a method is one file and one line, and everything else comes from them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from example_method import CHAIN, Chain
from napari_tiltalign import align, difference, read, read_alignment
from napari_tiltalign.cli import main
from napari_tiltalign.demo import write_simulated_project
from napari_tiltalign.errors import BadTiltSeries
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods import base
from napari_tiltalign.simulation import SimulatedSeries, Simulation, simulate

SMALL = Simulation(
    name="TS_01", image_rows_px=192, image_columns_px=192, tilt_step_deg=6, n_beads=12, thickness_nm=40,
    axis_error_deg=0, tilt_error_sd_deg=0, rotation_sd_deg=0, magnification_percent=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the method as its entry point would, beside all others."""
    found = list(base.entry_points(group=base.ENTRY_POINT_GROUP))
    line = EntryPoint("chain", "example_method:CHAIN", base.ENTRY_POINT_GROUP)
    monkeypatch.setattr(base, "entry_points", lambda group: [*found, line])
    base.methods.cache_clear()
    yield
    monkeypatch.undo()
    base.methods.cache_clear()


@pytest.fixture(scope="module")
def simulated() -> SimulatedSeries:
    return simulate(SMALL)


def test_it_follows_the_protocol() -> None:
    assert isinstance(CHAIN, base.Method)
    assert list(base.methods())[-1] == "chain"


def test_it_finds_the_shifts(simulated: SimulatedSeries) -> None:
    alignment = align(simulated.series, Chain())
    nominal = ViewGeometry.nominal(simulated.series.nominal_tilt_deg, SMALL.axis_deg)
    before, after = (
        difference(candidate, simulated.truth, thickness_angst=SMALL.thickness_angst).rms_px
        for candidate in (alignment.replace(geometry=nominal), alignment)
    )
    assert before > 5.0
    assert after < 1.5
    assert alignment.provenance.method == "chain"


def test_excluded_views_are_interpolated(simulated: SimulatedSeries) -> None:
    series = simulated.series
    out = series.tilt_ids[int(np.argsort(series.nominal_tilt_deg)[5])]
    alignment = align(series.with_exclusions({out: "drifted"}), Chain())
    assert alignment.reasons[series.index_of(out)] == "drifted"
    whole = align(series, Chain()).geometry.shift_yx_angst
    assert np.abs(alignment.geometry.shift_yx_angst - whole)[series.index_of(out)].max() < 300.0


def test_too_few_views_are_refused(simulated: SimulatedSeries) -> None:
    few = simulated.series.with_exclusions(dict.fromkeys(simulated.series.tilt_ids[2:], "dark"))
    with pytest.raises(BadTiltSeries, match="TS_01: 2 views are too few"):
        align(few, Chain())


def test_the_command_line_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", "chain", "--help"]) == 0
    assert "--feature-nm" in capsys.readouterr().out
    star, (truth,) = write_simulated_project(tmp_path / "project", [SMALL])
    asked = ["--feature-nm", "15", "--scheduler", "serial"]
    assert main(["align", "chain", str(star), "--output", str(tmp_path / "out"), *asked]) == 0
    found = read_alignment(tmp_path / "out/external/TS_01/alignment.json")
    assert found.provenance.options == {"feature_nm": 15.0}
    assert difference(found, truth, thickness_angst=SMALL.thickness_angst).rms_px < 1.5
    assert read(tmp_path / "out/aligned_tilt_series.star").series[0].name == "TS_01"


@pytest.mark.gui
def test_napari_has_its_form(qapp: object) -> None:
    from napari_tiltalign.ui.options_form import OptionsForm

    form = OptionsForm(Chain())
    assert form.value == Chain()
    assert form["feature_nm"].label == "Feature (nm)"
