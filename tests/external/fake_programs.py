"""Fake programs of IMOD and AreTomo, and series with a known alignment that they are to deliver."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_tiltalign.external.work import by_tilt
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.io.aretomo import write_aretomo
from napari_tiltalign.io.fid import write_fid
from napari_tiltalign.io.imod import write_imod
from napari_tiltalign.model import Alignment, ArrayImage, Tilt, TiltSeries, Tracks

PROGRAMS = Path(__file__).parent / "programs"
IMOD = ("batchruntomo", "newstack", "tiltxcorr", "xftoxg", "autofidseed", "beadtrack", "imodchopconts", "tiltalign",
        "xfproduct")  # fmt: skip
HOSTILE = ("TS 01", "-rf", "a;touch b", 'it\'s "quoted"', "$(id)`id`", "ångström-束", "../../etc/x", "x" * 300)
TILTS_DEG = (0.0, 3.0, -3.0, -6.0, 6.0, 9.0, -9.0)
LOG = """  AngleOffset = 9.02
 Ratio of total measured values to all unknowns =  1254/ 124 =  10.11
 Residual error mean and sd:     0.360   0.457 nm
 Residual error weighted mean:   0.289         nm
 Total tilt angle change =        9.02
 Global non-robust leave-out error (2942 pts): 0.4616 nm  weighted 0.2839 nm
 Global     robust leave-out error (2942 pts): 0.4656 nm  weighted 0.2826 nm
"""


def series_named(name: str = "TS_01", pixel: float = 10.0, excluded: Sequence[int] = ()) -> TiltSeries:
    """Seven images in the order of a dose-symmetric scheme, each of its own brightness."""
    image = np.arange(48 * 64, dtype=np.float32).reshape(48, 64)
    tilts = tuple(
        Tilt(f"{k}", ArrayImage(image + 1000 * k), tilt, 85.0, 3.0 * k, columns={"rlnMicrographName": f"{k}.mrc"})
        for k, tilt in enumerate(TILTS_DEG)
    )
    series = TiltSeries(name, tilts, pixel, (48, 64), columns={"rlnTomoName": name})
    return series.with_exclusions({str(k): "dark" for k in excluded})


def alignment_of(series: TiltSeries, *, x_tilt_deg: float = 0.0, offset_deg: float = 0.0) -> Alignment:
    """A known alignment, with tracks of five beads."""
    n = len(series)
    random = np.random.default_rng(7)
    geometry = ViewGeometry(
        np.full(n, x_tilt_deg),
        series.nominal_tilt_deg + offset_deg,
        np.full(n, 84.0),
        random.normal(0, 30, (n, 2)),
        np.ones(n),
    )
    points = random.uniform(-1, 1, (5, 3)) * [100, 150, 200]
    seen = geometry.project(points) / series.pixel_size_angst + [24, 32]
    track, tilt = (index.ravel() for index in np.meshgrid(np.arange(5), np.arange(n), indexing="ij"))
    tracks = Tracks.from_observations(series.tilt_ids, points, track, tilt, seen[tilt, track])
    return Alignment(
        series.name, series.tilt_ids, geometry, series.pixel_size_angst, series.image_shape_yx, series.included,
        tuple(t.reason for t in series.tilts), tracks=tracks,
    )  # fmt: skip


@dataclass
class Programs:
    """Fake programs in a folder, what they do, and what they were asked for."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def bin(self) -> Path:
        """Folder of the executables."""
        return self.folder / "imod" / "bin"

    @property
    def results(self) -> Path:
        """What they deliver."""
        return self.folder / "results"

    @property
    def record(self) -> Path:
        """What they were asked for."""
        return self.folder / "record.jsonl"

    def install(self, *names: str) -> Path:
        """Make executables and return the last one."""
        self.bin.mkdir(parents=True, exist_ok=True)
        for name in names:
            script = "aretomo" if name.startswith("AreTomo") else "imod" if name in IMOD else name
            code = (PROGRAMS / f"{script}.py").read_text()
            path = self.bin / name
            path.write_text(f"#!{sys.executable}\nimport sys; sys.path.insert(0, {str(PROGRAMS)!r})\n"
                            + code.replace("from __future__ import annotations\n", ""))  # fmt: skip
            path.chmod(0o755)
        return path

    def behave(self, mode: str) -> None:
        """Say what they do besides their work."""
        self.monkeypatch.setenv("FAKE_PROGRAM", mode)

    def deliver(self, alignment: Alignment, series: TiltSeries) -> None:
        """Say what they deliver: the alignment of the images that take part, by tilt."""
        used = by_tilt(series)
        ours = alignment.take(used.tilt_ids)
        write_imod(self.results / "series.xf", ours, used.nominal_tilt_deg)
        write_aretomo(self.results / "series.aln", ours, used.nominal_tilt_deg)
        if alignment.tracks is not None:
            section = {series.index_of(tilt_id): k for k, tilt_id in enumerate(used.tilt_ids)}
            kept = alignment.tracks.take_observations(np.isin(alignment.tracks.tilt, list(section)))
            tilt = np.array([section[int(t)] for t in kept.tilt])
            write_fid(self.results / "series.fid", ours.replace(tracks=kept.replace(tilt_ids=used.tilt_ids, tilt=tilt)))
            (self.results / "series.prexg").write_text("1.0 0.0 0.0 1.0 0.0 0.0\n" * len(used))

    def calls(self) -> list[Mapping[str, Any]]:
        """What they were asked for, in order."""
        return [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []
